//! A store with the seed's incident in each engine, a server on it, and an analyst.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use luarm_schema::{
    Batch, HostName, Row, Time,
    tables::{BatchInfo, HostInfo, NetInfo, PsInfo},
};
use luarm_store::{HostIdentity, StoreUrl, Writer};
use luarm_testbed::{Mariadb, Postgres};
use tempfile::TempDir;

use crate::support::{complaint, link, luarm, program};

/// 2011-05-05 07:12:00 UTC.
const INCIDENT: i64 = 1_304_579_520_000_000;
const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// Something that no engine is done with while a test waits, and that is no sleep, which some end without an error.
pub(crate) const ENDLESS: &str = "select count(*) from netinfo a cross join netinfo b cross join netinfo c cross join netinfo d \
     where a.pid + b.pid + c.pid + d.pid = 7";

/// What keeps a database there.
pub(crate) enum Engine {
    Sqlite,
    Mariadb(Mariadb),
    Postgres(Postgres),
}

pub(crate) struct Scene {
    pub(crate) server: link::Server,
    pub(crate) site: link::Site,
    pub(crate) engine: Engine,
    // Last: removed when everything else is gone.
    directory: TempDir,
}

impl Scene {
    /// On SQLite.
    pub(crate) fn on_file(arguments: &[&str]) -> Self {
        Self::start(Engine::Sqlite, |_, _| arguments.iter().map(ToString::to_string).collect())
    }

    /// On this MariaDB, in the same way.
    pub(crate) fn on_mariadb(mariadb: Mariadb, arguments: fn(&Mariadb, &str) -> Vec<String>) -> Self {
        Self::start(Engine::Mariadb(mariadb), |engine, url| match engine {
            Engine::Mariadb(mariadb) => arguments(mariadb, url),
            Engine::Sqlite | Engine::Postgres(_) => Vec::new(),
        })
    }

    /// On this engine, with the arguments that are made once the store is filled.
    pub(crate) fn on(engine: Engine, arguments: fn(&Engine, &str) -> Vec<String>) -> Self {
        Self::start(engine, arguments)
    }

    fn start(engine: Engine, arguments: impl FnOnce(&Engine, &str) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = match &engine {
            Engine::Sqlite => format!("sqlite:{}", directory.path().join("store.db").display()),
            Engine::Mariadb(mariadb) => mariadb.url("root", "audit"),
            Engine::Postgres(postgres) => {
                postgres.ask("postgres", "CREATE DATABASE audit");
                postgres.url("luarm", "audit")
            }
        };
        let url = StoreUrl::parse(&store).unwrap();
        for (machine, name) in [(MACHINE, "panoitpsl"), ("fedcba9876543210fedcba9876543210", "other")] {
            let (mut writer, _) = Writer::open_for(&url, &HostIdentity::own(machine, name)).unwrap();
            assert_eq!(writer.append(&incident(machine, name)).unwrap(), []);
        }
        let arguments = arguments(&engine, &store);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let site = link::Site::into_store(directory.path(), store);
        let server = site.serve(&arguments);
        let scene = Scene { server, site, engine, directory };
        scene.join("anna");
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An analyst joins with a directory of his name.
    pub(crate) fn join(&self, name: &str) {
        self.join_with(name, &[]);
    }

    /// The same with further words for the token.
    pub(crate) fn join_with(&self, name: &str, arguments: &[&str]) {
        let token = self.site.token(&[&["--analyst", name], arguments].concat());
        let data = self.path(name);
        let output =
            luarm(&["enroll", "join", &self.site.url(), "--token", &token, "--data", data.to_str().unwrap()]);
        assert!(output.status.success(), "{}", complaint(&output));
    }

    /// A command of the analyst's.
    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg(verb).arg("--data").arg(self.path("anna")).args(arguments).stdin(Stdio::null());
        command
    }

    /// What the analyst gets through the server.
    pub(crate) fn far(&self, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb, arguments).output().unwrap()
    }

    /// What somebody gets who may read the store itself.
    pub(crate) fn near(&self, verb: &str, arguments: &[&str]) -> Output {
        let data = self.path("nothing here");
        let store = self.site.store();
        luarm(&[&[verb, "--data", data.to_str().unwrap(), "--store", &store][..], arguments].concat())
    }

    /// A question that goes on until it is ended, of which the server knows by now.
    pub(crate) fn endless(&self) -> Child {
        let child = self
            .command("sql", &["-e", ENDLESS])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.server.wait_for("netinfo d");
        child
    }

    /// How many connections of the engine work on the endless question now.
    pub(crate) fn working(&self) -> u64 {
        let found = match &self.engine {
            // A thread of the server, which says itself when it has ended.
            Engine::Sqlite => return 0,
            Engine::Mariadb(mariadb) => mariadb.ask(
                "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%netinfo d%' AND info NOT LIKE '%processlist%'",
            ),
            Engine::Postgres(postgres) => postgres.ask(
                "audit",
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%netinfo d%' AND query NOT LIKE '%pg_stat_activity%'",
            ),
        };
        found.trim().parse().unwrap()
    }
}

/// Runs a test on each engine that is installed.
pub(crate) fn each(test: &str, arguments: &[&str], run: fn(&Scene)) {
    let start = |engine| Scene::start(engine, |_, _| arguments.iter().map(ToString::to_string).collect());
    run(&start(Engine::Sqlite));
    if let Some(mariadb) = Mariadb::start(test) {
        run(&start(Engine::Mariadb(mariadb)));
    }
    if let Some(postgres) = Postgres::start(test) {
        run(&start(Engine::Postgres(postgres)));
    }
}

/// The peak of a process's resident memory, bytes. The kernel counts by threads: it may fall by a few pages.
pub(crate) fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn connection(key: i64, name: &str, pid: u32) -> Row {
    NetInfo {
        endpointinfo: key,
        psentity: Some(key * 3),
        transport: "tcp".into(),
        direction: "out".into(),
        sourceip: "10.0.0.1".to_owned(),
        sourcefqdn: None,
        sourceport: 32767,
        destip: "85.121.125.74".to_owned(),
        destfqdn: Some(HostName(name.to_owned())),
        destport: 6670,
        ipversion: 4,
        username: "nobody".into(),
        loginname: None,
        pid,
        application: "crond".to_owned(),
        uid: 65534,
        auid: None,
        session: None,
        netns: None,
        origin: "event".into(),
        socket: key.unsigned_abs(),
        created: Time(INCIDENT + key),
        end: None,
    }
    .into()
}

fn process(key: i64, command: &str, argv: &str, pid: u32) -> Row {
    PsInfo {
        psentity: key,
        ppsentity: Some(1),
        origin: "exec".into(),
        username: "nobody".into(),
        loginname: None,
        pid,
        ppid: 8343,
        application: "perl".to_owned(),
        command: command.to_owned(),
        script: None,
        argv: Some(argv.to_owned()),
        argc: 4,
        argvlength: None,
        cwd: Some("/tmp".to_owned()),
        uid: 65534,
        euid: 65534,
        suid: 65534,
        fsuid: 65534,
        gid: 65534,
        egid: 65534,
        sgid: 65534,
        fsgid: 65534,
        auid: None,
        session: None,
        sid: Some(1),
        tty: None,
        container: None,
        cgroup: None,
        mntns: None,
        netns: None,
        pidns: None,
        userns: None,
        utsns: None,
        ipcns: None,
        cgroupns: None,
        imagedev: Some(1),
        imageinode: Some(u64::MAX),
        imageowner: Some(0),
        imagemode: Some(0o100_755),
        imagestate: None,
        imagesha256: None,
        execs: 2,
        canary: None,
        created: Time(INCIDENT + key),
        end: None,
    }
    .into()
}

/// The incident as the seed counts it: 963 and 1408 connections, 57 processes. The other host has a tenth of the connections, and no process.
fn incident(machine: &str, name: &str) -> Batch {
    let own = name == "panoitpsl";
    let mut rows: Vec<Row> = vec![host(machine, name).into()];
    let (dana, undernet) = if own { (1408, 963) } else { (140, 96) };
    rows.extend((1..=dana).map(|n| connection(n, "dana.basefreak.nl", 7371)));
    rows.extend((1..=undernet).map(|n| {
        let pid = if n <= 439 { 21995 } else { 29312 };
        connection(2000 + n, "undernet.irc.justedge.net", pid)
    }));
    if own {
        rows.extend((1..=55).map(|n| process(n, "/usr/sbin/httpd", "httpd\n-k\nstart", 4_000_000)));
        rows.push(process(56, "/usr/bin/perl", "crond\n./x\n79.125.109.171\n0\n0", 9253));
        rows.push(process(57, "/usr/bin/perl", "crond\n./x\n85.121.125.74\n\x1b[2J\"ä'\n0", 29312));
    }
    let ledger = BatchInfo {
        batchid: 1,
        run: 1,
        rowcount: rows.len() as i64,
        endcount: 0,
        firstevent: Time(INCIDENT),
        lastevent: Time(INCIDENT),
        created: Time(INCIDENT),
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    rows.push(ledger.into());
    Batch { id: 1, rows, ends: Vec::new(), ..Batch::default() }
}

fn host(machine: &str, name: &str) -> HostInfo {
    HostInfo {
        bootentity: 1,
        machineid: machine.to_owned(),
        hostname: name.to_owned(),
        os: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        bootid: "boot".to_owned(),
        boottime: Time(INCIDENT),
        timezone: None,
        cmdline: None,
        virtualization: None,
        vendor: None,
        product: None,
        serial: None,
        agentversion: "0.1.0".to_owned(),
        memory: 1 << 34,
        cpus: 2,
        created: Time(INCIDENT),
        end: None,
    }
}

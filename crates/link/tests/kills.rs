//! An agent's side and two servers on one store, as processes that are killed over and over while 200,000 rows pass, and the database with them;
//! what the store holds afterwards is reckoned from the numbers of the batches alone.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use luarm_link::{
    agent::{self, Courier, Outbox},
    authority::Authority,
    identity::{self, Identity},
    server::{self, Server},
};
use luarm_schema::{
    Batch, End, Row, Time,
    tables::{BatchInfo, CoverageInfo, CoverageInfoEnd, HostInfo, RenameInfo},
};
use luarm_store::{Cell, Reader, RowSink, StoreUrl};
use luarm_testbed::{Mariadb, Postgres};

const BATCHES: i64 = 2000;
const ROWS: i64 = 102;
const KILLS: i64 = 50;
/// So many batches the agent may be ahead of the server.
const AHEAD: i64 = 100;
const MACHINE: &str = "00000000000000000000000000000001";
/// Long enough for a loaded machine; no verdict depends on it.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many rows a batch has, beside those that tell of its host and of itself.
fn rows(id: i64) -> i64 {
    ROWS / 2 + id % (ROWS + 1)
}

/// A batch that is a function of its number: changes of names, one interval that begins, and the end of the one that the batch before it began.
fn batch(id: i64) -> Batch {
    let mut batch = Batch { id, ..Batch::default() };
    if id == 1 {
        batch.rows.push(host());
    }
    for n in 0..rows(id) {
        let row = RenameInfo {
            renameid: id * 1000 + n,
            psentity: id,
            username: "root".into(),
            loginname: None,
            pid: 1,
            application: format!("name {n}"),
            oldapplication: "x".repeat((id % 50) as usize),
            auid: None,
            session: None,
            created: Time(id),
            end: None,
        };
        batch.rows.push(row.into());
    }
    let interval = CoverageInfo {
        coverageid: id,
        class: "test".into(),
        state: "watched".into(),
        sensor: "none".into(),
        hook: None,
        reason: None,
        created: Time(id),
        end: None,
    };
    batch.rows.push(interval.into());
    if id > 1 {
        let end = CoverageInfoEnd { destroyed: Time(id), ended: "stop".into() };
        batch.ends.push((id - 1, End::CoverageInfo(end)));
    }
    let entry = BatchInfo {
        batchid: id,
        run: 1,
        rowcount: batch.rows.len() as i64,
        endcount: batch.ends.len() as i64,
        firstevent: Time(id),
        lastevent: Time(id),
        created: Time(id),
        end: None,
    };
    batch.rows.push(entry.into());
    batch
}

fn host() -> Row {
    HostInfo {
        bootentity: 1,
        machineid: MACHINE.to_owned(),
        hostname: "penguin".to_owned(),
        os: String::new(),
        kernel: String::new(),
        arch: String::new(),
        bootid: "boot".to_owned(),
        boottime: Time(0),
        timezone: None,
        cmdline: None,
        virtualization: None,
        vendor: None,
        product: None,
        serial: None,
        agentversion: String::new(),
        memory: 0,
        cpus: 1,
        created: Time(0),
        end: None,
    }
    .into()
}

/// The server's process: not a test but for whoever starts it as one.
#[test]
fn serving() {
    let Ok(directory) = std::env::var("LUARM_TEST_SERVE") else { return };
    let directory = Path::new(&directory);
    let listen: SocketAddr = std::env::var("LUARM_TEST_LISTEN").unwrap().parse().unwrap();
    let config = server::Config {
        data: directory.join("server"),
        store: StoreUrl::parse(&std::env::var("LUARM_TEST_STORE").unwrap()).unwrap(),
        listen,
        lifetime: Duration::from_secs(3600),
        answering: server::Answering::default(),
    };
    let _server = Server::start(&config).unwrap();
    println!("\nready");
    loop {
        thread::park();
    }
}

struct Deaf;

impl agent::Events for Deaf {
    fn delivered(&mut self, _: i64) {}

    fn refused(&mut self, table: &str, count: u32) {
        println!("\nrefused {count} {table}");
    }
}

/// The agent's process: makes batch after batch, and ends when the server has them all.
#[test]
fn feeding() {
    let Ok(data) = std::env::var("LUARM_TEST_FEED") else { return };
    let data = Path::new(&data);
    let identity = Identity::load(data).unwrap();
    let (outbox, resume) = Outbox::open(&identity::spool(data), identity.facts().after).unwrap();
    let last = outbox.last();
    // What is open is known together with the last batch, whenever the process was killed.
    let open: Vec<i64> = (last > 0).then_some(last).into_iter().collect();
    assert_eq!((resume.coverage, resume.last_batch.map(|(id, _)| id)), (open, (last > 0).then_some(last)));
    let outbox = Arc::new(outbox);
    let servers = std::env::var("LUARM_TEST_SERVERS").unwrap();
    let plan = agent::Plan {
        data: data.to_owned(),
        servers: servers.split(' ').map(|url| url.parse().unwrap()).collect(),
        version: "test",
    };
    let courier = Courier::start(plan, identity, Arc::clone(&outbox), Box::new(Deaf)).unwrap();
    for id in last + 1..=BATCHES {
        outbox.put(&batch(id)).unwrap();
        // So that it has something to do whenever it is killed.
        while id - outbox.acknowledged() > AHEAD {
            thread::sleep(Duration::from_millis(1));
        }
    }
    while outbox.acknowledged() < BATCHES {
        thread::sleep(Duration::from_millis(10));
    }
    courier.stop(Duration::ZERO);
    println!("\ndone");
}

/// This test program as another process that runs one of its tests.
fn process(test: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Waits until the process writes the line, or ends; gives whether it wrote it.
fn says(child: &mut Child, line: &str) -> bool {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.any(|l| l == line)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(directory: &Path, store: &str, listen: SocketAddr) -> Killed {
    let variables = [
        ("LUARM_TEST_SERVE", directory.to_str().unwrap()),
        ("LUARM_TEST_STORE", store),
        ("LUARM_TEST_LISTEN", &listen.to_string()),
    ];
    let mut child = process("serving", &variables);
    assert!(says(&mut child, "ready"));
    Killed(child)
}

fn feed(data: &Path, servers: &str) -> Killed {
    Killed(process(
        "feeding",
        &[("LUARM_TEST_FEED", data.to_str().unwrap()), ("LUARM_TEST_SERVERS", servers)],
    ))
}

/// Two free ports.
fn ports() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// The numbers in the first row of an answer.
fn numbers(url: &StoreUrl, query: &str) -> Vec<i64> {
    struct First(Vec<i64>);

    impl RowSink for First {
        fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
            Ok(())
        }

        fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
            let number = |cell: &Cell<'_>| match cell {
                Cell::Integer(n) => *n,
                Cell::Real(x) => *x as i64,
                Cell::Text(text) => text.parse().unwrap(),
                other => panic!("{other:?} is no number"),
            };
            self.0 = cells.iter().map(number).collect();
            Ok(())
        }
    }

    let mut first = First(Vec::new());
    Reader::open(url).unwrap().query(query, &mut first).unwrap();
    first.0
}

/// Kills the agent's process, either server, all of them, or by `also` what is beneath them, until so many kills are done; then compares.
fn torment(directory: &Path, store: &str, kills: i64, mut also: Option<&mut dyn FnMut()>) {
    let url = StoreUrl::parse(store).unwrap();
    let ask = |query: &str| numbers(&url, query);
    Authority::init(&directory.join("server"), &[]).unwrap();
    let listen = ports();
    let start = |n: usize| serve(directory, store, listen[n]);
    let mut servers = [start(0), start(1)];
    let data = directory.join("agent");
    let token =
        server::make_token(&directory.join("server"), Some(&url), None, Duration::from_secs(600)).unwrap();
    let urls = listen.map(|listen| format!("https://{listen}"));
    agent::join(&urls[0].parse().unwrap(), &token, &data, ("penguin", MACHINE)).unwrap();
    let urls = urls.join(" ");
    let mut feeder = feed(&data, &urls);

    let mut chance: u64 = 0x5eed;
    let mut next = |below: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % below
    };
    let deadline = Instant::now() + PATIENCE;
    for kill in 0..kills {
        // Each while the load passes, and at another moment of it.
        let reached = kill * (BATCHES - 2 * AHEAD) / kills;
        while ask("SELECT coalesce(max(batchid), 0) FROM batchinfo")[0] < reached {
            assert!(Instant::now() < deadline, "nothing is delivered any more");
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(next(50)));
        match next(5) {
            n @ (0 | 1) => {
                let n = n as usize;
                servers[n].0.kill().unwrap();
                servers[n].0.wait().unwrap();
                servers[n] = start(n);
            }
            2 => {
                assert!(feeder.0.try_wait().unwrap().is_none(), "it ended by itself");
                drop(feeder);
                feeder = feed(&data, &urls);
            }
            3 if also.is_some() => {
                if let Some(also) = &mut also {
                    also();
                }
            }
            // All of them at once, as when the power goes.
            _ => {
                let [one, two] = &mut servers;
                let mut all = [&mut feeder.0, &mut one.0, &mut two.0];
                for child in &mut all {
                    child.kill().unwrap();
                }
                for child in all {
                    child.wait().unwrap();
                }
                servers = [start(0), start(1)];
                feeder = feed(&data, &urls);
            }
        }
    }
    let status = loop {
        if let Some(status) = feeder.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "not everything is delivered");
        thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success() && says(&mut feeder.0, "done"));

    let total: i64 = (1..=BATCHES).map(rows).sum();
    assert!(total >= 200_000, "{total}");
    let keys: i64 = (1..=BATCHES).flat_map(|id| (0..rows(id)).map(move |n| id * 1000 + n)).sum();
    assert_eq!(
        ask("SELECT count(*), count(DISTINCT renameid), sum(renameid) FROM renameinfo"),
        [total, total, keys]
    );
    assert_eq!(ask("SELECT count(*) FROM renameinfo WHERE renameid - renameid % 1000 <> batch * 1000"), [0]);
    assert_eq!(
        ask("SELECT count(*), min(batchid), max(batchid), sum(rowcount) FROM batchinfo"),
        [BATCHES, 1, BATCHES, total + BATCHES + 1]
    );
    // Each interval but the last was ended by the batch that follows the one that began it.
    assert_eq!(
        ask("SELECT count(*), max(coverageid) FROM coverageinfo WHERE destroyed IS NULL"),
        [1, BATCHES]
    );
    assert_eq!(ask("SELECT count(*) FROM coverageinfo WHERE dbatch = batch + 1"), [BATCHES - 1]);
    assert_eq!(ask("SELECT count(DISTINCT host) FROM batchinfo"), [1]);
}

#[test]
fn fifty_kills_of_agent_and_servers_lose_and_double_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", directory.path().join("store.db").display());
    torment(directory.path(), &store, KILLS, None);
    // Rows stand in the order in which they came.
    let order = "SELECT count(*) FROM (SELECT rowid AS n, batchid FROM batchinfo_stored) WHERE n <> batchid";
    assert_eq!(numbers(&StoreUrl::parse(&store).unwrap(), order), [0]);
}

#[test]
fn kills_of_agent_servers_and_mariadb_lose_and_double_nothing() {
    let Some(mut mariadb) = Mariadb::start("kills_of_agent_servers_and_mariadb_lose_and_double_nothing")
    else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let store = mariadb.url("root", "audit");
    let mut kill = || {
        mariadb.kill();
        mariadb.run(&[]);
    };
    torment(directory.path(), &store, KILLS / 2, Some(&mut kill));
}

#[test]
fn kills_of_agent_servers_and_postgres_lose_and_double_nothing() {
    let Some(mut postgres) = Postgres::start("kills_of_agent_servers_and_postgres_lose_and_double_nothing")
    else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    postgres.ask("postgres", "CREATE DATABASE audit");
    let store = postgres.url("luarm", "audit");
    let mut kill = || {
        postgres.kill();
        postgres.run(&[]);
    };
    torment(directory.path(), &store, KILLS / 2, Some(&mut kill));
}

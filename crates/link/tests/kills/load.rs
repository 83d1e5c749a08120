//! What passes while processes are killed, and the processes through which it passes: an agent's side and a server.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use luarm_chain::{Chain, KeyFile, Sealer};
use luarm_link::{
    agent::{self, Courier, Outbox},
    identity::{self, Identity},
    server::{self, Server},
};
use luarm_schema::{
    Batch, End, Row, Time,
    tables::{BatchInfo, CoverageInfo, CoverageInfoEnd, HostInfo, RenameInfo},
};
use luarm_store::StoreUrl;

/// How many batches pass.
pub(crate) const BATCHES: i64 = 2000;
const ROWS: i64 = 102;
/// So many batches the agent may be ahead of the server.
pub(crate) const AHEAD: i64 = 100;
/// The host's machine id.
pub(crate) const MACHINE: &str = "00000000000000000000000000000001";

/// How many rows a batch has, beside those that tell of its host and of itself.
pub(crate) fn rows(id: i64) -> i64 {
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
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
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
        overdue: luarm_store::OVERDUE,
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
    let keys = KeyFile::open(&data.join("chain.key")).unwrap();
    let (mut sealer, chain) = Sealer::open(keys, MACHINE, last, resume.digest.as_deref()).unwrap();
    assert_eq!(chain, if last == 0 { Chain::New } else { Chain::Continued });
    let outbox = Arc::new(outbox);
    let servers = std::env::var("LUARM_TEST_SERVERS").unwrap();
    let plan = agent::Plan {
        data: data.to_owned(),
        servers: servers.split(' ').map(|url| url.parse().unwrap()).collect(),
        version: "test",
    };
    let courier = Courier::start(plan, identity, Arc::clone(&outbox), Box::new(Deaf)).unwrap();
    for id in last + 1..=BATCHES {
        let mut batch = batch(id);
        sealer.seal(&mut batch).unwrap();
        outbox.put(&batch).unwrap();
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

/// The host's process that joins, before there is anything to deliver.
#[test]
fn joining() {
    let Ok(data) = std::env::var("LUARM_TEST_JOIN") else { return };
    let [url, token] = ["LUARM_TEST_SERVERS", "LUARM_TEST_TOKEN"].map(|name| std::env::var(name).unwrap());
    agent::join(&url.parse().unwrap(), &token.parse().unwrap(), Path::new(&data), ("penguin", MACHINE))
        .unwrap();
    println!("\ndone");
}

/// This test program as another process that runs one of its tests, by the command before it if there is one.
pub(crate) fn process(prefix: &[String], test: &str, variables: &[(&str, &str)]) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut command = match prefix {
        [] => Command::new(own),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(own);
            command
        }
    };
    command.args(["--exact", test, "--nocapture"]).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Waits until the process writes the line, or ends; gives whether it wrote it.
pub(crate) fn says(child: &mut Child, line: &str) -> bool {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.any(|l| l == line)
}

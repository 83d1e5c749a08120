//! An agent's side and two servers on one store, as processes that are killed over and over while 200,000 rows pass, and the database with them;
//! what the store holds afterwards is reckoned from the numbers of the batches alone.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod beneath;
mod load;

use std::{
    error::Error,
    net::SocketAddr,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use beneath::{Beneath, Cluster, Distant, File};
use load::{AHEAD, BATCHES, process, rows, says};
use luarm_chain::{
    VerifyingKey,
    verify::{Options, Progress, verify},
};
use luarm_link::{authority::Authority, notary, server};
use luarm_store::{Cell, Evidence, Reader, RowSink, StoreUrl};
use luarm_testbed::{Galera, Mariadb, NODES, Postgres};

const KILLS: i64 = 50;
/// Rows of a file that do not stand in the order in which they were made.
const ORDER: &str =
    "SELECT count(*) FROM (SELECT rowid AS n, batchid FROM batchinfo_stored) WHERE n <> batchid";
/// Long enough for a loaded machine; no verdict depends on it.
const PATIENCE: Duration = Duration::from_secs(300);

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(prefix: &[String], directory: &Path, store: &str, listen: SocketAddr) -> Killed {
    let variables = [
        ("LUARM_TEST_SERVE", directory.to_str().unwrap()),
        ("LUARM_TEST_STORE", store),
        ("LUARM_TEST_LISTEN", &listen.to_string()),
    ];
    let mut child = process(prefix, "load::serving", &variables);
    assert!(says(&mut child, "ready"));
    Killed(child)
}

fn feed(prefix: &[String], data: &Path, servers: &str) -> Killed {
    let variables = [("LUARM_TEST_FEED", data.to_str().unwrap()), ("LUARM_TEST_SERVERS", servers)];
    Killed(process(prefix, "load::feeding", &variables))
}

fn join(prefix: &[String], data: &Path, server: &str, token: &str) {
    let variables = [
        ("LUARM_TEST_JOIN", data.to_str().unwrap()),
        ("LUARM_TEST_SERVERS", server),
        ("LUARM_TEST_TOKEN", token),
    ];
    let mut child = Killed(process(prefix, "load::joining", &variables));
    assert!(says(&mut child.0, "done"));
}

/// The numbers in the first row of an answer.
fn numbers(url: &StoreUrl, query: &str) -> Result<Vec<i64>, Box<dyn Error>> {
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
    Reader::open(url)?.query(query, &mut first)?;
    Ok(first.0)
}

/// Kills the agent's process, either server, all of them, or what is beneath them, until so many kills are done; then compares.
fn torment(directory: &Path, kills: i64, beneath: &mut dyn Beneath) {
    let url = StoreUrl::parse(&beneath.store()).unwrap();
    let (listen, [there, here]) = (beneath.listen(), beneath.places());
    Authority::init(&directory.join("server"), &[listen[0].ip().to_string()]).unwrap();
    let start = |n: usize, store: &str| serve(&there, directory, store, listen[n]);
    let mut servers = [0, 1].map(|n| start(n, &beneath.store()));
    let data = directory.join("agent");
    let token =
        server::make_token(&directory.join("server"), Some(&url), None, Duration::from_secs(600)).unwrap();
    let urls = listen.map(|listen| format!("https://{listen}"));
    join(&here, &data, &urls[0], &token.to_string());
    let urls = urls.join(" ");
    let mut feeder = feed(&here, &data, &urls);

    let mut chance: u64 = 0x5eed;
    let mut next = |below: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % below
    };
    let deadline = Instant::now() + PATIENCE;
    for kill in 0..kills {
        // Each while the load passes, and at another moment of it.
        let reached = kill * (BATCHES - 2 * AHEAD) / kills;
        loop {
            let url = StoreUrl::parse(&beneath.store()).unwrap();
            // While nodes of a cluster look for each other they give no answer.
            let last = numbers(&url, "SELECT coalesce(max(batchid), 0) FROM batchinfo");
            if last.as_ref().is_ok_and(|last| last[0] >= reached) {
                break;
            }
            assert!(Instant::now() < deadline, "nothing is delivered any more: {last:?}");
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(next(50)));
        match next(5) {
            n @ (0 | 1) => {
                let n = n as usize;
                servers[n].0.kill().unwrap();
                servers[n].0.wait().unwrap();
                servers[n] = start(n, &beneath.store());
            }
            2 => {
                assert!(feeder.0.try_wait().unwrap().is_none(), "it ended by itself");
                drop(feeder);
                feeder = feed(&here, &data, &urls);
            }
            3 if beneath.is_server() => {
                let before = beneath.store();
                beneath.kill();
                let after = beneath.store();
                // One of the two is pointed at what is left, or at all again; the other has to find out by itself.
                if after != before {
                    servers[1].0.kill().unwrap();
                    servers[1].0.wait().unwrap();
                    servers[1] = start(1, &after);
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
                servers = [0, 1].map(|n| start(n, &beneath.store()));
                feeder = feed(&here, &data, &urls);
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

    beneath.mend();
    let key = notary::find(&directory.join("server")).unwrap().unwrap().verifying_key();
    for copy in beneath.copies() {
        compare(&StoreUrl::parse(&copy).unwrap(), &[key]);
    }
}

/// The store holds exactly what passed.
fn compare(url: &StoreUrl, believed: &[VerifyingKey]) {
    let ask = |query: &str| numbers(url, query).unwrap();
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
    // And the chain is whole: every batch signed by the key that the one before it names, and countersigned, every row what was sealed.
    let report = verify(
        &|| Ok(Evidence::open(url)?),
        &Options { keys: believed.to_vec(), threads: 2, ..Options::default() },
        &Progress::default(),
    );
    let report = report.unwrap();
    assert!(report.is_intact(), "{:?}", report.findings.iter().take(5).collect::<Vec<_>>());
    let [host] = &report.hosts[..] else { panic!("{:?}", report.hosts) };
    let batches = BATCHES as u64;
    assert_eq!((host.batches, host.signatures, host.receipts), (batches, batches, batches));
}

#[test]
fn fifty_kills_of_agent_and_servers_lose_and_double_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", directory.path().join("store.db").display());
    torment(directory.path(), KILLS, &mut File(store.clone()));
    assert_eq!(numbers(&StoreUrl::parse(&store).unwrap(), ORDER).unwrap(), [0]);
}

#[test]
fn kills_of_agent_servers_and_mariadb_lose_and_double_nothing() {
    let test = "kills_of_agent_servers_and_mariadb_lose_and_double_nothing";
    let Some(mut mariadb) = Mariadb::start(test) else { return };
    torment(tempfile::tempdir().unwrap().path(), KILLS / 2, &mut mariadb);
}

#[test]
fn kills_of_agent_servers_and_postgres_lose_and_double_nothing() {
    let test = "kills_of_agent_servers_and_postgres_lose_and_double_nothing";
    let Some(mut postgres) = Postgres::start(test) else { return };
    postgres.ask("postgres", "CREATE DATABASE audit");
    torment(tempfile::tempdir().unwrap().path(), KILLS / 2, &mut postgres);
}

#[test]
fn kills_of_agent_servers_and_nodes_of_a_cluster_lose_and_double_nothing() {
    let test = "kills_of_agent_servers_and_nodes_of_a_cluster_lose_and_double_nothing";
    let Some(galera) = Galera::start(test) else { return };
    let mut cluster = Cluster { galera, killed: 0, away: None };
    torment(tempfile::tempdir().unwrap().path(), KILLS / 2, &mut cluster);
    assert!(cluster.killed >= NODES, "only {} nodes were killed", cluster.killed);
}

#[test]
fn kills_of_agent_servers_and_network_between_them_lose_and_double_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", directory.path().join("store.db").display());
    let test = "kills_of_agent_servers_and_network_between_them_lose_and_double_nothing";
    let Some(mut distant) = Distant::new(test, store.clone()) else { return };
    torment(directory.path(), KILLS / 2, &mut distant);
    assert_eq!(numbers(&StoreUrl::parse(&store).unwrap(), ORDER).unwrap(), [0]);
    let [passed, lost, cut] = distant.cable.counts();
    assert!(passed > 1000 && lost > 10 && cut > 10, "{passed} passed, {lost} lost, {cut} cut");
}

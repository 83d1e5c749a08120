//! What a server is asked stands in a chain of its own, which it seals, and goes on with over restarts.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use luarm_chain::verify::{self, Change, Options, Progress, Report, Trouble, Witness};
use luarm_link::{
    analyst::{self, Remote},
    authority::Authority,
    notary,
    server::{self, Answering, Server},
};
use luarm_schema::{Dialect, Time, tables::QueryInfo};
use luarm_store::{Cell, Evidence, Questions, Reader, RowSink, Scope, Source, StoreUrl};
use luarm_testbed::{Mariadb, Postgres};
use tempfile::TempDir;

use crate::scene::HOUR;

enum Engine {
    Sqlite,
    Mariadb(Mariadb),
    Postgres(Postgres),
}

/// A store, and the directories of servers and analysts.
struct Site {
    store: StoreUrl,
    engine: Engine,
    // Last: removed when everything else is gone.
    directory: TempDir,
}

/// The texts of an answer.
#[derive(Default)]
struct Texts(Vec<String>);

impl RowSink for Texts {
    fn columns(&mut self, _: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let text = |cell: &Cell<'_>| match cell {
            Cell::Text(text) => (*text).to_owned(),
            Cell::Integer(n) => n.to_string(),
            _ => String::new(),
        };
        self.0.push(cells.iter().map(text).collect::<Vec<_>>().join("|"));
        Ok(())
    }
}

impl Site {
    fn new(engine: Engine) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = match &engine {
            Engine::Sqlite => format!("sqlite:{}", directory.path().join("store.db").display()),
            Engine::Mariadb(mariadb) => mariadb.url("root", "audit"),
            Engine::Postgres(postgres) => {
                postgres.ask("postgres", "CREATE DATABASE audit");
                postgres.url("luarm", "audit")
            }
        };
        Site { store: StoreUrl::parse(&store).unwrap(), engine, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the server of that directory.
    fn serve(&self, name: &str) -> Server {
        let data = self.path(name);
        if !data.exists() {
            Authority::init(&data, &[]).unwrap();
        }
        let config = server::Config {
            data,
            store: self.store.clone(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            lifetime: HOUR,
            answering: Answering::default(),
            overdue: luarm_store::OVERDUE,
        };
        Server::start(&config).unwrap()
    }

    /// Asks this server of that directory as its analyst, who joins with the first question.
    fn ask(&self, (server, name): (&Server, &str), sql: &str) -> Result<Vec<String>, String> {
        let url = format!("https://{}", server.address()).parse().unwrap();
        let data = self.path(&format!("analyst of {name}"));
        if !data.exists() {
            let of = (&*format!("anna-{name}"), &Scope::All);
            let token = server::make_analyst_token(&self.path(name), Some(&self.store), of, HOUR).unwrap();
            analyst::join(&url, &token, &data).unwrap();
        }
        let mut answer = Texts::default();
        let mut remote = Remote::open(Some(url), &data).unwrap();
        remote.query(sql, &mut answer).map_err(|error| error.to_string())?;
        Ok(answer.0)
    }

    /// What the store itself answers.
    fn read(&self, sql: &str) -> Vec<String> {
        let mut answer = Texts::default();
        Reader::open(&self.store).unwrap().query(sql, &mut answer).unwrap();
        answer.0
    }

    fn number(&self, sql: &str) -> i64 {
        self.read(sql)[0].parse().unwrap()
    }

    /// What whoever may change the tables does.
    fn tamper(&self, sql: &str) {
        match (&self.engine, &self.store) {
            (Engine::Sqlite, StoreUrl::Sqlite(path)) => {
                _ = rusqlite::Connection::open(path).unwrap().execute(sql, []).unwrap();
            }
            (Engine::Mariadb(mariadb), _) => _ = mariadb.ask(&format!("USE audit; {sql}")),
            (Engine::Postgres(postgres), _) => {
                _ = postgres.ask("audit", &format!("SET search_path = luarm; {sql}"));
            }
            _ => unreachable!(),
        }
    }

    /// The table of questions, as whoever changes it calls it.
    fn table(&self) -> String {
        let dialect = match self.engine {
            Engine::Sqlite => Dialect::Sqlite,
            Engine::Mariadb(_) => Dialect::Mysql,
            Engine::Postgres(_) => Dialect::Postgres,
        };
        dialect.stored_name(QueryInfo::TABLE)
    }

    /// Verifies the store, with the keys of these servers.
    fn verified(&self, servers: &[&str]) -> Report {
        let key = |name: &&str| notary::open(&self.path(name)).unwrap().key();
        self.verified_with(&Options {
            keys: servers.iter().map(key).collect(),
            threads: 2,
            ..Options::default()
        })
    }

    fn verified_with(&self, options: &Options) -> Report {
        let open = || Evidence::open(&self.store).map_err(Trouble::from);
        verify::verify(&open, options, &Progress::default()).unwrap()
    }
}

/// Nothing is wrong, and everything is sealed.
fn whole(report: &Report) {
    assert!(report.findings.is_empty() && report.is_intact(), "{:?}", report.findings);
    assert_eq!((report.unsealed, report.unsigned), (0, 0));
    for host in &report.hosts {
        assert!(host.name.starts_with("server@"), "{host:?}");
        assert!(host.batches > 0 && host.signatures == host.batches && host.receipts == host.batches);
    }
}

/// What is found of the question of that number.
fn found(report: &Report, key: i64) -> Vec<Change> {
    assert!(!report.is_intact());
    let of = |finding: &&verify::Finding| finding.table == "queryinfo" && finding.key == Some(key);
    report.findings.iter().filter(of).map(|finding| finding.change).collect()
}

fn sealed_and_what_is_changed_shows(site: &Site) {
    let server = site.serve("one");
    let wanted = "SELECT 7 AS n -- \u{e4}\u{1f427}'\\";
    assert_eq!(site.ask((&server, "one"), wanted).unwrap(), ["7"]);
    assert!(site.ask((&server, "one"), "SELECT nosuch FROM netinfo").unwrap_err().contains("nosuch"));
    assert_eq!(site.ask((&server, "one"), "SELECT 8 AS n").unwrap(), ["8"]);
    server.stop();
    let report = site.verified(&["one"]);
    whole(&report);
    assert_eq!(report.hosts.len(), 1);
    // Each of the three that were asked, and nothing in no batch.
    let asked = "SELECT count(*) FROM queryinfo WHERE kind = 'sql' AND batch > 0 AND dbatch >= batch";
    assert_eq!(site.number(asked), 3);
    assert_eq!(site.number("SELECT count(*) FROM queryinfo WHERE batch = 0 OR dbatch = 0"), 0);
    // A server is no audited computer.
    assert_eq!(site.number("SELECT count(*) FROM hostinfo"), 0);
    assert_eq!(Reader::open(&site.store).unwrap().hosts().unwrap(), []);

    // What keeps the server's account from it is nothing to whoever has the tables.
    match &site.engine {
        Engine::Sqlite => {}
        Engine::Mariadb(_) => site.tamper("DROP TRIGGER queryinfo_ends"),
        Engine::Postgres(_) => site.tamper("ALTER TABLE queryinfo_stored DISABLE TRIGGER USER"),
    }
    let (table, sql) = (site.table(), "SELECT queryid FROM queryinfo WHERE statement LIKE 'SELECT 8%'");
    let key = site.number(sql);
    let one = |set: &str| site.tamper(&format!("UPDATE {table} SET {set} WHERE queryid = {key}"));
    one("username = 'otto'");
    assert_eq!(found(&site.verified(&["one"]), key), [Change::RowChanged]);
    one("username = 'anna-one'");
    whole(&site.verified(&["one"]));
    // Out of its batch, into one that is to come, or among those that nobody signs; and to another host.
    let batch = site.number(&format!("SELECT batch FROM queryinfo WHERE queryid = {key}"));
    for (change, back) in [
        ("batch = batch + 1".to_owned(), format!("batch = {batch}")),
        ("batch = 0".to_owned(), format!("batch = {batch}")),
        ("host = host + 1".to_owned(), "host = host - 1".to_owned()),
    ] {
        one(&change);
        let changes = found(&site.verified(&["one"]), key);
        assert!(changes.contains(&Change::RowMoved), "{change}: {changes:?}");
        one(&back);
        whole(&site.verified(&["one"]));
    }
    site.tamper(&format!("DELETE FROM {table} WHERE queryid = {key}"));
    assert_eq!(found(&site.verified(&["one"]), key), [Change::RowDeleted]);
}

#[test]
fn a_question_is_sealed_and_what_is_changed_shows_in_sqlite() {
    sealed_and_what_is_changed_shows(&Site::new(Engine::Sqlite));
}

#[test]
fn a_question_is_sealed_and_what_is_changed_shows_in_mariadb() {
    let name = "a_question_is_sealed_and_what_is_changed_shows_in_mariadb";
    let Some(mariadb) = Mariadb::start(name) else { return };
    sealed_and_what_is_changed_shows(&Site::new(Engine::Mariadb(mariadb)));
}

#[test]
fn a_question_is_sealed_and_what_is_changed_shows_in_postgres() {
    let name = "a_question_is_sealed_and_what_is_changed_shows_in_postgres";
    let Some(postgres) = Postgres::start(name) else { return };
    sealed_and_what_is_changed_shows(&Site::new(Engine::Postgres(postgres)));
}

#[test]
fn a_server_that_starts_again_goes_on_with_its_chain() {
    let site = Site::new(Engine::Sqlite);
    for round in 1..=3 {
        let server = site.serve("one");
        assert_eq!(site.ask((&server, "one"), "SELECT 1 AS n").unwrap(), ["1"]);
        server.stop();
        let report = site.verified(&["one"]);
        whole(&report);
        assert_eq!((report.hosts.len(), report.hosts[0].batches >= round), (1, true));
    }
    // One chain, begun once.
    assert_eq!(site.number("SELECT count(*) FROM batchinfo WHERE publickey IS NOT NULL"), 1);
    assert_eq!(site.number("SELECT count(DISTINCT host) FROM queryinfo"), 1);
    assert_eq!(site.number("SELECT count(*) FROM queryinfo WHERE kind = 'sql'"), 3);
    // A tail that is cut shows by the head beside the store.
    let heads = site.path("one/server/heads");
    let head = std::fs::read_dir(&heads).unwrap().next().unwrap().unwrap().path();
    let head = luarm_chain::Head::read(&std::fs::read_to_string(head).unwrap()).unwrap();
    let last = site.number("SELECT max(batchid) FROM batchinfo");
    assert_eq!(head.batch, last);
    site.tamper(&format!("DELETE FROM {} WHERE batch = {last} AND dbatch = {last}", site.table()));
    site.tamper(&format!("DELETE FROM batchinfo_stored WHERE batchid = {last}"));
    site.tamper(&format!("DELETE FROM luarmproof WHERE batch = {last}"));
    let witnesses = Witness::of(&head, "the head".to_owned()).into_iter().collect();
    let report = site.verified_with(&Options { witnesses, threads: 1, ..Options::default() });
    assert!(report.findings.iter().any(|finding| finding.change == Change::TailCut), "{:?}", report.findings);
}

/// A question as a server notes it.
fn question(statement: &str) -> QueryInfo {
    QueryInfo {
        queryid: 0,
        door: "server".into(),
        kind: "sql".into(),
        username: "anna".into(),
        uid: None,
        loginname: None,
        auid: None,
        session: None,
        psentity: None,
        pid: None,
        application: None,
        address: None,
        certificate: None,
        limitedto: None,
        statement: statement.to_owned(),
        statementbytes: statement.len() as i64,
        statementsha256: None,
        created: Time::now(),
        end: None,
    }
}

fn what_was_left(site: &Site) {
    let server = site.serve("one");
    site.ask((&server, "one"), "SELECT 1 AS n").unwrap();
    server.stop();
    let (host, last) =
        (site.number("SELECT max(host) FROM queryinfo"), site.number("SELECT max(batchid) FROM batchinfo"));
    // What is in the store when a server is killed between a question and the seal.
    let mut questions = Questions::open(&site.store).unwrap();
    for (batch, statement) in [(last + 1, "SELECT 'left'"), (last + 2, "SELECT 'left, too'")] {
        questions.begin((host, batch), &mut question(statement)).unwrap();
    }
    let report = site.verified(&["one"]);
    assert!(report.is_intact(), "{:?}", report.findings);
    assert_eq!(report.unsealed, 2);
    // Further ahead no server is.
    let mut made_up = question("SELECT 'made up'");
    questions.begin((host, last + 3), &mut made_up).unwrap();
    assert_eq!(found(&site.verified(&["one"]), made_up.queryid), [Change::RowInserted]);
    site.tamper(&format!("DELETE FROM {} WHERE queryid = {}", site.table(), made_up.queryid));
    // What an account of the database noted in its own name, about whichever host, is nobody else's to end.
    let mut noted = QueryInfo { door: "store".into(), ..question("SELECT 'noted'") };
    questions.begin((host, 0), &mut noted).unwrap();
    let server = site.serve("one");
    site.ask((&server, "one"), "SELECT 2 AS n").unwrap();
    server.stop();
    let report = site.verified(&["one"]);
    assert!(report.is_intact() && report.unsigned == 1, "{:?}", report.findings);
    site.tamper(&format!(
        "DELETE FROM {} WHERE queryid = {} AND destroyed IS NULL",
        site.table(),
        noted.queryid
    ));
    whole(&site.verified(&["one"]));
    let killed = site.read("SELECT statement, ended FROM queryinfo WHERE ended = 'killed' ORDER BY queryid");
    assert_eq!(killed, ["SELECT 'left'|killed", "SELECT 'left, too'|killed"]);
    assert_eq!(site.number("SELECT count(*) FROM queryinfo WHERE destroyed IS NULL"), 0);
}

#[test]
fn what_a_killed_server_left_is_sealed_when_it_starts_again() {
    what_was_left(&Site::new(Engine::Sqlite));
}

#[test]
fn what_a_killed_server_left_in_mariadb_is_sealed_when_it_starts_again() {
    let name = "what_a_killed_server_left_in_mariadb_is_sealed_when_it_starts_again";
    let Some(mariadb) = Mariadb::start(name) else { return };
    what_was_left(&Site::new(Engine::Mariadb(mariadb)));
}

#[test]
fn a_server_that_lost_its_key_goes_on_and_it_shows() {
    let site = Site::new(Engine::Sqlite);
    for _ in 0..2 {
        let server = site.serve("one");
        site.ask((&server, "one"), "SELECT 1 AS n").unwrap();
        server.stop();
        std::fs::remove_file(site.path("one/server/questions.key")).unwrap();
    }
    // By the server's own key it is known that it happened, as of a host.
    let report = site.verified(&["one"]);
    let changes: Vec<_> = report.findings.iter().map(|finding| (finding.change, finding.is_note)).collect();
    assert_eq!(changes, [(Change::ChainRestarted, true)]);
    let report = site.verified(&[]);
    assert!(!report.is_intact() && report.findings.len() == 1);
}

#[test]
fn several_servers_on_one_store_have_a_chain_each() {
    let site = Site::new(Engine::Sqlite);
    let names = ["one", "other", "one"];
    let servers = names.map(|name| site.serve(name));
    for (server, name) in servers.iter().zip(names) {
        for n in 0..3 {
            assert_eq!(site.ask((server, name), &format!("SELECT {n} AS n")).unwrap(), [n.to_string()]);
        }
    }
    servers.into_iter().for_each(Server::stop);
    let report = site.verified(&["one", "other"]);
    whole(&report);
    assert_eq!(report.hosts.len(), 3);
    let of_each = "SELECT count(*) FROM queryinfo WHERE kind = 'sql' GROUP BY host";
    assert_eq!(site.read(of_each), ["3", "3", "3"]);
    // One that is not asked for is not believed.
    let report = site.verified(&["other"]);
    assert!(report.findings.iter().all(|finding| finding.change == Change::ReceiptWrong));
    assert!(!report.is_intact());
}

#[test]
fn a_verification_while_questions_come_finds_nothing() {
    let site = &Site::new(Engine::Sqlite);
    let server = site.serve("one");
    site.ask((&server, "one"), "SELECT 0 AS n").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let verifying = scope.spawn(|| {
            let mut times = 0;
            while !over.load(Ordering::Relaxed) || times == 0 {
                let report = site.verified(&[]);
                assert!(report.findings.is_empty() && report.untold == 0, "{:?}", report.findings);
                times += 1;
            }
        });
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for n in 0..20 {
                        assert_eq!(
                            site.ask((&server, "one"), &format!("SELECT {n} AS n")).unwrap(),
                            [n.to_string()]
                        );
                    }
                })
            })
            .collect();
        let asked: Vec<_> = asking.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        verifying.join().unwrap();
        asked.into_iter().for_each(|asked| asked.unwrap());
    });
    server.stop();
    whole(&site.verified(&["one"]));
    assert_eq!(site.number("SELECT count(*) FROM queryinfo WHERE kind = 'sql'"), 81);
}

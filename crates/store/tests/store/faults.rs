//! Servers that stop, crash, refuse and collide: nothing is lost, nothing is doubled, and what is wrong is said.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use luarm_schema::{Batch, End, SCHEMA_VERSION};
use luarm_store::{Account, HostIdentity, Owner, Reader, StoreError, StoreUrl, Trouble, Writer};
use luarm_testbed::{Mariadb, Postgres, printed, run_with};

use crate::{fixture::*, servers::parsed};

/// A server that a test may mistreat.
trait Server {
    fn url(&self, account: &str) -> StoreUrl;
    /// Over the loopback, by that port instead of the server's own.
    fn url_by(&self, port: u16) -> StoreUrl;
    fn port(&self) -> u16;
    fn client(&self) -> Command;
    fn restart(&mut self);
    fn kill(&mut self);
    fn start(&mut self);
    fn read_only(&self, on: bool);

    fn tell(&self, sql: &str) -> Vec<String> {
        let mut client = self.client();
        printed(&run_with(&mut client, sql.as_bytes()), sql).lines().map(str::to_owned).collect()
    }
}

impl Server for Mariadb {
    fn url(&self, account: &str) -> StoreUrl {
        parsed(&Mariadb::url(self, account, "luarm"))
    }
    fn url_by(&self, port: u16) -> StoreUrl {
        parsed(&format!("mysql://root@127.0.0.1:{port}/luarm"))
    }
    fn port(&self) -> u16 {
        Mariadb::port(self)
    }
    fn client(&self) -> Command {
        let mut client = Mariadb::client(self);
        client.args(["--batch", "--raw", "--unbuffered", "--skip-column-names", "luarm"]);
        client
    }
    fn restart(&mut self) {
        self.stop();
        self.run(&[]);
    }
    fn kill(&mut self) {
        Mariadb::kill(self);
    }
    fn start(&mut self) {
        self.run(&[]);
    }
    fn read_only(&self, on: bool) {
        self.tell(&format!("SET GLOBAL read_only = {}", i32::from(on)));
    }
}

impl Server for Postgres {
    fn url(&self, account: &str) -> StoreUrl {
        let account = if account == "root" { "luarm" } else { account };
        parsed(&Postgres::url(self, account, "postgres"))
    }
    fn url_by(&self, port: u16) -> StoreUrl {
        parsed(&format!("postgres://luarm@127.0.0.1:{port}/postgres"))
    }
    fn port(&self) -> u16 {
        Postgres::port(self)
    }
    fn client(&self) -> Command {
        let mut client = Postgres::client(self, "postgres");
        client.args([
            "--tuples-only",
            "--no-align",
            "--quiet",
            "--field-separator=\t",
            "--set=ON_ERROR_STOP=1",
        ]);
        client.env("PGOPTIONS", "-c search_path=luarm -c client_min_messages=error");
        client
    }
    fn restart(&mut self) {
        self.stop();
        self.run(&[]);
    }
    fn kill(&mut self) {
        Postgres::kill(self);
    }
    fn start(&mut self) {
        self.run(&[]);
    }
    fn read_only(&self, on: bool) {
        self.tell(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {}",
            if on { "on" } else { "off" }
        ));
        self.tell("SELECT pg_reload_conf()");
    }
}

#[test]
fn mariadb_fails_in_every_way() {
    if let Some(server) = Mariadb::start("mariadb_fails_in_every_way") {
        every_way(server);
    }
}

#[test]
fn postgres_fails_in_every_way() {
    if let Some(server) = Postgres::start("postgres_fails_in_every_way") {
        every_way(server);
    }
}

fn every_way(mut server: impl Server) {
    let mut writer = opened(&server.url("root"));
    writer.append(&batch(1, vec![host(MACHINE, "alpha", 1)], Vec::new())).unwrap();
    let mut next = 2;
    restarted(&mut server, &mut writer, &mut next);
    answer_lost(&server, &mut next);
    killed(&mut server, &mut next);
    deadlocked(&server, &mut next);
    together(&server, &mut next);
    read_only(&server, &mut next);
    refused(&server);
    missing(&server, next);
    other_versions(&server);
}

fn opened(url: &StoreUrl) -> Writer {
    Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap().0
}

const ROWS: i64 = 50;

/// Batch `id` with its own rows, of which it ends some of the batch before.
fn numbered(id: i64) -> Batch {
    let rows = (id * ROWS..(id + 1) * ROWS).map(|key| endpoint(key).into()).collect();
    let before = (id - 1) * ROWS;
    let ends = (before..before + 10).map(|key| (key, End::NetInfo(endpoint_end(at(key + 1))))).collect();
    batch(id, rows, if id > 2 { ends } else { Vec::new() })
}

/// Everything below `next` is there, once.
fn whole(server: &impl Server, next: i64) {
    let batches = next - 1;
    let counts = server.tell(
        "SELECT (SELECT count(*) FROM batchinfo), (SELECT max(batchid) FROM batchinfo), (SELECT count(*) FROM netinfo), \
         (SELECT count(DISTINCT endpointinfo) FROM netinfo), (SELECT count(*) FROM netinfo WHERE destroyed IS NOT NULL), \
         (SELECT count(*) FROM hostinfo)",
    );
    let rows = (batches - 1) * ROWS;
    let ended = (batches - 2).max(0) * 10;
    assert_eq!(counts, [format!("{batches}\t{batches}\t{rows}\t{rows}\t{ended}\t1")]);
}

/// Appends until it is stored, as a recorder does.
fn store(writer: &mut Writer, id: i64) {
    loop {
        match writer.append(&numbered(id)) {
            Ok(refused) => {
                assert_eq!(refused, []);
                return;
            }
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn restarted(server: &mut impl Server, writer: &mut Writer, next: &mut i64) {
    for _ in 0..2 {
        writer.append(&numbered(*next)).unwrap();
        *next += 1;
        server.restart();
    }
    // The connection that broke is opened anew at once.
    writer.append(&numbered(*next)).unwrap();
    *next += 1;
    server.kill();
    let error = writer.append(&numbered(*next)).unwrap_err();
    assert!(matches!(error, StoreError::Database { trouble: Trouble::Lost, .. }), "{error}");
    assert!(error.is_transient() && error.to_string().contains("is the server running"), "{error}");
    server.start();
    writer.append(&numbered(*next)).unwrap();
    *next += 1;
    whole(server, *next);
}

/// Between client and server; cuts the connection once the client has sent a commit, before the server's answer.
fn cutting(to: u16, cuts: Arc<AtomicU32>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let quiet = Arc::new(AtomicBool::new(false));
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let silent = Arc::clone(&quiet);
            let cuts = Arc::clone(&cuts);
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(n @ 1..) = from_server.read(&mut bytes) {
                    if silent.load(Ordering::SeqCst) {
                        // This is the answer that is lost.
                        let _ = to_client.shutdown(Shutdown::Both);
                        return;
                    }
                    if to_client.write_all(&bytes[..n]).is_err() {
                        return;
                    }
                }
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let (mut from_client, mut to_server) = (client, server);
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(n @ 1..) = from_client.read(&mut bytes) {
                    let commit = bytes[..n].windows(6).any(|w| w == b"COMMIT");
                    let left = cuts.load(Ordering::SeqCst);
                    if commit && left > 0 {
                        cuts.store(left - 1, Ordering::SeqCst);
                        quiet.store(true, Ordering::SeqCst);
                    }
                    if to_server.write_all(&bytes[..n]).is_err() {
                        return;
                    }
                }
                let _ = to_server.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

fn answer_lost(server: &impl Server, next: &mut i64) {
    let cuts = Arc::new(AtomicU32::new(0));
    let port = cutting(server.port(), Arc::clone(&cuts));
    let mut writer = opened(&server.url_by(port));
    for round in 0..4 {
        // Also twice in a row: then the writer says so, and the next try finds the batch.
        cuts.store(1, Ordering::SeqCst);
        if round == 3 {
            store(&mut writer, *next);
        } else {
            assert_eq!(writer.append(&numbered(*next)).unwrap(), []);
        }
        assert_eq!(cuts.load(Ordering::SeqCst), 0);
        *next += 1;
    }
    whole(server, *next);
}

fn killed(server: &mut impl Server, next: &mut i64) {
    const BATCHES: i64 = 60;
    let first = *next;
    let url = server.url("root");
    let stored = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&stored);
    let appending = thread::spawn(move || {
        let mut writer = opened(&url);
        for id in first..first + BATCHES {
            store(&mut writer, id);
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    for round in 1..=5 {
        // Killed after so many batches, that is, somewhere in one of those that follow.
        while stored.load(Ordering::SeqCst) < round * 8 {
            assert!(!appending.is_finished(), "the writer gave up");
            thread::sleep(Duration::from_millis(1));
        }
        server.kill();
        server.start();
    }
    appending.join().unwrap();
    *next += BATCHES;
    whole(server, *next);
}

/// A client of its own kind that keeps a transaction open.
struct Other(Child);

impl Other {
    fn begin(server: &impl Server, sql: &str) -> Self {
        let mut child = server
            .client()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{sql}").unwrap();
        Other(child)
    }

    fn say(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql}").unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Both hold what the other wants: the engine ends one of them, and whichever it is, the batch is stored once.
fn deadlocked(server: &impl Server, next: &mut i64) {
    let table = match server.url("root") {
        StoreUrl::Postgres(_) => "netinfo_stored",
        _ => "netinfo",
    };
    for _ in 0..3 {
        let key = (*next - 1) * ROWS;
        let locks =
            format!("BEGIN; SELECT 'held' FROM {table} WHERE host = 1 AND endpointinfo = {key} FOR UPDATE;");
        let mut other = Other::begin(server, &locks);
        let mut held = [0; 5];
        other.0.stdout.as_mut().unwrap().read_exact(&mut held).unwrap();
        let url = server.url("root");
        let id = *next;
        let appending = thread::spawn(move || opened(&url).append(&numbered(id)).unwrap());
        // It holds the host's row by then, and waits for the other's.
        while !waits(server) {
            assert!(!appending.is_finished(), "the writer did not wait for the lock");
            // InnoDB tells anew only to who has not asked for 0.1 s: asked more often, it repeats its first answer for ever.
            thread::sleep(Duration::from_millis(150));
        }
        other.say("SELECT host FROM luarmhost WHERE host = 1 FOR UPDATE; COMMIT;");
        drop(other);
        assert_eq!(appending.join().unwrap(), []);
        *next += 1;
        whole(server, *next);
    }
}

fn waits(server: &impl Server) -> bool {
    let sql = match server.url("root") {
        StoreUrl::Postgres(_) => "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        _ => "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    };
    server.tell(sql) != ["0"]
}

/// Four writers with the same batches, as when a server was thought dead and was not.
fn together(server: &impl Server, next: &mut i64) {
    const BATCHES: i64 = 25;
    let first = *next;
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let url = server.url("root");
            thread::spawn(move || {
                let mut writer = opened(&url);
                for id in first..first + BATCHES {
                    store(&mut writer, id);
                }
                writer.appended().batches
            })
        })
        .collect();
    let stored: u64 = writers.into_iter().map(|w| w.join().unwrap()).sum();
    assert_eq!(stored, BATCHES as u64);
    *next += BATCHES;
    whole(server, *next);
}

fn read_only(server: &impl Server, next: &mut i64) {
    let account = Account::Server { name: "luarm_server".to_owned(), password: Some("s3cret'".to_owned()) };
    Owner::open(&server.url("root")).unwrap().grant(&account).unwrap();
    let mut writer = opened(&server.url("luarm_server:s3cret'"));
    store(&mut writer, *next);
    *next += 1;
    server.read_only(true);
    let error = loop {
        match writer.append(&numbered(*next)) {
            Err(error) => break error,
            // A setting reaches the sessions of PostgreSQL a little later.
            Ok(_) => *next += 1,
        }
    };
    assert!(matches!(error, StoreError::Database { trouble: Trouble::ReadOnly, .. }), "{error}");
    assert!(error.is_transient(), "{error}");
    server.read_only(false);
    store(&mut writer, *next);
    *next += 1;
    whole(server, *next);
}

fn refused(server: &impl Server) {
    if matches!(server.url("root"), StoreUrl::Mysql(_)) {
        for account in ["luarm_server:wrong", "nobody:secret"] {
            let error = Writer::open(&server.url(account), MACHINE).unwrap_err();
            assert!(matches!(error, StoreError::Database { trouble: Trouble::Denied, .. }), "{error}");
            assert!(!error.is_transient() && !error.to_string().contains("secret"), "{error}");
        }
    } else {
        let error = Writer::open(&server.url("stranger"), MACHINE).unwrap_err();
        assert!(matches!(error, StoreError::Database { trouble: Trouble::Denied, .. }), "{error}");
    }
    let error = Reader::open(&parsed(
        &server.url("root").to_string().replace("/luarm?", "/none?").replace("/postgres", "/none"),
    ))
    .unwrap_err();
    assert!(matches!(error, StoreError::Database { trouble: Trouble::Missing, .. }), "{error}");
    // An enrolled name is that of one computer.
    let error = Writer::deliver_for(&server.url("root"), &HostIdentity::enrolled("another machine", "alpha"))
        .unwrap_err();
    assert!(matches!(&error, StoreError::OtherMachine { name, .. } if name == "alpha"), "{error}");
}

fn missing(server: &impl Server, next: i64) {
    let mut writer = opened(&server.url("root"));
    let (from, to) = match server.url("root") {
        StoreUrl::Postgres(_) => ("ALTER TABLE netinfo_stored RENAME TO", "gone"),
        _ => ("RENAME TABLE netinfo TO", "gone"),
    };
    server.tell(&format!("{from} {to}"));
    let error = writer.append(&numbered(next)).unwrap_err();
    assert!(matches!(error, StoreError::Database { trouble: Trouble::Missing, .. }), "{error}");
    assert!(!error.is_transient() && error.to_string().contains("netinfo"), "{error}");
    server.tell(
        &from
            .replace("netinfo_stored", "gone")
            .replace("netinfo", "gone")
            .replace("RENAME TO", "RENAME TO netinfo_stored")
            .replace("TABLE gone TO", "TABLE gone TO netinfo"),
    );
    writer.append(&numbered(next)).unwrap();
    whole(server, next + 1);
}

fn other_versions(server: &impl Server) {
    for (version, said) in [(SCHEMA_VERSION + 41, "newer luarm"), (0, "no way up")] {
        server.tell(&format!("UPDATE luarmversion SET version = {version}"));
        let url = server.url("root");
        for error in [Writer::open(&url, MACHINE).unwrap_err(), Reader::open(&url).unwrap_err()] {
            assert!(matches!(error, StoreError::DatabaseVersion { .. }), "{error}");
            assert!(error.to_string().contains(said) && !error.is_transient(), "{error}");
        }
    }
    server.tell("DELETE FROM luarmversion");
    let error = Reader::open(&server.url("root")).unwrap_err();
    assert!(matches!(error, StoreError::Database { trouble: Trouble::Missing, .. }), "{error}");
    // Half made, as far as anybody can tell: it is completed.
    opened(&server.url("root"));
    Reader::open(&server.url("root")).unwrap();
}

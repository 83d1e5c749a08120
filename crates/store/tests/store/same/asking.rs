//! What a store is asked, and what no statement does.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use luarm_schema::{HostName, Row, TABLES, tables::LossInfo};
use luarm_store::{QueryError, Reader, StoreUrl};

use super::{asked, opened, with};
use crate::{append::process, fixture::*};

/// Every table can be asked, and has its columns.
pub(super) fn tables(url: &StoreUrl) -> Vec<String> {
    let mut loss = LossInfo {
        lossid: 1,
        class: "process".into(),
        cause: "ring-full".into(),
        count: 7,
        note: None,
        created: at(1),
        until: at(2),
        end: None,
    };
    let first = loss.clone();
    loss.lossid = 2;
    loss.count = 35;
    drop(with(url, vec![first.into(), loss.into()]));
    let mut reader = Reader::open(url).unwrap();
    let mut said = Vec::new();
    for table in TABLES {
        let columns: Vec<&str> = table.columns.iter().map(|c| c.name).collect();
        let mut answer = Answer::default();
        reader.query(&format!("SELECT {} FROM {}", columns.join(", "), table.name), &mut answer).unwrap();
        assert_eq!(answer.columns, columns);
        said.push(format!("{}: {}", table.name, answer.rows.len()));
    }
    said.extend(reader.row_counts().unwrap().into_iter().map(|(table, rows)| format!("{table} {rows}")));
    said.extend(asked(
        url,
        &["SELECT class || ' ' || cause, sum(count) FROM lossinfo WHERE until >= '2000-01-01 00:00:00' GROUP BY 1 ORDER BY 1"],
    ));
    assert!(reader.size() > 0);
    said
}

pub(super) fn seed(url: &StoreUrl) -> Vec<String> {
    let mut rows: Vec<Row> = Vec::new();
    for n in 1..=23 {
        let mut row = endpoint(n);
        let name = if n % 3 == 0 { "undernet.irc.justedge.net" } else { "dana.basefreak.nl" };
        // Two ways to write the same name.
        row.destfqdn = Some(HostName(if n % 2 == 0 { name.to_owned() } else { format!("{name} ") }));
        row.pid = if n % 3 == 0 { 29312 } else { 7371 };
        row.sourceport = 32_767 + n as u16;
        rows.push(row.into());
    }
    rows.push(process(1, "/usr/bin/perl", Some("./x\n79.125.109.171\n0\n0".to_owned())).into());
    drop(with(url, rows));
    asked(
        url,
        &[
            "select COUNT(*) from netinfo where destfqdn='undernet.irc.justedge.net' ",
            "select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ",
            "select application,username,pid from netinfo where destfqdn='dana.basefreak.nl' LIMIT 5",
            "select application,username,pid from netinfo where destfqdn='undernet.irc.justedge.net' LIMIT 10",
            "select COUNT(*) from psinfo where username='nobody' ",
            "select command,username,arguments,pid,ppid from psinfo where username='nobody' ",
            "select sourceport,destport,cday,chour,cmin from netinfo where username='nobody' AND pid='29312' order by 1",
            "select p.command, n.destip from netinfo n left join psinfo p on p.psentity = n.psentity order by n.endpointinfo limit 3",
        ],
    )
}

pub(super) fn kinds(url: &StoreUrl) -> Vec<String> {
    drop(with(url, vec![endpoint(1).into(), endpoint(3).into()]));
    let mut reader = Reader::open(url).unwrap();
    let mut answer = Answer::default();
    reader.query("SELECT 1 AS a, 'x' AS b, NULL AS c, 1 = 1 AS d -- end", &mut answer).unwrap();
    let mut said = answer.columns;
    said.extend(answer.rows);
    for nothing in ["-- only words", "/* nothing */", "  "] {
        let mut answer = Answer::default();
        assert_eq!(reader.query(nothing, &mut answer).unwrap(), 0);
        assert!(answer.columns.is_empty());
    }
    said.extend(asked(
        url,
        &[
            "SELECT sum(endpointinfo), max(socket), min(created), count(destroyed) FROM netinfo",
            "SELECT created, destroyed, sourceport, destfqdn FROM netinfo ORDER BY endpointinfo",
            "WITH n AS (SELECT endpointinfo AS k FROM netinfo) SELECT max(k) FROM n",
            "(SELECT 1)",
        ]
        .into_iter()
        .filter(|q| !q.starts_with('(') || !matches!(url, StoreUrl::Sqlite(_)))
        .collect::<Vec<_>>(),
    ));
    if !matches!(url, StoreUrl::Sqlite(_)) {
        let extra = said.split_off(said.len() - 2);
        assert_eq!(extra, ["(SELECT 1)", "1"]);
    }
    said
}

/// No statement writes, whatever it is.
pub(super) fn writes(url: &StoreUrl) -> Vec<String> {
    let _writer = with(url, vec![endpoint(1).into()]);
    for host in [None, Some("alpha")] {
        let mut reader = Reader::open(url).unwrap();
        if let Some(host) = host {
            reader.use_host(host).unwrap();
        }
        for statement in [
            "INSERT INTO lossinfo (host, lossid) VALUES (1, 1)",
            "UPDATE netinfo SET username = 'root'",
            "DELETE FROM netinfo",
            "DELETE FROM luarmhost",
            "DROP TABLE netinfo",
            "TRUNCATE netinfo",
            "ALTER TABLE netinfo RENAME TO gone",
            "CREATE TABLE mine (x int)",
            "CREATE TEMPORARY TABLE mine (x int)",
            "CREATE DATABASE mine",
            "WITH x AS (SELECT 1) DELETE FROM netinfo",
            "WITH x AS (DELETE FROM netinfo RETURNING 1) SELECT * FROM x",
            "WITH x AS (DELETE FROM luarm.netinfo_stored RETURNING 1) SELECT * FROM x",
            "EXPLAIN ANALYZE DELETE FROM luarm.netinfo_stored",
            "ANALYZE DELETE FROM netinfo",
            "SELECT 1; DELETE FROM netinfo",
            "SELECT 1; COMMIT; DELETE FROM netinfo",
            "/* SELECT */ DELETE FROM netinfo -- SELECT",
            "/*! DELETE FROM netinfo */",
            "COMMIT",
            "ROLLBACK",
            "BEGIN",
            "START TRANSACTION READ WRITE",
            "SET TRANSACTION READ WRITE",
            "SET SESSION TRANSACTION READ WRITE",
            "SET STATEMENT tx_read_only = 0 FOR DELETE FROM netinfo",
            "SET transaction_read_only = off",
            "SELECT set_config('transaction_read_only', 'off', false)",
            "SELECT * FROM netinfo INTO OUTFILE '/tmp/luarm-out'",
            "SELECT 1 INTO mine",
            "/*! SELECT 1 INTO OUTFILE '/tmp/luarm-out' */",
            "COPY netinfo TO PROGRAM 'id'",
            "DO 1",
            "CALL mine()",
            "LOCK TABLES netinfo WRITE",
            "FLUSH TABLES",
            "KILL 1",
            "GRANT ALL ON *.* TO x",
            "PREPARE x FROM 'DELETE FROM netinfo'",
            "EXECUTE IMMEDIATE 'DELETE FROM netinfo'",
            "HANDLER netinfo OPEN",
            "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE netinfo",
            "SELECT nextval('luarm.luarmhost_host_seq')",
        ] {
            let error = match ask(&mut reader, statement) {
                // A comment is nothing to those who do not run it.
                Ok(rows) => {
                    assert!(
                        statement.starts_with("/*!") && !matches!(url, StoreUrl::Mysql(_)),
                        "{statement}: {rows:?}"
                    );
                    continue;
                }
                Err(error) => error,
            };
            assert!(
                matches!(error, QueryError::Refused(_) | QueryError::Statement(_)),
                "{statement}: {error}"
            );
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        assert_eq!(ask(&mut reader, "SELECT username FROM netinfo").unwrap(), ["nobody"]);
    }
    asked(url, &["SELECT count(*) FROM netinfo", "SELECT count(*) FROM lossinfo"])
}

pub(super) fn interrupt(url: &StoreUrl) -> Vec<String> {
    drop(with(url, (1..=300).map(|n| endpoint(n).into()).collect()));
    let mut reader = Reader::open(url).unwrap();
    reader.use_host("alpha").unwrap();
    let interrupt = reader.interrupt();
    let (done, finished) = channel::<()>();
    // An interrupt that comes before the query began ends nothing, so it is repeated.
    let interrupting = std::thread::spawn(move || {
        while finished.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let endless = "SELECT count(*) FROM netinfo a, netinfo b, netinfo c, netinfo d, netinfo e WHERE a.pid + b.pid + c.pid + d.pid + e.pid = 1";
    let error = ask(&mut reader, endless).unwrap_err();
    drop(done);
    interrupting.join().unwrap();
    assert!(matches!(error, QueryError::Interrupted), "{error}");
    for _ in 0..5 {
        assert_eq!(ask(&mut reader, "SELECT count(*) FROM netinfo").unwrap(), ["300"]);
    }
    Vec::new()
}

/// An answer whose taker gives up half way leaves the reader of use.
pub(super) fn long(url: &StoreUrl) -> Vec<String> {
    struct Enough(u32);
    impl luarm_store::RowSink for Enough {
        fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
            Ok(())
        }
        fn row(&mut self, _: &[luarm_store::Cell<'_>]) -> std::io::Result<()> {
            self.0 += 1;
            if self.0 == 1000 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        }
    }
    drop(with(url, (1..=3000).map(|n| endpoint(n).into()).collect()));
    let mut reader = Reader::open(url).unwrap();
    reader.use_host("alpha").unwrap();
    if !matches!(url, StoreUrl::Sqlite(_)) {
        let much = "SELECT repeat('x', 1000) FROM netinfo a, netinfo b LIMIT 200000";
        let mut memory = Memory { begun: resident(), most: 0, rows: 0 };
        assert_eq!(reader.query(much, &mut memory).unwrap(), 200_000);
        let grown = memory.most.saturating_sub(memory.begun);
        assert!(grown < 64 << 20, "an answer of 200 MB took {grown} bytes");
    }
    let cross = "SELECT a.endpointinfo, b.application FROM netinfo a, netinfo b";
    let error = reader.query(cross, &mut Enough(0)).unwrap_err();
    assert!(matches!(error, QueryError::Output(_)), "{error}");
    // Still the chosen host's tables.
    let mut writer = opened(url);
    writer.append(&endpoints(2, [4000])).unwrap();
    asked(url, &["SELECT count(*) FROM netinfo"]);
    ask(&mut reader, "SELECT count(*), min(hostname) FROM netinfo, hostinfo").unwrap()
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Watches the memory while an answer passes.
struct Memory {
    begun: usize,
    most: usize,
    rows: u32,
}

impl luarm_store::RowSink for Memory {
    fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
        Ok(())
    }

    fn row(&mut self, _: &[luarm_store::Cell<'_>]) -> std::io::Result<()> {
        self.rows += 1;
        if self.rows.is_multiple_of(5000) {
            self.most = self.most.max(resident());
        }
        Ok(())
    }
}

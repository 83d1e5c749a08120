//! The same batches into all three stores, and the same answers out of them: what SQLite says is what the others have to say.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use luarm_schema::{
    End, HostName, Row, TABLES,
    escape::escape,
    tables::{CoverageInfo, GroupInfo, LossInfo, RetentionInfo},
};
use luarm_store::{
    Certified, Claim, HostIdentity, Ledger, QueryError, Reader, Registry, Scope, StoreError, StoreUrl, Token,
    Writer,
};

use crate::{append::process, fixture::*, servers::Stores};

type Case = fn(&StoreUrl) -> Vec<String>;

const CASES: [(&str, Case); 15] = [
    ("remembered", remembered),
    ("once", once),
    ("refused", refused),
    ("ends", ends),
    ("hostile", hostile),
    ("tables", tables),
    ("hosts", hosts),
    ("seed", seed),
    ("kinds", kinds),
    ("writes", writes),
    ("interrupt", interrupt),
    ("long", long),
    ("deliveries", deliveries),
    ("at_once", at_once),
    ("registered", registered),
];

#[test]
fn three_stores_give_the_same_answers() {
    let Some(stores) = Stores::start("three_stores_give_the_same_answers") else {
        return;
    };
    for (name, case) in CASES {
        let mut wanted: Option<Vec<String>> = None;
        for (engine, url) in stores.each(&format!("case_{name}")) {
            eprintln!("{name} on {engine}");
            let said = case(&url);
            let wanted = wanted.get_or_insert_with(|| said.clone());
            assert_eq!(&said, wanted, "{name} on {engine}");
        }
    }
}

fn asked(url: &StoreUrl, questions: &[&str]) -> Vec<String> {
    let mut reader = Reader::open(url).unwrap();
    let all = questions.iter().flat_map(|question| {
        let rows = ask(&mut reader, question).unwrap_or_else(|e| panic!("{question}: {e}"));
        [vec![(*question).to_owned()], rows].concat()
    });
    all.collect()
}

fn opened(url: &StoreUrl) -> Writer {
    Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap().0
}

/// A store with the host `alpha` and further rows in batch 1.
fn with(url: &StoreUrl, rows: Vec<Row>) -> Writer {
    let mut writer = opened(url);
    let rows = [vec![host(MACHINE, "alpha", 1)], rows].concat();
    assert_eq!(writer.append(&batch(1, rows, Vec::new())).unwrap(), []);
    writer
}

fn group(key: i64, name: &str) -> Row {
    GroupInfo {
        groupentity: key,
        groupname: name.to_owned(),
        gid: 7,
        members: "a,b\\x0a".to_owned(),
        origin: "found".into(),
        created: at(key),
        end: None,
    }
    .into()
}

fn remembered(url: &StoreUrl) -> Vec<String> {
    let (mut writer, resume) = Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap();
    assert_eq!(resume, luarm_schema::Resume::default());
    assert_eq!(writer.last_batch().unwrap(), 0);
    let mut inward = endpoint(12);
    inward.direction = "in".into();
    let mut over = endpoint(14);
    over.end = Some(endpoint_end(at(20)));
    let coverage = CoverageInfo {
        coverageid: 5,
        class: "process".into(),
        state: "watched".into(),
        sensor: "ebpf".into(),
        hook: None,
        reason: None,
        created: at(0),
        end: None,
    };
    let rows = vec![
        host(MACHINE, "alpha", 1),
        process(7, "/usr/bin/perl", None).into(),
        endpoint(11).into(),
        inward.into(),
        over.into(),
        coverage.into(),
        group(3, "w\u{1f427}\u{e9}"),
    ];
    writer.append(&batch(1, rows, Vec::new())).unwrap();
    writer
        .append(&batch(2, vec![endpoint(15).into()], vec![(11, End::NetInfo(endpoint_end(at(30))))]))
        .unwrap();
    let appended = format!("{:?}", writer.appended());
    drop(writer);
    let (mut writer, resume) = Writer::open(url, MACHINE).unwrap();
    assert_eq!(writer.last_batch().unwrap(), 2);
    assert_eq!(resume.last_batch, Some((2, at(3))));
    assert_eq!(resume.conditions, [group(3, "w\u{1f427}\u{e9}")]);
    vec![appended, format!("{resume:?}")]
}

fn once(url: &StoreUrl) -> Vec<String> {
    let mut writer = with(url, Vec::new());
    let second = endpoints(2, 1..=3);
    writer.append(&second).unwrap();
    writer.append(&second).unwrap();
    let mut unsigned = endpoints(3, 4..=5);
    unsigned.rows.pop();
    let other = host("another machine", "alpha", 2);
    let wrong = [
        endpoints(4, 4..=5),
        endpoints(2, 1..=2),
        unsigned,
        batch(3, vec![other], Vec::new()),
        endpoints(1 << 40, [1]),
        endpoints(0, [1]),
        endpoints(-1, [1]),
    ];
    let mut said: Vec<String> = wrong
        .iter()
        .map(|batch| {
            let error = writer.append(batch).unwrap_err();
            assert!(!error.is_transient(), "{error}");
            error.to_string()
        })
        .collect();
    let mut second_writer = opened(url);
    second_writer.append(&second).unwrap();
    second_writer.append(&endpoints(3, 7..=9)).unwrap();
    assert!(matches!(writer.append(&endpoints(3, 10..=13)), Err(StoreError::Conflict { id: 3 })));
    writer.append(&endpoints(4, 10..=12)).unwrap();
    assert_eq!(writer.appended().batches, 3);
    said.extend(asked(url, &["SELECT count(*), max(batch) FROM netinfo", "SELECT count(*) FROM batchinfo"]));
    said
}

fn refused(url: &StoreUrl) -> Vec<String> {
    let mut writer = with(url, Vec::new());
    writer.append(&endpoints(2, 1..=3)).unwrap();
    let mut said = Vec::new();
    // One key that is there, one twice, many at once; and a table that no host may write.
    said.push(format!("{:?}", writer.append(&endpoints(3, [4, 2, 5])).unwrap()));
    said.push(format!("{:?}", writer.append(&endpoints(4, [6, 7, 6, 8])).unwrap()));
    said.push(format!("{:?}", writer.append(&endpoints(5, (1..=8).chain(100..300).chain([3, 7]))).unwrap()));
    let forged = RetentionInfo {
        retentionid: 1,
        tablename: "psinfo".into(),
        beforekey: i64::MAX,
        beforetime: at(1),
        rowcount: 1,
        keptcount: 0,
        firstbatch: 1,
        lastbatch: 2,
        created: at(1),
        end: None,
    };
    said.push(format!(
        "{:?}",
        writer.append(&batch(6, vec![forged.into(), endpoint(400).into()], Vec::new())).unwrap()
    ));
    said.push(format!("{:?}", writer.appended()));
    said.extend(asked(
        url,
        &[
            "SELECT endpointinfo, batch FROM netinfo WHERE endpointinfo < 100 ORDER BY endpointinfo",
            "SELECT count(*), max(batch), count(DISTINCT endpointinfo) FROM netinfo",
            "SELECT count(*) FROM retentioninfo",
        ],
    ));
    said
}

fn ends(url: &StoreUrl) -> Vec<String> {
    let mut writer = with(url, (1..=50).map(|n| endpoint(n).into()).collect());
    let end = |n| End::NetInfo(endpoint_end(at(n)));
    let mut hostile = endpoint_end(at(90));
    hostile.ended = "nul\0 'x'\t\\N\n".into();
    hostile.bytessent = Some(i64::MAX);
    hostile.result = None;
    let ends = vec![(1, end(50)), (1, end(60)), (99, end(70)), (2, End::NetInfo(hostile)), (60, end(80))];
    writer.append(&batch(2, vec![endpoint(60).into()], ends)).unwrap();
    let many = (1..=50).map(|n| (n, end(100 + n))).collect();
    writer.append(&batch(3, Vec::new(), many)).unwrap();
    let mut said = vec![format!("{:?}", writer.appended())];
    said.extend(asked(
        url,
        &[
            "SELECT destroyed, batch, dbatch, dhour FROM netinfo ORDER BY endpointinfo",
            "SELECT bytessent, packetssent, result FROM netinfo WHERE endpointinfo <= 3 ORDER BY endpointinfo",
        ],
    ));
    said.push(
        ask(&mut Reader::open(url).unwrap(), "SELECT ended FROM netinfo WHERE endpointinfo = 2").unwrap()[0]
            .replace('\0', "\\x00"),
    );
    said
}

fn hostile(url: &StoreUrl) -> Vec<String> {
    let texts: Vec<Vec<u8>> = vec![
        b"'); DROP TABLE psinfo; --".to_vec(),
        b"a'b\"c`d;\n\t\r\x1b[2J\x1a\x08".to_vec(),
        b"\xff\xfe\x80 no utf-8 \xc3".to_vec(),
        b"nul\0inside".to_vec(),
        b"".to_vec(),
        b"\\N".to_vec(),
        b"\\".to_vec(),
        b"trailing  ".to_vec(),
        "\u{202e}gnp.exe \u{1f427}\u{10ffff}".as_bytes().to_vec(),
        vec![b'A'; 2 << 20],
    ];
    let rows = texts
        .iter()
        .zip(1..)
        .map(|(text, key)| process(key, &escape(text), Some(escape(text))).into())
        .collect();
    drop(with(url, rows));
    let mut reader = Reader::open(url).unwrap();
    for (text, key) in texts.iter().zip(1..) {
        let rows = ask(&mut reader, &format!("SELECT command FROM psinfo WHERE psentity = {key}")).unwrap();
        assert_eq!(luarm_schema::escape::unescape(&rows[0]), *text);
    }
    asked(
        url,
        &[
            "SELECT count(*) FROM psinfo",
            "SELECT DISTINCT imageinode FROM psinfo",
            "SELECT md5sum, created, destroyed, cyear, cmonth, cday, chour, cmin, csec, dyear, arguments FROM psinfo \
             WHERE psentity < 10 ORDER BY psentity",
        ],
    )
}

/// Every table can be asked, and has its columns.
fn tables(url: &StoreUrl) -> Vec<String> {
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

fn hosts(url: &StoreUrl) -> Vec<String> {
    // Both are opened before either has stored anything.
    let mut alpha = opened(url);
    let own = HostIdentity::own("beta-machine", "beta");
    let (mut beta, _) = Writer::open_for(url, &own).unwrap();
    alpha.append(&batch(1, vec![host(MACHINE, "alpha", 1), endpoint(1).into()], Vec::new())).unwrap();
    beta.append(&batch(1, vec![host("beta-machine", "beta", 1), endpoint(1).into()], Vec::new())).unwrap();
    beta.append(&endpoints(2, 2..=4)).unwrap();
    // An end of one host's never meets a row of the other's.
    let end = vec![(1, End::NetInfo(endpoint_end(at(50))))];
    beta.append(&batch(3, Vec::new(), end)).unwrap();
    let mut reader = Reader::open(url).unwrap();
    let mut said: Vec<String> = reader.hosts().unwrap().into_iter().map(|h| format!("{h:?}")).collect();
    let count = "SELECT count(*), count(destroyed) FROM netinfo";
    reader.use_host("beta").unwrap();
    said.extend(ask(&mut reader, count).unwrap());
    said.extend(ask(&mut reader, "SELECT hostname FROM hostinfo").unwrap());
    said.extend(ask(&mut reader, "SELECT count(*) FROM batchinfo").unwrap());
    assert_eq!(reader.use_host(MACHINE).unwrap().number, 1);
    said.extend(ask(&mut reader, count).unwrap());
    said.extend(reader.hosts().unwrap().into_iter().map(|h| h.name));
    said.extend(ask(&mut reader, count).unwrap());
    reader.use_all().unwrap();
    said.extend(ask(&mut reader, count).unwrap());
    said.push(reader.use_host("gamma").unwrap_err().to_string());
    said.extend(ask(&mut reader, count).unwrap());
    said
}

fn seed(url: &StoreUrl) -> Vec<String> {
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

fn kinds(url: &StoreUrl) -> Vec<String> {
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
fn writes(url: &StoreUrl) -> Vec<String> {
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

fn interrupt(url: &StoreUrl) -> Vec<String> {
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
fn long(url: &StoreUrl) -> Vec<String> {
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

fn machine(n: u32) -> String {
    format!("{n:032x}")
}

/// Many hosts over one connection, as a server has it.
fn deliveries(url: &StoreUrl) -> Vec<String> {
    let mut registry = Registry::open(url).unwrap();
    let mut ledger = Ledger::open(url).unwrap();
    let of = |n: u32| HostIdentity::enrolled(&machine(n), &format!("host{n}"));
    for n in 0..5 {
        let name = format!("host{n}");
        assert_eq!(registry.claim(&machine(n), &name).unwrap(), Claim::Granted);
        assert_eq!(ledger.last_batch(&of(n)).unwrap(), 0);
        let rows = vec![host(&machine(n), &name, 1), endpoint(7).into()];
        ledger.append(&of(n), &batch(1, rows, Vec::new())).unwrap();
    }
    let rows = vec![host(&machine(3), "host3", 1), endpoint(7).into()];
    ledger.append(&of(3), &batch(1, rows, Vec::new())).unwrap();
    let mut said = Vec::new();
    for wrong in [
        batch(1, vec![host(&machine(3), "host3", 1)], Vec::new()),
        endpoints(3, [9]),
        batch(2, vec![host(&machine(2), "host2", 2)], Vec::new()),
    ] {
        said.push(ledger.append(&of(3), &wrong).unwrap_err().to_string());
    }
    assert_eq!(ledger.last_batch(&of(3)).unwrap(), 1);
    let mut reader = Reader::open(url).unwrap();
    reader.use_host("host3").unwrap();
    said.extend(ask(&mut reader, "SELECT hostname, machineid FROM hostinfo").unwrap());
    said.extend(asked(url, &["SELECT count(*), count(DISTINCT host) FROM netinfo"]));
    said
}

/// Two writers for each host: both send everything, and each batch is stored once.
fn at_once(url: &StoreUrl) -> Vec<String> {
    const HOSTS: u32 = 3;
    Ledger::open(url).unwrap();
    let threads: Vec<_> = (0..2 * HOSTS)
        .map(|n| {
            let (url, machine) = (url.clone(), machine(n % HOSTS));
            std::thread::spawn(move || {
                let mut ledger = Ledger::open(&url).unwrap();
                let identity = HostIdentity::enrolled(&machine, &machine);
                for id in 1..=15 {
                    let first = (id == 1).then(|| host(&machine, &machine, 1));
                    let rows = first.into_iter().chain([endpoint(id).into()]).collect();
                    let batch = batch(id, rows, Vec::new());
                    while let Err(error) = ledger.append(&identity, &batch) {
                        assert!(error.is_transient(), "{error}");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    asked(
        url,
        &[
            "SELECT count(*), sum(n), min(f), max(l) FROM (SELECT count(*) AS n, min(batchid) AS f, max(batchid) AS l FROM batchinfo \
             GROUP BY host) AS b",
            "SELECT count(*) FROM netinfo",
        ],
    )
}

/// Tokens, names and certificates.
fn registered(url: &StoreUrl) -> Vec<String> {
    let mut registry = Registry::open(url).unwrap();
    let token = |id: &str, expires| Token {
        id: id.to_owned(),
        hash: format!("hash of {id}"),
        expires: at(expires),
        name: (id == "b").then(|| "only this".to_owned()),
    };
    registry.add_token(&token("a", 10), at(0)).unwrap();
    registry.add_token(&token("b", 20), at(0)).unwrap();
    registry.add_token(&Token { hash: "other".to_owned(), ..token("a", 99) }, at(0)).unwrap();
    assert_eq!(registry.token("a").unwrap(), Some(token("a", 10)));
    assert_eq!(registry.token("b").unwrap(), Some(token("b", 20)));
    assert_eq!(registry.token("c").unwrap(), None);
    assert!(!registry.use_token("c", "key").unwrap());
    let mut elsewhere = Registry::open(url).unwrap();
    assert!(registry.use_token("a", "key").unwrap() && registry.use_token("a", "key").unwrap());
    assert!(!elsewhere.use_token("a", "other key").unwrap());
    let month = 30 * 86_400_000_000;
    registry.add_token(&token("new", month), at(month)).unwrap();
    assert_eq!(registry.token("a").unwrap(), None);

    let hostile = "a'; DROP TABLE luarm_enrolled; --";
    for name in ["alpha", hostile] {
        let machine = format!("machine of {name}");
        assert_eq!(registry.claim(&machine, name).unwrap(), Claim::Granted);
        assert_eq!(registry.claim(&machine, name).unwrap(), Claim::Had);
        assert_eq!(registry.claim(&machine, "beta").unwrap(), Claim::Known { name: name.to_owned() });
        assert_eq!(registry.claim("another", name).unwrap(), Claim::Taken);
    }
    registry.unclaim("machine of alpha").unwrap();
    assert_eq!(registry.claim("another", "alpha").unwrap(), Claim::Granted);
    let certified = Certified {
        fingerprint: "f1".to_owned(),
        machine_id: "another".to_owned(),
        name: "alpha".to_owned(),
        public_key: "key".to_owned(),
        expires: at(1000),
        revoked: false,
    };
    registry.add_certificate(&certified, at(0)).unwrap();
    assert_eq!(elsewhere.certificate("f1").unwrap(), Some(certified.clone()));
    assert!(registry.has_key("another", "key").unwrap() && !registry.has_key("another", "").unwrap());
    assert_eq!(registry.revoke("gamma", at(1)).unwrap(), None);
    assert_eq!(registry.revoke("alpha", at(1)).unwrap(), Some(1));
    assert_eq!(registry.revoke("another", at(1)).unwrap(), Some(0));
    assert_eq!(elsewhere.certificate("f1").unwrap(), Some(Certified { revoked: true, ..certified }));
    let mut reader = Reader::open(url).unwrap();
    for query in [
        "SELECT * FROM luarm_token",
        "SELECT count(*) FROM LUARM_ENROLLED",
        "SELECT 1 FROM luarm_certificate",
    ] {
        assert!(matches!(ask(&mut reader, query), Err(QueryError::Refused(_))), "{query}");
    }
    // Analysts stand apart from hosts of the same name, and see what was said and nothing else.
    let id = luarm_store::analyst_id("alpha");
    assert_eq!(registry.claim(&id, &id).unwrap(), Claim::Granted);
    assert_eq!(registry.analysts().unwrap(), ["alpha"]);
    assert_eq!(registry.scope(&id).unwrap(), Scope::Hosts(vec![]));
    let some = Scope::Hosts(vec!["alpha".to_owned(), "beta".to_owned()]);
    for scope in [&some, &Scope::All, &some] {
        registry.set_scope(&id, scope).unwrap();
        assert_eq!(registry.scope(&id).unwrap(), *scope);
    }
    // A token's is forgotten with the token.
    for (id, known) in [("new", true), ("a", false)] {
        registry.set_scope(id, &Scope::All).unwrap();
        registry.add_token(&token("newer", month), at(month)).unwrap();
        assert_eq!(registry.scope(id).unwrap() == Scope::All, known, "{id}");
    }
    assert_eq!(registry.scope(&id).unwrap(), some);
    registry.names().unwrap()
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

//! Agents and servers as processes: joining, delivering, failing and coming back.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{fs, path::Path, process::Command};

use luarm_chain::{
    Head, VerifyingKey,
    verify::{Options, Progress, verify},
};
use luarm_store::{Evidence, StoreUrl};
use support::{Launch, Recording, complaint, has_ebpf, link::Site, luarm, programs, sleeper::Sleeper};

const POLL: &[&str] = &["--sensor", "poll"];

fn found(site: &Site, marker: &str) -> i64 {
    site.count(&format!("select count(*) from psinfo where arguments like '%{marker}'"))
}

/// No batch is missing, none is there twice, and every row belongs to one that is there.
fn ledger_is_whole(site: &Site, host: &str) {
    let of = format!("host = (select host from hostinfo where hostname = '{host}' limit 1)");
    let rows = site
        .sql(&format!("select count(*) n, min(batchid) first, max(batchid) last from batchinfo where {of}"));
    assert_eq!((&rows[0]["first"], &rows[0]["n"]), (&1.into(), &rows[0]["last"]));
    let claimed = site.count(&format!("select sum(rowcount) + count(*) from batchinfo where {of}"));
    let tables =
        site.sql("select name from sqlite_schema where name like '%info_stored' or name like 'net%_stored'");
    let stored: i64 = tables
        .iter()
        .map(|table| table["name"].as_str().unwrap().trim_end_matches("_stored"))
        .map(|table| site.count(&format!("select count(*) from {table} where {of}")))
        .sum();
    assert_eq!(stored, claimed, "rows and what the ledger says of them");
    chain_is_whole(site);
}

/// Every batch is signed by the key that the one before it names, and by the server, and every row is what was sealed.
fn chain_is_whole(site: &Site) {
    let believed = fs::read_to_string(site.data().join("server/notary.pub")).unwrap();
    let key = VerifyingKey::from_bytes(&luarm_chain::decode(believed.trim_end()).unwrap()).unwrap();
    let url = StoreUrl::parse(&site.store()).unwrap();
    let options = Options { keys: vec![key], threads: 2, ..Options::default() };
    let report = verify(&|| Ok(Evidence::open(&url)?), &options, &Progress::default()).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings.iter().take(5).collect::<Vec<_>>());
    for host in &report.hosts {
        assert!(host.batches > 0);
        assert_eq!((host.signatures, host.receipts), (host.batches, host.batches), "{}", host.name);
    }
}

#[test]
fn what_happens_on_a_host_is_in_its_servers_store() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    // Before the server ever ran: it finds the token when it starts.
    let token = site.token(&[]);
    assert!(token.starts_with("luarm1.") && token.lines().count() == 1, "{token}");
    let server = site.serve(&[]);
    let data = dir.path().join("penguin");
    let output = site.try_join(&data, "penguin", &token);
    assert!(output.status.success(), "{}", complaint(&output));
    let output = site.try_join(&dir.path().join("other"), "other", &token);
    assert!(complaint(&output).contains("used before"), "{}", complaint(&output));
    let agent = Launch::agent(&data).with(POLL).start();
    let sleeper = Sleeper::start("first-marker");
    agent.sync();
    assert_eq!(found(&site, "first-marker"), 1);
    drop(sleeper);
    assert_eq!(site.sql("select distinct hostname from hostinfo")[0]["hostname"], "penguin");
    let status = agent.ask("status", &["--format", "csv"]);
    let status = String::from_utf8(status.stdout).unwrap();
    for item in [&format!("connected,{}", site.url())[..], "trouble,none", "spool limit,1073741824"] {
        assert!(status.contains(item), "{item} in {status}");
    }
    assert!(agent.stop().success());
    assert!(server.stop().success());
    ledger_is_whole(&site, "penguin");
    // Both sides kept the head of what they have, which is the same; the server's is signed by it, too.
    let head = |file: &Path| Head::read(&fs::read_to_string(file).unwrap()).unwrap();
    let (own, theirs) =
        (head(&data.join("heads/penguin.json")), head(&site.data().join("server/heads/penguin.json")));
    assert_eq!((own.batch, &own.digest, &own.publickey), (theirs.batch, &theirs.digest, &theirs.publickey));
    assert_eq!((own.receipt.is_some(), theirs.receipt.is_some()), (false, true));
    assert_eq!(site.count("select max(batchid) from batchinfo"), own.batch);
    assert_eq!(site.count("select count(*) from coverageinfo where destroyed is null"), 0);
    // What an analyst has no business to see.
    let output = luarm(&["sql", "--store", &site.store(), "-e", "select * from luarm_token"]);
    assert!(!output.status.success() && !complaint(&output).contains("usedby"));
}

#[test]
fn an_agent_starts_without_its_server_and_delivers_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let server = site.serve(&[]);
    let data = dir.path().join("penguin");
    site.join(&data, "penguin");
    assert!(server.stop().success());
    let agent = Launch::agent(&data).with(POLL).start();
    let _sleeper = Sleeper::start("while-it-was-away");
    agent.wait_for("nothing is delivered: cannot reach");
    assert_eq!(agent.ask("sync", &["--timeout", "0.5"]).status.code(), Some(1));
    agent.wait_until("waiting batches", |n| n > 0);
    // Killed and started again without it, too: it knows what is open from its own spool.
    agent.kill();
    let agent = Launch::agent(&data).with(POLL).start();
    let server = site.serve(&[]);
    agent.sync();
    assert_eq!(found(&site, "while-it-was-away"), 1);
    assert_eq!(
        site.count("select count(*) from coverageinfo where class = 'all' and state = 'gap'"),
        1,
        "the time between is a gap"
    );
    let open = "select count(*) from psinfo where arguments like '%while-it-was-away' and destroyed is null";
    assert_eq!(site.count(open), 1);
    assert!(agent.stop().success());
    drop(server);
    ledger_is_whole(&site, "penguin");
}

#[test]
fn a_revoked_host_delivers_nothing_more_and_records_on() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let server = site.serve(&[]);
    let agent = site.agent("penguin", POLL);
    agent.sync();
    let output = site.revoke("pinguin");
    assert!(complaint(&output).contains("these have: penguin") && output.status.code() == Some(1));
    assert!(site.revoke("penguin").status.success());
    agent.wait_for("the certificate of penguin was revoked");
    let _sleeper = Sleeper::start("after-the-revocation");
    assert_eq!(agent.ask("sync", &["--timeout", "1"]).status.code(), Some(1));
    assert_eq!(found(&site, "after-the-revocation"), 0);
    server.wait_for("refused penguin");
    // It may come back by a token that says so, and brings what it recorded meanwhile.
    let data = agent.data().to_owned();
    assert!(agent.stop().success());
    let output = site.try_join(&data, "penguin", &site.token(&[]));
    assert!(complaint(&output).contains("token made for it"), "{}", complaint(&output));
    let output = site.try_join(&data, "penguin", &site.token(&["--host", "penguin"]));
    assert!(output.status.success(), "{}", complaint(&output));
    let agent = Launch::agent(&data).with(POLL).start();
    agent.sync();
    assert_eq!(found(&site, "after-the-revocation"), 1);
    assert!(agent.stop().success());
    ledger_is_whole(&site, "penguin");
}

#[test]
fn a_certificate_is_renewed_before_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let server = site.serve(&["--certificates", "15s"]);
    let agent = site.agent("penguin", POLL);
    agent.sync();
    agent.wait_for("this host has a new certificate");
    server.wait_for("penguin has a new certificate");
    // Well past the end of the first one.
    std::thread::sleep(std::time::Duration::from_secs(16));
    let _sleeper = Sleeper::start("with-the-new-one");
    agent.sync();
    assert_eq!(found(&site, "with-the-new-one"), 1);
}

#[test]
fn a_second_agent_on_a_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let _server = site.serve(&[]);
    let agent = site.agent("penguin", POLL);
    let data = agent.data().to_str().unwrap().to_owned();
    for verb in ["agent", "run"] {
        let output = luarm(&[verb, "--data", &data]);
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains(&format!("(pid {})", agent.pid())), "{}", complaint(&output));
    }
    let output = luarm(&["agent", "--data", dir.path().join("elsewhere").to_str().unwrap()]);
    assert!(complaint(&output).contains("luarm enroll join https://"), "{}", complaint(&output));
}

#[test]
fn a_server_restored_from_a_backup_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let server = site.serve(&[]);
    let agent = site.agent("penguin", POLL);
    agent.sync();
    assert!(server.stop().success());
    let store = dir.path().join("store.db");
    let backup = dir.path().join("backup.db");
    fs::copy(&store, &backup).unwrap();
    let server = site.serve(&[]);
    let sleeper = Sleeper::start("lost-by-the-server");
    agent.sync();
    drop(sleeper);
    assert!(server.stop().success());
    for tail in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.path().join(format!("store.db{tail}")));
    }
    fs::copy(&backup, &store).unwrap();
    let _server = site.serve(&[]);
    agent.wait_for("was its store restored from a backup?");
    // It does not pretend.
    assert_eq!(agent.ask("sync", &["--timeout", "1"]).status.code(), Some(1));
    assert_eq!(found(&site, "lost-by-the-server"), 0);
}

#[test]
fn two_servers_share_a_store_and_an_agent_takes_the_one_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let (one, two) = (site.serve(&[]), site.serve_at("127.0.0.1:0", &[]));
    let urls = [&one.address, &two.address].map(|address| format!("https://{address}"));
    let penguin = site.agent("penguin", &["--sensor", "poll", "--server", &urls[0], "--server", &urls[1]]);
    penguin.sync();
    one.kill();
    let _sleeper = Sleeper::start("after-the-first-died");
    penguin.sync();
    assert_eq!(found(&site, "after-the-first-died"), 1);
    assert!(two.stop().success());
    let one = site.serve(&[]);
    penguin.sync();
    assert!(penguin.stop().success());
    drop(one);
    ledger_is_whole(&site, "penguin");
}

/// Runs a program that exits, each time with another argument; gives how often.
fn storm(program: &Path, name: &str, count: usize) {
    for n in 0..count {
        assert!(Command::new(program).args(["0", &format!("{name}-{n}")]).status().unwrap().success());
    }
}

/// The rows of a storm, and of how many programs. By the program as well: others may run storms of the same names.
fn rows_of(site: &Site, program: &Path, name: &str) -> (i64, i64) {
    let rows = site.sql(&format!(
        "select count(*) n, count(distinct arguments) d from psinfo where command = '{}' and arguments like '% {name}-%'",
        program.display()
    ));
    (rows[0]["n"].as_i64().unwrap(), rows[0]["d"].as_i64().unwrap())
}

#[test]
fn a_server_killed_over_and_over_in_a_storm_costs_no_row() {
    if !has_ebpf() {
        return;
    }
    const ROUNDS: usize = 20;
    const EACH: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let program = programs::exit_program(dir.path());
    let site = Site::new(dir.path());
    let mut server = site.serve(&[]);
    let agent = site.agent("penguin", &[]);
    for round in 0..ROUNDS {
        let name = format!("round{round}");
        let (program, storming) = (program.clone(), name.clone());
        let storm = std::thread::spawn(move || storm(&program, &storming, EACH));
        server.kill();
        server = site.serve(&[]);
        storm.join().unwrap();
    }
    agent.sync();
    for round in 0..ROUNDS {
        assert_eq!(
            rows_of(&site, &program, &format!("round{round}")),
            (EACH as i64, EACH as i64),
            "round {round}"
        );
    }
    // Programs of others on this machine, removed before their digest is made, are none of this.
    let lost = "select * from lossinfo where class <> 'image-digest'";
    assert_eq!(site.sql(lost), Vec::<support::Row>::new());
    assert!(agent.stop().success());
    ledger_is_whole(&site, "penguin");
}

#[test]
fn an_agent_killed_in_a_storm_keeps_what_it_acknowledged_once() {
    if !has_ebpf() {
        return;
    }
    const ROUNDS: usize = 8;
    const EACH: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let program = programs::exit_program(dir.path());
    let site = Site::new(dir.path());
    let _server = site.serve(&[]);
    let mut agent = site.agent("penguin", &[]);
    let data = agent.data().to_owned();
    for round in 0..ROUNDS {
        storm(&program, &format!("sure{round}"), EACH);
        agent.sync();
        let doomed = program.clone();
        let storm = std::thread::spawn(move || storm(&doomed, &format!("doomed{round}"), EACH));
        agent.kill();
        storm.join().unwrap();
        agent = Launch::agent(&data).start();
    }
    agent.sync();
    for round in 0..ROUNDS {
        assert_eq!(
            rows_of(&site, &program, &format!("sure{round}")),
            (EACH as i64, EACH as i64),
            "round {round}"
        );
        let (rows, distinct) = rows_of(&site, &program, &format!("doomed{round}"));
        assert!(rows == distinct && rows <= EACH as i64, "{rows} rows for {distinct} programs");
    }
    let gaps = "select count(*) from coverageinfo where class = 'all' and state = 'gap'";
    assert_eq!(site.count(gaps), ROUNDS as i64);
    assert!(agent.stop().success());
    ledger_is_whole(&site, "penguin");
}

/// What a full spool did to the rows of a load: those in the store, and those that are told of as lost.
struct Fate {
    stored: i64,
    lost: i64,
}

fn fate(site: &Site, stored: &str, lost: &str) -> Fate {
    let stored = site.count(&format!("select count(*) from {stored}"));
    let lost = site.count(&format!(
        "select coalesce(sum(count), 0) from lossinfo where cause = 'spool-full' and {lost}"
    ));
    Fate { stored, lost }
}

/// Opens a file to read it, again and again under other names, so that no two are told as one.
fn reads(dir: &Path, count: usize) {
    for n in 0..count {
        let name = dir.join(format!("read-{n}-{}", "x".repeat(180)));
        fs::hard_link(dir.join("original"), &name).unwrap();
    }
    for n in 0..count {
        fs::read(dir.join(format!("read-{n}-{}", "x".repeat(180)))).unwrap();
    }
}

fn fill(agent: &Recording, dir: &Path, until: i64) {
    let limit = 1 << 20;
    for round in 0.. {
        let busy = dir.join(format!("fill-{until}-{round}"));
        fs::create_dir(&busy).unwrap();
        for n in 0..400 {
            // Names that do not compress.
            let name: String = (0..60)
                .map(|k| char::from(b'a' + ((n * 7919 + k * 104_729 + round * 31 + n * k * k) % 26) as u8))
                .collect();
            let file = busy.join(format!("{n}-{name}"));
            fs::write(&file, "x").unwrap();
            fs::remove_file(&file).unwrap();
        }
        let bytes = agent.figure("spool bytes");
        if bytes >= limit / 100 * until {
            return;
        }
        assert!(round < 2000, "the spool has only {bytes} bytes");
    }
}

#[test]
fn a_full_spool_gives_up_reads_before_other_files_before_programs_and_counts_them() {
    if !has_ebpf() {
        return;
    }
    const READS: usize = 300;
    const PROGRAMS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("original"), "x").unwrap();
    let program = programs::exit_program(dir.path());
    let site = Site::new(dir.path());
    let server = site.serve(&[]);
    let data = dir.path().join("penguin");
    site.join(&data, "penguin");
    assert!(server.stop().success());
    let agent = Launch::agent(&data).with(&["--spool-limit", "1MiB"]).start();

    // While there is room everything is kept.
    fs::create_dir(files.join("early")).unwrap();
    fs::write(files.join("early/original"), "x").unwrap();
    reads(&files.join("early"), READS);
    // Then reads are given up, and later whatever else is done with files; programs stay.
    fill(&agent, dir.path(), 82);
    fs::create_dir(files.join("middle")).unwrap();
    fs::write(files.join("middle/original"), "x").unwrap();
    reads(&files.join("middle"), READS);
    fill(&agent, dir.path(), 91);
    storm(&program, "late", PROGRAMS);
    fs::write(files.join("late-write"), "x").unwrap();
    agent.wait_for("the spool is full or nearly so");

    let _server = site.serve(&[]);
    agent.sync();
    let early = fate(&site, "fileinfo where location like '%/files/early' and access = 'r'", "0 = 1");
    assert_eq!(early.stored, READS as i64);
    let middle = fate(
        &site,
        "fileinfo where location like '%/files/middle' and access = 'r'",
        "class = 'fileinfo' and note = 'reads'",
    );
    assert_eq!(middle.stored, 0);
    assert!(middle.lost >= READS as i64, "{} reads are told of as lost", middle.lost);
    assert_eq!(rows_of(&site, &program, "late"), (PROGRAMS as i64, PROGRAMS as i64));
    let others = fate(&site, "fileinfo where filename = 'late-write'", "class = 'fileinfo' and note is null");
    assert!(others.stored == 0 && others.lost > 0, "{} stored, {} lost", others.stored, others.lost);
    assert_eq!(fate(&site, "psinfo where 0 = 1", "class = 'psinfo'").lost, 0);
    assert!(agent.stop().success());
    ledger_is_whole(&site, "penguin");
}

//! Appending: every value comes back, every batch once.

use luarm_schema::{
    End, HostName, OpenEndpoint, OpenProcess, Row,
    escape::escape,
    tables::{CoverageInfo, HostInfoEnd, PsInfo},
};
use luarm_store::{Appended, Reader, Refused, StoreError, Writer};

use crate::fixture::*;

pub(crate) fn process(key: i64, command: &str, argv: Option<String>) -> PsInfo {
    PsInfo {
        psentity: key,
        ppsentity: Some(1),
        origin: "exec".into(),
        username: "nobody".into(),
        loginname: None,
        pid: 4_000_000,
        ppid: 8343,
        application: "perl".to_owned(),
        command: command.to_owned(),
        script: None,
        argv,
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
        imagemode: Some(0o100755),
        imagestate: None,
        imagesha256: None,
        execs: 2,
        canary: None,
        created: at(key),
        end: None,
    }
}

#[test]
fn the_store_remembers_what_has_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/luarm.db");
    let (mut writer, resume) = Writer::open(&url(&path), MACHINE).unwrap();
    assert_eq!(resume, luarm_schema::Resume::default());
    let mut inward = endpoint(12);
    inward.direction = "in".into();
    let mut listening = endpoint(13);
    listening.direction = "listen".into();
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
    let rows: Vec<Row> = vec![
        host(MACHINE, "alpha", 1),
        process(7, "/usr/bin/perl", None).into(),
        process(8, "/usr/bin/perl", None).into(),
        endpoint(11).into(),
        inward.into(),
        listening.into(),
        over.into(),
        coverage.into(),
    ];
    writer.append(&batch(1, rows, Vec::new())).unwrap();
    let mut other = endpoint(15);
    other.transport = "udp".into();
    writer.append(&batch(2, vec![other.into()], vec![(11, End::NetInfo(endpoint_end(at(30))))])).unwrap();
    assert_eq!(writer.appended(), Appended { batches: 2, rows: 11, ends: 1, unmatched: 0 });
    drop(writer);

    let (_, resume) = Writer::open(&url(&path), MACHINE).unwrap();
    assert_eq!(resume.last_batch, Some((2, at(3))));
    assert_eq!(resume.boot, Some(("boot-1".to_owned(), 1)));
    let open = |psentity| OpenProcess {
        psentity,
        ppsentity: Some(1),
        pid: 4_000_000,
        execs: 2,
        created: at(psentity),
    };
    assert_eq!(resume.processes, [open(7), open(8)]);
    let open =
        |endpointinfo: i64, transport: &str, direction: &str, peer: Option<(&str, u16)>| OpenEndpoint {
            endpointinfo,
            transport: transport.to_owned(),
            direction: direction.to_owned(),
            socket: endpointinfo.unsigned_abs(),
            peer: peer.map(|(ip, port)| (ip.to_owned(), port)),
        };
    assert_eq!(
        resume.endpoints,
        [
            open(12, "tcp", "in", Some(("10.0.0.1", 40_000))),
            open(13, "tcp", "listen", None),
            open(15, "udp", "out", Some(("79.125.109.171", 6667))),
        ]
    );
    assert_eq!(resume.coverage, [5]);
    assert_eq!(
        ask_file(
            &path,
            "SELECT destroyed, ended, result, bytesreceived, dhour, batch, dbatch FROM netinfo WHERE endpointinfo = 11"
        ),
        [format!("{}|close|0|34|8|1|2", at(30))]
    );
}

#[test]
fn resume_reads_no_ended_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, Vec::new()));
    for (table, key) in [("psinfo", "psentity"), ("netinfo", "endpointinfo"), ("coverageinfo", "coverageid")]
    {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT {key} FROM {table} WHERE host = 1 AND destroyed IS NULL ORDER BY {key}"
        );
        let plan = ask_file(&path, &sql);
        assert!(plan.len() == 1 && plan[0].contains(&format!("{table}_open")), "{plan:?}");
    }
}

#[test]
fn the_latest_boot_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut writer = store_with(&path, Vec::new());
    let end = End::HostInfo(HostInfoEnd { destroyed: at(9) });
    writer.append(&batch(2, vec![host(MACHINE, "alpha", 0)], vec![(1, end)])).unwrap();
    drop(writer);
    let (_, resume) = Writer::open(&url(&path), MACHINE).unwrap();
    assert_eq!(resume.boot, Some(("boot-0".to_owned(), 0)));
}

#[test]
fn a_batch_is_stored_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut writer = store_with(&path, Vec::new());
    let second = endpoints(2, 1..=3);
    writer.append(&second).unwrap();
    writer.append(&second).unwrap();
    assert!(matches!(writer.append(&endpoints(4, 4..=5)), Err(StoreError::Gap { last: 2, got: 4 })));
    let other = endpoints(2, 1..=2);
    assert!(matches!(writer.append(&other), Err(StoreError::Conflict { id: 2 })));
    let mut unsigned = endpoints(3, 4..=5);
    unsigned.rows.pop();
    assert!(matches!(writer.append(&unsigned), Err(StoreError::Unsigned { id: 3 })));
    assert_eq!(writer.appended().batches, 2);
    assert_eq!(ask_file(&path, "SELECT count(*), max(batch) FROM netinfo"), ["3|2"]);
}

#[test]
fn a_row_that_cannot_be_stored_is_named_and_the_rest_of_its_batch_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut writer = store_with(&path, Vec::new());
    assert_eq!(writer.append(&endpoints(2, 1..=3)).unwrap(), []);
    let refused = writer.append(&endpoints(3, [4, 2, 5])).unwrap();
    assert_eq!(refused, [Refused { table: "netinfo", key: 2, part: luarm_chain::Part::Begin }]);
    assert_eq!(
        ask_file(
            &path,
            "SELECT count(*), max(batch), (SELECT batch FROM netinfo WHERE endpointinfo = 2) FROM netinfo"
        ),
        ["5|3|2"]
    );
}

#[test]
fn an_end_without_its_row_is_counted_and_ends_are_set_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut writer = store_with(&path, vec![endpoint(1).into()]);
    let end = |n| End::NetInfo(endpoint_end(at(n)));
    writer.append(&batch(2, Vec::new(), vec![(1, end(50)), (1, end(60)), (99, end(70))])).unwrap();
    assert_eq!(writer.appended(), Appended { batches: 2, rows: 4, ends: 1, unmatched: 2 });
    assert_eq!(ask_file(&path, "SELECT destroyed FROM netinfo"), [at(50).to_string()]);
}

#[test]
fn hostile_texts_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let texts: Vec<Vec<u8>> = vec![
        b"'); DROP TABLE psinfo; --".to_vec(),
        b"a'b\"c`d;\n\t\r\x1b[2J".to_vec(),
        b"\xff\xfe\x80 no utf-8 \xc3".to_vec(),
        b"nul\0inside".to_vec(),
        b"".to_vec(),
        "\u{202e}gnp.exe \u{1f427}".as_bytes().to_vec(),
        vec![b'A'; 2 << 20],
    ];
    let rows = texts
        .iter()
        .zip(1..)
        .map(|(text, key)| process(key, &escape(text), Some(escape(text))).into())
        .collect();
    drop(store_with(&path, rows));
    for (text, key) in texts.iter().zip(1..) {
        let rows = ask_file(&path, &format!("SELECT command FROM psinfo WHERE psentity = {key}"));
        assert_eq!(luarm_schema::escape::unescape(&rows[0]), *text);
    }
    assert_eq!(ask_file(&path, "SELECT count(*) FROM psinfo"), ["7"]);
    assert_eq!(ask_file(&path, "SELECT DISTINCT imageinode FROM psinfo"), [i64::MAX.to_string()]);
}

#[test]
fn md5sum_is_that_of_the_canonical_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, vec![endpoint(1).into()]));
    let mut bytes = luarm_schema::canonical::Canonical::default();
    endpoint(1).begin(&mut bytes);
    let sum = luarm_schema::canonical::md5sum(&bytes.0);
    assert_eq!(ask_file(&path, "SELECT md5sum FROM netinfo")[0].as_bytes(), sum);
}

#[test]
fn each_computer_has_its_number_and_its_own_batches() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    // Both are opened before either is in the store.
    let (mut alpha, _) = Writer::open(&url(&path), MACHINE).unwrap();
    let (mut beta, _) = Writer::open(&url(&path), "beta-machine").unwrap();
    alpha.append(&batch(1, vec![host(MACHINE, "alpha", 1), endpoint(1).into()], Vec::new())).unwrap();
    beta.append(&batch(1, vec![host("beta-machine", "beta", 1), endpoint(1).into()], Vec::new())).unwrap();
    beta.append(&endpoints(2, 2..=4)).unwrap();
    assert_eq!(
        ask_file(&path, "SELECT host, count(*) FROM netinfo GROUP BY host ORDER BY host"),
        ["1|1", "2|4"]
    );

    let mut reader = Reader::open(&url(&path)).unwrap();
    let names: Vec<String> = reader.hosts().unwrap().into_iter().map(|h| h.name).collect();
    assert_eq!(names, ["alpha", "beta"]);
    reader.use_host("beta").unwrap();
    assert_eq!(ask(&mut reader, "SELECT count(*) FROM netinfo").unwrap(), ["4"]);
    assert_eq!(reader.use_host(MACHINE).unwrap().number, 1);
    assert_eq!(ask(&mut reader, "SELECT count(*) FROM netinfo").unwrap(), ["1"]);
    reader.use_all().unwrap();
    assert_eq!(ask(&mut reader, "SELECT count(*) FROM netinfo").unwrap(), ["5"]);
    let error = reader.use_host("gamma").unwrap_err().to_string();
    assert!(error.contains("gamma") && error.contains("alpha") && error.contains("beta"), "{error}");
}

#[test]
fn the_seeds_question_finds_its_rows_through_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut other = endpoint(3);
    other.destfqdn = Some(HostName("undernet.irc.justedge.net".to_owned()));
    drop(store_with(&path, vec![endpoint(1).into(), endpoint(2).into(), other.into()]));
    let mut reader = Reader::open(&url(&path)).unwrap();
    for host in [None, Some("alpha")] {
        if let Some(host) = host {
            reader.use_host(host).unwrap();
        }
        let question = "select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ";
        assert_eq!(ask(&mut reader, question).unwrap(), ["2"]);
        let plan = ask(&mut reader, &format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        assert!(plan.iter().any(|line| line.contains("netinfo_destfqdn")), "{plan:?}");
        let question =
            "select sourceport,destport,cday,chour,cmin from netinfo where username='nobody' AND pid='7371' ";
        assert_eq!(ask(&mut reader, question).unwrap().len(), 3);
        let plan = ask(&mut reader, &format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        assert!(plan.iter().any(|line| line.contains("netinfo_username_pid")), "{plan:?}");
    }
}

#[test]
fn size_counts_the_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let writer = store_with(&path, Vec::new());
    let on_disk: u64 =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(writer.size(), on_disk);
    assert_eq!(Reader::open(&url(&path)).unwrap().size(), writer.size());
}

//! What monitoring is told: every figure is documented and true, health is what it is, and nobody who asks holds anything up.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use luarm_testbed::Mariadb;
use support::{
    Launch, Recording, has_ebpf,
    http::{self, Samples},
    link::Site,
    sleeper::Sleeper,
};

const LOOPBACK: &[&str] = &["--metrics", "127.0.0.1:0"];
/// What is absent as long as it does not occur.
const OCCASIONAL: &[&str] = &[
    "luarm_lost_total",
    "luarm_server_refused_total",
    "luarm_canary_latency_seconds",
    "luarm_canary_missing",
    "luarm_canary_last_round_timestamp_seconds",
];

fn address(recording: &Recording) -> String {
    http::address(&recording.wait_for("metrics and health are served at"))
}

/// The figures that docs/metrics.md lists for a command: name, then kind and labels.
fn documented(command: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md")).unwrap();
    let mut figures = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        if !cells[2].split(", ").any(|of| of == command) {
            continue;
        }
        let series = cells[0].trim_matches('`');
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(", ").filter(|label| !label.is_empty());
        figures.insert(name.to_owned(), (cells[1].to_owned(), labels.map(str::to_owned).collect()));
    }
    figures
}

/// What is served is what is documented, no more and no less.
fn is_as_documented(command: &str, address: &str, absent: &[&str]) {
    let documented = documented(command);
    let answer = http::get(address, "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    let mut served = BTreeMap::new();
    for line in answer.body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            served.insert(name, kind);
            assert!(answer.body.contains(&format!("# HELP {name} ")), "{name} is not explained");
        }
    }
    for (name, kind) in &served {
        let (wanted, _) =
            documented.get(*name).unwrap_or_else(|| panic!("{name} of {command} is not documented"));
        assert_eq!(wanted, kind, "{name}");
    }
    for (name, series) in http::samples(address) {
        let (_, wanted) = &documented[&name];
        for labels in series.keys() {
            let names: Vec<_> = labels
                .split("\",")
                .filter_map(|label| label.split_once("=\""))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(&names, wanted, "{name}");
        }
    }
    for name in documented.keys().filter(|name| !served.contains_key(name.as_str())) {
        assert!(absent.contains(&name.as_str()), "{command} does not serve {name}");
    }
}

#[test]
fn a_recorders_figures_are_documented_and_true() {
    let directory = tempfile::tempdir().unwrap();
    let (sensor, rings) = if has_ebpf() { ("ebpf", true) } else { ("poll", false) };
    let recording = Launch::on(directory.path()).with(&["--sensor", sensor]).with(LOOPBACK).start();
    let address = address(&recording);
    let absent = if rings {
        OCCASIONAL.to_vec()
    } else {
        [OCCASIONAL, &["luarm_ring_peak_bytes", "luarm_ring_size_bytes"]].concat()
    };
    is_as_documented("run", &address, &absent);

    recording.sync();
    let samples = http::samples(&address);
    let figure = |name: &str| samples[name][""];
    // Rows are counted before the batch that they are in.
    let batch = figure("luarm_last_batch");
    let least =
        recording.count(&format!("SELECT sum(rowcount) + count(*) FROM batchinfo WHERE batchid <= {batch}"));
    let most = recording.count("SELECT sum(rowcount) + count(*) FROM batchinfo");
    let rows = figure("luarm_rows_stored_total");
    assert!(least as f64 <= rows && rows <= most as f64, "{least} <= {rows} <= {most}");
    assert_eq!(figure("luarm_batches_stored_total"), batch, "the first run of all makes the first batch");
    assert_eq!((figure("luarm_store_up"), figure("luarm_store_errors_total")), (1.0, 0.0));
    assert_eq!(figure("luarm_memory_limit_bytes"), f64::from(64 << 20));
    let host =
        recording.sql("SELECT hostname FROM hostinfo LIMIT 1")[0]["hostname"].as_str().unwrap().to_owned();
    let info = samples["luarm_recorder_info"].keys().next().unwrap();
    assert!(info.contains(&format!("host=\"{host}\"")), "{info}");
    for row in recording.sql("SELECT class, state FROM coverageinfo WHERE destroyed IS NULL") {
        let watched = f64::from(u8::from(row["state"] != "unwatched"));
        let class = row["class"].as_str().unwrap();
        assert_eq!(samples["luarm_class_watched"][&format!("class=\"{class}\"")], watched, "{class}");
    }
    if rings {
        assert_eq!(samples["luarm_ring_size_bytes"]["ring=\"events\""], f64::from(8 << 20));
        let peak = samples["luarm_ring_peak_bytes"]["ring=\"events\""];
        assert!(peak > 0.0 && peak <= f64::from(8 << 20), "{peak}");
    }

    let health = http::get(&address, "/health");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    assert_eq!(http::get(&address, "/").status, 404);
    assert_eq!(
        http::ask(&address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").status,
        405
    );
    let head = http::ask(&address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(recording.stop().success());
}

#[test]
fn what_was_lost_is_told_as_lossinfo_has_it() {
    let directory = tempfile::tempdir().unwrap();
    if !has_ebpf() {
        return;
    }
    // Whoever writes a file larger than may be digested has lost its digest.
    let files = tempfile::tempdir().unwrap();
    let digested = files.path().to_str().unwrap();
    let options = ["--sensor", "ebpf", "--files-digest", digested, "--digest-limit", "4KiB"];
    let recording = Launch::on(directory.path()).with(&options).with(LOOPBACK).start();
    let address = address(&recording);
    for n in 0..7 {
        fs::write(files.path().join(n.to_string()), [7; 5000]).unwrap();
    }
    let class = "class = 'file-digest' AND cause = 'too-large'";
    recording.wait_for_row(&format!("SELECT coalesce(sum(count), 0) >= 7 FROM lossinfo WHERE {class}"));
    let series = "class=\"file-digest\",cause=\"too-large\"";
    let lost = |samples: &Samples| samples.get("luarm_lost_total").and_then(|lost| lost.get(series)).copied();
    // It is stored before it is counted.
    let told = http::wait_for(
        || lost(&http::samples(&address)),
        |lost| *lost >= Some(7.0),
        |lost| format!("{lost:?}"),
    );
    let stored = recording.count(&format!("SELECT sum(count) FROM lossinfo WHERE {class}"));
    assert_eq!((told, stored), (Some(7.0), 7));
}

/// A process with a long argument that nothing compresses well, until it is dropped.
fn long(seed: u64) -> Sleeper {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let argument: String = (0..60_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + u8::try_from((state >> 40) % 90).unwrap())
        })
        .collect();
    Sleeper::start(&argument)
}

#[test]
fn agent_and_server_tell_of_each_other_and_a_full_spool_is_no_health() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::new(directory.path());
    let server = site.serve(LOOPBACK);
    let served = http::address(&server.wait_for("metrics and health are served at"));
    let agent = site.agent("penguin", &[&["--sensor", "poll", "--spool-limit", "1MiB"], LOOPBACK].concat());
    let address = address(&agent);
    agent.sync();
    is_as_documented(
        "agent",
        &address,
        &[OCCASIONAL, &["luarm_ring_peak_bytes", "luarm_ring_size_bytes"]].concat(),
    );
    // The store is asked who is enrolled every few seconds.
    let known = |samples: &Samples| samples.get("luarm_server_hosts").is_some_and(|hosts| hosts[""] == 1.0);
    let samples = http::wait_for(|| http::samples(&served), known, |samples| format!("{samples:?}"));
    is_as_documented("server", &served, OCCASIONAL);
    assert_eq!(samples["luarm_server_connections"]["kind=\"host\""], 1.0);
    assert_eq!(samples["luarm_server_hosts_overdue"][""], 0.0);
    let silent = &samples["luarm_server_host_silent_seconds"];
    assert!(silent.len() == 1 && silent.contains_key("host=\"penguin\""), "{silent:?}");
    let stored = |samples: &Samples| samples["luarm_server_batches_stored_total"][""];
    let (before, in_store) = (stored(&samples), site.count("SELECT count(*) FROM batchinfo") as f64);
    let after = stored(&http::samples(&served));
    assert!(before <= in_store && in_store <= after + 1.0, "{before} {in_store} {after}");
    assert_eq!(http::figure(&address, "luarm_link_connected"), 1.0);
    assert_eq!(http::get(&served, "/health").status, 200);

    // Who comes without a handshake is counted.
    let mut stranger = http::connect(&server.address);
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = stranger.read_to_end(&mut Vec::new());
    let refused = |samples: &Samples| {
        samples.get("luarm_server_refused_total").is_some_and(|r| r.get("kind=\"handshake\"") == Some(&1.0))
    };
    http::wait_for(|| http::samples(&served), refused, |samples| format!("{samples:?}"));

    // A revoked host is nobody's business any more.
    assert!(site.revoke("penguin").status.success());
    let gone = |samples: &Samples| samples["luarm_server_hosts"][""] == 0.0;
    let samples = http::wait_for(|| http::samples(&served), gone, |samples| format!("{samples:?}"));
    assert!(!samples.contains_key("luarm_server_host_silent_seconds"));

    // An agent without a server is well as long as its spool has room.
    http::wait_for(|| http::figure(&address, "luarm_link_connected"), |up| *up == 0.0, f64::to_string);
    assert_eq!(http::get(&address, "/health").body, "ok\n");
    let mut long = Vec::new();
    let mut health = http::get(&address, "/health");
    while health.status == 200 {
        assert!(long.len() < 200, "the spool has {}", http::figure(&address, "luarm_spool_bytes"));
        long.push(self::long(long.len() as u64));
        health = http::get(&address, "/health");
    }
    assert_eq!(health.status, 503);
    assert_eq!(health.body, "the spool is full (1MiB): newer rows are lost\n");
    let samples = http::samples(&address);
    assert!(samples["luarm_spool_bytes"][""] >= samples["luarm_spool_limit_bytes"][""]);
    assert!(samples["luarm_waiting_batches"][""] > 0.0);
}

#[test]
fn a_store_that_is_gone_is_told_by_recorder_and_server_until_it_is_back() {
    let name = "a_store_that_is_gone_is_told_by_recorder_and_server_until_it_is_back";
    let Some(mut mariadb) = Mariadb::start(name) else { return };
    let directory = tempfile::tempdir().unwrap();
    let recording = Launch::on(&directory.path().join("recorder"))
        .with(&["--sensor", "poll", "--store", &mariadb.url("root", "recorded")])
        .with(LOOPBACK)
        .start();
    let recorder = address(&recording);
    let site = Site::into_store(directory.path(), mariadb.url("root", "served"));
    let server = site.serve(LOOPBACK);
    let served = http::address(&server.wait_for("metrics and health are served at"));
    for address in [&recorder, &served] {
        http::wait_for_health(address, |health| health.status == 200);
    }
    mariadb.kill();
    // A recorder that has nothing to store notices nothing.
    let _child = long(1);
    let said = http::wait_for_health(&recorder, |health| health.status == 503);
    assert!(said.starts_with("what was recorded cannot be stored: "), "{said}");
    let said = http::wait_for_health(&served, |health| health.status == 503);
    assert!(said.starts_with("the store does not answer: "), "{said}");
    for address in [&recorder, &served] {
        let samples = http::samples(address);
        assert_eq!(samples["luarm_store_up"][""], 0.0);
        assert!(samples["luarm_store_errors_total"][""] >= 1.0);
    }
    mariadb.run(&[]);
    for address in [&recorder, &served] {
        http::wait_for_health(address, |health| health.status == 200);
        assert_eq!(http::figure(address, "luarm_store_up"), 1.0);
    }
}

#[test]
fn slow_and_hostile_clients_hold_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).with(LOOPBACK).start();
    let address = address(&recording);
    // More than may be open at once, some silent, some slow.
    let mut open: Vec<_> = (0..60).map(|_| http::connect(&address)).collect();
    for slow in open.iter_mut().step_by(2) {
        let _ = slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:");
    }
    assert_eq!(http::get(&address, "/metrics").status, 200);
    assert_eq!(http::get(&address, "/health").status, 200);
    recording.sync();
    // None of them is kept, whether he waits or not.
    for mut slow in open {
        let mut answer = Vec::new();
        let _ = slow.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
    for question in [
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)),
        format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000)),
        format!("GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(1 << 20)),
        "\0\u{1}\u{2}\r\n\r\n".to_owned(),
    ] {
        let mut stream = http::connect(&address);
        // It may be shut before all is sent.
        let _ = stream.write_all(question.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{question:.40}");
    }
    let long = "0".repeat(1 << 20);
    let body =
        http::ask(&address, &format!("GET /health HTTP/1.1\r\nContent-Length: {}\r\n\r\n", long.len()));
    assert_eq!(body.status, 200, "a body is not waited for");
    assert_eq!(http::get(&address, "/health").status, 200);
    recording.sync();
}

#[test]
fn a_socket_takes_the_place_of_a_dead_one_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("metrics.sock");
    let option = format!("unix:{}", socket.display());
    let data = directory.path().join("data");
    let launch = || Launch::on(&data).with(&["--sensor", "poll", "--metrics", &option]);
    launch().start().kill();
    assert!(socket.exists(), "it was killed");
    let recording = launch().start();
    assert_eq!(address(&recording), option);
    assert_eq!(http::get(&option, "/health").body, "ok\n");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);

    // Not of one that somebody answers at,
    let other = directory.path().join("other");
    let refused = Launch::on(&other).with(&["--sensor", "poll", "--metrics", &option]).spawn();
    refused.wait_for("somebody answers there already");
    assert!(recording.stop().success());
    assert!(!socket.exists());
    // nor of a file.
    fs::write(&socket, "mine").unwrap();
    let refused = Launch::on(&other).with(&["--sensor", "poll", "--metrics", &option]).spawn();
    refused.wait_for("there is a file that is no socket");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
}

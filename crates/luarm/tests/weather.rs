//! An agent and its server on two hosts, with a bad network between them.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use luarm_testbed::{Cable, Weather};
use support::{has_ebpf, hosts::Host, programs};

/// Programs in each weather.
const EACH: usize = 100;

/// Late, lossy and out of order; cut one way, the other way, and both ways.
fn weathers() -> [Weather; 5] {
    let bad = Weather { delay: Duration::from_millis(20), lost: 50, early: 20, cut: [false, false] };
    [
        Weather { delay: Duration::from_millis(150), ..Weather::default() },
        bad,
        Weather { cut: [true, false], ..bad },
        Weather { cut: [false, true], ..bad },
        Weather { cut: [true, true], ..bad },
    ]
}

fn storm(program: &Path, name: &str) {
    for n in 0..EACH {
        assert!(Command::new(program).args(["0", &format!("{name}-{n}")]).status().unwrap().success());
    }
}

#[test]
fn through_loss_delay_and_partition_each_row_comes_once_and_in_order() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = programs::exit_program(dir.path());
    let audit = Host::new(dir.path(), "audit", "");
    let penguin = Host::new(dir.path(), "penguin", "10.77.0.1 audit");
    let cable = Cable::between([audit.pid(), penguin.pid()], ["10.77.0.1", "10.77.0.2"]);
    audit.run("luarm server init --name audit");
    let server = audit.start("luarm server");
    let token = audit.run("luarm enroll token");
    penguin.run(&format!("luarm enroll join https://audit:7467 --token {}", token.trim_end()));
    let mut agent = penguin.start("luarm agent");
    let ask = |query: &str| audit.run(&format!("luarm sql --format csv -e \"{query}\""));
    let number = |query: &str| ask(query).lines().nth(1).unwrap().parse::<usize>().unwrap();

    for (n, weather) in weathers().into_iter().enumerate() {
        cable.set(weather);
        let before = cable.counts()[2];
        storm(&program, &format!("weather{n}"));
        if weather.cut == [true, true] {
            agent.kill();
            agent = penguin.start("luarm agent");
            storm(&program, "later");
        }
        if weather.cut != [false, false] {
            // Not before something was to go through it.
            let deadline = Instant::now() + Duration::from_secs(90);
            while cable.counts()[2] < before + 5 {
                assert!(Instant::now() < deadline, "nothing comes to where the cable is cut");
                std::thread::sleep(Duration::from_millis(20));
            }
            let synced = penguin.command("luarm sync --timeout 0.5").output().unwrap();
            assert_eq!(synced.status.code(), Some(1), "it cannot know that its rows have come");
        }
    }
    cable.set(weathers()[1]);
    penguin.run("luarm sync --timeout 120");
    let names = (0..weathers().len() - 1).map(|n| format!("weather{n}")).chain(["later".to_owned()]);
    for name in names {
        let those = format!("from psinfo where arguments like '% {name}-%' and application <> 'luarm'");
        assert_eq!(number(&format!("select count(*) {those}")), EACH, "{name}");
        assert_eq!(number(&format!("select count(distinct arguments) {those}")), EACH, "{name}");
    }
    // The agent was killed when these had not been acknowledged: what it had is there, once.
    let killed = "from psinfo where arguments like '% weather4-%' and application <> 'luarm'";
    let rows = number(&format!("select count(*) {killed}"));
    assert_eq!(number(&format!("select count(distinct arguments) {killed}")), rows);
    assert_eq!(number("select count(*) from lossinfo"), 0);
    assert_eq!(number("select count(*) - max(batchid) + min(batchid) from batchinfo"), 1);
    // Batches stand in the store in the order in which they were made, and rows in that of what they tell.
    assert_eq!(
        number("select count(*) from (select rowid n, batchid from batchinfo_stored) where n <> batchid"),
        0
    );
    let order = "select count(*) from (select batch, lag(batch) over (order by psentity) before from psinfo \
                 where arguments like '% weather%') where batch < before";
    assert_eq!(number(order), 0);
    assert!(agent.stop().success() && server.stop().success());
}

//! How a question ends that would go on for ever: in the engine, too.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    scene::{Engine, each},
    support::complaint,
};

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn a_console_that_is_interrupted_ends_the_query_in_the_engine() {
    each("a_console_that_is_interrupted_ends_the_query_in_the_engine", &[], |scene| {
        let mut child = scene.endless();
        interrupt(&child);
        child.wait().unwrap();
        let line = scene.server.wait_for("then the analyst ended it");
        assert!(!line.contains("goes on with it"), "{line}");
        assert_eq!(scene.working(), 0);
        assert!(scene.far("sql", &["-e", "select 1"]).status.success());
    });
}

#[test]
fn a_limit_of_time_ends_the_query_in_the_engine() {
    each(
        "a_limit_of_time_ends_the_query_in_the_engine",
        &["--query-time", "2s", "--query-rows", "10"],
        |scene| {
            let output = scene.endless().wait_with_output().unwrap();
            let said = complaint(&output);
            assert!(output.status.code() == Some(1) && said.contains("longer than 2 s"), "{said}");
            let line = scene.server.wait_for(", then: the answer took longer");
            assert!(!line.contains("goes on with it"), "{line}");
            assert_eq!(scene.working(), 0);
            // A row that is too long, whoever notices.
            let long = match scene.engine {
                Engine::Sqlite => "select hex(zeroblob(6000000)) as x",
                Engine::Mariadb(_) | Engine::Postgres(_) => "select repeat('x', 9000000) as x",
            };
            let output = scene.far("sql", &["--format", "csv", "-e", long]);
            let said = complaint(&output);
            assert!(["too big", "at most", "longer than"].iter().any(|words| said.contains(words)), "{said}");
            let output = scene.far("sql", &["--format", "csv", "-e", "select pid from netinfo"]);
            assert!(complaint(&output).contains("more than 10 rows"), "{output:?}");
            assert!(scene.far("sql", &["-e", "select 1"]).status.success());
        },
    );
}

#[test]
fn a_revoked_analyst_is_cut() {
    each("a_revoked_analyst_is_cut", &[], |scene| {
        let child = scene.endless();
        let data = scene.site.data();
        let revoke = |name| {
            let place = ["--data", data.to_str().unwrap()];
            crate::support::luarm(&[&["enroll", "revoke", "--analyst", name], &place[..]].concat())
        };
        let unknown = revoke("nobody");
        assert!(
            complaint(&unknown).contains("no analyst \"nobody\" has joined; these have: anna"),
            "{unknown:?}"
        );
        assert!(revoke("anna").status.success());
        let output = child.wait_with_output().unwrap();
        assert!(complaint(&output).contains("was revoked"), "{output:?}");
        scene.server.wait_for(", then: the certificate of");
        assert_eq!(scene.working(), 0);
        let output = scene.far("sql", &["-e", "select 1"]);
        assert!(complaint(&output).contains("was revoked"), "{output:?}");
    });
}

#[test]
fn a_server_that_stops_ends_what_it_is_asked() {
    each("a_server_that_stops_ends_what_it_is_asked", &[], |scene| {
        let child = scene.endless();
        kill_process(Pid::from_raw(i32::try_from(scene.server.pid()).unwrap()).unwrap(), Signal::TERM)
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(complaint(&output).contains("stopping"), "{output:?}");
        assert_eq!(scene.working(), 0);
    });
}

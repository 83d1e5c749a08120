//! What an analyst waits for with `luarm sync`, and gets then.

use std::process::Command;

use crate::support::{complaint, link::Site, luarm};

#[test]
fn everything_that_happened_can_be_queried_through_the_server_after_sync() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::new(directory.path());
    let _server = site.serve(&[]);
    let agent = site.agent("penguin", &["--sensor", "poll"]);
    agent.wait_for("delivering to https");
    let data = directory.path().join("anna");
    let data = data.to_str().unwrap();
    let token = site.token(&["--analyst", "anna"]);
    let joined = luarm(&["enroll", "join", &site.url(), "--token", &token, "--data", data]);
    assert!(joined.status.success(), "{}", complaint(&joined));
    let sync =
        |arguments: &[&str]| luarm(&[&["sync", "--data", data, "--timeout", "60"], arguments].concat());
    for round in 0..3 {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let host = if round == 2 { &["--host", "penguin"][..] } else { &[] };
        let output = sync(host);
        assert!(output.status.success(), "{}", complaint(&output));
        let count =
            format!("select count(*) as n from psinfo where pid = {} and destroyed is null", child.id());
        let found = luarm(&["sql", "--data", data, "--host", "penguin", "--format", "csv", "-e", &count]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "n\n1\n", "{found:?}");
    }
    let output = sync(&["--host", "nobody"]);
    assert!(
        output.status.code() == Some(1) && complaint(&output).contains("no host \"nobody\" delivers"),
        "{output:?}"
    );
    // An agent that does not answer: the time is the analyst's.
    agent.signal(rustix::process::Signal::STOP);
    let output = luarm(&["sync", "--data", data, "--timeout", "0.5"]);
    assert!(complaint(&output).contains("not everything was stored after 0.5 s"), "{output:?}");
    agent.signal(rustix::process::Signal::CONT);
    assert!(sync(&["--host", "penguin"]).status.success());
    // One that is gone is not waited for, unless it is named.
    agent.kill();
    loop {
        let output = sync(&[]);
        if output.status.success() {
            break;
        }
        assert!(complaint(&output).contains("the connection to penguin ended"), "{output:?}");
    }
    let output = sync(&["--host", "penguin"]);
    assert!(complaint(&output).contains("no host \"penguin\" delivers"), "{output:?}");
    let output = luarm(&["sync", "--data", directory.path().to_str().unwrap(), "--host", "penguin"]);
    assert!(complaint(&output).contains("--host penguin is for analysts"), "{output:?}");
}

//! The sensor in the hands of an ordinary user.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use luarm_sensor::{
    Observation,
    observation::{Coverage, Watch},
};

use crate::{
    puppet::{NOBODY, Puppet, is_root, sh},
    watched::Watched,
};

#[test]
fn an_ordinary_user_sees_its_own_and_is_told_what_it_does_not_see() {
    if is_root() {
        as_nobody("user::an_ordinary_user_sees_its_own_and_is_told_what_it_does_not_see");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let mut watched = Watched::start();
    let reason = |watched: &mut Watched, wanted: &str| {
        watched.until(|observation| match observation {
            Observation::Coverage(Coverage { class, watch: Watch::Sampled, reason, .. })
                if *class == wanted =>
            {
                reason.clone()
            }
            _ => None,
        })
    };
    assert!(reason(&mut watched, "process").contains("CAP_SYS_PTRACE"));
    assert!(reason(&mut watched, "tcp").contains("CAP_SYS_ADMIN"));
    let doctor = luarm_sensor::poll::doctor().unwrap();
    assert!(doctor.iter().all(|class| watched.seen().contains(&Observation::Coverage(class.clone()))));
    let (init, program, _) = watched.found(1);
    assert_eq!((init.credentials.uid, program.path.as_slice(), program.file), (0, &b""[..], None));
    let endpoint = watched.endpoint(|endpoint| endpoint.local == local);
    assert!(endpoint.actor.is_some_and(|actor| actor.image.pid == std::process::id()));

    let mut child = Puppet::start(&mut sh("echo ready; read x; exec sleep 1000"));
    assert_eq!(child.says(), "ready");
    let (before, ..) = watched.found(child.pid());
    child.go_on();
    let (after, program, _) = watched.found(child.pid());
    assert_eq!((before.image.execs, after.image.execs), (0, 1));
    assert_eq!(program.arguments.bytes, b"sleep\x001000\0");
}

/// Runs one test of this program as the user `nobody`.
fn as_nobody(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("poll");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", test, "--nocapture"]).current_dir(directory.path()).uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

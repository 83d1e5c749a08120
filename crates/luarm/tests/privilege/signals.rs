//! Signals.

use std::process::Command;

use rustix::process::Signal;

use super::{EPERM, SIGWINCH, Scene, errors, row, text};
use crate::support::NOBODY;

#[test]
fn signals_across_users_are_told_and_those_within_one_are_not() {
    let Some(scene) = Scene::set(&[]) else { return };
    let roots = scene.victim(0, 0);
    let nobodys = scene.victim(NOBODY, 0);
    let beside = scene.victim(NOBODY, i32::try_from(nobodys.child.id()).unwrap());
    let (root, nobody) = (roots.pid(), nobodys.pid());

    // The last is a code that only the kernel gives, but which the call lets root choose.
    let down = scene.act(0, &format!(
        "kill {nobody} {SIGWINCH} , tgkill {nobody} 18 , queue {nobody} {SIGWINCH} -1 , pidfd_kill {nobody} {SIGWINCH} , kill {nobody} 0 , \
         kill {root} {SIGWINCH} , kill -{nobody} 23 , queue {nobody} {SIGWINCH} -2"
    ));
    assert_eq!(errors(&down), [0; 8]);
    let one = |name: &str| row("signal", 0, name, Some(&nobodys));
    let mut told = scene.told(&down);
    // The kernel reaches the members of a group in an order of its own.
    told[4..6].sort_by_key(|row| row.3 != Some(nobodys.child.id().into()));
    assert_eq!(
        told,
        [
            one("SIGWINCH"),
            one("SIGCONT"),
            one("SIGWINCH"),
            one("SIGWINCH"),
            one("SIGURG"),
            row("signal", 0, "SIGURG", Some(&beside)),
            one("SIGWINCH")
        ]
    );
    let first = &scene.rows(&down)[0];
    let who = ["username", "targetusername", "targetapplication", "targv"].map(|column| text(first, column));
    let argv = format!("{}\nvictim", scene.actor.display());
    assert_eq!(who, ["root", "nobody", "actor", &argv]);

    let up = scene.act(NOBODY, &format!(
        "kill {root} 15 , kill {nobody} {SIGWINCH} , tgkill {root} 9 , queue {root} 1 -1 , pidfd_kill {root} 2 , kill {root} 0 , kill -{root} 64"
    ));
    assert_eq!(errors(&up), [1, 0, 1, 1, 1, 1, 1]);
    let one = |name: &str| row("signal", EPERM, name, Some(&roots));
    let group = row("signal", EPERM, &format!("signal 64 to process group {root}"), None);
    assert_eq!(scene.told(&up), [one("SIGTERM"), one("SIGKILL"), one("SIGHUP"), one("SIGINT"), group]);
    assert!(scene.rows(&up).iter().all(|row| text(row, "username") == "nobody"));

    let own = scene.act(NOBODY, &format!("kill {nobody} {SIGWINCH} , tgkill {nobody} 18"));
    assert_eq!((errors(&own), scene.rows(&own).len()), (vec![0, 0], 0));
    let about = format!(
        "targetpid in ({root}, {nobody}, {}) and pid not in ({}, {})",
        beside.pid(),
        down.pid,
        up.pid
    );
    assert_eq!(scene.recording.count(&format!("select count(*) from privinfo where {about}")), 0);
    scene.end();
}

#[test]
fn a_target_is_found_by_its_number_in_the_senders_own_namespace() {
    let Some(scene) = Scene::set(&[]) else { return };
    // Process 1 of a new pid namespace, and a user in there who may not send it anything.
    let actor = scene.actor.to_str().unwrap();
    let script = format!(
        "setpriv --reuid=65534 --clear-groups {actor} kill 1 15 , attach 1 , kill 2 {SIGWINCH}; true"
    );
    let output =
        Command::new("unshare").args(["-pf", "sh", "-c", &script, "first-of-its-kind"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1 \n1 \n0 \n");
    scene.recording.sync();
    let rows = scene.recording.sql(
        "select v.operation, v.detail, v.result, v.username from privinfo v join psinfo t on t.psentity = v.targetentity
         where v.application = 'actor' and v.operation in ('signal', 'ptrace') and t.pid = v.targetpid
         and t.argv like '%first-of-its-kind' order by v.privid",
    );
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                text(row, "operation"),
                text(row, "detail"),
                row["result"].as_i64().unwrap(),
                text(row, "username"),
            )
        })
        .collect();
    assert_eq!(told, [("signal", "SIGTERM", 1, "nobody"), ("ptrace", "ATTACH", 1, "nobody")]);
    scene.end();
}

#[test]
fn a_flood_of_refused_signals_is_counted() {
    const KILLS: i64 = 5000;
    let Some(scene) = Scene::set(&["--ring", "64KiB"]) else { return };
    let roots = scene.victim(0, 0);
    scene.recording.sync();
    scene.recording.signal(Signal::STOP);
    let flood = scene.act(NOBODY, &format!("many_kills {} 15 {KILLS}", roots.pid()));
    scene.recording.signal(Signal::CONT);
    scene.recording.sync();
    let told = scene
        .recording
        .count(&format!("select count(*) from privinfo where operation = 'signal' and pid = {}", flood.pid));
    let lost = scene
        .recording
        .count("select sum(count) from lossinfo where class = 'signals' and cause = 'ring-full'");
    assert!(told < KILLS && told + lost >= KILLS, "{told} told, {lost} lost");
    assert!(scene.recording.stop().success());
}

//! Acts of privilege, really done and really refused, row by row: credentials and capabilities, signals, memory of others, namespaces, BPF, modules.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use support::{Launch, NOBODY, Recording, Row, has_ebpf, programs};

const EPERM: i64 = 1;
/// A signal that nothing dies of.
const SIGWINCH: &str = "28";

/// A recorder, and a program that both users can run.
struct Scene {
    recording: Recording,
    actor: PathBuf,
    _dir: tempfile::TempDir,
}

/// What an actor did: its pid, and for each act the error number and what else it said.
struct Done {
    pid: u32,
    acts: Vec<(i64, String)>,
}

/// A process that waits to be done something to.
struct Victim {
    child: Child,
    memory: String,
}

impl Victim {
    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scene {
    fn set(arguments: &[&str]) -> Option<Self> {
        if !has_ebpf() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let actor = programs::acting_program(dir.path());
        let recording = Launch::on(&dir.path().join("data")).with(arguments).start();
        recording.sync();
        Some(Self { recording, actor, _dir: dir })
    }

    fn command(&self, user: u32) -> Command {
        let mut command = Command::new(&self.actor);
        command.uid(user).gid(user).current_dir("/").stdout(Stdio::piped());
        command
    }

    fn victim(&self, user: u32, group: i32) -> Victim {
        let mut child = self.command(user).arg("victim").process_group(group).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Victim { child, memory: line.trim().split_once(' ').unwrap().1.to_owned() }
    }

    /// Acts of one process, separated by commas.
    fn act(&self, user: u32, acts: &str) -> Done {
        finish(self.command(user).args(acts.split_whitespace()))
    }

    /// What the rows say that an actor did: act, error, detail, and to which pid.
    fn told(&self, done: &Done) -> Vec<(String, i64, String, Option<i64>)> {
        let told = self.rows(done).into_iter().map(|row| {
            (
                text(&row, "operation").to_owned(),
                row["result"].as_i64().unwrap(),
                row["detail"].as_str().unwrap_or_default().to_owned(),
                row["targetpid"].as_i64(),
            )
        });
        told.collect()
    }

    /// The rows of an actor from its exec on; each leads to its image, and to that of its target.
    fn rows(&self, done: &Done) -> Vec<Row> {
        self.recording.sync();
        let rows = self.recording.sql(&format!(
            "select v.*, p.command as own, t.pid as tpid, t.argv as targv from privinfo v
             join psinfo p on p.psentity = v.psentity left join psinfo t on t.psentity = v.targetentity
             where v.pid = {} and v.application = 'actor' and v.operation <> 'exec' order by privid",
            done.pid
        ));
        for row in &rows {
            assert_eq!(text(row, "own"), self.actor.to_str().unwrap(), "{row:?}");
            assert_eq!(row["tpid"], row["targetpid"], "{row:?}");
        }
        rows
    }

    fn end(self) {
        let lost = self.recording.sql("select * from lossinfo where class not like '%-digest'");
        assert!(lost.is_empty(), "{lost:?}");
        assert!(self.recording.stop().success());
    }
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

fn finish(command: &mut Command) -> Done {
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let acts = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let (error, more) = line.split_once(' ').unwrap();
            (error.parse().unwrap(), more.to_owned())
        })
        .collect();
    Done { pid, acts }
}

fn errors(done: &Done) -> Vec<i64> {
    done.acts.iter().map(|act| act.0).collect()
}

/// A row that is expected.
fn row(
    operation: &str,
    result: i64,
    detail: &str,
    target: Option<&Victim>,
) -> (String, i64, String, Option<i64>) {
    (operation.to_owned(), result, detail.to_owned(), target.map(|victim| victim.child.id().into()))
}

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
        "select v.operation, v.detail, v.result, v.username, t.argv from privinfo v join psinfo t on t.psentity = v.targetentity
         where v.application = 'actor' and v.operation in ('signal', 'ptrace') and t.pid = v.targetpid order by v.privid",
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
    assert!(rows.iter().all(|row| text(row, "argv").ends_with("first-of-its-kind")), "{rows:?}");
    scene.end();
}

#[test]
fn reaching_into_another_process_is_told_done_or_refused() {
    let Some(scene) = Scene::set(&[]) else { return };
    let (roots, nobodys) = (scene.victim(0, 0), scene.victim(NOBODY, 0));
    let (root, nobody) = (roots.pid(), nobodys.pid());
    let at = &nobodys.memory;
    let done = scene.act(0, &format!(
        "attach {nobody} , peek {nobody} {at} , poke {nobody} {at} 7 , poke {nobody} {at} 8 , poke {nobody} {at} 9 , detach {nobody} , \
         readv {nobody} {at} , writev {nobody} {at} , writev {nobody} {at} , getfd {nobody} 0 , getfd {nobody} 2 , readv 0 , seize {nobody}"
    ));
    assert_eq!(errors(&done), [0; 13]);
    let one = |operation: &str, detail: &str| row(operation, 0, detail, Some(&nobodys));
    assert_eq!(
        scene.told(&done),
        [
            one("ptrace", "ATTACH"),
            one("ptrace", "POKEDATA"),
            one("process_vm_readv", "9 bytes"),
            one("process_vm_writev", "9 bytes"),
            one("pidfd_getfd", "descriptor 0"),
            one("pidfd_getfd", "descriptor 2"),
            one("ptrace", "SEIZE"),
        ]
    );
    // The victim's memory is really another one now.
    let refused = scene.act(NOBODY, &format!(
        "attach {root} , seize {root} , readv {root} {at} , writev {root} {at} , getfd {root} 0 , attach {root}"
    ));
    assert_eq!(errors(&refused), [EPERM; 6]);
    let one = |operation: &str, detail: &str| row(operation, EPERM, detail, Some(&roots));
    assert_eq!(
        scene.told(&refused),
        [
            one("ptrace", "ATTACH"),
            one("ptrace", "SEIZE"),
            one("process_vm_readv", ""),
            one("process_vm_writev", ""),
            one("pidfd_getfd", "descriptor 0"),
            one("ptrace", "ATTACH"),
        ]
    );
    for row in scene.rows(&refused) {
        assert_eq!((text(&row, "username"), text(&row, "targetusername")), ("nobody", "root"));
        assert_eq!(row["olduid"], row["uid"]);
    }
    scene.end();
}

/// The namespace of a process, by its number.
fn namespace(pid: &str, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.to_str().unwrap().split(['[', ']']).nth(1).unwrap().to_owned()
}

#[test]
fn namespaces_made_and_entered_are_told_with_their_numbers() {
    let Some(scene) = Scene::set(&[]) else { return };
    let (uts, ipc, user) = (0x0400_0000, 0x0800_0000, 0x1000_0000);
    let other = scene.victim(0, 0);
    let pid = other.pid();
    let own = namespace(&pid, "uts");

    // 0x22000000: pid and cgroup.
    let done = scene.act(0, &format!(
        "unshare {} , setns /proc/{pid}/ns/uts 0 , pidfd_setns {pid} {} , unshare 0x200 , clone {} , clone 0",
        uts | ipc, uts | ipc, 0x2200_0000
    ));
    assert_eq!(errors(&done), [0; 6]);
    let numbers: Vec<&str> = done.acts[0].1.split(' ').collect();
    let told = scene.told(&done);
    let (first, last) = told.split_at(3);
    assert_eq!(
        first,
        [
            row("unshare", 0, &format!("uts {} ipc {}", numbers[0], numbers[1]), None),
            row("setns", 0, &format!("uts {own}"), None),
            row("setns", 0, &format!("uts {own} ipc {}", namespace(&pid, "ipc")), Some(&other)),
        ]
    );
    let [(operation, 0, kinds, Some(child))] = last else { panic!("{last:?}") };
    assert_eq!((operation.as_str(), child.to_string()), ("clone", done.acts[4].1.clone()));
    let words: Vec<&str> = kinds.split(' ').collect();
    assert_eq!((words.len(), words[0], words[2]), (4, "pid", "cgroup"), "{kinds}");
    let space = scene.recording.sql(&format!("select pidns, cgroupns from psinfo where pid = {child}"));
    assert_eq!(words[1], space[0]["pidns"].to_string());
    assert_eq!(words[3], space[0]["cgroupns"].to_string());

    let refused = scene.act(
        NOBODY,
        &format!("unshare {uts} , setns /proc/self/ns/uts 0 , pidfd_setns {pid} {ipc} , clone {ipc}"),
    );
    assert_eq!(errors(&refused), [EPERM; 4]);
    assert_eq!(
        scene.told(&refused),
        [
            row("unshare", EPERM, "uts", None),
            row("setns", EPERM, &format!("uts {own}"), None),
            row("setns", EPERM, "ipc", Some(&other)),
            row("clone", EPERM, "ipc", None),
        ]
    );
    // Whoever makes a user namespace has all capabilities there.
    let became = scene.act(NOBODY, &format!("unshare {user}"));
    if errors(&became) == [0] {
        let all = scene.rows(&became);
        assert_eq!(text(&all[0], "detail"), format!("user {}", became.acts[0].1.split(' ').nth(2).unwrap()));
        assert_eq!(
            (text(&all[0], "oldcapeff"), &text(&all[0], "capeff")[..7]),
            ("0000000000000000", "000001f")
        );
    }
    scene.end();
}

/// A set of capabilities of this process, as /proc says it.
fn capabilities(set: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(set)).unwrap();
    line.split_once('\t').unwrap().1.to_owned()
}

#[test]
fn changes_of_credentials_tell_capabilities_and_refusals() {
    let Some(scene) = Scene::set(&[]) else { return };
    let (effective, permitted) = (capabilities("CapEff:"), capabilities("CapPrm:"));
    let fewer = format!("{:016x}", u64::from_str_radix(&effective, 16).unwrap() & !(1 << 13));
    let none = "0000000000000000";

    // 13: CAP_NET_RAW. Dropped a second time, it is no change.
    let done = scene.act(0, "drop 13 , drop 13 , setresuid -1 65534 -1 , setresuid -1 0 -1 , setuid 65534 , setuid 0 , setresuid -1 0 -1 , grab");
    assert_eq!(errors(&done), [0, 0, 0, 0, 0, EPERM, EPERM, EPERM]);
    let rows = scene.rows(&done);
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                (
                    text(row, "operation"),
                    row["result"].as_i64().unwrap(),
                    row["detail"].as_str().unwrap_or_default(),
                ),
                (row["oldeuid"].as_i64().unwrap(), row["euid"].as_i64().unwrap()),
                [text(row, "oldcapeff"), text(row, "capeff"), text(row, "capprm")],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (("capset", 0, ""), (0, 0), [&*effective, &fewer, &permitted]),
            (("setresuid", 0, ""), (0, 65534), [&fewer, none, &permitted]),
            // To be root again makes all effective that is permitted.
            (("setresuid", 0, ""), (65534, 0), [none, &permitted, &permitted]),
            (("setuid", 0, ""), (0, 65534), [&permitted, none, none]),
            (("setuid", EPERM, "0"), (65534, 65534), [none, none, none]),
            (("setresuid", EPERM, "-1 0 -1"), (65534, 65534), [none, none, none]),
            (("capset", EPERM, ""), (65534, 65534), [none, none, none]),
        ]
    );

    let done = scene.act(0, "setgroups 4 6 3 , setgroups 0 0 0");
    let refused = scene.act(NOBODY, "setgroups 0 6 2");
    assert_eq!((errors(&done), errors(&refused)), (vec![0, 0], vec![EPERM]));
    assert_eq!(scene.told(&done), [row("setgroups", 0, "4 6 27", None), row("setgroups", 0, "none", None)]);
    assert_eq!(scene.told(&refused), [row("setgroups", EPERM, "0 6", None)]);

    // A set-user-id program of root's, run by nobody.
    let granted = scene.actor.with_file_name("granted");
    fs::copy(&scene.actor, &granted).unwrap();
    fs::set_permissions(&granted, fs::Permissions::from_mode(0o4755)).unwrap();
    let done = finish(Command::new(&granted).args(["setuid", "0"]).uid(NOBODY).gid(NOBODY));
    assert_eq!(errors(&done), [0]);
    scene.recording.sync();
    let rows = scene.recording.sql(&format!(
        "select * from privinfo where pid = {} and application = 'granted' order by privid",
        done.pid
    ));
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                text(row, "operation"),
                row["uid"].as_i64().unwrap(),
                text(row, "oldcapeff"),
                text(row, "capeff"),
            )
        })
        .collect();
    assert_eq!(told, [("exec", 65534, none, &*permitted), ("setuid", 0, &permitted, &permitted)]);
    scene.end();
}

#[test]
fn programs_for_the_kernel_are_told_with_type_and_name() {
    let Some(scene) = Scene::set(&[]) else { return };
    // 17: raw tracepoint, 2: kprobe.
    let done = scene.act(0, "load 17 , bpf_attach");
    assert_eq!(errors(&done), [0, 0]);
    let detail = format!("raw_tracepoint nothing id {}", done.acts[0].1);
    assert_eq!(scene.told(&done), [row("bpf-load", 0, &detail, None), row("bpf-attach", 0, &detail, None)]);
    let refused = scene.act(NOBODY, "load 2");
    assert_eq!(errors(&refused), [EPERM]);
    assert_eq!(scene.told(&refused), [row("bpf-load", EPERM, "kprobe nothing", None)]);
    scene.end();
}

#[test]
fn a_module_that_is_refused_is_told_or_the_kernel_has_none() {
    let Some(scene) = Scene::set(&[]) else { return };
    let refused = scene.act(NOBODY, "finit_module /proc/self/exe");
    if Path::new("/proc/modules").exists() {
        assert_eq!(errors(&refused), [EPERM]);
        assert_eq!(scene.told(&refused), [row("finit_module", EPERM, "actor", None)]);
    } else {
        let said = scene
            .recording
            .sql("select state, reason from coverageinfo where class = 'kernel-code' and destroyed is null");
        assert_eq!((said.len(), text(&said[0], "state")), (1, "watched"));
        assert!(text(&said[0], "reason").contains("this kernel has no loadable modules"), "{said:?}");
    }
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

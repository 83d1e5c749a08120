//! Processes of this machine.

use std::{
    fs,
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt, process::CommandExt},
    },
    path::Path,
    process::Command,
};

use luarm_sensor::{
    Observation,
    observation::{Inventory, Origin},
    proc::{ARGUMENTS_LIMIT, Reader},
};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{
    puppet::{NOBODY, Puppet, is_root, perl, sh, skipped_without_root},
    watched::Watched,
};

#[test]
fn what_is_there_at_the_start_is_found_and_then_complete() {
    let mut child = Puppet::start(&mut sh("read x"));
    let mut watched = Watched::start();
    let (task, _, origin) = watched.found(child.pid());
    assert_eq!(origin, Origin::Found);
    let place = |wanted: &dyn Fn(&Observation) -> bool| watched.seen().iter().position(wanted).unwrap();
    let complete = place(&|seen| *seen == Observation::Complete(Inventory::Processes));
    assert!(place(&|seen| matches!(seen, Observation::Coverage(_))) < complete);
    assert!(
        place(&|seen| matches!(seen, Observation::Found { task: found, .. } if found.image == task.image))
            < complete
    );
    assert!(complete < place(&|seen| *seen == Observation::Complete(Inventory::Sockets)));
    assert!(matches!(watched.seen().last(), Some(Observation::Reached(_))));
    child.end();
    let all = watched.stop();
    assert!(all.iter().any(|seen| matches!(seen, Observation::Exit { image, .. } if *image == task.image)));
    assert!(matches!(all.last(), Some(Observation::Reached(_))), "the last round is complete");
}

#[test]
fn a_process_is_met_with_all_its_facts_and_its_end_is_told() {
    let mut watched = Watched::start();
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("perl");
    command.args(["-e", "<STDIN>", "--", "a\nb"]).arg0("it's ); DROP\n").current_dir(directory.path());
    if is_root() {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = Puppet::start(&mut command);
    let (task, program, origin) = watched.found(child.pid());
    assert_eq!(origin, Origin::Poll);
    assert_eq!(task.comm, b"perl");
    assert_eq!(task.ppid, std::process::id());
    assert_eq!(task.creator.map(|creator| creator.pid), Some(std::process::id()));
    assert_eq!(task.image.execs, 0);
    if is_root() {
        assert_eq!(
            (task.credentials.uid, task.credentials.euid, task.credentials.gid),
            (NOBODY, NOBODY, NOBODY)
        );
    }
    assert_ne!(task.namespaces.net, 0);
    let perl = fs::canonicalize("/usr/bin/perl").unwrap();
    assert_eq!(program.path, perl.as_os_str().as_bytes());
    assert_eq!(program.arguments.bytes, b"it's ); DROP\n\0-e\0<STDIN>\0--\0a\nb\0");
    assert_eq!(program.cwd.as_deref(), Some(directory.path().canonicalize().unwrap().as_os_str().as_bytes()));
    assert!(program.file.is_some_and(|file| !file.deleted && file.mode & 0o111 != 0));

    child.end();
    let usage = watched.until(|observation| match observation {
        Observation::Exit { image, usage, status: None, .. } if *image == task.image => *usage,
        _ => None,
    });
    assert!(usage.maxrss > 0 && usage.rchar > 0, "{usage:?}");
}

#[test]
fn the_status_is_known_while_the_parent_has_not_fetched_it() {
    let mut watched = Watched::start();
    let mut child = Puppet::start(&mut sh("read x; exit 3"));
    let pid = child.pid();
    watched.found(pid);
    child.go_on();
    let status = watched.until(|observation| match observation {
        Observation::Exit { image, status, .. } if image.pid == pid => Some(*status),
        _ => None,
    });
    assert_eq!(status, Some(3 << 8));
}

#[test]
fn an_exec_and_a_change_of_name_are_told_apart() {
    let mut watched = Watched::start();
    let mut child = Puppet::start(&mut sh("read x; printf crond > /proc/$$/comm; read x; exec sleep 1000"));
    let pid = child.pid();
    let before = loop {
        // The shell itself may be met before its exec.
        let (task, ..) = watched.found(pid);
        if task.comm == b"sh" {
            break task;
        }
    };
    child.go_on();
    let (actor, old) = watched.until(|observation| match observation {
        Observation::Rename { actor, old, .. } if actor.image.pid == pid => {
            Some((actor.clone(), old.clone()))
        }
        _ => None,
    });
    assert_eq!(
        (actor.image, actor.comm.as_slice(), old.as_slice()),
        (before.image, &b"crond"[..], &b"sh"[..])
    );
    child.go_on();
    let (after, program, origin) = watched.found(pid);
    assert_eq!((after.image.start, after.image.execs), (before.image.start, before.image.execs + 1));
    assert_eq!(
        (after.comm.as_slice(), program.arguments.bytes.as_slice()),
        (&b"sleep"[..], &b"sleep\x001000\0"[..])
    );
    assert_eq!(origin, Origin::Poll);
}

#[test]
fn an_exec_of_the_same_program_with_the_same_arguments_is_noticed() {
    let mut watched = Watched::start();
    let script = "print \"here\\n\"; <STDIN>; exec 'perl', '-e', $ENV{SCRIPT}";
    let mut child = Puppet::start(
        Command::new("perl")
            .args(["-e", &format!("$| = 1; {script}")])
            .env("SCRIPT", format!("$| = 1; {script}")),
    );
    assert_eq!(child.says(), "here");
    let (before, first, _) = watched.found(child.pid());
    child.go_on();
    assert_eq!(child.says(), "here");
    let (after, second, _) = watched.found(child.pid());
    assert_eq!((after.image.start, after.image.execs, after.comm), (before.image.start, 1, before.comm));
    assert_eq!((first.path, first.arguments), (second.path, second.arguments));
}

#[test]
fn a_change_of_credentials_is_told() {
    if skipped_without_root() {
        return;
    }
    let mut watched = Watched::start();
    let mut child = Puppet::start(&mut perl("<STDIN>; $) = $( = 65534; $< = $> = 65534; <STDIN>"));
    let pid = child.pid();
    watched.found(pid);
    child.go_on();
    let credentials = watched.until(|observation| match observation {
        Observation::Credentials { actor, credentials, operation: "observed", .. }
            if actor.image.pid == pid && credentials.euid == NOBODY =>
        {
            assert_eq!(actor.euid, NOBODY);
            Some(*credentials)
        }
        _ => None,
    });
    assert_eq!((credentials.gid, credentials.egid), (NOBODY, NOBODY));
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    if skipped_without_root() {
        return;
    }
    let reader = Reader::open(Path::new("/")).unwrap();
    let mut watched = Watched::start();
    for _ in 0..500 {
        let mut first = Puppet::start(&mut sh("read x"));
        let pid = first.pid();
        let (task, ..) = watched.found(pid);
        first.end();
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let second = Puppet::start(&mut sh("read y"));
        // Other tests start processes as well, and the clock may not have ticked in between.
        if second.pid() != pid || reader.stat(pid).unwrap().start == task.image.start {
            continue;
        }
        let told = watched.until(|observation| match observation {
            Observation::Exit { image, .. } if image.pid == pid => Some(*image),
            Observation::Found { task, .. } if task.image.pid == pid => {
                panic!("{task:?} before the end of the first")
            }
            _ => None,
        });
        assert_eq!(told, task.image);
        assert!(watched.found(pid).0.image.start > task.image.start);
        return;
    }
    panic!("no pid was used again");
}

#[test]
fn an_image_that_has_lost_its_name_is_marked_and_one_that_only_looks_so_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut watched = Watched::start();
    let mut image = |name: &str, unlink: bool| {
        let path = directory.path().canonicalize().unwrap().join(name);
        fs::copy("/bin/sh", &path).unwrap();
        let mut child = Puppet::start(Command::new(&path).args(["-c", "echo ready; read x"]));
        assert_eq!(child.says(), "ready");
        if unlink {
            fs::remove_file(&path).unwrap();
        }
        let (_, program, _) = watched.found(child.pid());
        assert_eq!(program.path, path.as_os_str().as_bytes());
        program.file.unwrap()
    };
    let (named, unnamed) = (image("here (deleted)", false), image("gone", true));
    assert!(!named.deleted && unnamed.deleted);
    assert!(!named.memfd && !unnamed.memfd);

    let mut memory = fs::File::from(memfd_create("never named", MemfdFlags::CLOEXEC).unwrap());
    memory.write_all(&fs::read("/bin/sh").unwrap()).unwrap();
    // An image that is open for writing cannot be run.
    let readable = fs::File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap();
    drop(memory);
    let path = format!("/proc/{}/fd/{}", std::process::id(), readable.as_raw_fd());
    let mut child = Puppet::start(Command::new(path).args(["-c", "echo ready; read x"]));
    assert_eq!(child.says(), "ready");
    let (_, program, _) = watched.found(child.pid());
    assert_eq!(program.path, b"/memfd:never named");
    assert!(program.file.is_some_and(|file| file.memfd && file.deleted));
}

#[test]
fn arguments_beyond_the_limit_are_cut_and_their_length_is_kept() {
    let mut watched = Watched::start();
    let long = "x".repeat(100_000);
    let mut child = Puppet::start(Command::new("sh").args(["-c", "echo ready; read x", &long, &long, &long]));
    assert_eq!(child.says(), "ready");
    let (_, program, _) = watched.found(child.pid());
    let arguments = program.arguments;
    assert_eq!(arguments.bytes.len(), ARGUMENTS_LIMIT);
    assert_eq!(arguments.length as usize, "sh -c echo ready; read x ".len() + 3 * (long.len() + 1));
    assert!(arguments.bytes.starts_with(b"sh\0-c\0echo ready; read x\0xxx"));
}

#[test]
fn a_reader_finds_single_processes() {
    let reader = Reader::open(Path::new("/")).unwrap();
    let mut child = Puppet::start(&mut sh("echo ready; read x"));
    assert_eq!(child.says(), "ready");
    let (task, program) = reader.found(child.pid()).unwrap();
    assert_eq!((task.image.pid, task.ppid, task.image.execs), (child.pid(), std::process::id(), 0));
    assert_eq!(program.arguments.bytes, b"sh\0-c\0echo ready; read x\0");
    let held = reader.process(child.pid()).unwrap();
    child.end();
    assert!(held.found().is_none() && held.image().is_none() && held.sockets().is_empty());
    assert!(reader.found(0).is_none());
}

#[test]
fn an_image_that_gets_another_name_while_it_runs_is_no_other_image() {
    let directory = tempfile::tempdir().unwrap();
    let mut watched = Watched::start();
    fs::copy("/bin/sh", directory.path().join("one")).unwrap();
    let mut child =
        Puppet::start(Command::new(directory.path().join("one")).args(["-c", "echo ready; read x"]));
    assert_eq!(child.says(), "ready");
    let (task, ..) = watched.found(child.pid());
    fs::rename(directory.path().join("one"), directory.path().join("other")).unwrap();
    // Long enough for a close look.
    for _ in 0..20 {
        watched.round();
    }
    child.end();
    let ended = watched.until(|observation| match observation {
        Observation::Found { task, .. } | Observation::Exec { task, .. } if task.image.pid == child.pid() => {
            panic!("{task:?}")
        }
        Observation::Exit { image, .. } if image.pid == child.pid() => Some(*image),
        _ => None,
    });
    assert_eq!(ended, task.image);
}

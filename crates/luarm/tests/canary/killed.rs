//! Each of the sensor's programs is taken away in turn, as root can, while it runs; and the recorder is not asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use super::{
    start,
    support::{Recording, has_ebpf, programs, skip},
    words,
};

/// Which act misses which program (the kernel cuts its name to 15 bytes), where it is found by the number of a system call.
const CALLS: &[(&str, &str)] = &[
    ("on_execve_exit", "execve"),
    ("on_execveat_exi", "execveat"),
    ("on_setuid", "setuid"),
    ("on_setgid", "setgid"),
    ("on_setreuid", "setreuid"),
    ("on_setregid", "setregid"),
    ("on_setresuid", "setresuid"),
    ("on_setresgid", "setresgid"),
    ("on_setfsuid", "setfsuid"),
    ("on_setfsgid", "setfsgid"),
    ("on_capset", "capset"),
    ("on_setgroups", "setgroups"),
    ("on_bpf", "bpf"),
    ("on_ptrace", "ptrace"),
    ("on_process_vm_r", "process_vm_readv"),
    ("on_process_vm_w", "process_vm_writev"),
    ("on_pidfd_getfd", "pidfd_getfd"),
    ("on_setns", "setns"),
    ("on_unshare", "unshare"),
    ("on_clone", "clone"),
    ("on_clone3", "clone3"),
    ("on_kill", "kill"),
    ("on_tkill", "tkill"),
    ("on_tgkill", "tgkill"),
    ("on_pidfd_send_s", "pidfd_send_signal"),
    ("on_connect", "connect in vain"),
    ("on_accept", "accept"),
    ("on_open", "open"),
    ("on_creat", "creat"),
    ("on_openat", "openat"),
    ("on_openat2", "openat2"),
    ("on_mmap", "mmap"),
    ("on_file_unlink", "unlink"),
    ("on_file_unlinka", "unlinkat"),
    ("on_file_rmdir", "rmdir"),
    ("on_file_mkdir", "mkdir"),
    ("on_file_mkdirat", "mkdirat"),
    ("on_file_mknod", "mknod"),
    ("on_file_mknodat", "mknodat"),
    ("on_file_rename", "rename"),
    ("on_file_renamea", "renameat2"),
    ("on_file_link", "link"),
    ("on_file_linkat", "linkat"),
    ("on_file_symlink", "symlink"),
    ("on_file_chmod", "chmod"),
    ("on_file_fchmoda", "fchmodat"),
    ("on_file_fchmod", "fchmod"),
    ("on_file_chown", "chown"),
    ("on_file_fchowna", "fchownat"),
    ("on_file_fchown", "fchown"),
    ("on_file_setxatt", "setxattr"),
    ("on_file_fsetxat", "fsetxattr"),
    ("on_file_truncat", "truncate"),
    ("on_file_ftrunca", "ftruncate"),
    ("on_file_utimens", "utimensat"),
    ("on_file_utimes", "utimes"),
    ("on_file_mount", "mount"),
    ("on_file_umount", "umount"),
    ("on_io_uring_set", "io_uring_setup"),
];

/// The same for those that others rest on: each is put back at once.
const NEXT: &[(&str, &str)] = &[
    ("on_close", "close of a file"),
    ("on_dup", "dup2"),
    ("on_close_range", "close_range"),
    ("next_exec_refus", "execve"),
    ("next_name", "unlinkat"),
    ("next_file", "fchmod"),
    ("next_opened", "openat"),
];

/// Programs that no act comes past.
const UNPROVED: &[(&str, &str)] = &[
    ("on_socketcall", "of 32-bit programs alone"),
    ("on_old_mmap", "of 32-bit programs alone"),
    ("on_open_by_hand", "takes a privilege that the canary has not got"),
    ("on_fcntl", "tells only that a file is to be closed by the next exec"),
    ("on_file_move_mo", "leaves no name to know it by where it is refused"),
];

/// The same for those with a link of their own, in the order in which they are taken away: what others rest on comes last.
const LINKS: &[(&str, &str, &str)] = &[
    ("on_rename", "rename", "prctl"),
    ("on_new_spaces", "namespaces", "clone of a user namespace"),
    ("on_signal", "signals", "signal"),
    ("on_answer", "io-uring", "answer of a ring"),
    ("on_request", "io-uring", "request of a ring"),
    ("on_bind6", "udp", "bind by IPv6"),
    ("on_send6", "udp", "sendto of a copy by IPv6"),
    ("on_bind4", "udp", "bind"),
    ("on_send4", "udp", "sendto of a copy"),
    ("on_release", "udp", "close"),
    ("on_ingress", "names", "question"),
    ("on_socket", "udp", "send"),
    ("on_state", "tcp", "connect"),
    ("on_exit_files", "file", "exit with a file"),
    ("on_fork", "process", "fork"),
    ("on_sys_enter", "file", "close of a file"),
    ("on_sys_exit", "credentials", "setresuid"),
    ("on_exit", "process", "exit"),
    ("on_exec", "process", "exec"),
];

/// Without it the same is missing as without another, which cannot be put back: it is taken from another recorder.
const ALONE: &[(&str, &str, &str)] = &[("on_egress", "udp", "send")];

/// A program that the recorder has attached, and how to find it.
struct Plugged {
    kind: String,
    place: Vec<String>,
    id: String,
}

struct Scene {
    unplug: PathBuf,
    recording: Recording,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn set() -> Option<Self> {
        if !has_ebpf() {
            return None;
        }
        if cfg!(not(target_arch = "x86_64")) {
            skip("registers are those of x86_64");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let unplug = programs::unplugging_program(dir.path());
        let recording = start(&dir, &["--sensor", "ebpf"]);
        // The first rounds do everything, and all of it is seen.
        recording.wait_for_row("select count(*) from canaryinfo where class = 'io-uring' and seen = 1");
        assert_eq!(recording.sql("select class, reason from canaryinfo where seen = 0"), []);
        for class in CALLS.iter().chain(NEXT).map(|(_, act)| class_of(act)).collect::<BTreeSet<_>>() {
            let most = recording.count(&format!("select max(acts) from canaryinfo where class = '{class}'"));
            let all = luarm_recorder::canary::ACTS.iter().filter(|act| act.class == class).count();
            assert_eq!(most, i64::try_from(all).unwrap(), "{class}: not all was done");
        }
        Some(Self { unplug, recording, _dir: dir })
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.unplug).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The programs by name; of those that stand in several places, all.
    fn plugged(&self) -> BTreeMap<String, Vec<Plugged>> {
        let mut all: BTreeMap<String, Vec<Plugged>> = BTreeMap::new();
        for line in self.run(&["list", &self.recording.pid().to_string()]).lines() {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let [kind, place @ .., id, name] = &words[..] else { panic!("{line}") };
            let (kind, place, id) = (kind.clone(), place.to_vec(), id.clone());
            all.entry(name.clone()).or_default().push(Plugged { kind, place, id });
        }
        all
    }

    fn unplug(&self, places: &[Plugged]) {
        for Plugged { kind, place, .. } in places {
            match (&**kind, &place[..]) {
                ("link", [fd]) => drop(self.run(&["link", &self.recording.pid().to_string(), fd])),
                ("entry", [map, key]) => drop(self.run(&["entry", map, key])),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes a program away, and waits until a gap says which act is missing because of it.
    fn take_away(&self, places: &[Plugged], class: &str, act: &str) {
        let open = format!(
            "select count(*) from coverageinfo where class = '{class}' and state = 'gap' and sensor = 'none' and destroyed is null"
        );
        let reason = "replace(reason, 'the canary did not come back: ', ', ') || ','";
        let named = format!("{open} and ({reason} like '%, {act},%' or {reason} like '%, {act};%')");
        let gaps = || self.recording.sql("select class, reason from coverageinfo where state = 'gap'");
        assert_eq!(self.recording.count(&named), 0, "{act} is missing already: {:?}", gaps());
        self.unplug(places);
        self.recording.wait_for_row(&named);
    }

    /// Puts programs back, and waits until their classes are watched again.
    fn put_back(&self, places: &[&Plugged]) {
        for Plugged { place, id, .. } in places {
            self.run(&["restore", &place[0], &place[1], id]);
        }
        let open = "from coverageinfo where state = 'gap' and class <> 'all' and destroyed is null";
        self.recording.wait_for_row(&format!("select count(*) = 0 as n {open}"));
    }

    fn gaps(&self) -> BTreeSet<String> {
        words(
            &self.recording,
            "select class from coverageinfo where state = 'gap' and class <> 'all' and destroyed is null",
        )
    }
}

/// The classes of the acts.
fn class_of(act: &str) -> &'static str {
    luarm_recorder::canary::ACTS.iter().find(|known| known.name == act).unwrap().class
}

#[test]
fn each_program_behind_a_system_call_is_missed_and_known_to_be_back() {
    let Some(scene) = Scene::set() else { return };
    let plugged = scene.plugged();
    let known: BTreeSet<&str> = CALLS.iter().chain(NEXT).chain(UNPROVED).map(|(name, _)| *name).collect();
    // Of a kernel without modules and kexec these stand nowhere; with them, the canary's acts are told by themselves.
    let modules =
        ["on_init_module", "on_finit_module", "on_delete_modul", "on_kexec_load", "on_kexec_file_l"];
    let unknown: Vec<&String> = plugged
        .iter()
        .filter(|(name, places)| {
            places[0].kind == "entry" && !known.contains(name.as_str()) && !modules.contains(&name.as_str())
        })
        .map(|(name, _)| name)
        .collect();
    assert!(unknown.is_empty(), "programs that no test takes away: {unknown:?}");
    let mut classes = BTreeSet::new();
    let places = |name: &str| plugged.get(name).unwrap_or_else(|| panic!("{name} is not there"));
    for (name, act) in CALLS {
        scene.take_away(places(name), class_of(act), act);
        classes.insert(class_of(act).to_owned());
    }
    assert_eq!(scene.gaps(), classes);
    scene.put_back(&CALLS.iter().flat_map(|(name, _)| places(name)).collect::<Vec<_>>());
    for class in classes {
        let gaps = format!(
            "select count(*) from coverageinfo where class = '{class}' and state = 'gap' and ended = 'canary' and created < destroyed"
        );
        assert!(scene.recording.count(&gaps) > 0, "{class}");
        // The journal has it, and no interval of a class overlaps another.
        assert!(
            scene
                .recording
                .said()
                .contains(&format!("the class {class} is not watched: the canary did not come back"))
        );
        let overlaps = format!(
            "select count(*) from coverageinfo as a join coverageinfo as b on a.class = b.class and a.coverageid < b.coverageid \
             and b.created < coalesce(a.destroyed, '9999') and a.class = '{class}'"
        );
        assert_eq!(scene.recording.count(&overlaps), 0, "{class}");
    }
}

#[test]
fn each_program_that_others_rest_on_is_missed_and_known_to_be_back() {
    let Some(scene) = Scene::set() else { return };
    let plugged = scene.plugged();
    for (name, act) in NEXT {
        let places = plugged.get(*name).unwrap_or_else(|| panic!("{name} is not there"));
        scene.take_away(places, class_of(act), act);
        scene.put_back(&places.iter().collect::<Vec<_>>());
    }
}

#[test]
fn each_program_with_a_link_of_its_own_is_missed() {
    for links in [LINKS, ALONE] {
        let Some(scene) = Scene::set() else { return };
        let plugged = scene.plugged();
        let known: BTreeSet<&str> = LINKS.iter().chain(ALONE).map(|(name, ..)| *name).collect();
        // Where a kernel lets programs stand at its functions, names are its own; without them they are the process's words. A kernel with modules tells
        // their names, and a ring's owner may leave no room for answers.
        let better = ["on_naming", "on_module_load", "on_overflow"];
        let unknown: Vec<&String> = plugged
            .iter()
            .filter(|(name, places)| places[0].kind == "link" && !known.contains(name.as_str()))
            .map(|(name, _)| name)
            .filter(|name| !better.contains(&name.as_str()) && !name.starts_with("note_"))
            .collect();
        assert!(unknown.is_empty(), "programs that no test takes away: {unknown:?}");
        for (name, class, act) in links {
            let places = plugged.get(*name).unwrap_or_else(|| panic!("{name} is not there"));
            scene.take_away(places, class, act);
        }
        // `status` says it as well.
        let (_, class, _) = links[0];
        let status = scene.recording.ask("status", &["--format", "jsonl"]);
        let status = String::from_utf8(status.stdout).unwrap();
        assert!(status.contains("did not come back at "), "{status}");
        let item = format!(r#""about":"canary","item":"{class}""#);
        assert!(status.lines().any(|line| line.contains(&item)), "{status}");
    }
}

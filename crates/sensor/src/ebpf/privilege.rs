//! Acts of privilege: what the kernel's numbers mean, in its own words.

use super::{
    decode::{actor, credentials, name},
    own,
    record::{self, OPERATIONS, split},
};
use crate::observation::{Observation, Privilege};

/// The kinds of namespace: the flag of clone(2), the name under /proc/PID/ns, in the order of `enum space`.
const SPACES: [(u64, &str); 8] = [
    (0x0002_0000, "mnt"),
    (0x0400_0000, "uts"),
    (0x0800_0000, "ipc"),
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "net"),
    (0x0200_0000, "cgroup"),
    (0x0000_0080, "time"),
];

/// Types of BPF programs, as `enum bpf_prog_type` of linux/bpf.h counts them.
const BPF_TYPES: [&str; 33] = [
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];

/// Signals from 1 on, as on x86 and arm64 (signal(7)).
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

const AIM_GROUP: u64 = 1;
const AIM_ALL: u64 = 2;

pub(super) fn act(bytes: &[u8]) -> Option<Observation> {
    let (r, _) = split::<record::Privilege>(bytes)?;
    let operation = OPERATIONS.get(r.operation as usize)?;
    Some(Observation::Privilege(Box::new(Privilege {
        at: r.h.at,
        actor: actor(&r.actor)?,
        credentials: credentials(&r.ids),
        operation,
        result: r.error,
        target: actor(&r.target),
        detail: detail(operation, &r),
    })))
}

/// What the arguments mean is said at each program in `bpf/`.
fn detail(operation: &str, r: &record::Privilege) -> Vec<u8> {
    let text = name(&r.text);
    let [first, second, third] = r.arguments;
    // Ids are 32 bits in any register, and -1 leaves one as it is.
    let id = |argument: u64| argument as i32;
    match operation {
        "setuid" | "setgid" => id(first).to_string().into(),
        "setreuid" | "setregid" => format!("{} {}", id(first), id(second)).into(),
        "setresuid" | "setresgid" => format!("{} {} {}", id(first), id(second), id(third)).into(),
        "setgroups" => groups(first, &r.text).into(),
        "io_uring_setup" => format!("{first} entries").into(),
        "kexec_load" if first == 0 => b"unload".to_vec(),
        "bpf-attach" if first == 0 && text.is_empty() => text,
        "bpf-load" | "bpf-attach" => program(first, second, text),
        "bpf-open" => match u32::try_from(first) {
            Ok(own::PROGRAM) => format!("program id {second}").into(),
            Ok(own::TABLE) => format!("table id {second}").into(),
            _ => format!("link id {second}").into(),
        },
        "ptrace" => request(first).into(),
        "process_vm_readv" | "process_vm_writev" if first > 0 => format!("{first} bytes").into(),
        "pidfd_getfd" => format!("descriptor {}", id(first)).into(),
        "setns" if !text.is_empty() => {
            let mut detail = text;
            detail.extend(format!(" {second}").bytes());
            detail
        }
        "setns" | "unshare" | "clone" => namespaces(first, &r.spaces).into(),
        "signal" => match second {
            AIM_GROUP => format!("{} to process group {third}", signal(first)).into(),
            AIM_ALL => format!("{} to all processes", signal(first)).into(),
            _ => signal(first).into(),
        },
        _ => text,
    }
}

/// Groups as numbers: the first of them, and how many more there were.
fn groups(count: u64, ids: &[u8]) -> String {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 {
        return "none".to_owned();
    }
    let (ids, _) = ids.as_chunks::<4>();
    let told = ids.iter().take(count).map(|id| u32::from_ne_bytes(*id).to_string());
    let mut text = told.collect::<Vec<_>>().join(" ");
    if count > ids.len() {
        text += &format!(" and {} more", count - ids.len());
    }
    text
}

fn program(kind: u64, id: u64, name: Vec<u8>) -> Vec<u8> {
    let mut detail: Vec<u8> = match usize::try_from(kind).ok().and_then(|kind| BPF_TYPES.get(kind)) {
        Some(known) => (*known).into(),
        None => format!("type {kind}").into(),
    };
    if !name.is_empty() {
        detail.push(b' ');
        detail.extend(name);
    }
    if id > 0 {
        detail.extend(format!(" id {id}").bytes());
    }
    detail
}

/// Requests of ptrace(2), without the prefix.
fn request(number: u64) -> String {
    match number {
        4 => "POKETEXT",
        5 => "POKEDATA",
        6 => "POKEUSER",
        13 => "SETREGS",
        15 => "SETFPREGS",
        16 => "ATTACH",
        0x4205 => "SETREGSET",
        0x4206 => "SEIZE",
        0x4212 => "SET_SYSCALL_INFO",
        other => return format!("request {other}"),
    }
    .to_owned()
}

/// The kinds, each with its number where it is known.
fn namespaces(flags: u64, numbers: &[u32; 8]) -> String {
    let kinds = SPACES.iter().zip(numbers).filter(|((flag, _), _)| flags & flag != 0);
    let kinds: Vec<String> = kinds
        .map(|((_, kind), number)| if *number == 0 { (*kind).to_owned() } else { format!("{kind} {number}") })
        .collect();
    kinds.join(" ")
}

fn signal(number: u64) -> String {
    match number.checked_sub(1).and_then(|n| SIGNALS.get(usize::try_from(n).ok()?)) {
        Some(name) => (*name).to_owned(),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn told(operation: &str, arguments: [u64; 3], text: &[u8]) -> String {
        let mut r = record::Privilege::new_zeroed();
        r.actor.image.pid = 1;
        r.operation = OPERATIONS.iter().position(|o| *o == operation).unwrap() as u32;
        r.arguments = arguments;
        r.spaces = [11, 12, 13, 14, 15, 16, 17, 18];
        r.text[..text.len()].copy_from_slice(text);
        match act(r.as_bytes()) {
            Some(Observation::Privilege(p)) => String::from_utf8(p.detail).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_act_says_what_it_was_about() {
        let minus_one = u64::from(u32::MAX);
        for (operation, arguments, text, detail) in [
            ("setuid", [0, 9, 9], "", "0"),
            ("setresuid", [minus_one, 0, u64::MAX], "", "-1 0 -1"),
            ("capset", [7, 7, 7], "", ""),
            ("setgroups", [0; 3], "", "none"),
            ("setgroups", [2, 0, 0], "\x07\0\0\0\0\x01", "7 256"),
            ("setgroups", [18, 0, 0], "", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 and 2 more"),
            ("finit_module", [0; 3], "loop", "loop"),
            ("kexec_load", [0; 3], "", "unload"),
            ("kexec_file_load", [0; 3], "vmlinuz", "vmlinuz"),
            ("bpf-load", [2, 77, 0], "probe", "kprobe probe id 77"),
            ("bpf-load", [99, 0, 0], "", "type 99"),
            ("bpf-attach", [0; 3], "", ""),
            ("ptrace", [16, 0, 0], "", "ATTACH"),
            ("process_vm_writev", [5, 0, 0], "", "5 bytes"),
            ("process_vm_readv", [0; 3], "", ""),
            ("pidfd_getfd", [3, 0, 0], "", "descriptor 3"),
            ("setns", [0, 4026, 0], "net", "net 4026"),
            ("setns", [0x4002_0000, 0, 0], "", "mnt 11 net 16"),
            ("unshare", [0x0000_0280, 0, 0], "", "time 18"),
            ("clone", [0x3000_0000, 0, 0], "", "user 14 pid 15"),
            ("signal", [15, 0, 0], "", "SIGTERM"),
            ("signal", [9, 1, 7], "", "SIGKILL to process group 7"),
            ("signal", [64, 2, 0], "", "signal 64 to all processes"),
            ("signal", [0; 3], "", "signal 0"),
        ] {
            assert_eq!(told(operation, arguments, text.as_bytes()), detail, "{operation} {arguments:?}");
        }
    }

    #[test]
    fn a_record_that_says_nothing_sound_is_no_act() {
        assert!((0..size_of::<record::Privilege>()).all(|len| act(&vec![0; len]).is_none()));
        let mut r = record::Privilege::new_zeroed();
        assert!(act(r.as_bytes()).is_none(), "nobody did it");
        r.actor.image.pid = 1;
        assert!(act(r.as_bytes()).is_some());
        r.operation = u32::MAX;
        assert!(act(r.as_bytes()).is_none(), "no such act");
    }
}

//! Acts of privilege: giving up what the canary has, and then asking in vain.

use std::{fs::File, os::fd::AsRawFd};

use super::{Group, NOBODY, Stage, address, call, is_root};

/// Becomes nobody for good, as far as it may. Whether it is somebody else than root after that, who has no privilege.
pub(super) fn become_nobody(stage: &mut Stage) -> bool {
    if !is_root() {
        // SAFETY: ids.
        stage.refused("setresuid", unsafe { call(libc::SYS_setresuid, &[0, 0, 0]) });
        return true;
    }
    // SAFETY: ids, and an empty list.
    unsafe {
        if stage.does(Group::Credentials) {
            // These two give the id before.
            stage.done("setfsuid", call(libc::SYS_setfsuid, &[NOBODY]));
            stage.done("setfsuid", call(libc::SYS_setfsuid, &[0]));
            stage.done("setfsgid", call(libc::SYS_setfsgid, &[NOBODY]));
        }
        stage.done("setgroups", call(libc::SYS_setgroups, &[0, 0]));
        stage.done("setresgid", call(libc::SYS_setresgid, &[NOBODY, NOBODY, NOBODY]));
        stage.done("setresuid", call(libc::SYS_setresuid, &[NOBODY, NOBODY, NOBODY])).is_some()
    }
}

/// What is refused to whoever has no privilege.
pub(super) fn act(stage: &mut Stage, is_nobody: bool) {
    modules(stage);
    // SAFETY: flags.
    stage.refused("unshare", unsafe { call(libc::SYS_unshare, &[libc::CLONE_NEWNET as usize]) });
    if !is_nobody {
        let why = "the recorder runs as root, and may not become another user (CAP_SETUID, CAP_SETGID)";
        for name in ["bpf", "ptrace", "kill"] {
            stage.not(name, why);
        }
        return;
    }
    program(stage);
    memory(stage);
    signals(stage);
    if stage.does(Group::Credentials) {
        credentials(stage);
    }
    if stage.does(Group::Others) {
        namespaces(stage);
    }
}

fn modules(stage: &mut Stage) {
    let (name, none) = (address(c"luarm_canary"), usize::MAX);
    // SAFETY: names and numbers; no module has that name, and no program lies there.
    unsafe {
        let flags = libc::O_NONBLOCK as usize;
        stage.refused("delete_module", call(libc::SYS_delete_module, &[name, flags]));
        if stage.does(Group::Others) {
            stage.refused("init_module", call(libc::SYS_init_module, &[0, 0, address(c"")]));
            stage.refused("finit_module", call(libc::SYS_finit_module, &[none, address(c""), 0]));
            stage.refused("kexec_load", call(libc::SYS_kexec_load, &[0, 0, 0, 0]));
            stage.refused("kexec_file_load", call(libc::SYS_kexec_file_load, &[none, none, 0, 0, 0]));
        }
    }
}

/// bpf(2) has a program loaded that traces, which takes a privilege on every kernel.
fn program(stage: &mut Stage) {
    const BPF_PROG_LOAD: usize = 5;
    const KPROBE: u64 = 2;
    // r0 = 0; exit.
    let code: [u64; 2] = [0xb7, 0x95];
    let license = address(c"GPL") as u64;
    // union bpf_attr: type and count of instructions, the instructions, the license, nothing else.
    let attributes: [u64; 6] = [KPROBE | 2 << 32, code.as_ptr() as u64, license, 0, 0, 0];
    let size = size_of_val(&attributes);
    // SAFETY: attributes of that size.
    let result = unsafe { call(libc::SYS_bpf, &[BPF_PROG_LOAD, attributes.as_ptr() as usize, size]) };
    stage.refused("bpf", result);
}

/// Reaching into the first process.
fn memory(stage: &mut Stage) {
    let mut byte = 0u8;
    let own = [&raw mut byte as usize, 1];
    let other = [4096, 1];
    let (own, other) = (own.as_ptr() as usize, other.as_ptr() as usize);
    // SAFETY: requests that end before they do anything, and a byte to be read into.
    unsafe {
        stage.refused("ptrace", call(libc::SYS_ptrace, &[libc::PTRACE_ATTACH as usize, 1, 0, 0]));
        if stage.does(Group::Others) {
            stage.refused("process_vm_readv", call(libc::SYS_process_vm_readv, &[1, own, 1, other, 1, 0]));
            stage.refused("process_vm_writev", call(libc::SYS_process_vm_writev, &[1, own, 1, other, 1, 0]));
            match call(libc::SYS_pidfd_open, &[1, 0]) {
                Ok(first) => {
                    stage.refused("pidfd_getfd", call(libc::SYS_pidfd_getfd, &[first, 0, 0]));
                    let signal = libc::SIGIO as usize;
                    stage.refused(
                        "pidfd_send_signal",
                        call(libc::SYS_pidfd_send_signal, &[first, signal, 0, 0]),
                    );
                }
                Err(error) => stage.not("pidfd_getfd", &error.to_string()),
            }
        }
    }
}

/// Signals to the first process, which the kernel does not send. Not SIGCONT: whoever is in its session may send that.
fn signals(stage: &mut Stage) {
    // SAFETY: numbers.
    unsafe {
        stage.refused("kill", call(libc::SYS_kill, &[1, libc::SIGURG as usize]));
        if stage.does(Group::Others) {
            stage.refused("tkill", call(libc::SYS_tkill, &[1, libc::SIGSTKFLT as usize]));
            stage.refused("tgkill", call(libc::SYS_tgkill, &[1, 1, libc::SIGCHLD as usize]));
        }
    }
}

/// To become root again.
fn credentials(stage: &mut Stage) {
    // _LINUX_CAPABILITY_VERSION_3, itself; all capabilities of the first word.
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets: [u32; 6] = [1 << 21, 1 << 21, 0, 0, 0, 0];
    // SAFETY: ids, and the two structures of capset(2).
    unsafe {
        stage.refused("setuid", call(libc::SYS_setuid, &[0]));
        stage.refused("setgid", call(libc::SYS_setgid, &[0]));
        stage.refused("setreuid", call(libc::SYS_setreuid, &[0, 0]));
        stage.refused("setregid", call(libc::SYS_setregid, &[0, 0]));
        let sets = [header.as_ptr() as usize, sets.as_ptr() as usize];
        stage.refused("capset", call(libc::SYS_capset, &sets));
    }
}

fn namespaces(stage: &mut Stage) {
    match File::open("/proc/self/ns/net") {
        // SAFETY: a descriptor.
        Ok(own) => stage.refused("setns", unsafe { call(libc::SYS_setns, &[own.as_raw_fd() as usize, 0]) }),
        Err(error) => stage.not("setns", &error.to_string()),
    }
    let flags = (libc::CLONE_NEWUTS | libc::SIGCHLD) as usize;
    // struct clone_args of its first version: flags, and the signal at the end in the fifth word.
    let arguments: [u64; 8] = [libc::CLONE_NEWIPC as u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    let size = size_of_val(&arguments);
    // SAFETY: as fork, of a process with one thread; a child, where there is one against all expectation, exits at once.
    let (cloned, cloned_again) = unsafe {
        (
            call(libc::SYS_clone, &[flags, 0, 0, 0, 0]).map(end_of_child),
            call(libc::SYS_clone3, &[arguments.as_ptr() as usize, size]).map(end_of_child),
        )
    };
    stage.refused("clone", cloned);
    stage.refused("clone3", cloned_again);
}

fn end_of_child(pid: usize) {
    if pid == 0 {
        // SAFETY: it ends here.
        unsafe { libc::_exit(0) }
    }
}

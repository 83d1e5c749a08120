//! A program that does nothing, at the system calls' hooks of the sensor: what these hooks cost by themselves, to measure others against.
#![expect(unsafe_code, reason = "a program that no compiler made is loaded by raw calls")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libbpf_rs::libbpf_sys;

use super::{
    EbpfError,
    hooks::{Attach, CLASSES},
    mounts::Tracepoints,
};

/// `r0 = 0; exit`.
const NOTHING: [u8; 2] = [
    (libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K) as u8,
    (libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT) as u8,
];

/// The empty program at its hooks, for as long as this lives.
#[derive(Debug)]
pub struct Empty {
    // A hook is given back before its event and the program are.
    _links: Vec<(OwnedFd, OwnedFd)>,
    _program: OwnedFd,
}

impl Empty {
    /// Attaches it to every tracepoint of a system call that the sensor uses and this kernel has (Linux 5.15, for links to perf events).
    pub fn attach() -> Result<Self, EbpfError> {
        let system = |doing| move |error| EbpfError::System(doing, error);
        let tracepoints = Tracepoints::open().map_err(system("open tracefs"))?;
        let program = load().map_err(system("load an empty program"))?;
        let mut links = Vec::new();
        for hook in CLASSES.iter().flat_map(|c| c.hooks) {
            let path = match hook.attach {
                Attach::Syscall(name) | Attach::Perhaps(name) => format!("syscalls/{name}"),
                Attach::Feature(path, _) => path.to_owned(),
                Attach::Trace | Attach::Cgroup | Attach::Iterator => continue,
            };
            let event = match tracepoints.event(&path) {
                Ok(event) => event,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(EbpfError::System("open a tracepoint", e)),
            };
            let link = link(&program, &event).map_err(system("attach an empty program"))?;
            links.push((link, event));
        }
        Ok(Empty { _links: links, _program: program })
    }
}

fn load() -> io::Result<OwnedFd> {
    let instructions = NOTHING.map(|code| libbpf_sys::bpf_insn { code, ..Default::default() });
    // SAFETY: both texts end with NUL, the instructions are as many as said, and all of them live until the call returns; no options are given.
    owned(unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_TRACEPOINT,
            c"empty".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as libbpf_sys::size_t,
            ptr::null_mut(),
        )
    })
}

fn link(program: &OwnedFd, event: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: both descriptors are open; no options are given.
    owned(unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            event.as_raw_fd(),
            libbpf_sys::BPF_PERF_EVENT,
            ptr::null(),
        )
    })
}

/// What a call of libbpf gave: a descriptor of ours, or a negative error number.
fn owned(given: i32) -> io::Result<OwnedFd> {
    if given < 0 {
        return Err(io::Error::from_raw_os_error(-given));
    }
    // SAFETY: the call made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(given) })
}

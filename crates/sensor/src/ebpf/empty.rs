//! A program that does nothing, at the system calls' hooks of the sensor: what these hooks cost by themselves, to measure others against.
#![expect(unsafe_code, reason = "a program that no compiler made is loaded by raw calls")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libbpf_rs::libbpf_sys;

use super::EbpfError;

/// `r0 = 0; exit`.
const NOTHING: [u8; 2] = [
    (libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K) as u8,
    (libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT) as u8,
];

/// The empty program at its hooks, for as long as this lives.
#[derive(Debug)]
pub struct Empty {
    // A hook is given back before the program is.
    _links: Vec<OwnedFd>,
    _program: OwnedFd,
}

impl Empty {
    /// Attaches it to entry and exit of all system calls (Linux 4.17, for raw tracepoints).
    pub fn attach() -> Result<Self, EbpfError> {
        let system = |doing| move |error| EbpfError::System(doing, error);
        let program = load(libbpf_sys::BPF_PROG_TYPE_RAW_TRACEPOINT, ptr::null_mut())
            .map_err(system("load an empty program"))?;
        let links = [c"sys_enter", c"sys_exit"]
            .into_iter()
            .map(|hook| link(&program, Some(hook)))
            .collect::<io::Result<_>>()
            .map_err(system("attach an empty program"))?;
        Ok(Empty { _links: links, _program: program })
    }
}

/// Has it stand at the entry of a function of the kernel (fentry) for a moment: whether this kernel lets programs do so. By the function's number in the
/// kernel's type information.
pub(super) fn stands_at(function: u32) -> io::Result<()> {
    let mut options = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
        expected_attach_type: libbpf_sys::BPF_TRACE_FENTRY,
        attach_btf_id: function,
        ..Default::default()
    };
    let program = load(libbpf_sys::BPF_PROG_TYPE_TRACING, &raw mut options)?;
    link(&program, None).map(drop)
}

fn load(
    kind: libbpf_sys::bpf_prog_type,
    options: *mut libbpf_sys::bpf_prog_load_opts,
) -> io::Result<OwnedFd> {
    let instructions = NOTHING.map(|code| libbpf_sys::bpf_insn { code, ..Default::default() });
    // SAFETY: both texts end with NUL, the instructions are as many as said, and all of them live until the call returns, as do the options, if any.
    owned(unsafe {
        libbpf_sys::bpf_prog_load(
            kind,
            c"empty".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as libbpf_sys::size_t,
            options,
        )
    })
}

/// `hook`: none for a program that was loaded for its hook.
fn link(program: &OwnedFd, hook: Option<&CStr>) -> io::Result<OwnedFd> {
    let hook = hook.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: the name, if any, ends with NUL and lives until the call returns; the descriptor is open.
    owned(unsafe { libbpf_sys::bpf_raw_tracepoint_open(hook, program.as_raw_fd()) })
}

/// What a call of libbpf gave: a descriptor of ours, or a negative error number.
fn owned(given: i32) -> io::Result<OwnedFd> {
    if given < 0 {
        return Err(io::Error::from_raw_os_error(-given));
    }
    // SAFETY: the call made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(given) })
}

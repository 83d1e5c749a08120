//! What belongs to the recorder itself, told to the kernel's programs.

use std::{
    collections::HashMap,
    fs,
    os::fd::{AsFd, AsRawFd},
};

use libbpf_rs::{Link, Map, MapCore, MapFlags, Object, libbpf_sys};

use super::attached::info_of;

/// The commands of bpf(2) that give a descriptor by a number.
pub(super) const PROGRAM: u32 = libbpf_sys::BPF_PROG_GET_FD_BY_ID;
pub(super) const TABLE: u32 = libbpf_sys::BPF_MAP_GET_FD_BY_ID;
const LINK: u32 = libbpf_sys::BPF_LINK_GET_FD_BY_ID;

/// This process by the kernel's number; 0 in a pid namespace of its own, where /proc does not tell it.
pub(super) fn process() -> u32 {
    // The first pid namespace has this inode (PROC_PID_INIT_INO).
    let first = fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]");
    if first { std::process::id() } else { 0 }
}

/// Puts the numbers of everything that was made into the table.
pub(super) fn tell(
    table: &Map<'_>,
    object: &Object,
    links: &HashMap<&'static str, Link>,
) -> libbpf_rs::Result<()> {
    let mut numbers = Vec::new();
    for program in object.progs() {
        let descriptor = program.as_fd();
        // One that the kernel refused was not loaded.
        if descriptor.as_raw_fd() > 0
            && let Some(info) = info_of(descriptor)
        {
            numbers.push((PROGRAM, info.id));
        }
    }
    for map in object.maps() {
        numbers.push((TABLE, map.info()?.info.id));
    }
    for link in links.values() {
        // Those of perf events have none on older kernels.
        if let Ok(info) = link.info() {
            numbers.push((LINK, info.id));
        }
    }
    for (command, number) in numbers {
        let key = u64::from(command) << 32 | u64::from(number);
        table.update(&key.to_ne_bytes(), &1u32.to_ne_bytes(), MapFlags::ANY)?;
    }
    Ok(())
}

//! Quiet places: what is read below them is not told. They are held open, so that the kernel's inode stays where its programs have noted it.
#![expect(
    unsafe_code,
    reason = "the program is run by its descriptor alone: whoever looks up places again has not got the object"
)]

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

use libbpf_rs::libbpf_sys;
use rustix::{
    fs::{OFlags, ResolveFlags, Statx, fstat},
    io::Errno,
};
use zerocopy::IntoBytes;

use super::record::Silence;
use crate::{digest::Mounts, lookup::Lookups};

/// Keeps the kernel's table of quiet places.
pub(super) struct Quiet {
    /// `be_quiet` in bpf/places.h.
    program: OwnedFd,
    places: Vec<(PathBuf, Option<OwnedFd>)>,
}

impl Quiet {
    /// Nothing is quiet before [`refresh`](Self::refresh).
    pub(super) fn new(program: BorrowedFd<'_>, places: &[PathBuf]) -> io::Result<Self> {
        let places = places.iter().map(|place| (place.clone(), None)).collect();
        Ok(Self { program: program.try_clone_to_owned()?, places })
    }

    /// Those that are there, as they were given.
    pub(super) fn there(&self) -> String {
        let there = self.places.iter().filter(|(_, held)| held.is_some());
        there.map(|(place, _)| place.display().to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Looks up the places: some of them come, go and are replaced. What takes the place of a quiet one is quiet from then on.
    pub(super) fn refresh(&mut self, lookups: &Lookups) {
        let (mut gone, mut come) = (Vec::new(), false);
        for (place, held) in &mut self.places {
            let local = |file: OwnedFd, facts: &Statx| (!Mounts::read().has_remote(facts)).then_some(file);
            let path = place.as_os_str().as_bytes();
            let found = match lookups.look(path, OFlags::empty(), ResolveFlags::empty(), local) {
                // Who does not answer has not changed anything.
                Err(Errno::TIMEDOUT) => continue,
                found => found.ok().flatten(),
            };
            if found.as_ref().and_then(identity) == held.as_ref().and_then(identity) {
                continue;
            }
            come |= found.is_some();
            gone.extend(std::mem::replace(held, found));
        }
        // First what is gone: another place may be the same.
        for place in &gone {
            self.say(place, true);
        }
        if come || !gone.is_empty() {
            for place in self.places.iter().filter_map(|(_, held)| held.as_ref()) {
                self.say(place, false);
            }
        }
    }

    fn say(&self, place: &OwnedFd, told: bool) {
        let mut silence = Silence { fd: place.as_raw_fd().cast_unsigned(), told: u32::from(told) };
        let bytes = silence.as_mut_bytes();
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            ctx_in: bytes.as_ptr().cast(),
            ctx_size_in: bytes.len() as u32,
            ..Default::default()
        };
        // SAFETY: the kernel reads the context, which lives until the call returns, and writes into the options, whose size they hold.
        let failed =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut options) };
        // What was quiet by another name as well has gone by itself.
        if failed != 0 || (!told && options.retval != 0) {
            tracing::warn!("cannot tell the kernel of a quiet place: {}", io::Error::last_os_error());
        }
    }
}

/// Which inode it is, as long as it is held.
fn identity(place: &OwnedFd) -> Option<(u64, u64)> {
    fstat(place).ok().map(|facts| (facts.st_dev, facts.st_ino))
}

//! What a canary does, in a process of its own (`luarm canary`): acts that leave a trace in the kernel and nothing else. Most of what takes a privilege is done in order
//! to be refused; packets go over the loopback, from and to sockets of its own; files are in a directory of the recorder's.
//!
//! It is started with what its thread has (`Duty::Canary`), becomes nobody half way, and says on standard output what it did: `did NAME`, `not NAME: WHY`, and `end`.
#![expect(unsafe_code, reason = "system calls that are to be refused have no safe face")]

mod descent;
mod files;
mod network;
mod refused;
mod ring;

use std::{ffi::CStr, fmt::Write as _, io, path::Path};

/// How many rounds it takes to do everything.
pub(crate) const GROUPS: u64 = 6;

/// What only some rounds do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Each round does it.
    Always,
    Opening,
    Naming,
    Attributes,
    Credentials,
    Others,
    Network,
}

/// The user and group `nobody`, of the kernel's making (overflowuid).
const NOBODY: usize = 65534;

/// A round as its process sees it.
pub(super) struct Stage {
    round: u64,
    told: String,
}

impl Stage {
    /// Whether this round does that.
    fn does(&self, group: Group) -> bool {
        group == Group::Always || self.round == 0 || self.round % GROUPS + 1 == group as u64
    }

    fn did(&mut self, name: &str) {
        // Into a string nothing fails.
        let _ = writeln!(self.told, "did {name}");
    }

    fn not(&mut self, name: &str, why: &str) {
        let _ = writeln!(self.told, "not {name}: {why}");
    }

    /// An act that is to succeed.
    fn done<T>(&mut self, name: &str, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.did(name);
                Some(value)
            }
            Err(error) => {
                self.not(name, &error.to_string());
                None
            }
        }
    }

    /// An act that is to be refused.
    fn refused<T>(&mut self, name: &str, result: io::Result<T>) {
        match result {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.did(name),
            Err(error) => self.not(name, &error.to_string()),
            Ok(_) => self.not(name, "it was not refused"),
        }
    }
}

/// Does a round; `round` 0 does everything. Where a sensor only looks at times, only what it can come to see, until `looked` returns.
pub(crate) fn act(round: u64, sampled: bool, mut say: impl FnMut(&str), looked: impl FnOnce()) {
    let mut stage = Stage { round, told: String::new() };
    if sampled {
        let held = network::lasting(&mut stage);
        say(&(stage.told + "end\n"));
        looked();
        drop(held);
        return;
    }
    if let Err(error) = rustix::thread::set_name(c"luarm-canary") {
        stage.not("prctl", &error.to_string());
    } else {
        stage.did("prctl");
    }
    files::act(&mut stage);
    network::connect_in_vain(&mut stage);
    let sockets = network::Sockets::open(&mut stage);
    descent::copy(&mut stage, &sockets);
    let is_nobody = refused::become_nobody(&mut stage);
    sockets.exchange(&mut stage);
    refused::act(&mut stage, is_nobody);
    ring::act(&mut stage);
    if is_nobody {
        descent::clone(&mut stage);
    }
    say(&(stage.told + "end\n"));
    looked();
}

/// A system call by its number. What its arguments point to has to be as the call wants it.
///
/// # Safety
/// As for the call itself.
unsafe fn call(number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let at = |place: usize| arguments.get(place).copied().unwrap_or(0);
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn address(text: &CStr) -> usize {
    text.as_ptr() as usize
}

/// Whether the process may become another user.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where the canary's files are, below the recorder's data directory.
pub(crate) fn directory(data: &Path) -> std::path::PathBuf {
    data.join("canary")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use luarm_recorder::canary::ACTS;

    #[test]
    fn every_act_is_done_somewhere_and_has_a_name_of_its_own() {
        let source: String = [
            "acts.rs",
            "acts/descent.rs",
            "acts/files.rs",
            "acts/network.rs",
            "acts/refused.rs",
            "acts/ring.rs",
        ]
        .iter()
        .map(|name| {
            let path = format!("{}/src/canary/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        })
        .collect();
        let mut names = BTreeSet::new();
        for act in ACTS {
            assert!(names.insert(act.name), "{} twice", act.name);
            let own = ["exec", "exit"].contains(&act.name);
            assert!(own || source.contains(&format!("\"{}\"", act.name)), "{} is done nowhere", act.name);
        }
    }
}

//! What the threads of a recorder may do: each keeps the capabilities that its duty takes, and gives up all others for good.
//!
//! Capabilities are a thread's own (capabilities(7)), and a thread starts with those of the one that started it. So the threads that need many are started by one
//! that has them, and nobody else is.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What a thread is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// To start a sensor.
    Attaching,
    /// To take what the kernel's programs tell, and to digest files.
    Watching,
    /// To look at /proc and at the sockets of every network namespace.
    Polling,
    /// To watch what is around the processes.
    Surroundings,
    /// To run a process that does something known, as another user.
    Canary,
    /// To keep rows in files of its own, to send them, to answer.
    Keeping,
    /// The same, in files of another user's.
    KeepingForOthers,
}

impl Duty {
    /// What it takes; SECURITY.md has the reasons.
    pub const fn capabilities(self) -> CapabilitySet {
        let looking = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);
        let reading = looking.union(CapabilitySet::FOWNER);
        match self {
            Duty::Watching => reading.union(CapabilitySet::BPF),
            Duty::Polling => looking.union(CapabilitySet::SYS_ADMIN),
            Duty::Surroundings => looking,
            Duty::Canary => {
                CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::NET_BIND_SERVICE)
            }
            Duty::Keeping => CapabilitySet::empty(),
            Duty::KeepingForOthers => CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::CHOWN),
            Duty::Attaching => reading
                .union(CapabilitySet::BPF)
                .union(CapabilitySet::PERFMON)
                .union(CapabilitySet::NET_ADMIN)
                .union(CapabilitySet::SYS_ADMIN)
                .union(Duty::Canary.capabilities())
                // To give up the others in the bounding set as well.
                .union(CapabilitySet::SETPCAP),
        }
    }

    /// As [`keep_to`](Self::keep_to); where that cannot be done it is said, because recording is worth more than giving up what one may do.
    pub fn settle(self) {
        if let Err(error) = self.keep_to() {
            tracing::warn!("capabilities that are not needed cannot be given up: {error}");
        }
    }

    /// Has the calling thread, and those that it starts from now on, keep what this duty takes of what it has, and nothing else: neither now nor by executing
    /// a program.
    pub fn keep_to(self) -> io::Result<()> {
        set_no_new_privs(true)?;
        let has = capabilities(None)?;
        let wanted = self.capabilities();
        if has.permitted.contains(CapabilitySet::SETPCAP) {
            for bit in (0..u64::BITS).map(|n| CapabilitySet::from_bits_retain(1 << n)) {
                // Beyond the last capability that the kernel knows there is an error.
                if !wanted.contains(bit) && capability_is_in_bounding_set(bit).unwrap_or(false) {
                    remove_capability_from_bounding_set(bit)?;
                }
            }
        }
        clear_ambient_capability_set()?;
        let permitted = has.permitted.intersection(wanted);
        let effective = has.effective.intersection(wanted);
        set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_does_not_come_back_and_others_keep_theirs() {
        let before = capabilities(None).unwrap();
        let narrowed = std::thread::spawn(|| {
            Duty::Attaching.keep_to().unwrap();
            let more = capabilities(None).unwrap();
            Duty::Surroundings.keep_to().unwrap();
            let less = capabilities(None).unwrap();
            // Whoever wants it back is refused.
            Duty::Attaching.keep_to().unwrap();
            assert_eq!(capabilities(None).unwrap().permitted, less.permitted);
            let child = std::thread::spawn(|| capabilities(None).unwrap()).join().unwrap();
            assert_eq!((child.permitted, child.effective), (less.permitted, less.effective));
            (more, less)
        });
        let (more, less) = narrowed.join().unwrap();
        assert_eq!(more.permitted, before.permitted & Duty::Attaching.capabilities());
        assert_eq!(less.permitted, before.permitted & Duty::Surroundings.capabilities());
        assert!(less.inheritable.is_empty());
        assert_eq!(capabilities(None).unwrap(), before);
    }

    #[test]
    fn every_duty_is_one_of_attachings() {
        for duty in [Duty::Watching, Duty::Polling, Duty::Surroundings, Duty::Canary, Duty::Keeping] {
            assert!(Duty::Attaching.capabilities().contains(duty.capabilities()), "{duty:?}");
        }
    }
}

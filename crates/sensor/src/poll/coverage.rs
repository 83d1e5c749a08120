//! What the polling sensor says of itself.

use crate::{
    observation::{Coverage, Watch},
    proc::Reader,
};

const SHORT_LIVED: &str = "what lives shorter than a round is not seen";
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// What the reader is allowed to see.
pub(super) struct Sight {
    /// The images, directories and sockets of other users.
    others: bool,
    /// Network namespaces other than its own.
    namespaces: bool,
    /// The processes of other users at all, which the mount option `hidepid` forbids.
    pub(super) processes: bool,
}

impl Sight {
    pub(super) fn of(reader: &Reader) -> Self {
        let status = reader.process(std::process::id()).and_then(|own| own.status());
        let has = |capability: u32| status.is_some_and(|status| status.effective >> capability & 1 == 1);
        Self {
            others: has(CAP_SYS_PTRACE),
            namespaces: has(CAP_SYS_ADMIN),
            processes: reader.stat(1).is_some(),
        }
    }

    fn process_reason(&self) -> String {
        let mut reason = SHORT_LIVED.to_owned();
        if !self.processes {
            reason += "; /proc is mounted with hidepid: the processes of other users are not seen";
        } else if !self.others {
            reason += "; without CAP_SYS_PTRACE, the images and working directories of other users are not known, nor an exec \
                       that keeps the task name";
        }
        reason
    }

    fn socket_reason(&self) -> String {
        let mut reason = SHORT_LIVED.to_owned();
        if !self.others {
            reason += "; without CAP_SYS_PTRACE, sockets of other users cannot be attributed to processes";
        }
        if !self.namespaces {
            reason += "; without CAP_SYS_ADMIN, other network namespaces are not seen";
        }
        reason
    }
}

/// How each class is watched. `sockets`: the error, if sock_diag cannot be had.
pub(super) fn coverage(sight: &Sight, sockets: Option<&str>) -> Vec<Coverage> {
    let sampled = |class, hook: &str, reason| Coverage {
        class,
        watch: Watch::Sampled,
        sensor: "poll",
        hook: hook.to_owned(),
        reason: Some(reason),
    };
    let unwatched = |class, reason: &str| Coverage {
        class,
        watch: Watch::Unwatched,
        sensor: "none",
        hook: String::new(),
        reason: Some(reason.to_owned()),
    };
    let mut all: Vec<_> = ["process", "rename", "credentials"]
        .into_iter()
        .map(|class| sampled(class, "/proc", sight.process_reason()))
        .collect();
    all.push(unwatched("image-digest", "polling digests no images"));
    all.push(unwatched("file", "polling sees no files"));
    all.push(unwatched("file-digest", "polling sees no files"));
    all.extend(["tcp", "udp"].map(|class| match sockets {
        None => sampled(class, "sock_diag", sight.socket_reason()),
        Some(error) => unwatched(class, error),
    }));
    all.push(unwatched("io-uring", "polling sees no files"));
    all.push(unwatched("tcp-denied", "a connection that is refused leaves no trace in /proc"));
    all.push(unwatched("exec-denied", "an exec that fails leaves no trace in /proc"));
    all.push(unwatched("tcp-accept", "sockets are seen, not the calls that make them"));
    all.push(unwatched("names", "polling reads no packets"));
    all.extend(
        ["kernel-code", "bpf", "ptrace", "namespaces", "signals"]
            .map(|class| unwatched(class, "what a process does to others leaves no trace in /proc")),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_said() {
        let reason = |sight: &Sight, error, class| {
            let all = coverage(sight, error);
            let one = all.into_iter().find(|coverage| coverage.class == class).unwrap();
            (one.watch, one.reason.unwrap())
        };
        let root = Sight { others: true, namespaces: true, processes: true };
        assert_eq!(reason(&root, None, "process"), (Watch::Sampled, SHORT_LIVED.to_owned()));
        assert_eq!(reason(&root, None, "tcp"), (Watch::Sampled, SHORT_LIVED.to_owned()));
        assert_eq!(reason(&root, Some("no"), "udp"), (Watch::Unwatched, "no".to_owned()));
        let user = Sight { others: false, namespaces: false, processes: true };
        assert!(reason(&user, None, "process").1.contains("CAP_SYS_PTRACE"));
        assert!(reason(&user, None, "tcp").1.contains("CAP_SYS_ADMIN"));
        let hidden = Sight { processes: false, ..user };
        assert!(reason(&hidden, None, "credentials").1.contains("hidepid"));
        for class in ["exec-denied", "tcp-accept", "names", "ptrace", "signals"] {
            assert_eq!(reason(&root, None, class).0, Watch::Unwatched);
        }
    }
}

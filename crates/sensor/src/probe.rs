//! What the running kernel and this process's rights allow, as far as it can be known without trying.

use std::{fs, path::Path};

use rustix::system::uname;

use crate::proc;

/// Capabilities that matter to a sensor, with their numbers in capability.h.
const CAPABILITIES: [(&str, u32); 6] = [
    ("CAP_BPF", 39),
    ("CAP_PERFMON", 38),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_DAC_READ_SEARCH", 2),
];

/// What is there and what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permits {
    /// Kernel release and architecture.
    pub kernel: String,
    /// Effective user id.
    pub user: u32,
    /// The capabilities that matter, and whether this process has them.
    pub capabilities: Vec<(&'static str, bool)>,
    /// The kernel tells its types (CONFIG_DEBUG_INFO_BTF): without them no eBPF program of ours loads.
    pub btf: bool,
    /// The lockdown mode in force (`none`, `integrity`, `confidentiality`); `None` where securityfs is not mounted.
    pub lockdown: Option<String>,
    /// Whether BPF without CAP_BPF is switched off (kernel.unprivileged_bpf_disabled).
    pub unprivileged_bpf: Option<u32>,
}

impl Permits {
    /// Reads them below `root`: `/`, or a made-up tree.
    pub fn read(root: &Path) -> Self {
        let running = uname();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let own = proc::Reader::open(root).ok().and_then(|reader| reader.process(std::process::id()));
        let effective = own.and_then(|own| own.status()).map_or(0, |status| status.effective);
        let number = fs::read_to_string(root.join("proc/sys/kernel/unprivileged_bpf_disabled")).ok();
        Self {
            kernel: format!("{} {}", text(running.release().to_bytes()), text(running.machine().to_bytes())),
            user: rustix::process::geteuid().as_raw(),
            capabilities: CAPABILITIES.map(|(name, bit)| (name, effective >> bit & 1 == 1)).to_vec(),
            btf: root.join("sys/kernel/btf/vmlinux").exists(),
            lockdown: lockdown(root),
            unprivileged_bpf: number.and_then(|number| number.trim().parse().ok()),
        }
    }
}

/// The file shows all modes, and the one in force in brackets.
fn lockdown(root: &Path) -> Option<String> {
    let modes = fs::read_to_string(root.join("sys/kernel/security/lockdown")).ok()?;
    let (_, chosen) = modes.split_once('[')?;
    chosen.split_once(']').map(|(mode, _)| mode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_host_is_read_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let bare = Permits::read(root.path());
        assert!(!bare.btf && bare.lockdown.is_none() && bare.unprivileged_bpf.is_none());
        assert!(bare.capabilities.iter().all(|(_, there)| !there));
        let own = format!("proc/{}", std::process::id());
        for (path, content) in [
            (format!("{own}/status"), "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nCapEff:\t0000008000001000\n"),
            ("sys/kernel/security/lockdown".to_owned(), "none [integrity] confidentiality\n"),
            ("sys/kernel/btf/vmlinux".to_owned(), ""),
            ("proc/sys/kernel/unprivileged_bpf_disabled".to_owned(), "2\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let there = Permits::read(root.path());
        assert_eq!(
            (there.btf, there.lockdown.as_deref(), there.unprivileged_bpf),
            (true, Some("integrity"), Some(2))
        );
        let has: Vec<_> = there.capabilities.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        assert_eq!(has, ["CAP_BPF", "CAP_NET_ADMIN"]);
    }
}

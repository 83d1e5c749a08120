//! Facts about the computer and its running kernel.

mod machine;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::system::uname;

use crate::{observation::Namespaces, proc};

/// Why the facts could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct HostError {
    path: PathBuf,
    source: io::Error,
}

/// What is known of the computer, its system, and its kernel since it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// /etc/machine-id: 32 hexadecimal digits, see machine-id(5). Empty where there is none; whoever needs an identity must then keep one.
    pub machine_id: String,
    /// Host name.
    pub hostname: String,
    /// Distribution and release, see os-release(5).
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// The random id that the kernel gave itself when it started.
    pub boot_id: String,
    /// Time zone, as the tz database names it.
    pub timezone: Option<String>,
    /// What the kernel was started with.
    pub cmdline: Option<String>,
    /// What it runs in, where that is no real machine, by the names of systemd-detect-virt(1); `vm` for a hypervisor that does not say which.
    pub virtualization: Option<String>,
    /// Who made the machine.
    pub vendor: Option<String>,
    /// What its maker calls it.
    pub product: Option<String>,
    /// Its serial number; only root may read it.
    pub serial: Option<String>,
    /// Memory, bytes.
    pub memory: u64,
    /// Processors that are online.
    pub cpus: u32,
    /// Namespaces of pid 1, or our own where those are not for us to read.
    pub namespaces: Namespaces,
}

impl HostFacts {
    /// Reads them below `root`: `/`, or a made-up tree. Only the boot id must be there.
    pub fn read(root: &Path) -> Result<Self, HostError> {
        let boot_id = root.join("proc/sys/kernel/random/boot_id");
        let boot_id = match fs::read(&boot_id) {
            Ok(bytes) => line(&bytes),
            Err(source) => return Err(HostError { path: boot_id, source }),
        };
        let running = uname();
        let kernel_says =
            |name: &str, otherwise: &[u8]| kernel(root, name).unwrap_or_else(|| line(otherwise));
        Ok(Self {
            machine_id: machine_id(root),
            hostname: kernel_says("hostname", running.nodename().to_bytes()),
            os: os(root),
            kernel: kernel_says("osrelease", running.release().to_bytes()),
            arch: kernel_says("arch", running.machine().to_bytes()),
            boot_id,
            timezone: timezone(root),
            cmdline: text(&root.join("proc/cmdline")),
            virtualization: machine::virtualization(root),
            vendor: machine::dmi(root, "sys_vendor"),
            product: machine::dmi(root, "product_name"),
            serial: machine::dmi(root, "product_serial"),
            memory: memory(root),
            cpus: cpus(root),
            namespaces: namespaces(root),
        })
    }
}

/// What the kernel says of itself that may change while it runs: the host name and the NIS domain, by their names as facts.
pub(crate) fn names(root: &Path) -> Vec<(&'static str, String)> {
    let known = ["hostname", "domainname"].map(|name| kernel(root, name).map(|value| (name, value)));
    // The kernel's word for none.
    known.into_iter().flatten().filter(|(_, value)| value != "(none)").collect()
}

/// What the system's files say of it that may change while it runs, by their names as facts.
pub(crate) fn settings(root: &Path) -> Vec<(&'static str, String)> {
    let machine_id = Some(machine_id(root)).filter(|id| !id.is_empty());
    let known = [("machineid", machine_id), ("os", Some(os(root))), ("timezone", timezone(root))];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn kernel(root: &Path, name: &str) -> Option<String> {
    text(&root.join("proc/sys/kernel").join(name))
}

fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Longest file that is read: /proc/stat grows with the number of interrupts, and what follows its processors does not matter.
const LONGEST: u64 = 1 << 20;

/// What a file holds, without blanks around it; `None` where it is missing or empty.
fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(line(&bytes)).filter(|text| !text.is_empty())
}

fn machine_id(root: &Path) -> String {
    ["etc/machine-id", "var/lib/dbus/machine-id"]
        .iter()
        .filter_map(|path| text(&root.join(path)))
        .find(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .unwrap_or_default()
        .to_ascii_lowercase()
}

fn os(root: &Path) -> String {
    let release = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| text(&root.join(path)));
    let value = |key: &str| {
        let assigned =
            release.as_deref()?.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let unquoted = assigned.trim().trim_matches(['"', '\'']);
        (!unquoted.is_empty()).then(|| unquoted.to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| "Linux".to_owned())
}

fn timezone(root: &Path) -> Option<String> {
    let localtime = fs::read_link(root.join("etc/localtime")).ok();
    let linked =
        localtime.as_deref().and_then(Path::to_str).and_then(|target| target.split_once("zoneinfo/"));
    match linked {
        Some((_, zone)) => Some(zone.to_owned()),
        None => text(&root.join("etc/timezone")),
    }
}

fn memory(root: &Path) -> u64 {
    let meminfo = text(&root.join("proc/meminfo")).unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|total| total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

fn cpus(root: &Path) -> u32 {
    let stat = text(&root.join("proc/stat")).unwrap_or_default();
    let is_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(is_one).count()).unwrap_or(u32::MAX)
}

fn namespaces(root: &Path) -> Namespaces {
    let Ok(reader) = proc::Reader::open(root) else {
        return Namespaces::default();
    };
    match reader.process(1).map(|first| first.namespaces()) {
        Some(known) if known != Namespaces::default() => known,
        _ => reader.own_namespaces(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    const BOOT_ID: (&str, &str) =
        ("proc/sys/kernel/random/boot_id", "0d2b8c3e-5b0a-4f3c-9a57-6a4d4f0e6a11\n");

    #[test]
    fn every_fact_is_read_below_the_root() {
        let root = tree(&[
            BOOT_ID,
            ("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
            ("etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            ("proc/sys/kernel/hostname", "penguin\n"),
            ("proc/sys/kernel/osrelease", "6.1.0-42-amd64\n"),
            ("proc/sys/kernel/arch", "x86_64\n"),
            ("proc/meminfo", "MemTotal:        2048 kB\nMemFree:  1 kB\n"),
            ("proc/stat", "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n"),
            ("etc/timezone", "Europe/London\n"),
            ("proc/cmdline", "root=/dev/vda ro quiet\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("sys/class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)\n"),
            ("sys/class/dmi/id/bios_vendor", "SeaBIOS for KVM\n"),
            ("sys/class/dmi/id/product_serial", "Not Specified\n"),
        ]);
        fs::create_dir_all(root.path().join("proc/1/ns")).unwrap();
        symlink("net:[4026531840]", root.path().join("proc/1/ns/net")).unwrap();
        symlink("pid:[4026531836]", root.path().join("proc/1/ns/pid")).unwrap();
        let expected = HostFacts {
            machine_id: "3d1219c7c4c5404aaa1f6d2a48adfda4".to_owned(),
            hostname: "penguin".to_owned(),
            os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            kernel: "6.1.0-42-amd64".to_owned(),
            arch: "x86_64".to_owned(),
            boot_id: "0d2b8c3e-5b0a-4f3c-9a57-6a4d4f0e6a11".to_owned(),
            timezone: Some("Europe/London".to_owned()),
            cmdline: Some("root=/dev/vda ro quiet".to_owned()),
            virtualization: Some("kvm".to_owned()),
            vendor: Some("QEMU".to_owned()),
            product: Some("Standard PC (Q35 + ICH9, 2009)".to_owned()),
            serial: None,
            memory: 2 << 20,
            cpus: 2,
            namespaces: Namespaces { net: 4_026_531_840, pid: 4_026_531_836, ..Namespaces::default() },
        };
        assert_eq!(HostFacts::read(root.path()).unwrap(), expected);
        symlink("/usr/share/zoneinfo/Pacific/Auckland", root.path().join("etc/localtime")).unwrap();
        assert_eq!(HostFacts::read(root.path()).unwrap().timezone.as_deref(), Some("Pacific/Auckland"));
    }

    #[test]
    fn only_the_boot_id_is_indispensable() {
        let facts = HostFacts::read(tree(&[BOOT_ID, ("etc/machine-id", "uninitialized\n")]).path()).unwrap();
        assert_eq!((facts.machine_id.as_str(), facts.os.as_str(), facts.timezone), ("", "Linux", None));
        let root = tree(&[]);
        let error = HostFacts::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("random/boot_id"), "{error}");
    }

    #[test]
    fn this_computer_has_them() {
        let facts = HostFacts::read(Path::new("/")).unwrap();
        assert_eq!(facts.boot_id.len(), 36);
        assert!(facts.memory > 1 << 20 && facts.cpus > 0 && facts.namespaces.net != 0, "{facts:?}");
    }
}

//! The machine, and whether it is a real one.

use std::path::Path;

use super::text;

/// What makers write where they have nothing to say.
const FILLERS: [&str; 6] =
    ["not specified", "to be filled by o.e.m.", "system serial number", "default string", "none", "0"];

/// A field of the DMI tables, as the kernel shows them in /sys/class/dmi/id (sysfs-firmware-dmi); `None` where there are none, as on many
/// machines that are not PCs.
pub(super) fn dmi(root: &Path, field: &str) -> Option<String> {
    let value = text(&root.join("sys/class/dmi/id").join(field))?;
    (!FILLERS.contains(&value.to_ascii_lowercase().as_str())).then_some(value)
}

/// What a field of the DMI tables begins with or holds, and what that stands for; the first that fits counts. From systemd's src/basic/virt.c.
const MAKERS: [(&str, &str); 13] = [
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("Amazon EC2", "amazon"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Google Compute Engine", "google"),
];

/// The container or virtual machine that the system runs in.
pub(super) fn virtualization(root: &Path) -> Option<String> {
    container(root).or_else(|| machine(root))
}

fn container(root: &Path) -> Option<String> {
    // What a container's manager says to systemd, see systemd's CONTAINER_INTERFACE.
    let said = text(&root.join("run/systemd/container")).filter(|name| name.len() <= 64);
    let marked = |file: &str, name: &str| root.join(file).exists().then(|| name.to_owned());
    said.or_else(|| marked("run/.containerenv", "podman")).or_else(|| marked(".dockerenv", "docker"))
}

fn machine(root: &Path) -> Option<String> {
    let fields = ["product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"];
    let fields: Vec<String> = fields.iter().filter_map(|field| dmi(root, field)).collect();
    if fields.iter().any(|field| field == "Microsoft Corporation")
        && fields.iter().any(|field| field == "Virtual Machine")
    {
        return Some("microsoft".to_owned());
    }
    let by_maker = MAKERS.iter().find(|(mark, _)| fields.iter().any(|field| field.contains(mark)));
    if let Some((_, name)) = by_maker {
        return Some((*name).to_owned());
    }
    if let Some(kind) = text(&root.join("sys/hypervisor/type")) {
        return Some(kind);
    }
    // CPUID leaf 1, ECX bit 31 (x86): no real processor has it.
    let cpuinfo = text(&root.join("proc/cpuinfo"))?;
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'))?.1;
    flags.split_ascii_whitespace().any(|flag| flag == "hypervisor").then(|| "vm".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn on(files: &[(&str, &str)]) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        virtualization(root.path())
    }

    #[test]
    fn what_it_runs_in_is_told_by_whatever_tells() {
        let dmi = |field, value| (["sys/class/dmi/id/", field].concat(), value);
        for (expected, fields) in [
            (Some("oracle"), vec![dmi("sys_vendor", "innotek GmbH\n")]),
            (Some("kvm"), vec![dmi("sys_vendor", "QEMU\n"), dmi("product_version", "KVM 1.0\n")]),
            (Some("amazon"), vec![dmi("sys_vendor", "Amazon EC2\n")]),
            (
                Some("microsoft"),
                vec![dmi("sys_vendor", "Microsoft Corporation\n"), dmi("product_name", "Virtual Machine\n")],
            ),
            (None, vec![dmi("sys_vendor", "Microsoft Corporation\n"), dmi("product_name", "Surface Book\n")]),
            (None, vec![dmi("sys_vendor", "LENOVO\n")]),
        ] {
            let fields: Vec<_> = fields.iter().map(|(path, value)| (path.as_str(), *value)).collect();
            assert_eq!(on(&fields).as_deref(), expected, "{fields:?}");
        }
        assert_eq!(on(&[("sys/hypervisor/type", "xen\n")]).as_deref(), Some("xen"));
        assert_eq!(
            on(&[("proc/cpuinfo", "processor: 0\nflags\t\t: fpu hypervisor lm\n")]).as_deref(),
            Some("vm")
        );
        assert_eq!(on(&[("proc/cpuinfo", "flags\t\t: fpu hypervisors lm\n")]), None);
        assert_eq!(on(&[(".dockerenv", ""), ("sys/hypervisor/type", "xen\n")]).as_deref(), Some("docker"));
        assert_eq!(on(&[("run/systemd/container", "lxc\n")]).as_deref(), Some("lxc"));
        assert_eq!(on(&[]), None);
    }

    #[test]
    fn a_maker_that_says_nothing_is_not_quoted() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sys/class/dmi/id");
        fs::create_dir_all(&dir).unwrap();
        for (value, expected) in
            [("To Be Filled By O.E.M.\n", None), ("0\n", None), (" C02X \n", Some("C02X"))]
        {
            fs::write(dir.join("product_serial"), value).unwrap();
            assert_eq!(dmi(root.path(), "product_serial").as_deref(), expected);
        }
    }
}

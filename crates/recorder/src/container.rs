//! The container that a process is in, as the path of its control group tells.

/// Names that runtimes put before the id of a container.
const RUNTIMES: [&str; 7] =
    ["docker-", "cri-containerd-", "containerd-", "crio-", "libpod-", "podman-", "nerdctl-"];

/// The id or name of the container, from the innermost part of the path that names one: Docker, containerd, CRI-O and Podman with
/// either control group driver (64 hexadecimal digits), LXC, and what systemd-machined registers (systemd-nspawn and virtual machines).
pub(crate) fn container(cgroup: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(cgroup).ok()?;
    let mut outer = path.split('/').filter(|part| !part.is_empty()).rev().peekable();
    while let Some(part) = outer.next() {
        let found = runtime(part)
            .or_else(|| machine(part))
            .or_else(|| part.strip_prefix("lxc.payload.").map(str::to_owned))
            .or_else(|| matches!(outer.peek(), Some(&("lxc" | "lxc.payload"))).then(|| part.to_owned()));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn runtime(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").or_else(|| part.strip_suffix(".service")).unwrap_or(part);
    // containerd's CRI with systemd: kubepods-burstable-pod….slice:cri-containerd:ID
    let part = part.rsplit_once(':').map_or(part, |(_, id)| id);
    let id = RUNTIMES.iter().find_map(|runtime| part.strip_prefix(runtime)).unwrap_or(part);
    (id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then(|| id.to_owned())
}

fn machine(part: &str) -> Option<String> {
    let name = part
        .strip_prefix("machine-")
        .and_then(|rest| rest.strip_suffix(".scope"))
        .or_else(|| part.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service")))?;
    // systemd.unit(5): a dash inside a name is written \x2d.
    (!name.is_empty()).then(|| name.replace("\\x2d", "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_is_known_by_its_path() {
        const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (path, expected) in [
            ("/system.slice/docker-ID.scope", Some(ID)),
            ("/docker/ID", Some(ID)),
            ("/docker/ID/init.scope", Some(ID)),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-ID.scope",
                Some(ID),
            ),
            ("/kubepods/burstable/pod9d6a/ID", Some(ID)),
            ("/system.slice/containerd.service/kubepods-besteffort-pod9.slice:cri-containerd:ID", Some(ID)),
            ("/kubepods.slice/crio-ID.scope/container", Some(ID)),
            ("/machine.slice/libpod-ID.scope/container", Some(ID)),
            ("/machine.slice/libpod-conmon-ID.scope", None),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", Some(ID)),
            ("/lxc.payload.web/system.slice/cron.service", Some("web")),
            ("/lxc/web/init.scope", Some("web")),
            ("/lxc.monitor.web", None),
            ("/machine.slice/machine-my\\x2dbox.scope/payload", Some("my-box")),
            ("/machine.slice/systemd-nspawn@box.service/payload", Some("box")),
            ("/user.slice/user-1000.slice/session-3.scope", None),
            ("/docker/0123", None),
            ("/", None),
            ("", None),
        ] {
            let path = path.replace("ID", ID);
            assert_eq!(container(path.as_bytes()).as_deref(), expected, "{path}");
        }
        assert_eq!(container(b"/docker/\xff"), None);
    }
}

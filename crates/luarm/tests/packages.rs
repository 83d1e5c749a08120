//! The Debian packages: what is in them, and that they go in and out of a system without a trace but the data.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use support::{
    is_root,
    packaging::{has, in_a_copy_of_this_system, output, packages},
    skip,
};

fn field(package: &Path, name: &str) -> String {
    output(Command::new("dpkg-deb").arg("--field").arg(package).arg(name)).trim_end().to_owned()
}

/// Path, mode and owner of all that is in a package.
fn contents(package: &Path) -> Vec<(String, String, String)> {
    let listing = output(Command::new("dpkg-deb").arg("--contents").arg(package));
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        (words.nth(3).unwrap().trim_start_matches('.').to_owned(), mode, owner)
    };
    listing.lines().map(line).collect()
}

#[test]
fn packages_hold_what_they_should_and_nothing_else() {
    if !has("dpkg-shlibdeps") {
        return skip("needs dpkg-dev");
    }
    let directory = tempfile::tempdir().unwrap();
    let made = packages(directory.path());
    for package in &made {
        for (path, mode, owner) in contents(package) {
            assert_eq!(owner, "root/root", "{path}");
            assert!(mode.starts_with('d') || mode.starts_with('-'), "{path} is {mode}");
            assert!(!mode[7..].contains('w') && !mode[4..7].contains('w'), "others may write {path}: {mode}");
            assert!(!mode.contains(['s', 'S', 't', 'T']), "{path}: {mode}");
            assert!(["/usr/", "/etc/"].iter().any(|top| path.starts_with(top)) || path == "/", "{path}");
        }
        for name in ["Version", "Architecture", "Maintainer", "Depends", "Section", "Description"] {
            assert!(!field(package, name).is_empty(), "{} has no {name}", package.display());
            let left = ["@VERSION@", "@ARCHITECTURE@", "@NEEDS@", "@SIZE@"];
            assert!(
                !left.iter().any(|left| field(package, name).contains(left)),
                "{name} of {}",
                package.display()
            );
        }
    }
    let [luarm, agent, server] = &made[..] else { unreachable!() };
    let paths =
        |package: &Path| contents(package).into_iter().map(|(path, ..)| path).collect::<BTreeSet<_>>();
    for wanted in [
        "/usr/bin/luarm",
        "/etc/luarm/luarm.toml",
        "/usr/lib/systemd/system/luarm.service",
        "/usr/share/man/man1/luarm.1.gz",
        "/usr/share/man/man1/luarm-server-init.1.gz",
        "/usr/share/bash-completion/completions/luarm",
        "/usr/share/zsh/vendor-completions/_luarm",
        "/usr/share/doc/luarm/copyright",
    ] {
        assert!(paths(luarm).contains(wanted), "{wanted} is not in luarm");
    }
    assert!(paths(agent).contains("/usr/lib/systemd/system/luarm-agent.service"));
    assert!(paths(server).contains("/usr/lib/systemd/system/luarm-server.service"));
    for (one, other) in [(luarm, agent), (luarm, server), (agent, server)] {
        let both: Vec<_> =
            paths(one).intersection(&paths(other)).filter(|path| !path.ends_with('/')).cloned().collect();
        assert!(both.is_empty(), "{both:?} are in two packages");
    }
    let needs = field(luarm, "Depends");
    for library in ["libc6 (>= ", "libelf1", "zlib1g"] {
        assert!(needs.contains(library), "{needs}");
    }
    assert!(field(agent, "Depends").contains(&format!("luarm (= {})", env!("CARGO_PKG_VERSION"))));
    // What may hold a password is not for everybody.
    let secret = contents(server).into_iter().find(|(path, ..)| path == "/etc/luarm/server.toml").unwrap();
    assert_eq!(secret.1, "-rw-r-----");

    // The settings are the documented ones, and the program takes them.
    let tree = directory.path().join("tree");
    for package in [luarm, server] {
        output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&tree));
        let conffiles = output(Command::new("dpkg-deb").arg("--info").arg(package).arg("conffiles"));
        let wanted = if package == luarm { "/etc/luarm/luarm.toml" } else { "/etc/luarm/server.toml" };
        assert_eq!(conffiles.trim_end(), wanted);
    }
    let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/luarm.toml");
    assert_eq!(fs::read(tree.join("etc/luarm/luarm.toml")).unwrap(), fs::read(documented).unwrap());
    let settings = tree.join("etc/luarm/server.toml");
    assert!(fs::read_to_string(&settings).unwrap().contains("\ndata = \"/var/lib/luarm-server\"\n"));
    let asked =
        Command::new(tree.join("usr/bin/luarm")).arg("--config").arg(&settings).arg("sync").output().unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(said.starts_with("luarm: no recorder is running on /var/lib/luarm-server"), "{said}");
}

const STORY: &str = r#"
# As on a system that has not had luarm.
rm -rf /etc/luarm /var/lib/luarm /var/lib/luarm-server
! id luarm 2>/dev/null
find /etc /usr /var/lib -xdev \( -path /var/lib/dpkg -o -path /var/lib/systemd/deb-systemd-helper-enabled \) -prune -o -print | sort > /mnt/before
dpkg --install /mnt/debs/*.deb
echo "version: $(luarm --version)"
echo "owner: $(stat -c %U:%G:%a /var/lib/luarm-server /etc/luarm/server.toml | tr '\n' ' ')"
for unit in luarm luarm-agent luarm-server; do echo "enabled: $unit $(systemctl is-enabled $unit.service || :)"; done
dpkg --verify luarm luarm-agent luarm-server
# The server's account makes what the server needs, and only it reads it.
runuser -u luarm -- luarm --config /etc/luarm/server.toml server init --name here
echo "authority: $(stat -c %U:%a /var/lib/luarm-server/server/ca.key)"
# Settings of the administrator's survive another installation.
echo 'log = "warn"' >> /etc/luarm/luarm.toml
dpkg --install /mnt/debs/*.deb
tail -n 1 /etc/luarm/luarm.toml
dpkg --remove luarm-agent luarm-server luarm
! command -v luarm
ls /etc/luarm
dpkg --purge luarm-agent luarm-server luarm
find /etc /usr /var/lib -xdev \( -path /var/lib/dpkg -o -path /var/lib/systemd/deb-systemd-helper-enabled \) -prune -o -print | sort > /mnt/after
echo "left: $(comm -13 /mnt/before /mnt/after | grep -v '^/var/lib/luarm-server' | grep -v -- '-$' | tr '\n' ' ')"
echo "gone: $(comm -23 /mnt/before /mnt/after | tr '\n' ' ')"
echo "user: $(id -un luarm)"
# Without data nobody is left.
rm -rf /var/lib/luarm-server
dpkg --install /mnt/debs/*.deb >/dev/null
dpkg --purge luarm-agent luarm-server luarm >/dev/null
! id luarm 2>/dev/null
[ ! -e /var/lib/luarm-server ]
echo "units: $(find /etc/systemd /var/lib/systemd -name '*luarm*' | tr '\n' ' ')"
"#;

#[test]
fn packages_go_in_and_out_of_a_system_and_leave_the_data() {
    if !is_root() || !has("dpkg-shlibdeps") {
        return skip("needs root and dpkg-dev");
    }
    let directory = tempfile::tempdir().unwrap();
    packages(&directory.path().join("debs"));
    let Some(said) = in_a_copy_of_this_system(directory.path(), STORY) else {
        return skip("needs a kernel with overlayfs");
    };
    for line in [
        format!("version: luarm {}\n", env!("CARGO_PKG_VERSION")),
        "owner: luarm:luarm:700 root:luarm:640 \n".to_owned(),
        "enabled: luarm disabled\n".to_owned(),
        "enabled: luarm-agent enabled\n".to_owned(),
        "enabled: luarm-server enabled\n".to_owned(),
        "luarm-agent: not started: this host has joined no server".to_owned(),
        "luarm-server: not started: it has no authority".to_owned(),
        "authority: luarm:600\n".to_owned(),
        "\nlog = \"warn\"\n".to_owned(),
        "\nleft: \n".to_owned(),
        "\ngone: \n".to_owned(),
        "\nuser: luarm\n".to_owned(),
        "\nunits: \n".to_owned(),
    ] {
        assert!(said.contains(&line), "no {line:?} in:\n{said}");
    }
    // After the removal the settings are there, until the purge.
    assert!(said.contains("\nluarm.toml\nserver.toml\n"), "{said}");
}

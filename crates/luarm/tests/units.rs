//! The units under a real systemd, as the packages install them: in a guest that has this machine's system.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use support::{
    Row,
    guest::{Guest, Kernel, Machine},
    is_root,
    packaging::{has, in_a_copy_of_this_system, packages},
    skip,
};

/// The guest's system: this machine's, with none of its services, and the packages. Only the patience of the units is another, because the guest is emulated, and the
/// canary does more rounds.
const PREPARE: &str = r#"
rm -rf /.dockerenv /etc/luarm /var/lib/luarm /var/lib/luarm-server /var/log/journal /usr/sbin/policy-rc.d
rm -rf /etc/systemd/system/* /etc/systemd/system-generators /usr/lib/systemd/system-generators /lib/systemd/system-generators
mkdir -p /etc/systemd/system /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nForwardToConsole=yes\n' >/etc/systemd/journald.conf.d/console.conf
for unit in systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-udevd.service systemd-timesyncd.service; do
    ln -s /dev/null /etc/systemd/system/$unit
done
: >/etc/fstab
echo penguin >/etc/hostname
echo 127.0.0.1 localhost penguin >/etc/hosts
echo 5eed5eed5eed5eed5eed5eed5eed5eed >/etc/machine-id
dpkg --install /mnt/debs/*.deb
echo 'canary = "5s"' >>/etc/luarm/luarm.toml
for unit in luarm luarm-agent luarm-server; do
    mkdir /etc/systemd/system/$unit.service.d
    printf '[Service]\nTimeoutStartSec=600\nTimeoutStopSec=300\n' >/etc/systemd/system/$unit.service.d/patience.conf
done
"#;
/// The server's own account, which has its data.
const SERVER: &str = "runuser -u luarm -- luarm --config /etc/luarm/server.toml";
/// Ask what `luarm.service` has stored, and what the server has.
const FILE: &str = "luarm sql --store sqlite:/var/lib/luarm/luarm.db";
const STORE: &str = "runuser -u luarm -- luarm --config /etc/luarm/server.toml sql";
/// What nothing has to be done for, again and again: what was there at the start, and digests.
const UNTESTED: [&str; 3] = ["inventory", "image-digest", "file-digest"];
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn systemd_starts_restarts_and_stops_the_units_and_nothing_stands_in_their_way() {
    if !is_root() || !has("dpkg-shlibdeps") {
        return skip("needs root and dpkg-dev");
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        return skip("needs systemd");
    }
    let Some(kernel) = Kernel::fetched("stock") else { return };
    let directory = tempfile::tempdir().unwrap();
    packages(&directory.path().join("debs"));
    if in_a_copy_of_this_system(directory.path(), PREPARE).is_none() {
        return skip("needs a kernel with overlayfs");
    }
    let modules = &["tcp_diag", "udp_diag"];
    let machine = Machine { kernel: &kernel, modules, files: &[], arguments: &[] };
    let mut guest = machine.boot_system(&directory.path().join("upper"));
    guest.sh("systemctl start basic.target");
    let said = guest.sh("systemd-analyze verify --man=no --recursive-errors=no luarm.service luarm-agent.service luarm-server.service");
    assert_eq!(said, "");
    // It is enabled, and was part of the start; but it has joined no server.
    assert_eq!(shown(&mut guest, "luarm-agent", "ActiveState ConditionResult"), ["inactive", "no"]);

    records(&mut guest);
    let token = serves(&mut guest);
    delivers(&mut guest, &token);
    comes_back(&mut guest);
    stops(&mut guest);

    let journal =
        guest.sh("journalctl --quiet --boot --output cat --identifier luarm --identifier luarm-server");
    assert!(journal.contains("luarm: recording penguin"), "{journal}");
    // Names and numbers of EPERM, EACCES and ENOSYS; a server that is killed refuses connections meanwhile.
    for refusal in ["not permitted", "ermission denied", "not implemented", "os error 1)"] {
        let lines: Vec<_> = journal.lines().filter(|line| line.contains(refusal)).collect();
        assert_eq!(lines, [""; 0]);
    }
    let manager = guest.sh("journalctl --quiet --boot --output cat --identifier systemd");
    assert!(manager.contains("luarm-agent.service") && !manager.contains("ordering cycle"), "{manager}");
}

/// Properties of a unit, as systemd knows them.
fn shown(guest: &mut Guest, unit: &str, properties: &str) -> Vec<String> {
    let one = |property| guest.sh(&format!("systemctl show --value --property {property} {unit}"));
    properties.split(' ').map(one).map(|value| value.trim_end().to_owned()).collect()
}

/// What a store answers.
fn rows(guest: &mut Guest, store: &str, query: &str) -> Vec<Row> {
    let asked = format!("{store} --format jsonl -e \"{query}\" 2>/tmp/remarks");
    let answer = guest.sh(&format!("{asked} || {{ cat /tmp/remarks; exit 1; }}"));
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(guest: &mut Guest, store: &str, query: &str) -> i64 {
    let rows = rows(guest, store, query);
    rows[0].values().next().unwrap().as_i64().unwrap()
}

fn words(guest: &mut Guest, store: &str, query: &str) -> BTreeSet<String> {
    let rows = rows(guest, store, query);
    rows.iter().map(|row| row.values().next().unwrap().as_str().unwrap().to_owned()).collect()
}

/// `luarm.service`: ready when everything that there is can be queried; every class is watched, and the canary comes back in each.
fn records(guest: &mut Guest) {
    guest.sh("systemctl start luarm");
    // No `sync` before this one.
    assert!(count(guest, FILE, "select count(*) from psinfo where pid = 1 and destroyed is null") == 1);
    let state = shown(guest, "luarm", "ActiveState SubState NRestarts StatusText");
    assert_eq!(state[..3], ["active", "running", "0"]);
    assert!(state[3].starts_with("recording penguin with eBPF into sqlite:"), "{state:?}");
    guest.sh("sh -c 'true; exit 3' seen-by-luarm; test $? = 3 && luarm sync --timeout 120");
    let exits = rows(guest, FILE, "select exitcode from psinfo where arguments like '%seen-by-luarm'");
    assert_eq!(exits.len(), 1, "{exits:?}");
    assert_eq!(exits[0]["exitcode"], 3);
    every_class_is_watched(guest, FILE);

    let watched =
        "select class from coverageinfo where state = 'watched' and sensor = 'ebpf' and destroyed is null";
    let watched = words(guest, FILE, watched);
    let untested = UNTESTED.map(ToOwned::to_owned).into();
    let expected: BTreeSet<_> = watched.difference(&untested).cloned().collect();
    assert!(expected.len() > 10, "{expected:?}");
    // On a busy machine a round may come too late; what a unit forbids never comes.
    let deadline = Instant::now() + PATIENCE;
    while words(guest, FILE, "select distinct class from canaryinfo where seen = 1") != expected {
        let missed = rows(guest, FILE, "select class, reason from canaryinfo where seen <> 1");
        assert!(Instant::now() < deadline, "{expected:?}, but {missed:?}");
    }
    let journal = guest.sh("journalctl --quiet --boot --unit luarm --priority warning --output cat");
    let warnings: Vec<_> = journal.lines().filter(|line| !line.contains("the canary did not")).collect();
    assert_eq!(warnings, [""; 0]);
}

fn every_class_is_watched(guest: &mut Guest, store: &str) {
    let unwatched = "select class, state, reason from coverageinfo where state not in ('watched', 'gap') and class not in ('canary', 'all') and sensor not in ('files', 'recorder')";
    assert_eq!(rows(guest, store, unwatched), [], "{store}");
}

/// `luarm-server.service`; gives a token.
fn serves(guest: &mut Guest) -> String {
    guest.sh(&format!("{SERVER} server init --name localhost && systemctl start luarm-server"));
    let state = shown(guest, "luarm-server", "ActiveState User StatusText");
    assert_eq!(state[..2], ["active", "luarm"]);
    assert!(state[2].starts_with("serving at "), "{state:?}");
    guest.sh(&format!("{SERVER} enroll token 2>/tmp/remarks")).trim_end().to_owned()
}

/// `luarm.service` ends in an orderly way; `luarm-agent.service` is started by its package once it has joined.
fn delivers(guest: &mut Guest, token: &str) {
    guest.sh("sleep 1000000 </dev/null >/dev/null 2>&1 &");
    guest.sh("systemctl stop luarm");
    let ended = "ActiveState Result ExecMainStatus NRestarts";
    assert_eq!(shown(guest, "luarm", ended), ["inactive", "success", "0", "0"]);
    assert_eq!(count(guest, FILE, "select count(*) from coverageinfo where destroyed is null"), 0);
    guest.sh(&format!("luarm enroll join https://localhost:7467 --token {token}"));
    guest.sh("DPKG_MAINTSCRIPT_PACKAGE=luarm-agent sh /var/lib/dpkg/info/luarm-agent.postinst configure");
    assert_eq!(shown(guest, "luarm-agent", "ActiveState NRestarts"), ["active", "0"]);
    guest.sh("sh -c 'true; exit 4' seen-by-agent; luarm sync --timeout 120");
    every_class_is_watched(guest, STORE);
}

/// Killed, both come back, go on where they were, and store nothing twice.
fn comes_back(guest: &mut Guest) {
    let image = "select psentity from psinfo where arguments = '1000000' and destroyed is null";
    let sleeper = rows(guest, STORE, image);
    assert_eq!(sleeper.len(), 1, "{sleeper:?}");
    guest.sh("systemctl kill --signal KILL luarm-agent luarm-server");
    for unit in ["luarm-agent", "luarm-server"] {
        guest.until(&format!(
            "test $(systemctl show --value --property NRestarts {unit}) = 1 && systemctl --quiet is-active {unit}"
        ));
    }
    guest.sh("sh -c 'true; exit 5' seen-again; luarm sync --timeout 120");
    for marker in ["seen-by-agent", "seen-again"] {
        let query = format!("select count(*) from psinfo where arguments like '%{marker}'");
        assert_eq!(count(guest, STORE, &query), 1, "{marker}");
    }
    assert_eq!(rows(guest, STORE, image), sleeper);
    let init = "select count(*) from psinfo where pid = 1";
    assert_eq!(count(guest, STORE, init), 1);
    let killed = "select count(*) from alertinfo where kind = 'killed'";
    assert_eq!(count(guest, STORE, killed), 1);
    let gaps = "select count(*) from coverageinfo where state = 'gap' and class = 'all'";
    assert_eq!(count(guest, STORE, gaps), 1);
}

/// The package stops the agent, which takes its leave; then the server ends.
fn stops(guest: &mut Guest) {
    guest.sh("DPKG_MAINTSCRIPT_PACKAGE=luarm-agent sh /var/lib/dpkg/info/luarm-agent.prerm remove");
    let ended = "ActiveState Result ExecMainStatus NRestarts";
    assert_eq!(shown(guest, "luarm-agent", ended), ["inactive", "success", "0", "1"]);
    let status = guest.sh(&format!("{SERVER} status --format jsonl 2>/tmp/remarks"));
    let mut lines = status.lines().map(|line| serde_json::from_str::<Row>(line).unwrap());
    let state = lines.find(|row| row["item"] == "state" && row["host"] == "penguin");
    assert_eq!(state.unwrap()["value"], "stopped");
    assert_eq!(count(guest, STORE, "select count(*) from coverageinfo where destroyed is null"), 0);
    guest.sh(&format!("{SERVER} verify"));
    guest.sh("systemctl stop luarm-server");
    assert_eq!(shown(guest, "luarm-server", ended), ["inactive", "success", "0", "1"]);
}

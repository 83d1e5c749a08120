//! Users and groups over time, changed by the system's own tools, compared with what the C library says of them.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use support::{Launch, Recording, is_root, private::Private, skip};

/// The users and groups that hold by the rows, and by the C library.
fn compare(host: &Private, recording: &Recording) {
    recording.sync();
    let rows = |query: &str| -> BTreeSet<String> {
        recording.sql(query).iter().map(|row| row["line"].as_str().unwrap().to_owned()).collect()
    };
    let told = |database: &str, fields: &str| -> BTreeSet<String> {
        let script = format!("getent -s files {database} | cut -d: -f{fields}");
        host.shell(&script).lines().map(str::to_owned).collect()
    };
    let users =
        "select username || ':' || uid || ':' || gid || ':' || gecos || ':' || home || ':' || shell as line
        from userinfo where destroyed is null and origin <> 'nss'";
    assert_eq!(rows(users), told("passwd", "1,3-7"));
    let groups =
        "select groupname || ':' || gid || ':' || members as line from groupinfo where destroyed is null";
    assert_eq!(rows(groups), told("group", "1,3,4"));
    for table in ["userinfo", "groupinfo"] {
        let name = if table == "userinfo" { "username" } else { "groupname" };
        let twice = format!("select count(*) - count(distinct {name}) from {table} where destroyed is null");
        assert_eq!(recording.count(&twice), 0, "{table}");
    }
}

/// What the rows of a user or group say in those columns, one line each, in the order of their keys.
fn history(recording: &Recording, table: &str, columns: &[&str], which: &str) -> Vec<String> {
    let columns: Vec<String> = columns.iter().map(|column| format!("coalesce({column}, '-')")).collect();
    let key = table.replace("info", "entity");
    let line = columns.join(" || ' ' || ");
    let rows = recording.sql(&format!("select {line} as line from {table} where {which} order by {key}"));
    rows.iter().map(|row| row["line"].as_str().unwrap().to_owned()).collect()
}

fn start(host: &Private, data: &Path) -> Recording {
    Launch::on(data).with(&["--sensor", "poll"]).under(&host.prefix()).start()
}

#[test]
fn each_change_by_a_tool_is_a_row() {
    if !is_root() {
        return skip("needs root, to change accounts in a mount namespace");
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    let recording = start(&host, data.path());
    compare(&host, &recording);
    // Not among the arguments of a program: those are recorded.
    fs::write(host.etc("luarm-hash"), "lann:$6$luarmsalt$luarmhash\n").unwrap();
    for step in [
        "groupadd -g 4200 lteam",
        "useradd -m -u 4201 -g lteam -c 'Ann Example' -s /bin/sh lann",
        "chpasswd -e < /etc/luarm-hash",
        "chage -d 2024-02-29 lann",
        "usermod -aG lteam lann",
        "gpasswd -d lann lteam",
        "usermod -s /bin/bash lann",
        "passwd -l lann",
        "usermod -U -e 2030-01-02 lann",
        "usermod -l lanna lann",
        "userdel -r lanna",
        "groupdel lteam || true",
    ] {
        host.shell(step);
        compare(&host, &recording);
    }
    let day = |column: &str| format!("substr({column}, 1, 10)");
    let (changed, expires) = (day("passwordchanged"), day("expires"));
    let columns = ["username", "shell", "password", "locked", &changed, &expires, "origin", "ended"];
    let rows = history(&recording, "userinfo", &columns, "uid = 4201");
    let today = &rows[0].split(' ').nth(4).unwrap().to_owned();
    assert_eq!(
        rows,
        [
            &format!("lann /bin/sh none yes {today} - event changed"),
            &format!("lann /bin/sh set no {today} - event changed"),
            "lann /bin/sh set no 2024-02-29 - event changed",
            "lann /bin/bash set no 2024-02-29 - event changed",
            "lann /bin/bash set yes 2024-02-29 - event changed",
            "lann /bin/bash set no 2024-02-29 2030-01-02 event event",
            "lanna /bin/bash set no 2024-02-29 2030-01-02 event event",
        ]
        .map(str::to_owned)
    );
    let rows = history(&recording, "groupinfo", &["groupname", "members", "origin", "ended"], "gid = 4200");
    assert_eq!(rows[..3], ["lteam  event changed", "lteam lann event changed", "lteam  event event"]);
    assert!(recording.stop().success());
    for file in fs::read_dir(data.path()).unwrap().flatten().filter(|file| file.path().is_file()) {
        let bytes = fs::read(file.path()).unwrap();
        let leaks = bytes.windows(9).any(|window| window == b"luarmhash" || window == b"luarmsalt");
        assert!(!leaks, "a hash is in {}", file.path().display());
    }
}

#[test]
fn a_restart_doubles_nothing_and_tells_what_changed_meanwhile() {
    if !is_root() {
        return skip("needs root, to change accounts in a mount namespace");
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    host.shell("useradd -u 4301 lkeep && useradd -u 4302 lgone && useradd -u 4303 -s /bin/sh lchange");
    let recording = start(&host, data.path());
    compare(&host, &recording);
    let users = recording.count("select count(*) from userinfo");
    let groups = recording.count("select count(*) from groupinfo");
    recording.kill();
    host.shell("userdel lgone && usermod -s /bin/bash lchange && useradd -u 4304 lnew");
    let recording = start(&host, data.path());
    compare(&host, &recording);
    let columns = ["username", "shell", "origin", "ended"];
    assert_eq!(
        history(&recording, "userinfo", &columns, "uid between 4301 and 4304"),
        [
            "lkeep /bin/sh found -",
            "lgone /bin/sh found unseen",
            "lchange /bin/sh found unseen",
            "lchange /bin/bash found -",
            "lnew /bin/sh found -"
        ]
    );
    assert_eq!(recording.count("select count(*) from userinfo"), users + 2);
    // Each user has a group of its own name.
    assert_eq!(recording.count("select count(*) from groupinfo"), groups + 1);
    assert!(recording.stop().success());
}

#[test]
fn a_hundred_thousand_users_and_broken_lines_are_taken() {
    if !is_root() {
        return skip("needs root, to change accounts in a mount namespace");
    }
    const MANY: i64 = 100_000;
    const BROKEN: i64 = 1_000;
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    let before = fs::read(host.etc("passwd")).unwrap();
    let few = before.iter().filter(|&&b| b == b'\n').count() as i64;
    let recording = start(&host, data.path());
    let replace = |content: &[u8]| {
        fs::write(host.etc("passwd.new"), content).unwrap();
        fs::rename(host.etc("passwd.new"), host.etc("passwd")).unwrap();
    };
    let mut many = before.clone();
    for n in 0..MANY {
        writeln!(many, "many{n}:*:{}:100:user {n},\u{e9}\u{1}:/home/many{n}:/bin/sh", 200_000 + n).unwrap();
        if n < BROKEN {
            let broken: &[u8] = [&b"\xff\xfe\n"[..], b":::::::\n", b"x:y:z\n", b"n:*:-5:5\n"][n as usize % 4];
            many.extend(broken);
        }
    }
    many.extend(vec![b'z'; 3 << 20]);
    replace(&many);
    let open = |what: &str| format!("select count(*) from userinfo where destroyed is null and {what}");
    // A sync waits for the watchers for some seconds only, and reading so many may take longer here: what is stored by then is no verdict.
    let until = |wanted: i64| {
        while recording.count(&open("true")) < wanted {
            recording.sync();
        }
    };
    until(few + MANY);
    recording.sync();
    assert_eq!(recording.count(&open("true")), few + MANY);
    assert_eq!(recording.count("select count(*) from userinfo where destroyed is not null"), 0);
    assert_eq!(recording.count("select count(distinct uid) from userinfo where username like 'many%'"), MANY);
    let lost = "select sum(count) from lossinfo where class = 'users' and cause = 'malformed-line'";
    assert_eq!(recording.count(lost), BROKEN + 1);
    // One line changes: one row.
    let changed = String::from_utf8_lossy(&many).replace("/home/many777:/bin/sh", "/home/many777:/bin/false");
    replace(changed.as_bytes());
    while recording.count("select count(*) from userinfo where username = 'many777'") < 2 {
        recording.sync();
    }
    assert_eq!(recording.count("select count(*) from userinfo where destroyed is not null"), 1);
    // They are all there after a restart, under the same rows.
    assert!(recording.stop().success());
    let recording = start(&host, data.path());
    recording.sync();
    assert_eq!(recording.count("select count(*) from userinfo"), few + MANY + 1);
    assert_eq!(recording.count("select count(*) from userinfo where destroyed is null"), few + MANY);
    assert!(recording.stop().success());
}

#[test]
fn a_file_that_is_being_written_ends_nobody() {
    if !is_root() {
        return skip("needs root, to change accounts in a mount namespace");
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    let content = fs::read(host.etc("passwd")).unwrap();
    let recording = start(&host, data.path());
    compare(&host, &recording);
    let ended = "select count(*) from userinfo where destroyed is not null";
    let mut file = OpenOptions::new().write(true).truncate(true).open(host.etc("passwd")).unwrap();
    recording.sync();
    assert_eq!(recording.count(ended), 0, "truncated");
    file.write_all(&content[..content.len() / 2]).unwrap();
    // Another file of the two is replaced meanwhile: no reason to read this one.
    host.shell("cp -p /etc/shadow /etc/shadow.new && mv /etc/shadow.new /etc/shadow");
    recording.sync();
    assert_eq!(recording.count(ended), 0, "half written");
    file.write_all(&content[content.len() / 2..]).unwrap();
    file.write_all(b"llate:*:4401:100::/:\n").unwrap();
    drop(file);
    compare(&host, &recording);
    assert_eq!(recording.count(ended), 0);
    assert_eq!(recording.count("select count(*) from userinfo where username = 'llate'"), 1);
    assert!(recording.stop().success());
}

#[test]
fn a_user_of_another_source_is_told_of_once_met() {
    if !is_root() {
        return skip("needs root, to change accounts in a mount namespace");
    }
    if !Path::new("/usr/lib/libnss_extrausers.so.2").exists() {
        return skip("needs libnss-extrausers");
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    host.shell(
        "sed -i 's/^passwd:.*/passwd: files extrausers/' /etc/nsswitch.conf
        echo 'lcarol:x:4501:4502:Carol,,:/net/carol:/bin/zsh' > /var/lib/extrausers/passwd
        getent passwd 4501",
    );
    let recording = start(&host, data.path());
    recording.sync();
    assert_eq!(recording.count("select count(*) from userinfo where uid = 4501"), 0);
    let met = |recording: &Recording| {
        let mut carol =
            host.command("setpriv", &["--reuid=4501", "--clear-groups", "sleep", "1000"]).spawn().unwrap();
        // Nobody says when the other source has answered.
        while recording.count("select count(*) from userinfo where uid = 4501") == 0 {
            recording.sync();
        }
        carol.kill().unwrap();
        carol.wait().unwrap();
    };
    met(&recording);
    recording.kill();
    let recording = start(&host, data.path());
    met(&recording);
    let columns = ["username", "gid", "gecos", "home", "shell", "locked", "origin", "ended"];
    let rows = history(&recording, "userinfo", &columns, "uid = 4501");
    assert_eq!(rows, ["lcarol 4502 Carol,, /net/carol /bin/zsh - nss -"]);
    assert!(recording.stop().success());
}

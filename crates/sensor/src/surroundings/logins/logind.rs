//! The files in which systemd-logind keeps its sessions: a variable and its value on each line. Their format is its own and not promised; what is not
//! found is unknown.

use crate::condition::{Login, LoginSource};

/// What is read of a file at most.
pub(super) const LONGEST_FILE: u64 = 16 << 10;

/// The login in a session's file; `None` for a session that is no login, or over.
pub(super) fn login(name: &[u8], file: &[u8]) -> Option<Login> {
    let value = |key: &str| {
        let mut lines = file.split(|&b| b == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))?;
        (!value.is_empty()).then(|| value.to_vec())
    };
    let number = |key: &str| value(key).and_then(|text| std::str::from_utf8(&text).ok()?.parse::<u64>().ok());
    let class = value("CLASS").unwrap_or_default();
    let over = value("STATE").is_some_and(|state| state == b"closing");
    if over || !(class.starts_with(b"user") || class.starts_with(b"background")) {
        return None;
    }
    let host = value("REMOTE_HOST");
    Some(Login {
        source: LoginSource::Logind,
        id: name.to_vec(),
        user: value("USER")?,
        tty: value("TTY"),
        address: host.as_deref().and_then(|host| std::str::from_utf8(host).ok()?.parse().ok()),
        host,
        service: value("SERVICE"),
        pid: number("LEADER").and_then(|pid| pid.try_into().ok()).unwrap_or(0),
        session: number("AUDIT")
            .and_then(|id| id.try_into().ok())
            .filter(|&id: &u32| id != 0 && id != u32::MAX),
        since: number("REALTIME").and_then(|us| us.try_into().ok()).unwrap_or(0),
        until: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"# This is private data. Do not parse.\nUID=1000\nUSER=alice\nACTIVE=1\nSTATE=active\nREMOTE=1\nTYPE=tty\nCLASS=user\n\
        SCOPE=session-3.scope\nTTY=pts/0\nREMOTE_HOST=192.0.2.7\nSERVICE=sshd\nLEADER=812\nAUDIT=3\nREALTIME=1700000000000005\n";

    #[test]
    fn a_session_is_read_from_its_file() {
        let expected = Login {
            source: LoginSource::Logind,
            id: b"3".to_vec(),
            user: b"alice".to_vec(),
            tty: Some(b"pts/0".to_vec()),
            host: Some(b"192.0.2.7".to_vec()),
            address: Some("192.0.2.7".parse().unwrap()),
            service: Some(b"sshd".to_vec()),
            pid: 812,
            session: Some(3),
            since: 1_700_000_000_000_005,
            until: None,
        };
        assert_eq!(login(b"3", FILE), Some(expected));
    }

    #[test]
    fn what_is_no_login_or_over_is_none() {
        let with = |from: &str, to: &str| String::from_utf8(FILE.to_vec()).unwrap().replace(from, to);
        for (from, to) in
            [("CLASS=user", "CLASS=manager"), ("STATE=active", "STATE=closing"), ("USER=alice", "USER=")]
        {
            assert_eq!(login(b"3", with(from, to).as_bytes()), None, "{to}");
        }
        let sparse = login(b"c1", b"CLASS=user\nUSER=bob\nAUDIT=4294967295\nLEADER=-1").unwrap();
        assert_eq!((sparse.session, sparse.pid, sparse.since), (None, 0, 0));
    }

    proptest::proptest! {
        #[test]
        fn anything_can_stand_in_a_file(file in "((CLASS=user|USER|AUDIT|LEADER|TTY|REALTIME)[=\n\\PC]{0,9}\n?){0,9}", bytes: Vec<u8>) {
            login(b"1", file.as_bytes());
            login(&bytes, &bytes);
        }
    }
}

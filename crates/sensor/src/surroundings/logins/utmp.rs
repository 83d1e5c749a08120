//! Records of utmp(5), as glibc lays them out on x86-64 and every other machine whose records keep 32-bit times: 384 bytes each.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::condition::{Login, LoginSource};

/// Length of a record.
pub(super) const RECORD: usize = 384;
const RUN_LVL: i16 = 1;
const BOOT_TIME: i16 = 2;
const USER_PROCESS: i16 = 7;
const DEAD_PROCESS: i16 = 8;

/// The logins that began and ended, in the order of their ends, by the records of a wtmp file: each ends with the next record of its terminal, or
/// with the system.
pub(super) fn past(records: &[[u8; RECORD]]) -> Vec<Login> {
    let mut open: HashMap<Vec<u8>, Login> = HashMap::new();
    let mut past = Vec::new();
    for record in records {
        let at = time(record);
        let mut close = |login: Login| {
            past.push(Login { source: LoginSource::Wtmp, until: Some(at.max(login.since)), ..login });
        };
        match i16::from_ne_bytes([record[0], record[1]]) {
            BOOT_TIME => open.drain().for_each(|(_, login)| close(login)),
            RUN_LVL if text(record, 44, 32) == b"shutdown" => {
                open.drain().for_each(|(_, login)| close(login));
            }
            USER_PROCESS | DEAD_PROCESS => {
                let line = text(record, 8, 32);
                if let Some(before) = open.remove(line) {
                    close(before);
                }
                if let Some(login) = login(record) {
                    open.insert(line.to_vec(), login);
                }
            }
            _ => {}
        }
    }
    past
}

/// The text in a field.
fn text(record: &[u8; RECORD], from: usize, length: usize) -> &[u8] {
    let field = &record[from..from + length];
    &field[..field.iter().position(|&b| b == 0).unwrap_or(length)]
}

fn number(record: &[u8; RECORD], at: usize) -> i32 {
    i32::from_ne_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

/// When a record was written, microseconds since 1970-01-01. Seconds are 32 bits without sign, see the end of utmp(5).
fn time(record: &[u8; RECORD]) -> i64 {
    let seconds = u32::from_ne_bytes(number(record, 340).to_ne_bytes());
    i64::from(seconds) * 1_000_000 + i64::from(number(record, 344).clamp(0, 999_999))
}

/// The login in a record; `None` for a record of something else, and for one that names nobody.
pub(super) fn login(record: &[u8; RECORD]) -> Option<Login> {
    let some = |field: &[u8]| (!field.is_empty()).then(|| field.to_vec());
    if i16::from_ne_bytes([record[0], record[1]]) != USER_PROCESS {
        return None;
    }
    let (line, user, host) = (text(record, 8, 32), text(record, 44, 32), text(record, 76, 256));
    let pid = u32::try_from(number(record, 4)).ok().filter(|&pid| pid > 0)?;
    if user.is_empty() {
        return None;
    }
    let since = time(record);
    Some(Login {
        source: LoginSource::Utmp,
        id: [line, format!("\0{pid}\0{since}").as_bytes()].concat(),
        user: user.to_vec(),
        tty: some(line),
        host: some(host),
        address: address(&record[348..364]),
        service: None,
        pid,
        session: None,
        since,
        until: None,
    })
}

/// The first word alone is an IPv4 address.
fn address(field: &[u8]) -> Option<IpAddr> {
    let bytes: [u8; 16] = field.try_into().ok()?;
    match bytes {
        [0, 0, 0, 0, ..] if bytes == [0; 16] => None,
        [a, b, c, d, rest @ ..] if rest == [0; 12] => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => Some(Ipv6Addr::from(bytes).to_canonical()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record as login(1) writes it.
    pub(in super::super) fn record(kind: i16, pid: i32, line: &str, user: &str, host: &str) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..2].copy_from_slice(&kind.to_ne_bytes());
        record[4..8].copy_from_slice(&pid.to_ne_bytes());
        record[8..8 + line.len()].copy_from_slice(line.as_bytes());
        record[44..44 + user.len()].copy_from_slice(user.as_bytes());
        record[76..76 + host.len()].copy_from_slice(host.as_bytes());
        record[340..344].copy_from_slice(&1_700_000_000i32.to_ne_bytes());
        record[344..348].copy_from_slice(&5i32.to_ne_bytes());
        record
    }

    #[test]
    fn a_login_is_read_from_its_record() {
        let mut bytes = record(7, 42, "pts/3", "alice", "client.example");
        bytes[348..352].copy_from_slice(&[192, 0, 2, 7]);
        let login_told = login(&bytes).unwrap();
        assert_eq!((login_told.pid, login_told.since), (42, 1_700_000_000_000_005));
        assert_eq!(login_told.user, b"alice");
        assert_eq!(login_told.tty.as_deref(), Some(&b"pts/3"[..]));
        assert_eq!(login_told.host.as_deref(), Some(&b"client.example"[..]));
        assert_eq!(login_told.address, Some(Ipv4Addr::new(192, 0, 2, 7).into()));
        bytes[348..364].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        assert_eq!(login(&bytes).unwrap().address, Some(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn what_is_no_login_is_none() {
        assert_eq!(login(&record(8, 42, "pts/3", "alice", "")), None);
        assert_eq!(login(&record(7, 0, "pts/3", "alice", "")), None);
        assert_eq!(login(&record(7, -1, "pts/3", "alice", "")), None);
        assert_eq!(login(&record(7, 42, "pts/3", "", "")), None);
        assert_eq!(login(&record(2, 0, "~", "reboot", "6.18")), None);
    }

    #[test]
    fn past_logins_end_with_the_next_record_of_their_terminal_or_with_the_system() {
        let mut seconds = 0u8;
        let mut at = |mut record: [u8; RECORD]| {
            seconds += 1;
            record[340..344].copy_from_slice(&[seconds, 0, 0, 0]);
            record
        };
        let records = [
            at(record(7, 10, "pts/1", "alice", "")),
            at(record(7, 11, "pts/2", "bob", "")),
            at(record(8, 10, "pts/1", "", "")),
            at(record(7, 12, "pts/2", "carol", "")),
            at(record(8, 99, "pts/9", "", "")),
            at(record(1, 53, "~", "runlevel", "")),
            at(record(2, 0, "~", "reboot", "")),
            at(record(7, 13, "pts/2", "dave", "")),
        ];
        let told: Vec<_> = past(&records)
            .into_iter()
            .map(|login| (login.user, login.since / 1_000_000, login.until.unwrap() / 1_000_000))
            .collect();
        assert_eq!(told, [(b"alice".to_vec(), 1, 3), (b"bob".to_vec(), 2, 4), (b"carol".to_vec(), 4, 7)]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_stand_in_a_record(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), RECORD)) {
            let mut record: [u8; RECORD] = bytes.try_into().unwrap();
            login(&record);
            record[..2].copy_from_slice(&USER_PROCESS.to_ne_bytes());
            login(&record);
            past(&[record, record]);
        }
    }
}

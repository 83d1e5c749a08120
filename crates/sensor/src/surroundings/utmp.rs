//! Who is logged in, by the records of utmp(5).

use std::{
    fs::File,
    io::Read,
    mem::{offset_of, size_of},
    path::Path,
};

/// As many bytes of the file as are looked at: some ten thousand logins.
const LIMIT: u64 = 4 << 20;
const RECORD: usize = size_of::<libc::utmpx>();
const TYPE: usize = offset_of!(libc::utmpx, ut_type);
const USER: usize = offset_of!(libc::utmpx, ut_user);
const USER_LENGTH: usize = 32;

/// Names of the users who are logged in, in alphabetical order and each once; `None` where this host keeps no such records.
pub fn logged_in(root: &Path) -> Option<Vec<Vec<u8>>> {
    let file = ["run/utmp", "var/run/utmp"].iter().find_map(|path| File::open(root.join(path)).ok())?;
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    let mut users: Vec<Vec<u8>> = bytes.chunks_exact(RECORD).filter_map(user).collect();
    users.sort_unstable();
    users.dedup();
    Some(users)
}

/// The user of a record of type `USER_PROCESS`.
fn user(record: &[u8]) -> Option<Vec<u8>> {
    let kind = record.get(TYPE..TYPE + 2)?;
    if i16::from_ne_bytes(kind.try_into().ok()?) != libc::USER_PROCESS {
        return None;
    }
    let name = record.get(USER..USER + USER_LENGTH)?.split(|byte| *byte == 0).next()?;
    (!name.is_empty()).then(|| name.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: i16, user: &[u8]) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[TYPE..TYPE + 2].copy_from_slice(&kind.to_ne_bytes());
        record[USER..USER + user.len()].copy_from_slice(user);
        record
    }

    #[test]
    fn sessions_of_users_count_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(logged_in(root.path()), None);
        std::fs::create_dir_all(root.path().join("var/run")).unwrap();
        let longest = [b'x'; USER_LENGTH];
        let mut bytes = [
            record(libc::BOOT_TIME, b"reboot"),
            record(libc::USER_PROCESS, b"mallory"),
            record(libc::DEAD_PROCESS, b"gone"),
            record(libc::USER_PROCESS, b"alice"),
            record(libc::USER_PROCESS, b"mallory"),
            record(libc::USER_PROCESS, b""),
            record(libc::USER_PROCESS, &longest),
        ]
        .concat();
        bytes.extend_from_slice(&record(libc::USER_PROCESS, b"cut")[..RECORD - 1]);
        std::fs::write(root.path().join("var/run/utmp"), &bytes).unwrap();
        let expected = vec![b"alice".to_vec(), b"mallory".to_vec(), longest.to_vec()];
        assert_eq!(logged_in(root.path()), Some(expected));
        std::fs::create_dir_all(root.path().join("run")).unwrap();
        std::fs::write(root.path().join("run/utmp"), b"").unwrap();
        assert_eq!(logged_in(root.path()), Some(Vec::new()));
    }
}

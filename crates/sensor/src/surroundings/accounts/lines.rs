//! The lines of passwd(5), shadow(5) and group(5): anything may stand in them.

use std::collections::HashMap;

use crate::condition::{Group, Password, PasswordKind, User};

/// A line longer than this is taken for none.
const LONGEST_LINE: usize = 1 << 20;

/// What a file holds beside what it was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flaws {
    /// Lines that are none of the format.
    pub malformed: u64,
    /// Lines that repeat a name.
    pub repeated: u64,
}

/// What shadow(5) says of a user.
#[derive(Clone, Copy)]
pub(super) struct Shadow {
    password: Password,
    changed: Option<u32>,
    expires: Option<u32>,
}

/// Gives the users of a passwd file, in its order.
pub(super) fn users(
    passwd: &[u8],
    shadow: Option<&HashMap<&[u8], Shadow>>,
    mut take: impl FnMut(User),
) -> Flaws {
    each(passwd, |line, seen| {
        let mut fields = line.split(|&b| b == b':');
        let (name, password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        if !seen.first(name) {
            return Some(());
        }
        let mut text = || fields.next().unwrap_or_default().to_vec();
        let (gecos, home, shell) = (text(), text(), text());
        let shadow = if password == b"x" {
            shadow.and_then(|shadow| shadow.get(name).copied())
        } else {
            Some(Shadow { password: state(password), changed: None, expires: None })
        };
        take(User {
            name: name.to_vec(),
            uid,
            gid,
            gecos,
            home,
            shell,
            password: shadow.map(|shadow| shadow.password),
            changed: shadow.and_then(|shadow| shadow.changed),
            expires: shadow.and_then(|shadow| shadow.expires),
            remote: false,
        });
        Some(())
    })
}

/// Gives the groups of a group file, in its order.
pub(super) fn groups(group: &[u8], mut take: impl FnMut(Group)) -> Flaws {
    each(group, |line, seen| {
        let mut fields = line.split(|&b| b == b':');
        let (name, _, gid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
        if seen.first(name) {
            take(Group { name: name.to_vec(), gid, members: fields.next().unwrap_or_default().to_vec() });
        }
        Some(())
    })
}

/// What a shadow file says, by user. Nothing of a hash is kept but that there is one.
pub(super) fn shadow(content: &[u8]) -> HashMap<&[u8], Shadow> {
    let mut all = HashMap::new();
    for line in content.split(|&b| b == b'\n').filter(|line| line.len() <= LONGEST_LINE) {
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(password)) = (fields.next(), fields.next()) else { continue };
        let changed = fields.next().and_then(number);
        let expires = fields.nth(4).and_then(number);
        all.entry(name).or_insert(Shadow { password: state(password), changed, expires });
    }
    all
}

/// See shadow(5) and passwd(1).
fn state(field: &[u8]) -> Password {
    let bare = field.strip_prefix(b"!").map(|rest| rest.strip_prefix(b"!").unwrap_or(rest));
    let locked = bare.is_some();
    let kind = match bare.unwrap_or(field) {
        b"" if locked => PasswordKind::None,
        b"" => PasswordKind::Empty,
        // No hash that crypt(3) makes begins so.
        [b'*' | b'!' | b'x', ..] => PasswordKind::None,
        _ => PasswordKind::Set,
    };
    Password { kind, locked }
}

/// The names that were met.
#[derive(Default)]
struct Seen<'a> {
    names: std::collections::HashSet<&'a [u8]>,
    repeated: u64,
}

impl<'a> Seen<'a> {
    /// Whether the name is met for the first time.
    fn first(&mut self, name: &'a [u8]) -> bool {
        let first = self.names.insert(name);
        self.repeated += u64::from(!first);
        first
    }
}

/// Has each line read that is neither empty, nor a comment, nor an entry of NIS.
fn each<'a>(content: &'a [u8], mut read: impl FnMut(&'a [u8], &mut Seen<'a>) -> Option<()>) -> Flaws {
    let mut seen = Seen::default();
    let mut malformed = 0;
    for line in content.split(|&b| b == b'\n') {
        if matches!(line, [] | [b'#' | b'+' | b'-', ..]) {
            continue;
        }
        let sound = line.len() <= LONGEST_LINE && line[0] != b':' && read(line, &mut seen).is_some();
        malformed += u64::from(!sound);
    }
    Flaws { malformed, repeated: seen.repeated }
}

fn number(field: &[u8]) -> Option<u32> {
    if !field.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection, sample};

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root,,,:/root:/bin/sh\n# remark\n\nshort:x:7:8\n:x:5:5\nbad:x:-1:0\nnone\n+::::\nroot:x:0:0::/:/evil\n\
        b\xff,d:x:9:9:a\xfe::\nbig:x:4294967296:1\nplain:$6$salt$hash:10:10:::\nopen::11:11:::\ngone:x:12:12:::\nlast:x:4294967295:9";

    fn told(passwd: &[u8], shadow_file: &[u8]) -> (Vec<User>, Flaws) {
        let mut users_told = Vec::new();
        let flaws = users(passwd, Some(&shadow(shadow_file)), |user| users_told.push(user));
        (users_told, flaws)
    }

    #[test]
    fn a_malformed_file_gives_what_is_sound_in_it_and_counts_the_rest() {
        let shadow = b"root:!$6$salt$hash:19000:0:99999:7::20000:\nshort:*:0:::::-1:\nlast:!::::::\nroot:::::::\nx\n\n";
        let (users, flaws) = told(PASSWD, shadow);
        assert_eq!(flaws, Flaws { malformed: 4, repeated: 1 });
        let names: Vec<&[u8]> = users.iter().map(|user| &user.name[..]).collect();
        assert_eq!(names, [&b"root"[..], b"short", b"b\xff,d", b"plain", b"open", b"gone", b"last"]);
        let states: Vec<_> =
            users.iter().map(|user| user.password.map(|state| (state.kind, state.locked))).collect();
        use PasswordKind::{Empty, None as Nothing, Set};
        assert_eq!(
            states,
            [
                Some((Set, true)),
                Some((Nothing, false)),
                None,
                Some((Set, false)),
                Some((Empty, false)),
                None,
                Some((Nothing, true))
            ]
        );
        assert_eq!((users[0].changed, users[0].expires), (Some(19_000), Some(20_000)));
        assert_eq!((users[1].changed, users[1].expires, users[1].gid), (Some(0), None, 8));
        assert_eq!(users[0].gecos, b"root,,,");
        let text = format!("{users:?}");
        assert!(!text.contains("salt") && !text.contains("hash"), "{text}");
    }

    #[test]
    fn members_stay_as_they_are_written() {
        let mut groups_told = Vec::new();
        let flaws = groups(b"a:x:1:\nb:x:2:u,v,\nb:x:3:w\nc:x\nd:x:4:u:v\nlong:x:5:", |group| {
            groups_told.push((group.name, group.gid, group.members));
        });
        assert_eq!(flaws, Flaws { malformed: 1, repeated: 1 });
        let expected = [("a", 1, ""), ("b", 2, "u,v,"), ("d", 4, "u"), ("long", 5, "")]
            .map(|(name, gid, members)| (name.as_bytes().to_vec(), gid, members.as_bytes().to_vec()));
        assert_eq!(groups_told, expected);
    }

    #[test]
    fn a_line_without_end_is_counted_and_not_kept() {
        let mut file = vec![b'a'; 2 * LONGEST_LINE];
        file.extend(b":x:1:1\nb:x:2:2\n");
        let (users, flaws) = told(&file, &file);
        assert_eq!((users.len(), flaws.malformed), (1, 1));
    }

    proptest::proptest! {
        #[test]
        fn anything_can_stand_in_the_files(a in collection::vec(sample::select(&b":\n,!x059+#-a\xff"[..]), 0..200), b: Vec<u8>) {
            told(&a, &b);
            told(&b, &a);
            groups(&a, |_| {});
            groups(&b, |_| {});
        }
    }
}

//! Rows of `userinfo` and `groupinfo`.

use luarm_schema::{
    End, Row, Time, Word,
    escape::escape,
    tables::{GroupInfo, GroupInfoEnd, UserInfo, UserInfoEnd},
};
use luarm_sensor::condition::{Group, Password, PasswordKind, User};

use super::State;

const DAY: i64 = 86_400_000_000;

/// The values of a row of `userinfo`.
#[derive(PartialEq)]
pub(super) struct UserState {
    name: String,
    pub(super) uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
    password: Option<Word>,
    locked: Option<Word>,
    changed: Option<Time>,
    expires: Option<Time>,
    nss: bool,
}

/// A user of the files is told from others by name, a user from elsewhere by the id under which it was met.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(super) enum UserKey {
    File(String),
    Nss(u32),
}

impl From<&User> for UserState {
    fn from(user: &User) -> Self {
        let word = |state: fn(Password) -> &'static str| user.password.map(|p| Word::Borrowed(state(p)));
        let day = |days: Option<u32>| days.map(|days| Time(i64::from(days).saturating_mul(DAY)).storable());
        Self {
            name: escape(&user.name),
            uid: user.uid,
            gid: user.gid,
            gecos: escape(&user.gecos),
            home: escape(&user.home),
            shell: escape(&user.shell),
            password: word(|password| match password.kind {
                PasswordKind::Set => "set",
                PasswordKind::Empty => "empty",
                PasswordKind::None => "none",
            }),
            locked: word(|password| if password.locked { "yes" } else { "no" }),
            changed: day(user.changed),
            expires: day(user.expires),
            nss: user.remote,
        }
    }
}

impl State for UserState {
    type Key = UserKey;

    fn key(&self) -> UserKey {
        if self.nss { UserKey::Nss(self.uid) } else { UserKey::File(self.name.clone()) }
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        UserInfo {
            userentity: number,
            username: self.name.clone(),
            uid: self.uid,
            gid: self.gid,
            gecos: self.gecos.clone(),
            home: self.home.clone(),
            shell: self.shell.clone(),
            password: self.password.clone(),
            locked: self.locked.clone(),
            passwordchanged: self.changed,
            expires: self.expires,
            origin: if self.nss { Word::Borrowed("nss") } else { origin },
            created,
            end: None,
        }
        .into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::UserInfo(row) = row else { return None };
        Some(Self {
            name: row.username.clone(),
            uid: row.uid,
            gid: row.gid,
            gecos: row.gecos.clone(),
            home: row.home.clone(),
            shell: row.shell.clone(),
            password: row.password.clone(),
            locked: row.locked.clone(),
            changed: row.passwordchanged,
            expires: row.expires,
            nss: row.origin == "nss",
        })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::UserInfo(UserInfoEnd { destroyed, ended })
    }

    /// Those of other sources are not listed by anyone.
    fn is_listed(&self) -> bool {
        !self.nss
    }
}

/// The values of a row of `groupinfo`.
#[derive(PartialEq)]
pub(super) struct GroupState {
    name: String,
    gid: u32,
    members: String,
}

impl From<&Group> for GroupState {
    fn from(group: &Group) -> Self {
        let members = group.members.split(|&b| b == b',').filter(|member| !member.is_empty());
        let members = members.map(escape).collect::<Vec<_>>().join(",");
        Self { name: escape(&group.name), gid: group.gid, members }
    }
}

impl State for GroupState {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        GroupInfo {
            groupentity: number,
            groupname: self.name.clone(),
            gid: self.gid,
            members: self.members.clone(),
            origin,
            created,
            end: None,
        }
        .into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::GroupInfo(row) = row else { return None };
        Some(Self { name: row.groupname.clone(), gid: row.gid, members: row.members.clone() })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::GroupInfo(GroupInfoEnd { destroyed, ended })
    }
}

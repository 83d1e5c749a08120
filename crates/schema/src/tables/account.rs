//! Who may log in, and who did: users, groups, logins.

use std::sync::Arc;

use crate::{Time, Word};

table! {
    /// Groups of the host and their members over time, from /etc/group. Of two lines with one name the first counts, as in the C library.
    groupinfo: GroupInfo, GroupInfoEnd, key groupentity;
    begin {
        /// Number of the row, ordered by time.
        groupentity: i64,
        /// Name of the group.
        groupname: String,
        /// Group id.
        gid: u32,
        /// The members that the group's own line names, separated by commas, in its order. Users whose primary group it is are not among them:
        /// they are those with this `gid` in `userinfo`.
        members: String,
        /// How the row began: `event`, the file changed; `found`, it was so when the recorder started.
        origin: Word,
        /// When it came to be so.
        created: Time,
    }
    end {
        /// When it ceased to be so.
        destroyed: Time,
        /// How it ended: `event`, the group was removed; `changed`, the next row has its other values; `unseen`, while nothing watched, at the latest
        /// at `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (groupname) (gid) }
}

table! {
    /// Users of the host over time: those of /etc/passwd with what /etc/shadow says of their passwords, and users of other sources (NSS) once they
    /// are met. Of two lines with one name the first counts, as in the C library. Neither passwords nor their hashes are kept.
    userinfo: UserInfo, UserInfoEnd, key userentity;
    begin {
        /// Number of the row, ordered by time.
        userentity: i64,
        /// Name of the user.
        username: String,
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// Full name and other remarks, the fifth field of passwd(5).
        gecos: String,
        /// Home directory.
        home: String,
        /// Login shell.
        shell: String,
        /// `set`; `empty`, none is asked for; `none`, no password fits. NULL where it was not for the recorder to read.
        password: Option<Word>,
        /// Whether the password is locked (`passwd -l`, `usermod -L`: its field begins with `!`): `yes` or `no`. NULL as for `password`.
        locked: Option<Word>,
        /// The day on which the password was changed last, at midnight UTC; 1970-01-01 where it must be changed at the next login.
        passwordchanged: Option<Time>,
        /// The day on which the account expires, at midnight UTC.
        expires: Option<Time>,
        /// How the row began: `event`, a file changed; `found`, it was so when the recorder started; `nss`, the user is in no local file and was met.
        origin: Word,
        /// When it came to be so.
        created: Time,
    }
    end {
        /// When it ceased to be so.
        destroyed: Time,
        /// How it ended: `event`, the user was removed; `changed`, the next row has its other values; `unseen`, while nothing watched, at the latest
        /// at `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (username) (uid) }
}

table! {
    /// Logins. A login is a session of kernel audit: it begins where a process gets a login uid and lasts as long as the last process that descends
    /// from there. What login records (utmp) and logind tell of it is in the same row; a login that they alone know has a row with `session` NULL.
    /// `psinfo.session` leads here: join on `host` and `session`; where a store holds several boots of a host, the kernel counts sessions anew in each,
    /// and `psinfo.created between sessioninfo.created and coalesce(sessioninfo.destroyed, psinfo.created)` keeps them apart.
    sessioninfo: SessionInfo, SessionInfoEnd, key sessionentity;
    begin {
        /// Number of the row, ordered by time.
        sessionentity: i64,
        /// The boot in which it took place: `hostinfo.bootentity`.
        bootentity: i64,
        /// Session id of kernel audit, unique within a boot.
        session: Option<u32>,
        /// Name of the user who logged in, as the login record has it, else as `loginname`.
        username: Arc<str>,
        /// Name of the login uid.
        loginname: Option<Arc<str>>,
        /// Login uid.
        auid: Option<u32>,
        /// What let the user in: the service that logind names, else the task name of the process in which the login took place (`sshd`, `login`,
        /// `cron`).
        service: Option<String>,
        /// Terminal, for instance `pts0`.
        tty: Option<String>,
        /// The host from which the user came, as the login record or logind tells.
        remotehost: Option<String>,
        /// Its address, as the login record tells; else that of the connection which the service accepted last before it forked the process in which
        /// the login took place.
        remoteaddress: Option<String>,
        /// Process in which the login took place; where the recorder came later, the oldest of the session.
        pid: Option<u32>,
        /// Its image at that moment.
        psentity: Option<i64>,
        /// How the row began: `event`; `found`, it lasted already when the recorder started (`created` is then when its oldest process began); `poll`;
        /// `utmp` or `logind`, known from there alone; `wtmp`, likewise, and over before the recorder started again; `wtmpdb`, one or the other.
        origin: Word,
        /// When the first process of it was seen, or what the login record says.
        created: Time,
    }
    end {
        /// When it ended.
        destroyed: Time,
        /// How it ended: `exit`, its last process ended; `logout`, the login record was removed; `changed`, another row tells of it from then on;
        /// `unseen`, while nothing watched, at the latest at `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (session) (username) }
}

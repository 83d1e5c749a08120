//! What can go wrong with a store, each with what was attempted on what, and what to do about it.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;

use crate::StoreUrl;

/// A store could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not the URL of a store.
    #[error(
        "{text:?} is no store: write sqlite:PATH, mysql://USER@HOST/DATABASE or postgres://USER@HOST/DATABASE"
    )]
    Url {
        /// What was given.
        text: String,
    },
    /// A server's database did not do what was asked.
    #[error("cannot {action} {url}: {detail}{}", trouble.advice())]
    Database {
        /// What was attempted.
        action: &'static str,
        /// The store.
        url: StoreUrl,
        /// What kind of trouble it is.
        trouble: Trouble,
        /// The engine's words.
        detail: String,
    },
    /// The tables of a server's database are of another version.
    #[error("{url} has schema version {found}, this luarm knows version {known}: {}",
        if found > known { "use the newer luarm that wrote it" } else { "this version has no way up from there; name another database" })]
    DatabaseVersion {
        /// The store.
        url: StoreUrl,
        /// What the database says.
        found: i64,
        /// What this program writes.
        known: i64,
    },
    /// The name is that of another computer.
    #[error(
        "{url} knows {name:?} as the computer with machine id {known:?}, not {given:?}: enroll this one under another name"
    )]
    OtherMachine {
        /// The store.
        url: StoreUrl,
        /// The enrolled name.
        name: String,
        /// The machine id that belongs to it.
        known: String,
        /// The machine id that came.
        given: String,
    },
    /// Others took every number that was tried for a row.
    #[error("no number is free for a row of {table}; is the clock of this machine right?")]
    Numbers {
        /// The table.
        table: &'static str,
    },
    /// What a server wrote down cannot be read again, to be sealed.
    #[error("cannot read what was written down in {table}: {detail}")]
    Unread {
        /// The table.
        table: &'static str,
        /// Why not.
        detail: String,
    },
    /// The engine cannot do this.
    #[error("{url}: {what} needs a MariaDB, MySQL or PostgreSQL store")]
    OnlyServers {
        /// The store.
        url: StoreUrl,
        /// What was asked for.
        what: &'static str,
    },
    /// A row of the batch says that it is of another computer.
    #[error("batch {id} says it is of the computer {given:?}, and comes from {known:?}")]
    Impostor {
        /// The number.
        id: i64,
        /// The machine id of the one who delivers.
        known: String,
        /// The machine id in the row.
        given: String,
    },
    /// The operating system refused to make or open a file or directory.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is no such store to read.
    #[error("{} does not exist: `luarm run` makes it; name another with --store sqlite:PATH or --data DIR", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The path is a directory, a device or the like.
    #[error("{} is not a regular file: name the database file itself, for instance {}/luarm.db", path.display(), path.display())]
    NotFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is something else than a database.
    #[error("{} is not a SQLite database: name another file, or move this one away", path.display())]
    NotDatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is the database of another application.
    #[error("{} is a database of another application ({detail}): name another file; luarm leaves this one as it is", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// The tables are of another version.
    #[error("{} has schema version {found}, this luarm knows version {known}: {}", path.display(),
        if found > known { "use the newer luarm that wrote it" } else { "this version has no way up from there; name another file" })]
    Version {
        /// The file.
        path: PathBuf,
        /// What the database says.
        found: i64,
        /// What this program writes.
        known: i64,
    },
    /// The file is damaged.
    #[error("{} is damaged ({detail}): move it away with its -wal and -shm files and keep it; `sqlite3 FILE .recover` may read the rest", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// The file or its directory cannot be written.
    #[error("{} cannot be written ({detail}): the file, its -wal and -shm, and their directory must be writable for this user", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// The file can be read, but not as long as its companions are missing.
    #[error("{} cannot be read by this user now ({detail}): its -wal file waits for a user who may write its directory; start the recorder, or read as its user", path.display())]
    NeedsRecovery {
        /// The file.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// No space is left for the database.
    #[error("no space is left for {}: free some; nothing of this batch is stored", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the database.
    #[error("{} is in use by another writer", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Reading or writing the file failed.
    #[error("input or output failed on {} ({detail})", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// Batches must come without gaps.
    #[error("batch {got} cannot follow batch {last}")]
    Gap {
        /// The last batch that is stored, 0 for none.
        last: i64,
        /// The batch that came.
        got: i64,
    },
    /// Another batch is stored under that number.
    #[error("batch {id} is stored already with other content")]
    Conflict {
        /// The number.
        id: i64,
    },
    /// The batch does not close with its own `batchinfo` row.
    #[error("batch {id} does not end with its batchinfo row")]
    Unsigned {
        /// The number.
        id: i64,
    },
    /// The batch does not go on with the host's chain.
    #[error("batch {id} is not taken in: {flaw}")]
    Flaw {
        /// The number.
        id: i64,
        /// What is wrong.
        flaw: luarm_chain::link::Flaw,
    },
    /// A thread for a connection could not be started.
    #[error("cannot start a thread that stores batches into {url}: {source}")]
    Thread {
        /// The store.
        url: StoreUrl,
        /// The system's error.
        source: io::Error,
    },
    /// The thread that stores batches has failed at this one; the log says more.
    #[error("nobody knows whether the batch is stored: what stores batches has failed; send it again")]
    Unanswered,
    /// Anything else that the engine said.
    #[error("cannot {action} {}: {source}", path.display())]
    Engine {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The engine's error.
        source: rusqlite::Error,
    },
}

/// What kind of trouble a server's database is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The connection could not be made, broke, or stood still; the server stops or is too busy.
    Lost,
    /// Another transaction was in the way: a deadlock, a lock that was held too long.
    Contended,
    /// The server takes no writes now.
    ReadOnly,
    /// The server has no space left.
    Full,
    /// There is no such database, or it has not all of luarm's tables.
    Missing,
    /// Account or password are wrong.
    Denied,
    /// The server could not show that it is the one that the URL names. It may be another that answers for a while.
    Untrusted,
    /// The account may not do this.
    Forbidden,
    /// A setting of the server or the URL stands in the way.
    Setting,
    /// Anything else.
    Other,
}

impl Trouble {
    /// Whether it may be over without anybody doing something about luarm.
    pub fn is_transient(self) -> bool {
        match self {
            // Whoever stands in between must not be able to end the recording.
            Trouble::Untrusted => true,
            Trouble::Lost | Trouble::Contended | Trouble::ReadOnly | Trouble::Full => true,
            Trouble::Missing | Trouble::Denied | Trouble::Forbidden | Trouble::Setting | Trouble::Other => {
                false
            }
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Trouble::Lost => "; is the server running, and can it be reached?",
            Trouble::Contended | Trouble::Other => "",
            Trouble::ReadOnly => "; the server takes no writes now",
            Trouble::Full => "; free some space on the server",
            Trouble::Missing => {
                "; the owner of the database makes the tables by opening it with `luarm run` or `luarm server`"
            }
            Trouble::Denied => "; check user and password in the URL",
            Trouble::Untrusted => {
                "; name the file with its authority's certificate by ca=FILE in the URL, and the server as its certificate does"
            }
            Trouble::Forbidden => "; `luarm server grant` gives accounts what they need",
            Trouble::Setting => "; correct the URL or the server's settings (MySQL needs local_infile = 1)",
        }
    }
}

impl StoreError {
    /// Whether the same batch may succeed later: the disk was full, another writer was busy, input or output failed, the server is away.
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Full { .. } | StoreError::Busy { .. } | StoreError::Io { .. } => true,
            StoreError::Unanswered => true,
            StoreError::Database { trouble, .. } => trouble.is_transient(),
            _ => false,
        }
    }

    /// Sorts an error of SQLite that came while appending.
    pub(crate) fn from_append(path: &std::path::Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path, detail: source.to_string() }
            }
            // A file system that turns read-only, or has no file handle left, may come back.
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed,
            ) => StoreError::Io { path, detail: source.to_string() },
            _ => StoreError::Engine { action: "append to", path, source },
        }
    }

    /// Sorts an error of SQLite that came while opening.
    pub(crate) fn from_open(path: &std::path::Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let detail = source.to_string();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotDatabase { path },
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt { path, detail },
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly { path, detail }
            }
            Some(ErrorCode::SystemIoFailure) => StoreError::Io { path, detail },
            _ => StoreError::Engine { action: "open", path, source },
        }
    }
}

/// A query was not answered, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is wrong; the engine's words.
    #[error("{0}")]
    Statement(String),
    /// The statement would do something else than read.
    #[error("{0}: the console reads only")]
    Refused(String),
    /// There is no such audited computer in the store.
    #[error("no host {name:?} in this store; it has {known}")]
    NoHost {
        /// What was asked for.
        name: String,
        /// Those that are there.
        known: String,
    },
    /// The host has no views of its own yet.
    #[error(
        "the host {name:?} has no views of its own yet: the store's owner makes them with `luarm server grant`"
    )]
    NoPlace {
        /// The host.
        name: String,
    },
    /// The one who answers goes no further for this analyst.
    #[error("{0}")]
    Limit(String),
    /// The server that was asked refused, or could not be reached.
    #[error("{0}")]
    Server(String),
    /// Interrupted by the user.
    #[error("Query interrupted")]
    Interrupted,
    /// The taker of the rows failed.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

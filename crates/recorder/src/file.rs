//! Files: rows of `fileinfo`. A row waits until its access is over, or the sensor says that it goes on.

use luarm_schema::{
    End, Time, Word,
    escape::escape,
    tables::{FileInfo, FileInfoEnd},
};
use luarm_sensor::{
    BootNs,
    observation::{AccessEnd, AccessId, FileAccess, FileOperation, FilePath, PathOrigin},
};

use crate::{
    bounded::QuickMap,
    context::{Context, foreign},
    process::Processes,
};

/// How many accesses may be open at once. The sensor keeps fewer.
const LIMIT: usize = 1 << 16;

/// An access that has not ended.
enum Open {
    /// No store and no batch has its row yet.
    Waiting(Box<FileInfo>),
    /// Its row was given.
    Given { fileaccessid: i64, began: BootNs },
}

pub(crate) struct Files {
    open: QuickMap<AccessId, Open>,
    evicted: u64,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { open: QuickMap::default(), evicted: 0 }
    }

    /// Something was done. An access waits for what becomes of it.
    pub(crate) fn done(&mut self, ctx: &mut Context, processes: &mut Processes, access: &FileAccess) {
        let psentity = processes.actor(ctx, &access.actor, access.at, true);
        let mut row = row(ctx, access, psentity);
        let Some(id) = access.id else {
            row.end = Some(end(ctx, access.at, "done", None));
            ctx.draft.push(row);
            return;
        };
        if self.open.len() >= LIMIT {
            self.evicted += 1;
            ctx.draft.push(row);
            return;
        }
        if let Some(Open::Waiting(before)) = self.open.insert(id, Open::Waiting(Box::new(row))) {
            ctx.draft.push(*before);
        }
    }

    /// An access goes on: whoever asks sees it.
    pub(crate) fn lasts(&mut self, ctx: &mut Context, id: AccessId) {
        if let Some(open) = self.open.get_mut(&id)
            && let Open::Waiting(row) = open
        {
            let given = Open::Given { fileaccessid: row.fileaccessid, began: id.at };
            if let Open::Waiting(row) = std::mem::replace(open, given) {
                ctx.draft.push(*row);
            }
        }
    }

    /// An access is over.
    pub(crate) fn ended(&mut self, ctx: &mut Context, at: BootNs, id: AccessId, how: AccessEnd) {
        let word = match how {
            AccessEnd { exit: true, .. } => "exit",
            AccessEnd { exec: true, .. } => "exec",
            AccessEnd { closed: Some(_), .. } => "close",
            _ => "unseen",
        };
        match self.open.remove(&id) {
            Some(Open::Waiting(mut row)) => {
                row.end = Some(end(ctx, at, word, Some(how)));
                ctx.draft.push(*row);
            }
            Some(Open::Given { fileaccessid, began }) => {
                let end = end(ctx, at.max(began), word, Some(how));
                ctx.draft.end(fileaccessid, End::FileInfo(end));
            }
            None => {}
        }
    }

    /// Gives every row that waits: there is no later.
    pub(crate) fn settle_all(&mut self, ctx: &mut Context) {
        for (_, open) in self.open.drain() {
            if let Open::Waiting(row) = open {
                ctx.draft.push(*row);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many accesses were given up because too many were open, since this was asked last: their ends are missing.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }
}

fn end(ctx: &Context, at: BootNs, ended: &'static str, how: Option<AccessEnd>) -> FileInfoEnd {
    let closed = how.and_then(|how| how.closed);
    FileInfoEnd {
        opens: how.map_or(1, |how| how.opens.into()),
        sizeafter: closed.map(|closed| closed.size),
        modified: closed.map(|closed| closed.modified.into()),
        position: closed.map(|closed| closed.position),
        ..unseen(ctx.clock.time(at), ended)
    }
}

/// The end of an access of which nothing else is known.
pub(crate) fn unseen(destroyed: Time, ended: &'static str) -> FileInfoEnd {
    FileInfoEnd {
        destroyed,
        ended: Word::Borrowed(ended),
        opens: 1,
        sizeafter: None,
        modified: None,
        position: None,
    }
}

fn row(ctx: &mut Context, access: &FileAccess, psentity: i64) -> FileInfo {
    let FileAccess { actor, file, .. } = access;
    let created = ctx.clock.time(access.at);
    let (location, filename) = split(&access.path);
    FileInfo {
        fileaccessid: ctx.numbers.next(created),
        psentity,
        operation: Word::Borrowed(operation(access.operation)),
        access: match (access.reads, access.writes) {
            (true, true) => Some(Word::Borrowed("rw")),
            (true, false) => Some(Word::Borrowed("r")),
            (false, true) => Some(Word::Borrowed("w")),
            (false, false) => None,
        },
        filename,
        location,
        pathorigin: Word::Borrowed(match access.path.origin {
            PathOrigin::Kernel => "kernel",
            PathOrigin::Resolved => "resolved",
            PathOrigin::Named => "named",
        }),
        seenpath: access.path.seen.as_deref().map(escape),
        target: access.target.as_ref().map(|target| escape(&target.path)),
        detail: access.text.as_deref().map(escape),
        username: ctx.username(actor.euid),
        loginname: ctx.loginname(actor.auid),
        application: escape(&actor.comm),
        fd: access.fd,
        pid: actor.image.pid,
        size: file.map(|file| file.size),
        result: access.result,
        via: access.ring.then_some(Word::Borrowed("io_uring")),
        uid: actor.euid,
        auid: actor.auid,
        session: actor.session,
        device: file.map(|file| file.dev),
        inode: file.map(|file| file.inode),
        filemode: file.map(|file| file.mode),
        fileowner: file.map(|file| file.owner),
        filestate: file.filter(|file| file.deleted).map(|_| Word::Borrowed("deleted")),
        newmode: access.permissions,
        newowner: access.owners.and_then(|(owner, _)| owner),
        newgroup: access.owners.and_then(|(_, group)| group),
        mntns: foreign(access.mntns, ctx.host.namespaces.mnt),
        created,
        end: None,
    }
}

/// Directory and name. The root is a name in no directory; what has no directory at all (a memfd) is a name as well.
fn split(path: &FilePath) -> (String, String) {
    match path.path.iter().rposition(|b| *b == b'/') {
        Some(0) => ("/".to_owned(), escape(&path.path[1..])),
        Some(slash) => (escape(&path.path[..slash]), escape(&path.path[slash + 1..])),
        None => (String::new(), escape(&path.path)),
    }
}

fn operation(operation: FileOperation) -> &'static str {
    match operation {
        FileOperation::Open => "open",
        FileOperation::Create => "create",
        FileOperation::Truncate => "truncate",
        FileOperation::Map => "exec-map",
        FileOperation::Unlink => "unlink",
        FileOperation::Rmdir => "rmdir",
        FileOperation::Rename => "rename",
        FileOperation::Mkdir => "mkdir",
        FileOperation::Mknod => "mknod",
        FileOperation::Symlink => "symlink",
        FileOperation::Link => "link",
        FileOperation::Chmod => "chmod",
        FileOperation::Chown => "chown",
        FileOperation::Xattr => "xattr",
        FileOperation::Utimes => "utimes",
        FileOperation::Mount => "mount",
        FileOperation::Umount => "umount",
    }
}

//! Files: rows of `fileinfo` and `contentinfo`. A row waits until its access is over, or the sensor says that it goes on; an end waits a moment for the digest
//! of what was left.

use std::{collections::VecDeque, sync::Arc};

use luarm_schema::{
    End, Time, Word,
    escape::escape,
    tables::{ContentInfo, FileInfo, FileInfoEnd},
};
use luarm_sensor::{
    BootNs,
    observation::{
        AccessEnd, AccessId, ContentDigest, EndedBy, FileAccess, FileOperation, FileVersion, FoundContent,
        PathOrigin,
    },
};

use crate::{
    bounded::{Generations, QuickMap},
    context::{Context, foreign},
    digest::hexadecimal,
    process::Processes,
};

/// How many accesses may be open at once. The sensor keeps fewer.
const LIMIT: usize = 1 << 16;
/// How long the end of an access waits for the digest of what it left.
const HELD_BACK: BootNs = 1_000_000_000;
/// Accesses that are remembered whose digest may still come.
const LATE: usize = 4096;

/// An access that has not ended, or whose end waits for a digest.
struct Open {
    row: State,
    /// The digest that came last: of which contents.
    digest: Option<(FileVersion, Option<Arc<str>>)>,
    /// When and how it ended.
    ended: Option<(BootNs, AccessEnd)>,
}

enum State {
    /// No store and no batch has its row yet, nor what was found that it left.
    Waiting(Box<FileInfo>, Vec<ContentInfo>),
    /// Its row was given.
    Given { fileaccessid: i64, began: BootNs },
}

impl State {
    fn fileaccessid(&self) -> i64 {
        match self {
            Self::Waiting(row, _) => row.fileaccessid,
            Self::Given { fileaccessid, .. } => *fileaccessid,
        }
    }
}

pub(crate) struct Files {
    open: QuickMap<AccessId, Open>,
    /// Ends that wait: since when, when the access ended, and which. Some wait no longer.
    held_back: VecDeque<(BootNs, BootNs, AccessId)>,
    late: Generations<AccessId, i64>,
    evicted: u64,
}

impl Files {
    pub(crate) fn new() -> Self {
        let (open, held_back) = Default::default();
        Self { open, held_back, late: Generations::new(LATE), evicted: 0 }
    }

    /// Something was done. An access waits for what becomes of it. Gives the numbers of its row and of the image that did it.
    pub(crate) fn done(
        &mut self,
        ctx: &mut Context,
        processes: &mut Processes,
        access: &FileAccess,
    ) -> (i64, i64) {
        let psentity = processes.actor(ctx, &access.actor, access.at, true);
        let mut row = row(ctx, access, psentity);
        let numbers = (row.fileaccessid, psentity);
        let Some(id) = access.id else {
            row.end = Some(end(ctx, access.at, "done", None));
            ctx.draft.push(row);
            return numbers;
        };
        // What took an instant is over, and waits for nothing but the digest.
        let ended = is_instant(access.operation).then(|| {
            row.end = Some(end(ctx, access.at, "done", None));
            let content = Some(FileVersion::unseen(id.inode));
            (access.at, AccessEnd { by: EndedBy::Close, opens: 1, closed: None, content })
        });
        if self.open.len() >= LIMIT {
            self.evicted += u64::from(ended.is_none());
            self.late.insert(id, row.fileaccessid);
            ctx.draft.push(row);
            return numbers;
        }
        if ended.is_some() {
            self.held_back.push_back((ctx.clock.latest(), access.at, id));
        }
        let open = Open { row: State::Waiting(Box::new(row), Vec::new()), digest: None, ended };
        if let Some(Open { row: State::Waiting(before, _), .. }) = self.open.insert(id, open) {
            ctx.draft.push(*before);
        }
        numbers
    }

    /// An access goes on: whoever asks sees it.
    pub(crate) fn lasts(&mut self, ctx: &mut Context, id: AccessId) {
        if let Some(open) = self.open.get_mut(&id)
            && let State::Waiting(row, _) = &open.row
        {
            let given = State::Given { fileaccessid: row.fileaccessid, began: id.at };
            if let State::Waiting(row, contents) = std::mem::replace(&mut open.row, given) {
                give(ctx, *row, contents);
            }
        }
    }

    /// An access is over. If what it left is being digested, its end waits a moment.
    pub(crate) fn ended(&mut self, ctx: &mut Context, at: BootNs, id: AccessId, how: AccessEnd) {
        let Some(mut open) = self.open.remove(&id) else { return };
        if how.content.is_none() || how.content == open.digest.as_ref().map(|(content, _)| *content) {
            return conclude(ctx, open, (at, how));
        }
        open.ended = Some((at, how));
        self.open.insert(id, open);
        self.held_back.push_back((ctx.clock.latest(), at, id));
    }

    /// What an access left was digested, or cannot be.
    pub(crate) fn digested(&mut self, ctx: &mut Context, digest: &ContentDigest) {
        let ContentDigest { at, id, content, found } = digest;
        let open = self.open.get_mut(id);
        let known = open.as_ref().map(|open| open.row.fileaccessid());
        let Some(fileaccessid) = known.or_else(|| self.late.get(id).copied()) else { return };
        let row = found.as_ref().map(|found| contentinfo(ctx, (*at, fileaccessid), *content, found));
        let sha256 = row.as_ref().map(|row| Arc::clone(&row.sha256));
        let Some(open) = open else { return row.into_iter().for_each(|row| ctx.draft.push(row)) };
        match &mut open.row {
            State::Waiting(_, contents) => contents.extend(row),
            State::Given { .. } => row.into_iter().for_each(|row| ctx.draft.push(row)),
        }
        open.digest = Some((*content, sha256));
        if open.ended.is_some_and(|(_, how)| how.content == Some(*content)) {
            self.release(ctx, *id);
        }
    }

    /// Gives the ends that have waited long enough at `now`.
    pub(crate) fn settle(&mut self, ctx: &mut Context, now: BootNs) {
        while let Some(&(since, _, id)) = self.held_back.front() {
            let waits = self.open.get(&id).is_some_and(|open| open.ended.is_some());
            if waits && since.saturating_add(HELD_BACK) > now {
                break;
            }
            self.held_back.pop_front();
            if waits {
                self.release(ctx, id);
            }
        }
    }

    /// When the oldest access ended whose end still waits.
    pub(crate) fn oldest_waiting(&self) -> Option<BootNs> {
        let waits = |id: &AccessId| self.open.get(id).is_some_and(|open| open.ended.is_some());
        self.held_back.iter().filter(|(.., id)| waits(id)).map(|(_, at, _)| *at).min()
    }

    /// Gives every row and every end that waits: there is no later.
    pub(crate) fn settle_all(&mut self, ctx: &mut Context) {
        for (_, mut open) in self.open.drain() {
            match (open.ended.take(), open.row) {
                (Some(ended), row) => conclude(ctx, Open { row, ..open }, ended),
                (None, State::Waiting(row, contents)) => give(ctx, *row, contents),
                (None, State::Given { .. }) => {}
            }
        }
    }

    fn release(&mut self, ctx: &mut Context, id: AccessId) {
        let Some(mut open) = self.open.remove(&id) else { return };
        let Some(ended) = open.ended.take() else { return };
        if ended.1.content != open.digest.as_ref().map(|(content, _)| *content) {
            self.late.insert(id, open.row.fileaccessid());
        }
        conclude(ctx, open, ended);
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many accesses were given up because too many were open, since this was asked last: their ends are missing.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }
}

fn give(ctx: &mut Context, row: FileInfo, contents: Vec<ContentInfo>) {
    ctx.draft.push(row);
    contents.into_iter().for_each(|content| ctx.draft.push(content));
}

/// Ends an access, whether its row was given or not.
fn conclude(ctx: &mut Context, open: Open, (at, how): (BootNs, AccessEnd)) {
    let word = match how.by {
        EndedBy::Close => "close",
        EndedBy::Exit => "exit",
        EndedBy::Exec => "exec",
        EndedBy::Unseen => "unseen",
    };
    let digest = open.digest.filter(|(content, _)| how.content == Some(*content));
    let sha256 = digest.and_then(|(_, sha256)| sha256);
    match open.row {
        State::Waiting(mut row, contents) => {
            let end = row.end.take().unwrap_or_else(|| end(ctx, at, word, Some(how)));
            row.end = Some(FileInfoEnd { sha256, ..end });
            give(ctx, *row, contents);
        }
        State::Given { fileaccessid, began } => {
            let end = FileInfoEnd { sha256, ..end(ctx, at.max(began), word, Some(how)) };
            ctx.draft.end(fileaccessid, End::FileInfo(end));
        }
    }
}

/// Whether an operation takes an instant, also if it is given an id.
fn is_instant(operation: FileOperation) -> bool {
    matches!(operation, FileOperation::Rename | FileOperation::Link)
}

fn contentinfo(
    ctx: &mut Context,
    (at, fileaccessid): (BootNs, i64),
    content: FileVersion,
    found: &FoundContent,
) -> ContentInfo {
    let created = ctx.clock.time(at);
    let (location, filename) = split(&found.path);
    let FileVersion { inode, size, mtime, ctime } = found.version;
    ContentInfo {
        contentid: ctx.numbers.next(created),
        fileaccessid,
        filename,
        location,
        device: found.dev,
        inode,
        size,
        mtime: Time(mtime / 1000),
        ctime: Time(ctime / 1000),
        asclosed: (found.version == content).into(),
        sha256: hexadecimal(&found.sha256),
        created,
        end: None,
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
        sha256: None,
    }
}

fn row(ctx: &mut Context, access: &FileAccess, psentity: i64) -> FileInfo {
    let FileAccess { actor, file, .. } = access;
    let created = ctx.clock.time(access.at);
    let (location, filename) = split(&access.path.path);
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
fn split(path: &[u8]) -> (String, String) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => ("/".to_owned(), escape(&path[1..])),
        Some(slash) => (escape(&path[..slash]), escape(&path[slash + 1..])),
        None => (String::new(), escape(path)),
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

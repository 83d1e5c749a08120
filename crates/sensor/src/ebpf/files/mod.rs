//! Files: the kernel tells when an access begins and when it ends; what it folds in between, and when an access is really over, is known here.

mod arrivals;
mod decode;
mod paths;
mod requests;

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    mem,
    rc::Rc,
};

use libbpf_rs::{MapCore, MapFlags};
use zerocopy::{FromBytes, IntoBytes};

use self::{arrivals::Arrivals, paths::Paths, requests::Requests};
use super::{
    decode::{image, path},
    places::Names,
    record::{self, Access, AccessKey, split},
};
use crate::{
    digest::{Content, Digests},
    observation::{
        AccessEnd, AccessId, BootNs, Closed, EndedBy, FileAccess, FileOperation, FileVersion, ImageId, Loss,
        Observation,
    },
};

/// As long as this after a close the kernel takes an open for the same access (`AGAIN` in bpf/files.h).
const AGAIN: BootNs = 1_000_000_000;
/// What the kernel tells of a process's exit is there when this has passed.
const FAREWELL: BootNs = 50_000_000;
/// Accesses that are known at once; beyond, the oldest is given up and counted.
const LIMIT: usize = 1 << 15;

/// Names an access in the kernel's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    image: ImageId,
    inode: u64,
    dev: u32,
    access: u32,
    which: u32,
}

impl Key {
    fn of(key: &AccessKey) -> Self {
        Self {
            image: image(&key.image),
            inode: key.inode,
            dev: key.dev,
            access: key.access,
            which: key.which,
        }
    }

    fn record(self) -> AccessKey {
        let ImageId { pid, start, execs } = self.image;
        let image = record::Image { pid, execs, start };
        AccessKey { image, inode: self.inode, dev: self.dev, access: self.access, which: self.which, pad: 0 }
    }

    fn process(self) -> (u32, BootNs) {
        (self.image.pid, self.image.start)
    }
}

/// An access that has not ended, or may be taken up again.
struct Known {
    id: AccessId,
    /// Opens that an entry counted which the kernel's table has no more.
    before: u32,
    /// Opens that the kernel has told of since.
    opens: u32,
    /// The last close that is known.
    closed: Option<(BootNs, Closed)>,
    /// What that close was.
    by: EndedBy,
    /// The kernel may have folded more since: its table knows.
    again: bool,
    cloexec: bool,
    /// The recorder was told that it goes on.
    lasting: bool,
    /// What it left in the file, as of its last close that changed it; where files are digested.
    left: Option<Box<Left>>,
}

/// Contents that are to be digested.
struct Left {
    user: u32,
    content: Content,
    /// The digest was asked for.
    asked: bool,
}

impl Known {
    fn note(&mut self, access: &Access) {
        self.opens = self.opens.max(access.opens);
        let modified = access.modified != 0;
        if let Some(left) = self.left.as_mut().filter(|_| modified && access.mtime != 0) {
            let Access { size, mtime, ctime, .. } = *access;
            let version =
                FileVersion { inode: self.id.inode, size, mtime: mtime as i64, ctime: ctime as i64 };
            if version != left.content.version {
                left.content = left.content.later(version);
                left.asked = false;
            }
        }
        let closed = Closed { size: access.size, position: access.position, modified };
        self.closed = (access.open == 0).then_some((access.last, closed));
    }

    /// Asks the kernel's table; gives whether it is open.
    fn look(&mut self, key: Key, table: &impl MapCore) -> bool {
        let found = table.lookup(key.record().as_bytes(), MapFlags::ANY).ok().flatten();
        self.take(found.as_deref())
    }

    fn take(&mut self, found: Option<&[u8]>) -> bool {
        match found.and_then(|bytes| Access::read_from_bytes(bytes).ok()) {
            Some(access) => self.note(&access),
            None => self.again = false,
        }
        self.closed.is_none()
    }

    /// `by` is what it ends by if nothing is known of a close.
    fn end(&self, at: BootNs, by: EndedBy) -> Observation {
        let (at, by, closed) =
            self.closed.map_or((at, by, None), |(last, closed)| (last, self.by, Some(closed)));
        let end = AccessEnd {
            by,
            opens: self.before.saturating_add(self.opens.max(1)),
            closed: closed.filter(|_| by != EndedBy::Unseen),
            content: self.left.as_ref().filter(|left| left.asked).map(|left| left.content.version),
        };
        Observation::FileEnd { at: at.max(self.id.at), id: self.id, end }
    }
}

/// The accesses of all processes.
pub(super) struct Files {
    known: HashMap<Key, Known>,
    of_process: HashMap<(u32, BootNs), Vec<Key>>,
    /// When to look at which, oldest first; and when that one began.
    due: VecDeque<(BootNs, Key, BootNs)>,
    exits: VecDeque<(BootNs, ImageId)>,
    paths: Paths,
    requests: Requests,
    given_up: u64,
    digests: Rc<RefCell<Digests>>,
    places: Names,
    arrivals: Arrivals,
}

impl Files {
    /// `mntns` is the host's own mount namespace; `digests` is asked for those of files below `places`.
    pub(super) fn new(mntns: u32, digests: Rc<RefCell<Digests>>, places: Names) -> Self {
        let paths = Paths::new(mntns);
        Self {
            known: HashMap::new(),
            of_process: HashMap::new(),
            due: VecDeque::new(),
            exits: VecDeque::new(),
            arrivals: Arrivals::new(mntns, paths.lookups()),
            paths,
            requests: Requests::default(),
            given_up: 0,
            digests,
            places,
        }
    }

    /// Something was done with a file.
    pub(super) fn one(&mut self, bytes: &[u8], out: &mut Vec<Observation>) {
        let Some((r, mut access)) = decode::file(bytes, &mut self.paths) else { return };
        let before = out.len();
        if r.flags & record::FILE_ASKED != 0 {
            self.requests.asked(r.request, access, r.flags & record::FILE_SILENT != 0, out);
            return self.follow_all(&mut out[before..]);
        }
        if r.request != 0 {
            self.requests.met(r.request, &mut access, &self.paths, out);
            self.follow_all(&mut out[before..]);
        }
        if r.operation != record::operation::OPEN || r.result != 0 {
            self.follow(&mut access);
            out.push(Observation::File(Box::new(access)));
            return;
        }
        let flags = r.flags & (record::FILE_CREATED | record::FILE_TRUNCATED);
        let key = Key {
            image: access.actor.image,
            inode: r.inode,
            dev: r.dev,
            access: r.access | flags << 8,
            which: r.which,
        };
        // The kernel takes it for another access: the one before is over.
        self.finish(key, r.h.at, EndedBy::Unseen, out);
        if self.known.len() >= LIMIT {
            self.give_up(r.h.at, out);
        }
        let at = r.h.at;
        let id = AccessId {
            image: key.image,
            dev: key.dev,
            inode: key.inode,
            access: key.access,
            which: key.which,
            at,
        };
        access.id = Some(id);
        out.push(Observation::File(Box::new(access)));
        self.known.insert(
            key,
            Known {
                id,
                before: 0,
                opens: 1,
                closed: None,
                by: EndedBy::Close,
                again: false,
                cloexec: r.flags & record::FILE_CLOEXEC != 0,
                lasting: false,
                left: None,
            },
        );
        self.of_process.entry(key.process()).or_default().push(key);
        self.due.push_back((at.saturating_add(AGAIN), key, at));
    }

    /// A request to io_uring is done.
    pub(super) fn answered(&mut self, bytes: &[u8], out: &mut Vec<Observation>) {
        if let Some((r, _)) = split::<record::Answer>(bytes) {
            let before = out.len();
            self.requests.answered(&r, &self.paths, out);
            self.follow_all(&mut out[before..]);
        }
    }

    /// An access was closed.
    pub(super) fn closed(&mut self, bytes: &[u8]) {
        let Some((r, _)) = split::<record::FileEnd>(bytes) else { return };
        let key = Key::of(&r.key);
        let Some(known) = self.known.get_mut(&key) else { return };
        known.note(&r.access);
        known.again = false;
        known.by = match r.h.pad {
            record::END_EXIT => EndedBy::Exit,
            record::END_UNSEEN => EndedBy::Unseen,
            _ => EndedBy::Close,
        };
        self.due.push_back((r.h.at.saturating_add(AGAIN), key, known.id.at));
    }

    /// A file was closed with new contents, where files are digested. That it was closed is told next.
    pub(super) fn left(&mut self, bytes: &[u8]) {
        let Some((r, rest)) = split::<record::Content>(bytes) else { return };
        let mut digests = self.digests.borrow_mut();
        let Some(known) = self.known.get_mut(&Key::of(&r.key)) else {
            return digests.miss("file-digest", "unknown-access");
        };
        if r.remote != 0 {
            known.left = None;
            return digests.miss("file-digest", "remote");
        }
        let version =
            FileVersion { inode: r.key.inode, size: r.size, mtime: r.mtime as i64, ctime: r.ctime as i64 };
        let components = rest.get(..r.path_len as usize).unwrap_or_default();
        let seen = path(components);
        let place = self.places.path(r.place).filter(|_| r.below <= r.path_len).map(|own| {
            let below = path(&components[..r.below as usize]);
            let above = seen.len() - if r.below == 0 { 0 } else { below.len() };
            (seen[..above].to_vec(), own)
        });
        let mut content = Content::new(known.id, version, seen, place);
        if let Some(name) = self.arrivals.name_of(r.key.inode) {
            content.known_as(name.to_vec());
        }
        // Where there is no room for it now there may be when the access is over.
        let asked = digests.content(r.euid, content.later(version));
        known.left = Some(Box::new(Left { user: r.euid, content, asked }));
    }

    /// What waits to be digested may have another name now, or what is to be digested a first one.
    fn follow(&mut self, access: &mut FileAccess) {
        let FileAccess { operation, path, target, result: Some(0), .. } = &*access else { return };
        let digests = self.digests.borrow();
        match (operation, target) {
            (FileOperation::Rename, Some(target)) => digests.named(&path.path, &target.path, true),
            (FileOperation::Link, Some(target)) => digests.named(&path.path, &target.path, false),
            (FileOperation::Utimes, _) => return digests.timed(&path.path),
            _ => return,
        }
        drop(digests);
        self.arrivals.told(access, &mut self.digests.borrow_mut(), &self.places);
    }

    fn follow_all(&mut self, observations: &mut [Observation]) {
        for observation in observations {
            if let Observation::File(access) = observation {
                self.follow(access);
            }
        }
    }

    /// Whether an exec closes it is another from now on.
    pub(super) fn closes_at_exec(&mut self, bytes: &[u8]) {
        let Some((r, _)) = split::<record::FileEnd>(bytes) else { return };
        if let Some(known) = self.known.get_mut(&Key::of(&r.key)) {
            known.cloexec = r.h.pad != 0;
        }
    }

    /// An access was taken up again, and the kernel says no more of it for a while.
    pub(super) fn again(&mut self, bytes: &[u8]) {
        let Some((r, _)) = split::<record::FileEnd>(bytes) else { return };
        let key = Key::of(&r.key);
        let Some(known) = self.known.get_mut(&key) else { return };
        known.again = true;
        self.due.push_back((r.h.at.saturating_add(AGAIN), key, known.id.at));
    }

    /// A process ended.
    pub(super) fn exited(&mut self, at: BootNs, image: ImageId, out: &mut Vec<Observation>) {
        self.requests.exited(image, out);
        if self.of_process.contains_key(&(image.pid, image.start)) {
            self.exits.push_back((at, image));
        }
    }

    /// A process runs another image: what was to be closed then is closed.
    pub(super) fn executed(
        &mut self,
        at: BootNs,
        image: ImageId,
        table: &impl MapCore,
        out: &mut Vec<Observation>,
    ) {
        let Some(keys) = self.of_process.get(&(image.pid, image.start)) else { return };
        let closed = |key: &Key| self.known.get(key).is_some_and(|known| known.cloexec);
        for key in keys.iter().copied().filter(closed).collect::<Vec<_>>() {
            self.finish_with(key, at, EndedBy::Exec, table, out);
        }
    }

    /// Tells of what is over by now, and of what goes on. With `all` of everything that is known: somebody wants to have it now.
    pub(super) fn settle(
        &mut self,
        now: BootNs,
        all: bool,
        table: &impl MapCore,
        out: &mut Vec<Observation>,
    ) {
        self.paths.forget();
        self.requests.settle(now, all, out);
        let ripe = |at: BootNs| all || at.saturating_add(FAREWELL) <= now;
        while let Some((at, image)) = self.exits.pop_front_if(|(at, _)| ripe(*at)) {
            for key in self.of_process.get(&(image.pid, image.start)).cloned().unwrap_or_default() {
                self.finish_with(key, at, EndedBy::Exit, table, out);
            }
        }
        while let Some((_, key, began)) = self.due.pop_front_if(|(due, ..)| *due <= now) {
            self.look(key, began, now, table, out);
        }
        if all {
            self.tell(now, table, out);
        }
        let count = mem::take(&mut self.given_up);
        if count > 0 {
            let loss = Loss { class: "file", cause: "table-full", count, from: now, until: now };
            out.push(Observation::Loss(loss));
        }
    }

    /// Looks at an access whose time has come.
    fn look(
        &mut self,
        key: Key,
        began: BootNs,
        now: BootNs,
        table: &impl MapCore,
        out: &mut Vec<Observation>,
    ) {
        let Some(known) = self.known.get_mut(&key).filter(|known| known.id.at == began) else { return };
        let open = if known.again { known.look(key, table) } else { known.closed.is_none() };
        match known.closed {
            Some((last, _)) if last.saturating_add(AGAIN) > now => {
                self.due.push_back((last.saturating_add(AGAIN), key, began));
            }
            Some(_) if !open => self.finish(key, now, EndedBy::Unseen, out),
            _ if !known.lasting => {
                known.lasting = true;
                out.push(Observation::FileLasts(known.id));
            }
            _ => {}
        }
    }

    /// Tells of everything: what is closed is over, and the kernel is made to forget it, so that it tells of the next open anew.
    fn tell(&mut self, now: BootNs, table: &impl MapCore, out: &mut Vec<Observation>) {
        let mut over = Vec::new();
        for (key, known) in &mut self.known {
            let mut open = known.closed.is_none();
            if !open || known.again {
                let found = table.lookup_and_delete(key.record().as_bytes()).ok().flatten();
                open = known.take(found.as_deref());
                known.again = false;
                if open && found.is_some() {
                    known.before = known.before.saturating_add(mem::take(&mut known.opens));
                }
            }
            if !open {
                over.push(*key);
            } else if !known.lasting {
                known.lasting = true;
                out.push(Observation::FileLasts(known.id));
            }
        }
        for key in over {
            self.finish(key, now, EndedBy::Unseen, out);
        }
    }

    fn finish_with(
        &mut self,
        key: Key,
        at: BootNs,
        by: EndedBy,
        table: &impl MapCore,
        out: &mut Vec<Observation>,
    ) {
        if let Some(known) = self.known.get_mut(&key).filter(|known| known.again) {
            known.look(key, table);
        }
        self.finish(key, at, by, out);
    }

    fn finish(&mut self, key: Key, at: BootNs, by: EndedBy, out: &mut Vec<Observation>) {
        let Some(mut known) = self.known.remove(&key) else { return };
        if let Some(left) = known.left.as_mut().filter(|left| !left.asked) {
            let mut digests = self.digests.borrow_mut();
            left.asked = digests.content(left.user, left.content.later(left.content.version));
            if !left.asked {
                digests.miss("file-digest", "queue-full");
            }
        }
        out.push(known.end(at, by));
        if let Some(keys) = self.of_process.get_mut(&key.process()) {
            if let Some(place) = keys.iter().position(|other| *other == key) {
                keys.swap_remove(place);
            }
            if keys.is_empty() {
                self.of_process.remove(&key.process());
            }
        }
    }

    /// Gives up the access that has waited longest, or any: its end is not told.
    fn give_up(&mut self, now: BootNs, out: &mut Vec<Observation>) {
        let waiting = self.due.pop_front().map(|(_, key, _)| key).filter(|key| self.known.contains_key(key));
        if let Some(key) = waiting.or_else(|| self.known.keys().next().copied()) {
            self.given_up += u64::from(self.known.get(&key).is_some_and(|known| known.closed.is_none()));
            self.finish(key, now, EndedBy::Unseen, out);
        }
    }
}

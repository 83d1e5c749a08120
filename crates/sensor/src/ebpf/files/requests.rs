//! Requests to io_uring: what was asked for is known when a request is made, and what became of it when it is done.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use super::{super::record::Answer, paths::Paths};
use crate::observation::{BootNs, FileAccess, FileOperation, ImageId, Observation};

/// As long as this the failure of a request is waited for that does not tell of its success.
const SILENCE: BootNs = 1_000_000_000;
/// What requests may take that wait for their end; beyond, the oldest is told without its result.
const LIMIT: usize = 8 << 20;

/// A request without an answer.
struct Waiting {
    access: FileAccess,
    /// Nothing is heard of it if it is done.
    silent: bool,
    serial: u64,
}

/// What waits. A request is named by its place in the kernel's memory, for as long as it lives.
#[derive(Default)]
pub(super) struct Requests {
    waiting: HashMap<u64, Waiting>,
    /// Oldest first, with the serial number of what was asked for: the name may be another request's by now.
    order: VecDeque<(u64, u64)>,
    /// How many of each process.
    of_process: HashMap<(u32, BootNs), usize>,
    bytes: usize,
    serial: u64,
}

impl Requests {
    /// A request was made.
    pub(super) fn asked(
        &mut self,
        request: u64,
        access: FileAccess,
        silent: bool,
        out: &mut Vec<Observation>,
    ) {
        // The one before with that name is over, and nothing was heard of it.
        if let Some(before) = self.take(request) {
            unknown(before, out);
        }
        self.serial += 1;
        self.bytes += weight(&access);
        *self.of_process.entry(process(access.actor.image)).or_default() += 1;
        self.order.push_back((request, self.serial));
        self.waiting.insert(request, Waiting { access, silent, serial: self.serial });
        while self.bytes > LIMIT
            && let Some((oldest, serial)) = self.order.pop_front()
        {
            self.give_up(oldest, serial, out);
        }
        if self.order.len() > 2 * self.waiting.len() + 64 {
            self.order.retain(|(request, serial)| {
                self.waiting.get(request).is_some_and(|waiting| waiting.serial == *serial)
            });
        }
    }

    /// What became of it.
    pub(super) fn answered(&mut self, r: &Answer, paths: &Paths, out: &mut Vec<Observation>) {
        let Some(mut access) = self.take(r.request) else { return };
        // Policy wants nothing told of the file that was found; was it the one that was asked for?
        if r.untold != 0 && (r.inode == 0 || paths.lead_to(&access, r.dev, r.inode)) {
            return;
        }
        access.at = r.h.at;
        access.result = Some(r.result);
        out.push(Observation::File(Box::new(access)));
    }

    /// It is done, and the kernel had the file at hand: adds what only the request said, and who made it.
    pub(super) fn met(
        &mut self,
        request: u64,
        access: &mut FileAccess,
        paths: &Paths,
        out: &mut Vec<Observation>,
    ) {
        let Some(mut asked) = self.take(request) else { return };
        access.actor = asked.actor.clone();
        access.text = asked.text.take();
        access.fd = access.fd.or(asked.fd);
        // Between the open and its completion the descriptor may have become another file's: then that is told, and this one by its name.
        if asked.operation == FileOperation::Open
            && asked.path.path != access.path.path
            && let Some(file) = access.file
            && !paths.lead_to(&asked, file.dev, file.inode)
        {
            asked.at = access.at;
            asked.result = access.result;
            out.push(Observation::File(Box::new(asked)));
        }
    }

    /// Tells of what will not be heard of: the silent ones that have had their time, or all of these.
    pub(super) fn settle(&mut self, now: BootNs, all: bool, out: &mut Vec<Observation>) {
        let mut order = mem::take(&mut self.order);
        order.retain(|(request, serial)| {
            let Some(waiting) = self.waiting.get(request).filter(|waiting| waiting.serial == *serial) else {
                return false;
            };
            let over = waiting.silent && (all || waiting.access.at.saturating_add(SILENCE) <= now);
            if over {
                self.give_up(*request, *serial, out);
            }
            !over
        });
        self.order = order;
    }

    /// A process ended: its requests are over.
    pub(super) fn exited(&mut self, image: ImageId, out: &mut Vec<Observation>) {
        if !self.of_process.contains_key(&process(image)) {
            return;
        }
        let mut over: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| process(waiting.access.actor.image) == process(image))
            .map(|(request, waiting)| (waiting.serial, *request))
            .collect();
        over.sort_unstable();
        for (serial, request) in over {
            self.give_up(request, serial, out);
        }
    }

    fn give_up(&mut self, request: u64, serial: u64, out: &mut Vec<Observation>) {
        if self.waiting.get(&request).is_some_and(|waiting| waiting.serial == serial)
            && let Some(access) = self.take(request)
        {
            unknown(access, out);
        }
    }

    fn take(&mut self, request: u64) -> Option<FileAccess> {
        let Waiting { access, .. } = self.waiting.remove(&request)?;
        self.bytes -= weight(&access);
        let process = process(access.actor.image);
        if let Some(count) = self.of_process.get_mut(&process) {
            *count -= 1;
            if *count == 0 {
                self.of_process.remove(&process);
            }
        }
        Some(access)
    }
}

fn process(image: ImageId) -> (u32, BootNs) {
    (image.pid, image.start)
}

/// Tells of a request of which nothing was heard.
fn unknown(mut access: FileAccess, out: &mut Vec<Observation>) {
    access.result = None;
    out.push(Observation::File(Box::new(access)));
}

/// About how many bytes it takes.
fn weight(access: &FileAccess) -> usize {
    let path = |path: &crate::observation::FilePath| path.path.len() + path.seen.as_ref().map_or(0, Vec::len);
    512 + path(&access.path)
        + access.target.as_ref().map_or(0, path)
        + access.text.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use zerocopy::FromZeros;

    use super::*;
    use crate::observation::{Actor, FilePath, PathOrigin};

    fn access(pid: u32, at: BootNs, name: &[u8]) -> FileAccess {
        FileAccess {
            at,
            id: None,
            actor: Actor {
                image: ImageId { pid, start: 1, execs: 0 },
                euid: 0,
                auid: None,
                session: None,
                comm: Vec::new(),
            },
            operation: FileOperation::Unlink,
            reads: false,
            writes: false,
            path: FilePath { path: name.to_vec(), seen: None, origin: PathOrigin::Kernel },
            target: None,
            text: None,
            file: None,
            fd: None,
            permissions: None,
            owners: None,
            result: Some(0),
            ring: true,
            mntns: 0,
        }
    }

    fn answer(request: u64, at: BootNs, result: i32, untold: bool) -> Answer {
        let mut answer = Answer::new_zeroed();
        answer.h.at = at;
        (answer.request, answer.result, answer.untold) = (request, result, untold.into());
        answer
    }

    /// Paths and results of what was told.
    fn told(out: &mut Vec<Observation>) -> Vec<(String, Option<i32>)> {
        out.drain(..)
            .map(|observation| match observation {
                Observation::File(access) => (String::from_utf8(access.path.path).unwrap(), access.result),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_request_is_told_once_with_its_answer() {
        let (mut requests, mut out) = (Requests::default(), Vec::new());
        for (request, name) in [(1, "a"), (2, "b"), (3, "c")] {
            requests.asked(request, access(7, 10, name.as_bytes()), false, &mut out);
        }
        let paths = Paths::new(1);
        for (request, result, untold) in [(2, 13, false), (1, 2, true), (1, 0, false), (3, 0, false)] {
            requests.answered(&answer(request, 20, result, untold), &paths, &mut out);
        }
        assert_eq!(told(&mut out), [("b".to_owned(), Some(13)), ("c".to_owned(), Some(0))]);
        assert_eq!((requests.bytes, requests.of_process.len(), requests.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn an_open_that_found_another_file_is_told_by_the_name_that_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            let facts = std::fs::metadata(&path).unwrap();
            let device = rustix::fs::major(facts.dev()) << 20 | rustix::fs::minor(facts.dev());
            (path.into_os_string().into_encoded_bytes(), device, facts.ino())
        };
        let ((asked, dev, inode), (other, _, other_inode)) = (file("asked"), file("other"));
        let (mut requests, mut out, paths) = (Requests::default(), Vec::new(), Paths::new(1));
        for (request, found) in [(1, inode), (2, other_inode)] {
            let mut open = access(7, 10, &asked);
            (open.operation, open.mntns) = (FileOperation::Open, 1);
            requests.asked(request, open, false, &mut out);
            requests.answered(
                &Answer { inode: found, dev, ..answer(request, 20, 0, true) },
                &paths,
                &mut out,
            );
        }
        let asked = String::from_utf8(asked).unwrap();
        assert_eq!(told(&mut out), [(asked.clone(), Some(0))]);
        let mut open = access(7, 10, asked.as_bytes());
        (open.operation, open.mntns) = (FileOperation::Open, 1);
        requests.asked(1, open.clone(), false, &mut out);
        open.path.path = other;
        open.file = Some(crate::observation::FileFacts {
            dev,
            inode: other_inode,
            mode: 0,
            owner: 0,
            size: 0,
            deleted: false,
        });
        requests.met(1, &mut open, &paths, &mut out);
        assert_eq!(told(&mut out), [(asked, Some(0))]);
    }

    #[test]
    fn what_nothing_is_heard_of_is_told_without_a_result() {
        let (mut requests, mut out) = (Requests::default(), Vec::new());
        requests.asked(1, access(7, 10, b"silent"), true, &mut out);
        requests.asked(2, access(7, 10, b"waits"), false, &mut out);
        requests.settle(10 + SILENCE - 1, false, &mut out);
        assert!(out.is_empty());
        requests.settle(10 + SILENCE, false, &mut out);
        assert_eq!(told(&mut out), [("silent".to_owned(), None)]);
        requests.asked(2, access(7, 11, b"same name"), false, &mut out);
        assert_eq!(told(&mut out), [("waits".to_owned(), None)]);
        requests.exited(ImageId { pid: 7, start: 1, execs: 3 }, &mut out);
        assert_eq!(told(&mut out), [("same name".to_owned(), None)]);
        requests.settle(u64::MAX, true, &mut out);
        assert!(out.is_empty() && requests.order.is_empty());
    }

    #[test]
    fn requests_that_never_end_take_no_more_than_their_room() {
        let (mut requests, mut out) = (Requests::default(), Vec::new());
        let (name, paths) = (vec![b'n'; 4000], Paths::new(1));
        for request in 0..10_000 {
            requests.asked(request, access(7, 10, &name), false, &mut out);
        }
        assert!(requests.bytes <= LIMIT);
        assert_eq!(out.len() + requests.waiting.len(), 10_000);
        // One that is answered makes room, also in the order.
        for request in 10_000..50_000 {
            requests.asked(request, access(7, 10, b"n"), false, &mut out);
            requests.answered(&answer(request, 11, 0, false), &paths, &mut out);
        }
        assert!(requests.order.len() <= 2 * requests.waiting.len() + 64);
    }
}

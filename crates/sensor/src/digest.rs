//! SHA-256 of images that run and of files that were changed: read by a thread of its own, so that no event waits for a disk.
//!
//! A file is known by device, inode, size and times of change. What is read is compared with them before and after: what was replaced or changed meanwhile has
//! no digest, and that is said. Nobody must be able to make the recorder read without end, or wait: `queue` bounds what waits and serves users in turn,
//! `reading` bounds sizes and bytes per second and opens nothing whose file system might not answer.

mod content;
mod mounts;
mod queue;
mod reading;

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    content::{Arrival, Content},
    mounts::{MOUNTS, Mounts},
};
use self::{
    queue::{Job, Lane, Queue, Step},
    reading::{Failure, Pace, Wanted},
};
use crate::{
    capability::Duty,
    clock,
    lookup::Lookups,
    observation::{
        AccessId, ContentDigest, FileVersion, FoundContent, ImageDigest, ImageFile, Loss, Observation,
    },
    queue::Producer,
};

/// Images that are remembered as read. The recorder remembers as many digests.
const REMEMBERED: usize = 8192;
/// How many bytes of the queue an observation of ours takes.
const WEIGHT: usize = 1024;
/// Between two looks at what else there is to do.
const ROUND: Duration = Duration::from_secs(10);
/// A file system has so long to say what is at a path: those that are asked are the kernel's own, unless somebody has just put another over it.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the recorder stops, what waits is read for so long.
const FAREWELL: Duration = Duration::from_secs(2);
/// Whoever works goes first; not so much that a busy loop would keep the thread from its work. The kernel derives the priority of its reads from it.
const NICE: i32 = 10;

/// An image that is to be read.
struct Image {
    pid: u32,
    path: Vec<u8>,
    file: ImageFile,
}

/// What to read.
enum Subject {
    Image(Box<Image>),
    Content(Box<Content>),
}

impl Subject {
    fn class(&self) -> &'static str {
        match self {
            Self::Image(_) => "image-digest",
            Self::Content(_) => "file-digest",
        }
    }

    fn access(&self) -> Option<AccessId> {
        match self {
            Self::Image(_) => None,
            Self::Content(content) => Some(content.id),
        }
    }
}

/// Asks for digests.
pub(crate) struct Digests {
    asked: HashSet<FileVersion>,
    queue: Arc<Queue>,
    thread: Option<mpsc::Receiver<()>>,
    /// What could not even be asked for: class, cause, how many.
    missed: Vec<(&'static str, &'static str, u64)>,
}

impl Digests {
    /// Digests go to `producer`; of files of up to `limit` bytes. `chore` is done now and then by the thread that reads.
    pub(crate) fn new(producer: Producer, limit: u64, chore: impl FnMut() + Send + 'static) -> Self {
        let queue = Arc::new(Queue::new());
        let (farewell, thread) = mpsc::channel();
        let mut reader = Reader {
            queue: Arc::clone(&queue),
            producer,
            limit,
            lookups: Lookups::new(Duty::Watching, PATIENCE, Duration::ZERO),
            pace: Pace::new(),
        };
        let reading = move || {
            let _farewell: mpsc::Sender<()> = farewell;
            // It works all the same with the priority that it has.
            let _ = rustix::process::setpriority_process(None, NICE);
            reader.run(chore);
        };
        let started = thread::Builder::new().name("digests".to_owned()).spawn(reading);
        if let Err(e) = &started {
            tracing::error!("cannot start the thread that digests files: {e}");
        }
        Self { asked: HashSet::new(), queue, thread: started.ok().map(|_| thread), missed: Vec::new() }
    }

    /// Has an image digested, unless that was asked before; gives whether a digest came or an answer will come. `pid` runs it as `user`, and was `found` to do so.
    pub(crate) fn image(
        &mut self,
        (pid, user): (u32, u32),
        path: &[u8],
        file: ImageFile,
        found: bool,
    ) -> bool {
        for failed in self.queue.take_failed() {
            self.asked.remove(&failed);
        }
        if self.asked.contains(&file.version) {
            return true;
        }
        if self.asked.len() >= REMEMBERED {
            self.asked.clear();
        }
        let subject = Subject::Image(Box::new(Image { pid, path: path.to_owned(), file }));
        let asked = self.ask(Job { lane: if found { Lane::Found } else { Lane::Image }, user, subject });
        if asked {
            self.asked.insert(file.version);
        } else {
            self.miss("image-digest", "queue-full");
        }
        asked
    }

    /// Has what was left in a file digested; gives whether an answer will come.
    pub(crate) fn content(&mut self, user: u32, content: Content) -> bool {
        self.ask(Job { lane: Lane::Content, user, subject: Subject::Content(Box::new(content)) })
    }

    fn ask(&self, job: Job) -> bool {
        self.thread.is_some() && self.queue.push(job)
    }

    /// What was asked for is done from now on: whoever gets the answers has heard what they are about.
    pub(crate) fn release(&self) {
        self.queue.release();
    }

    /// Something cannot be digested.
    pub(crate) fn miss(&mut self, class: &'static str, cause: &'static str) {
        match self.missed.iter_mut().find(|(c, why, _)| *c == class && *why == cause) {
            Some((.., count)) => *count += 1,
            None => self.missed.push((class, cause, 1)),
        }
    }

    /// A file has another name now, or one more: what waits to be read may be found there.
    pub(crate) fn named(&self, from: &[u8], to: &[u8], moved: bool) {
        self.queue.note(|| content::Trail::Named { from: from.to_owned(), to: to.to_owned(), moved });
    }

    /// The file with that inode has a name now, whatever it was called before.
    pub(crate) fn linked(&self, inode: u64, to: &[u8]) {
        self.queue.note(|| content::Trail::Linked { inode, to: to.to_owned() });
    }

    /// Somebody set the times of a file.
    pub(crate) fn timed(&self, path: &[u8]) {
        self.queue.note(|| content::Trail::Timed(path.to_owned()));
    }

    /// What could not even be asked for, since this was asked last: class, cause, how many.
    pub(crate) fn take_missed(&mut self) -> Vec<(&'static str, &'static str, u64)> {
        std::mem::take(&mut self.missed)
    }

    /// Reads what can still be read within a moment; what is left is counted. Returns when no more comes.
    pub(crate) fn finish(&self) {
        self.queue.close(Instant::now() + FAREWELL);
        if let Some(thread) = &self.thread {
            // A disk that does not answer is not waited for.
            let _ = thread.recv_timeout(2 * FAREWELL);
        }
    }
}

impl Drop for Digests {
    fn drop(&mut self) {
        self.queue.close(Instant::now());
    }
}

/// The thread's side.
struct Reader {
    queue: Arc<Queue>,
    producer: Producer,
    limit: u64,
    lookups: Lookups,
    pace: Pace,
}

impl Reader {
    fn run(&mut self, mut chore: impl FnMut()) {
        let mut room = vec![0; reading::PIECE];
        let mut done = Instant::now();
        loop {
            if done.elapsed() >= ROUND {
                chore();
                done = Instant::now();
            }
            let (job, late) = match self.queue.next(ROUND) {
                Step::Job(job) => (job, false),
                Step::Late(job) => (job, true),
                Step::Nothing => continue,
                Step::Over => return,
            };
            let (user, access) = (job.user, job.subject.access());
            let observations = match job.subject {
                subject if late => failed(subject, Failure::Stopped),
                Subject::Image(image) => self.image(*image, &mut room),
                Subject::Content(content) => match self.content(*content, user, &mut room) {
                    Some(observations) => observations,
                    None => continue,
                },
            };
            self.queue.done(user, access);
            let weight = WEIGHT * observations.len();
            if self.producer.send(observations, weight).is_err() {
                return;
            }
        }
    }

    fn image(&mut self, image: Image, room: &mut [u8]) -> Vec<Observation> {
        let Image { pid, path, file } = &image;
        let (queue, limit) = (&self.queue, self.limit);
        let wanted =
            Wanted { dev: Some(file.dev), version: file.version, exact: true, timed: false, unseen: false };
        // The process has it in its hands; when that is gone, the path may still lead to it.
        let opened = reading::open_image(&self.lookups, *pid, &wanted)
            .or_else(|_| reading::open(&self.lookups, Path::new(OsStr::from_bytes(path)), &wanted));
        let digest =
            opened.and_then(|found| found.digest(&wanted, limit, room, |n| self.pace.take(n, queue)));
        match digest {
            Ok((_, sha256)) => {
                let digest = ImageDigest {
                    at: clock::now(),
                    path: image.path,
                    file: image.file,
                    sha256: Some(sha256),
                };
                vec![Observation::ImageDigest(Box::new(digest))]
            }
            Err(failure) => {
                queue.fail(image.file.version);
                failed(Subject::Image(Box::new(image)), failure)
            }
        }
    }

    /// `None`: it is tried again a little later, when more may be known of where it is.
    fn content(&mut self, mut content: Content, user: u32, room: &mut [u8]) -> Option<Vec<Observation>> {
        let (queue, limit) = (&self.queue, self.limit);
        match queue.outdated(&content) {
            // It is told of with what the access left in the end, or with who changed what got a name.
            Some(own) if own || content.arrival.is_some() => return Some(vec![undigested(&content)]),
            Some(_) => return Some(failed(Subject::Content(Box::new(content)), Failure::Changed)),
            None => {}
        }
        queue.follow(&mut content);
        let unseen = content.arrival.is_some();
        let wanted = Wanted {
            dev: Some(content.id.dev).filter(|dev| !unseen || *dev != 0),
            version: content.version,
            exact: false,
            timed: content.timed,
            unseen,
        };
        let mut failure = Failure::Gone;
        let opened = content.ways().into_iter().find_map(|way| {
            match reading::open(&self.lookups, Path::new(OsStr::from_bytes(&way)), &wanted) {
                Ok(found) => Some((way, found)),
                Err(other) => {
                    failure = failure.max(other);
                    None
                }
            }
        });
        let digest = match opened {
            Some((way, found)) => {
                let dev = found.device();
                found
                    .digest(&wanted, limit, room, |n| self.pace.take(n, queue))
                    .map(|(version, sha256)| FoundContent { path: way, dev, version, sha256 })
            }
            None => Err(failure),
        };
        match digest {
            Ok(found) => {
                let Content { id, version, .. } = content;
                let digest = ContentDigest { at: clock::now(), id, content: version, found: Some(found) };
                Some(vec![Observation::ContentDigest(Box::new(digest))])
            }
            Err(Failure::Gone | Failure::Changed) if content.may_try_again() => {
                queue.put_off(Job {
                    lane: Lane::Content,
                    user,
                    subject: Subject::Content(Box::new(content)),
                });
                None
            }
            // The name was that of another file in another mount namespace; or it has no contents.
            Err(Failure::Gone) if content.arrival == Some(Arrival::Elsewhere) => {
                Some(vec![undigested(&content)])
            }
            Err(Failure::Nothing) => Some(vec![undigested(&content)]),
            Err(failure) => Some(failed(Subject::Content(Box::new(content)), failure)),
        }
    }
}

fn undigested(content: &Content) -> Observation {
    let digest = ContentDigest { at: clock::now(), id: content.id, content: content.version, found: None };
    Observation::ContentDigest(Box::new(digest))
}

fn failed(subject: Subject, failure: Failure) -> Vec<Observation> {
    let at = clock::now();
    let class = subject.class();
    let answer = match subject {
        Subject::Image(image) => {
            let Image { path, file, .. } = *image;
            Observation::ImageDigest(Box::new(ImageDigest { at, path, file, sha256: None }))
        }
        Subject::Content(content) => undigested(&content),
    };
    vec![Observation::Loss(Loss { class, cause: failure.cause(), count: 1, from: at, until: at }), answer]
}

#[cfg(test)]
mod tests;

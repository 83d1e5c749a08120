//! SHA-256 of images, once for each content: read by a thread of its own, so that no event waits for a disk.
//!
//! An image is known by inode, size and times of change (`ImageVersion`). What is read is compared with them before and after: a file that was
//! replaced or changed meanwhile has no digest, and that is said.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::mpsc::{self, SyncSender, TrySendError},
    thread,
};

use rustix::fs::{Mode, OFlags, fstat, open};
use sha2::{Digest, Sha256};

use crate::{
    clock,
    observation::{ImageDigest, ImageFile, ImageVersion, Loss, Observation},
    queue::Producer,
};

/// Images that may wait to be read.
const WAITING: usize = 1024;
/// Images that are remembered as read.
const REMEMBERED: usize = 1 << 16;
const PIECE: usize = 256 << 10;

struct Request {
    pid: u32,
    path: Vec<u8>,
    file: ImageFile,
}

/// Asks for digests.
pub(crate) struct Digests {
    asked: HashSet<ImageVersion>,
    requests: Option<SyncSender<Request>>,
    missed: u64,
}

impl Digests {
    /// Digests go to `producer`.
    pub(crate) fn new(producer: Producer) -> Self {
        let (requests, asked) = mpsc::sync_channel::<Request>(WAITING);
        let reading = move || {
            let mut room = vec![0; PIECE];
            for request in asked {
                let observation = answer(&request, &mut room);
                if producer.send(vec![observation], PIECE).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("digests".to_owned()).spawn(reading);
        Self { asked: HashSet::new(), requests: thread.is_ok().then_some(requests), missed: 0 }
    }

    /// Has the image digested, unless that was asked before. `pid` runs it.
    pub(crate) fn want(&mut self, pid: u32, path: &[u8], file: ImageFile) {
        if self.asked.len() >= REMEMBERED {
            self.asked.clear();
        }
        if !self.asked.insert(file.version) {
            return;
        }
        let sent = self.requests.as_ref().map(|r| r.try_send(Request { pid, path: path.to_owned(), file }));
        if !matches!(sent, Some(Ok(()))) {
            // Asked for again when it runs again.
            self.asked.remove(&file.version);
            self.missed += u64::from(!matches!(sent, Some(Err(TrySendError::Disconnected(_)))));
        }
    }

    /// How many images could not even be asked for, since this was asked last.
    pub(crate) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

fn answer(request: &Request, room: &mut [u8]) -> Observation {
    let Request { pid, path, file } = request;
    let at = clock::now();
    // The process has it in its hands; when that is gone, the path may still lead to it.
    let link = format!("/proc/{pid}/exe");
    let ways = [Path::new(&link), Path::new(std::ffi::OsStr::from_bytes(path))];
    let digest = ways.into_iter().find_map(|way| digest(way, file.version, room).ok());
    match digest {
        Some(sha256) => {
            Observation::ImageDigest(Box::new(ImageDigest { at, path: path.clone(), file: *file, sha256 }))
        }
        None => {
            Observation::Loss(Loss { class: "image-digest", cause: "gone", count: 1, from: at, until: at })
        }
    }
}

fn digest(path: &Path, wanted: ImageVersion, room: &mut [u8]) -> io::Result<[u8; 32]> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::from(open(path, flags, Mode::empty())?);
    let is_wanted = |file: &File| -> io::Result<()> {
        if ImageVersion::of(&fstat(file)?) == wanted { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    is_wanted(&file)?;
    let mut sum = Sha256::new();
    loop {
        match file.read(room)? {
            0 => break,
            n => sum.update(&room[..n]),
        }
    }
    is_wanted(&file)?;
    Ok(sum.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::queue;

    fn image(path: &Path) -> ImageFile {
        let file = File::open(path).unwrap();
        ImageFile { version: ImageVersion::of(&fstat(&file).unwrap()), ..ImageFile::default() }
    }

    #[test]
    fn a_content_is_digested_once_and_another_one_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        let (producer, consumer) = queue::bounded(1 << 20);
        let mut digests = Digests::new(producer);
        let path = file.path().as_os_str().as_bytes();
        let first = image(file.path());
        digests.want(u32::MAX, path, first);
        digests.want(u32::MAX, path, first);
        let next = || consumer.receive(Duration::from_secs(60)).unwrap().unwrap().remove(0);
        let Observation::ImageDigest(found) = next() else { panic!("no digest") };
        // FIPS 180-4, the example of one block.
        assert_eq!(found.sha256[..4], [0xba, 0x78, 0x16, 0xbf]);
        fs::write(file.path(), "abcd").unwrap();
        // The old version is no longer there to be read.
        digests.asked.clear();
        digests.want(u32::MAX, path, first);
        assert!(matches!(next(), Observation::Loss(Loss { cause: "gone", .. })));
        digests.want(u32::MAX, path, image(file.path()));
        assert!(matches!(next(), Observation::ImageDigest(_)));
        drop(digests);
        assert_eq!(consumer.receive(Duration::from_millis(10)), Ok(None));
    }
}

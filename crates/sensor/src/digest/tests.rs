use std::{
    ffi::CString,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use rustix::fs::{AtFlags, CWD, StatxFlags, fstat, statx};

use super::*;
use crate::{
    observation::{AccessId, ImageId},
    queue::{self as passage, Consumer},
};

const LIMIT: u64 = 1 << 20;
// FIPS 180-4, the example of one block: "abc".
const ABC: [u8; 4] = [0xba, 0x78, 0x16, 0xbf];

struct Scene {
    dir: tempfile::TempDir,
    digests: Digests,
    consumer: Consumer,
}

impl Scene {
    fn new() -> Self {
        let (producer, consumer) = passage::bounded(1 << 20);
        Self { dir: tempfile::tempdir().unwrap(), digests: Digests::new(producer, LIMIT, || ()), consumer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn next(&self) -> Vec<Observation> {
        self.digests.release();
        self.consumer.receive(Duration::from_secs(60)).unwrap().unwrap()
    }

    /// Why there was no digest.
    fn failure(&self) -> &'static str {
        match &self.next()[..] {
            [Observation::Loss(loss), Observation::ImageDigest(digest)] if digest.sha256.is_none() => {
                loss.cause
            }
            [Observation::Loss(loss), Observation::ContentDigest(digest)] if digest.found.is_none() => {
                loss.cause
            }
            other => panic!("{other:?}"),
        }
    }

    fn found(&self) -> FoundContent {
        match self.next().remove(0) {
            Observation::ContentDigest(digest) => digest.found.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, content: Content) {
        assert!(self.digests.content(0, content));
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn dev(path: &Path) -> u32 {
    device_of(
        &statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID).unwrap(),
    )
}

fn version(path: &Path) -> FileVersion {
    FileVersion::of(&fstat(File::open(path).unwrap()).unwrap())
}

fn image(path: &Path) -> ImageFile {
    ImageFile { dev: dev(path), version: version(path), ..ImageFile::default() }
}

fn content(path: &Path) -> Content {
    let version = version(path);
    content_of(path, dev(path), version)
}

fn content_of(path: &Path, dev: u32, version: FileVersion) -> Content {
    let id = AccessId { image: ImageId::default(), dev, inode: version.inode, access: 2, which: 0, at: 0 };
    Content::new(id, version, bytes(path).to_vec(), None)
}

#[test]
fn an_image_is_digested_once_and_with_another_content_again() {
    let mut scene = Scene::new();
    let path = scene.write("image", "abc");
    let first = image(&path);
    let who = (u32::MAX, 0);
    assert!(scene.digests.image(who, bytes(&path), first, false));
    assert!(scene.digests.image(who, bytes(&path), first, false));
    let Observation::ImageDigest(digest) = scene.next().remove(0) else { panic!("no digest") };
    assert_eq!(digest.sha256.unwrap()[..4], ABC);
    fs::write(&path, "abcd").unwrap();
    // The old version is no longer there to be read.
    scene.digests.asked.clear();
    assert!(scene.digests.image(who, bytes(&path), first, false));
    assert_eq!(scene.failure(), "changed");
    // It is asked for again when it runs again.
    assert!(scene.digests.image(who, bytes(&path), first, false));
    assert_eq!(scene.failure(), "changed");
    assert!(scene.digests.image(who, bytes(&path), image(&path), false));
    assert!(matches!(&scene.next()[..], [Observation::ImageDigest(digest)] if digest.sha256.is_some()));
    let Scene { digests, consumer, .. } = scene;
    drop(digests);
    assert_eq!(consumer.receive(Duration::from_millis(10)), Ok(None));
}

#[test]
fn a_file_that_was_renamed_or_stamped_meanwhile_is_found() {
    let mut scene = Scene::new();
    let (path, other) = (scene.write("f~", "abc"), scene.path("f"));
    let asked = content(&path);
    let closed = asked.version;
    fs::rename(&path, &other).unwrap();
    scene.ask(asked);
    scene.digests.named(bytes(&path), bytes(&other), true);
    let found = scene.found();
    assert_eq!(
        (found.path, &found.sha256[..4], found.version.mtime),
        (bytes(&other).to_vec(), &ABC[..], closed.mtime)
    );
    assert_ne!(found.version.ctime, closed.ctime);

    let asked = content(&other);
    File::options().write(true).open(&other).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    scene.ask(asked.later(asked.version));
    assert_eq!(scene.failure(), "changed");
    scene.ask(asked);
    scene.digests.timed(bytes(&other));
    assert_eq!(scene.found().version.mtime, 0);
}

#[test]
fn later_contents_take_the_place_of_earlier_ones() {
    let mut scene = Scene::new();
    let path = scene.write("f", "abc");
    let (old, dev) = (version(&path), dev(&path));
    fs::write(&path, "later").unwrap();
    scene.ask(content_of(&path, dev, old));
    assert_eq!(scene.failure(), "changed");
    assert_eq!(fs::remove_file(&path).map(|()| scene.ask(content_of(&path, dev, old))).ok(), Some(()));
    assert_eq!(scene.failure(), "gone");
}

#[test]
fn what_is_too_large_is_not_read() {
    let mut scene = Scene::new();
    let path = scene.path("sparse");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    scene.ask(content(&path));
    assert_eq!(scene.failure(), "too-large");
    assert!(scene.digests.image((u32::MAX, 0), bytes(&path), image(&path), false));
    assert_eq!(scene.failure(), "too-large");
}

#[test]
fn what_was_put_in_its_place_is_not_touched() {
    let mut scene = Scene::new();
    let path = scene.write("f", "abc");
    let (old, dev) = (version(&path), dev(&path));
    let aside = scene.path("aside");
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    scene.ask(content_of(&path, dev, old));
    assert_eq!(scene.failure(), "gone");
    fs::remove_file(&path).unwrap();
    let name = CString::new(bytes(&path)).unwrap();
    // A FIFO that nobody writes to, and nobody reads.
    rustix::fs::mknodat(CWD, &name, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    scene.ask(content_of(&path, dev, old));
    assert_eq!(scene.failure(), "gone");
    fs::remove_file(&path).unwrap();
    // What stands there by hard link is the same file.
    fs::hard_link(&aside, &path).unwrap();
    scene.ask(content_of(&path, dev, old));
    assert_eq!(scene.found().sha256[..4], ABC);
}

#[test]
fn a_user_has_his_share_of_the_queue_and_no_more() {
    let queue = Queue::new();
    let path = tempfile::NamedTempFile::new().unwrap();
    let job = |user, lane| {
        let subject = Subject::Content(Box::new(content(path.path())));
        Job { lane, user, subject }
    };
    let taken = (0..1000).filter(|_| queue.push(job(1000, Lane::Content))).count();
    assert!(taken > 100 && taken < 1000, "{taken}");
    assert!(queue.push(job(1001, Lane::Content)) && queue.push(job(1001, Lane::Content)));
    assert!(queue.push(job(0, Lane::Image)));
    assert!(matches!(queue.next(Duration::ZERO), Step::Nothing));
    queue.release();
    let order: Vec<u32> = (0..6)
        .map(|_| match queue.next(Duration::ZERO) {
            Step::Job(job) => job.user,
            _ => panic!("no job"),
        })
        .collect();
    assert_eq!(order.iter().filter(|user| **user == 1001).count(), 2, "{order:?}");
    assert!(order.contains(&0), "{order:?}");
    // What is taken out counts until it is done.
    assert!(!queue.push(job(1000, Lane::Content)));
    let id = content(path.path()).id;
    queue.done(1000, Some(id));
    assert!(queue.push(job(1000, Lane::Content)));
}

#[test]
fn at_the_end_what_waits_is_read_or_told_of() {
    let mut scene = Scene::new();
    let path = scene.write("f", "abc");
    let asked = content(&path);
    for _ in 0..100 {
        scene.ask(asked.later(asked.version));
    }
    scene.digests.finish();
    let mut answers = 0;
    while answers < 100 {
        answers += scene.next().iter().filter(|o| matches!(o, Observation::ContentDigest(_))).count();
    }
}

#[test]
fn reading_has_a_pace() {
    let queue = Queue::new();
    let mut pace = Pace::new();
    let begun = Instant::now();
    // Eight times what may be read at once.
    for _ in 0..64 {
        assert!(pace.take(8 << 20, &queue));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "what was not used before may be read at once");
    assert!(pace.take(8 << 20, &queue));
    queue.close(Instant::now());
    assert!(!pace.take(1, &queue));
}

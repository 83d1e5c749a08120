//! Digests, and what waits for them.

use std::sync::Arc;

use luarm_schema::{Row, tables::*};
use luarm_sensor::{Observation, observation::*};

use crate::scene::*;

fn version(inode: u64) -> FileVersion {
    FileVersion { inode, size: 3, mtime: 1_000_000, ctime: 2_000_000 }
}

fn runs(at: u64, image: ImageId, inode: u64) -> Observation {
    let file = ImageFile { inode, version: version(inode), digest: true, ..ImageFile::default() };
    let program = Program { file: Some(file), ..*program("/bin/x", &["x"]) };
    Observation::Exec { at, task: task(image, None), program: Box::new(program) }
}

fn image_digest(at: u64, inode: u64, sha256: Option<[u8; 32]>) -> Observation {
    let file = ImageFile { inode, version: version(inode), ..ImageFile::default() };
    Observation::ImageDigest(Box::new(ImageDigest { at, path: b"/bin/x".to_vec(), file, sha256 }))
}

fn sum(byte: u8) -> Option<Arc<str>> {
    Some(format!("{byte:02x}").repeat(32).into())
}

fn digests(memory: &Memory) -> Vec<Option<Arc<str>>> {
    memory.psinfo().iter().map(|row| row.imagesha256.clone()).collect()
}

#[test]
fn the_row_of_a_first_run_waits_for_its_digest() {
    let (mut recorder, mut memory) = (recorder(), Memory::default());
    recorder.observe(runs(SECOND, image(7, SECOND, 1), 1));
    recorder.tick(SECOND + 500 * MS);
    assert!(recorder.is_expecting() && recorder.unsettled(2 * SECOND));
    assert!(!recorder.unsettled(SECOND), "it happened later than that");
    recorder.observe(image_digest(SECOND + 600 * MS, 1, Some([1; 32])));
    assert!(!recorder.is_expecting() && !recorder.unsettled(2 * SECOND));
    // The next one is known at once.
    recorder.observe(runs(2 * SECOND, image(8, 2 * SECOND, 1), 1));
    assert!(!recorder.is_expecting());
    memory.append(recorder.flush(2 * SECOND).unwrap());
    assert_eq!(digests(&memory), [sum(1), sum(1)]);
}

#[test]
fn nothing_waits_for_a_digest_for_long_or_for_none() {
    let (mut recorder, mut memory) = (recorder(), Memory::default());
    recorder.observe(runs(SECOND, image(7, SECOND, 1), 1));
    recorder.tick(2 * SECOND);
    assert!(!recorder.is_expecting() && !recorder.unsettled(3 * SECOND));
    // It may still come in time;
    recorder.observe(image_digest(2 * SECOND, 1, Some([1; 32])));
    // or it is said that there is none.
    recorder.observe(runs(2 * SECOND, image(8, 2 * SECOND, 1), 2));
    assert!(recorder.is_expecting());
    recorder.observe(image_digest(2 * SECOND, 2, None));
    assert!(!recorder.is_expecting());
    // What is in a batch waits no longer.
    recorder.observe(runs(2 * SECOND, image(9, 2 * SECOND, 1), 3));
    memory.append(recorder.flush(2 * SECOND).unwrap());
    assert!(!recorder.is_expecting() && !recorder.unsettled(3 * SECOND));
    recorder.observe(image_digest(3 * SECOND, 3, Some([3; 32])));
    memory.append(recorder.flush(3 * SECOND).unwrap());
    assert_eq!(digests(&memory), [sum(1), None, None]);
}

fn opened(at: u64) -> (AccessId, Observation) {
    let image = image(7, SECOND, 1);
    let id = AccessId { image, dev: 1, inode: 5, access: 2, which: 0, at };
    let access = FileAccess {
        at,
        id: Some(id),
        actor: actor(image),
        operation: FileOperation::Create,
        reads: false,
        writes: true,
        path: FilePath { path: b"/etc/f~".to_vec(), seen: None, origin: PathOrigin::Kernel },
        target: None,
        text: None,
        file: None,
        fd: Some(3),
        permissions: None,
        owners: None,
        result: Some(0),
        ring: false,
        mntns: 0,
    };
    (id, Observation::File(Box::new(access)))
}

fn closed(at: u64, id: AccessId, content: Option<FileVersion>) -> Observation {
    let closed = Some(Closed { size: 3, position: 3, modified: true });
    let end = AccessEnd { by: EndedBy::Close, opens: 1, closed, content };
    Observation::FileEnd { at, id, end }
}

fn content_digest(at: u64, id: AccessId, content: FileVersion, found: Option<FileVersion>) -> Observation {
    let found =
        found.map(|version| FoundContent { path: b"/etc/f".to_vec(), dev: 1, version, sha256: [7; 32] });
    Observation::ContentDigest(Box::new(ContentDigest { at, id, content, found }))
}

fn accesses(memory: &Memory) -> Vec<&FileInfo> {
    memory
        .rows
        .values()
        .filter_map(|row| if let Row::FileInfo(row) = row { Some(&**row) } else { None })
        .collect()
}

fn contents(memory: &Memory) -> Vec<&ContentInfo> {
    memory
        .rows
        .values()
        .filter_map(|row| if let Row::ContentInfo(row) = row { Some(&**row) } else { None })
        .collect()
}

#[test]
fn the_end_of_an_access_waits_for_the_digest_of_what_it_left() {
    let (mut recorder, mut memory) = (recorder(), Memory::default());
    let (id, open) = opened(2 * SECOND);
    let changed = FileVersion { ctime: 9, ..version(5) };
    recorder.observe(runs(SECOND, image(7, SECOND, 1), 1));
    recorder.observe(image_digest(SECOND, 1, Some([1; 32])));
    recorder.observe(open);
    recorder.observe(closed(3 * SECOND, id, Some(version(5))));
    recorder.tick(3 * SECOND + 500 * MS);
    assert!(recorder.unsettled(4 * SECOND) && !recorder.unsettled(3 * SECOND));
    recorder.observe(content_digest(3 * SECOND, id, version(5), Some(changed)));
    assert!(!recorder.unsettled(4 * SECOND));
    memory.append(recorder.flush(4 * SECOND).unwrap());
    let (access, content) = (accesses(&memory)[0], contents(&memory)[0]);
    assert_eq!(access.end.as_ref().unwrap().sha256, sum(7));
    assert_eq!((content.fileaccessid, content.asclosed), (access.fileaccessid, 0));
    assert_eq!((&*content.location, &*content.filename), ("/etc", "f"));
}

/// A rename that brought a file to where files are digested.
fn brought(at: u64) -> (AccessId, Observation) {
    let (id, mut open) = opened(at);
    if let Observation::File(access) = &mut open {
        access.operation = FileOperation::Rename;
        access.target = Some(FilePath { path: b"/etc/f".to_vec(), seen: None, origin: PathOrigin::Kernel });
    }
    (id, open)
}

#[test]
fn a_rename_waits_for_the_digest_of_what_it_brought_and_is_done_at_once() {
    let (mut recorder, mut memory) = (recorder(), Memory::default());
    recorder.observe(runs(SECOND, image(7, SECOND, 1), 1));
    recorder.observe(image_digest(SECOND, 1, Some([1; 32])));
    let ((first, one), (second, two)) = (brought(3 * SECOND - MS), brought(3 * SECOND));
    recorder.observe(one);
    recorder.observe(two);
    recorder.tick(3 * SECOND + 500 * MS);
    assert!(recorder.unsettled(4 * SECOND));
    let unseen = FileVersion::unseen(5);
    recorder.observe(content_digest(3 * SECOND, first, unseen, Some(version(5))));
    recorder.observe(content_digest(3 * SECOND, second, unseen, None));
    assert!(!recorder.unsettled(4 * SECOND));
    memory.append(recorder.flush(4 * SECOND).unwrap());
    let told: Vec<_> = accesses(&memory)
        .iter()
        .map(|row| {
            let end = row.end.as_ref().unwrap();
            (&*end.ended, end.destroyed == row.created, end.opens, end.sha256.clone())
        })
        .collect();
    assert_eq!(told, [("done", true, 1, sum(7)), ("done", true, 1, None)]);
    let told: Vec<_> = contents(&memory).iter().map(|row| (row.fileaccessid, row.asclosed)).collect();
    assert_eq!(told, [(accesses(&memory)[0].fileaccessid, 0)]);
}

#[test]
fn a_digest_that_comes_late_is_told_by_itself() {
    let (mut recorder, mut memory) = (recorder(), Memory::default());
    let (id, open) = opened(2 * SECOND);
    let later = FileVersion { size: 4, ..version(5) };
    recorder.observe(runs(SECOND, image(7, SECOND, 1), 1));
    recorder.observe(open);
    recorder.observe(Observation::FileLasts(id));
    // Of contents that it changed again before it was over.
    recorder.observe(content_digest(3 * SECOND, id, version(5), Some(version(5))));
    recorder.observe(closed(3 * SECOND, id, Some(later)));
    memory.append(recorder.flush(3 * SECOND).unwrap());
    assert!(accesses(&memory)[0].end.is_none());
    recorder.tick(5 * SECOND);
    assert!(!recorder.unsettled(6 * SECOND));
    recorder.observe(content_digest(6 * SECOND, id, later, Some(later)));
    memory.append(recorder.flush(6 * SECOND).unwrap());
    let access = accesses(&memory)[0];
    assert_eq!(access.end.as_ref().unwrap().sha256, None);
    let told: Vec<_> = contents(&memory).iter().map(|c| (c.fileaccessid, c.size, c.asclosed)).collect();
    assert_eq!(told, [(access.fileaccessid, 3, 1), (access.fileaccessid, 4, 1)]);
}

#[test]
fn at_the_end_what_waits_is_given() {
    let (mut recorder, mut memory) = (recorder(), Memory::default());
    let (id, open) = opened(2 * SECOND);
    recorder.observe(runs(SECOND, image(7, SECOND, 1), 1));
    recorder.observe(open);
    recorder.observe(closed(3 * SECOND, id, Some(version(5))));
    memory.append(recorder.stop(3 * SECOND));
    assert_eq!(accesses(&memory)[0].end.as_ref().map(|end| &*end.ended), Some("close"));
}

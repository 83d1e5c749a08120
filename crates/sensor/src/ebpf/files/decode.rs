//! From the kernel's record of a file to an observation.

use super::{
    super::{
        decode::{actor, name, take},
        record::{self, File, split},
    },
    paths::{Base, Paths},
};
use crate::observation::{FileAccess, FileFacts, FileOperation, PathOrigin};

/// Of unlinkat(2): a directory is to go.
const AT_REMOVEDIR: u32 = 0x200;
/// The id that chown(2) takes for "as it is".
const AS_IT_IS: u32 = u32::MAX;

/// What was done with a file, and the record itself for what only accesses need.
pub(super) fn file(bytes: &[u8], paths: &mut Paths) -> Option<(File, FileAccess)> {
    let (r, mut rest) = split::<File>(bytes)?;
    let words = take(&mut rest, r.name_len);
    let base = Base { components: take(&mut rest, r.path_len), rooted: r.rooted, mntns: r.mntns };
    let words2 = take(&mut rest, r.name2_len);
    let base2 = Base {
        components: take(&mut rest, r.path2_len),
        rooted: if r.rooted == r.path_len { r.path2_len } else { u32::MAX },
        mntns: r.mntns,
    };
    let operation = operation(&r)?;
    let is_text = matches!(operation, FileOperation::Symlink | FileOperation::Xattr)
        || operation == FileOperation::Mount && r.path2_len == 0 && !words2.starts_with(b"/");
    // Names that are the kernel's own come without words.
    let unread = r.flags & record::FILE_UNREAD != 0;
    let second = (!words2.is_empty() || r.path2_len > 0 && !unread).then(|| name(words2));
    let text = second.clone().filter(|_| is_text);
    let target = second.filter(|_| !is_text).map(|words| paths.resolve(&base2, &words));
    let mut path = paths.resolve(&base, &name(words));
    if unread {
        path.origin = PathOrigin::Named;
    }
    let permissions = matches!(operation, FileOperation::Chmod | FileOperation::Mkdir | FileOperation::Mknod)
        .then_some(r.argument as u16 & 0o7777);
    let id = |id: u32| (id != AS_IT_IS).then_some(id);
    let access = FileAccess {
        at: r.h.at,
        id: None,
        actor: actor(&r.actor)?,
        operation,
        reads: r.access & record::ACCESS_READ != 0,
        writes: r.access & record::ACCESS_WRITE != 0,
        path,
        target,
        text,
        file: (r.inode != 0).then_some(FileFacts {
            dev: r.dev,
            inode: r.inode,
            mode: r.mode as u16,
            owner: r.owner,
            size: r.size,
            deleted: r.flags & record::FILE_DELETED != 0,
        }),
        fd: u32::try_from(r.fd).ok(),
        permissions,
        owners: (operation == FileOperation::Chown).then(|| (id(r.argument), id(r.argument2))),
        result: Some(r.result),
        ring: r.request != 0,
        mntns: r.mntns,
    };
    Some((r, access))
}

fn operation(r: &File) -> Option<FileOperation> {
    let operation = *record::operation::ALL.get(r.operation as usize)?;
    Some(match operation {
        FileOperation::Open if r.flags & record::FILE_CREATED != 0 => FileOperation::Create,
        FileOperation::Open if r.flags & record::FILE_TRUNCATED != 0 => FileOperation::Truncate,
        FileOperation::Unlink if r.argument & AT_REMOVEDIR != 0 => FileOperation::Rmdir,
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    fn renamed(flags: u32, strings: [&[u8]; 4]) -> FileAccess {
        let mut r = File::read_from_bytes(&[0; size_of::<File>()]).unwrap();
        r.operation = record::operation::ALL.iter().position(|o| *o == FileOperation::Rename).unwrap() as u32;
        r.actor.image.pid = 1;
        r.flags = flags;
        r.rooted = u32::MAX;
        [r.name_len, r.path_len, r.name2_len, r.path2_len] = strings.map(|s| s.len() as u32);
        file(&[r.as_bytes(), &strings.concat()].concat(), &mut Paths::new(1)).unwrap().1
    }

    #[test]
    fn the_kernels_own_names_come_without_words() {
        let told = renamed(0, [b"", b"f\0tmp\0", b"", b"g\0tmp\0"]);
        assert_eq!((&*told.path.path, told.path.origin), (&b"/tmp/f"[..], PathOrigin::Kernel));
        assert_eq!(told.target.unwrap().path, b"/tmp/g");
    }

    #[test]
    fn words_that_were_gone_are_not_taken_for_the_kernels() {
        let told = renamed(record::FILE_UNREAD, [b"", b"tmp\0", b"", b"tmp\0"]);
        assert_eq!((&*told.path.path, told.path.origin), (&b"/tmp"[..], PathOrigin::Named));
        assert!(told.target.is_none());
        let told = renamed(record::FILE_UNREAD, [b"f\0", b"tmp\0", b"", b"tmp\0"]);
        assert_eq!((&*told.path.path, told.path.origin), (&b"/tmp/f"[..], PathOrigin::Named));
    }

    #[test]
    fn a_short_record_is_no_observation() {
        let mut paths = Paths::new(1);
        for len in 0..size_of::<File>() {
            assert!(file(&vec![0; len], &mut paths).is_none());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_record_is_decoded_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            file(&bytes, &mut Paths::new(1));
        }
    }
}

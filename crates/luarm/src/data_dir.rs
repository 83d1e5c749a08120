//! The data directory: who may use it, which recorder holds it, and what lies where.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("cannot create the data directory {}: {source}; choose another with --data, or run as root", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write into the data directory {}: {source}; choose another with --data, or run as root", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("others may write into the data directory {} (mode {mode:o}); choose another with --data, or chmod go-w it", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("another recorder (pid {pid}) holds the data directory {}; stop it, or choose another with --data", path.display())]
    Held { path: PathBuf, pid: String },
}

/// A data directory that this process holds: no other recorder can, until it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// The control socket of the recorder that holds the data directory `path`.
pub(crate) fn socket(path: &Path) -> PathBuf {
    path.join("luarm.sock")
}

impl DataDir {
    /// Creates the directory (0700) if need be, and takes its lock. From here on the process creates files for its own user only.
    pub(crate) fn hold(path: &Path) -> Result<Self, DataDirError> {
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| DataDirError::Create { path: path.to_owned(), source })?;
        let write = |source| DataDirError::Write { path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(write)?.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(DataDirError::Open { path: path.to_owned(), mode });
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path.join("luarm.lock"))
            .map_err(write)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            lock.read_to_string(&mut pid).map_err(write)?;
            return Err(DataDirError::Held { path: path.to_owned(), pid: pid.trim().to_owned() });
        }
        // A full disk is no reason not to start: the pid only makes the other's error message better.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of a computer that has no machine-id of its own: made once, and kept here.
    pub(crate) fn identity(&self) -> Result<String, DataDirError> {
        let path = self.path.join("machine-id");
        let write = |source| DataDirError::Write { path: self.path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(identity) if identity.trim().len() == 32 => return Ok(identity.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(write(error)),
        }
        let mut random = [0; 16];
        File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).map_err(write)?;
        let identity: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(&path, format!("{identity}\n")).map_err(write)?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_created_for_its_owner_and_held_by_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let held = DataDir::hold(&path).unwrap();
        assert_eq!(fs::metadata(held.path()).unwrap().mode() & 0o7777, 0o700);
        let error = DataDir::hold(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(held);
        DataDir::hold(&path).unwrap();
    }

    #[test]
    fn one_that_others_may_write_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let error = DataDir::hold(parent.path()).unwrap_err().to_string();
        assert!(error.contains("mode 1777"), "{error}");
    }

    #[test]
    fn a_made_identity_stays() {
        let parent = tempfile::tempdir().unwrap();
        let held = DataDir::hold(parent.path()).unwrap();
        let identity = held.identity().unwrap();
        assert_eq!((identity.len(), held.identity().unwrap()), (32, identity.clone()));
    }
}

//! A file that others replace or write to.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::lines::Flaws;

/// What is read of a file at most: half a million lines.
const LONGEST_FILE: u64 = 64 << 20;

/// Which content a file has: device, inode, size, time of the last change.
type Fingerprint = Option<(u64, u64, u64, i64, i64)>;

/// One of the files.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) name: &'static [u8],
    /// Which content was read last.
    taken: Fingerprint,
    /// It is to be read.
    pub(super) due: bool,
    /// It was found changed, by whom or what nobody told; read once it stays so.
    restless: Option<Fingerprint>,
}

impl Source {
    pub(super) fn new(root: &Path, name: &'static str) -> Self {
        let path = root.join("etc").join(name);
        Self { path, name: name.as_bytes(), taken: None, due: true, restless: None }
    }

    fn fingerprint(&self) -> Fingerprint {
        std::fs::metadata(&self.path).ok().map(|meta| print(&meta))
    }

    /// Nobody writes to it, as far as can be told.
    pub(super) fn is_settled(&self) -> bool {
        self.due || self.fingerprint() == self.taken
    }

    /// Looks whether it changed without a word; what stays changed from one look to the next is read.
    pub(super) fn look(&mut self) {
        let found = self.fingerprint();
        if found == self.taken {
            self.restless = None;
        } else if self.restless.replace(found) == Some(found) {
            self.restless = None;
            self.due = true;
        }
    }

    /// Its content; `Ok(None)` when it changed meanwhile.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.due = false;
        let mut content = Vec::new();
        let opened = File::open(&self.path);
        let mut file = match opened {
            Ok(file) => file,
            Err(e) => {
                self.taken = self.fingerprint();
                return Err(e);
            }
        };
        let before = print(&file.metadata()?);
        Read::by_ref(&mut file).take(LONGEST_FILE + 1).read_to_end(&mut content)?;
        let after = print(&file.metadata()?);
        if before != after {
            return Ok(None);
        }
        self.taken = Some(after);
        Ok(Some(content))
    }
}

fn print(meta: &std::fs::Metadata) -> (u64, u64, u64, i64, i64) {
    (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

/// What the file holds; nothing where it does not exist; `None` when it cannot be read, or is being written.
pub(super) fn content(source: &mut Source) -> Option<Vec<u8>> {
    match source.read() {
        Ok(content) => content,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

/// The lines that are read of a file.
pub(super) fn whole(content: &[u8]) -> &[u8] {
    let limit = LONGEST_FILE as usize;
    if content.len() <= limit {
        return content;
    }
    let end = content[..limit].iter().rposition(|&b| b == b'\n').unwrap_or(0);
    &content[..end]
}

/// What is beyond them counts as one line that is none.
pub(super) fn cut(content: &[u8], flaws: Flaws) -> Flaws {
    Flaws { malformed: flaws.malformed + u64::from(whole(content).len() < content.len()), ..flaws }
}

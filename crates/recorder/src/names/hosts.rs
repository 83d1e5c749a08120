//! The hosts file (hosts(5)).

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use luarm_sensor::BootNs;

use super::dns::push_label;
use crate::users::{Fingerprint, fingerprint};

/// Of a larger file the first part is read.
const BYTES: u64 = 16 << 20;
const LINES: usize = 100_000;
/// Whether the file changed is asked at most this often.
const RECHECK: BootNs = 1_000_000_000;

/// What an address is called in the file, and that it is.
pub(crate) type Entry = (IpAddr, Arc<str>);

pub(crate) struct Hosts {
    path: Option<PathBuf>,
    read: Option<Fingerprint>,
    checked: Option<BootNs>,
    first_names: HashMap<IpAddr, Arc<str>>,
    entries: HashSet<Entry>,
}

impl Hosts {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let (read, checked, first_names, entries) = Default::default();
        Self { path, read, checked, first_names, entries }
    }

    /// The canonical name of an address: the first on its line.
    pub(crate) fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        self.first_names.get(&address.to_canonical()).cloned()
    }

    /// Reads the file if it changed; gives the entries that were not in it before.
    pub(crate) fn refresh(&mut self, now: BootNs) -> Vec<Entry> {
        let Some(path) = &self.path else { return Vec::new() };
        if self.checked.is_some_and(|checked| now < checked.saturating_add(RECHECK)) {
            return Vec::new();
        }
        self.checked = Some(now);
        let found = fingerprint(path);
        if found == self.read {
            return Vec::new();
        }
        self.read = found;
        let content = match read(path) {
            Ok(content) => content,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("names of {} are not used: {error}", path.display());
                }
                Vec::new()
            }
        };
        let before = std::mem::take(&mut self.entries);
        self.first_names.clear();
        let mut new = Vec::new();
        for (address, names) in lines(&content) {
            for name in names {
                self.first_names.entry(address).or_insert_with(|| Arc::clone(&name));
                let entry = (address, name);
                if !self.entries.contains(&entry) {
                    if !before.contains(&entry) {
                        new.push(entry.clone());
                    }
                    self.entries.insert(entry);
                }
            }
        }
        new
    }
}

fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    file.take(BYTES).read_to_end(&mut content)?;
    Ok(content)
}

fn lines(content: &[u8]) -> impl Iterator<Item = (IpAddr, Vec<Arc<str>>)> {
    content.split(|&b| b == b'\n').take(LINES).filter_map(|line| {
        let line = line.split(|&b| b == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let address = std::str::from_utf8(words.next()?).ok()?;
        // A link-local address may name its interface.
        let address: IpAddr = address.split('%').next()?.parse().ok()?;
        Some((address.to_canonical(), words.map(name).collect()))
    })
}

fn name(word: &[u8]) -> Arc<str> {
    let mut text = String::new();
    let word = word.strip_suffix(b".").unwrap_or(word);
    for (n, label) in word.split(|&b| b == b'.').enumerate() {
        if n > 0 {
            text.push('.');
        }
        push_label(&mut text, label);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_changed_file_gives_its_new_entries() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"127.0.0.1 LocalHost loop # home\n#\n::1\tlocalhost\nfe80::1%eth0 gate.\n\xff bad\n1.2.3 short\n10.0.0.1\n").unwrap();
        let mut hosts = Hosts::new(Some(file.path().to_owned()));
        let show = |entries: Vec<Entry>| entries.iter().map(|(a, n)| format!("{a} {n}")).collect::<Vec<_>>();
        let all = ["127.0.0.1 localhost", "127.0.0.1 loop", "::1 localhost", "fe80::1 gate"];
        assert_eq!(show(hosts.refresh(0)), all);
        assert_eq!(hosts.name("::ffff:127.0.0.1".parse().unwrap()).as_deref(), Some("localhost"));
        fs::write(file.path(), "127.0.0.1 loop localhost\n10.1.1.1 a\\b\x01\n").unwrap();
        assert!(hosts.refresh(RECHECK - 1).is_empty());
        assert_eq!(show(hosts.refresh(RECHECK)), ["10.1.1.1 a\\092b\\001"]);
        assert_eq!(hosts.name("127.0.0.1".parse().unwrap()).as_deref(), Some("loop"));
        assert_eq!(hosts.name("::1".parse().unwrap()), None);
        assert!(hosts.refresh(3 * RECHECK).is_empty());
    }

    #[test]
    fn a_missing_file_and_a_directory_have_no_names() {
        for path in ["/nonexistent/hosts", "/"] {
            assert!(Hosts::new(Some(path.into())).refresh(0).is_empty());
        }
        assert!(Hosts::new(None).refresh(0).is_empty());
    }

    #[test]
    fn a_huge_file_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "10.0.0.1 a\n".repeat(LINES) + "10.0.0.2 b\n").unwrap();
        assert_eq!(Hosts::new(Some(file.path().to_owned())).refresh(0).len(), 1);
    }
}

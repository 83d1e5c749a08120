//! What the fuzz targets (fuzz/) feed: every decoder of bytes that others can choose, with what has to hold of it whatever the bytes are. The tests
//! replay the corpora, `tests/corpus`.

use crate::proc::{Io, Stat, Status};
pub use crate::{
    ebpf::fuzzing::ring,
    surroundings::fuzzing::{accounts, mountinfo, rtnetlink, sessions, uevent, utmp},
};

/// The files of a process below /proc: stat, status, io.
pub fn process(bytes: &[u8]) {
    if let Some(stat) = Stat::parse(bytes) {
        assert!(stat.comm.len() < bytes.len(), "a name is longer than its line");
        let name = stat.tty_name().unwrap_or_default();
        assert!(name.is_ascii() && name.len() < 32, "a terminal with a name that is none");
        stat.is_over();
    }
    Status::parse(bytes);
    Io::parse(bytes);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Each target under the name of its corpus.
    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 8] = [
        ("accounts", super::accounts),
        ("mountinfo", super::mountinfo),
        ("process", super::process),
        ("ring", super::ring),
        ("rtnetlink", super::rtnetlink),
        ("sessions", super::sessions),
        ("uevent", super::uevent),
        ("utmp", super::utmp),
    ];

    #[test]
    fn the_corpora_are_taken() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let mut there: Vec<_> = fs::read_dir(&corpora)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort_unstable();
        assert_eq!(there, TARGETS.map(|(name, _)| name));
        for (name, target) in TARGETS {
            let mut files = 0;
            for file in fs::read_dir(corpora.join(name)).unwrap() {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                // Whole, and cut anywhere.
                for end in 0..=bytes.len() {
                    target(&bytes[..end]);
                }
                files += 1;
            }
            assert!(files > 0, "no files for {name}");
        }
    }
}

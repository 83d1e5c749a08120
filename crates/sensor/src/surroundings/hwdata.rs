//! Names of vendors and products, by the databases of the package hwdata (usb.ids, pci.ids).
//!
//! A database is read when a name is first asked for, up to the vendor in question; nothing of it is kept but the answers.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Of a database that is longer, the rest is not read; they have 0.7 and 1.5 MB.
const LIMIT: u64 = 16 << 20;
/// A longer name is cut.
const NAME: usize = 256;
/// How many answers are remembered; then all are forgotten.
const REMEMBERED: usize = 4096;

/// Names by number.
pub(super) struct Hwdata {
    root: PathBuf,
    answers: HashMap<(&'static str, u16, u16), Names>,
}

/// What a database calls a vendor and its product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) vendor: Option<Vec<u8>>,
    pub(super) product: Option<Vec<u8>>,
}

impl Hwdata {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), answers: HashMap::new() }
    }

    /// The names of a device of a bus, `usb` or `pci`.
    pub(super) fn names(&mut self, bus: &'static str, vendor: u16, product: u16) -> Names {
        let key = (bus, vendor, product);
        if let Some(known) = self.answers.get(&key) {
            return known.clone();
        }
        let open = |directory| File::open(self.root.join(format!("usr/share/{directory}/{bus}.ids"))).ok();
        let file = ["misc", "hwdata"].into_iter().find_map(open);
        let names = file.map(|file| look_up(file, vendor, product)).unwrap_or_default();
        if self.answers.len() >= REMEMBERED {
            self.answers.clear();
        }
        self.answers.insert(key, names.clone());
        names
    }
}

/// Reads up to the end of the vendor's lines: `VVVV  name`, and under it `TAB PPPP  name`.
fn look_up(file: impl Read, vendor: u16, product: u16) -> Names {
    let vendor = format!("{vendor:04x}  ").into_bytes();
    let product = format!("\t{product:04x}  ").into_bytes();
    let mut lines = BufReader::with_capacity(64 << 10, file.take(LIMIT));
    let (mut names, mut line) = (Names::default(), Vec::new());
    loop {
        line.clear();
        if !matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            return names;
        }
        if names.vendor.is_none() {
            names.vendor = line.strip_prefix(&vendor[..]).map(name);
        } else if let Some(text) = line.strip_prefix(&product[..]) {
            names.product = Some(name(text));
            return names;
        } else if line.first().is_some_and(|first| !b"\t#\n".contains(first)) {
            return names;
        }
    }
}

fn name(text: &[u8]) -> Vec<u8> {
    let text = text.trim_ascii();
    text[..text.len().min(NAME)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &str = "# comment\n\n0951  Kingston Technology\n\t1665  Digital DataTraveler SE9 64GB\n\t1666  DataTraveler 100 G3/G4/SE9 G2/50 Kyson\n\t\t00  interface\n0952  Other\n\t1667  Not Kingston's\nC 08  Mass Storage\n";

    fn names(root: &Path, vendor: u16, product: u16) -> (Option<String>, Option<String>) {
        let Names { vendor, product } = Hwdata::new(root).names("usb", vendor, product);
        let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8(bytes).unwrap());
        (text(vendor), text(product))
    }

    #[test]
    fn vendor_and_product_are_looked_up_by_number() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(names(root.path(), 0x951, 0x1666), (None, None));
        std::fs::create_dir_all(root.path().join("usr/share/hwdata")).unwrap();
        std::fs::write(root.path().join("usr/share/hwdata/usb.ids"), IDS).unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            names(root.path(), 0x951, 0x1666),
            (some("Kingston Technology"), some("DataTraveler 100 G3/G4/SE9 G2/50 Kyson"))
        );
        assert_eq!(names(root.path(), 0x951, 0x1667), (some("Kingston Technology"), None));
        assert_eq!(names(root.path(), 0x953, 1), (None, None));
    }

    #[test]
    fn a_database_of_anything_is_no_more_than_useless() {
        for strange in [&b""[..], b"0951", b"0951  ", b"\t1666  x\n0951  \n", &[0xff; 70_000], &[b'\n'; 999]]
        {
            look_up(strange, 0x951, 0x1666);
        }
        let endless = look_up(std::io::repeat(b'x'), 0x951, 0x1666);
        assert_eq!(endless, Names::default());
        let long = [b"0951  ".to_vec(), vec![b'y'; 100_000]].concat();
        assert_eq!(look_up(&long[..], 0x951, 1).vendor.unwrap().len(), NAME);
    }
}

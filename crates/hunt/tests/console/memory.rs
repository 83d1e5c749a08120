//! Answers stream: how many rows there are does not show in the memory.

use std::{
    fs,
    io::{BufWriter, Write},
    path::PathBuf,
    process::Command,
};

use luarm_hunt::{Console, Format, Options};
use luarm_store::{Reader, StoreUrl};

use crate::fixture::make_store;

const STORE: &str = "LUARM_TEST_MEMORY_STORE";
const FORMAT: &str = "LUARM_TEST_MEMORY_FORMAT";
const ROWS: u64 = 10_000_000;

/// The peak of this process's resident memory, bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Counts lines, keeps nothing.
struct Lines(u64);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.iter().filter(|&&b| b == b'\n').count() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
#[ignore = "is the child of ten_million_rows_need_no_more_memory_than_few"]
fn process_that_streams() {
    let (Ok(url), Ok(format)) = (std::env::var(STORE), std::env::var(FORMAT)) else {
        return;
    };
    let reader = Reader::open(&StoreUrl::parse(&url).unwrap()).unwrap();
    let mut console = Console::new(reader, Options { format: format.parse().unwrap(), terminal: false });
    let ask = |console: &mut Console, rows: u64| {
        let mut out = BufWriter::new(Lines(0));
        let question = format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows}) select i, 'row' as t from n;"
        );
        console.text(&question, &mut out).unwrap();
        out.into_inner().unwrap_or_else(|_| panic!("lines cannot fail")).0
    };
    ask(&mut console, 100_000);
    let before = peak();
    let lines = ask(&mut console, ROWS);
    println!("\nlines {lines} growth {}", peak() - before);
}

#[test]
fn ten_million_rows_need_no_more_memory_than_few() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("luarm.db");
    let url = make_store(&path);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["memory::process_that_streams", "--exact", "--ignored", "--nocapture"])
        .env(STORE, url.to_string())
        .env(FORMAT, Format::Csv.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|l| l.starts_with("lines ")).unwrap_or_else(|| panic!("no answer: {text}"));
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    assert_eq!(numbers[0], ROWS + 1);
    assert!(numbers[1] < 64 << 20, "memory grew by {} bytes", numbers[1]);
}

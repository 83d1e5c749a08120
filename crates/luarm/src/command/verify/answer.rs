//! `luarm verify FILE`: an answer that was proven elsewhere.

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context;
use luarm_chain::{
    VerifyingKey, decode,
    proven::{Checked, LONGEST, Proven},
};

use super::UNCHECKED;
use crate::FAILED;

/// Flaws that are told; what is more is counted.
const TOLD: usize = 100;

pub(super) fn check(file: &Path, keys: &[VerifyingKey], host_keys: &[String]) -> anyhow::Result<ExitCode> {
    let cannot = || format!("cannot check {}", file.display());
    let host_keys: Vec<VerifyingKey> = host_keys
        .iter()
        .map(|text| {
            let bytes = decode::<32>(text.trim_end_matches('='));
            let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
            key.with_context(|| format!("{text:?} is no public key: `luarm verify` shows that of a host"))
        })
        .collect::<anyhow::Result<_>>()?;
    let length = fs::metadata(file).with_context(cannot)?.len();
    if length > LONGEST {
        anyhow::bail!(
            "cannot check {}: it has {length} bytes, and no proof has more than {LONGEST}",
            file.display()
        );
    }
    let proven = Proven::read(&fs::read_to_string(file).with_context(cannot)?).with_context(cannot)?;
    let checked = proven.check(keys, &host_keys);
    print(&proven, &checked);
    Ok(match (checked.flaws.is_empty(), checked.unanchored.is_empty()) {
        (false, _) => ExitCode::from(FAILED),
        (true, false) => ExitCode::from(UNCHECKED),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// Whatever the file says may hold anything.
fn print(proven: &Proven, checked: &Checked) {
    println!("asked at {}: {}", proven.asked.escape_debug(), proven.statement.escape_debug());
    for host in &checked.hosts {
        println!("{}", host.escape_debug());
    }
    let columns = |names: &[String]| names.join(", ").escape_debug().to_string();
    println!(
        "{} of {} rows of the answer, by {} rows of the tables: {}",
        checked.answers,
        proven.answer.len(),
        checked.rows,
        columns(&checked.proven)
    );
    if !checked.reckoned.is_empty() {
        println!("not proven, because reckoned: {}", columns(&checked.reckoned));
    }
    for line in &checked.coverage {
        println!("{}", line.escape_debug());
    }
    for flaw in checked.flaws.iter().take(TOLD) {
        println!("WRONG: {}", flaw.escape_debug());
    }
    for text in checked.unanchored.iter().take(TOLD) {
        println!("not led back to a known key: {}", text.escape_debug());
    }
    match (checked.flaws.len(), checked.unanchored.len()) {
        (0, 0) => println!("proven"),
        (0, more) => println!("not proven: {more} batches are not led back to a key that is known here"),
        (more, _) => println!("NOT PROVEN: {more} findings"),
    }
}

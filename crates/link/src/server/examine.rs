//! What a host may say: whether names and batches are what they may be. What a certificate does not cover is refused here, whatever the store
//! would make of it.

use luarm_schema::{Batch, Row, STORE_MADE};
use luarm_store::Certified;
use tonic::Code;

use super::refusal::Refusal;
use crate::LinkError;

/// As long as a label of DNS may be, and one more: what Linux takes for a host's name.
const LONGEST_NAME: usize = 64;

/// Whether a host may have that name. It will stand in certificates, logs and queries, so it is plain.
pub(crate) fn host_name(name: &str) -> Result<(), LinkError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins && name.len() <= LONGEST_NAME && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(LinkError::HostName { name: name.chars().take(LONGEST_NAME).collect() })
    }
}

/// Whether an analyst may have that name: a plain one, too, and short enough that it can stand as an id.
pub(crate) fn analyst_name(name: &str) -> Result<(), LinkError> {
    const LONGEST: usize = 48;
    if name.len() <= LONGEST && host_name(name).is_ok() {
        Ok(())
    } else {
        Err(LinkError::AnalystName { name: name.chars().take(LONGEST_NAME).collect() })
    }
}

/// Whether that is a machine id as machine-id(5) describes it.
pub(crate) fn machine_id(machine_id: &str) -> Result<(), LinkError> {
    if machine_id.len() == 32 && machine_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        Ok(())
    } else {
        Err(LinkError::MachineId { machine_id: machine_id.chars().take(LONGEST_NAME).collect() })
    }
}

/// Whether a host may have this batch stored: it closes with its own entry in the ledger and has no other, and says of no other host that it
/// is it.
pub(super) fn batch(host: &Certified, batch: &Batch) -> Result<(), Refusal> {
    let unsound = |message: String| Err(Refusal::new("unsound", Code::InvalidArgument, message));
    let Some((Row::BatchInfo(entry), rows)) = batch.rows.split_last() else {
        return unsound(format!("batch {} does not end with its batchinfo row", batch.id));
    };
    let counts = (rows.len() as i64, batch.ends.len() as i64);
    if (entry.batchid, entry.rowcount, entry.endcount) != (batch.id, counts.0, counts.1) {
        return unsound(format!("the batchinfo row of batch {} does not tell of it", batch.id));
    }
    let mut known = false;
    for row in rows {
        match row {
            row if STORE_MADE.iter().any(|table| table.name == row.table().name) => {
                return unsound(format!("batch {} has rows that only a store makes", batch.id));
            }
            Row::QueryInfo(question) if question.door != "data" => {
                return unsound(format!("batch {} tells of questions that a host cannot know of", batch.id));
            }
            Row::BatchInfo(_) => return unsound(format!("batch {} has two batchinfo rows", batch.id)),
            Row::HostInfo(info) => {
                if info.machineid != host.machine_id || info.hostname != host.name {
                    let message = format!(
                        "batch {} says that its host is another than {}, whose certificate it came with",
                        batch.id, host.name
                    );
                    return Err(Refusal::new("impostor", Code::PermissionDenied, message));
                }
                known = true;
            }
            _ => {}
        }
    }
    // The store finds the host by it.
    if batch.id == 1 && !known {
        return unsound("the first batch of a host has no hostinfo row".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["a", "penguin", "web-1.example.org", "A_b", "0", &"x".repeat(64)] {
            assert!(host_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(255);
        for name in [
            "",
            ".",
            "..",
            "-x",
            "../etc/passwd",
            "a/b",
            "a'; DROP TABLE hostinfo; --",
            "a b",
            "é",
            "a\0",
            "a\n",
            "\u{202e}x",
            "a\"b",
            "a`b",
            "a%b",
            &long,
            &long[..65],
        ] {
            assert!(host_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn machine_ids_are_hexadecimal() {
        assert!(machine_id("0123456789abcdef0123456789abcdef").is_ok());
        for id in ["", "0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcde", "' OR 1=1 --"] {
            assert!(machine_id(id).is_err(), "{id}");
        }
    }
}

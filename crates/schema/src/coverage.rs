//! Which classes of events fill which table: what has to have been watched for its rows to be all there are.

use crate::{TableDef, tables::*};

/// The classes of `coverageinfo` and `lossinfo` whose events become rows of the table, besides the class `all`, which stands for every one. A loss of rows
/// that exist already (a spool that is full) has the name of their table for a class. Empty for the tables in which luarm tells of itself.
pub fn classes(table: &TableDef) -> &'static [&'static str] {
    FILLED.iter().find(|(filled, _)| filled.name == table.name).map_or(&[], |(_, classes)| classes)
}

const FILLED: &[(&TableDef, &[&str])] = &[
    (PsInfo::TABLE, &["process", "arguments"]),
    (ImageInfo::TABLE, &["process", "image-digest"]),
    (ExecInfo::TABLE, &["exec-denied"]),
    (RenameInfo::TABLE, &["rename"]),
    (PrivInfo::TABLE, &["credentials", "kernel-code", "bpf", "ptrace", "namespaces", "signals"]),
    (NetInfo::TABLE, &["tcp", "tcp-accept", "tcp-denied", "udp"]),
    (NameInfo::TABLE, &["names"]),
    (FileInfo::TABLE, &["file", "io-uring"]),
    (ContentInfo::TABLE, &["file-digest"]),
    (HwInfo::TABLE, &["hardware"]),
    (MountInfo::TABLE, &["mounts"]),
    (NetInt::TABLE, &["interfaces"]),
    (NetRoute::TABLE, &["routes"]),
    (HostInfo::TABLE, &["host"]),
    (FactInfo::TABLE, &["host"]),
    (GroupInfo::TABLE, &["groups"]),
    (UserInfo::TABLE, &["users"]),
    (SessionInfo::TABLE, &["logins"]),
];

/// Classes that are lost and never watched by themselves: they come with another one.
pub const PARTS: &[&str] = &["arguments"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ACTIVITIES, CONDITIONS};

    #[test]
    fn what_happens_on_a_host_has_classes() {
        for table in ACTIVITIES.iter().chain(CONDITIONS) {
            assert!(!classes(table).is_empty(), "{}", table.name);
        }
        for table in [CoverageInfo::TABLE, LossInfo::TABLE, BatchInfo::TABLE, RetentionInfo::TABLE] {
            assert!(classes(table).is_empty(), "{}", table.name);
        }
    }
}

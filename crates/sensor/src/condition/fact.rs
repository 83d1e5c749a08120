//! Facts of the computer.

/// Something that is known of the computer as a whole, and may change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is: `hostname`, `domainname`, `timezone`, `os`, `machineid`.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

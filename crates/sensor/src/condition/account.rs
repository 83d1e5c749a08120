//! Users and groups.

/// A user of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Login name.
    pub name: Vec<u8>,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Full name and other remarks.
    pub gecos: Vec<u8>,
    /// Home directory.
    pub home: Vec<u8>,
    /// Login shell.
    pub shell: Vec<u8>,
    /// State of the password, where it is known.
    pub password: Option<Password>,
    /// When the password was changed last, days since 1970-01-01.
    pub changed: Option<u32>,
    /// When the account expires, days since 1970-01-01.
    pub expires: Option<u32>,
    /// It is in no local file.
    pub remote: bool,
}

/// What may be told of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Password {
    /// Which there is.
    pub kind: PasswordKind,
    /// It was locked.
    pub locked: bool,
}

/// Whether a password lets a user in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PasswordKind {
    /// There is one.
    Set,
    /// None is asked for.
    Empty,
    /// None fits.
    None,
}

/// A group of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its name.
    pub name: Vec<u8>,
    /// Group id.
    pub gid: u32,
    /// The members that its line names, as it does: separated by commas.
    pub members: Vec<u8>,
}

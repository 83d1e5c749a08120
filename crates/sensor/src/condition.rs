//! Conditions: what is true of the host for a time. An interface has an address, a route leads somewhere, a device is attached.

mod account;
mod login;
mod route;

pub use account::{Group, Password, PasswordKind, User};
pub use login::{Login, LoginSource};
pub use route::Route;

/// A condition: what it is, and which values it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A route.
    Route(Route),
    /// A user.
    User(User),
    /// A group.
    Group(Group),
    /// A login.
    Login(Login),
}

/// The kinds of conditions; a sensor reports all of a kind that hold, then says that they are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they say it all")]
pub enum ConditionKind {
    Route,
    User,
    Group,
    Login,
}

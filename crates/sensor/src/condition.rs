//! Conditions: what is true of the host for a time. An interface has an address, a route leads somewhere, a device is attached.

mod account;
mod device;
mod fact;
mod interface;
mod login;
mod mount;
mod route;

pub use account::{Group, Password, PasswordKind, User};
pub use device::Device;
pub use fact::Fact;
pub use interface::{Interface, InterfaceAddress};
pub use login::{Login, LoginSource};
pub use mount::Mount;
pub use route::Route;

/// A condition: what it is, and which values it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A fact of the computer.
    Fact(Fact),
    /// An interface with an address.
    Interface(Interface),
    /// A device.
    Device(Device),
    /// A mount.
    Mount(Mount),
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
    Fact,
    Interface,
    Device,
    Mount,
    Route,
    User,
    Group,
    Login,
}

//! The declarations, by subject.

mod account;
mod file;
mod hardware;
mod host;
mod ledger;
mod network;
mod process;

pub use account::*;
pub use file::*;
pub use hardware::*;
pub use host::*;
pub use ledger::*;
pub use network::*;
pub use process::*;

tables! {
    FactInfo, FactInfoEnd;
    FileInfo, FileInfoEnd;
    ContentInfo, ContentInfoEnd;
    GroupInfo, GroupInfoEnd;
    UserInfo, UserInfoEnd;
    SessionInfo, SessionInfoEnd;
    HostInfo, HostInfoEnd;
    HwInfo, HwInfoEnd;
    MountInfo, MountInfoEnd;
    NetInfo, NetInfoEnd;
    NetInt, NetIntEnd;
    NetRoute, NetRouteEnd;
    PsInfo, PsInfoEnd;
    ImageInfo, ImageInfoEnd;
    ExecInfo, ExecInfoEnd;
    RenameInfo, RenameInfoEnd;
    PrivInfo, PrivInfoEnd;
    NameInfo, NameInfoEnd;
    CoverageInfo, CoverageInfoEnd;
    LossInfo, LossInfoEnd;
    BatchInfo, BatchInfoEnd;
}

/// The tables of conditions: what is true of a host for a time. A recorder gets their open rows back whole when it starts.
pub const CONDITIONS: &[&crate::TableDef] = &[
    FactInfo::TABLE,
    GroupInfo::TABLE,
    UserInfo::TABLE,
    SessionInfo::TABLE,
    HwInfo::TABLE,
    MountInfo::TABLE,
    NetInt::TABLE,
    NetRoute::TABLE,
];

/// The declaration of the table of that name.
pub fn table(name: &str) -> Option<&'static crate::TableDef> {
    TABLES.iter().find(|t| t.name == name).copied()
}

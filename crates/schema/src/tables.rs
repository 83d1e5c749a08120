//! The declarations, by subject.

mod account;
mod file;
mod hardware;
mod host;
mod ledger;
mod network;
mod oversight;
mod process;

pub use account::*;
pub use file::*;
pub use hardware::*;
pub use host::*;
pub use ledger::*;
pub use network::*;
pub use oversight::*;
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
    CanaryInfo, CanaryInfoEnd;
    BatchInfo, BatchInfoEnd;
    RetentionInfo, RetentionInfoEnd;
    QueryInfo, QueryInfoEnd;
    AlertInfo, AlertInfoEnd;
}

/// The tables that grow with what happens, and are kept for a time only. Their rows are numbered by time ([`first_number`](crate::first_number)),
/// so that an engine can keep each day of them apart.
pub const ACTIVITIES: &[&crate::TableDef] = &[
    FileInfo::TABLE,
    NetInfo::TABLE,
    PsInfo::TABLE,
    ExecInfo::TABLE,
    RenameInfo::TABLE,
    PrivInfo::TABLE,
    NameInfo::TABLE,
];

/// The tables whose rows only the store itself makes: a host that delivers one is not believed.
pub const STORE_MADE: &[&crate::TableDef] = &[RetentionInfo::TABLE];

/// The tables of which a server makes rows itself, beside those that hosts deliver: rows in batches of its own. Rows of these whose `batch` is 0 came by an
/// account of the database: they are in no batch, and nothing but their `md5sum` vouches for them.
pub const SERVER_MADE: &[&crate::TableDef] = &[QueryInfo::TABLE];

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

/// Whether the table is one of [`ACTIVITIES`].
pub(crate) fn is_activity(table: &crate::TableDef) -> bool {
    ACTIVITIES.iter().any(|t| t.name == table.name)
}

/// The declaration of the table of that name.
pub fn table(name: &str) -> Option<&'static crate::TableDef> {
    TABLES.iter().find(|t| t.name == name).copied()
}

//! What passes between recorder and store: batches one way, and at the start what the store remembers of this host.

use crate::{End, Row, Time};

/// Rows and ends that are stored together or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Number, without gaps for each host, from 1.
    pub id: i64,
    /// New rows, in the order in which their events happened. The last is the `batchinfo` row of this batch.
    pub rows: Vec<Row>,
    /// Ends of rows of earlier batches: the row's key and what ends it.
    pub ends: Vec<(i64, End)>,
    /// What it holds, row by row, as bytes of `luarm-chain`: kept beside the rows, so that they can be checked. It does not travel: who takes a batch in makes it
    /// anew. Empty for a batch that was not sealed.
    pub manifest: Vec<u8>,
}

/// What a store remembers of a host when its recorder starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resume {
    /// The last batch that was stored, and its `lastevent`; `None` for a host that the store does not know.
    pub last_batch: Option<(i64, Time)>,
    /// `batchinfo.digest` of that batch.
    pub digest: Option<String>,
    /// `hostinfo.bootid` and `hostinfo.bootentity` of the latest boot.
    pub boot: Option<(String, i64)>,
    /// Process images that have not ended.
    pub processes: Vec<OpenProcess>,
    /// Endpoints that have not ended.
    pub endpoints: Vec<OpenEndpoint>,
    /// Accesses to files that have not ended.
    pub files: Vec<OpenFile>,
    /// `coverageid` of the intervals that have not ended.
    pub coverage: Vec<i64>,
    /// `queryid` of the questions that the host's recorder was told of and that have not ended.
    pub queries: Vec<i64>,
    /// Rows of the tables of [`CONDITIONS`](crate::CONDITIONS) that have not ended.
    pub conditions: Vec<Row>,
}

/// A `psinfo` row that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenProcess {
    /// Its key.
    pub psentity: i64,
    /// Its creator.
    pub ppsentity: Option<i64>,
    /// Its process id.
    pub pid: u32,
    /// How many execs the process had done.
    pub execs: u32,
    /// When the image began.
    pub created: Time,
}

/// A `fileinfo` row that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// Its key.
    pub fileaccessid: i64,
    /// When the file was opened.
    pub created: Time,
}

/// A `netinfo` row that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenEndpoint {
    /// Its key.
    pub endpointinfo: i64,
    /// `tcp` or `udp`.
    pub transport: String,
    /// `out`, `in` or `listen`.
    pub direction: String,
    /// The kernel's cookie of the socket.
    pub socket: u64,
    /// Address and port of the peer, `None` for a listener.
    pub peer: Option<(String, u16)>,
}

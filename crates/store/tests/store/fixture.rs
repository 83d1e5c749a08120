//! Rows and batches to store, and short ways to ask.

use std::{io, path::Path};

use luarm_schema::{
    Batch, End, HostName, Row, Time,
    tables::{BatchInfo, HostInfo, NetInfo, NetInfoEnd},
};
use luarm_store::{Cell, QueryError, Reader, RowSink, StoreUrl, Writer};

pub(crate) const MACHINE: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn url(path: &Path) -> StoreUrl {
    StoreUrl::parse(&format!("sqlite:{}", path.display())).unwrap()
}

pub(crate) fn at(n: i64) -> Time {
    Time(1_800_000_000_000_000 + n)
}

pub(crate) fn host(machine: &str, name: &str, boot: i64) -> Row {
    HostInfo {
        bootentity: boot,
        machineid: machine.to_owned(),
        hostname: name.to_owned(),
        os: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        bootid: format!("boot-{boot}"),
        boottime: at(boot),
        timezone: None,
        cmdline: None,
        virtualization: None,
        vendor: None,
        product: None,
        serial: None,
        agentversion: "0.1.0".to_owned(),
        memory: 1 << 34,
        cpus: 2,
        created: at(boot),
        end: None,
    }
    .into()
}

pub(crate) fn endpoint(key: i64) -> NetInfo {
    NetInfo {
        endpointinfo: key,
        psentity: Some(key * 3),
        transport: "tcp".into(),
        direction: "out".into(),
        sourceip: "10.0.0.1".to_owned(),
        sourcefqdn: None,
        sourceport: 40_000,
        destip: "79.125.109.171".to_owned(),
        destfqdn: Some(HostName("dana.basefreak.nl".to_owned())),
        destport: 6667,
        ipversion: 4,
        username: "nobody".into(),
        loginname: None,
        pid: 7371,
        application: "crond".to_owned(),
        uid: 65534,
        auid: None,
        session: None,
        netns: None,
        origin: "event".into(),
        socket: key.unsigned_abs(),
        created: at(key),
        end: None,
    }
}

pub(crate) fn endpoint_end(at: Time) -> NetInfoEnd {
    NetInfoEnd {
        destroyed: at,
        ended: "close".into(),
        result: Some(0),
        bytessent: Some(12),
        bytesreceived: Some(34),
        packetssent: None,
        packetsreceived: None,
    }
}

pub(crate) fn batch(id: i64, mut rows: Vec<Row>, ends: Vec<(i64, End)>) -> Batch {
    let info = BatchInfo {
        batchid: id,
        run: 1,
        rowcount: rows.len() as i64,
        endcount: ends.len() as i64,
        firstevent: at(id),
        lastevent: at(id + 1),
        created: at(id + 2),
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    rows.push(Row::BatchInfo(Box::new(info)));
    Batch { id, rows, ends, ..Batch::default() }
}

/// Batch `id` with the endpoints `keys`.
pub(crate) fn endpoints(id: i64, keys: impl IntoIterator<Item = i64>) -> Batch {
    batch(id, keys.into_iter().map(|key| endpoint(key).into()).collect(), Vec::new())
}

/// A store with the host `alpha` and the given further rows in batch 1.
pub(crate) fn store_with(path: &Path, rows: Vec<Row>) -> Writer {
    let (mut writer, _) = Writer::open(&url(path), MACHINE).unwrap();
    let rows = [vec![host(MACHINE, "alpha", 1)], rows].concat();
    writer.append(&batch(1, rows, Vec::new())).unwrap();
    writer
}

/// Keeps an answer as text, a row a line, NULL as `NULL`.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<String>,
}

impl RowSink for Answer {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.columns = names.to_vec();
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let cells: Vec<String> = cells
            .iter()
            .map(|cell| match cell {
                Cell::Null => "NULL".to_owned(),
                Cell::Integer(n) => n.to_string(),
                Cell::Real(x) => x.to_string(),
                Cell::Text(s) => (*s).to_owned(),
                Cell::Blob(b) => format!("{b:?}"),
            })
            .collect();
        self.rows.push(cells.join("|"));
        Ok(())
    }
}

pub(crate) fn ask(reader: &mut Reader, sql: &str) -> Result<Vec<String>, QueryError> {
    let mut answer = Answer::default();
    reader.query(sql, &mut answer).map(|_| answer.rows)
}

pub(crate) fn ask_file(path: &Path, sql: &str) -> Vec<String> {
    ask(&mut Reader::open(&url(path)).unwrap(), sql).unwrap()
}

/// Runs in a thread that has given up root, as user and group 65534. SQLite is called by that thread alone.
pub(crate) fn as_nobody<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    use rustix::{
        process::{Gid, Uid},
        thread::{set_thread_res_gid, set_thread_res_uid},
    };
    let nobody = std::thread::spawn(|| {
        let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(65534));
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        run()
    });
    nobody.join().unwrap()
}

/// Whether this is root; otherwise says that the test is skipped, and fails under CI, where root is provided.
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "{test} needs root, which CI provides");
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

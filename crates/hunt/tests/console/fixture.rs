//! A store that remembers a part of the seed's incident.

use std::path::Path;

use luarm_hunt::{Console, Format, HuntError, Options};
use luarm_schema::{
    Batch, HostName, Row, Time,
    tables::{BatchInfo, HostInfo, NetInfo, RenameInfo},
};
use luarm_store::{Reader, StoreUrl, Writer};

fn at(seconds: i64) -> Time {
    Time(1_304_579_533_000_000 + seconds * 1_000_000)
}

pub(crate) fn host() -> HostInfo {
    HostInfo {
        bootentity: 1,
        machineid: "0123456789abcdef".to_owned(),
        hostname: "panoitpsl".to_owned(),
        os: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        bootid: "boot".to_owned(),
        boottime: at(0),
        timezone: None,
        cmdline: None,
        virtualization: None,
        vendor: None,
        product: None,
        serial: None,
        agentversion: "0.1.0".to_owned(),
        memory: 1 << 34,
        cpus: 2,
        created: at(0),
        end: None,
    }
}

fn endpoint(key: i64, name: &str, pid: u32) -> NetInfo {
    NetInfo {
        endpointinfo: key,
        psentity: None,
        transport: "tcp".into(),
        direction: "out".into(),
        sourceip: "10.0.0.1".to_owned(),
        sourcefqdn: None,
        sourceport: 40_000,
        destip: "79.125.109.171".to_owned(),
        destfqdn: Some(HostName(name.to_owned())),
        destport: 6667,
        ipversion: 4,
        username: "nobody".into(),
        loginname: None,
        pid,
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

/// A task name as an adversary may choose it.
pub(crate) const HOSTILE: &str = "a\x1b[2J\"b\",\n'c\u{202e}";

fn hostile_name() -> RenameInfo {
    RenameInfo {
        renameid: 1,
        psentity: 1,
        username: "nobody".into(),
        loginname: None,
        pid: 7371,
        application: HOSTILE.to_owned(),
        oldapplication: String::new(),
        auid: None,
        session: None,
        created: at(1),
        end: None,
    }
}

/// Makes the store: 963 connections to one of the seed's names and 1408 to the other, and a hostile task name.
pub(crate) fn make_store(path: &Path) -> StoreUrl {
    let url = StoreUrl::parse(&format!("sqlite:{}", path.display())).unwrap();
    let (mut writer, _) = Writer::open(&url, "0123456789abcdef").unwrap();
    let mut rows: Vec<Row> = vec![host().into(), hostile_name().into()];
    rows.extend((1..=1408).map(|key| endpoint(key, "dana.basefreak.nl", 7371).into()));
    rows.extend((2001..=2963).map(|key| endpoint(key, "undernet.irc.justedge.net", 21995).into()));
    let info = BatchInfo {
        batchid: 1,
        run: 1,
        rowcount: rows.len() as i64,
        endcount: 0,
        firstevent: at(0),
        lastevent: at(1),
        created: at(2),
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    rows.push(info.into());
    writer.append(&Batch { id: 1, rows, ends: Vec::new(), ..Batch::default() }).unwrap();
    url
}

/// A console on such a store, and the directory that holds it.
pub(crate) fn console(format: Format, terminal: bool) -> (Console, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let url = make_store(&dir.path().join("luarm.db"));
    (Console::new(Reader::open(&url).unwrap(), Options { format, terminal }), dir)
}

/// The answers to a text of statements, with every time taken as nothing.
pub(crate) fn answers(console: &mut Console, text: &str) -> Result<String, HuntError> {
    let mut out = Vec::new();
    console.text(text, &mut out)?;
    let out = String::from_utf8(out).unwrap();
    Ok(out.split_inclusive('\n').map(untimed).collect())
}

fn untimed(line: &str) -> String {
    match line.split_once("set (") {
        Some((count, time)) if time.ends_with(" sec)\n") => format!("{count}set (0.00 sec)\n"),
        _ => line.to_owned(),
    }
}

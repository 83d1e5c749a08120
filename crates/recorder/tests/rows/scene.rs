//! What the tests share: a made-up host, short ways to say observations, and a store in memory that checks what every store relies on.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use luarm_recorder::{Recorder, Setup, Users};
use luarm_schema::{Batch, CONDITIONS, OpenEndpoint, OpenProcess, Resume, Row, Time, tables::*};
use luarm_sensor::{BootNs, HostFacts, Observation, observation::*};

pub(crate) const EPOCH: i64 = 1_577_836_800_000_000;
/// The made-up host booted one day after the epoch.
pub(crate) const BOOT: i64 = EPOCH + 86_400_000_000;
pub(crate) const SECOND: BootNs = 1_000_000_000;
pub(crate) const MS: BootNs = 1_000_000;

pub(crate) struct Passwd;

impl Users for Passwd {
    fn name(&mut self, uid: u32) -> Arc<str> {
        match uid {
            0 => "root".into(),
            99 => "systemd-resolve".into(),
            1000 => "alice".into(),
            1001 => "mallory".into(),
            other => other.to_string().into(),
        }
    }
}

pub(crate) fn host() -> HostFacts {
    HostFacts {
        machine_id: "3d1219c7c4c5404aaa1f6d2a48adfda4".into(),
        hostname: "penguin".into(),
        os: "Debian".into(),
        kernel: "6.18".into(),
        arch: "x86_64".into(),
        boot_id: "first boot".into(),
        timezone: None,
        cmdline: Some("quiet".into()),
        virtualization: None,
        vendor: None,
        product: None,
        serial: None,
        memory: 1 << 30,
        cpus: 2,
        namespaces: Namespaces { mnt: 1, net: 2, pid: 3, user: 4, uts: 5, ipc: 6, cgroup: 7 },
    }
}

pub(crate) fn recorder() -> Recorder {
    start(Resume::default(), host(), 0)
}

/// A recorder that starts at that instant of the host's boot.
pub(crate) fn start(resume: Resume, host: HostFacts, at: BootNs) -> Recorder {
    Recorder::new(Setup {
        resume,
        host,
        run: Time(BOOT + (at / 1000) as i64),
        version: "0.1.0",
        users: Box::new(Passwd),
        clock_offset: BOOT,
        hosts_file: None,
        own: None,
    })
}

pub(crate) fn wall(at: BootNs) -> Time {
    Time(BOOT + (at / 1000) as i64)
}

pub(crate) fn image(pid: u32, start: BootNs, execs: u32) -> ImageId {
    ImageId { pid, start, execs }
}

pub(crate) fn psentity(image: ImageId) -> i64 {
    (((image.start / 1000) as i64 + BOOT - EPOCH) << 12)
        | i64::from(image.pid & 63) << 6
        | i64::from(image.execs.min(63))
}

pub(crate) fn ids(id: u32) -> Credentials {
    let capabilities = Some(Capabilities::default());
    Credentials {
        uid: id,
        euid: id,
        suid: id,
        fsuid: id,
        gid: id,
        egid: id,
        sgid: id,
        fsgid: id,
        capabilities,
    }
}

pub(crate) fn task(image: ImageId, creator: Option<ImageId>) -> Box<Task> {
    Box::new(Task {
        image,
        ppid: creator.map_or(0, |c| c.pid),
        creator,
        comm: b"comm".to_vec(),
        credentials: ids(1000),
        namespaces: host().namespaces,
        ..Task::default()
    })
}

pub(crate) fn program(path: &str, arguments: &[&str]) -> Box<Program> {
    let bytes: Vec<u8> = arguments.iter().flat_map(|a| a.bytes().chain([0])).collect();
    Box::new(Program {
        path: path.into(),
        arguments: Arguments { length: bytes.len() as u64, bytes },
        ..Program::default()
    })
}

pub(crate) fn actor(image: ImageId) -> Actor {
    Actor { image, comm: b"acting".to_vec(), euid: 1000, auid: None, session: None }
}

pub(crate) fn fork(image: ImageId, creator: ImageId) -> Observation {
    Observation::Fork { at: image.start, task: task(image, Some(creator)) }
}

pub(crate) fn exec(at: BootNs, image: ImageId, path: &str) -> Observation {
    Observation::Exec { at, task: task(image, None), program: program(path, &[path]) }
}

pub(crate) fn found(at: BootNs, image: ImageId, creator: Option<ImageId>, path: &str) -> Observation {
    Observation::Found {
        at,
        task: task(image, creator),
        program: program(path, &[path]),
        origin: Origin::Found,
    }
}

pub(crate) fn exit(at: BootNs, image: ImageId, status: i32) -> Observation {
    Observation::Exit { at, image, status: Some(status), usage: None }
}

pub(crate) fn rename(at: BootNs, image: ImageId) -> Observation {
    Observation::Rename { at, actor: actor(image), old: b"before".to_vec() }
}

pub(crate) fn privilege(
    at: BootNs,
    operation: &'static str,
    image: ImageId,
    target: Option<ImageId>,
) -> Observation {
    Observation::Privilege(Box::new(Privilege {
        at,
        actor: actor(image),
        credentials: ids(1000),
        operation,
        result: 0,
        target: target.map(|target| Actor { euid: 1001, ..actor(target) }),
        detail: Vec::new(),
    }))
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn connection(socket: u64, at: BootNs, actor: Actor) -> Endpoint {
    Endpoint {
        id: EndpointId { transport: Transport::Tcp, socket, peer: None },
        direction: Direction::Out,
        local: address("10.0.0.1:45678"),
        remote: Some(address("79.125.109.171:6667")),
        actor: Some(actor),
        netns: host().namespaces.net,
        origin: Origin::Event,
        at,
    }
}

pub(crate) fn begins(endpoint: Endpoint) -> Observation {
    Observation::Endpoint(Box::new(endpoint))
}

pub(crate) fn ends(at: BootNs, endpoint: Endpoint, end: EndpointEnd) -> Observation {
    Observation::EndpointEnd { at, endpoint: Box::new(endpoint), end }
}

macro_rules! tables {
    ($($name:ident: $Row:ident;)+) => {
        impl Memory {
            $(pub(crate) fn $name(&self) -> Vec<&$Row> {
                self.rows.values().filter_map(|row| if let Row::$Row(row) = row { Some(&**row) } else { None }).collect()
            })+
        }
    };
}

tables! {
    psinfo: PsInfo;
    netinfo: NetInfo;
    nameinfo: NameInfo;
    privinfo: PrivInfo;
    renameinfo: RenameInfo;
    lossinfo: LossInfo;
    coverage: CoverageInfo;
    hostinfo: HostInfo;
    factinfo: FactInfo;
    netint: NetInt;
    netroute: NetRoute;
    userinfo: UserInfo;
    groupinfo: GroupInfo;
    sessioninfo: SessionInfo;
    queryinfo: QueryInfo;
    alertinfo: AlertInfo;
}

/// Keeps batches as a store does, and panics at what a store would refuse.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) rows: BTreeMap<(usize, i64), Row>,
    last: Option<(i64, Time)>,
}

impl Memory {
    pub(crate) fn append(&mut self, batch: Batch) {
        assert_eq!(batch.id, self.last.map_or(0, |(id, _)| id) + 1, "batches have no gaps");
        let Some(Row::BatchInfo(ledger)) = batch.rows.last() else { panic!("no ledger row") };
        assert_eq!(ledger.rowcount as usize, batch.rows.len() - 1);
        assert_eq!(ledger.endcount as usize, batch.ends.len());
        assert_eq!(ledger.batchid, batch.id);
        self.last = Some((batch.id, ledger.lastevent));
        for row in batch.rows {
            let key = (row.position(), row.key());
            if let Some(old) = self.rows.get(&key) {
                panic!("two rows with one key: {old:?} and {row:?}");
            }
            self.rows.insert(key, row);
        }
        for (key, end) in batch.ends {
            let row = self.rows.get_mut(&(end.position(), key));
            let row = row.unwrap_or_else(|| panic!("no row {key} for {end:?}"));
            assert!(!row.is_ended(), "{row:?} ends twice, by {end:?}");
            assert!(row.set_end(end));
        }
    }

    /// Every row that names an image has the row of that image.
    pub(crate) fn check_references(&self) {
        let images: HashMap<i64, &PsInfo> =
            self.psinfo().into_iter().map(|row| (row.psentity, row)).collect();
        for row in self.rows.values() {
            let psentity = match row {
                Row::NetInfo(row) => row.psentity,
                Row::ExecInfo(row) => Some(row.psentity),
                Row::RenameInfo(row) => Some(row.psentity),
                Row::PrivInfo(row) => Some(row.psentity),
                Row::NameInfo(row) => row.psentity,
                Row::SessionInfo(row) => row.psentity,
                Row::QueryInfo(row) => row.psentity,
                Row::AlertInfo(row) => row.psentity,
                _ => None,
            };
            let target = if let Row::PrivInfo(row) = row { row.targetentity } else { None };
            for psentity in psentity.into_iter().chain(target) {
                assert!(images.contains_key(&psentity), "no image for {row:?}");
            }
        }
    }

    /// Conditions that hold.
    pub(crate) fn conditions(&self) -> Vec<Row> {
        let open = self.rows.values().filter(|row| !row.is_ended());
        open.filter(|row| CONDITIONS.iter().any(|table| table.name == row.table().name)).cloned().collect()
    }

    /// What a store gives to the next run.
    pub(crate) fn resume(&self) -> Resume {
        let boots = self.hostinfo();
        Resume {
            digest: None,
            last_batch: self.last,
            boot: boots.last().map(|row| (row.bootid.clone(), row.bootentity)),
            processes: self
                .psinfo()
                .into_iter()
                .filter(|row| row.end.is_none())
                .map(|row| OpenProcess {
                    psentity: row.psentity,
                    ppsentity: row.ppsentity,
                    pid: row.pid,
                    execs: row.execs,
                    created: row.created,
                })
                .collect(),
            endpoints: self
                .netinfo()
                .into_iter()
                .filter(|row| row.end.is_none())
                .map(|row| {
                    let (ip, port) = if row.direction == "in" {
                        (&row.sourceip, row.sourceport)
                    } else {
                        (&row.destip, row.destport)
                    };
                    OpenEndpoint {
                        endpointinfo: row.endpointinfo,
                        transport: row.transport.to_string(),
                        direction: row.direction.to_string(),
                        socket: row.socket,
                        peer: (row.direction != "listen").then(|| (ip.clone(), port)),
                    }
                })
                .collect(),
            conditions: self.conditions(),
            files: Vec::new(),
            queries: self.queryinfo().iter().filter(|row| row.end.is_none()).map(|row| row.queryid).collect(),
            coverage: self
                .coverage()
                .iter()
                .filter(|row| row.end.is_none())
                .map(|row| row.coverageid)
                .collect(),
        }
    }
}

/// Lets a recorder take observations, stops it, and gives what it stored.
pub(crate) fn record(mut recorder: Recorder, observations: impl IntoIterator<Item = Observation>) -> Memory {
    let mut memory = Memory::default();
    let mut last = 0;
    for observation in observations {
        recorder.observe(observation);
        last += 1;
    }
    memory.append(recorder.stop(last + 1000 * SECOND));
    memory.check_references();
    memory
}

/// One process row as a line: what most tests compare.
pub(crate) fn line(row: &PsInfo) -> String {
    let parent = row.ppsentity.map_or("-".to_owned(), |p| format!("{}", p >> 6 & 63));
    let end = row.end.as_ref().map_or("lives".to_owned(), |end| {
        let status = match (end.exitcode, end.exitsignal) {
            (Some(code), _) => format!(" {code}"),
            (_, Some(signal)) => format!(" signal {signal}"),
            _ => String::new(),
        };
        format!("{}{status}@{}", end.ended, end.destroyed.0 - BOOT)
    });
    format!(
        "{}.{} of {parent} {} {:?} @{} {end}",
        row.pid,
        row.execs,
        row.origin,
        row.command,
        row.created.0 - BOOT
    )
}

pub(crate) fn lines(memory: &Memory) -> Vec<String> {
    memory.psinfo().into_iter().map(line).collect()
}

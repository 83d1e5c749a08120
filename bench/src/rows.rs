//! Made-up rows, like those of a busy host, batch by batch.

use std::{path::Path, sync::Arc};

use luarm_chain::{KeyFile, Sealer};
use luarm_schema::{
    Batch, HostName, Row, Time, Word,
    tables::{BatchInfo, HostInfo, NetInfo, NetInfoEnd, PsInfo, PsInfoEnd},
};

/// The host's machine id.
pub(crate) const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// Rows of a batch when there is much to do: as many as the recorder lets wait.
pub(crate) const BATCH: u64 = 4096;

/// Which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Endpoints.
    Endpoints,
    /// A process and an endpoint in turn.
    Both,
}

/// Makes the batches of one host.
pub(crate) struct Rows {
    mix: Mix,
    made: u64,
    batch: i64,
    names: [Arc<str>; 4],
}

const USERS: [&str; 4] = ["root", "www-data", "postgres", "alice"];
/// 2026-01-01.
const BEGINNING: i64 = 1_767_225_600_000_000;
/// The first microsecond that keys count.
const EPOCH: i64 = 1_577_836_800_000_000;

impl Rows {
    pub(crate) fn new(mix: Mix) -> Self {
        Rows { mix, made: 0, batch: 0, names: USERS.map(Arc::from) }
    }

    /// The next batch, with so many rows and its own.
    pub(crate) fn batch(&mut self, rows: u64) -> Batch {
        self.batch += 1;
        let mut all: Vec<Row> = Vec::with_capacity(rows as usize + 2);
        if self.batch == 1 {
            all.push(host().into());
        }
        for _ in 0..rows {
            let n = self.made;
            self.made += 1;
            all.push(match self.mix {
                Mix::Both if n.is_multiple_of(2) => self.process(n).into(),
                Mix::Both | Mix::Endpoints => self.endpoint(n).into(),
            });
        }
        let created = at(self.made);
        let info = BatchInfo {
            batchid: self.batch,
            run: BEGINNING,
            rowcount: all.len() as i64,
            endcount: 0,
            firstevent: at(self.made - rows),
            lastevent: created,
            created,
            publickey: None,
            nextkey: None,
            digest: None,
            signature: None,
            end: None,
        };
        all.push(info.into());
        Batch { id: self.batch, rows: all, ends: Vec::new(), ..Batch::default() }
    }

    /// The next batch of one host of many.
    pub(crate) fn batch_of(&mut self, host: u64, rows: u64) -> Batch {
        let mut batch = self.batch(rows);
        for row in &mut batch.rows {
            if let Row::HostInfo(info) = row {
                (info.machineid, info.hostname) = of_host(host);
            }
        }
        batch
    }

    fn process(&self, n: u64) -> PsInfo {
        let (user, pid) = (n / 2 % 4, 1000 + (n % 4_000_000) as u32);
        let uid = 1000 * user as u32;
        PsInfo {
            psentity: key(n),
            ppsentity: Some(key(n.saturating_sub(1 + n % 97))),
            origin: Word::Borrowed("exec"),
            username: Arc::clone(&self.names[user as usize]),
            loginname: (user == 3).then(|| Arc::clone(&self.names[3])),
            pid,
            ppid: pid - 1,
            application: format!("worker{}", n % 12),
            command: format!("/usr/bin/worker{}", n % 12),
            script: None,
            argv: Some(format!("worker\n--job\n{n}\n--input\n/srv/data/{}/{n}.json", n % 100)),
            argc: 5,
            argvlength: None,
            cwd: Some("/srv/data".to_owned()),
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid: uid,
            egid: uid,
            sgid: uid,
            fsgid: uid,
            auid: (user == 3).then_some(uid),
            session: (user == 3).then_some(7),
            sid: Some(pid - 1),
            tty: None,
            container: None,
            cgroup: Some("/system.slice/worker.service".to_owned()),
            mntns: None,
            netns: None,
            pidns: None,
            userns: None,
            utsns: None,
            ipcns: None,
            cgroupns: None,
            imagedev: Some(8 << 20 | 1),
            imageinode: Some(131_072 + n % 12),
            imageowner: Some(0),
            imagemode: Some(0o100_755),
            imagestate: None,
            imagesha256: None,
            execs: 1,
            canary: None,
            created: at(n),
            end: Some(PsInfoEnd {
                destroyed: at(n + 20),
                ended: Word::Borrowed("exit"),
                exitcode: Some(0),
                exitsignal: None,
                usercpu: Some(1_200),
                systemcpu: Some(800),
                maxrss: Some(3 << 20),
                bytesread: Some(40_000),
                byteswritten: Some(1_000),
                diskread: Some(0),
                diskwritten: Some(4096),
                pcpu: Some(63.5),
                pmem: Some(0.02),
            }),
        }
    }

    fn endpoint(&self, n: u64) -> NetInfo {
        let user = n / 2 % 4;
        NetInfo {
            endpointinfo: key(n),
            psentity: Some(key(n - n % 2)),
            transport: Word::Borrowed("tcp"),
            direction: Word::Borrowed("out"),
            sourceip: "192.0.2.17".to_owned(),
            sourcefqdn: None,
            sourceport: 32_768 + (n % 28_000) as u16,
            destip: format!("198.51.{}.{}", n / 251 % 100, n % 251),
            destfqdn: Some(HostName(format!("node{}.service.example.org", n % 5000))),
            destport: 443,
            ipversion: 4,
            username: Arc::clone(&self.names[user as usize]),
            loginname: (user == 3).then(|| Arc::clone(&self.names[3])),
            pid: 1000 + (n % 4_000_000) as u32,
            application: format!("worker{}", n % 12),
            uid: 1000 * user as u32,
            auid: (user == 3).then_some(3000),
            session: (user == 3).then_some(7),
            netns: None,
            origin: Word::Borrowed("event"),
            socket: 70_000 + n,
            created: at(n),
            end: Some(NetInfoEnd {
                destroyed: at(n + 20),
                ended: Word::Borrowed("close"),
                result: Some(0),
                bytessent: Some(512),
                bytesreceived: Some(20_480),
                packetssent: Some(12),
                packetsreceived: Some(19),
            }),
        }
    }
}

/// Machine id and name of one host of many.
pub(crate) fn of_host(host: u64) -> (String, String) {
    (format!("{host:032x}"), format!("bench{host}"))
}

/// Seals what that host delivers, whose keys are in `data`.
pub(crate) fn sealer(data: &Path, host: u64) -> anyhow::Result<Sealer> {
    let (machine_id, _) = of_host(host);
    Ok(Sealer::open(KeyFile::open(&data.join("chain.key"))?, &machine_id, 0, None)?.0)
}

/// The instant of the nth event.
fn at(n: u64) -> Time {
    Time(BEGINNING + 150 * n as i64)
}

/// The key of the nth event, as the recorder reckons it.
fn key(n: u64) -> i64 {
    (at(n).0 - EPOCH) << 12 | (n % 64) as i64
}

fn host() -> HostInfo {
    HostInfo {
        bootentity: BEGINNING - EPOCH,
        machineid: MACHINE.to_owned(),
        hostname: "bench".to_owned(),
        os: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.18".to_owned(),
        arch: "x86_64".to_owned(),
        bootid: "f47ac10b-58cc-4372-a567-0e02b2c3d479".to_owned(),
        boottime: Time(BEGINNING),
        timezone: None,
        cmdline: None,
        virtualization: None,
        vendor: None,
        product: None,
        serial: None,
        agentversion: env!("CARGO_PKG_VERSION").to_owned(),
        memory: 24 << 30,
        cpus: 2,
        created: Time(BEGINNING),
        end: None,
    }
}

/// Batches in which some rows end later than in their own.
#[cfg(test)]
pub(crate) fn sample(rows: u64) -> Vec<Batch> {
    use luarm_schema::End;

    let mut source = Rows::new(Mix::Both);
    let mut batches: Vec<Batch> = Vec::new();
    let mut later = Vec::new();
    for _ in 0..3 {
        let mut batch = source.batch(rows);
        batch.ends = std::mem::take(&mut later);
        for row in batch.rows.iter_mut().step_by(3) {
            let key = row.key();
            later.extend(match row {
                Row::PsInfo(process) => process.end.take().map(|end| (key, End::PsInfo(end))),
                Row::NetInfo(endpoint) => endpoint.end.take().map(|end| (key, End::NetInfo(end))),
                _ => None,
            });
        }
        batches.push(batch);
    }
    batches
}

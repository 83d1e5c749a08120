//! How fast batches are appended, indexes included, against SQLite's own prepared-insert loop on a table of the same shape with the same
//! indexes, transactions, durability and checkpoints. Prints the ratio of each round: wall clocks of different runs do not compare.
//!
//! Then what sealing takes: of the processor beside appending, and of the disk.
//!
//! `cargo bench -p luarm-store` loads a million rows; `LUARM_BENCH_ROWS` and `LUARM_BENCH_PAGES` (page sizes to try) change that.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::{
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use luarm_chain::{KeyFile, Sealer};
use luarm_schema::{
    Batch, Dialect, HostName, Row, Sink, Time, Value,
    canonical::{Canonical, md5sum},
    tables::{BatchInfo, NetInfo, NetInfoEnd},
};
use luarm_store::{StoreUrl, Writer};
use rusqlite::{Connection, types::Value as Stored};

const BATCH: i64 = 4096;
const ROUNDS: usize = 3;

fn main() {
    // `cargo test` runs benchmarks too, without this flag.
    if !env::args().any(|a| a == "--bench") {
        return;
    }
    let rows: i64 = env::var("LUARM_BENCH_ROWS").map_or(1_000_000, |n| n.parse().unwrap());
    let pages = env::var("LUARM_BENCH_PAGES").unwrap_or_else(|_| "4096".to_owned());
    for page in pages.split_whitespace() {
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let (raw, store) = (dir.path().join("raw.db"), dir.path().join("store.db"));
            // The one that goes first changes, so that neither always has the emptier disk cache.
            let (mut raw_time, mut store_time) = (Duration::ZERO, Duration::ZERO);
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    raw_time = load_raw(&raw, page, rows);
                } else {
                    store_time = load_store(&store, page, rows);
                }
            }
            let rate = |time: Duration| rows as f64 / time.as_secs_f64();
            let ratio = rate(store_time) / rate(raw_time);
            let size = fs::metadata(&store).unwrap().len() / rows as u64;
            println!(
                "page {page}: store {:.0} rows/s, raw loop {:.0} rows/s, ratio {ratio:.2}, {size} bytes a row",
                rate(store_time),
                rate(raw_time)
            );
            ratios.push(ratio);
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "page {page}: median ratio {:.2}, spread {:.2} to {:.2}",
            ratios[ROUNDS / 2],
            ratios[0],
            ratios[ROUNDS - 1]
        );
    }
    sealing(rows);
}

/// What sealing and keeping manifests add to a load: processor of this thread, which the disk does not blur, and bytes.
fn sealing(rows: i64) {
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let keys = KeyFile::open(&dir.path().join("chain.key")).unwrap();
        let (mut sealer, _) = Sealer::open(keys, "bench", 0, None).unwrap();
        let open = |name: &str| {
            let url = StoreUrl::parse(&format!("sqlite:{}", dir.path().join(name).display())).unwrap();
            Writer::open(&url, "bench").unwrap().0
        };
        let (mut plain, mut sealed) = (open("plain.db"), open("sealed.db"));
        let [mut sealing, mut appending, mut keeping] = [Duration::ZERO; 3];
        for id in 1..=rows / BATCH {
            let mut batch = batch(id);
            appending += processor(|| _ = plain.append(&batch).unwrap());
            sealing += processor(|| sealer.seal(&mut batch).unwrap());
            keeping += processor(|| _ = sealed.append(&batch).unwrap());
        }
        drop((plain, sealed));
        let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len() as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e9 / rows as f64;
        println!(
            "sealing: {:.0} ns a row; appending {:.0} ns, with manifest {:.0} ns; {:.1} bytes a row",
            each(sealing),
            each(appending),
            each(keeping),
            (size("sealed.db") - size("plain.db")) / rows as f64
        );
    }
}

/// The processor time that this thread takes for it.
fn processor(work: impl FnOnce()) -> Duration {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
    };
    let begun = now();
    work();
    now() - begun
}

/// An empty database whose pages have that size, which the store then keeps.
fn empty(path: &Path, page: &str) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!("PRAGMA page_size = {page}; PRAGMA journal_mode = wal; VACUUM;")).unwrap();
    conn
}

fn load_store(path: &Path, page: &str, rows: i64) -> Duration {
    drop(empty(path, page));
    let url = StoreUrl::parse(&format!("sqlite:{}", path.display())).unwrap();
    let (mut writer, _) = Writer::open(&url, "bench").unwrap();
    let mut time = Duration::ZERO;
    for id in 1..=rows / BATCH {
        let batch = batch(id);
        let begun = Instant::now();
        writer.append(&batch).unwrap();
        time += begun.elapsed();
    }
    let begun = Instant::now();
    drop(writer);
    time + begun.elapsed()
}

fn load_raw(path: &Path, page: &str, rows: i64) -> Duration {
    let conn = empty(path, page);
    conn.execute_batch(
        "PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 4096; PRAGMA cache_size = -16384;",
    )
    .unwrap();
    conn.execute_batch(&Dialect::Sqlite.create_table(NetInfo::TABLE)).unwrap();
    for statement in Dialect::Sqlite.create_rest(NetInfo::TABLE) {
        conn.execute_batch(&statement).unwrap();
    }
    let insert = Dialect::Sqlite.insert(NetInfo::TABLE);
    let mut time = Duration::ZERO;
    for id in 1..=rows / BATCH {
        let values: Vec<Vec<Stored>> = batch(id).rows[..BATCH as usize].iter().map(stored).collect();
        let begun = Instant::now();
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        {
            let mut statement = conn.prepare_cached(&insert).unwrap();
            for row in &values {
                for (n, value) in row.iter().enumerate() {
                    statement.raw_bind_parameter(n + 1, value).unwrap();
                }
                statement.raw_execute().unwrap();
            }
        }
        conn.execute_batch("COMMIT").unwrap();
        time += begun.elapsed();
    }
    let begun = Instant::now();
    conn.close().unwrap();
    time + begun.elapsed()
}

/// Rows as a host with some traffic makes them: most have ended, few names and many ports.
fn batch(id: i64) -> Batch {
    let mut rows: Vec<Row> = (0..BATCH).map(|n| endpoint((id - 1) * BATCH + n).into()).collect();
    let info = BatchInfo {
        batchid: id,
        run: 1,
        rowcount: BATCH,
        endcount: 0,
        firstevent: Time(id),
        lastevent: Time(id),
        created: Time(id),
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    rows.push(info.into());
    Batch { id, rows, ends: Vec::new(), ..Batch::default() }
}

fn endpoint(n: i64) -> NetInfo {
    let created = Time(1_800_000_000_000_000 + n * 700);
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).unsigned_abs();
    NetInfo {
        endpointinfo: n,
        psentity: Some(n / 3 * 4096),
        transport: "tcp".into(),
        direction: "out".into(),
        sourceip: "192.168.17.23".to_owned(),
        sourcefqdn: None,
        sourceport: (mixed >> 8) as u16,
        destip: format!("10.{}.{}.{}", mixed % 7, mixed % 31, mixed % 251),
        destfqdn: Some(HostName(format!("host{}.example.org", mixed % 5000))),
        destport: 443,
        ipversion: 4,
        username: "www-data".into(),
        loginname: None,
        pid: 1000 + (n / 3 % 30_000) as u32,
        application: "curl".to_owned(),
        uid: 33,
        auid: None,
        session: None,
        netns: None,
        origin: "event".into(),
        socket: n.unsigned_abs(),
        created,
        end: (n % 50 != 0).then(|| NetInfoEnd {
            destroyed: Time(created.0 + 5000),
            ended: "close".into(),
            result: Some(0),
            bytessent: Some(700),
            bytesreceived: Some(15_000),
            packetssent: Some(9),
            packetsreceived: Some(14),
        }),
    }
}

/// What the store binds for a row.
fn stored(row: &Row) -> Vec<Stored> {
    struct Values(Vec<Stored>);
    impl Sink for Values {
        fn put(&mut self, value: Value<'_>) {
            self.0.push(match value {
                Value::Null => Stored::Null,
                Value::Int(n) => Stored::Integer(n),
                Value::Real(x) => Stored::Real(x),
                Value::Text(s) => Stored::Text(s.to_owned()),
                Value::Time(t) => Stored::Text(t.to_string()),
            });
        }
    }
    let mut canonical = Canonical::default();
    row.begin(&mut canonical);
    let mut values = Values(vec![Stored::Integer(1)]);
    row.begin(&mut values);
    let ended = row.end(&mut values);
    let sum = String::from_utf8(md5sum(&canonical.0).to_vec()).unwrap();
    values.0.extend([
        Stored::Text(sum),
        Stored::Integer(1),
        if ended { Stored::Integer(1) } else { Stored::Null },
    ]);
    values.0
}

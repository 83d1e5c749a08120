//! How fast a file is verified: rows per second, and for each second of processor time.
//!
//! `cargo bench -p luarm-store --bench verify` fills a store with two million rows of processes, endpoints and files, half of them ended by a later batch;
//! `LUARM_BENCH_ROWS` changes that, `LUARM_BENCH_STORE` keeps the file there.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::{
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use luarm_chain::{
    KeyFile, Sealer,
    verify::{Options, Progress, Trouble, verify},
};
use luarm_schema::{
    Batch, End, Kind, Role, Row, Source, TableDef, Time, Value,
    tables::{BatchInfo, FileInfo, HostInfo, NetInfo, PsInfo},
};
use luarm_store::{Evidence, StoreUrl, Writer};

const BATCH: i64 = 2048;
const ROUNDS: usize = 3;
const TABLES: [&TableDef; 3] = [PsInfo::TABLE, NetInfo::TABLE, FileInfo::TABLE];

fn main() {
    // `cargo test` runs benchmarks too, without this flag.
    if !env::args().any(|a| a == "--bench") {
        return;
    }
    let rows: i64 = env::var("LUARM_BENCH_ROWS").map_or(2_000_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = env::var_os("LUARM_BENCH_STORE").map_or_else(|| dir.path().join("luarm.db"), PathBuf::from);
    let url = StoreUrl::parse(&format!("sqlite:{}", path.display())).unwrap();
    if !path.exists() {
        fill(&url, dir.path(), rows);
    }
    for _ in 0..ROUNDS {
        for threads in [1, 2] {
            let options = Options { threads, ..Options::default() };
            let (begun, used) = (Instant::now(), processor());
            let open = || Evidence::open(&url).map_err(Trouble::from);
            let report = verify(&open, &options, &Progress::default()).unwrap();
            let (time, used) = (begun.elapsed(), processor() - used);
            assert!(report.is_intact(), "{:?}", report.findings.first());
            println!(
                "{threads} threads: {} rows in {:.2} s, {:.0} rows a second, {:.0} for a second of one processor",
                report.rows,
                time.as_secs_f64(),
                report.rows as f64 / time.as_secs_f64(),
                report.rows as f64 / used.as_secs_f64()
            );
        }
    }
}

fn processor() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

fn fill(url: &StoreUrl, dir: &Path, rows: i64) {
    let keys = KeyFile::open(&dir.join("chain.key")).unwrap();
    let (mut sealer, _) = Sealer::open(keys, "bench", 0, None).unwrap();
    let (mut writer, _) = Writer::open(url, "bench").unwrap();
    let mut lasting: Vec<(&'static TableDef, i64)> = Vec::new();
    let mut number = 0;
    for id in 1..=(rows + BATCH - 1) / BATCH {
        let mut all = Vec::new();
        if id == 1 {
            all.push(row(HostInfo::TABLE, 1));
        }
        let ends: Vec<(i64, End)> = lasting.drain(..).map(|(table, key)| (key, end(table, key))).collect();
        for _ in 0..BATCH.min(rows - number) {
            number += 1;
            let table = TABLES[(number % 3) as usize];
            let mut row = row(table, number);
            if number % 2 == 0 {
                row.set_end(end(table, number));
            } else {
                lasting.push((table, number));
            }
            all.push(row);
        }
        let info = BatchInfo {
            batchid: id,
            run: 1,
            rowcount: all.len() as i64,
            endcount: ends.len() as i64,
            firstevent: Time(number),
            lastevent: Time(number),
            created: Time(number),
            publickey: None,
            nextkey: None,
            digest: None,
            signature: None,
            end: None,
        };
        all.push(info.into());
        let mut batch = Batch { id, rows: all, ends, ..Batch::default() };
        sealer.seal(&mut batch).unwrap();
        writer.append(&batch).unwrap();
    }
}

/// Values as they are in such rows: two thirds of what may be NULL are there, texts have 24 bytes.
struct Values<'a> {
    columns: std::vec::IntoIter<&'a luarm_schema::Column>,
    key: (&'a str, i64),
    text: String,
}

impl<'a> Values<'a> {
    fn new(table: &'a TableDef, role: Role, key: i64) -> Self {
        let columns: Vec<_> = table.columns.iter().filter(|column| column.role == role).collect();
        Values { columns: columns.into_iter(), key: (table.key, key), text: String::new() }
    }
}

impl Source for Values<'_> {
    fn take(&mut self) -> Value<'_> {
        let Some(column) = self.columns.next() else { return Value::Null };
        let n = self.key.1.wrapping_add(column.name.len() as i64 * 7 + self.columns.len() as i64);
        if column.name == self.key.0 {
            return Value::Int(self.key.1);
        }
        if column.name == "machineid" {
            return Value::Text("bench");
        }
        match column.kind {
            _ if column.null && column.role == Role::Begin && n % 3 == 0 => Value::Null,
            Kind::Big | Kind::Int | Kind::Small => Value::Int(n % 30_000),
            Kind::Real => Value::Real(n as f64 / 7.0),
            Kind::Text | Kind::Name => {
                self.text = format!("/usr/lib/program{:08}", n % 10_000);
                Value::Text(&self.text)
            }
            Kind::Time => Value::Time(Time(1_800_000_000_000_000 + self.key.1 * 1_000)),
        }
    }
}

fn row(table: &'static TableDef, key: i64) -> Row {
    Row::read(table, &mut Values::new(table, Role::Begin, key)).unwrap()
}

fn end(table: &'static TableDef, key: i64) -> End {
    End::read(table, &mut Values::new(table, Role::End, key)).unwrap()
}

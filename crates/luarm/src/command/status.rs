//! `luarm status`: how the store is, and the recorder that writes it.

mod observed;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use luarm_hunt::Format;
use luarm_link::{
    agent::Outbox,
    identity::{self, Identity},
};
use luarm_schema::Time;
use luarm_store::{Cell, Host, OVERDUE, Presence, QueryError, RowSink, Source, StoreUrl};

use crate::{
    cli::{Answering, Asked},
    config::{Config, Lifetime, Located},
    control::{self, ControlError, LinkVitals, Vitals},
    witness::{self, Witness},
};

const DAY: i64 = 86_400_000_000;

/// Show hosts, coverage, losses and rows in the store, and the rates and lag of a running recorder
///
/// One row for each item: the host it belongs to, what it is about, its name, its value. The state of a host is live; stopped, its recorder said that
/// it stops; or overdue, it fell silent without a word. Its last sign of life is told by its own clock. "observed" is the share of the time, from 0
/// to 1, in which every event of a class was watched, since the host's recorder began and in the last day; "sampled", in which what was there was
/// looked at.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    asked: Asked,
    /// table, vertical, csv, json or jsonl [default: table]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// A host that fell silent for so long, without saying that its recorder stops, is overdue, such as 90s or 15m [default: 3m]
    #[arg(long, value_name = "TIME")]
    overdue: Option<Lifetime>,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let format = options.format.or(config.format).unwrap_or_default();
    let asked = options.asked.locate(config);
    let mut report = Report::default();
    if let Answering::Store(located) = &asked
        && (report.recorder(located) || report.agent(located)?)
    {
        report.print(format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let patience = options.overdue.or(config.overdue).map_or(OVERDUE, |time| time.0);
    let mut source = asked.open_plain()?;
    let witness = match &asked {
        Answering::Store(located) => Some(Witness::new(&located.data, &located.store)),
        Answering::Server(..) => None,
    };
    let told = witness.and_then(|mut witness| witness.ask(&mut *source, ("status", None), "luarm status"));
    let result = report.store(&mut *source, patience);
    let ended = result.as_ref().map_err(|error| QueryError::Statement(format!("{error:#}")));
    witness::ended(&mut *source, told, &ended, report.0.len() as u64);
    result?;
    report.print(format)?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    /// What is stored of each host, and in all.
    fn store(&mut self, source: &mut dyn Source, patience: Duration) -> anyhow::Result<()> {
        let hosts = source.hosts()?;
        for host in hosts {
            let of_host = || format!("host {}", host.name);
            self.presence(source, &host, patience).with_context(of_host)?;
            self.host(source, &host.name, host.number).with_context(of_host)?;
            self.observed(source, &host.name, host.number).with_context(of_host)?;
        }
        self.tables(source)?;
        self.number(None, "store", "bytes", source.size()?);
        Ok(())
    }
}

/// The items, in the order in which they are shown.
#[derive(Default)]
struct Report(Vec<Item>);

struct Item {
    host: Option<String>,
    about: &'static str,
    item: String,
    value: Value,
}

impl Item {
    fn cells(&self) -> [Cell<'_>; 4] {
        let value = match &self.value {
            Value::Number(number) => Cell::Integer(*number),
            Value::Rate(number) => Cell::Real((number * 10.0).round() / 10.0),
            // Down, so that 1 is all of it and nothing else.
            Value::Share(share) => Cell::Real((share * 1e6).floor() / 1e6),
            Value::Text(text) => Cell::Text(text),
        };
        [
            self.host.as_deref().map_or(Cell::Null, Cell::Text),
            Cell::Text(self.about),
            Cell::Text(&self.item),
            value,
        ]
    }
}

enum Value {
    Number(i64),
    Rate(f64),
    Share(f64),
    Text(String),
}

impl Report {
    fn add(&mut self, host: Option<&str>, about: &'static str, item: impl Into<String>, value: Value) {
        self.0.push(Item { host: host.map(str::to_owned), about, item: item.into(), value });
    }

    fn text(&mut self, host: Option<&str>, about: &'static str, item: &str, value: impl Into<String>) {
        self.add(host, about, item, Value::Text(value.into()));
    }

    fn number(&mut self, host: Option<&str>, about: &'static str, item: &str, value: u64) {
        self.add(host, about, item, Value::Number(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    /// The recorder on the data directory, if it runs, may be asked, and writes this very store. Gives whether it is an agent, whose store is
    /// elsewhere.
    fn recorder(&mut self, located: &Located) -> bool {
        match control::status(&located.data) {
            Ok(vitals) if vitals.link.is_some() => {
                self.vitals(&vitals);
                return true;
            }
            Ok(vitals) if vitals.store == located.store.to_string() => self.vitals(&vitals),
            Ok(vitals) => self.text(None, "recorder", "running", format!("yes, into {}", vitals.store)),
            Err(ControlError::NotRunning { .. }) => self.text(None, "recorder", "running", "no"),
            Err(error) => self.text(None, "recorder", "running", format!("not known: {error}")),
        }
        false
    }

    /// The agent of the data directory, which does not run: what waits in its spool. Gives whether there is one.
    fn agent(&mut self, located: &Located) -> anyhow::Result<bool> {
        let spool = identity::spool(&located.data);
        let own = located.store == StoreUrl::Sqlite(located.data.join("luarm.db"));
        if !own || !spool.exists() {
            return Ok(false);
        }
        let Some(identity) = Identity::find(&located.data)? else { return Ok(false) };
        let (outbox, _) = Outbox::open(&spool, identity.facts().after)?;
        const ABOUT: &str = "server";
        self.text(None, ABOUT, "joined", &identity.facts().server);
        self.add(None, ABOUT, "delivered batch", Value::Number(outbox.acknowledged()));
        self.add(None, ABOUT, "waiting batches", Value::Number(outbox.last() - outbox.acknowledged()));
        self.number(None, ABOUT, "spool bytes", outbox.bytes());
        self.text(None, ABOUT, "certificate until", Time(identity.facts().expires).to_string());
        Ok(true)
    }

    fn link(&mut self, link: &LinkVitals) {
        const ABOUT: &str = "server";
        self.text(None, ABOUT, "connected", link.connected.as_deref().unwrap_or("no"));
        self.text(None, ABOUT, "trouble", link.trouble.as_deref().unwrap_or("none"));
        self.add(None, ABOUT, "delivered batch", Value::Number(link.delivered));
        self.add(None, ABOUT, "waiting batches", Value::Number(link.waiting));
        self.number(None, ABOUT, "lag ms", link.lag_ms);
        self.number(None, ABOUT, "spool bytes", link.spool_bytes);
        self.number(None, ABOUT, "spool limit", link.spool_limit);
        self.text(None, ABOUT, "certificate until", link.expires.as_deref().unwrap_or("not known"));
    }

    fn vitals(&mut self, vitals: &Vitals) {
        const ABOUT: &str = "recorder";
        self.text(None, ABOUT, "running", "yes");
        self.number(None, ABOUT, "pid", vitals.pid.into());
        self.text(None, ABOUT, "version", &vitals.version);
        self.text(None, ABOUT, "host", &vitals.host);
        self.text(None, ABOUT, "sensor", &vitals.sensor);
        self.number(None, ABOUT, "uptime s", vitals.uptime);
        self.number(None, ABOUT, "events", vitals.events);
        self.add(None, ABOUT, "events per s", Value::Rate(vitals.events_per_second));
        self.number(None, ABOUT, "rows", vitals.rows);
        self.add(None, ABOUT, "rows per s", Value::Rate(vitals.rows_per_second));
        self.number(None, ABOUT, "sensor lag ms", vitals.sensor_lag_ms);
        self.number(None, ABOUT, "store lag ms", vitals.store_lag_ms);
        self.number(None, ABOUT, "sensor queue bytes", vitals.queued_bytes);
        self.number(None, ABOUT, "pending bytes", vitals.pending_bytes);
        self.number(None, ABOUT, "backlog bytes", vitals.backlog_bytes);
        self.number(None, ABOUT, "memory limit", vitals.memory_limit);
        self.number(None, ABOUT, "lost rows", vitals.lost_rows);
        self.text(None, ABOUT, "trouble", vitals.trouble.as_deref().unwrap_or("none"));
        self.number(None, ABOUT, "memory bytes", vitals.memory);
        self.text(None, ABOUT, "canary", &vitals.canary);
        for (class, reason) in &vitals.missing {
            self.text(None, "canary", class, reason);
        }
        if let Some(link) = &vitals.link {
            self.link(link);
        }
    }

    /// Whether a host is heard of.
    fn presence(&mut self, source: &mut dyn Source, host: &Host, patience: Duration) -> anyhow::Result<()> {
        let Some(presence) = Presence::of(source, host.number)? else { return Ok(()) };
        let (name, now) = (Some(host.name.as_str()), Time::now());
        self.text(name, "host", "state", presence.state(now, patience).to_string());
        self.text(name, "host", "last seen", presence.last_seen.to_string());
        self.number(name, "host", "silent s", presence.silent(now).as_secs());
        Ok(())
    }

    fn host(&mut self, source: &mut dyn Source, name: &str, number: i64) -> anyhow::Result<()> {
        let host = Some(name);
        let boot = "SELECT machineid, os, kernel, arch, boottime, agentversion FROM hostinfo";
        for row in rows(source, &format!("{boot} WHERE host = {number} ORDER BY bootentity DESC LIMIT 1"))? {
            let items = ["machine id", "system", "kernel", "architecture", "booted", "luarm"];
            for (item, value) in items.into_iter().zip(row) {
                self.add(host, "host", item, value);
            }
        }
        let batch = "SELECT batchid, created, lastevent FROM batchinfo";
        for row in rows(source, &format!("{batch} WHERE host = {number} ORDER BY batchid DESC LIMIT 1"))? {
            for (item, value) in ["last batch", "stored", "complete until"].into_iter().zip(row) {
                self.add(host, "host", item, value);
            }
        }
        // Before that only what had not ended is there, where rows are kept for a time.
        let first = format!(
            "SELECT coalesce((SELECT max(beforetime) FROM retentioninfo WHERE host = {number}), (SELECT firstevent FROM batchinfo WHERE host = {number} ORDER BY batchid LIMIT 1))"
        );
        for value in rows(source, &first)?.into_iter().flatten() {
            self.add(host, "host", "reaches back to", value);
        }
        let open = "SELECT class, state || CASE sensor WHEN 'none' THEN '' ELSE ' by ' || sensor END || coalesce(': ' || reason, '') \
                    FROM coverageinfo";
        for row in
            rows(source, &format!("{open} WHERE host = {number} AND destroyed IS NULL ORDER BY class"))?
        {
            self.named(host, "coverage", row);
        }
        let lost = "SELECT class || ' ' || cause, sum(count) FROM lossinfo";
        for row in rows(source, &format!("{lost} WHERE host = {number} GROUP BY 1 ORDER BY 1"))? {
            self.named(host, "lost", row);
        }
        let day = Time(Time::now().0 - DAY);
        let recent = format!("{lost} WHERE host = {number} AND until >= '{day}' GROUP BY 1 ORDER BY 1");
        for row in rows(source, &recent)? {
            self.named(host, "lost in the last day", row);
        }
        Ok(())
    }

    /// Adds a row that has a name and a value.
    fn named(&mut self, host: Option<&str>, about: &'static str, row: Vec<Value>) {
        let mut row = row.into_iter();
        if let (Some(Value::Text(item)), Some(value)) = (row.next(), row.next()) {
            self.add(host, about, item, value);
        }
    }

    fn tables(&mut self, source: &mut dyn Source) -> anyhow::Result<()> {
        for (table, rows) in source.row_counts()? {
            self.add(None, "rows", table, Value::Number(rows));
        }
        Ok(())
    }

    fn print(&self, format: Format) -> anyhow::Result<()> {
        let rows: Vec<_> = self.0.iter().map(Item::cells).collect();
        let stdout = io::stdout();
        let options = luarm_hunt::Options { format, terminal: stdout.is_terminal() };
        luarm_hunt::write_rows(options, &mut stdout.lock(), &["host", "about", "item", "value"], rows)?;
        Ok(())
    }
}

/// Collects an answer.
#[derive(Default)]
struct Collected(Vec<Vec<Value>>);

impl RowSink for Collected {
    fn columns(&mut self, _: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let value = |cell: &Cell<'_>| match cell {
            Cell::Null | Cell::Blob(_) => Value::Text(String::new()),
            Cell::Integer(number) => Value::Number(*number),
            Cell::Real(number) => Value::Rate(*number),
            Cell::Text(text) => Value::Text((*text).to_owned()),
        };
        self.0.push(cells.iter().map(value).collect());
        Ok(())
    }
}

fn rows(source: &mut dyn Source, query: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let mut collected = Collected::default();
    source.query(query, &mut collected)?;
    Ok(collected.0)
}

//! What the store remembers of a host: what a recorder needs when it starts.

use luarm_chain::link::Tip;
use luarm_schema::{
    CONDITIONS, OpenEndpoint, OpenFile, OpenProcess, Resume, Role, Row, Source, TableDef, Time, Value,
};

use super::{Datum, Failure, Session};

/// Reads what the store remembers of the host of that number. A row that cannot be read is passed over: its end will not be set.
pub(crate) async fn resume<S: Session>(session: &mut S, host: i64) -> Result<Resume, Failure> {
    let last = format!(
        "SELECT batchid, lastevent, digest FROM batchinfo WHERE host = {host} ORDER BY batchid DESC LIMIT 1"
    );
    let last = first(session, &last, |c| Some(((c.int()?, c.time()?), c.text()))).await?;
    let (last_batch, digest) = last.map_or((None, None), |(last, digest)| (Some(last), digest));
    let boot = format!(
        "SELECT bootid, bootentity FROM hostinfo WHERE host = {host} ORDER BY batch DESC, bootentity DESC LIMIT 1"
    );
    let boot = first(session, &boot, |c| Some((c.text()?, c.int()?))).await?;
    let open = |columns: &str, table: &str, key: &str| {
        format!("SELECT {columns} FROM {table} WHERE host = {host} AND destroyed IS NULL ORDER BY {key}")
    };
    let sql = open("psentity, ppsentity, pid, execs, created", "psinfo", "psentity");
    let processes = all(session, &sql, |c| {
        Some(OpenProcess {
            psentity: c.int()?,
            ppsentity: c.next().int(),
            pid: c.int()?.try_into().ok()?,
            execs: c.int()?.try_into().ok()?,
            created: c.time()?,
        })
    })
    .await?;
    let columns = "endpointinfo, transport, direction, socket, sourceip, sourceport, destip, destport";
    let endpoints = all(session, &open(columns, "netinfo", "endpointinfo"), endpoint).await?;
    let files = all(session, &open("fileaccessid, created", "fileinfo", "fileaccessid"), |c| {
        Some(OpenFile { fileaccessid: c.int()?, created: c.time()? })
    })
    .await?;
    let coverage = all(session, &open("coverageid", "coverageinfo", "coverageid"), number).await?;
    // Those that a server answered are its own.
    let sql = open("queryid", "queryinfo", "queryid").replace(" ORDER", " AND batch > 0 ORDER");
    let queries = all(session, &sql, number).await?;
    let mut conditions = Vec::new();
    for table in CONDITIONS {
        conditions.extend(open_rows(session, host, table).await?);
    }
    Ok(Resume { last_batch, digest, boot, processes, endpoints, files, coverage, queries, conditions })
}

/// The last batch that is stored, 0 for none.
pub(crate) async fn last_batch<S: Session>(session: &mut S, host: i64) -> Result<i64, Failure> {
    let sql = format!("SELECT max(batchid) FROM batchinfo WHERE host = {host}");
    Ok(first(session, &sql, number).await?.unwrap_or(0))
}

/// Number and digest of the host's last batch; 0 and `None` if it has none.
pub(crate) async fn last<S: Session>(session: &mut S, host: i64) -> Result<(i64, Option<String>), Failure> {
    let sql =
        format!("SELECT batchid, digest FROM batchinfo WHERE host = {host} ORDER BY batchid DESC LIMIT 1");
    let last = first(session, &sql, |c| Some((c.int()?, c.text()))).await?;
    Ok(last.unwrap_or((0, None)))
}

/// Where the chain of the host stands after that batch; `None` if it was not sealed.
pub(crate) async fn tip<S: Session>(session: &mut S, host: i64, batch: i64) -> Result<Option<Tip>, Failure> {
    let sql = format!("SELECT digest, nextkey FROM batchinfo WHERE host = {host} AND batchid = {batch}");
    let read = |c: &mut Cells<'_>| Some((c.text(), c.text()));
    let texts = first(session, &sql, read).await?;
    Ok(texts.and_then(|(digest, key)| Tip::read(digest.as_deref(), key.as_deref())))
}

async fn open_rows<S: Session>(
    session: &mut S,
    host: i64,
    table: &'static TableDef,
) -> Result<Vec<Row>, Failure> {
    let begin = table.columns.iter().filter(|c| c.role == Role::Begin).map(|c| c.name);
    let sql = format!(
        "SELECT {} FROM {} WHERE host = {host} AND destroyed IS NULL ORDER BY {}",
        begin.collect::<Vec<_>>().join(", "),
        table.name,
        table.key
    );
    all(session, &sql, |cells| {
        let read = Row::read(table, cells);
        if read.is_none() {
            tracing::warn!(table = table.name, "an open row cannot be read, and stays open");
        }
        read
    })
    .await
}

/// The values of a row, one after the other.
struct Cells<'a>(std::slice::Iter<'a, Datum>);

impl Cells<'_> {
    fn next(&mut self) -> &Datum {
        self.0.next().unwrap_or(&Datum::Null)
    }

    fn int(&mut self) -> Option<i64> {
        self.next().int()
    }

    fn text(&mut self) -> Option<String> {
        self.next().text().map(str::to_owned)
    }

    fn time(&mut self) -> Option<Time> {
        match self.next() {
            Datum::Time(time) => Some(*time),
            _ => None,
        }
    }
}

impl Source for Cells<'_> {
    fn take(&mut self) -> Value<'_> {
        self.next().value()
    }
}

fn number(c: &mut Cells<'_>) -> Option<i64> {
    c.int()
}

/// The peer is the source of what came in, and the target of what went out.
fn endpoint(c: &mut Cells<'_>) -> Option<OpenEndpoint> {
    let (endpointinfo, transport, direction) = (c.int()?, c.text()?, c.text()?);
    // Cookies fit 63 bits: the schema stores a larger number as the largest.
    let socket = c.int()?.try_into().unwrap_or(0);
    let mut address = || Some((c.text()?, c.int()?.try_into().ok()?));
    let (source, dest) = (address()?, address()?);
    let peer = match direction.as_str() {
        "out" => Some(dest),
        "in" => Some(source),
        _ => None,
    };
    Some(OpenEndpoint { endpointinfo, transport, direction, socket, peer })
}

async fn all<S: Session, T>(
    session: &mut S,
    sql: &str,
    mut read: impl FnMut(&mut Cells<'_>) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let rows = session.ask(sql, &[]).await?;
    Ok(rows.iter().filter_map(|row| read(&mut Cells(row.iter()))).collect())
}

async fn first<S: Session, T>(
    session: &mut S,
    sql: &str,
    read: impl FnMut(&mut Cells<'_>) -> Option<T>,
) -> Result<Option<T>, Failure> {
    Ok(all(session, sql, read).await?.pop())
}

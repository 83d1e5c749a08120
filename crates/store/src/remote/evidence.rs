//! Reading a server's database again, to be verified.

use std::time::Duration;

use luarm_chain::{
    is_server,
    verify::{Entry, History, HostFacts, LedgerRow, Portion, Proof, StoredManifest, Trouble},
};
use luarm_schema::{
    Dialect, Kind, TableDef, Value,
    tables::{BatchInfo, HostInfo},
};

use super::{Connection, Datum, Keeping, Session, registry};
use crate::{
    StoreError, StoreUrl,
    evidence::{PAGE, columns, misfit},
};

/// How long a page may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Rows of a page.
const ROWS: usize = 4096;
/// Hosts that are found at a time; engines go no further than a thousand.
const HOSTS: usize = 500;
/// Manifests of a page.
const MANIFESTS: i64 = 8;

/// A connection that reads a database to be verified.
pub(crate) struct Evidence<S: Session> {
    connection: Connection<S>,
}

impl<S: Session> Evidence<S> {
    pub(crate) fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Ok(Evidence { connection: Connection::open(url, Keeping::Reading)?.patient() })
    }

    fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Datum>>, Trouble> {
        let asked = async |session: &mut S| session.ask(sql, &[]).await;
        let answer = self.connection.with(Some(LIMIT), asked);
        answer.map_err(|failure| failure.of("read", &self.connection.url).into())
    }

    /// Asks for stored rows of a table; gives how many there are, and the last one's key.
    fn stored(
        &mut self,
        table: &'static TableDef,
        filter: &str,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(usize, Option<i64>), Trouble> {
        let (names, kinds) = columns(table);
        // The view has them all, and is what an account may select from.
        let rows = self.ask(&format!("SELECT {names} FROM {} WHERE {filter}", table.name))?;
        let key = table.stored().position(|column| column.name == table.key).unwrap_or_default();
        let mut values = Vec::with_capacity(kinds.len());
        for row in &rows {
            values.clear();
            values.extend(kinds.iter().zip(row).map(|(kind, datum)| value(*kind, datum)));
            each(&values);
        }
        Ok((rows.len(), rows.last().and_then(|row| row.get(key)).and_then(Datum::int)))
    }

    /// The numbers of hosts in a table, each once: found one after the other in the index, whatever number of rows each has.
    fn numbers(&mut self, table: &str) -> Result<Vec<i64>, Trouble> {
        let (mut all, mut last) = (Vec::new(), i64::from(i32::MIN) - 1);
        loop {
            let rows = self.ask(&format!(
                "WITH RECURSIVE found AS (SELECT min(host) AS host, 1 AS n FROM {table} WHERE host > {last} UNION ALL \
                 SELECT (SELECT min(host) FROM {table} WHERE host > found.host), n + 1 FROM found \
                 WHERE found.host IS NOT NULL AND n < {HOSTS}) SELECT host FROM found WHERE host IS NOT NULL ORDER BY host"
            ))?;
            all.extend(rows.iter().filter_map(|row| row.first().and_then(Datum::int)));
            match all.last() {
                Some(number) if rows.len() == HOSTS => last = *number,
                _ => return Ok(all),
            }
        }
    }

    fn hexadecimal(column: &str) -> String {
        match S::DIALECT {
            Dialect::Mysql => format!("hex({column})"),
            _ => format!("encode({column}, 'hex')"),
        }
    }
}

impl<S: Session> History for Evidence<S> {
    fn hosts(&mut self) -> Result<Vec<HostFacts>, Trouble> {
        let mut numbers = self.numbers(BatchInfo::TABLE.name)?;
        numbers.extend(self.numbers("luarmproof")?);
        let known = async |session: &mut S| registry::all(session).await;
        let known = self.connection.with(Some(LIMIT), known);
        let known = known.map_err(|failure| Trouble::from(failure.of("read", &self.connection.url)))?;
        // One that has not sealed its first rows yet is known as well.
        numbers.extend(known.iter().filter(|known| is_server(&known.machine_id)).map(|known| known.host));
        numbers.sort_unstable();
        numbers.dedup();
        let mut all = Vec::with_capacity(numbers.len());
        for number in numbers {
            let registered = known.iter().find(|known| known.host == number);
            let mut machine_ids: Vec<String> =
                registered.map(|known| known.machine_id.clone()).into_iter().collect();
            let name = registered.map_or_else(|| number.to_string(), |known| known.name.clone());
            let sql =
                format!("SELECT DISTINCT machineid FROM {} WHERE host = {number}", HostInfo::TABLE.name);
            for row in self.ask(&sql)? {
                if let Some(id) =
                    row.first().and_then(Datum::text).filter(|id| machine_ids.iter().all(|m| m != id))
                {
                    machine_ids.push(id.to_owned());
                }
            }
            all.push(HostFacts { number, name, machine_ids });
        }
        Ok(all)
    }

    fn entries(&mut self, host: i64, after: i64) -> Result<Vec<Entry>, Trouble> {
        let mut rows = Vec::new();
        let filter = format!("host = {host}{} ORDER BY batchid LIMIT {PAGE}", above("batchid", after));
        self.stored(BatchInfo::TABLE, &filter, &mut |values| rows.extend(LedgerRow::read(values)))?;
        let [root, refused, receipt, signer] =
            ["root", "refused", "receipt", "signer"].map(Self::hexadecimal);
        let sql = format!(
            "SELECT batch, CASE WHEN manifest IS NULL THEN 0 ELSE 1 END, {root}, {refused}, received, {receipt}, {signer} FROM luarmproof \
             WHERE host = {host}{} ORDER BY batch LIMIT {PAGE}",
            above("batch", after)
        );
        let proofs = self.ask(&sql)?;
        let proof = |row: &Vec<Datum>| match &row[..] {
            [batch, has_manifest, root, refused, received, receipt, signer] => {
                let proof = Proof {
                    has_manifest: has_manifest.int() == Some(1),
                    root: bytes(root).unwrap_or_default(),
                    refused: bytes(refused),
                    received: received.int(),
                    receipt: bytes(receipt),
                    signer: bytes(signer),
                };
                Some((batch.int()?, proof))
            }
            _ => None,
        };
        Ok(Entry::pair(rows, proofs.iter().filter_map(proof).collect(), PAGE))
    }

    fn last_batch(&mut self, host: i64) -> Result<i64, Trouble> {
        let rows =
            self.ask(&format!("SELECT max(batchid) FROM {} WHERE host = {host}", BatchInfo::TABLE.name))?;
        Ok(rows.first().and_then(|row| row.first()).and_then(Datum::int).unwrap_or(0))
    }

    fn manifests(
        &mut self,
        host: i64,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(StoredManifest<'_>),
    ) -> Result<(), Trouble> {
        let [manifest, refused] = ["manifest", "refused"].map(Self::hexadecimal);
        let mut from = Some(from);
        while let Some(first) = from {
            let sql = format!(
                "SELECT batch, {manifest}, {refused} FROM luarmproof WHERE host = {host} AND batch >= {first} AND batch <= {to} \
                 ORDER BY batch LIMIT {MANIFESTS}"
            );
            from = None;
            for row in self.ask(&sql)? {
                if let [Datum::Int(batch), manifest, refused] = &row[..] {
                    each((*batch, bytes(manifest).as_deref(), bytes(refused).as_deref()));
                    from = batch.checked_add(1).filter(|next| *next <= to);
                }
            }
        }
        Ok(())
    }

    fn portions(&mut self, table: &'static TableDef, host: Option<i64>) -> Result<Vec<Portion>, Trouble> {
        let hosts = match host {
            Some(host) => vec![host],
            None => self.numbers(table.name)?,
        };
        let portion = |host| Portion { host: Some(host), from: i64::MIN, to: i64::MAX };
        Ok(hosts.into_iter().map(portion).collect())
    }

    fn rows(
        &mut self,
        table: &'static TableDef,
        portion: Portion,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble> {
        let (key, host) = (table.key, portion.host.unwrap_or_default());
        let mut after = portion.from.saturating_sub(1);
        loop {
            let after_it = above(key, after);
            let filter =
                format!("host = {host}{after_it} AND {key} <= {} ORDER BY {key} LIMIT {ROWS}", portion.to);
            match self.stored(table, &filter, each)? {
                (ROWS, Some(last)) if last < portion.to => after = last,
                _ => return Ok(()),
            }
        }
    }

    fn row(
        &mut self,
        table: &'static TableDef,
        host: i64,
        key: i64,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble> {
        self.stored(table, &format!("host = {host} AND {} = {key}", table.key), each).map(drop)
    }
}

/// Whatever is above that number. The lowest one is no literal of an engine's integers, and nothing is to be left out.
fn above(column: &str, number: i64) -> String {
    match number {
        i64::MIN => String::new(),
        number => format!(" AND {column} > {number}"),
    }
}

fn value(kind: Kind, datum: &Datum) -> Value<'_> {
    match (kind, datum) {
        (_, Datum::Null)
        | (Kind::Big | Kind::Int | Kind::Small, Datum::Int(_))
        | (Kind::Real, Datum::Real(_))
        | (Kind::Text | Kind::Name, Datum::Text(_))
        | (Kind::Time, Datum::Time(_)) => datum.value(),
        _ => misfit(kind),
    }
}

/// The bytes that hexadecimal digits stand for.
fn bytes(datum: &Datum) -> Option<Vec<u8>> {
    let text = datum.text()?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

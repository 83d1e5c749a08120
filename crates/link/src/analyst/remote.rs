//! Asking a server.

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use luarm_schema::Time;
use luarm_store::{Cell, Host, QueryError, RowSink, Source};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    LinkError,
    agent::{ServerUrl, connect, join},
    identity::Identity,
    packed::{MOST_ANSWER, MOST_QUESTION},
    proto::{
        Answer, Cell as Sent, Failure, Listing, Question, answer::What as Said, cell::Value, failure::Kind,
        inquiry_client::InquiryClient, question::What,
    },
};

/// A server that answers as a store does.
pub struct Remote {
    // First: what runs on the runtime ends before it.
    client: InquiryClient<Channel>,
    runtime: Runtime,
    url: ServerUrl,
    /// The machine id of the host that the tables are limited to.
    host: Option<String>,
    /// How often somebody wanted the query that runs to end.
    interrupts: Arc<watch::Sender<u64>>,
}

impl Remote {
    /// Connects as the analyst who joined with this data directory, to the server that he joined or to another one of the same authority. A certificate
    /// that is two thirds through its life is replaced on the way.
    pub fn open(url: Option<ServerUrl>, data: &Path) -> Result<Self, LinkError> {
        let identity = super::load(data)?;
        let url = url.map_or_else(|| identity.facts().server.parse(), Ok)?;
        let now = Time::now();
        if identity.is_expired(now) {
            let (name, expires) = (identity.facts().name.clone(), Time(identity.facts().expires));
            return Err(LinkError::AnalystExpired { expires, name });
        }
        // A thread of its own keeps the connection alive while the one who asks is busy with what he got.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("link")
            .enable_all()
            .build()
            .map_err(LinkError::System)?;
        let channel = runtime.block_on(connected(&url, identity, data, now))?;
        let client = InquiryClient::new(channel).max_decoding_message_size(MOST_ANSWER);
        Ok(Remote { client, runtime, url, host: None, interrupts: Arc::new(watch::channel(0).0) })
    }

    fn ask(&mut self, what: What, host: Option<&str>, sink: &mut dyn RowSink) -> Result<u64, QueryError> {
        // Those that came before are nothing to this question.
        let mut interrupted = self.interrupts.subscribe();
        let question = Question {
            what: Some(what),
            host: host.unwrap_or_default().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let Remote { client, url, runtime, .. } = self;
        runtime.block_on(async {
            let mut answers = tokio::select! {
                biased;
                _ = interrupted.changed() => return Err(QueryError::Interrupted),
                answers = client.ask(question) => answers.map_err(|status| refused(url, &status))?.into_inner(),
            };
            let mut taking = Taking { sink, width: 0, rows: 0 };
            loop {
                // What is dropped here ends the query of the server as well.
                let answer = tokio::select! {
                    biased;
                    _ = interrupted.changed() => return Err(QueryError::Interrupted),
                    answer = answers.message() => answer.map_err(|status| refused(url, &status))?,
                };
                let unsound = |what: &str| QueryError::Server(format!("{url}: {what}"));
                match answer {
                    Some(Answer { what: Some(said) }) => {
                        if let Some(rows) = taking.take(said, &unsound)? {
                            return Ok(rows);
                        }
                    }
                    Some(Answer { what: None }) => {
                        return Err(unsound("an answer of a kind that is not known here: update luarm"));
                    }
                    None => return Err(unsound("the answer was cut before its end: ask again")),
                }
            }
        })
    }

    /// Returns once everything that happened before on the hosts that deliver to this server, or on one of them, can be queried: with their names.
    pub fn sync(&mut self, host: Option<&str>, patience: Duration) -> Result<Vec<String>, QueryError> {
        let (interrupt, (over, done)) = (self.interrupter(), mpsc::channel::<()>());
        let late = thread::spawn(move || {
            let late = done.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                interrupt();
            }
            late
        });
        let mut collected = Collected::default();
        let result = self.ask(What::Sync(Listing {}), host, &mut collected);
        drop(over);
        match (result, late.join()) {
            (Err(QueryError::Interrupted), Ok(true)) => {
                let seconds = patience.as_secs_f64();
                Err(QueryError::Limit(format!(
                    "not everything was stored after {seconds} s; see luarm status"
                )))
            }
            (result, _) => {
                result?;
                let name = |row: Vec<Kept>| match row.into_iter().next() {
                    Some(Kept::Text(name)) => Some(name),
                    _ => None,
                };
                Ok(collected.0.into_iter().filter_map(name).collect())
            }
        }
    }

    /// Asks for hosts.
    fn named(&mut self, what: What) -> Result<Vec<Host>, QueryError> {
        let rows = self.collect(what)?;
        let host = |row: Vec<Kept>| {
            let mut row = row.into_iter();
            match (row.next()?, row.next()?, row.next()?) {
                (Kept::Number(number), Kept::Text(name), Kept::Text(machine_id)) => {
                    Some(Host { number, name, machine_id })
                }
                _ => None,
            }
        };
        Ok(rows.into_iter().filter_map(host).collect())
    }

    /// Asks something whose answer is short.
    fn collect(&mut self, what: What) -> Result<Vec<Vec<Kept>>, QueryError> {
        let mut collected = Collected::default();
        self.ask(what, None, &mut collected)?;
        Ok(collected.0)
    }
}

/// Connects, and renews the certificate where it is time to.
async fn connected(
    url: &ServerUrl,
    identity: Identity,
    data: &Path,
    now: Time,
) -> Result<Channel, LinkError> {
    let channel = connect::connect(url, identity.tls()?).await?;
    if !identity.is_due(now) {
        return Ok(channel);
    }
    match join::renew(url, channel.clone(), &identity, data).await {
        Ok(renewed) => connect::connect(url, renewed.tls()?).await,
        Err(error) => {
            tracing::warn!("the certificate cannot be renewed now: {error}");
            Ok(channel)
        }
    }
}

/// Hands an answer on as it comes.
struct Taking<'s> {
    sink: &'s mut dyn RowSink,
    width: usize,
    rows: u64,
}

impl Taking<'_> {
    /// Takes a part of it; gives the number of rows at its end. Whatever a server says, it is checked.
    fn take(&mut self, said: Said, unsound: &dyn Fn(&str) -> QueryError) -> Result<Option<u64>, QueryError> {
        match said {
            Said::Columns(columns) => {
                self.width = columns.names.len();
                self.sink.columns(&columns.names)?;
            }
            Said::Rows(rows) => {
                if self.width == 0 || rows.cells.len() % self.width != 0 {
                    return Err(unsound("an answer with rows of another width than its columns"));
                }
                let mut cells = Vec::with_capacity(self.width);
                for row in rows.cells.chunks_exact(self.width) {
                    cells.clear();
                    cells.extend(row.iter().map(cell));
                    self.sink.row(&cells)?;
                    self.rows += 1;
                }
            }
            Said::Done(done) if done.rows == self.rows => return Ok(Some(self.rows)),
            Said::Done(_) => return Err(unsound("an answer that lacks rows")),
            Said::Failure(failure) => return Err(failed(failure, unsound)),
        }
        Ok(None)
    }
}

fn cell(sent: &Sent) -> Cell<'_> {
    match &sent.value {
        None => Cell::Null,
        Some(Value::Integer(n)) => Cell::Integer(*n),
        Some(Value::Real(x)) => Cell::Real(*x),
        Some(Value::Text(text)) => Cell::Text(text),
        Some(Value::Blob(bytes)) => Cell::Blob(bytes),
    }
}

/// What the store said there, as it would have been said here.
fn failed(failure: Failure, unsound: &dyn Fn(&str) -> QueryError) -> QueryError {
    let kind = failure.kind();
    let Failure { message, detail, .. } = failure;
    match kind {
        Kind::Server => unsound(&message),
        Kind::Statement => QueryError::Statement(message),
        Kind::Refused => QueryError::Refused(message),
        Kind::NoHost => QueryError::NoHost { name: message, known: detail },
        Kind::NoPlace => QueryError::NoPlace { name: message },
        Kind::Limit => QueryError::Limit(message),
        Kind::Interrupted => QueryError::Interrupted,
    }
}

fn refused(url: &ServerUrl, status: &Status) -> QueryError {
    QueryError::Server(match status.code() {
        Code::OutOfRange => format!("{url} refuses: the statement is longer than {MOST_QUESTION} bytes"),
        Code::Unimplemented => format!("{url} answers no questions: it is an older luarm"),
        _ => join::refused(url, status).to_string(),
    })
}

impl Source for Remote {
    fn query(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, QueryError> {
        let host = self.host.clone();
        self.ask(What::Sql(sql.to_owned()), host.as_deref(), sink)
    }

    fn interrupter(&self) -> Box<dyn Fn() + Send> {
        let interrupts = Arc::clone(&self.interrupts);
        Box::new(move || interrupts.send_modify(|n| *n += 1))
    }

    fn hosts(&mut self) -> Result<Vec<Host>, QueryError> {
        self.named(What::Hosts(Listing {}))
    }

    fn row_counts(&mut self) -> Result<Vec<(&'static str, i64)>, QueryError> {
        let rows = self.collect(What::Counts(Listing {}))?;
        let count = |row: Vec<Kept>| match row.as_slice() {
            [Kept::Text(name), Kept::Number(rows)] => Some((luarm_schema::table(name)?.name, *rows)),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(count).collect())
    }

    fn use_host(&mut self, name: &str) -> Result<Host, QueryError> {
        let host = self.named(What::Use(name.to_owned()))?.into_iter().next();
        let host = host.ok_or_else(|| QueryError::Server(format!("{}: no host in its answer", self.url)))?;
        self.host = Some(host.machine_id.clone());
        Ok(host)
    }

    fn use_all(&mut self) -> Result<(), QueryError> {
        self.host = None;
        Ok(())
    }

    fn size(&mut self) -> Result<u64, QueryError> {
        match self.collect(What::Size(Listing {}))?.first().map(Vec::as_slice) {
            Some([Kept::Number(bytes)]) => Ok((*bytes).try_into().unwrap_or(0)),
            _ => Ok(0),
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).field("host", &self.host).finish_non_exhaustive()
    }
}

/// A value of a short answer.
enum Kept {
    Number(i64),
    Text(String),
    Other,
}

#[derive(Default)]
struct Collected(Vec<Vec<Kept>>);

impl RowSink for Collected {
    fn columns(&mut self, _: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let kept = |cell: &Cell<'_>| match cell {
            Cell::Integer(n) => Kept::Number(*n),
            Cell::Text(text) => Kept::Text((*text).to_owned()),
            Cell::Null | Cell::Real(_) | Cell::Blob(_) => Kept::Other,
        };
        self.0.push(cells.iter().map(kept).collect());
        Ok(())
    }
}

//! An answer on its way: a store's rows become messages, no faster than they are taken.

use std::{
    io, mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use luarm_store::{Cell, Host, Interrupt, QueryError, Reader, RowSink, StoreUrl};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::unconstrained,
};
use tonic::Status;

use super::desk::Sight;
use crate::{
    packed::MOST_ROW,
    proto::{
        Answer, Cell as Sent, Columns, Question, Rows, answer::What as Said, cell::Value, question::What,
    },
};

/// Rows are sent together up to so many bytes.
const TOGETHER: usize = 48 << 10;
/// What a cell takes on the wire beside its value.
const FRAME: usize = 12;
/// The next row takes those along that have waited for so long.
const STALE: Duration = Duration::from_millis(200);

/// Answers a question out of what may be seen, by a connection for this question alone. Blocks.
pub(super) fn answer(
    sight: &Sight,
    question: &Question,
    sink: &mut Sink,
    told: oneshot::Sender<Interrupt>,
) -> Result<(), QueryError> {
    if let (Sight::Hosts(hosts), Some(What::Hosts(_))) = (sight, &question.what) {
        let mut seen = Vec::new();
        for (_, url) in hosts {
            seen.extend(Reader::open_host(url, MOST_ROW)?.hosts()?);
        }
        named(sink, &seen)?;
        return Ok(sink.flush()?);
    }
    let wanted = match &question.what {
        Some(What::Use(name)) => name,
        _ => &question.host,
    };
    let mut reader = match sight {
        Sight::All(url) => Reader::open_bounded(url, MOST_ROW)?,
        Sight::Hosts(hosts) => one_of(hosts, wanted)?,
    };
    // Nobody wants it when the question is over already.
    let _ = told.send(reader.interrupt());
    match &question.what {
        Some(What::Sql(sql)) => {
            if !wanted.is_empty() {
                reader.use_host(wanted)?;
            }
            reader.query(sql, sink)?;
        }
        Some(What::Hosts(_)) => named(sink, &reader.hosts()?)?,
        Some(What::Use(name)) => named(sink, &[reader.use_host(name)?])?,
        Some(What::Counts(_)) => {
            sink.columns(&["table".to_owned(), "rows".to_owned()])?;
            for (table, rows) in reader.row_counts()? {
                sink.row(&[Cell::Text(table), Cell::Integer(rows)])?;
            }
        }
        Some(What::Size(_)) => {
            sink.columns(&["bytes".to_owned()])?;
            sink.row(&[Cell::Integer(i64::try_from(reader.size()).unwrap_or(i64::MAX))])?;
        }
        // That is not asked of a store.
        Some(What::Sync(_)) | None => {
            let detail = "a question of a kind that this server does not know: update it";
            return Err(QueryError::Statement(detail.to_owned()));
        }
    }
    Ok(sink.flush()?)
}

/// What is seen of the wanted one of these hosts, named by its name or machine id, or of the only one.
fn one_of(hosts: &[(String, StoreUrl)], wanted: &str) -> Result<Reader, QueryError> {
    let names = || hosts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if wanted.is_empty() {
        return match hosts {
            [(_, url)] => Ok(Reader::open_host(url, MOST_ROW)?),
            _ => Err(QueryError::Statement(format!(
                "choose one of your hosts first, with use HOST: {}",
                names()
            ))),
        };
    }
    if let Some((_, url)) = hosts.iter().find(|(name, _)| name == wanted) {
        return Ok(Reader::open_host(url, MOST_ROW)?);
    }
    for (_, url) in hosts {
        let mut reader = Reader::open_host(url, MOST_ROW)?;
        if reader.hosts()?.iter().any(|host| host.machine_id == wanted) {
            return Ok(reader);
        }
    }
    Err(QueryError::NoHost { name: wanted.to_owned(), known: names() })
}

fn named(sink: &mut Sink, hosts: &[Host]) -> io::Result<()> {
    sink.columns(&["host", "hostname", "machineid"].map(str::to_owned))?;
    for host in hosts {
        sink.row(&[Cell::Integer(host.number), Cell::Text(&host.name), Cell::Text(&host.machine_id)])?;
    }
    Ok(())
}

/// Takes a store's rows, and waits while the peer takes none.
#[derive(Debug)]
pub(super) struct Sink {
    answers: mpsc::Sender<Result<Answer, Status>>,
    /// Whether the question is over, whatever became of it.
    over: watch::Receiver<bool>,
    cells: Vec<Sent>,
    bytes: usize,
    flushed: Instant,
    most: u64,
    /// Rows so far.
    pub(super) rows: u64,
    /// The limit that was met.
    pub(super) limit: Option<String>,
}

impl Sink {
    pub(super) fn new(
        answers: mpsc::Sender<Result<Answer, Status>>,
        over: watch::Receiver<bool>,
        most: u64,
    ) -> Self {
        let (cells, flushed) = (Vec::new(), Instant::now());
        Sink { answers, over, cells, bytes: 0, flushed, most, rows: 0, limit: None }
    }

    fn send(&mut self, what: Said) -> io::Result<()> {
        let Sink { answers, over, .. } = self;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        wait(async {
            tokio::select! {
                biased;
                _ = over.wait_for(|over| *over) => Err(gone()),
                sent = answers.send(Ok(Answer { what: Some(what) })) => sent.map_err(|_| gone()),
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes = 0;
        self.flushed = Instant::now();
        let cells = mem::take(&mut self.cells);
        if cells.is_empty() { Ok(()) } else { self.send(Said::Rows(Rows { cells })) }
    }

    fn limited(&mut self, what: String) -> io::Error {
        self.limit = Some(what);
        io::ErrorKind::QuotaExceeded.into()
    }
}

impl RowSink for Sink {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.send(Said::Columns(Columns { names: names.to_vec() }))
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        if self.rows == self.most {
            let what =
                format!("the answer has more than {} rows, the most that this server gives", self.most);
            return Err(self.limited(what));
        }
        let bytes: usize = cells.iter().map(length).sum();
        if bytes > MOST_ROW {
            let what = format!("a row of {bytes} bytes: this server gives at most {MOST_ROW}");
            return Err(self.limited(what));
        }
        if !self.cells.is_empty() && self.bytes + bytes > TOGETHER {
            self.flush()?;
        }
        self.cells.extend(cells.iter().map(sent));
        self.bytes += bytes;
        self.rows += 1;
        if self.bytes > TOGETHER || self.flushed.elapsed() > STALE {
            self.flush()?;
        }
        Ok(())
    }
}

/// What a value takes on the wire, at the most.
fn length(cell: &Cell<'_>) -> usize {
    FRAME
        + match cell {
            Cell::Null => 0,
            Cell::Integer(_) | Cell::Real(_) => 10,
            Cell::Text(text) => text.len(),
            Cell::Blob(bytes) => bytes.len(),
        }
}

fn sent(cell: &Cell<'_>) -> Sent {
    let value = match cell {
        Cell::Null => None,
        Cell::Integer(n) => Some(Value::Integer(*n)),
        Cell::Real(x) => Some(Value::Real(*x)),
        Cell::Text(text) => Some(Value::Text((*text).to_owned())),
        Cell::Blob(bytes) => Some(Value::Blob(bytes.to_vec())),
    };
    Sent { value }
}

/// Waits for something, on a thread that may be inside a store's own runtime, which forbids the usual ways to block.
fn wait<F: Future>(work: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    // That runtime's share of turns is not for this work, which it does not know of.
    let mut work = pin!(unconstrained(work));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = work.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(most: u64) -> (Sink, mpsc::Receiver<Result<Answer, Status>>, watch::Sender<bool>) {
        let (answers, stream) = mpsc::channel(1);
        let (over, seen) = watch::channel(false);
        (Sink::new(answers, seen, most), stream, over)
    }

    #[test]
    fn a_sink_waits_for_the_peer_inside_a_runtime_and_without() {
        for inside in [false, true] {
            let (mut sink, mut stream, _over) = sink(u64::MAX);
            let text = "x".repeat(30_000);
            let feeding = thread::spawn(move || {
                let mut feed = || {
                    sink.columns(&["n".to_owned(), "text".to_owned()]).unwrap();
                    for n in 0..1000 {
                        sink.row(&[Cell::Integer(n), Cell::Text(&text)]).unwrap();
                    }
                    sink.flush().unwrap();
                };
                if inside {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async { feed() });
                } else {
                    feed();
                }
            });
            let mut next = 0;
            while let Some(answer) = stream.blocking_recv() {
                if let Some(Said::Rows(rows)) = answer.unwrap().what {
                    for row in rows.cells.chunks_exact(2) {
                        assert_eq!(row[0].value, Some(Value::Integer(next)));
                        next += 1;
                    }
                }
            }
            assert_eq!(next, 1000);
            feeding.join().unwrap();
        }
    }

    #[test]
    fn a_sink_stops_at_its_limits_and_when_the_question_is_over() {
        let (mut few, _stream, _over) = sink(2);
        let row = [Cell::Null];
        assert!(few.row(&row).is_ok() && few.row(&row).is_ok() && few.row(&row).is_err());
        assert!(few.limit.unwrap().contains("more than 2 rows"));
        let (mut wide, _stream, _over) = sink(2);
        let long = vec![0; MOST_ROW];
        assert!(wide.row(&[Cell::Blob(&long)]).is_err());
        assert!(wide.limit.unwrap().contains("8388620 bytes"));
        // Nobody takes anything, and it is not waited for.
        let (mut stuck, _stream, over) = sink(u64::MAX);
        let ended = thread::spawn(move || {
            let text = "x".repeat(TOGETHER);
            (0..).find_map(|_| stuck.row(&[Cell::Text(&text)]).err()).unwrap().kind()
        });
        over.send(true).unwrap();
        assert_eq!(ended.join().unwrap(), io::ErrorKind::BrokenPipe);
    }
}

//! One question of an analyst, from its coming to its end.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use luarm_store::{Interrupt, QueryError, Scope};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{Code, Status};

use super::{
    answer::{self, Sink},
    deliver,
    desk::Place,
    note,
    refusal::Refusal,
    service::Service,
};
use crate::{
    proto::{
        Answer, Cell, Columns, Done, Failure, Question, Rows, answer::What as Said, cell::Value,
        failure::Kind, question::What,
    },
    token::hex,
};

/// For the end of an answer to be taken, and for an engine to end a query.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether the certificate was revoked.
const LOOK: Duration = Duration::from_secs(2);
/// Between two attempts to end a query: one that has not begun yet cannot be ended.
const AGAIN: Duration = Duration::from_millis(200);
/// Bytes of a statement that go into the log.
const LOGGED: usize = 4096;

/// Who asks.
#[derive(Debug)]
pub(super) struct Asker {
    /// The analyst.
    pub(super) name: String,
    /// Where from.
    pub(super) address: SocketAddr,
    /// Of the certificate.
    pub(super) fingerprint: String,
    /// Whose rows he may see.
    pub(super) scope: Scope,
}

/// Why a question ends before its answer does.
enum Over {
    /// It took too long.
    Late,
    /// Whoever asked has gone, or wants it to end.
    Gone,
    /// Not to be answered any longer.
    Refused(Refusal),
    /// The server stops.
    Stopping,
}

/// What became of an answer.
struct Outcome {
    result: Result<(), QueryError>,
    rows: u64,
    limit: Option<String>,
}

/// Answers a question.
pub(super) async fn run(
    service: Arc<Service>,
    asker: Asker,
    question: Question,
    place: Place,
    answers: mpsc::Sender<Result<Answer, Status>>,
) {
    let (number, begun) = (place.number, Instant::now());
    tracing::info!("question {number} of {} at {}: {}", asker.name, asker.address, Told(&question));
    if matches!(question.what, Some(What::Sync(_))) {
        return sync(&service, &asker, &question.host, place, answers).await;
    }
    let noted = match note::begin(&service, &asker, &question, &place).await {
        Ok(noted) => noted,
        Err(refusal) => {
            // Whoever does not read it does not learn it.
            let _ = timeout(PATIENCE, answers.send(Err(service.refusals.refuse(&asker.name, refusal)))).await;
            return;
        }
    };
    let (stop, over) = watch::channel(false);
    let (told, interrupt) = oneshot::channel();
    let (done, mut ended) = oneshot::channel();
    let mut sink = Sink::new(answers.clone(), over, service.desk.limits.rows);
    // A thread that is no one's else: the store's clients bring runtimes of their own.
    let spawned = thread::Builder::new().name("question".to_owned()).spawn(move || {
        let result = answer::answer(&place.sight, &question, &mut sink, told);
        let Sink { rows, limit, .. } = sink;
        drop(place);
        // Nobody waits for one whose query could not be ended.
        let _ = done.send(Outcome { result, rows, limit });
    });
    if let Err(error) = spawned {
        note::end(&service, noted, ("failed", Some("the server has no thread for it".to_owned())), 0).await;
        let _ = answers.send(Err(service.refusals.refuse(&asker.name, Refusal::failed(error)))).await;
        return;
    }
    let (over, outcome) = tokio::select! {
        biased;
        outcome = &mut ended => (None, outcome.ok()),
        over = watch_over(&service, &asker, &answers) => {
            // Nobody hears it when it has just ended.
            let _ = stop.send(true);
            (Some(over), end(interrupt, ended).await)
        }
    };
    let time = begun.elapsed().as_secs_f64();
    let rows = outcome.as_ref().map_or(0, |outcome| outcome.rows);
    let still = if outcome.is_none() { " (and the store goes on with it)" } else { "" };
    let fate = fate(over.as_ref(), outcome.as_ref());
    note::end(&service, noted, fate, rows).await;
    let (last, remark) = conclude(&service, &asker, over, outcome);
    tracing::info!("question {number} of {}: {rows} rows in {time:.3} s{remark}{still}", asker.name);
    if let Some(last) = last {
        // Whoever does not read it does not learn it.
        let _ = timeout(PATIENCE, answers.send(last)).await;
    }
}

/// Has the hosts that deliver here, or one of them, deliver everything, and answers when they have.
async fn sync(
    service: &Arc<Service>,
    asker: &Asker,
    wanted: &str,
    place: Place,
    answers: mpsc::Sender<Result<Answer, Status>>,
) {
    let number = place.number;
    let mut synced = tokio::select! {
        synced = wish(service, asker, wanted) => synced.map_err(|message| (Kind::Statement, message)),
        over = watch_over(service, asker, &answers) => match over {
            Over::Late => Err((Kind::Limit, "not everything was delivered in the time that this server gives it".to_owned())),
            Over::Gone => return,
            Over::Refused(refusal) => {
                let _ = answers.send(Err(service.refusals.refuse(&asker.name, refusal))).await;
                return;
            }
            Over::Stopping => Err((Kind::Server, "the server is stopping".to_owned())),
        },
    };
    let parts = match &mut synced {
        Ok(names) => {
            tracing::info!("question {number} of {}: {} hosts have delivered", asker.name, names.len());
            names.sort_unstable();
            let rows = names.len() as u64;
            let cells = names.drain(..).map(|name| Cell { value: Some(Value::Text(name)) }).collect();
            let columns = Columns { names: vec!["hostname".to_owned()] };
            vec![Said::Columns(columns), Said::Rows(Rows { cells }), Said::Done(Done { rows })]
        }
        Err((kind, message)) => {
            tracing::info!("question {number} of {}: {message}", asker.name);
            let (kind, message) = ((*kind).into(), message.clone());
            vec![Said::Failure(Failure { kind, message, detail: String::new() })]
        }
    };
    drop(place);
    for what in parts {
        // Whoever does not read it does not learn it.
        let _ = timeout(PATIENCE, answers.send(Ok(Answer { what: Some(what) }))).await;
    }
}

/// The names of the hosts that have delivered everything, or why it is not known of one.
async fn wish(service: &Service, asker: &Asker, wanted: &str) -> Result<Vec<String>, String> {
    let mut hosts = service.streams.delivering();
    hosts.retain(|(machine_id, name, _)| {
        let seen = match &asker.scope {
            Scope::All => true,
            Scope::Hosts(hosts) => hosts.contains(name),
        };
        seen && (wanted.is_empty() || wanted == name || wanted == machine_id)
    });
    if hosts.is_empty() && !wanted.is_empty() {
        return Err(format!(
            "no host {wanted:?} delivers to this server now: what it recorded since waits there"
        ));
    }
    let mut waiting = Vec::new();
    for (_, name, wishes) in hosts {
        let (done, delivered) = oneshot::channel();
        // One that has gone meanwhile shows below.
        let _ = wishes.try_send(done);
        waiting.push((name, delivered));
    }
    let mut names = Vec::new();
    for (name, delivered) in waiting {
        if delivered.await.is_err() {
            return Err(format!("the connection to {name} ended before it had delivered everything"));
        }
        names.push(name);
    }
    Ok(names)
}

/// Waits until there is a reason not to go on.
async fn watch_over(
    service: &Arc<Service>,
    asker: &Asker,
    answers: &mpsc::Sender<Result<Answer, Status>>,
) -> Over {
    let mut stopping = service.stopping.clone();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let late = sleep(service.desk.limits.time);
    tokio::pin!(late);
    loop {
        tokio::select! {
            () = answers.closed() => return Over::Gone,
            () = &mut late => return Over::Late,
            () = deliver::told(&mut stopping) => return Over::Stopping,
            _ = looks.tick() => {
                let asked = asker.fingerprint.clone();
                if let Err(refusal) = service.block(move |backend| backend.analyst(&asked)).await {
                    return Over::Refused(refusal);
                }
            }
        }
    }
}

/// Has the engine end the query, and gives what became of it; `None` if the engine does not.
async fn end(
    interrupt: oneshot::Receiver<Interrupt>,
    mut ended: oneshot::Receiver<Outcome>,
) -> Option<Outcome> {
    let ending = async {
        // Without one the store was not opened.
        let Ok(interrupt) = interrupt.await else {
            return (&mut ended).await.ok();
        };
        loop {
            let interrupt = interrupt.clone();
            let interrupted = tokio::task::spawn_blocking(move || interrupt.interrupt());
            tokio::select! {
                biased;
                outcome = &mut ended => return outcome.ok(),
                _ = interrupted => {}
            }
            if let Ok(outcome) = timeout(AGAIN, &mut ended).await {
                return outcome.ok();
            }
        }
    };
    timeout(PATIENCE, ending).await.ok().flatten()
}

/// How a question ended, as `queryinfo` has it, and what was said where it failed.
fn fate(over: Option<&Over>, outcome: Option<&Outcome>) -> (&'static str, Option<String>) {
    match (over, outcome) {
        (_, Some(Outcome { result: Ok(()), .. })) => ("answered", None),
        (Some(Over::Late), _) => ("limit", Some("it took too long".to_owned())),
        (Some(Over::Gone), _)
        | (None, Some(Outcome { result: Err(QueryError::Output(_)), limit: None, .. })) => {
            ("interrupted", None)
        }
        (Some(Over::Refused(refusal)), _) => ("failed", Some(refusal.message.clone())),
        (Some(Over::Stopping), _) => ("stop", None),
        (None, Some(Outcome { limit: Some(limit), .. })) => ("limit", Some(limit.clone())),
        // The words of the store name places and accounts, and the row is for analysts.
        (None, Some(Outcome { result: Err(QueryError::Server(_) | QueryError::Store(_)), .. })) => {
            ("failed", Some("the store cannot be read".to_owned()))
        }
        (None, Some(Outcome { result: Err(error), .. })) => ("failed", Some(error.to_string())),
        (None, None) => ("failed", Some("the thread of the question died".to_owned())),
    }
}

/// What the peer is told at the end, and what the log is.
fn conclude(
    service: &Service,
    asker: &Asker,
    over: Option<Over>,
    outcome: Option<Outcome>,
) -> (Option<Result<Answer, Status>>, String) {
    let failed = |kind: Kind, message: String, detail: String| {
        // The engine's words hold those of the statement.
        let remark = format!(", then: {}", cut(&message).escape_debug());
        let failure = Failure { kind: kind.into(), message, detail };
        (Some(Ok(Answer { what: Some(Said::Failure(failure)) })), remark)
    };
    let error = match (over, outcome) {
        // It ended before anything could be done about it.
        (_, Some(Outcome { result: Ok(()), rows, .. })) => {
            return (Some(Ok(Answer { what: Some(Said::Done(Done { rows })) })), String::new());
        }
        (Some(Over::Late), _) => {
            let time = service.desk.limits.time.as_secs();
            let message = format!("the answer took longer than {time} s, the most that this server gives it");
            return failed(Kind::Limit, message, String::new());
        }
        // Or the answer finds out first.
        (Some(Over::Gone), _)
        | (None, Some(Outcome { result: Err(QueryError::Output(_)), limit: None, .. })) => {
            return (None, ", then the analyst ended it".to_owned());
        }
        (Some(Over::Refused(refusal)), _) => {
            let remark = format!(", then: {}", refusal.message);
            return (Some(Err(service.refusals.refuse(&asker.name, refusal))), remark);
        }
        (Some(Over::Stopping), _) => {
            return (
                Some(Err(Status::unavailable("the server is stopping"))),
                ", then the server stopped".to_owned(),
            );
        }
        (None, Some(Outcome { limit: Some(limit), .. })) => {
            return failed(Kind::Limit, limit, String::new());
        }
        (None, Some(Outcome { result: Err(error), .. })) => error,
        (None, None) => {
            let refusal = Refusal::failed("the thread of a question died");
            return (Some(Err(service.refusals.refuse(&asker.name, refusal))), ", then it died".to_owned());
        }
    };
    let nothing = String::new();
    match error {
        QueryError::Statement(message) => failed(Kind::Statement, message, nothing),
        QueryError::Refused(message) => failed(Kind::Refused, message, nothing),
        QueryError::NoHost { name, known } => failed(Kind::NoHost, name, known),
        QueryError::NoPlace { name } => failed(Kind::NoPlace, name, nothing),
        QueryError::Limit(message) => failed(Kind::Limit, message, nothing),
        QueryError::Interrupted => failed(Kind::Interrupted, "interrupted".to_owned(), nothing),
        // The words of the store are for our log: they name places and accounts.
        QueryError::Server(_) | QueryError::Store(_) | QueryError::Output(_) => {
            let refusal = Refusal {
                inside: Some(format!("the store cannot be read: {error}")),
                ..Refusal::new(
                    "unreadable",
                    Code::Unavailable,
                    "the server cannot read its store now; its log says more",
                )
            };
            let message = refusal.message.clone();
            drop(service.refusals.refuse(&asker.name, refusal));
            failed(Kind::Server, message, nothing)
        }
    }
}

/// A question as the log shows it: in one line, however long it is and whatever is in it.
struct Told<'q>(&'q Question);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.host.is_empty() {
            write!(f, "of host {:?}, ", cut(&self.0.host))?;
        }
        match &self.0.what {
            Some(What::Sql(sql)) => {
                write!(f, "{:?}", cut(sql))?;
                if sql.len() > LOGGED {
                    write!(f, "… ({} bytes, SHA-256 {})", sql.len(), hex(&Sha256::digest(sql.as_bytes())))?;
                }
                Ok(())
            }
            Some(What::Hosts(_)) => f.write_str("which hosts"),
            Some(What::Use(name)) => write!(f, "whether there is a host {:?}", cut(name)),
            Some(What::Counts(_)) => f.write_str("how many rows"),
            Some(What::Sync(_)) => f.write_str("that everything be delivered"),
            Some(What::Size(_)) => f.write_str("how many bytes"),
            None => f.write_str("something unknown"),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOGGED)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_line_of_the_log() {
        let told = |sql: &str| {
            let what = Some(What::Sql(sql.to_owned()));
            Told(&Question { what, ..Question::default() }).to_string()
        };
        assert_eq!(told("select 1\n-- \x1b[2J"), r#""select 1\n-- \u{1b}[2J""#);
        let long = told(&"ä".repeat(LOGGED));
        assert!(long.len() < LOGGED + 200 && long.contains("(8192 bytes, SHA-256 "), "{long}");
    }
}

//! Asking a running recorder.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use luarm_link::authority;

use super::{Asked, DESK, Ended, Vitals};
use crate::data_dir;

/// An answer is one line of at most this many bytes.
const LONGEST_ANSWER: u64 = 64 << 10;
/// What an answer may take beyond the time that was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("no recorder is running on {} (no answer at its socket); start one: luarm run --data {}", data.display(), data.display())]
    NotRunning { data: PathBuf },
    #[error("cannot ask the recorder on {}: {source}; only its own user and root may", data.display())]
    Refused { data: PathBuf, source: io::Error },
    #[error("the recorder on {} did not answer: {source}", data.display())]
    Broken { data: PathBuf, source: io::Error },
    #[error("the recorder on {} answered {answer:?}", data.display())]
    Answer { data: PathBuf, answer: String },
    #[error("not everything was stored after {} s; the recorder is behind, see luarm status", timeout.as_secs_f64())]
    Timeout { timeout: Duration },
}

/// Waits until everything that happened before this call is stored.
pub(crate) fn sync(data: &Path, timeout: Duration) -> Result<(), ControlError> {
    match ask(data, &format!("sync {}", timeout.as_millis()), timeout)?.as_str() {
        "ok" => Ok(()),
        "timeout" => Err(ControlError::Timeout { timeout }),
        answer => Err(ControlError::Answer { data: data.to_owned(), answer: answer.to_owned() }),
    }
}

/// How the recorder is.
pub(crate) fn status(data: &Path) -> Result<Vitals, ControlError> {
    let answer = ask(data, "status", Duration::ZERO)?;
    serde_json::from_str(&answer).map_err(|_| ControlError::Answer { data: data.to_owned(), answer })
}

/// A question that the recorder was told of, and that has no answer yet.
#[derive(Debug)]
pub(crate) struct Told(UnixStream);

impl Told {
    /// Tells how it ended.
    pub(crate) fn ended(mut self, ended: &Ended) {
        // A recorder that has gone has ended it already.
        let _ = say(&mut self.0, "ended", ended).and_then(|()| line(&self.0));
    }
}

/// Tells the recorder of a question to the store that it writes.
pub(crate) fn question(data: &Path, asked: &Asked) -> Result<Told, ControlError> {
    let desk = authority::directory(data).join(DESK);
    let mut stream = match connect(data, &data_dir::socket(data), Duration::ZERO) {
        // A server takes what is asked of its store, where no recorder does.
        Err(ControlError::NotRunning { data }) => connect(&data, &desk, Duration::ZERO)?,
        other => other?,
    };
    let broken = |source| ControlError::Broken { data: data.to_owned(), source };
    say(&mut stream, "question", asked).map_err(broken)?;
    match line(&stream).map_err(broken)?.as_str() {
        "ok" => Ok(Told(stream)),
        answer => Err(ControlError::Answer { data: data.to_owned(), answer: answer.to_owned() }),
    }
}

fn say(stream: &mut UnixStream, word: &str, what: &impl serde::Serialize) -> io::Result<()> {
    let what = serde_json::to_string(what)?;
    match stream.write_all(format!("{word} {what}\n").as_bytes()) {
        // It may have answered before it was asked: that it has too many to answer to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The line that it answers.
fn line(stream: &UnixStream) -> io::Result<String> {
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut answer)?;
    if answer.ends_with('\n') {
        Ok(answer.trim_end().to_owned())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn connect(data: &Path, socket: &Path, patience: Duration) -> Result<UnixStream, ControlError> {
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning { data: data.to_owned() }
        }
        _ => ControlError::Refused { data: data.to_owned(), source },
    })?;
    let broken = |source| ControlError::Broken { data: data.to_owned(), source };
    stream.set_read_timeout(Some(patience + GRACE)).map_err(broken)?;
    stream.set_write_timeout(Some(GRACE)).map_err(broken)?;
    Ok(stream)
}

fn ask(data: &Path, question: &str, patience: Duration) -> Result<String, ControlError> {
    let mut stream = connect(data, &data_dir::socket(data), patience)?;
    let broken = |source| ControlError::Broken { data: data.to_owned(), source };
    match stream.write_all(format!("{question}\n").as_bytes()) {
        // It may have answered before it was asked: that it has too many to answer to.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(broken(error)),
        _ => {}
    }
    line(&stream).map_err(broken)
}

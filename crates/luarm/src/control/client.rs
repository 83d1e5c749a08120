//! Asking a running recorder.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Vitals;
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

fn ask(data: &Path, question: &str, patience: Duration) -> Result<String, ControlError> {
    let mut stream = UnixStream::connect(data_dir::socket(data)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning { data: data.to_owned() }
        }
        _ => ControlError::Refused { data: data.to_owned(), source },
    })?;
    let broken = |source| ControlError::Broken { data: data.to_owned(), source };
    stream.set_read_timeout(Some(patience + GRACE)).map_err(broken)?;
    stream.set_write_timeout(Some(GRACE)).map_err(broken)?;
    match stream.write_all(format!("{question}\n").as_bytes()) {
        // It may have answered before it was asked: that it has too many to answer to.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(broken(error)),
        _ => {}
    }
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut answer).map_err(broken)?;
    if !answer.ends_with('\n') {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(answer.trim_end().to_owned())
}

//! What luarm says on standard error: one line per message, `luarm: LEVEL: MESSAGE`, with the journal's priority before it where the journal
//! listens.

use std::{fmt, io::Write, str::FromStr};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// How much is said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level(LevelFilter);

impl Default for Level {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self(LevelFilter::ERROR)),
            "warn" => Ok(Self(LevelFilter::WARN)),
            "info" => Ok(Self(LevelFilter::INFO)),
            "debug" => Ok(Self(LevelFilter::DEBUG)),
            "trace" => Ok(Self(LevelFilter::TRACE)),
            _ => Err(format!("{text:?} is not a level: write error, warn, info, debug or trace")),
        }
    }
}

/// Sends every message of this process to standard error.
pub(crate) fn start(level: Level) {
    // systemd sets it for services whose standard error is the journal, see sd-daemon(3) for the prefixes.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level.0)
        .event_format(Line { journal })
        .init();
}

/// The last word of a command that failed, on one line.
pub(crate) fn complain(message: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr(), "luarm: {}", message.replace('\n', "; "));
}

struct Line {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (priority, name) = match *event.metadata().level() {
            tracing::Level::ERROR => (3, "error"),
            tracing::Level::WARN => (4, "warning"),
            tracing::Level::INFO => (6, "info"),
            tracing::Level::DEBUG => (7, "debug"),
            tracing::Level::TRACE => (7, "trace"),
        };
        if self.journal {
            write!(writer, "<{priority}>")?;
        }
        write!(writer, "luarm: {name}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

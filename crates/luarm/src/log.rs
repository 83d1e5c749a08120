//! What luarm says on standard error: one line per message, `luarm: LEVEL: MESSAGE`, with the journal's priority before it where the journal
//! listens.

use std::{fmt, io::Write, str::FromStr, sync::LazyLock};

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
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level.0).event_format(Line).init();
}

/// The last word of a command that failed, on one line.
pub(crate) fn complain(message: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{}luarm: {}", Priority(3), on_one_line(message));
}

/// Something that whoever started this process waits for.
pub(crate) fn announce(message: &str) {
    let _ = writeln!(std::io::stderr(), "{}luarm: {}", Priority(5), on_one_line(message));
}

/// What others chose, such as a host's name, must not look like a message of ours.
fn on_one_line(message: &str) -> String {
    message.replace('\n', "; ").replace('\r', " ")
}

/// The priority of a message, as sd-daemon(3) has it, where standard error is the journal's: systemd says so to what it starts, and a child of that may have
/// another standard error.
struct Priority(u8);

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static JOURNAL: LazyLock<bool> = LazyLock::new(|| {
            let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
            rustix::fs::fstat(std::io::stderr())
                .is_ok_and(|own| stream == format!("{}:{}", own.st_dev, own.st_ino))
        });
        if *JOURNAL { write!(f, "<{}>", self.0) } else { Ok(()) }
    }
}

struct Line;

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
        let alert = event.metadata().target() == "alert";
        let (priority, name) = match *event.metadata().level() {
            // What the recorder noticed of attempts on itself: somebody should be woken.
            tracing::Level::ERROR if alert => (1, "alert"),
            tracing::Level::ERROR => (3, "error"),
            tracing::Level::WARN => (4, "warning"),
            tracing::Level::INFO => (6, "info"),
            tracing::Level::DEBUG => (7, "debug"),
            tracing::Level::TRACE => (7, "trace"),
        };
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        writeln!(writer, "{}luarm: {name}: {}", Priority(priority), on_one_line(&fields))
    }
}

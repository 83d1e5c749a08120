//! What is told to whoever started this process: a line on standard error, and a message to a service manager that waits for one (sd_notify(3)).

use sd_notify::NotifyState;

use crate::log;

/// It does what it was started for.
pub(crate) fn ready(message: &str) {
    log::announce(message);
    tell(&[NotifyState::Ready, NotifyState::Status(message)]);
}

/// It ends in an orderly way.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("storing what was seen")]);
}

/// Nothing happens where nobody waits for it.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

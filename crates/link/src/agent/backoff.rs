//! How long to wait before another try.

use std::time::Duration;

use crate::tls;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, each cut by chance to between a half and all of it, so that the hosts of a server that comes back do not come all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff { pause: FIRST }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.pause = FIRST;
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        let mut chance = [0];
        // Without chance it is the whole pause.
        let share = tls::random(&mut chance).map_or(1.0, |()| 0.5 + f64::from(chance[0]) / 510.0);
        pause.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut backoff = Backoff::new();
        let mut bound = FIRST;
        for _ in 0..20 {
            let pause = backoff.next();
            assert!(pause <= bound && pause >= bound / 2, "{pause:?} of {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
        let pauses: std::collections::HashSet<_> = (0..100).map(|_| backoff.next()).collect();
        assert!(pauses.len() > 10);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}

//! How much of the time of each host and class was observed.

use luarm_hunt::Observed;

use super::{Report, Value};

impl Report {
    /// The shares of a host: over its recorded life, and over the last day of it.
    pub(super) fn observed(&mut self, host: &str, number: i64, all: &[Observed]) {
        let own = || all.iter().filter(|observed| observed.host == number);
        for (observed, sampled, of) in [
            ("observed", "sampled", (|one| one.life) as fn(&Observed) -> (f64, f64)),
            ("observed in the last day", "sampled in the last day", |one| one.day),
        ] {
            for one in own() {
                self.add(Some(host), observed, &one.class, Value::Share(of(one).0));
            }
            for one in own().filter(|one| of(one).1 > 0.0) {
                self.add(Some(host), sampled, &one.class, Value::Share(of(one).1));
            }
        }
    }
}

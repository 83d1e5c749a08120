//! Figures of one moment, and how they are written.

use prometheus::{
    TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::families::{self, Family, Kind};

/// Figures in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<MetricFamily>);

impl Figures {
    /// What every program has: what it is, since when, and how large.
    pub(super) fn of(command: &str, uptime: std::time::Duration, memory: u64) -> Self {
        let mut figures = Self::default();
        figures.add(&families::BUILD, &[env!("CARGO_PKG_VERSION"), command], 1.0);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        figures.one(&families::STARTED, now.saturating_sub(uptime).as_secs_f64().round());
        figures.one(&families::MEMORY, memory as f64);
        figures
    }

    /// Adds the one figure of a family.
    pub(super) fn one(&mut self, family: &'static Family, value: f64) {
        self.add(family, &[], value);
    }

    /// Adds one of several, by the values of its labels; those of one family come one after the other.
    pub(super) fn add(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        if self.0.last().is_none_or(|last| last.name() != family.name) {
            let mut new = MetricFamily::default();
            new.set_name(family.name.to_owned());
            new.set_help(family.help.to_owned());
            new.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
            });
            self.0.push(new);
        }
        let labels = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        if let Some(last) = self.0.last_mut() {
            last.mut_metric().push(metric);
        }
    }

    /// Prometheus' text format 0.0.4.
    pub(super) fn text(&self) -> Result<String, String> {
        TextEncoder::new().encode_to_string(&self.0).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_family_stand_together_and_labels_are_escaped() {
        let mut figures = Figures::default();
        figures.add(&families::REFUSED, &["gap"], 2.0);
        figures.add(&families::REFUSED, &["a\"b\\\n"], 3.5);
        figures.one(&families::SPOOL, 4096.0);
        let text = figures.text().unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            lines,
            [
                "# TYPE luarm_server_refused_total counter",
                "luarm_server_refused_total{kind=\"gap\"} 2",
                "luarm_server_refused_total{kind=\"a\\\"b\\\\\\n\"} 3.5",
                "# TYPE luarm_spool_bytes gauge",
                "luarm_spool_bytes 4096",
            ]
        );
        assert_eq!(text.matches("# HELP").count(), 2);
    }
}

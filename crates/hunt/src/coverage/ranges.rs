//! Sets of instants.

use luarm_schema::Time;

/// Spans of time in their order, none of which touches another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(Time, Time)>);

impl Ranges {
    /// Adds a span; one that ends before it begins is nothing.
    pub(super) fn add(&mut self, from: Time, until: Time) {
        if until <= from {
            return;
        }
        let first = self.0.partition_point(|&(_, end)| end < from);
        let last = self.0.partition_point(|&(begin, _)| begin <= until);
        let joined = self.0[first..last]
            .iter()
            .fold((from, until), |joined, one| (joined.0.min(one.0), joined.1.max(one.1)));
        self.0.splice(first..last, [joined]);
    }

    /// What is in these and not in the others.
    pub(super) fn without(&self, others: &Ranges) -> Ranges {
        let mut left = Vec::new();
        for &(mut from, until) in &self.0 {
            let first = others.0.partition_point(|&(_, end)| end <= from);
            for &(begin, end) in &others.0[first..] {
                if begin >= until {
                    break;
                }
                if from < begin {
                    left.push((from, begin));
                }
                from = from.max(end);
            }
            if from < until {
                left.push((from, until));
            }
        }
        Ranges(left)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Time, Time)> {
        self.0.iter().copied()
    }

    /// Microseconds in all.
    pub(super) fn length(&self) -> i64 {
        self.0.iter().map(|(from, until)| until.0 - from.0).fold(0, i64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(spans: &[(i64, i64)]) -> Ranges {
        let mut ranges = Ranges::default();
        spans.iter().for_each(|&(from, length)| ranges.add(Time(from), Time(from + length)));
        ranges
    }

    fn holds(spans: &[(i64, i64)], at: i64) -> bool {
        spans.iter().any(|&(from, length)| (from..from + length).contains(&at))
    }

    proptest! {
        #[test]
        fn they_are_the_sets_of_their_instants(
            ours in prop::collection::vec((0..40_i64, -2..10_i64), 0..8),
            others in prop::collection::vec((0..40_i64, -2..10_i64), 0..8),
        ) {
            let (own, left) = (ranges(&ours), ranges(&ours).without(&ranges(&others)));
            let within = |set: &Ranges, at: i64| set.iter().any(|(from, until)| (from.0..until.0).contains(&at));
            for at in -5..60 {
                prop_assert_eq!(within(&own, at), holds(&ours, at));
                prop_assert_eq!(within(&left, at), holds(&ours, at) && !holds(&others, at));
            }
            prop_assert_eq!(own.length(), (-5..60).filter(|&at| holds(&ours, at)).count() as i64);
            prop_assert!(own.0.windows(2).all(|two| two[0].1 < two[1].0));
        }
    }
}

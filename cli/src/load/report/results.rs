//! All that was measured, and what follows from it: medians, spreads and ratios.

use serde::{Serialize, Serializer};

use super::figures::Run;
use super::plan::Work;

/// From this share of the machine on, other programs have spoilt a run.
pub(super) const NOISY: f64 = 0.12;

/// What one contestant reached at one work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) work: Work,
    pub(super) contestant: String,
    pub(super) runs: Vec<Run>,
    /// Runs without a result, and why.
    pub(super) failures: Vec<String>,
}

impl Measured {
    pub(super) const fn new(work: Work, contestant: String) -> Self {
        Self { work, contestant, runs: Vec::new(), failures: Vec::new() }
    }

    /// Runs that count: the quiet ones; if there are none, all.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Run> {
        let some_quiet = self.runs.iter().any(|run| !is_noisy(run));
        self.runs.iter().filter(move |run| !some_quiet || !is_noisy(run))
    }

    /// The figure `of` over the runs that count.
    pub(super) fn spread(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.counted().filter_map(of))
    }

    pub(super) fn median(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        self.spread(of).map(|spread| spread.median)
    }

    /// The median of each percentile of the round trips.
    pub(super) fn percentiles_us(&self) -> Vec<(f64, f64)> {
        let known = self.runs.first().map(|run| run.rtt_percentiles_us.as_slice()).unwrap_or_default();
        known.iter().filter_map(|(percent, _)| Some((*percent, self.percentile_us(*percent)?))).collect()
    }

    pub(super) fn percentile_us(&self, percent: f64) -> Option<f64> {
        self.median(|run| {
            let mut known = run.rtt_percentiles_us.iter();
            known.find(|(other, _)| (other - percent).abs() < 1e-9).map(|(_, micros)| *micros)
        })
    }

    /// The median of this over `other` within each repetition: the machine's own speed drifts from one to the next.
    pub(super) fn ratio(&self, other: &Self, of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        let ratios = self.counted().filter_map(|run| {
            let other = other.counted().find(|other| other.repetition == run.repetition)?;
            Some(of(run)? / of(other)?).filter(|ratio| ratio.is_finite())
        });
        Spread::of(ratios).map(|spread| spread.median)
    }
}

/// Whether other programs took so much of the machine that the figures are worth little.
pub(super) fn is_noisy(run: &Run) -> bool {
    run.foreign.is_some_and(|foreign| foreign >= NOISY)
}

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// None without values.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (upper, lower) = (values.get(values.len() / 2)?, values.get((values.len() - 1) / 2)?);
        Some(Self { median: f64::midpoint(*lower, *upper), min: *values.first()?, max: *values.last()? })
    }
}

impl Serialize for Spread {
    /// As `[median, min, max]`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.median, self.min, self.max].serialize(serializer)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::args::{Guarantee, Mode};
    use super::*;

    pub(in super::super) const FLOOD: Work =
        Work { mode: Mode::Flood, options: Guarantee::Async, payload: 1024, receivers: 1 };

    /// Runs 1, 2, … with these rates and foreign shares.
    pub(in super::super) fn measured(contestant: &str, rates: &[(f64, f64)]) -> Measured {
        let run = |(at, (rate, foreign)): (usize, &(f64, f64))| Run {
            repetition: u16::try_from(at + 1).unwrap(),
            msgs_per_s: Some(*rate),
            foreign: Some(*foreign),
            complete: true,
            ..Run::default()
        };
        Measured { runs: rates.iter().enumerate().map(run).collect(), ..Measured::new(FLOOD, contestant.to_owned()) }
    }

    #[test]
    fn medians() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(spread(&[5.0, 1.0, 3.0]), Some(Spread { median: 3.0, min: 1.0, max: 5.0 }));
        assert_eq!(spread(&[5.0, 1.0, 3.0, 4.0]), Some(Spread { median: 3.5, min: 1.0, max: 5.0 }));
    }

    #[test]
    fn noisy_runs_count_only_where_there_is_no_other() {
        let rate = |runs: &[(f64, f64)]| measured("x", runs).median(|run| run.msgs_per_s);
        assert_eq!(rate(&[(10.0, 0.0), (99.0, NOISY), (20.0, 0.11)]), Some(15.0));
        assert_eq!(rate(&[(10.0, 0.2), (30.0, 0.3)]), Some(20.0));
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        // The machine became ten times slower; the ratio did not change.
        let ours = measured("tribes", &[(200.0, 0.0), (20.0, 0.0), (777.0, 0.5)]);
        let other = measured("other", &[(100.0, 0.0), (10.0, 0.0), (1.0, 0.0)]);
        assert_eq!(ours.ratio(&other, |run| run.msgs_per_s), Some(2.0));
        assert_eq!(ours.ratio(&measured("other", &[(0.0, 0.0)]), |run| run.msgs_per_s), None);
        assert_eq!(ours.ratio(&measured("other", &[]), |run| run.msgs_per_s), None);
    }

    #[test]
    fn each_percentile_has_a_median() {
        let mut pings = measured("x", &[(0.0, 0.0); 3]);
        for (run, slow) in pings.runs.iter_mut().zip([30.0, 50.0, 40.0]) {
            run.rtt_percentiles_us = vec![(50.0, 20.0), (99.9, slow)];
        }
        assert_eq!(pings.percentiles_us(), [(50.0, 20.0), (99.9, 40.0)]);
        assert_eq!(pings.percentile_us(90.0), None);
    }
}

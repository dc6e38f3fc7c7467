//! The report: what was measured, where and how.

use serde::Serialize;

use super::args::{Contestant, Settings};
use super::figures::Run;
use super::machine::Machine;
use super::plan::{Work, plan};
use super::results::{Measured, Spread};

/// Everything that the report tells; `report.json` is this.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) date: String,
    /// What was typed.
    pub(super) command: String,
    pub(super) version: &'static str,
    pub(super) machine: Machine,
    pub(super) seconds: f64,
    pub(super) repetitions: u16,
    /// This program first.
    pub(super) contestants: Vec<Contestant>,
    /// Whether all that was planned has been tried.
    pub(super) whole: bool,
    pub(super) results: Vec<Comparison>,
}

/// One work, and what each contestant reached at it, in the order of the contestants.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) work: Work,
    pub(super) measured: Vec<Measured>,
}

/// A figure that is compared.
pub(super) type Figure = fn(&Run) -> Option<f64>;

/// Messages per second.
pub(super) const RATE: Figure = |run| run.msgs_per_s;
/// The median round trip.
pub(super) const ROUND_TRIP: Figure = |run| run.rtt_p50_us;

impl Report {
    /// A report in which all results are still missing.
    pub(super) fn new(settings: &Settings, own: Contestant, date: String, command: String) -> Self {
        let contestants: Vec<_> = std::iter::once(own).chain(settings.against.clone()).collect();
        let comparison = |work| Comparison {
            work,
            measured: contestants.iter().map(|contestant| Measured::new(work, contestant.name.clone())).collect(),
        };
        Self {
            date,
            command,
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::here(),
            seconds: settings.times.measured.as_secs_f64(),
            repetitions: settings.repetitions,
            whole: false,
            results: plan(settings).into_iter().map(comparison).collect(),
            contestants,
        }
    }

    /// What every contestant reached at every work.
    pub(super) fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.results.iter().flat_map(|comparison| &comparison.measured)
    }
}

impl Comparison {
    /// How many times our figure is that of the contestant at this place; nothing for ourselves.
    pub(super) fn ratio(&self, at: usize, of: Figure) -> Option<f64> {
        let (ours, other) = (self.measured.first()?, self.measured.get(at).filter(|_| at > 0)?);
        ours.ratio(other, of)
    }
}

impl Serialize for Comparison {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// What a reader of the file would otherwise have to compute.
        #[derive(Serialize)]
        struct Row<'a> {
            #[serde(flatten)]
            measured: &'a Measured,
            /// Median, least and greatest.
            msgs_per_s: Option<Spread>,
            rtt_p50_us: Option<Spread>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ratio_of_rates: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ratio_of_round_trips: Option<f64>,
        }
        serializer.collect_seq(self.measured.iter().enumerate().map(|(at, measured)| Row {
            measured,
            msgs_per_s: measured.spread(RATE),
            rtt_p50_us: measured.spread(ROUND_TRIP),
            ratio_of_rates: self.ratio(at, RATE),
            ratio_of_round_trips: self.ratio(at, ROUND_TRIP),
        }))
    }
}

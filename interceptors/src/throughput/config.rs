//! Options of [`Throughput`](super::Throughput).

use std::time::Duration;

use tribes_core::settings::{custom, format_duration, parse_duration};

/// When a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportInterval {
    /// Each time this many messages were sent, and each time this many were received. At least 1.
    Messages(u64),
    /// This often, if there was any message since the last report. Above zero.
    Every(Duration),
    /// Never; only [`Throughput::snapshot`](super::Throughput::snapshot) tells.
    Never,
}

impl ReportInterval {
    fn parse(text: &str) -> Option<Self> {
        if text == "never" {
            return Some(Self::Never);
        }
        let messages = text.parse().ok().filter(|messages| *messages > 0).map(Self::Messages);
        messages.or_else(|| parse_duration(text).filter(|every| !every.is_zero()).map(Self::Every))
    }

    fn show(&self) -> String {
        match self {
            Self::Messages(messages) => messages.to_string(),
            Self::Every(every) => format_duration(*every),
            Self::Never => "never".to_owned(),
        }
    }
}

/// Options of [`Throughput`](super::Throughput).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThroughputConfig {
    /// When a report is written. Default [`ThroughputConfig::INTERVAL`] (Tribes: `interval`).
    pub interval: ReportInterval,
}

impl ThroughputConfig {
    /// The default of [`interval`](Self::interval): every 10,000 messages, as in Tribes.
    pub const INTERVAL: ReportInterval = ReportInterval::Messages(10_000);

    /// With reports at this interval.
    #[must_use]
    pub const fn with_interval(mut self, interval: ReportInterval) -> Self {
        self.interval = interval;
        self
    }
}

impl Default for ThroughputConfig {
    fn default() -> Self {
        Self { interval: Self::INTERVAL }
    }
}

const INTERVAL_TEXT: &str = "a number of messages above zero, a duration such as 1s, or never";

tribes_core::settings! { ThroughputConfig {
    interval: custom(INTERVAL_TEXT, ReportInterval::parse, ReportInterval::show),
        "When a report is written: each time so many messages were sent or received, this often, or never.";
} }

//! Options of [`Throughput`](super::Throughput).

use std::time::Duration;

use super::NAME;
use crate::ConfigError;
use crate::config::{DURATION, duration};

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

    const KEYS: &'static [&'static str] = &["interval"];

    /// With reports at this interval.
    #[must_use]
    pub const fn with_interval(mut self, interval: ReportInterval) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the option `key` from text: `interval` = a number of messages, a duration such as `1s`, or `never`.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if key != "interval" {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        }
        let interval = match value.trim() {
            "never" => ReportInterval::Never,
            number if number.bytes().all(|digit| digit.is_ascii_digit()) => {
                ReportInterval::Messages(number.parse().map_err(|_overflow_or_empty| Self::invalid(value))?)
            }
            text => ReportInterval::Every(duration(text).ok_or_else(|| Self::invalid(value))?),
        };
        Self { interval }.validate()?;
        self.interval = interval;
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match self.interval {
            ReportInterval::Messages(0) => Err(Self::invalid("0")),
            ReportInterval::Every(every) if every.is_zero() => Err(ConfigError::InvalidValue {
                interceptor: NAME,
                key: "interval",
                value: "0s".to_owned(),
                expected: DURATION,
            }),
            _ => Ok(()),
        }
    }

    fn invalid(value: &str) -> ConfigError {
        ConfigError::InvalidValue {
            interceptor: NAME,
            key: "interval",
            value: value.to_owned(),
            expected: "a number of messages above zero, a duration such as 1s, or never",
        }
    }
}

impl Default for ThroughputConfig {
    fn default() -> Self {
        Self { interval: Self::INTERVAL }
    }
}

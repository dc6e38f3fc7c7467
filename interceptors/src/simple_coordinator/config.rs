//! Options of [`SimpleCoordinator`](super::SimpleCoordinator).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::NAME;
use crate::ConfigError;
use crate::config::duration;

/// Options of [`SimpleCoordinator`](super::SimpleCoordinator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimpleCoordinatorConfig {
    /// For how long no member must have come or gone before the view is taken over; 1 ms to 10 min. Default
    /// [`SETTLE`](Self::SETTLE), as in Tribes, where it is fixed.
    pub settle: Duration,
}

impl SimpleCoordinatorConfig {
    /// The default of [`settle`](Self::settle), 2.5 s.
    pub const SETTLE: Duration = Duration::from_millis(2500);

    const KEYS: &'static [&'static str] = &["settle"];

    /// With this time.
    #[must_use]
    pub const fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Sets an option from text: its name in snake_case; `settle` as in `250ms`, `1s`, `5m`.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if key != "settle" {
            let (key, known) = (key.to_owned(), Self::KEYS);
            return Err(ConfigError::UnknownKey { interceptor: NAME, key, known });
        }
        let settle = duration(value).filter(|settle| TIMES.contains(settle));
        self.settle = settle.ok_or_else(|| invalid(value.to_owned()))?;
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if TIMES.contains(&self.settle) { Ok(()) } else { Err(invalid(format!("{:?}", self.settle))) }
    }
}

const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

fn invalid(value: String) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key: "settle", value, expected: "a duration from 1ms to 10m" }
}

impl Default for SimpleCoordinatorConfig {
    fn default() -> Self {
        Self { settle: Self::SETTLE }
    }
}

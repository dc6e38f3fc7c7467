//! Options of [`Coordinator`](super::Coordinator).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::NAME;
use crate::ConfigError;
use crate::config::duration;

/// Options of [`Coordinator`](super::Coordinator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoordinatorConfig {
    /// How long an election's token may take round the group before it is sent again; 10 ms to 10 min. Default
    /// [`TIMEOUT`](Self::TIMEOUT) (Tribes: a lost token is never replaced).
    pub timeout: Duration,
    /// How long a member waits for the coordinator's view of the group, after the group has changed, before it asks for it;
    /// each time twice as long, up to [`MAX_WAIT`](Self::MAX_WAIT). If the coordinator is a Java member the first time is four
    /// times as long. 10 ms to 10 min. Default [`PATIENCE`](Self::PATIENCE) (Tribes: 15 s, with its event thread blocked).
    pub patience: Duration,
    /// How many members a view must have, the local one included, so that it has a coordinator; up to 4,096. More than half
    /// of the members that there should be, and a split group has at most one coordinator. Java members know nothing of this.
    /// Default 0: any view will do, as in Tribes.
    pub quorum: usize,
}

impl CoordinatorConfig {
    /// The default of [`timeout`](Self::timeout), 2 s.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// The default of [`patience`](Self::patience), 5 s.
    pub const PATIENCE: Duration = Duration::from_secs(5);
    /// The longest time between two questions for a view, 60 s (or [`patience`](Self::patience), if that is longer).
    pub const MAX_WAIT: Duration = Duration::from_secs(60);

    const KEYS: &'static [&'static str] = &["timeout", "patience", "quorum"];

    /// With this timeout.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With this patience.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With this quorum.
    #[must_use]
    pub const fn with_quorum(mut self, quorum: usize) -> Self {
        self.quorum = quorum;
        self
    }

    /// Sets an option from text: its name in snake_case; `timeout` and `patience` as in `250ms`, `1s`, `5m`; `quorum` as a
    /// whole number.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let time = |key| {
            let time = duration(value).filter(|time| TIMES.contains(time));
            time.ok_or_else(|| invalid(key, value.to_owned(), TIMES_TEXT))
        };
        match key {
            "timeout" => self.timeout = time("timeout")?,
            "patience" => self.patience = time("patience")?,
            "quorum" => {
                let quorum = value.trim().parse().ok().filter(|quorum| *quorum <= MAX_QUORUM);
                self.quorum = quorum.ok_or_else(|| invalid("quorum", value.to_owned(), QUORUM_TEXT))?;
            }
            _ => {
                let (key, known) = (key.to_owned(), Self::KEYS);
                return Err(ConfigError::UnknownKey { interceptor: NAME, key, known });
            }
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (key, time) in [("timeout", self.timeout), ("patience", self.patience)] {
            if !TIMES.contains(&time) {
                return Err(invalid(key, format!("{time:?}"), TIMES_TEXT));
            }
        }
        if self.quorum > MAX_QUORUM {
            return Err(invalid("quorum", self.quorum.to_string(), QUORUM_TEXT));
        }
        Ok(())
    }
}

const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
const TIMES_TEXT: &str = "a duration from 10ms to 10m";
const MAX_QUORUM: usize = super::election::MAX_MEMBERS;
const QUORUM_TEXT: &str = "a whole number from 0 to 4096";

fn invalid(key: &'static str, value: String, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value, expected }
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self { timeout: Self::TIMEOUT, patience: Self::PATIENCE, quorum: 0 }
    }
}

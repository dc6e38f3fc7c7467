//! Options of [`TcpFailureDetector`](super::TcpFailureDetector).

use std::time::Duration;

use tribes_core::SendOptions;

use super::NAME;
use crate::ConfigError;
use crate::config::{DURATION, duration};

/// Options of [`TcpFailureDetector`](super::TcpFailureDetector).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpFailureDetectorConfig {
    /// Option bits that this layer's probes towards Java members carry, and that a probe must have to be taken for one
    /// (Tribes: `optionFlag`). Must be the same on all members. Default none.
    pub trigger: SendOptions,
    /// How long a probe may take that only connects. With the read test a probe may take the longer of this and
    /// [`read_test_timeout`](Self::read_test_timeout). Default [`CONNECT_TIMEOUT`](Self::CONNECT_TIMEOUT).
    pub connect_timeout: Duration,
    /// Whether a probe must be *answered* by the other process; without it, being able to connect is enough, which the
    /// kernel of a frozen process still allows (Tribes: `performReadTest`, off). It concerns Java members; those of this
    /// project always answer. Default on.
    pub read_test: bool,
    /// How long the answer may take, connecting included. Short finds a frozen process soon; long spares one that is slow,
    /// as by garbage collection. Default [`READ_TEST_TIMEOUT`](Self::READ_TEST_TIMEOUT) (Tribes: 5 s).
    pub read_test_timeout: Duration,
    /// How long a silent member that still answers is probed at the pace of [`recheck_interval`](Self::recheck_interval);
    /// from then on every 5 s. It stays a suspect all the time (T34). Default
    /// [`REMOVE_SUSPECTS_TIMEOUT`](Self::REMOVE_SUSPECTS_TIMEOUT).
    pub remove_suspects_timeout: Duration,
    /// How often a suspect is probed. Default [`RECHECK_INTERVAL`](Self::RECHECK_INTERVAL) (Tribes: each heartbeat, 5 s).
    pub recheck_interval: Duration,
    /// How many probes run at a time; others wait. At least 1. Default [`MAX_PROBES`](Self::MAX_PROBES).
    pub max_probes: usize,
}

impl TcpFailureDetectorConfig {
    /// The default of [`connect_timeout`](Self::connect_timeout), 1 s.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
    /// The default of [`read_test_timeout`](Self::read_test_timeout), 1 s.
    pub const READ_TEST_TIMEOUT: Duration = Duration::from_secs(1);
    /// The default of [`remove_suspects_timeout`](Self::remove_suspects_timeout), 300 s.
    pub const REMOVE_SUSPECTS_TIMEOUT: Duration = Duration::from_secs(300);
    /// The default of [`recheck_interval`](Self::recheck_interval), 1 s.
    pub const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
    /// The default of [`max_probes`](Self::max_probes), 64.
    pub const MAX_PROBES: usize = 64;

    const KEYS: &'static [&'static str] = &[
        "trigger",
        "connect_timeout",
        "read_test",
        "read_test_timeout",
        "remove_suspects_timeout",
        "recheck_interval",
        "max_probes",
    ];

    /// With these option bits.
    #[must_use]
    pub const fn with_trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }

    /// With this limit for connecting.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// With or without the read test.
    #[must_use]
    pub const fn with_read_test(mut self, read_test: bool) -> Self {
        self.read_test = read_test;
        self
    }

    /// With this limit for the answer.
    #[must_use]
    pub const fn with_read_test_timeout(mut self, timeout: Duration) -> Self {
        self.read_test_timeout = timeout;
        self
    }

    /// With this time of watching suspects closely.
    #[must_use]
    pub const fn with_remove_suspects_timeout(mut self, timeout: Duration) -> Self {
        self.remove_suspects_timeout = timeout;
        self
    }

    /// With suspects probed this often.
    #[must_use]
    pub const fn with_recheck_interval(mut self, interval: Duration) -> Self {
        self.recheck_interval = interval;
        self
    }

    /// With at most this many probes at a time.
    #[must_use]
    pub const fn with_max_probes(mut self, probes: usize) -> Self {
        self.max_probes = probes;
        self
    }

    /// Sets an option from text: its name in snake_case; durations as in `250ms`, `1s`, `5m`; `read_test` as `true` or
    /// `false`; `trigger` as an integer or names of options.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let time = || duration(value).ok_or_else(|| invalid(key, value, DURATION));
        match key {
            "connect_timeout" => self.connect_timeout = time()?,
            "read_test_timeout" => self.read_test_timeout = time()?,
            "remove_suspects_timeout" => self.remove_suspects_timeout = time()?,
            "recheck_interval" => self.recheck_interval = time()?,
            "read_test" => {
                self.read_test = value.trim().parse().map_err(|_not_a_bool| invalid(key, value, "true or false"))?;
            }
            "max_probes" => {
                let probes = value.trim().parse().ok().filter(|probes| PROBES.contains(probes));
                self.max_probes = probes.ok_or_else(|| invalid(key, value, PROBES_TEXT))?;
            }
            _ => {
                let expected = "an integer, or names of send options joined by commas";
                self.trigger = value.parse().map_err(|_unknown_option| invalid(key, value, expected))?;
            }
        }
        Ok(())
    }

    /// How long one probe may take.
    pub(super) fn probe_limit(&self) -> Duration {
        if self.read_test { self.read_test_timeout.max(self.connect_timeout) } else { self.connect_timeout }
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("read_test_timeout", self.read_test_timeout),
            ("recheck_interval", self.recheck_interval),
        ];
        if let Some((key, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(invalid(key, "0s", DURATION));
        }
        if !PROBES.contains(&self.max_probes) {
            return Err(invalid("max_probes", &self.max_probes.to_string(), PROBES_TEXT));
        }
        Ok(())
    }
}

const PROBES: std::ops::RangeInclusive<usize> = 1..=65_536;
const PROBES_TEXT: &str = "a number from 1 to 65536";

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for TcpFailureDetectorConfig {
    fn default() -> Self {
        Self {
            trigger: SendOptions::empty(),
            connect_timeout: Self::CONNECT_TIMEOUT,
            read_test: true,
            read_test_timeout: Self::READ_TEST_TIMEOUT,
            remove_suspects_timeout: Self::REMOVE_SUSPECTS_TIMEOUT,
            recheck_interval: Self::RECHECK_INTERVAL,
            max_probes: Self::MAX_PROBES,
        }
    }
}

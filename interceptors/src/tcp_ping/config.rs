//! Options of [`TcpPing`](super::TcpPing).

use std::ops::RangeInclusive;
use std::time::Duration;

use tribes_core::SendOptions;

use super::NAME;
use crate::ConfigError;
use crate::config::duration;

/// Options of [`TcpPing`](super::TcpPing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpPingConfig {
    /// How often each member is pinged, if its last ping has been answered; 10 ms to 1 h. Default
    /// [`INTERVAL`](Self::INTERVAL) (Tribes: 1 s with `useThread`, else each heartbeat, 5 s).
    pub interval: Duration,
    /// Whether a ping must be acknowledged. Without it, that it could be written is enough, which the kernel of a frozen
    /// process still allows for a while (Tribes: never acknowledged). Default on.
    pub ack: bool,
    /// Option bits that pings carry, and that a message must have to be taken for one (Tribes: `optionFlag`). Must be the
    /// same on all members. Default none.
    pub trigger: SendOptions,
}

impl TcpPingConfig {
    /// The default of [`interval`](Self::interval), 1 s.
    pub const INTERVAL: Duration = Duration::from_secs(1);

    const KEYS: &'static [&'static str] = &["interval", "ack", "trigger"];

    /// With this interval.
    #[must_use]
    pub const fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// With or without acknowledgements.
    #[must_use]
    pub const fn with_ack(mut self, ack: bool) -> Self {
        self.ack = ack;
        self
    }

    /// With these option bits.
    #[must_use]
    pub const fn with_trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }

    /// Sets an option from text: its name in snake_case; `interval` as in `250ms`, `1s`, `5m`; `ack` as `true` or `false`;
    /// `trigger` as an integer or names of options.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "interval" => {
                let interval = duration(value).filter(|interval| INTERVALS.contains(interval));
                self.interval = interval.ok_or_else(|| invalid("interval", value, INTERVALS_TEXT))?;
            }
            "ack" => {
                self.ack = value.trim().parse().map_err(|_not_a_bool| invalid("ack", value, "true or false"))?;
            }
            "trigger" => {
                let expected = "an integer, or names of send options joined by commas";
                self.trigger = value.parse().map_err(|_unknown_option| invalid("trigger", value, expected))?;
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
        if INTERVALS.contains(&self.interval) {
            return Ok(());
        }
        Err(invalid("interval", &format!("{:?}", self.interval), INTERVALS_TEXT))
    }

    /// What pings are sent with.
    pub(super) fn options(&self) -> SendOptions {
        if self.ack { self.trigger | SendOptions::USE_ACK } else { self.trigger }
    }
}

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const INTERVALS_TEXT: &str = "a duration from 10ms to 1h";

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for TcpPingConfig {
    fn default() -> Self {
        Self { interval: Self::INTERVAL, ack: true, trigger: SendOptions::empty() }
    }
}

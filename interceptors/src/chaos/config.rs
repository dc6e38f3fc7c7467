//! Options of [`Chaos`](super::Chaos).

use std::time::Duration;

use super::NAME;
use crate::ConfigError;
use crate::config::{DURATION, duration};

/// Options of [`Chaos`](super::Chaos). Probabilities are from 0 to 1, for each message and destination; all are 0 by default.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChaosConfig {
    /// What decides all chances. Default `None`: a random one, which is logged at the start.
    pub seed: Option<u64>,
    /// The probability that a message is lost.
    pub loss: f64,
    /// The probability that a message is sent twice.
    pub duplicate: f64,
    /// The probability that a message is put aside, so that later ones overtake it.
    pub reorder: f64,
    /// For how long a message is put aside at most; the time is drawn from this range. Above zero. Default
    /// [`REORDER_WITHIN`](Self::REORDER_WITHIN).
    pub reorder_within: Duration,
    /// The probability that a message is delayed, and with it those behind it: a delay keeps the order.
    pub delay: f64,
    /// The shortest delay. Default zero.
    pub delay_min: Duration,
    /// The longest delay. Not below [`delay_min`](Self::delay_min). Default [`DELAY_MAX`](Self::DELAY_MAX).
    pub delay_max: Duration,
    /// After how long the acknowledgement of a lost message is given up. Above zero. Default
    /// [`ACK_TIMEOUT`](Self::ACK_TIMEOUT), as the TCP sender has it.
    pub ack_timeout: Duration,
}

const PROBABILITY: &str = "a probability such as 0.05 or 5%, from 0 to 1";

impl ChaosConfig {
    /// The default of [`reorder_within`](Self::reorder_within), 100 ms.
    pub const REORDER_WITHIN: Duration = Duration::from_millis(100);
    /// The default of [`delay_max`](Self::delay_max), 100 ms.
    pub const DELAY_MAX: Duration = Duration::from_millis(100);
    /// The default of [`ack_timeout`](Self::ack_timeout), 3 s.
    pub const ACK_TIMEOUT: Duration = Duration::from_secs(3);

    const KEYS: &'static [&'static str] =
        &["seed", "loss", "duplicate", "reorder", "reorder_within", "delay", "delay_min", "delay_max", "ack_timeout"];

    /// With this seed.
    #[must_use]
    pub fn with_seed(mut self, seed: impl Into<Option<u64>>) -> Self {
        self.seed = seed.into();
        self
    }

    /// With messages lost with this probability.
    #[must_use]
    pub const fn with_loss(mut self, probability: f64) -> Self {
        self.loss = probability;
        self
    }

    /// With messages sent twice with this probability.
    #[must_use]
    pub const fn with_duplicate(mut self, probability: f64) -> Self {
        self.duplicate = probability;
        self
    }

    /// With messages put aside with this probability, for at most so long.
    #[must_use]
    pub const fn with_reorder(mut self, probability: f64, within: Duration) -> Self {
        self.reorder = probability;
        self.reorder_within = within;
        self
    }

    /// With messages delayed with this probability, by `min` to `max`.
    #[must_use]
    pub const fn with_delay(mut self, probability: f64, min: Duration, max: Duration) -> Self {
        self.delay = probability;
        self.delay_min = min;
        self.delay_max = max;
        self
    }

    /// With the acknowledgement of a lost message given up after this time.
    #[must_use]
    pub const fn with_ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// Sets an option from text: its name in snake_case; probabilities as `0.05` or `5%`, durations as in `250ms`.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let chance = || probability(value).ok_or_else(|| invalid(key, value, PROBABILITY));
        let time = || duration(value).ok_or_else(|| invalid(key, value, DURATION));
        match key {
            "loss" => self.loss = chance()?,
            "duplicate" => self.duplicate = chance()?,
            "reorder" => self.reorder = chance()?,
            "delay" => self.delay = chance()?,
            "reorder_within" => self.reorder_within = time()?,
            "delay_min" => self.delay_min = time()?,
            "delay_max" => self.delay_max = time()?,
            "ack_timeout" => self.ack_timeout = time()?,
            _ => {
                let seed = value.trim().parse().map_err(|_no_number| invalid(key, value, "a number of 64 bits"))?;
                self.seed = Some(seed);
            }
        }
        Ok(())
    }

    /// Checks what the type system does not, and what one option says of another.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let chances =
            [("loss", self.loss), ("duplicate", self.duplicate), ("reorder", self.reorder), ("delay", self.delay)];
        if let Some((key, chance)) = chances.iter().find(|(_, chance)| !(0.0..=1.0).contains(chance)) {
            return Err(invalid(key, &chance.to_string(), PROBABILITY));
        }
        let times = [("reorder_within", self.reorder_within), ("ack_timeout", self.ack_timeout)];
        if let Some((key, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(invalid(key, "0s", DURATION));
        }
        if self.delay_min > self.delay_max {
            return Err(invalid("delay_min", &format!("{:?}", self.delay_min), "at most delay_max"));
        }
        Ok(())
    }
}

fn probability(text: &str) -> Option<f64> {
    let text = text.trim();
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&value).then_some(value)
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for ChaosConfig {
    fn default() -> Self {
        Self {
            seed: None,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_within: Self::REORDER_WITHIN,
            delay: 0.0,
            delay_min: Duration::ZERO,
            delay_max: Self::DELAY_MAX,
            ack_timeout: Self::ACK_TIMEOUT,
        }
    }
}

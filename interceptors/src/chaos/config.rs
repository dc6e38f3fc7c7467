//! Options of [`Chaos`](super::Chaos).

use std::time::Duration;

use tribes_core::settings::{SettingFault, duration, fraction, number, optional};

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

impl ChaosConfig {
    /// The default of [`reorder_within`](Self::reorder_within), 100 ms.
    pub const REORDER_WITHIN: Duration = Duration::from_millis(100);
    /// The default of [`delay_max`](Self::delay_max), 100 ms.
    pub const DELAY_MAX: Duration = Duration::from_millis(100);
    /// The default of [`ack_timeout`](Self::ack_timeout), 3 s.
    pub const ACK_TIMEOUT: Duration = Duration::from_secs(3);

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

/// A duration above zero.
const SHORTEST: Duration = Duration::from_micros(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

tribes_core::settings! { ChaosConfig {
    seed: optional("random", number(0..=u64::MAX)),
        "Decides all chances, so that a run can be repeated; a random one is logged.";
    loss: fraction(0.0..=1.0), "The probability that a message is lost.";
    duplicate: fraction(0.0..=1.0), "The probability that a message is sent twice.";
    reorder: fraction(0.0..=1.0), "The probability that a message is put aside, so that later ones overtake it.";
    reorder_within: duration(SHORTEST..=DAY), "For how long a message is put aside at most.";
    delay: fraction(0.0..=1.0), "The probability that a message is delayed, and with it those behind it.";
    delay_min: duration(Duration::ZERO..=DAY), "The shortest delay.";
    delay_max: duration(Duration::ZERO..=DAY), "The longest delay; not below delay_min.";
    ack_timeout: duration(SHORTEST..=DAY), "After how long the acknowledgement of a lost message is given up.";
} check(|config| {
    if config.delay_min > config.delay_max {
        return Err(SettingFault::together("delay_min", "it must be at most delay_max"));
    }
    Ok(())
}) }

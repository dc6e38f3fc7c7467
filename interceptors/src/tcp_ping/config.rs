//! Options of [`TcpPing`](super::TcpPing).

use std::time::Duration;

use tribes_core::SendOptions;
use tribes_core::settings::{duration, flag, options};

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

    /// What pings are sent with.
    pub(super) fn options(&self) -> SendOptions {
        if self.ack { self.trigger | SendOptions::USE_ACK } else { self.trigger }
    }
}

impl Default for TcpPingConfig {
    fn default() -> Self {
        Self { interval: Self::INTERVAL, ack: true, trigger: SendOptions::empty() }
    }
}

tribes_core::settings! { TcpPingConfig {
    interval: duration(Duration::from_millis(10)..=Duration::from_secs(3600)), "How often each member is pinged.";
    ack: flag(), "Whether a ping must be acknowledged; otherwise it is enough that it could be written.";
    trigger: options(),
        "Option bits that pings carry, and that a message must have to be taken for one; the same on all members.";
} }

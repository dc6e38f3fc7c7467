//! How a simulated network behaves.

use std::time::Duration;

/// What happens to frames on a link, or on all of them.
///
/// Probabilities are from 0 (never) to 1 (always). Loss takes a whole frame without a trace, as a network of datagrams does:
/// a message is then not retransmitted, and its sender sees an acknowledgement time out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinkConfig {
    /// The shortest delay. Default 1 ms.
    pub min_delay: Duration,
    /// The longest delay. Default 3 ms. Delays are drawn evenly in between; order is kept all the same.
    pub max_delay: Duration,
    /// How probably a frame is lost. Default 0.
    pub loss: f64,
    /// How probably a frame arrives twice. Default 0.
    pub duplicate: f64,
    /// How probably a frame may be overtaken by later ones. Default 0: what was sent first arrives first.
    pub reorder: f64,
    /// How much longer at most such a frame takes. Default 10 ms.
    pub reorder_delay: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(3),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(10),
        }
    }
}

impl LinkConfig {
    /// With delays between these two.
    #[must_use]
    pub const fn with_delay(mut self, min: Duration, max: Duration) -> Self {
        self.min_delay = min;
        self.max_delay = max;
        self
    }

    /// With this probability of loss.
    #[must_use]
    pub const fn with_loss(mut self, probability: f64) -> Self {
        self.loss = probability;
        self
    }

    /// With this probability that a frame arrives twice.
    #[must_use]
    pub const fn with_duplicate(mut self, probability: f64) -> Self {
        self.duplicate = probability;
        self
    }

    /// With this probability that a frame is late by up to `delay` and overtaken.
    #[must_use]
    pub const fn with_reorder(mut self, probability: f64, delay: Duration) -> Self {
        self.reorder = probability;
        self.reorder_delay = delay;
        self
    }
}

/// What is the same everywhere in a simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetConfig {
    /// How long a sender waits for an acknowledgement, or for a connection. Default 3 s.
    pub ack_timeout: Duration,
    /// How often a member announces itself. Default 500 ms.
    pub heartbeat: Duration,
    /// How long a member is believed in without an announcement. Default 3 s.
    pub expiry: Duration,
    /// Bytes that may be on the way to one member without its receiver having taken them. Default 1 MiB.
    pub window: usize,
    /// Bytes that a receiver holds for its layers and listeners. Default 8 MiB.
    pub receiver_memory: usize,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(3),
            heartbeat: Duration::from_millis(500),
            expiry: Duration::from_secs(3),
            window: 1 << 20,
            receiver_memory: 8 << 20,
        }
    }
}

impl NetConfig {
    /// With this deadline for acknowledgements.
    #[must_use]
    pub const fn with_ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// With announcements this often, believed for so long.
    #[must_use]
    pub const fn with_heartbeat(mut self, every: Duration, expiry: Duration) -> Self {
        self.heartbeat = every;
        self.expiry = expiry;
        self
    }

    /// With so many bytes on the way to one member.
    #[must_use]
    pub const fn with_window(mut self, bytes: usize) -> Self {
        self.window = bytes;
        self
    }

    /// With so many bytes in a receiver.
    #[must_use]
    pub const fn with_receiver_memory(mut self, bytes: usize) -> Self {
        self.receiver_memory = bytes;
        self
    }
}

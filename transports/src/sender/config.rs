//! What can be set about the sender.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tribes_core::settings::{SettingFault, duration, number, optional, parsed, size};
use tribes_core::wire::Limits;

/// Time for a message from its acceptance, or from the last sign of progress at its member, to its outcome (Tribes:
/// `timeout`).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a TCP connection and, between our own nodes, its hello.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Members up to which a sender connects to each at once; beyond it connects when there is something to send.
pub const DEFAULT_EAGER_LIMIT: usize = 64;
/// Bytes gathered for one write. More saves no system calls worth having and delays what stands behind it.
pub const DEFAULT_COALESCE: usize = 256 << 10;

/// When a connection to a new member is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connect {
    /// At once, in groups of up to this many members: their death is then noticed by the connection within milliseconds.
    Eager(usize),
    /// With the first message.
    Lazy,
}

impl FromStr for Connect {
    type Err = SettingFault;

    /// Reads `lazy`, `eager`, or `eager:64` with another number of members.
    fn from_str(text: &str) -> Result<Self, SettingFault> {
        match text.trim() {
            "lazy" => Ok(Self::Lazy),
            "eager" => Ok(Self::Eager(DEFAULT_EAGER_LIMIT)),
            other => {
                let limit = other.strip_prefix("eager:").and_then(|limit| limit.parse().ok());
                limit.map(Self::Eager).ok_or_else(|| SettingFault::invalid("connect", text, CONNECT_TEXT))
            }
        }
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lazy => f.write_str("lazy"),
            Self::Eager(limit) => write!(f, "eager:{limit}"),
        }
    }
}

const CONNECT_TEXT: &str = "lazy, eager, or eager:64 with a number of members";

/// Configuration of a [`PooledParallelSender`](super::PooledParallelSender); checked when the sender starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderConfig {
    /// How long one member may make no progress with a message before it fails there. Exact: Tribes' 3 s could last 5 s.
    /// Default [`DEFAULT_TIMEOUT`].
    pub timeout: Duration,
    /// Default [`DEFAULT_CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// Default eager, up to [`DEFAULT_EAGER_LIMIT`] members.
    pub connect: Connect,
    /// Most bytes gathered for one write; default [`DEFAULT_COALESCE`].
    pub coalesce: usize,
    /// Either keep-alive makes connections short-lived, so that none is made before there is something to send, and a member's
    /// death is noticed by its next message or its heartbeats instead of its connection. Both close when nothing is under way.
    ///
    /// Close a connection once more than so many messages went over it (0: after each, as in Tribes); default `None`, never.
    pub keep_alive_count: Option<u64>,
    /// Close a connection this long after it was opened, at the next heartbeat; default `None`, never.
    pub keep_alive_time: Option<Duration>,
    /// What may be sent.
    pub limits: Limits,
}

impl SenderConfig {
    /// With at most this many bytes gathered for one write.
    #[must_use]
    pub const fn with_coalesce(mut self, bytes: usize) -> Self {
        self.coalesce = bytes;
        self
    }

    /// With this timeout.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With this connect timeout.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// With connections made this way.
    #[must_use]
    pub const fn with_connect(mut self, connect: Connect) -> Self {
        self.connect = connect;
        self
    }

    /// With connections closed after more than so many messages.
    #[must_use]
    pub const fn with_keep_alive_count(mut self, count: Option<u64>) -> Self {
        self.keep_alive_count = count;
        self
    }

    /// With connections closed after this time.
    #[must_use]
    pub const fn with_keep_alive_time(mut self, time: Option<Duration>) -> Self {
        self.keep_alive_time = time;
        self
    }

    /// With these limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            connect: Connect::Eager(DEFAULT_EAGER_LIMIT),
            coalesce: DEFAULT_COALESCE,
            keep_alive_count: None,
            keep_alive_time: None,
            limits: Limits::default(),
        }
    }
}

/// A duration above zero.
const SHORTEST: Duration = Duration::from_micros(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

tribes_core::settings! { SenderConfig {
    timeout: duration(SHORTEST..=DAY), "How long one member may make no progress with a message before it fails there.";
    connect_timeout: duration(SHORTEST..=DAY), "How long a connection may take.";
    connect: parsed(CONNECT_TEXT),
        "When a connection to a new member is made: with the first message, or at once in groups of up to so many members.";
    coalesce: size(1..=1 << 30), "The most bytes gathered for one write.";
    keep_alive_count: optional("unlimited", number(0..=u64::MAX)),
        "A connection is closed once more than so many messages went over it.";
    keep_alive_time: optional("unlimited", duration(Duration::ZERO..=YEAR)),
        "A connection is closed this long after it was opened, at the next heartbeat.";
    limits.max_frame key "max_frame": size(1024..=1 << 40), "The longest frame that is sent, in bytes.";
    limits.max_member key "max_member": size(128..=1 << 40), "The longest encoding of a member that is taken, in bytes.";
    limits.max_message_id key "max_message_id": size(16..=1 << 40), "The longest message id that is sent, in bytes.";
} }

#[cfg(test)]
mod tests {
    use tribes_core::settings::Settings as _;

    use super::*;

    #[test]
    fn settings_from_text() {
        let pairs = [("connect", "eager:7"), ("timeout", "1s"), ("keep_alive_count", "0"), ("max_frame", "1KiB")];
        let config = SenderConfig::from_pairs(pairs).unwrap();
        let expected = SenderConfig::default().with_connect(Connect::Eager(7)).with_timeout(Duration::from_secs(1));
        let limits = Limits::default().with_max_frame(1024);
        assert_eq!(config, expected.with_keep_alive_count(Some(0)).with_limits(limits));
        assert_eq!(("lazy".parse(), "eager".parse()), (Ok(Connect::Lazy), Ok(SenderConfig::default().connect)));
        for (key, wrong) in [("connect", "soon"), ("connect", "eager:"), ("timeout", "0s"), ("coalesce", "0")] {
            assert_eq!(SenderConfig::from_pairs([(key, wrong)]).unwrap_err().remove(0).key, key, "{wrong}");
        }
        assert_eq!(SenderConfig::default().with_timeout(Duration::ZERO).validate().unwrap_err().key, "timeout");
        SenderConfig::default().validate().unwrap();
    }
}

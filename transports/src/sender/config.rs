//! What can be set about the sender.

use std::time::Duration;

use tribes_core::BoxError;
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

/// Configuration of a [`PooledParallelSender`](super::PooledParallelSender).
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
    /// Checked when the sender starts.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), BoxError> {
        for (name, zero) in [
            ("timeout", self.timeout.is_zero()),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("coalesce", self.coalesce == 0),
        ] {
            if zero {
                return Err(format!("the sender's {name} is 0, but must be more").into());
            }
        }
        Ok(())
    }

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

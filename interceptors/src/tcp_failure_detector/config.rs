//! Options of [`TcpFailureDetector`](super::TcpFailureDetector).

use std::time::Duration;

use tribes_core::SendOptions;
use tribes_core::settings::{duration, flag, number, options};

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

    /// How long one probe may take.
    pub(super) fn probe_limit(&self) -> Duration {
        if self.read_test { self.read_test_timeout.max(self.connect_timeout) } else { self.connect_timeout }
    }
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

/// A duration above zero.
const SHORTEST: Duration = Duration::from_micros(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

tribes_core::settings! { TcpFailureDetectorConfig {
    trigger: options(),
        "Option bits that probes carry, and that a message must have to be taken for one; the same on all members.";
    connect_timeout: duration(SHORTEST..=DAY), "How long a probe may take that only connects.";
    read_test: flag(), "Whether a probe must be answered by the other process, not only by its kernel.";
    read_test_timeout: duration(SHORTEST..=DAY), "How long the answer to a probe may take, connecting included.";
    remove_suspects_timeout: duration(Duration::ZERO..=DAY),
        "How long a silent member that still answers is probed at each recheck_interval; from then on every 5 s.";
    recheck_interval: duration(SHORTEST..=DAY), "How often a suspect is probed.";
    max_probes: number(1..=65_536), "How many probes run at a time; others wait.";
} }

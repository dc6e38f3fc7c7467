//! Options of [`AgreedViews`](super::AgreedViews).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use tribes_core::settings::{choice, duration, list, number, parsed};
use tribes_core::{Member, MemberId};

use super::MAX_MEMBERS;

/// Options of [`AgreedViews`](super::AgreedViews).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgreedViewsConfig {
    /// How often each member tells each other one what it holds; 10 ms to 1 min, at most a third of `silence`. Default
    /// [`HEARTBEAT`](Self::HEARTBEAT). A group of n members sends n × (n - 1) such messages of about 130 bytes each time.
    pub heartbeat: Duration,
    /// After how long without an answer a member is out of touch; 50 ms to 10 min. Default [`SILENCE`](Self::SILENCE). It is
    /// the longest that a side goes on writing after the network was cut, and, a fourth longer, how long another side waits before
    /// it begins to.
    pub silence: Duration,
    /// How long a member may take to answer a proposal before the next one is made without it; 10 ms to 10 min. Default
    /// [`TIMEOUT`](Self::TIMEOUT).
    pub timeout: Duration,
    /// How long members are collected before a view is proposed, so that several that come at once make one view; up to
    /// 1 min. Default [`SETTLE`](Self::SETTLE).
    pub settle: Duration,
    /// Which side may write. Default [`Quorum::None`]: each.
    pub quorum: Quorum,
    /// How many members the group is meant to have, or for [`Quorum::Weighted`] how much they weigh together; up to 1,000,000.
    /// Needed by every quorum but [`Quorum::None`]; default 0.
    pub members: u32,
    /// What members weigh with [`Quorum::Weighted`]; the first that fits counts, and 1 if none does. At most 64. Default none.
    pub weights: Vec<Weight>,
}

/// Which side may write: the ready [policies](super::QuorumPolicy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quorum {
    /// Each ([`NoQuorum`](super::NoQuorum)).
    #[default]
    None,
    /// The one with more than half of a fixed number of members ([`StaticMajority`](super::StaticMajority)).
    Static,
    /// The one with more than half of those that were allowed last ([`DynamicMajority`](super::DynamicMajority)).
    Dynamic,
    /// The one that weighs more than half of a fixed number ([`Weighted`](super::Weighted)).
    Weighted,
    /// The one with the oldest of those that were allowed last ([`KeepOldest`](super::KeepOldest)).
    KeepOldest,
}

/// What a member weighs, by something that it says of itself.
///
/// As text: `domain:east=3`, `id:0102030405060708090a0b0c0d0e0f10=0`, or `payload` for the whole number that the member's payload
/// consists of, in decimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weight {
    /// Members of this domain.
    Domain(String, u32),
    /// The member with this id.
    Id(MemberId, u32),
    /// What the payload says, if it is a number up to 1,000,000.
    Payload,
}

/// The most that one member weighs.
pub(super) const MAX_WEIGHT: u32 = 1_000_000;

impl Weight {
    /// What `member` weighs by this; `None` if it is not about it.
    #[must_use]
    pub fn of(&self, member: &Member) -> Option<u32> {
        match self {
            Self::Domain(domain, weight) => (member.domain() == domain.as_bytes()).then_some(*weight),
            Self::Id(id, weight) => (member.id() == *id).then_some(*weight),
            Self::Payload => {
                std::str::from_utf8(member.payload()).ok()?.trim().parse().ok().filter(|weight| *weight <= MAX_WEIGHT)
            }
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain, weight) => write!(f, "domain:{domain}={weight}"),
            Self::Id(id, weight) => write!(f, "id:{id}={weight}"),
            Self::Payload => f.write_str("payload"),
        }
    }
}

/// A text that is no [`Weight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a weight is payload, domain:NAME=NUMBER or id:DIGITS=NUMBER, with a number up to 1000000")]
pub struct ParseWeightError;

impl FromStr for Weight {
    type Err = ParseWeightError;

    fn from_str(text: &str) -> Result<Self, ParseWeightError> {
        if text == "payload" {
            return Ok(Self::Payload);
        }
        let (key, weight) = text.rsplit_once('=').ok_or(ParseWeightError)?;
        let weight = weight.parse().ok().filter(|weight| *weight <= MAX_WEIGHT).ok_or(ParseWeightError)?;
        match key.split_once(':').ok_or(ParseWeightError)? {
            ("domain", domain) => Ok(Self::Domain(domain.to_owned(), weight)),
            ("id", id) => Ok(Self::Id(id.parse().map_err(|_malformed| ParseWeightError)?, weight)),
            _ => Err(ParseWeightError),
        }
    }
}

impl AgreedViewsConfig {
    /// The default of [`heartbeat`](Self::heartbeat), 500 ms.
    pub const HEARTBEAT: Duration = Duration::from_millis(500);
    /// The default of [`silence`](Self::silence), 2 s.
    pub const SILENCE: Duration = Duration::from_secs(2);
    /// The default of [`timeout`](Self::timeout), 1 s.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// The default of [`settle`](Self::settle), 100 ms.
    pub const SETTLE: Duration = Duration::from_millis(100);

    /// With this heartbeat, and this silence after which a member is out of touch.
    #[must_use]
    pub const fn with_heartbeat(mut self, heartbeat: Duration, silence: Duration) -> Self {
        self.heartbeat = heartbeat;
        self.silence = silence;
        self
    }

    /// With this timeout.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With this time to settle.
    #[must_use]
    pub const fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// With this quorum in a group that is meant to have so many members.
    #[must_use]
    pub const fn with_quorum(mut self, quorum: Quorum, members: u32) -> Self {
        self.quorum = quorum;
        self.members = members;
        self
    }

    /// With these weights.
    #[must_use]
    pub fn with_weights(mut self, weights: impl IntoIterator<Item = Weight>) -> Self {
        self.weights = weights.into_iter().collect();
        self
    }

    /// How long another side waits before it writes, so that this one has stopped, even if one clock runs a fourth faster.
    pub(super) fn grace(&self) -> Duration {
        self.silence + self.silence / 4
    }

    /// How long a member waits to be led before it looks for another who does.
    pub(super) fn patience(&self) -> Duration {
        // It takes its time to settle first.
        (self.timeout * 3).max(self.silence) + self.settle
    }
}

impl Default for AgreedViewsConfig {
    fn default() -> Self {
        Self {
            heartbeat: Self::HEARTBEAT,
            silence: Self::SILENCE,
            timeout: Self::TIMEOUT,
            settle: Self::SETTLE,
            quorum: Quorum::None,
            members: 0,
            weights: Vec::new(),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HEARTBEATS: RangeInclusive<Duration> = Duration::from_millis(10)..=MINUTE;
const SILENCES: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(600);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
const QUORUMS: &[(&str, Quorum)] = &[
    ("none", Quorum::None),
    ("static", Quorum::Static),
    ("dynamic", Quorum::Dynamic),
    ("weighted", Quorum::Weighted),
    ("keep-oldest", Quorum::KeepOldest),
];

const _: () = assert!(MAX_MEMBERS <= MAX_WEIGHT as usize);

tribes_core::settings! { AgreedViewsConfig {
    heartbeat: duration(HEARTBEATS), "How often each member tells each other one what it holds; at most a third of silence.";
    silence: duration(SILENCES), "After how long without an answer a member is out of touch.";
    timeout: duration(TIMEOUTS), "How long a member may take to answer a proposal before the next one is made without it.";
    settle: duration(Duration::ZERO..=MINUTE), "How long members are collected before a view is proposed.";
    quorum: choice(QUORUMS), "Which side may write.";
    members: number(0..=MAX_WEIGHT as u64), "How many members the group is meant to have, or what they weigh together; needed by every quorum but none.";
    weights: list(0..=64, parsed("payload, domain:NAME=NUMBER or id:DIGITS=NUMBER")), "What members weigh with the quorum weighted; 1 if none of these fits.";
} }

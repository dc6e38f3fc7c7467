//! What a write waits for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::Member;

use crate::core::{CopyState as State, Need, OpReport};
use crate::version::Version;

/// What a write waits for before its future completes. In every case it is in the local replica at once, and comes to all
/// others in time, whatever happens to messages; what differs is how much is known by then.
///
/// | durability | completes when | lost if |
/// |---|---|---|
/// | [`Local`](Self::Local) | it is in the local replica | this process ends before any other has it |
/// | [`Queued`](Self::Queued), the default | it is handed to the channel for each member (Tribes: asynchronous) | as before, though that takes bad luck |
/// | [`copies`](Self::copies) | so many others said that they have it | this process and these are lost before others have it |
/// | [`majority`](Self::majority) | more than half of the group have it | more than half of the group is lost at once |
/// | [`all`](Self::all) | all members have it that are there | all of them are lost |
///
/// A majority is one of [`group_size`](crate::MapBuilder::group_size) members if that is set. Otherwise it is one of those
/// that are there: then each side of a split group has a majority of its own.
///
/// When so many have left that what is waited for cannot come, the wait ends at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing.
    Local,
    /// That it is on its way to each member.
    Queued,
    /// That so many others have it.
    Copies {
        /// How many, apart from the local one.
        copies: usize,
        /// How long to wait for them.
        within: Duration,
    },
    /// That more than half of the group have it, the local member counted.
    Majority {
        /// How long to wait for them.
        within: Duration,
    },
    /// That all others have it that are there.
    All {
        /// How long to wait for them.
        within: Duration,
    },
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("nobody else"),
            Self::Queued => f.write_str("to be on its way to all"),
            Self::Copies { copies, within } => write!(f, "{copies} others to have it within {within:?}"),
            Self::Majority { within } => write!(f, "more than half of the group to have it within {within:?}"),
            Self::All { within } => write!(f, "all others to have it within {within:?}"),
        }
    }
}

impl Durability {
    /// `copies` others have it.
    #[must_use]
    pub const fn copies(copies: usize, within: Duration) -> Self {
        Self::Copies { copies, within }
    }

    /// More than half of the group have it.
    #[must_use]
    pub const fn majority(within: Duration) -> Self {
        Self::Majority { within }
    }

    /// All others have it.
    #[must_use]
    pub const fn all(within: Duration) -> Self {
        Self::All { within }
    }

    /// As it travels: its kind, copies, and how long it waits.
    pub(crate) const fn parts(self) -> (u8, usize, Duration) {
        match self {
            Self::Local => (0, 0, Duration::ZERO),
            Self::Queued => (1, 0, Duration::ZERO),
            Self::Copies { copies, within } => (2, copies, within),
            Self::Majority { within } => (3, 0, within),
            Self::All { within } => (4, 0, within),
        }
    }

    /// How long it waits at most.
    pub(crate) const fn within(self) -> Duration {
        self.parts().2
    }

    pub(crate) fn from_parts(kind: u8, copies: u64, within_ms: u64) -> Option<Self> {
        let within = Duration::from_millis(within_ms);
        Some(match kind {
            0 => Self::Local,
            1 => Self::Queued,
            2 => Self::Copies { copies: usize::try_from(copies).ok()?, within },
            3 => Self::Majority { within },
            4 => Self::All { within },
            _ => return None,
        })
    }

    /// What the core is asked for; `majority` is how many others make one.
    pub(crate) fn wanted(self, majority: usize) -> Option<(Need, Duration)> {
        match self {
            Self::Local => None,
            // Handing over does not wait for anybody.
            Self::Queued => Some((Need::Queued, Duration::from_secs(60))),
            Self::Copies { copies, within } => Some((Need::Copies(copies), within)),
            Self::Majority { within } => Some((Need::Copies(majority), within)),
            Self::All { within } => Some((Need::All, within)),
        }
    }
}

/// How far a write has come to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CopyState {
    /// It has said that it has it.
    Has,
    /// It is on its way.
    Sent,
    /// There is no room in the queue to this member: it gets the write when it has caught up.
    Behind,
    /// It has left the group, or died.
    Left,
}

impl CopyState {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Has => 0,
            Self::Sent => 1,
            Self::Behind => 2,
            Self::Left => 3,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Has,
            1 => Self::Sent,
            2 => Self::Behind,
            3 => Self::Left,
            _ => return None,
        })
    }
}

/// A write that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Its version.
    pub version: Version,
    /// How far it had come to each member when what was waited for had happened; empty for [`Durability::Local`].
    pub members: Vec<(Arc<Member>, CopyState)>,
}

pub(crate) fn states(report: OpReport) -> Vec<(Arc<Member>, CopyState)> {
    let state = |state| match state {
        State::Has => CopyState::Has,
        State::Sent => CopyState::Sent,
        State::Behind => CopyState::Behind,
        State::Left => CopyState::Left,
    };
    report.members.into_iter().map(|(member, found)| (member, state(found))).collect()
}

//! Which side of a split group may write.

mod lease;
mod ready;

use std::fmt::Debug;

use tribes_core::Member;

pub use self::lease::{Lease, LeaseGrant, LeaseRequest};
pub(super) use self::ready::configured;
pub use self::ready::{DynamicMajority, KeepOldest, NoQuorum, StaticMajority, Weigh, WeighBy, Weighted};
use super::Seat;

/// Decides which side of a split group may write.
///
/// A *quorum* of a view is what [`holds`](Self::holds) accepts. What a policy has to promise: **of each view, any two quorums have a
/// member in common**, and more members never make less of a quorum. Then at most one side may write at a time, and its
/// [token](super::AgreedView::token) is above those of all sides before, as [`AgreedViews`](super::AgreedViews) spells out.
/// All members have the same policy. It is asked often, and under a lock: it must not block.
///
/// ```
/// use tribes_interceptors::agreed_views::{Ballot, QuorumPolicy, Seat};
///
/// /// The side with all members of the last one but one, at most.
/// #[derive(Debug)]
/// struct AllButOne;
///
/// impl QuorumPolicy for AllButOne {
///     fn name(&self) -> &'static str {
///         "all-but-one"
///     }
///     fn begins(&self, members: &[Seat]) -> bool {
///         members.len() >= 4
///     }
///     fn holds(&self, ballot: &Ballot<'_>) -> bool {
///         // Two of these have a member in common if there are three or more.
///         ballot.last().len() >= 3 && ballot.continuing().count() + 1 >= ballot.last().len()
///     }
/// }
/// ```
pub trait QuorumPolicy: Debug + Send + Sync + 'static {
    /// A word for it, in statistics and logs.
    fn name(&self) -> &'static str;

    /// What a member weighs, up to 1,000,000; asked by the coordinator of each view, and told to the others.
    fn weight(&self, member: &Member) -> u32 {
        let _ = member;
        1
    }

    /// Whether these, none of which remembers a view that was allowed to write, may begin one. Nobody who does remember may go on
    /// elsewhere at the same time: what the policy counts on for that is for it to say.
    fn begins(&self, members: &[Seat]) -> bool;

    /// As [`begins`](Self::begins) after somebody said to [`forget`](super::AgreedViews::forget) what was, and vouches for it
    /// that nobody goes on. Default: the same.
    fn begins_anew(&self, members: &[Seat]) -> bool {
        self.begins(members)
    }

    /// Whether those who are present are enough to go on from the last view that may have written.
    fn holds(&self, ballot: &Ballot<'_>) -> bool;

    /// Whether anything depends on who is present. `false`: each side may always write, at once and whoever is missing.
    fn is_exclusive(&self) -> bool {
        true
    }
}

/// Who is present, and who was in the last view that may have written.
#[derive(Clone, Debug)]
pub struct Ballot<'a> {
    present: Vec<&'a Seat>,
    last: &'a [Seat],
}

impl<'a> Ballot<'a> {
    /// Those of `last` who count are found among `present` by their processes.
    #[must_use]
    pub fn new(present: impl IntoIterator<Item = &'a Seat>, last: &'a [Seat]) -> Self {
        Self { present: present.into_iter().collect(), last }
    }

    /// Everybody who is present.
    #[must_use]
    pub fn present(&self) -> &[&'a Seat] {
        &self.present
    }

    /// Everybody in the last view.
    #[must_use]
    pub const fn last(&self) -> &'a [Seat] {
        self.last
    }

    /// Those of the last view who are present, with the weights that they had there.
    pub fn continuing(&self) -> impl Iterator<Item = &'a Seat> {
        self.last.iter().filter(|seat| self.present.iter().any(|here| here.is(seat)))
    }

    /// Those who are present and have been in some view that was allowed to write.
    pub fn remembering(&self) -> impl Iterator<Item = &'a Seat> {
        self.present.iter().copied().filter(|seat| seat.remembers)
    }
}

pub(super) fn weigh<'a>(seats: impl IntoIterator<Item = &'a Seat>) -> u64 {
    seats.into_iter().map(|seat| u64::from(seat.weight)).sum()
}

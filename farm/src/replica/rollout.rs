//! When a version that is staged goes live. No I/O and no clock.
//!
//! Nobody leads: each member decides for itself by what all have told, and comes to the same as the others do. So nobody's death
//! holds up a roll-out: who is not there does not count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tribes_core::MemberId;

use crate::manifest::Version;

/// When staged versions go live. The same on all members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// On each member as soon as it is staged there. What is rejected or fails on one member is not live on that one only.
    #[default]
    Immediate,
    /// On all members as soon as it is staged on all. If one rejects it nobody activates it; if it fails on one all go back.
    AllStaged,
    /// As [`AllStaged`](Self::AllStaged), on so many at a time, in the order of their ids: the next begins when one before has
    /// activated it without an error.
    AllStagedThenRolling {
        /// On how many at the same time. Zero is taken for one.
        max_unavailable: usize,
    },
}

/// How far a member is with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stage {
    /// It is being fetched, or looked at by [`on_staged`](crate::FarmBuilder::on_staged).
    Fetching {
        /// So many bytes are there.
        done: u64,
    },
    /// It is there, verified and accepted.
    Staged,
    /// It goes live now.
    Activating,
    /// It is live; or, of a removal, gone.
    Active,
}

/// Why a member does without a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// [`on_staged`](crate::FarmBuilder::on_staged) rejected it.
    #[error("rejected: {0}")]
    Rejected(String),
    /// It could not be activated, or [`on_activated`](crate::FarmBuilder::on_activated) failed.
    #[error("failed: {0}")]
    Failed(String),
    /// It could not be fetched.
    #[error("not fetched: {0}")]
    Stalled(String),
    /// One of these on a member that had just joined, while others have the version live: that is its own affair.
    #[error("{0}, on a member that had just joined")]
    Unfit(String),
    /// Another member rejected it, or failed over it.
    #[error("stopped by another member")]
    Followed,
}

/// A member does without this version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) version: Version,
    pub(crate) why: StopReason,
}

/// What a member tells of an artefact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: Version,
    pub(crate) stage: Stage,
    /// The last version that it does without.
    pub(crate) stopped: Option<Stop>,
}

/// How far another member is, seen from one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Behind,
    Staged,
    Activating,
    Active,
    Stopped,
}

impl Other {
    /// `status` is what it told last, if anything.
    pub(super) fn of(status: Option<&Status>, version: Version) -> Self {
        let Some(status) = status else { return Self::Behind };
        if let Some(stop) = status.stopped.as_ref().filter(|stop| stop.version == version) {
            // It has nothing to say to the others.
            return if matches!(stop.why, StopReason::Unfit(_)) { Self::Active } else { Self::Stopped };
        }
        match status.stage {
            // It knows of something later, which is for this member, too: until it has it, nothing goes live for that one's sake, which
            // may never have had this version.
            _ if status.version != version => Self::Behind,
            Stage::Fetching { .. } => Self::Behind,
            Stage::Staged => Self::Staged,
            Stage::Activating => Self::Activating,
            Stage::Active => Self::Active,
        }
    }
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Wait,
    Activate,
    Stop,
}

/// What the member `me` does, that is `staged` or not even that; `joining` if it has just come and nobody relies on it yet.
pub(super) fn decide(
    activation: Activation,
    me: MemberId,
    staged: bool,
    joining: bool,
    others: &BTreeMap<MemberId, Other>,
) -> Decision {
    let all = |fit: fn(&Other) -> bool| others.values().all(fit);
    let any = |wanted: &[Other]| others.values().any(|other| wanted.contains(other));
    if activation != Activation::Immediate && any(&[Other::Stopped]) {
        return Decision::Stop;
    }
    let when = |yes: bool| if yes && staged { Decision::Activate } else { Decision::Wait };
    // Once one has begun, all had it staged; who comes later does not hold up the others.
    let released = any(&[Other::Activating, Other::Active]) || all(|other| *other == Other::Staged);
    match activation {
        Activation::Immediate => when(true),
        Activation::AllStaged => when(released),
        Activation::AllStagedThenRolling { .. } if joining && any(&[Other::Active]) => when(true),
        Activation::AllStagedThenRolling { max_unavailable } => {
            let under_way = others.values().filter(|other| **other == Other::Activating).count();
            let before =
                others.iter().filter(|(id, other)| **id < me && matches!(other, Other::Behind | Other::Staged)).count();
            when(released && under_way + before < max_unavailable.max(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLING: Activation = Activation::AllStagedThenRolling { max_unavailable: 1 };

    fn id(number: u8) -> MemberId {
        MemberId::from_bytes([number; 16])
    }

    fn others(states: &[(u8, Other)]) -> BTreeMap<MemberId, Other> {
        states.iter().map(|(number, state)| (id(*number), *state)).collect()
    }

    fn of(activation: Activation, me: u8, states: &[(u8, Other)]) -> Decision {
        decide(activation, id(me), true, false, &others(states))
    }

    #[test]
    fn at_once_or_when_all_have_it() {
        let fetching = [(1, Other::Behind), (3, Other::Staged)];
        assert_eq!(of(Activation::Immediate, 2, &fetching), Decision::Activate);
        assert_eq!(of(Activation::AllStaged, 2, &fetching), Decision::Wait);
        assert_eq!(of(Activation::AllStaged, 2, &[(1, Other::Staged), (3, Other::Staged)]), Decision::Activate);
        assert_eq!(of(Activation::AllStaged, 2, &[]), Decision::Activate);
        assert_eq!(decide(Activation::Immediate, id(2), false, false, &others(&[])), Decision::Wait);
    }

    #[test]
    fn one_that_stopped_stops_those_who_go_together() {
        let states = [(1, Other::Active), (3, Other::Stopped)];
        assert_eq!(of(Activation::Immediate, 2, &states), Decision::Activate);
        for activation in [Activation::AllStaged, ROLLING] {
            assert_eq!(of(activation, 2, &states), Decision::Stop);
        }
    }

    #[test]
    fn one_after_another_in_the_order_of_ids() {
        let staged = Other::Staged;
        assert_eq!(of(ROLLING, 1, &[(2, staged), (3, staged)]), Decision::Activate);
        assert_eq!(of(ROLLING, 2, &[(1, staged), (3, staged)]), Decision::Wait);
        assert_eq!(of(ROLLING, 2, &[(1, Other::Activating), (3, staged)]), Decision::Wait);
        assert_eq!(of(ROLLING, 2, &[(1, Other::Active), (3, staged)]), Decision::Activate);
        // The first has died: it is not among the others any more.
        assert_eq!(of(ROLLING, 2, &[(3, staged)]), Decision::Activate);
        let two = Activation::AllStagedThenRolling { max_unavailable: 2 };
        assert_eq!(of(two, 2, &[(1, Other::Activating), (3, staged)]), Decision::Activate);
        assert_eq!(of(two, 3, &[(1, Other::Activating), (2, staged)]), Decision::Wait);
    }

    #[test]
    fn who_joins_does_not_wait_for_its_turn_once_somebody_has_it() {
        let states = others(&[(1, Other::Active), (2, Other::Staged), (3, Other::Activating)]);
        assert_eq!(decide(ROLLING, id(4), true, true, &states), Decision::Activate);
        assert_eq!(decide(ROLLING, id(4), true, false, &states), Decision::Wait);
    }

    #[test]
    fn what_was_told_of_other_versions() {
        let version = |time| Version { time, node: 1 };
        let status = |time, stage, stopped: Option<(u64, StopReason)>| Status {
            version: version(time),
            stage,
            stopped: stopped.map(|(time, why)| Stop { version: version(time), why }),
        };
        let of = |status: Status| Other::of(Some(&status), version(5));
        assert_eq!(Other::of(None, version(5)), Other::Behind);
        assert_eq!(of(status(4, Stage::Active, None)), Other::Behind);
        assert_eq!(of(status(6, Stage::Fetching { done: 0 }, None)), Other::Behind);
        assert_eq!(of(status(5, Stage::Fetching { done: 9 }, None)), Other::Behind);
        // Back at the version before.
        assert_eq!(of(status(4, Stage::Active, Some((5, StopReason::Followed)))), Other::Stopped);
        assert_eq!(of(status(4, Stage::Active, Some((5, StopReason::Unfit(String::new()))))), Other::Active);
        assert_eq!(of(status(5, Stage::Staged, Some((4, StopReason::Followed)))), Other::Staged);
    }
}

//! When a version that is staged goes live. No I/O and no clock.
//!
//! Nobody leads: each member decides for itself by what all have told, and comes to the same as the others do. So nobody's death
//! holds up a roll-out: who is not there does not count.

use std::collections::{BTreeMap, BTreeSet};

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
    /// On all members as soon as it is staged on all. If one rejects it nobody activates it; if it fails on one all go back. That is
    /// about those that are there when the first begins, and stay: who comes, or returns, later takes it at once, and if it fails there
    /// does without it alone ([`StopReason::Unfit`]).
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
    /// One of these on a member that came, or returned, when others had the version live: that is its own affair.
    #[error("{0}, on a member that came later")]
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
    /// It has no part in the roll-out of the current version: see [`Part::is_late`].
    #[serde(default)]
    pub(crate) late: bool,
}

/// What a member has to do with the roll-out of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// Nobody has begun, as far as it knows.
    #[default]
    Waits,
    /// It was there when the first began, and so were these, without those that left since. What they come to is for all of them.
    With(BTreeSet<MemberId>),
    /// The version was live elsewhere before it had it, or it was started since.
    Late,
}

impl Part {
    /// What it comes to is for no other member.
    pub(super) fn is_late(&self) -> bool {
        match self {
            Self::Waits => false,
            Self::With(cohort) => cohort.is_empty(),
            Self::Late => true,
        }
    }

    /// Whether a member stopped, and this one has to follow; `live`: it has the version live.
    ///
    /// Who has a part follows who has it with him. Who is late has nobody to follow: it stops if of those that have a part some stopped and
    /// nobody has it live; and where nobody has a part any more, after restarts, if nobody has it live at all.
    pub(super) fn is_stopped(&self, live: bool, others: &BTreeMap<MemberId, Other>) -> bool {
        let any = |wanted: &[Other]| others.values().any(|other| wanted.contains(other));
        let begun = any(&[Other::Activating, Other::Active]);
        let remembered = any(&[Other::LateStopped]) && !live && !begun && !any(&[Other::LateActive]);
        match self {
            Self::Waits => any(&[Other::Stopped]) || remembered,
            Self::With(cohort) if !cohort.is_empty() => {
                cohort.iter().any(|id| matches!(others.get(id), Some(Other::Stopped | Other::LateStopped)))
            }
            Self::With(_) | Self::Late => any(&[Other::Stopped]) && !begun || remembered,
        }
    }
}

/// How far another member is, seen from one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Behind,
    Staged,
    Activating,
    Active,
    Stopped,
    /// As above, on one that has no [part](Part::is_late); also if it does without the version for itself alone.
    LateActive,
    LateStopped,
}

impl Other {
    /// `status` is what it told last, if anything.
    pub(super) fn of(status: Option<&Status>, version: Version) -> Self {
        let Some(status) = status else { return Self::Behind };
        if let Some(stop) = status.stopped.as_ref().filter(|stop| stop.version == version) {
            // It has nothing to say to the others.
            return match stop.why {
                StopReason::Unfit(_) => Self::LateActive,
                _ if status.late => Self::LateStopped,
                _ => Self::Stopped,
            };
        }
        match status.stage {
            // It knows of something later, which is for this member, too: until it has it, nothing goes live for that one's sake, which
            // may never have had this version.
            _ if status.version != version => Self::Behind,
            Stage::Fetching { .. } => Self::Behind,
            Stage::Staged => Self::Staged,
            Stage::Activating => Self::Activating,
            Stage::Active if status.late => Self::LateActive,
            Stage::Active => Self::Active,
        }
    }

    /// Whether the version has gone live somewhere, or is about to.
    pub(super) const fn has_begun(self) -> bool {
        matches!(self, Self::Activating | Self::Active | Self::LateActive)
    }
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Wait,
    Activate,
    Stop,
}

/// What the member `me` does, that is `staged` or not even that; `joining` if it has just come and nobody relies on it yet;
/// `stopped` if it has to follow others that stopped.
pub(super) fn decide(
    activation: Activation,
    me: MemberId,
    staged: bool,
    joining: bool,
    stopped: bool,
    others: &BTreeMap<MemberId, Other>,
) -> Decision {
    let all = |fit: fn(&Other) -> bool| others.values().all(fit);
    let any = |fit: fn(&Other) -> bool| others.values().any(fit);
    if activation != Activation::Immediate && stopped {
        return Decision::Stop;
    }
    let when = |yes: bool| if yes && staged { Decision::Activate } else { Decision::Wait };
    // Once one has begun, all had it staged; who comes later does not hold up the others.
    let released = any(|other| other.has_begun()) || all(|other| *other == Other::Staged);
    match activation {
        Activation::Immediate => when(true),
        Activation::AllStaged => when(released),
        Activation::AllStagedThenRolling { .. }
            if joining && any(|other| matches!(other, Other::Active | Other::LateActive)) =>
        {
            when(true)
        }
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
        let others = others(states);
        decide(activation, id(me), true, false, Part::Waits.is_stopped(false, &others), &others)
    }

    #[test]
    fn at_once_or_when_all_have_it() {
        let fetching = [(1, Other::Behind), (3, Other::Staged)];
        assert_eq!(of(Activation::Immediate, 2, &fetching), Decision::Activate);
        assert_eq!(of(Activation::AllStaged, 2, &fetching), Decision::Wait);
        assert_eq!(of(Activation::AllStaged, 2, &[(1, Other::Staged), (3, Other::Staged)]), Decision::Activate);
        assert_eq!(of(Activation::AllStaged, 2, &[]), Decision::Activate);
        assert_eq!(decide(Activation::Immediate, id(2), false, false, false, &others(&[])), Decision::Wait);
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
    fn whose_stop_counts() {
        use Other::{Active, Behind, LateActive, LateStopped, Staged, Stopped};
        let is = |part: &Part, live, states: &[(u8, Other)]| part.is_stopped(live, &others(states));
        assert!(is(&Part::Waits, false, &[(1, Staged), (2, Stopped)]));
        assert!(is(&Part::Waits, false, &[(1, Staged), (2, LateStopped)]));
        assert!(!is(&Part::Waits, false, &[(1, LateActive), (2, LateStopped)]));
        let cohort = Part::With(BTreeSet::from([id(1), id(2)]));
        assert!(is(&cohort, true, &[(1, Active), (2, Stopped)]));
        assert!(!is(&cohort, true, &[(1, Active), (3, Stopped)]), "it was not there");
        for late in [Part::Late, Part::With(BTreeSet::new())] {
            assert!(late.is_late() && !cohort.is_late() && !Part::Waits.is_late());
            assert!(is(&late, true, &[(1, Stopped), (2, LateActive), (3, Behind)]));
            assert!(!is(&late, true, &[(1, Active), (2, Stopped)]), "if it counted, the other would go back");
            assert!(!is(&late, true, &[(2, LateStopped)]) && is(&late, false, &[(2, LateStopped)]));
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
        assert_eq!(decide(ROLLING, id(4), true, true, false, &states), Decision::Activate);
        assert_eq!(decide(ROLLING, id(4), true, false, false, &states), Decision::Wait);
    }

    #[test]
    fn what_was_told_of_other_versions() {
        let version = |time| Version { time, node: 1 };
        let status = |time, stage, stopped: Option<(u64, StopReason)>| Status {
            version: version(time),
            stage,
            stopped: stopped.map(|(time, why)| Stop { version: version(time), why }),
            late: false,
        };
        let of = |status: Status| Other::of(Some(&status), version(5));
        assert_eq!(Other::of(None, version(5)), Other::Behind);
        assert_eq!(of(status(4, Stage::Active, None)), Other::Behind);
        assert_eq!(of(status(6, Stage::Fetching { done: 0 }, None)), Other::Behind);
        assert_eq!(of(status(5, Stage::Fetching { done: 9 }, None)), Other::Behind);
        // Back at the version before.
        assert_eq!(of(status(4, Stage::Active, Some((5, StopReason::Followed)))), Other::Stopped);
        assert_eq!(of(status(4, Stage::Active, Some((5, StopReason::Unfit(String::new()))))), Other::LateActive);
        assert_eq!(of(status(5, Stage::Staged, Some((4, StopReason::Followed)))), Other::Staged);
    }
}

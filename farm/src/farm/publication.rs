//! What becomes of a version that was published.

use std::fmt;
use std::sync::Arc;

use tribes_core::Member;

use super::Farm;
use crate::manifest::Version;
use crate::name::ArtefactName;
use crate::replica::{Stage, StopReason};

/// A version that was published; see [`wait`](Self::wait). Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Publication {
    farm: Farm,
    name: ArtefactName,
    version: Version,
}

/// Until what a [`Publication`] is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Goal {
    /// All that take artefacts have it verified and accepted.
    Staged,
    /// It is live with all of them.
    Activated,
}

/// `publication.wait(Staged::Everywhere)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Staged {
    /// With all that are there.
    Everywhere,
}

/// `publication.wait(Activated::Everywhere)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activated {
    /// With all that are there.
    Everywhere,
}

impl From<Staged> for Goal {
    fn from(_: Staged) -> Self {
        Self::Staged
    }
}

impl From<Activated> for Goal {
    fn from(_: Activated) -> Self {
        Self::Activated
    }
}

/// How far all members are with a version.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The artefact.
    pub name: ArtefactName,
    /// The version.
    pub version: Version,
    /// Those that take artefacts and are there.
    pub nodes: Vec<NodeReport>,
}

/// How far a member is with a version.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NodeReport {
    /// Who.
    pub member: Arc<Member>,
    /// How far.
    pub state: NodeState,
}

/// How far a member is with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// It has said nothing of it yet.
    Unknown,
    /// So far.
    At(Stage),
    /// It does without it.
    Stopped(StopReason),
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("has not heard of it"),
            Self::At(Stage::Fetching { done }) => write!(f, "fetching, {done} bytes are there"),
            Self::At(Stage::Staged) => f.write_str("staged"),
            Self::At(Stage::Activating) => f.write_str("activating"),
            Self::At(Stage::Active) => f.write_str("active"),
            Self::Stopped(why) => write!(f, "{why}"),
        }
    }
}

impl NodeState {
    fn is_final(&self, goal: Goal) -> bool {
        match self {
            Self::Unknown | Self::At(Stage::Fetching { .. }) => false,
            Self::At(Stage::Staged | Stage::Activating) => goal == Goal::Staged,
            Self::At(Stage::Active) | Self::Stopped(_) => true,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, version {}", self.name, self.version)?;
        self.nodes.iter().try_for_each(|node| write!(f, "; {}: {}", node.member, node.state))
    }
}

/// Why a version did not get as far as was waited for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// A later version was published; this one may be live nowhere.
    #[error("version {by} was published, which is later")]
    Superseded {
        /// The later version.
        by: Version,
    },
    /// At least one member does without it.
    #[error("it was stopped: {0}")]
    Stopped(Report),
    /// The farm here is closed.
    #[error("the farm is closed")]
    Closed,
}

impl Publication {
    pub(super) fn new(farm: &Farm, name: ArtefactName, version: Version) -> Self {
        Self { farm: farm.clone(), name, version }
    }

    /// The artefact.
    #[must_use]
    pub const fn name(&self) -> &ArtefactName {
        &self.name
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// How far all are now.
    #[must_use]
    pub fn report(&self) -> Report {
        let shared = self.farm.shared();
        let (version, nodes) = {
            let replica = shared.replica();
            let me = replica.receives().then(|| replica.me());
            let ids = me.into_iter().chain(replica.receivers().iter().copied());
            let state = |id| (id, NodeState::of(replica.status_of(id, &self.name), self.version));
            (self.version, ids.map(state).collect::<Vec<_>>())
        };
        let node = |(id, state)| Some(NodeReport { member: shared.member(id)?, state });
        Report { name: self.name.clone(), version, nodes: nodes.into_iter().filter_map(node).collect() }
    }

    /// Waits until all members that take artefacts have come so far, who joins meanwhile too. Whoever leaves is waited for no more.
    /// It does not give up by itself: an upper bound is `tokio::time::timeout`. Cancel safe.
    ///
    /// # Errors
    /// [`WaitError::Stopped`] if a member does without the version, with all that became of it;
    /// [`WaitError::Superseded`] if there is a later one.
    pub async fn wait(&self, goal: impl Into<Goal>) -> Result<Report, WaitError> {
        let goal = goal.into();
        let shared = self.farm.shared();
        let mut changes = shared.changed.subscribe();
        loop {
            if let Some(done) = self.look(goal) {
                return done;
            }
            // The sender is here.
            let _ = changes.changed().await;
        }
    }

    fn look(&self, goal: Goal) -> Option<Result<Report, WaitError>> {
        let shared = self.farm.shared();
        if shared.is_closed() {
            return Some(Err(WaitError::Closed));
        }
        let current = shared.replica().artefact(&self.name)?.record.current.version;
        if current > self.version {
            return Some(Err(WaitError::Superseded { by: current }));
        }
        let report = self.report();
        let stopped = report.nodes.iter().any(|node| matches!(node.state, NodeState::Stopped(_)));
        // Together they all go back, and are waited for; what one came to alone is nothing to the others.
        let replica = shared.replica();
        let done = report.nodes.iter().all(|node| match node.state {
            NodeState::At(_) if replica.is_to_follow(node.member.id(), &self.name) => false,
            _ => node.state.is_final(goal),
        });
        done.then(|| if stopped { Err(WaitError::Stopped(report)) } else { Ok(report) })
    }
}

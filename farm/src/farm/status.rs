//! What there is, and who has it.

use super::Farm;
use super::publication::{NodeReport, NodeState};
use crate::manifest::Version;
use crate::name::ArtefactName;
use crate::replica::Status;

/// What is known of an artefact.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ArtefactStatus {
    /// Its name.
    pub name: ArtefactName,
    /// Its current version.
    pub version: Version,
    /// The bytes of the current version; `None`: it is removed.
    pub size: Option<u64>,
    /// The version that is live here.
    pub live: Option<Version>,
    /// Earlier versions that can be [gone back to](Farm::rollback_to), the latest first, with their bytes.
    pub earlier: Vec<(Version, u64)>,
    /// How far the members are with the current version.
    pub nodes: Vec<NodeReport>,
}

impl NodeState {
    pub(super) fn of(status: Option<&Status>, version: Version) -> Self {
        let Some(status) = status else { return Self::Unknown };
        match &status.stopped {
            Some(stop) if stop.version == version => Self::Stopped(stop.why.clone()),
            _ if status.version == version => Self::At(status.stage),
            _ => Self::Unknown,
        }
    }
}

impl Farm {
    /// All artefacts, in the order of their names; removed ones for a week.
    #[must_use]
    pub fn status(&self) -> Vec<ArtefactStatus> {
        let names: Vec<ArtefactName> = self.shared().replica().artefacts().keys().cloned().collect();
        names.iter().filter_map(|name| self.status_of(name.as_str())).collect()
    }

    /// One of them.
    #[must_use]
    pub fn status_of(&self, name: &str) -> Option<ArtefactStatus> {
        let name: ArtefactName = name.parse().ok()?;
        let shared = self.shared();
        let (record, live, states) = {
            let replica = shared.replica();
            let artefact = replica.artefact(&name)?;
            let version = artefact.record.current.version;
            let me = replica.receives().then(|| replica.me());
            let ids = me.into_iter().chain(replica.receivers().iter().copied());
            let states = ids.map(|id| (id, NodeState::of(replica.status_of(id, &name), version)));
            let live = artefact.live.as_ref().map(|live| live.version);
            (artefact.record.clone(), live, states.collect::<Vec<_>>())
        };
        let node = |(id, state)| Some(NodeReport { member: shared.member(id)?, state });
        Some(ArtefactStatus {
            version: record.current.version,
            size: record.current.content.map(|content| content.size),
            live,
            earlier: record.earlier.iter().map(|manifest| (manifest.version, manifest.size())).collect(),
            nodes: states.into_iter().filter_map(node).collect(),
            name,
        })
    }
}

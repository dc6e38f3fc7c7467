//! Looking at what a member knows.

use std::collections::{BTreeMap, BTreeSet};

use tribes_core::MemberId;

use super::{Action, Activation, Artefact, Part, Replica, Status, Step, StopReason};
use crate::digest::Digest;
use crate::manifest::{Manifest, Version};
use crate::name::ArtefactName;

impl Replica {
    /// Ready: of all that the map had, this member has what it is to have. Whatever waits for others does not count.
    pub(super) fn look_ready(&mut self) {
        let done = |step| matches!(step, Step::Staged | Step::Active | Step::Stuck);
        let is_here = |artefact: &Artefact| artefact.stalled || done(artefact.step);
        if !self.ready && self.loaded && (!self.config.receives || self.artefacts.values().all(is_here)) {
            self.ready = true;
            self.actions.push(Action::Ready);
        }
    }

    pub(crate) fn artefact(&self, name: &ArtefactName) -> Option<&Artefact> {
        self.artefacts.get(name)
    }

    pub(crate) const fn artefacts(&self) -> &BTreeMap<ArtefactName, Artefact> {
        &self.artefacts
    }

    pub(crate) const fn receivers(&self) -> &BTreeSet<MemberId> {
        &self.receivers
    }

    /// What a member told last; this one, too.
    pub(crate) fn status_of(&self, member: MemberId, name: &ArtefactName) -> Option<&Status> {
        if member == self.config.me {
            return self.artefacts.get(name)?.told.as_ref().map(|(status, _)| status);
        }
        self.told.get(name)?.get(&member)
    }

    pub(crate) const fn receives(&self) -> bool {
        self.config.receives
    }

    pub(crate) const fn me(&self) -> MemberId {
        self.config.me
    }

    /// A version later than all that were seen.
    pub(crate) fn next_version(&mut self, wall_ms: u64, node: u64) -> Version {
        let version = Version::after(self.latest, wall_ms, node);
        self.latest = Some(version.time);
        version
    }

    /// The version that the group found unfit, as far as anybody told.
    pub(crate) fn unfit(&self, name: &ArtefactName) -> Option<Version> {
        let artefact = self.artefacts.get(name)?;
        self.is_stopped(artefact).then_some(artefact.record.current.version)
    }

    /// Whether `member` is to come to do without the current version, because another does.
    pub(crate) fn is_to_follow(&self, member: MemberId, name: &ArtefactName) -> bool {
        let Some(artefact) = self.artefacts.get(name) else { return false };
        let with = match &artefact.part {
            Part::With(cohort) if !cohort.is_empty() => member == self.config.me || cohort.contains(&member),
            _ => true,
        };
        with && self.is_stopped(artefact)
    }

    fn is_stopped(&self, artefact: &Artefact) -> bool {
        let current = &artefact.record.current;
        let Ok(name) = current.name.parse() else { return false };
        let own = artefact.stopped.as_ref().filter(|stop| stop.version == current.version);
        let own = own.is_some_and(|stop| !matches!(stop.why, StopReason::Unfit(_)) && !artefact.part.is_late());
        let is_live = artefact.live.as_ref().is_some_and(|live| live.version == current.version);
        let others = || self.others(&name, current.version);
        self.config.activation != Activation::Immediate && (own || artefact.part.is_stopped(is_live, &others()))
    }

    /// Contents that are needed, and the sizes of their chunks: of the current version, what is live, and `keep` earlier ones.
    pub(crate) fn used(&self, keep: usize) -> BTreeSet<(Digest, u32)> {
        let of = |artefact: &Artefact| {
            let versions: Vec<Manifest> =
                artefact.record.versions().take(keep + 1).chain(&artefact.live).cloned().collect();
            let contents = versions.into_iter().filter_map(|manifest| manifest.content);
            contents.map(|content| (content.hash, content.chunk)).collect::<Vec<_>>()
        };
        self.artefacts.values().flat_map(of).collect()
    }

    pub(crate) const fn is_ready(&self) -> bool {
        self.ready
    }
}

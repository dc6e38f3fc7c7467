//! What a member knows and does of each artefact. No I/O and no clock.
//!
//! A *record* says which versions there are; it comes by the replicated map, and is believed if it is checked. Of it follows the
//! version that is *aimed* at here: the current one, or, if that was stopped, one before that is good. The aim is fetched, looked at, activated
//! when [`rollout`] says so, and each step is told to the others.

mod input;
mod ready;
mod rollout;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tribes_core::{MemberId, Time};

pub use self::rollout::{Activation, Stage, StopReason};
use self::rollout::{Decision, Other, Part, decide};
pub(crate) use self::rollout::{Status, Stop};
use crate::limits::Limits;
use crate::manifest::{Manifest, Record, Refused, Version};
use crate::name::ArtefactName;
use crate::transfer::{self, Transfers};
use crate::trust::Trust;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// A worse record than the one known here is mended after this time, and as much again by chance: somebody else may be faster.
const MEND: Duration = Duration::from_millis(500);
/// After what time something is tried again that failed here and has to be: going back, and taking away.
const AGAIN: Duration = Duration::from_secs(10);
/// How long removals are remembered, from when this member learned of them: whoever publishes may have a clock that is wrong.
pub(crate) const REMEMBER: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Transfer(transfer::Action),
    /// What is known of an artefact, and what is live: to disk.
    Save(ArtefactName),
    /// To the others; `None`: nothing any more.
    Tell(ArtefactName, Option<Status>),
    /// Ask the application about a version that is fetched: [`Replica::judged`].
    Judge(ArtefactName, Box<Manifest>),
    /// Make a version live, and back if that fails: [`Replica::activated`]. `back`: a later one failed, so that this one has to be;
    /// there is none to go back to then.
    Activate {
        name: ArtefactName,
        manifest: Box<Manifest>,
        before: Option<Box<Manifest>>,
        back: bool,
    },
    /// Take an artefact away: [`Replica::removed`].
    Remove(ArtefactName),
    /// Put what is known here into the map, if what is there is worse.
    Mend(ArtefactName),
    /// Nobody needs to know of it any more: out of the map, and off the disk.
    Forget(ArtefactName),
    /// What was published here lost against this version, which had not known of it.
    Superseded(ArtefactName, Version),
    /// There may be room for what was refused: all records of the map that are not those known here are to be taken in again.
    Again,
    /// A record was refused.
    Refuse(String, Refused),
    /// All that the group has is here.
    Ready,
}

/// How making a version live ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Activated {
    /// What has the name now.
    pub(crate) live: Option<Manifest>,
    /// Why it is not the version, or should not be.
    pub(crate) failed: Option<String>,
    /// The application failed over what has the name now.
    pub(crate) ill: bool,
}

/// How a member is to be.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) farm: String,
    pub(crate) me: MemberId,
    pub(crate) trust: Trust,
    pub(crate) limits: Limits,
    pub(crate) activation: Activation,
    /// Whether it takes artefacts; otherwise it only publishes.
    pub(crate) receives: bool,
    /// Who publishes here.
    pub(crate) seed: u64,
}

#[derive(Debug)]
pub(crate) struct Replica {
    config: Config,
    artefacts: BTreeMap<ArtefactName, Artefact>,
    /// Members that take artefacts, without this one.
    receivers: BTreeSet<MemberId>,
    told: BTreeMap<ArtefactName, BTreeMap<MemberId, Status>>,
    transfers: Transfers,
    mend: BTreeMap<ArtefactName, Time>,
    /// What failed and is tried again then.
    again: BTreeMap<ArtefactName, Time>,
    /// The highest version ever seen, also of what was refused.
    latest: Option<u64>,
    loaded: bool,
    ready: bool,
    /// Something was refused because there was no room.
    short: bool,
    actions: Vec<Action>,
}

#[derive(Clone, Debug)]
pub(crate) struct Artefact {
    pub(crate) record: Record,
    pub(crate) live: Option<Manifest>,
    /// The application failed over what is live: it is told of it again.
    ill: bool,
    /// What is being activated was gone back to.
    back: bool,
    pub(crate) stopped: Option<Stop>,
    /// Versions of the record that this member does without, and those that were live here or are at another.
    bad: BTreeSet<Version>,
    good: BTreeSet<Version>,
    aim: Option<Version>,
    step: Step,
    /// In the roll-out of the current version.
    part: Part,
    /// It does not come, and may never.
    stalled: bool,
    told: Option<(Status, Time)>,
    /// Since when it is known that it is removed, and how long that had been then.
    removed: Option<(Time, Duration)>,
}

/// How far the aim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    New,
    Fetching,
    Judging,
    Staged,
    Activating,
    Removing,
    Active,
    /// It cannot be taken away.
    Stuck,
}

impl Step {
    /// Somebody is at it, and will tell how it ended.
    const fn is_busy(self) -> bool {
        matches!(self, Self::Judging | Self::Activating | Self::Removing)
    }
}

impl Artefact {
    fn new(record: Record, live: Option<Manifest>, stopped: Option<Stop>) -> Self {
        let bad = stopped.iter().map(|stop| stop.version).collect();
        let good = live.iter().map(|live| live.version).collect();
        let current = Some(record.current.version);
        let before =
            live.as_ref().map(|live| live.version) == current || stopped.as_ref().map(|stop| stop.version) == current;
        let part = if before { Part::Late } else { Part::Waits };
        Self {
            record,
            live,
            ill: false,
            back: false,
            stopped,
            bad,
            good,
            aim: None,
            step: Step::New,
            part,
            stalled: false,
            told: None,
            removed: None,
        }
    }

    /// The version that is to be here; `None`: there is none that is good. Of those before the current one, what is live before
    /// what was, or is elsewhere; one of which nobody knows comes last.
    pub(crate) fn target(&self) -> Option<&Manifest> {
        let mut fit = self.record.versions().filter(|manifest| !self.bad.contains(&manifest.version));
        let first = fit.next()?;
        if first.version == self.record.current.version {
            return Some(first);
        }
        let earlier: Vec<&Manifest> = std::iter::once(first).chain(fit).collect();
        let is_live = |manifest: &&&Manifest| self.live.as_ref().is_some_and(|live| live.version == manifest.version);
        let is_good = |manifest: &&&Manifest| self.good.contains(&manifest.version);
        Some(earlier.iter().find(is_live).or_else(|| earlier.iter().find(is_good)).map_or(first, |manifest| manifest))
    }

    /// The record says something else now.
    fn set_record(&mut self, record: Record) {
        if record.current.version != self.record.current.version {
            self.part = Part::Waits;
            self.removed = None;
        }
        self.record = record;
        let versions: BTreeSet<Version> = self.record.versions().map(|manifest| manifest.version).collect();
        self.bad.retain(|version| versions.contains(version));
        self.good.retain(|version| versions.contains(version));
    }

    /// How long it has been removed, as far as this member knows; `None`: it is not.
    pub(crate) fn removed_for(&self, now: Time) -> Option<Duration> {
        let known = self.removed.map(|(since, before)| (now - since).saturating_add(before));
        self.record.current.content.is_none().then(|| known.unwrap_or_default())
    }

    fn is_current(&self) -> bool {
        self.target().is_some_and(|target| target.version == self.record.current.version)
    }
}

impl Replica {
    pub(crate) fn new(config: Config, tuning: transfer::Tuning) -> Self {
        Self {
            config,
            artefacts: BTreeMap::new(),
            receivers: BTreeSet::new(),
            told: BTreeMap::new(),
            transfers: Transfers::new(tuning),
            mend: BTreeMap::new(),
            again: BTreeMap::new(),
            latest: None,
            loaded: false,
            ready: false,
            short: false,
            actions: Vec::new(),
        }
    }

    /// What is to be done since it was asked last.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Goes on with an artefact, as far as it can.
    fn go_on(&mut self, name: &ArtefactName, now: Time) {
        if !self.config.receives {
            self.take_part(name);
            return;
        }
        while self.step(name, now) {}
        self.tell(name, now);
        self.look_ready();
    }

    /// One step; whether there was one to be done.
    fn step(&mut self, name: &ArtefactName, now: Time) -> bool {
        let Some(artefact) = self.artefacts.get_mut(name) else { return false };
        if artefact.step.is_busy() {
            return false;
        }
        let target = artefact.target().cloned();
        let version = target.as_ref().map(|target| target.version);
        if artefact.aim != version || artefact.step == Step::New {
            artefact.aim = version;
            artefact.step = Step::New;
            artefact.stalled = false;
            return self.begin(name, target, now);
        }
        if !artefact.is_current() {
            // Gone back to, without waiting for anybody.
            let waits = self.again.contains_key(name);
            return artefact.step == Step::Staged && !waits && self.activate(name, true);
        }
        self.take_part(name);
        let decision = self.decision(name);
        let Some(artefact) = self.artefacts.get_mut(name) else { return false };
        match (decision, artefact.step) {
            (Decision::Stop, Step::Fetching | Step::Staged | Step::Active) => {
                self.stop(name, StopReason::Followed);
                true
            }
            (Decision::Activate, Step::Staged) => self.activate(name, false),
            _ => false,
        }
    }

    /// Begins with a new aim.
    fn begin(&mut self, name: &ArtefactName, target: Option<Manifest>, now: Time) -> bool {
        self.drop_transfers(now);
        self.again.remove(name);
        let Some(artefact) = self.artefacts.get_mut(name) else { return false };
        let content = target.as_ref().and_then(|target| target.content);
        let is_bad = artefact.live.as_ref().is_some_and(|live| artefact.bad.contains(&live.version));
        match content {
            None if artefact.live.is_none() => artefact.step = Step::Active,
            // The current version is not good, and nothing else is known: better what there is than nothing.
            None if target.is_none() && !is_bad => artefact.step = Step::Active,
            None => {
                artefact.step = Step::Removing;
                self.actions.push(Action::Remove(name.clone()));
            }
            Some(_) if artefact.live == target && !artefact.ill => artefact.step = Step::Active,
            Some(content) => {
                artefact.step = Step::Fetching;
                self.transfers.want(content, now);
                self.take_transfers();
            }
        }
        true
    }

    /// How far the others are with the current version.
    fn others(&self, name: &ArtefactName, version: Version) -> BTreeMap<MemberId, Other> {
        let told = self.told.get(name);
        let of = |id: &MemberId| (*id, Other::of(told.and_then(|told| told.get(id)), version));
        self.receivers.iter().map(of).collect()
    }

    /// Notes that the roll-out of the current version has begun, and with whom. Who only publishes notes it, too.
    fn take_part(&mut self, name: &ArtefactName) {
        if self.config.activation == Activation::Immediate {
            return; // Each by itself.
        }
        let Some(artefact) = self.artefacts.get(name).filter(|artefact| artefact.part == Part::Waits) else { return };
        let others = self.others(name, artefact.record.current.version);
        if !others.values().any(|other| other.has_begun()) {
            return;
        }
        let stopped = others.values().any(|other| *other == Other::Stopped);
        let here = artefact.step == Step::Staged && self.ready;
        let part = match self.config.receives {
            true if here && stopped => return, // It will stop, too.
            true if here => Part::With(self.receivers.clone()),
            false if !stopped => Part::With(self.receivers.clone()),
            _ => Part::Late,
        };
        self.artefacts.entry(name.clone()).and_modify(|artefact| artefact.part = part);
    }

    fn decision(&self, name: &ArtefactName) -> Decision {
        let Some(artefact) = self.artefacts.get(name) else { return Decision::Wait };
        let others = self.others(name, artefact.record.current.version);
        let staged = artefact.step == Step::Staged;
        let is_removal = artefact.record.current.content.is_none();
        let activation = if is_removal { Activation::Immediate } else { self.config.activation };
        let stopped = artefact.part.is_stopped(artefact.step == Step::Active, &others);
        decide(activation, self.config.me, staged, !self.ready, stopped, &others)
    }

    fn activate(&mut self, name: &ArtefactName, back: bool) -> bool {
        let Some(artefact) = self.artefacts.get_mut(name) else { return false };
        let Some(manifest) = artefact.target().cloned().map(Box::new) else { return false };
        (artefact.step, artefact.back) = (Step::Activating, back);
        if !back && artefact.part == Part::Waits && self.config.activation != Activation::Immediate {
            artefact.part = Part::With(self.receivers.clone());
        }
        let before = artefact.live.clone().map(Box::new);
        self.actions.push(Action::Activate { name: name.clone(), manifest, before, back });
        false
    }

    /// This member does without the current version.
    fn stop(&mut self, name: &ArtefactName, why: StopReason) {
        let Some(artefact) = self.artefacts.get_mut(name) else { return };
        let version = artefact.record.current.version;
        artefact.bad.insert(version);
        artefact.stopped = Some(Stop { version, why });
        self.actions.push(Action::Save(name.clone()));
    }

    /// As [`stop`](Self::stop), over something that happened here. It is no affair of the others if this member has just come, or
    /// comes late, and one of them has the version live.
    fn stop_here(&mut self, name: &ArtefactName, why: StopReason) {
        let artefact = self.artefacts.get(name);
        let version = artefact.map(|artefact| artefact.record.current.version);
        let late = artefact.is_some_and(|artefact| artefact.part == Part::Late);
        let is_live = |status: &Status| {
            let begun = status.stage == Stage::Active || late && status.stage == Stage::Activating;
            begun && Some(status.version) == version
        };
        let elsewhere = self.told.get(name).is_some_and(|told| told.values().any(is_live));
        let unfit = (late || !self.ready) && elsewhere;
        self.stop(name, if unfit { StopReason::Unfit(why.to_string()) } else { why });
    }

    /// Tells the others how far this member is, if that is news.
    fn tell(&mut self, name: &ArtefactName, now: Time) {
        let Some(artefact) = self.artefacts.get_mut(name) else { return };
        let content = artefact.target().and_then(|target| target.content);
        let done = content.and_then(|content| self.transfers.bytes_here(&content.hash)).unwrap_or_default();
        let stage = match artefact.step {
            Step::New | Step::Fetching | Step::Judging => Stage::Fetching { done },
            Step::Staged => Stage::Staged,
            Step::Activating | Step::Removing | Step::Stuck => Stage::Activating,
            Step::Active => Stage::Active,
        };
        let version = artefact.aim.unwrap_or(artefact.record.current.version);
        let status = Status { version, stage, stopped: artefact.stopped.clone(), late: artefact.part.is_late() };
        let news = artefact.told.as_ref().is_none_or(|(told, at)| {
            let progress = matches!((told.stage, stage), (Stage::Fetching { .. }, Stage::Fetching { .. }));
            let same = told.version == version && told.stopped == status.stopped;
            *told != status && !(progress && same && now - *at < TELL_EVERY)
        });
        if news {
            artefact.told = Some((status.clone(), now));
            self.actions.push(Action::Tell(name.clone(), Some(status)));
        }
    }

    /// What the transfers want done; what is fetched is judged.
    fn take_transfers(&mut self) {
        let mut actions = self.transfers.take_actions();
        while !actions.is_empty() {
            for action in actions {
                match action {
                    transfer::Action::Done(hash) => self.fetched(&hash),
                    transfer::Action::Stalled(hash, why) => self.stalled(&hash, &why),
                    other => self.actions.push(Action::Transfer(other)),
                }
            }
            actions = self.transfers.take_actions();
        }
    }

    fn fetched(&mut self, hash: &crate::digest::Digest) {
        for (name, artefact) in &mut self.artefacts {
            let target = artefact.target().filter(|target| target.content.is_some_and(|content| content.hash == *hash));
            if let Some(target) = target.cloned().filter(|_| artefact.step == Step::Fetching) {
                if !artefact.is_current() && artefact.good.contains(&target.version) {
                    // It was live before: the application is not asked again.
                    artefact.step = Step::Staged;
                    continue;
                }
                artefact.step = Step::Judging;
                self.actions.push(Action::Judge(name.clone(), Box::new(target)));
            }
        }
    }

    fn stalled(&mut self, hash: &crate::digest::Digest, why: &str) {
        let of = |artefact: &Artefact| {
            let target = artefact.target().and_then(|target| target.content);
            artefact.step == Step::Fetching
                && artefact.is_current()
                && target.is_some_and(|content| content.hash == *hash)
        };
        let names: Vec<_> =
            self.artefacts.iter().filter(|(_, artefact)| of(artefact)).map(|(name, _)| name.clone()).collect();
        for name in names {
            tracing::warn!(artefact = %name, why, "an artefact does not come");
            self.artefacts.entry(name.clone()).and_modify(|artefact| artefact.stalled = true);
            // Alone it goes on trying; together with others it must not hold them up.
            if self.config.activation != Activation::Immediate {
                self.stop_here(&name, StopReason::Stalled(why.to_owned()));
            }
        }
    }

    /// Fetches nothing that nobody aims at any more.
    fn drop_transfers(&mut self, now: Time) {
        let aims = self.artefacts.values().filter_map(|artefact| artefact.target()?.content);
        let aims: BTreeSet<_> = aims.map(|content| content.hash).collect();
        for hash in self.transfers.all().into_iter().filter(|hash| !aims.contains(hash)) {
            self.transfers.forget(&hash, now);
        }
    }
}

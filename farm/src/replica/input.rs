//! What happens to a member.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{MemberId, Time};

use super::{AGAIN, Action, Activated, Artefact, MEND, Part, REMEMBER, Replica, Stage, Status, Step, Stop, StopReason};
use crate::digest::Digest;
use crate::manifest::{Manifest, Record, Refused};
use crate::name::ArtefactName;
use crate::transfer::{Fault, Opened};

impl Replica {
    /// What an earlier process left: a record, what is live, and what was stopped.
    pub(crate) fn restore(&mut self, record: Record, live: Option<Manifest>, stopped: Option<Stop>) {
        let (config, key) = (&self.config, record.current.name.clone());
        match record.check(&key, &config.farm, &config.trust, &config.limits) {
            Ok(name) => {
                self.latest = self.latest.max(Some(record.current.version.time));
                self.artefacts.insert(name, Artefact::new(record, live, stopped));
            }
            Err(why) => self.actions.push(Action::Refuse(key, why)),
        }
    }

    /// What an earlier process left was removed so long ago.
    pub(crate) fn was_removed(&mut self, name: &ArtefactName, age: Duration, now: Time) {
        if let Some(artefact) = self.artefacts.get_mut(name) {
            artefact.removed = Some((now, age));
        }
    }

    /// The map is complete, and all of it was passed on: what is known here only goes into it.
    pub(crate) fn loaded(&mut self, now: Time) {
        self.loaded = true;
        let names: Vec<_> = self.artefacts.keys().cloned().collect();
        for name in &names {
            self.go_on(name, now);
        }
        self.look_ready();
    }

    /// What the map says of an artefact now.
    pub(crate) fn record_changed(&mut self, key: &str, record: Option<Record>, now: Time, wall_ms: u64) {
        let Some(record) = record else { return self.record_gone(key, now) };
        let config = &self.config;
        let checked = record.check(key, &config.farm, &config.trust, &config.limits);
        let checked = checked.and_then(|name| self.room_for(&name, &record).map(|()| name));
        let name = match checked {
            Ok(name) => name,
            Err(why) => {
                self.actions.push(Action::Refuse(key.to_owned(), why));
                self.short |= matches!(why, Refused::Total | Refused::TooMany);
                if let Ok(name) = key.parse() {
                    self.mend_later(&name, now);
                }
                return;
            }
        };
        // Only what is to be believed: a version from far ahead would be followed by none.
        self.latest = self.latest.max(Some(record.current.version.time));
        match self.artefacts.get_mut(&name) {
            Some(known) if known.record == record => {
                self.mend.remove(&name);
            }
            Some(known) if known.record > record => self.mend_later(&name, now),
            Some(known) => {
                let lost = known.record.current.version;
                let mine = self.config.seed;
                let by_other = lost.node == mine && record.current.version.node != mine;
                if by_other && record.versions().all(|manifest| manifest.version != lost) {
                    // Removals are kept by nobody.
                    let news = Action::Superseded(name.clone(), record.current.version);
                    self.actions.extend(known.record.current.content.is_some().then_some(news));
                }
                let freed = known.record.current.size() > record.current.size();
                known.set_record(record);
                self.note_removal(&name, now, wall_ms);
                if freed {
                    self.look_again();
                }
                self.mend.remove(&name);
                self.actions.push(Action::Save(name.clone()));
                self.go_on(&name, now);
            }
            None => {
                self.artefacts.insert(name.clone(), Artefact::new(record, None, None));
                self.note_removal(&name, now, wall_ms);
                self.actions.push(Action::Save(name.clone()));
                self.go_on(&name, now);
            }
        }
    }

    /// From when on a removal is remembered. Of what the group had when this member came its publisher's clock has to tell, but only so
    /// far that the others may forget it.
    fn note_removal(&mut self, name: &ArtefactName, now: Time, wall_ms: u64) {
        let loaded = self.loaded;
        if let Some(artefact) = self.artefacts.get_mut(name).filter(|artefact| artefact.removed.is_none()) {
            let version = artefact.record.current.version;
            let told = Duration::from_millis(wall_ms.saturating_sub(version.wall_ms())).min(REMEMBER / 2);
            artefact.removed = Some((now, if loaded { Duration::ZERO } else { told }));
        }
    }

    /// There is more room than there was.
    fn look_again(&mut self) {
        if std::mem::take(&mut self.short) {
            self.actions.push(Action::Again);
        }
    }

    fn record_gone(&mut self, key: &str, now: Time) {
        let Ok(name) = key.parse::<ArtefactName>() else { return };
        let Some(known) = self.artefacts.get(&name) else { return };
        if is_old_removal(known, now, REMEMBER / 2) {
            self.forget(&name);
        } else {
            self.mend_later(&name, now);
        }
    }

    fn forget(&mut self, name: &ArtefactName) {
        self.artefacts.remove(name);
        self.mend.remove(name);
        self.again.remove(name);
        self.actions.push(Action::Tell(name.clone(), None));
        self.actions.push(Action::Forget(name.clone()));
        self.look_again();
    }

    /// Whether this and all others are no more than is taken here.
    fn room_for(&self, name: &ArtefactName, record: &Record) -> Result<(), Refused> {
        let limits = &self.config.limits;
        if !self.artefacts.contains_key(name) && self.artefacts.len() >= limits.artefacts {
            return Err(Refused::TooMany);
        }
        let others = self.artefacts.iter().filter(|(other, _)| *other != name);
        let total = others.fold(0, |sum: u64, (_, artefact)| sum.saturating_add(artefact.record.current.size()));
        if total.saturating_add(record.current.size()) > limits.total { Err(Refused::Total) } else { Ok(()) }
    }

    fn mend_later(&mut self, name: &ArtefactName, now: Time) {
        if self.artefacts.contains_key(name) {
            let more = self.config.seed.wrapping_add(now.as_nanos()) % u64::try_from(MEND.as_nanos()).unwrap_or(1);
            let at = now + MEND + Duration::from_nanos(more);
            self.mend.entry(name.clone()).or_insert(at);
        }
    }

    /// Who is there: all that can be asked, and those of them that take artefacts.
    pub(crate) fn members(&mut self, farms: &BTreeSet<MemberId>, receivers: BTreeSet<MemberId>, now: Time) {
        self.transfers.members(farms, now);
        self.take_transfers();
        for artefact in self.artefacts.values_mut() {
            // Who leaves counts no more, also if it returns.
            if let Part::With(cohort) = &mut artefact.part {
                cohort.retain(|member| receivers.contains(member));
            }
        }
        self.receivers = receivers;
        let names: Vec<_> = self.artefacts.keys().cloned().collect();
        names.iter().for_each(|name| self.go_on(name, now));
    }

    /// What another member told of an artefact.
    pub(crate) fn told(&mut self, member: MemberId, name: &ArtefactName, status: Option<Status>, now: Time) {
        let is_live = |status: &Status| status.stage == Stage::Active;
        if let (Some(status), Some(artefact)) = (status.as_ref().filter(|it| is_live(it)), self.artefacts.get_mut(name))
            && artefact.record.versions().any(|manifest| manifest.version == status.version)
        {
            artefact.good.insert(status.version);
        }
        let told = self.told.entry(name.clone()).or_default();
        match status {
            Some(status) => {
                told.insert(member, status);
            }
            None => {
                told.remove(&member);
            }
        }
        if told.is_empty() {
            self.told.remove(name);
        }
        self.go_on(name, now);
    }

    /// Others lost what this member told.
    pub(crate) fn tell_again(&mut self, name: &ArtefactName, now: Time) {
        if let Some(artefact) = self.artefacts.get_mut(name) {
            artefact.told = None;
            self.go_on(name, now);
        }
    }

    pub(crate) fn opened(&mut self, hash: &Digest, opened: Result<Opened, String>, now: Time) {
        self.transfers.opened(hash, opened, now);
        self.transferred(now);
    }

    pub(crate) fn listed(&mut self, hash: &Digest, peer: MemberId, list: Result<Arc<[Digest]>, Fault>, now: Time) {
        self.transfers.listed(hash, peer, list, now);
        self.transferred(now);
    }

    pub(crate) fn pulled(&mut self, hash: &Digest, peer: MemberId, index: u32, result: Result<(), Fault>, now: Time) {
        self.transfers.pulled(hash, peer, index, result, now);
        self.transferred(now);
    }

    pub(crate) fn finished(&mut self, hash: &Digest, result: Result<(), Fault>, now: Time) {
        self.transfers.finished(hash, result, now);
        self.transferred(now);
    }

    fn transferred(&mut self, now: Time) {
        self.take_transfers();
        let moving = |artefact: &Artefact| matches!(artefact.step, Step::Fetching | Step::Judging | Step::Staged);
        let names: Vec<_> = self.artefacts.iter().filter(|(_, a)| moving(a)).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.go_on(name, now));
    }

    /// What the application says of a version that is fetched.
    pub(crate) fn judged(&mut self, name: &ArtefactName, manifest: &Manifest, verdict: Result<(), String>, now: Time) {
        let Some(artefact) = self.artefacts.get_mut(name).filter(|artefact| artefact.step == Step::Judging) else {
            return;
        };
        artefact.step = Step::Staged;
        if let Err(why) = verdict {
            artefact.step = Step::Fetching;
            artefact.bad.insert(manifest.version);
            if artefact.record.current.version == manifest.version {
                self.stop_here(name, StopReason::Rejected(why));
            }
        }
        self.go_on(name, now);
    }

    /// How making a version live ended.
    pub(crate) fn activated(&mut self, name: &ArtefactName, manifest: &Manifest, ended: Activated, now: Time) {
        let Some(artefact) = self.artefacts.get_mut(name).filter(|artefact| artefact.step == Step::Activating) else {
            return;
        };
        (artefact.live, artefact.ill) = (ended.live, ended.ill);
        match ended.failed {
            None => {
                artefact.good.insert(manifest.version);
                artefact.step = Step::Active;
            }
            // There is nothing better, and nothing is wrong with it that is known: it was good before.
            Some(_) if artefact.back => {
                artefact.step = Step::Staged;
                self.again.insert(name.clone(), now + AGAIN);
            }
            Some(why) => {
                artefact.step = Step::New;
                artefact.bad.insert(manifest.version);
                if artefact.record.current.version == manifest.version {
                    self.stop_here(name, StopReason::Failed(why));
                }
            }
        }
        self.actions.push(Action::Save(name.clone()));
        self.go_on(name, now);
    }

    /// An artefact is not live any more, or could not be taken away.
    pub(crate) fn removed(&mut self, name: &ArtefactName, result: Result<(), String>, now: Time) {
        let Some(artefact) = self.artefacts.get_mut(name).filter(|artefact| artefact.step == Step::Removing) else {
            return;
        };
        match result {
            Ok(()) => {
                artefact.live = None;
                artefact.step = Step::Active;
                self.actions.push(Action::Save(name.clone()));
            }
            Err(why) => {
                tracing::error!(artefact = %name, why, "an artefact cannot be removed");
                artefact.step = Step::Stuck;
                self.again.insert(name.clone(), now + AGAIN);
            }
        }
        self.go_on(name, now);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Time) {
        self.transfers.tick(now);
        self.transferred(now);
        let due: Vec<_> = self.mend.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.mend.remove(&name);
            self.actions.push(Action::Mend(name));
        }
        let again: Vec<_> = self.again.extract_if(.., |_, at| *at <= now).map(|(name, _)| name).collect();
        for name in again {
            if let Some(stuck) = self.artefacts.get_mut(&name).filter(|artefact| artefact.step == Step::Stuck) {
                stuck.step = Step::New;
            }
            self.go_on(&name, now);
        }
        for artefact in self.artefacts.values_mut() {
            // Of one that an earlier process left without a word of it.
            artefact.removed.get_or_insert((now, Duration::ZERO));
        }
        let old = self.artefacts.iter().filter(|(_, artefact)| is_old_removal(artefact, now, REMEMBER));
        let old: Vec<_> = old.map(|(name, _)| name.clone()).collect();
        old.iter().for_each(|name| self.forget(name));
    }

    /// When [`tick`](Self::tick) is to be called at the latest.
    pub(crate) fn next_wake(&self, now: Time) -> Time {
        let own = self.mend.values().chain(self.again.values()).copied().min().unwrap_or(Time::NEVER);
        own.min(self.transfers.next_wake(now))
    }
}

/// It was removed that long ago.
fn is_old_removal(artefact: &Artefact, now: Time, age: Duration) -> bool {
    artefact.live.is_none() && artefact.removed_for(now).is_some_and(|removed| removed >= age)
}

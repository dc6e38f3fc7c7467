//! What to fetch from whom. No I/O and no clock.
//!
//! A *want* is a content that is to be here. It is opened (what is there of it already?), listed (the hashes of its chunks), pulled
//! chunk by chunk from several members at a time, and finished (verified whole, and kept under its hash).

mod peers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{MemberId, Time};

use self::peers::Peers;
use crate::digest::Digest;
use crate::manifest::Content;

/// So many contents are fetched at the same time; the others wait.
const ACTIVE: usize = 4;
/// Besides, so many of those that have stalled are tried; the others take turns.
const STALLED: usize = 64;
/// So many requests are under way to one member: so that it reads the next chunk while this one travels.
pub(crate) const PER_PEER: usize = 3;
/// After what time somebody is asked again that did not have what was asked for.
const ABSENT: Duration = Duration::from_secs(1);
/// After what time something is tried again that the disk refused.
const DISK: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look what is there of it: [`Transfers::opened`].
    Open(Content),
    /// Ask a member for the hashes of its chunks, check and keep them: [`Transfers::listed`].
    AskList { peer: MemberId, content: Content },
    /// Ask a member for a chunk, check and keep it: [`Transfers::pulled`].
    AskChunk { peer: MemberId, content: Content, index: u32, expected: Digest },
    /// All is there: verify it whole, and keep it under its hash: [`Transfers::finished`].
    Finish(Content),
    /// It is not wanted any more.
    Leave(Digest),
    /// It is here.
    Done(Digest),
    /// It does not come, for this reason. It is tried on.
    Stalled(Digest, String),
}

/// What is there of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// All of it, verified.
    Whole,
    /// Not even the hashes of its chunks.
    Nothing,
    /// These hashes, and the chunks of which it says so.
    Part(Arc<[Digest]>, Vec<bool>),
}

/// Why something did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The member does not have it.
    Absent,
    /// No answer.
    Unreachable,
    /// It is not what it should be.
    Corrupt,
    /// It cannot be kept here.
    Disk(String),
}

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) parallel_peers: usize,
    pub(crate) idle_timeout: Duration,
    /// Differs from member to member: each begins at another chunk, so that they can help each other.
    pub(crate) seed: u64,
}

/// All that is to come.
#[derive(Debug)]
pub(crate) struct Transfers {
    tuning: Tuning,
    peers: Peers,
    wants: BTreeMap<Digest, Want>,
    /// Those that wait, and those that are begun, in the order in which they were wanted.
    queued: BTreeSet<(u64, Digest)>,
    /// As `queued`, of those that have stalled.
    parked: BTreeSet<(u64, Digest)>,
    begun: BTreeSet<(u64, Digest)>,
    turns: u64,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Want {
    content: Content,
    /// The earlier is fetched first.
    turn: u64,
    phase: Phase,
    /// Who did not have it, or sent what it is not, and until when he is not asked again.
    avoid: BTreeMap<MemberId, Time>,
    progress: Time,
    stalled: bool,
}

#[derive(Debug)]
enum Phase {
    /// Not before then.
    Queued(Time),
    Opening,
    /// Whom it was asked of.
    Listing(Option<MemberId>),
    Pulling(Pull),
    Finishing,
}

#[derive(Debug)]
struct Pull {
    list: Arc<[Digest]>,
    missing: BTreeSet<u32>,
    flying: BTreeMap<u32, MemberId>,
    cursor: u32,
}

impl Pull {
    fn next(&self) -> Option<u32> {
        self.missing.range(self.cursor..).next().or_else(|| self.missing.first()).copied()
    }
}

impl Transfers {
    pub(crate) fn new(tuning: Tuning) -> Self {
        Self {
            tuning,
            peers: Peers::default(),
            wants: BTreeMap::new(),
            queued: BTreeSet::new(),
            parked: BTreeSet::new(),
            begun: BTreeSet::new(),
            turns: 0,
            actions: Vec::new(),
        }
    }

    /// Who is there to be asked.
    pub(crate) fn members(&mut self, members: &BTreeSet<MemberId>, now: Time) {
        self.peers.are(members);
        for want in self.wants.values_mut() {
            want.avoid.retain(|peer, _| members.contains(peer));
        }
        self.go_on(now);
    }

    /// `content` is to come. Again does nothing; what is said otherwise of the same hash, and came before, is forgotten: it may not be
    /// to be had, and what is verified by the hash is the same.
    pub(crate) fn want(&mut self, content: Content, now: Time) {
        match self.wants.get(&content.hash) {
            Some(want) if want.content == content => return,
            Some(_) => self.forget(&content.hash, now),
            None => {}
        }
        let turn = self.turns;
        self.turns += 1;
        self.queued.insert((turn, content.hash));
        let phase = Phase::Queued(now);
        let want = Want { content, turn, phase, avoid: BTreeMap::new(), progress: now, stalled: false };
        self.wants.insert(content.hash, want);
        self.go_on(now);
    }

    /// It is to come no more; what is under way is passed over when it comes.
    pub(crate) fn forget(&mut self, hash: &Digest, now: Time) {
        self.drop(hash);
        self.actions.push(Action::Leave(*hash));
        self.go_on(now);
    }

    /// Whatever is to come.
    pub(crate) fn all(&self) -> Vec<Digest> {
        self.wants.keys().copied().collect()
    }

    #[cfg(test)]
    fn is_wanted(&self, hash: &Digest) -> bool {
        self.wants.contains_key(hash)
    }

    /// How many bytes of it are here; `None` if that is not known.
    pub(crate) fn bytes_here(&self, hash: &Digest) -> Option<u64> {
        let want = self.wants.get(hash)?;
        match &want.phase {
            Phase::Pulling(pull) => {
                let open = (pull.missing.len() + pull.flying.len()) as u64;
                Some(want.content.size.saturating_sub(open.saturating_mul(u64::from(want.content.chunk))))
            }
            Phase::Finishing => Some(want.content.size),
            _ => None,
        }
    }

    pub(crate) fn opened(&mut self, hash: &Digest, opened: Result<Opened, String>, now: Time) {
        self.leave_unwanted(hash);
        let Some(want) = self.wants.get_mut(hash).filter(|want| matches!(want.phase, Phase::Opening)) else { return };
        match opened {
            Ok(Opened::Whole) => self.done(hash),
            Ok(Opened::Nothing) => want.phase = Phase::Listing(None),
            Ok(Opened::Part(list, have)) => {
                let missing = (0..want.content.chunks()).zip(have).filter(|(_, have)| !have).map(|(at, _)| at);
                let missing: BTreeSet<u32> = missing.collect();
                want.progress = now;
                self.pull(hash, list, missing);
            }
            Err(why) => self.disk_failed(hash, why, now),
        }
        self.go_on(now);
    }

    /// The list is checked and kept, or why not.
    pub(crate) fn listed(&mut self, hash: &Digest, peer: MemberId, list: Result<Arc<[Digest]>, Fault>, now: Time) {
        self.peers.answered(peer, list.as_ref().err(), now);
        self.leave_unwanted(hash);
        let asked = |want: &&mut Want| matches!(want.phase, Phase::Listing(Some(asked)) if asked == peer);
        if let Some(want) = self.wants.get_mut(hash).filter(asked) {
            want.phase = Phase::Listing(None);
            match list {
                Ok(list) => {
                    want.progress = now;
                    let missing = (0..want.content.chunks()).collect();
                    self.pull(hash, list, missing);
                }
                Err(Fault::Disk(why)) => self.disk_failed(hash, why, now),
                Err(fault) => want.avoid(peer, &fault, now),
            }
        }
        self.go_on(now);
    }

    /// The chunk is checked and kept, or why not.
    pub(crate) fn pulled(&mut self, hash: &Digest, peer: MemberId, index: u32, result: Result<(), Fault>, now: Time) {
        self.peers.answered(peer, result.as_ref().err(), now);
        if let Some(want) = self.wants.get_mut(hash)
            && let Phase::Pulling(pull) = &mut want.phase
            && pull.flying.get(&index) == Some(&peer)
        {
            pull.flying.remove(&index);
            if result.is_err() {
                pull.missing.insert(index);
            }
            let whole = pull.missing.is_empty() && pull.flying.is_empty();
            match result {
                Ok(()) => {
                    (want.progress, want.stalled) = (now, false);
                    if whole {
                        want.phase = Phase::Finishing;
                        self.actions.push(Action::Finish(want.content));
                    }
                }
                Err(Fault::Disk(why)) => self.disk_failed(hash, why, now),
                Err(fault) => want.avoid(peer, &fault, now),
            }
        }
        self.go_on(now);
    }

    pub(crate) fn finished(&mut self, hash: &Digest, result: Result<(), Fault>, now: Time) {
        if self.wants.get(hash).is_some_and(|want| matches!(want.phase, Phase::Finishing)) {
            match result {
                Ok(()) => self.done(hash),
                Err(Fault::Disk(why)) => self.disk_failed(hash, why, now),
                Err(_) => self.disk_failed(hash, "the whole is not what its manifest says".into(), now),
            }
        }
        self.go_on(now);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Time) {
        let limit = self.tuning.idle_timeout;
        for (_, hash) in &self.begun {
            let Some(want) = self.wants.get_mut(hash) else { continue };
            let waits = !matches!(want.phase, Phase::Opening | Phase::Finishing);
            if waits && !want.stalled && now - want.progress >= limit {
                want.stalled = true;
                self.actions.push(Action::Stalled(*hash, format!("nothing came for {} s", limit.as_secs())));
            }
        }
        self.take_turns(now);
        self.go_on(now);
    }

    /// When [`tick`](Self::tick) is to be called at the latest.
    pub(crate) fn next_wake(&self, now: Time) -> Time {
        let mut wake = Time::NEVER;
        if !self.parked.is_empty() {
            let turn = self.stalled().first().map(|(progress, _)| *progress + self.tuning.idle_timeout);
            wake = turn.filter(|at| *at > now).unwrap_or(wake);
        }
        let some = self.begun.iter().chain(self.queued.iter().take(ACTIVE)).chain(self.parked.iter().take(STALLED));
        for want in some.filter_map(|(_, hash)| self.wants.get(hash)) {
            match &want.phase {
                Phase::Queued(at) if *at > now => wake = wake.min(*at),
                Phase::Listing(_) | Phase::Pulling(_) => {
                    if !want.stalled {
                        wake = wake.min(want.progress + self.tuning.idle_timeout);
                    }
                    wake = want.avoid.values().filter(|at| **at > now).fold(wake, |wake, at| wake.min(*at));
                }
                _ => {}
            }
        }
        if self.wants.is_empty() { wake } else { wake.min(self.peers.next_wake(now)) }
    }

    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// It was begun while it was being forgotten.
    fn leave_unwanted(&mut self, hash: &Digest) {
        if !self.wants.contains_key(hash) {
            self.actions.push(Action::Leave(*hash));
        }
    }

    fn drop(&mut self, hash: &Digest) {
        if let Some(want) = self.wants.remove(hash) {
            let key = (want.turn, *hash);
            for of in [&mut self.queued, &mut self.parked, &mut self.begun] {
                of.remove(&key);
            }
        }
    }

    /// It is put back, behind all others that have stalled.
    fn park(&mut self, hash: &Digest, until: Time) {
        if let Some(want) = self.wants.get_mut(hash) {
            self.begun.remove(&(want.turn, *hash));
            (want.phase, want.stalled, want.turn) = (Phase::Queued(until), true, self.turns);
            self.parked.insert((self.turns, *hash));
            self.turns += 1;
        }
    }

    /// Those that have stalled and are tried, the one of which nothing came for longest first.
    fn stalled(&self) -> Vec<(Time, Digest)> {
        let of = |(_, hash): &(u64, Digest)| {
            let want = self.wants.get(hash).filter(|want| want.stalled)?;
            Some((want.progress, *hash))
        };
        let mut stalled: Vec<_> = self.begun.iter().filter_map(of).collect();
        stalled.sort_unstable();
        stalled
    }

    /// Has those that have stalled take turns.
    fn take_turns(&mut self, now: Time) {
        let stalled = self.stalled();
        let more = stalled.len().saturating_sub(STALLED);
        let in_turn = self.parked.len();
        for (at, (progress, hash)) in stalled.into_iter().enumerate() {
            if at < more || at < in_turn && now - progress >= self.tuning.idle_timeout {
                self.park(&hash, now);
            }
        }
    }

    fn done(&mut self, hash: &Digest) {
        self.drop(hash);
        self.actions.push(Action::Done(*hash));
    }

    fn disk_failed(&mut self, hash: &Digest, why: String, now: Time) {
        self.park(hash, now + DISK);
        self.actions.push(Action::Stalled(*hash, why));
    }

    fn pull(&mut self, hash: &Digest, list: Arc<[Digest]>, missing: BTreeSet<u32>) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        if missing.is_empty() {
            want.phase = Phase::Finishing;
            self.actions.push(Action::Finish(want.content));
            return;
        }
        let chunks = u64::from(want.content.chunks().max(1));
        let cursor = u32::try_from(self.tuning.seed % chunks).unwrap_or_default();
        want.phase = Phase::Pulling(Pull { list, missing, flying: BTreeMap::new(), cursor });
    }

    /// Opens the first that wait, as long as not too many are being fetched. What has stalled holds up nobody.
    fn open_next(&mut self, now: Time) {
        let stalled = |(_, hash): &&(u64, Digest)| self.wants.get(hash).is_some_and(|want| want.stalled);
        let tried = self.begun.iter().filter(stalled).count();
        let is_due = |want: &Want| matches!(want.phase, Phase::Queued(at) if at <= now);
        let due = |(_, hash): &&(u64, Digest)| self.wants.get(hash).is_some_and(is_due);
        let fresh = self.queued.iter().filter(due).take(ACTIVE.saturating_sub(self.begun.len() - tried));
        let again = self.parked.iter().filter(due).take(STALLED.saturating_sub(tried));
        let next: Vec<_> = fresh.chain(again).copied().collect();
        for (turn, hash) in next {
            let Some(want) = self.wants.get_mut(&hash) else { continue };
            self.queued.remove(&(turn, hash));
            self.parked.remove(&(turn, hash));
            self.begun.insert((turn, hash));
            want.phase = Phase::Opening;
            want.progress = now;
            self.actions.push(Action::Open(want.content));
        }
    }

    /// Asks for what can be asked for.
    fn go_on(&mut self, now: Time) {
        self.open_next(now);
        for (_, hash) in &self.begun {
            let Some(want) = self.wants.get_mut(hash) else { continue };
            want.avoid.retain(|_, until| *until > now);
            match &mut want.phase {
                Phase::Listing(asked @ None) => {
                    if let Some(peer) = self.peers.choose(now, |peer| !want.avoid.contains_key(peer)) {
                        *asked = Some(peer);
                        self.actions.push(Action::AskList { peer, content: want.content });
                    }
                }
                Phase::Pulling(pull) => {
                    let avoid = &want.avoid;
                    while let Some(index) = pull.next() {
                        let busy: BTreeSet<MemberId> = pull.flying.values().copied().collect();
                        let more = busy.len() < self.tuning.parallel_peers;
                        let fit = |peer: &MemberId| !avoid.contains_key(peer) && (more || busy.contains(peer));
                        let Some(peer) = self.peers.choose(now, fit) else { break };
                        let Some(expected) = pull.list.get(index as usize).copied() else { break };
                        pull.missing.remove(&index);
                        pull.flying.insert(index, peer);
                        pull.cursor = index + 1;
                        self.actions.push(Action::AskChunk { peer, content: want.content, index, expected });
                    }
                }
                _ => {}
            }
        }
    }
}

impl Want {
    fn avoid(&mut self, peer: MemberId, fault: &Fault, now: Time) {
        // Whoever did not answer is left alone for all that is wanted.
        if *fault != Fault::Unreachable {
            self.avoid.insert(peer, now + ABSENT);
        }
    }
}

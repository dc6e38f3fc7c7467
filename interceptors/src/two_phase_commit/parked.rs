//! The receiver's part between our own nodes, without I/O: messages that were voted for and whose fate is not known yet.
//!
//! ```text
//!            decide                            ask again and again, until it is told
//!   ┌─────────────────────────┐  late        ┌────────────────┐
//!   │ Waiting for coordinator ├─────────────►│ asking it      │
//!   └────────────┬────────────┘              └───────┬────────┘
//!                │ the coordinator is gone           │ the coordinator is gone
//!                ▼                                   ▼
//!   lowest id of those present: Leading      others: ask the leader, Frozen once it collects
//! ```
//!
//! The leader collects what every other present destination knows. If any has decided, all do the same; if any was told to
//! commit since, all commit; if all are in doubt, all abort. Who has answered "in doubt" is *frozen*: it obeys the leader
//! alone from then on, even when the coordinator's word arrives after all, so that the answer stays true. When the leader goes
//! too, the next one begins again. What is in doubt for too long is given up: that is the one guess made here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, MemberId, Time};

use super::frame::{Decision, Frame, Key, Known};
use super::records::Records;

/// What is to be done. `T` is a message: one that is parked, or the frame that decides over it.
#[derive(Debug)]
pub(super) enum Act<T> {
    /// Tell `to` this.
    Tell { to: Arc<Member>, frame: Frame },
    /// Hand the message on up; `carrier` is the frame that carries its outcome, if there is one.
    Release { message: T, from: Arc<Member>, cost: usize, carrier: Option<T> },
    /// Forget the message.
    Discard { message: T, from: Arc<Member>, cost: usize },
    /// A frame that decides, but not over anything that is here: it was done before, or cannot be done.
    Answer { carrier: T, done: bool },
}

/// Why a message is voted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It was given up before.
    GivenUp,
}

#[derive(Debug)]
enum State {
    /// For the coordinator's word.
    Waiting,
    /// For the word of this leader, whom it answered that it is in doubt.
    Frozen { by: MemberId },
    /// For the answers of these.
    Leading { missing: BTreeSet<MemberId>, told_to_commit: bool, cannot_say: bool },
}

#[derive(Debug)]
struct Parked<T> {
    message: T,
    from: Arc<Member>,
    cost: usize,
    /// The other destinations of our own kind.
    others: BTreeSet<MemberId>,
    state: State,
    /// Whether the coordinator has left.
    gone: bool,
    /// The coordinator's word to commit, which came while frozen.
    word: Option<T>,
    came: Time,
    ask_at: Time,
    expires: Time,
}

/// What does not change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) ask_every: Duration,
    pub(super) expire: Duration,
}

/// What was seen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) committed: u64,
    pub(super) aborted: u64,
    /// Committed or aborted without the coordinator, by agreement of those who were left.
    pub(super) settled: u64,
    /// Given up without anybody's word.
    pub(super) guessed: u64,
    /// Decisions that came after the opposite had been done.
    pub(super) conflicts: u64,
}

/// All messages that are parked, and what was decided over earlier ones.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    own: MemberId,
    terms: Terms,
    pub(super) records: Records,
    parked: BTreeMap<Key, Parked<T>>,
    /// Members of our own kind that are there.
    peers: BTreeMap<MemberId, Arc<Member>>,
    due: BTreeSet<(Time, Key)>,
    pub(super) counts: Counts,
}

impl<T> Shelf<T> {
    pub(super) const fn new(own: MemberId, terms: Terms, records: Records) -> Self {
        Self {
            own,
            terms,
            records,
            parked: BTreeMap::new(),
            peers: BTreeMap::new(),
            due: BTreeSet::new(),
            counts: Counts { committed: 0, aborted: 0, settled: 0, guessed: 0, conflicts: 0 },
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }

    /// How many are past the time within which their coordinator should have decided.
    pub(super) fn in_doubt(&self, now: Time) -> usize {
        self.parked.values().filter(|parked| parked.gone || parked.ask_at <= now + self.terms.ask_every).count()
    }

    /// Whether a message is here already, or was; `None` if it is new.
    pub(super) fn known(&self, key: &Key) -> Option<Result<(), Refused>> {
        match self.records.get(key) {
            Some(Decision::Commit) => Some(Ok(())),
            Some(Decision::Abort) => Some(Err(Refused::GivenUp)),
            None => self.parked.contains_key(key).then_some(Ok(())),
        }
    }

    /// Parks a message that is voted for, and not [known](Self::known). Its coordinator decides within `vote`.
    #[allow(clippy::too_many_arguments, reason = "the parts of a message")]
    pub(super) fn park(
        &mut self,
        key: Key,
        from: &Arc<Member>,
        others: impl IntoIterator<Item = MemberId>,
        vote: Duration,
        message: T,
        cost: usize,
        now: Time,
    ) {
        let others = others.into_iter().filter(|id| *id != self.own && *id != key.coordinator).collect();
        let (ask_at, expires) = (now + vote + self.terms.ask_every, now + self.terms.expire);
        let ask_at = ask_at.min(expires);
        let from = Arc::clone(from);
        let state = State::Waiting;
        let parked = Parked { message, from, cost, others, state, gone: false, word: None, came: now, ask_at, expires };
        self.parked.insert(key, parked);
        self.due.insert((ask_at, key));
    }

    /// Votes against a message, for good.
    pub(super) fn reject(&mut self, key: Key, now: Time) {
        self.records.note(key, Decision::Abort, now);
    }

    /// `by` says what was decided. `carrier` is the frame that says so.
    pub(super) fn decide(&mut self, by: MemberId, key: Key, decision: Decision, carrier: T, now: Time) -> Vec<Act<T>> {
        let Some(parked) = self.parked.get_mut(&key) else {
            let known = self.records.get(&key);
            if by == key.coordinator && decision == Decision::Abort && known.is_none() {
                // It came before the message, or a copy of it: that is then not voted for.
                self.records.note(key, Decision::Abort, now);
            }
            let contrary = known.is_some_and(|known| known != decision);
            self.counts.conflicts += u64::from(contrary && by == key.coordinator);
            return vec![Act::Answer { carrier, done: known == Some(decision) || decision == Decision::Abort }];
        };
        let entitled = by == key.coordinator || parked.others.contains(&by);
        if !entitled {
            return vec![Act::Answer { carrier, done: false }];
        }
        if by == key.coordinator
            && decision == Decision::Commit
            && let State::Frozen { by: leader } = parked.state
        {
            // The leader counts on an answer that was given: only its word counts now. It learns of this.
            let earlier = parked.word.replace(carrier);
            let mut acts = Vec::new();
            acts.extend(earlier.map(|carrier| Act::Answer { carrier, done: true }));
            if let Some(leader) = self.peers.get(&leader) {
                acts.push(Act::Tell { to: Arc::clone(leader), frame: Frame::Answer(Known::ToldToCommit, key) });
            }
            return acts;
        }
        let spread = matches!(parked.state, State::Leading { .. });
        self.settle(key, decision, Some(carrier), spread, by != key.coordinator, now)
    }

    /// Ends the doubt over a message; `spread` tells the others.
    fn settle(
        &mut self,
        key: Key,
        decision: Decision,
        carrier: Option<T>,
        spread: bool,
        by_others: bool,
        now: Time,
    ) -> Vec<Act<T>> {
        let Some(parked) = self.parked.remove(&key) else { return Vec::new() };
        self.due.remove(&(parked.ask_at, key));
        self.records.note(key, decision, now);
        self.counts.settled += u64::from(by_others);
        let Parked { message, from, cost, others, word, .. } = parked;
        let mut acts = Vec::new();
        let carrier = match decision {
            Decision::Commit => {
                self.counts.committed += 1;
                // The coordinator's own frame carries the outcome back to it; another one is merely answered.
                let (carrier, spare) = if word.is_some() { (word, carrier) } else { (carrier, None) };
                acts.extend(spare.map(|carrier| Act::Answer { carrier, done: true }));
                carrier
            }
            Decision::Abort => {
                self.counts.aborted += 1;
                acts.extend(word.map(|carrier| Act::Answer { carrier, done: false }));
                acts.extend(carrier.map(|carrier| Act::Answer { carrier, done: true }));
                None
            }
        };
        if spread {
            for other in others.iter().filter_map(|id| self.peers.get(id)) {
                acts.push(Act::Tell { to: Arc::clone(other), frame: Frame::Decide(decision, key) });
            }
        }
        acts.push(match decision {
            Decision::Commit => Act::Release { message, from, cost, carrier },
            Decision::Abort => Act::Discard { message, from, cost },
        });
        acts
    }

    /// `by` asks what became of a message of another coordinator; `decided` is what is known beside.
    pub(super) fn ask(&mut self, by: &Arc<Member>, key: Key, age: Duration, now: Time) -> Vec<Act<T>> {
        let decision = match self.parked.get_mut(&key) {
            Some(parked) if parked.others.contains(&by.id()) => {
                if matches!(parked.state, State::Frozen { by: leader } if leader == by.id()) {
                    // It asks, so it leads no more: it was frozen itself, and lost its leader.
                    parked.state = State::Waiting;
                }
                let lower = |id: &MemberId| *id < self.own && self.peers.contains_key(id);
                let leads = parked.gone && !parked.others.iter().any(lower);
                // In doubt as well: if this one is to lead, it begins now, not at the next turn. Others do not pass
                // questions on, which could go round.
                return if leads { self.doubt(key, now) } else { Vec::new() };
            }
            Some(_) => return Vec::new(),
            None => self.decision(key, age, now),
        };
        decision.map(|decision| tell(by, Frame::Decide(decision, key))).into_iter().collect()
    }

    /// What was decided over a message that came to another member `age` ago. One that was never voted for here is
    /// aborted from now on: it never will be.
    pub(super) fn decision(&mut self, key: Key, age: Duration, now: Time) -> Option<Decision> {
        let known = self.records.get(&key);
        if known.is_none() && self.records.is_sure(age, now) {
            self.records.note(key, Decision::Abort, now);
            return Some(Decision::Abort);
        }
        known
    }

    /// The leader `by` wants to know what is known here.
    pub(super) fn collect(&mut self, by: &Arc<Member>, key: Key, age: Duration, now: Time) -> Vec<Act<T>> {
        let Some(parked) = self.parked.get_mut(&key) else {
            let frame = self
                .decision(key, age, now)
                .map_or(Frame::Answer(Known::CannotSay, key), |decision| Frame::Decide(decision, key));
            return vec![tell(by, frame)];
        };
        if !parked.others.contains(&by.id()) {
            return Vec::new();
        }
        let leader = match &parked.state {
            State::Waiting => None,
            State::Frozen { by } => Some(*by),
            State::Leading { .. } => Some(self.own),
        };
        // Of two leaders the lower one stays, if it is there.
        let stays = |leader: &MemberId| *leader < by.id() && (*leader == self.own || self.peers.contains_key(leader));
        if leader.is_some_and(|leader| stays(&leader)) {
            return Vec::new();
        }
        let known = if parked.word.is_some() { Known::ToldToCommit } else { Known::Doubt };
        parked.state = State::Frozen { by: by.id() };
        vec![tell(by, Frame::Answer(known, key))]
    }

    /// A destination answers the leader.
    pub(super) fn answer(&mut self, by: MemberId, key: Key, known: Known, now: Time) -> Vec<Act<T>> {
        let Some(Parked { state: State::Leading { missing, told_to_commit, cannot_say }, .. }) =
            self.parked.get_mut(&key)
        else {
            return Vec::new();
        };
        if !missing.remove(&by) {
            return Vec::new();
        }
        *told_to_commit |= known == Known::ToldToCommit;
        *cannot_say |= known == Known::CannotSay;
        self.conclude(key, now)
    }

    /// The leader decides, if all present have answered.
    fn conclude(&mut self, key: Key, now: Time) -> Vec<Act<T>> {
        let Some(parked) = self.parked.get_mut(&key) else { return Vec::new() };
        let State::Leading { missing, told_to_commit, cannot_say } = &mut parked.state else { return Vec::new() };
        missing.retain(|id| self.peers.contains_key(id));
        if !missing.is_empty() {
            return Vec::new();
        }
        let decision = match (*told_to_commit || parked.word.is_some(), *cannot_say) {
            (true, _) => Decision::Commit,
            (false, false) => Decision::Abort,
            // One of them may have committed: asked again at the next turn.
            (false, true) => return Vec::new(),
        };
        self.settle(key, decision, None, true, true, now)
    }

    /// Does what is next about a message in doubt.
    fn doubt(&mut self, key: Key, now: Time) -> Vec<Act<T>> {
        let Some(parked) = self.parked.get_mut(&key) else { return Vec::new() };
        self.due.remove(&(parked.ask_at, key));
        parked.ask_at = (now + self.terms.ask_every).min(parked.expires);
        self.due.insert((parked.ask_at, key));
        let age = now.since(parked.came);
        if let State::Frozen { by } = parked.state {
            if let Some(leader) = self.peers.get(&by) {
                return vec![tell(leader, Frame::Ask(key, age))];
            }
            parked.state = State::Waiting;
        }
        if !parked.gone && matches!(parked.state, State::Waiting) {
            return vec![tell(&parked.from, Frame::Ask(key, age))];
        }
        let present: Vec<_> = parked.others.iter().filter_map(|id| self.peers.get(id)).cloned().collect();
        if let Some(leader) = present.iter().filter(|other| other.id() < self.own).min_by_key(|other| other.id())
            && matches!(parked.state, State::Waiting)
        {
            return vec![tell(leader, Frame::Ask(key, age))];
        }
        // Answers that were given stay true, those that said nothing are asked again.
        let missing = match &mut parked.state {
            State::Leading { missing, cannot_say: false, .. } => std::mem::take(missing),
            _ => present.iter().map(|other| other.id()).collect(),
        };
        let told_to_commit = matches!(parked.state, State::Leading { told_to_commit: true, .. });
        let acts = present.iter().filter(|other| missing.contains(&other.id()));
        let mut acts: Vec<_> = acts.map(|other| tell(other, Frame::Collect(key, age))).collect();
        parked.state = State::Leading { missing, told_to_commit, cannot_say: false };
        acts.extend(self.conclude(key, now));
        acts
    }

    /// A member of our own kind is there.
    pub(super) fn added(&mut self, member: &Arc<Member>) {
        self.peers.insert(member.id(), Arc::clone(member));
        for (_, parked) in self.parked.iter_mut().filter(|(key, _)| key.coordinator == member.id()) {
            // It may still tell, and be asked.
            parked.gone = false;
        }
    }

    /// A member is gone: whoever waited for it does something else.
    pub(super) fn removed(&mut self, member: &Member, now: Time) -> Vec<Act<T>> {
        let id = member.id();
        self.peers.remove(&id);
        let mut affected = Vec::new();
        for (key, parked) in &mut self.parked {
            parked.gone |= key.coordinator == id;
            if key.coordinator == id || (parked.gone && parked.others.contains(&id)) {
                affected.push(*key);
            }
        }
        affected.into_iter().flat_map(|key| self.doubt(key, now)).collect()
    }

    /// Asks where it is time to, and gives up what has waited for too long.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Act<T>> {
        self.records.tick(now);
        let mut acts = Vec::new();
        while let Some(&(at, key)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.pop_first();
            match self.parked.get(&key) {
                Some(parked) if parked.expires <= now => {
                    self.counts.guessed += 1;
                    let decision = if parked.word.is_some() { Decision::Commit } else { Decision::Abort };
                    acts.extend(self.settle(key, decision, None, false, false, now));
                }
                Some(_) => acts.extend(self.doubt(key, now)),
                None => {}
            }
        }
        acts
    }

    pub(super) fn next_tick(&self) -> Time {
        self.due.first().map_or(Time::NEVER, |(at, _)| *at).min(self.records.next_tick())
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) -> Vec<Act<T>> {
        self.due.clear();
        self.peers.clear();
        let parked = std::mem::take(&mut self.parked);
        let mut acts = Vec::new();
        for Parked { message, from, cost, word, .. } in parked.into_values() {
            acts.extend(word.map(|carrier| Act::Answer { carrier, done: false }));
            acts.push(Act::Discard { message, from, cost });
        }
        acts
    }
}

fn tell<T>(to: &Arc<Member>, frame: Frame) -> Act<T> {
    Act::Tell { to: Arc::clone(to), frame }
}

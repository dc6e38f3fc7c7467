//! Writes that somebody waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::peers::Peer;
use super::{Action, Core, Now};
use crate::context::Seen;

/// When an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The write is on its way to each peer, as far as there was room.
    Queued,
    /// So many others have it.
    Copies(usize),
    /// All others have it that are there.
    All,
}

/// How far a write has come to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyState {
    /// It has said that it has it.
    Has,
    /// It is on its way.
    Sent,
    /// There was no room in its queue: it comes when that has drained.
    Behind,
    /// The member is gone.
    Left,
}

/// The outcome of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpReport {
    pub(crate) met: bool,
    pub(crate) members: Vec<(Arc<Member>, CopyState)>,
}

#[derive(Debug)]
struct Op {
    need: Need,
    deadline: Time,
    members: BTreeMap<Arc<Member>, CopyState>,
}

/// Operations by the number of their write, which is the operation's name, too.
#[derive(Debug, Default)]
pub(super) struct Ops {
    open: BTreeMap<u64, Op>,
    deadlines: BTreeSet<(Time, u64)>,
}

impl Ops {
    pub(super) fn due(&self) -> Time {
        self.deadlines.first().map_or(Time::NEVER, |(deadline, _)| *deadline)
    }

    fn finish(&mut self, counter: u64, met: bool, actions: &mut VecDeque<Action>) {
        let Some(op) = self.open.remove(&counter) else { return };
        self.deadlines.remove(&(op.deadline, counter));
        let report = OpReport { met, members: op.members.into_iter().collect() };
        actions.push_back(Action::Done { op: counter, report });
    }

    /// All that are open end without having got what they wait for.
    pub(super) fn end(&mut self, actions: &mut VecDeque<Action>, _now: Time) {
        for counter in self.open.keys().copied().collect::<Vec<_>>() {
            self.finish(counter, false, actions);
        }
    }
}

impl Op {
    /// Whether it is met, or can never be.
    fn decided(&self) -> Option<bool> {
        let count = |wanted: &[CopyState]| self.members.values().filter(|state| wanted.contains(state)).count();
        let open = count(&[CopyState::Sent, CopyState::Behind]);
        match self.need {
            Need::Queued => (count(&[CopyState::Sent]) == 0).then_some(true),
            Need::Copies(copies) if count(&[CopyState::Has]) >= copies => Some(true),
            Need::Copies(copies) => (count(&[CopyState::Has]) + open < copies).then_some(false),
            Need::All => (open == 0).then_some(true),
        }
    }
}

impl Core {
    /// How many other members are the larger half of the group together with this one. Members that may have the map count
    /// until they say that they have none.
    pub(crate) fn majority(&self, now: Now) -> usize {
        self.tuning.group_size.unwrap_or_else(|| self.peers.len() + self.expected(now.time).count() + 1) / 2
    }

    /// How far a write has come whose message is about to be sent.
    pub(crate) fn under_way(&self) -> OpReport {
        let state = |peer: &Peer| if peer.behind { CopyState::Behind } else { CopyState::Sent };
        OpReport { met: true, members: self.peers.iter().map(|(at, peer)| (Arc::clone(at), state(peer))).collect() }
    }

    /// Opens the operation that is done when the write `counter`, just made, meets `need`, or `within` is over.
    pub(super) fn open_op(&mut self, counter: u64, need: Need, within: Duration, now: Now) {
        let members = self
            .peers
            .iter()
            .map(|(member, peer)| (Arc::clone(member), if peer.behind { CopyState::Behind } else { CopyState::Sent }));
        let mut members: BTreeMap<_, _> = members.collect();
        if need != Need::Queued {
            // They get it with the state, and say so.
            members.extend(self.expected(now.time).map(|member| (Arc::clone(member), CopyState::Sent)));
        }
        let op = Op { need, deadline: now.time + within, members };
        self.ops.deadlines.insert((op.deadline, counter));
        let decided = op.decided();
        self.ops.open.insert(counter, op);
        if let Some(met) = decided {
            self.ops.finish(counter, met, &mut self.actions);
        }
    }

    /// Whether somebody waits for a write.
    pub(crate) fn has_open_ops(&self) -> bool {
        !self.ops.open.is_empty()
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget_op(&mut self, counter: u64) {
        if let Some(op) = self.ops.open.remove(&counter) {
            self.ops.deadlines.remove(&(op.deadline, counter));
        }
    }

    /// The writes up to `counter` are with the channel, on their way to `member`, or had no room.
    pub(crate) fn queued(&mut self, member: &Arc<Member>, counters: &[u64], has_room: bool) {
        for counter in counters {
            let Some(op) = self.ops.open.get_mut(counter).filter(|op| op.need == Need::Queued) else { continue };
            if let Some(state) = op.members.get_mut(member) {
                *state = if has_room { CopyState::Has } else { CopyState::Behind };
            }
            if op.decided().is_some() {
                self.finish_queued(*counter);
            }
        }
    }

    fn finish_queued(&mut self, counter: u64) {
        if let Some(op) = self.ops.open.get_mut(&counter) {
            // Queued is all that is known of it.
            op.members
                .values_mut()
                .filter(|state| **state == CopyState::Has)
                .for_each(|state| *state = CopyState::Sent);
        }
        self.ops.finish(counter, true, &mut self.actions);
    }

    /// `member` has said which of this replica's writes it has seen; that it has all up to `known` it had said before.
    pub(super) fn acknowledged(&mut self, member: &Arc<Member>, known: u64, seen: &Seen) {
        let mut decided = Vec::new();
        if seen.highest() <= known {
            return;
        }
        for (counter, op) in self.ops.open.range_mut(known + 1..=seen.highest()) {
            if op.need == Need::Queued || !seen.contains(*counter) {
                continue;
            }
            // Whoever joined after the write counts, too.
            let state = op.members.entry(Arc::clone(member)).or_insert(CopyState::Sent);
            if *state != CopyState::Has {
                *state = CopyState::Has;
                decided.extend(op.decided().map(|met| (*counter, met)));
            }
        }
        for (counter, met) in decided {
            self.ops.finish(counter, met, &mut self.actions);
        }
    }

    /// `member` is gone.
    pub(super) fn left(&mut self, member: &Arc<Member>) {
        let mut decided = Vec::new();
        for (counter, op) in &mut self.ops.open {
            // Also if it had the write: what it had may be gone with it, and if it comes back it says again what it has.
            let Some(state) = op.members.get_mut(member) else { continue };
            *state = CopyState::Left;
            decided.extend(op.decided().map(|met| (*counter, met)));
        }
        for (counter, met) in decided {
            if self.ops.open.get(&counter).is_some_and(|op| op.need == Need::Queued) {
                self.finish_queued(counter);
            } else {
                self.ops.finish(counter, met, &mut self.actions);
            }
        }
    }

    pub(super) fn expire_ops(&mut self, now: Now) {
        while let Some((deadline, counter)) = self.ops.deadlines.first().copied()
            && deadline <= now.time
        {
            self.ops.finish(counter, false, &mut self.actions);
        }
    }
}

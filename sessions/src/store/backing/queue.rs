//! What is to be written behind, and when. Without I/O.
//!
//! It holds ids, not sessions: what is written is the session as it is then. So several changes are one write, and a session that has
//! ended meanwhile is removed, not written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tribes_core::Time;

use super::{AT_ONCE, BackingStats};
use crate::SessionId;

/// So many wait at most.
const MOST: usize = 1 << 20;
/// Of so many sessions the end waits at most that nobody could look up: whoever comes with an id may have made it up.
const MOST_UNSEEN: usize = 1 << 16;
/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// For so long at least it is remembered that another member changed a session: it may die before it has written it.
const RECENT: Duration = Duration::from_secs(60);
/// Longer than what is due waits at its author, who may have failed: a try, the longest pause, another.
const RETRIED: Duration = Duration::from_secs(20);
/// What was written so long ago is not taken to be there any more: it may have been let go of, to make room.
const TRUST: Duration = Duration::from_secs(10);
/// So many may fail for reasons of their own, as far as that is remembered.
const MOST_CULPRITS: usize = 1 << 12;
/// What failed so often while others did not fails for a reason of its own.
const TOO_OFTEN: u32 = 3;
/// The longest pause for such a one.
const LONGEST: Duration = Duration::from_secs(600);
/// What could not be done since those that hold a session do not answer is tried again after so long.
const LATER: Duration = Duration::from_secs(1);
/// What another member changes so soon after this one wrote it is written again: the two may have overtaken each other.
const OVERLAP: Duration = Duration::from_secs(10);

/// What is to be done with a session in the backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Write it; whether it is known to be there.
    Write {
        known: bool,
    },
    Remove,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    due: Time,
    ended: bool,
}

/// What this node wrote of a session.
#[derive(Clone, Copy, Debug)]
struct Wrote {
    at: Time,
    /// It was there then, in the [epoch](Queue::epoch) of this number.
    known: Option<u64>,
}

/// A session that cannot be written while others can.
#[derive(Clone, Copy, Debug, Default)]
struct Culprit {
    /// How often it failed in a row, with others done in between.
    times: u32,
    /// How many had been done when it failed last.
    done: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(in crate::store) struct Queue {
    delay: Duration,
    pending: HashMap<SessionId, Pending>,
    due: BTreeSet<(Time, SessionId)>,
    /// What is being done, and whether it is to be looked at again afterwards.
    busy: HashMap<SessionId, (Job, Option<Pending>)>,
    wrote: HashMap<SessionId, Wrote>,
    /// What is to be removed though nobody could say that it is there.
    unseen: HashSet<SessionId>,
    /// Ends that are to be forgotten when they are there.
    cleared: HashSet<SessionId>,
    /// What failed while others did not, how often, and how much had been done by then.
    culprits: HashMap<SessionId, Culprit>,
    /// The time from one failure of the backing to the next: what was there may be gone when it is there again.
    epoch: u64,
    /// What others changed, and when that came.
    recent: HashMap<SessionId, Time>,
    look: Time,
    writes: Backoff,
    reads: Backoff,
    stats: BackingStats,
}

/// How long it is left in peace. What is read may be slow where writes are not, and the other way about.
#[derive(Debug, Default)]
struct Backoff {
    pause: Duration,
    /// After a failure nothing is tried before.
    not_before: Time,
    is_failing: bool,
}

impl Backoff {
    fn works(&mut self) {
        (self.is_failing, self.pause) = (false, Duration::ZERO);
    }

    fn fails(&mut self, now: Time) {
        self.is_failing = true;
        if now >= self.not_before {
            self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
            self.not_before = now + self.pause;
        }
    }
}

impl Queue {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            pending: HashMap::new(),
            due: BTreeSet::new(),
            busy: HashMap::new(),
            wrote: HashMap::new(),
            unseen: HashSet::new(),
            cleared: HashSet::new(),
            culprits: HashMap::new(),
            epoch: 0,
            recent: HashMap::new(),
            look: Time::ZERO,
            writes: Backoff::default(),
            reads: Backoff::default(),
            stats: BackingStats::default(),
        }
    }

    /// This node has changed a session.
    pub(in crate::store) fn changed(&mut self, id: SessionId, now: Time) {
        self.add(id, Pending { due: now + self.delay, ended: false });
    }

    /// This node has ended a session, or learnt that one is over that it may have written.
    pub(in crate::store) fn ended(&mut self, id: SessionId, now: Time) {
        self.recent.remove(&id);
        self.add(id, Pending { due: now, ended: true });
    }

    /// This node has ended a session of which nobody could say whether it is there; whether that could be noted.
    pub(super) fn ended_unseen(&mut self, id: SessionId, now: Time) -> bool {
        if !self.is_ending(id) {
            if self.unseen.len() >= MOST_UNSEEN || self.pending.len() >= MOST {
                self.stats.dropped += 1;
                return false;
            }
            self.unseen.insert(id);
        }
        self.ended(id, now);
        true
    }

    /// The end of a session is to be forgotten, before which it must be gone from there. Who says so says it again later.
    pub(in crate::store) fn clear(&mut self, id: SessionId, now: Time) {
        // There may be very many of them, and what changes comes first.
        if !self.is_ending(id) && self.pending.len() < MOST / 2 {
            self.cleared.insert(id);
            self.ended(id, now);
        }
    }

    /// Another member has changed a session, or ended it.
    pub(in crate::store) fn heard(&mut self, id: SessionId, ended: bool, now: Time) {
        let overlaps = self.wrote.get(&id).is_some_and(|wrote| now - wrote.at < OVERLAP);
        if ended && (self.wrote.contains_key(&id) || self.knows(id)) {
            return self.ended(id, now);
        }
        if overlaps || self.knows(id) {
            self.changed(id, now);
        }
        if now >= self.look {
            let recent = RECENT.max(2 * self.delay + RETRIED);
            if !self.writes.is_failing {
                self.recent.retain(|_, came| now - *came < recent);
            }
            self.look = now + recent;
        }
        if self.recent.len() < MOST {
            self.recent.insert(id, now);
        }
    }

    /// A session that is unused for `limit` at most was used here.
    pub(in crate::store) fn used(&mut self, id: SessionId, limit: Duration, now: Time) {
        // There it ends a quarter later than here. Of one that this node has not written it does not know when that was.
        let is_due = self.wrote.get(&id).is_none_or(|wrote| now - wrote.at >= limit / 4);
        if is_due && (self.wrote.len() < MOST || self.wrote.contains_key(&id)) {
            self.wrote.insert(id, Wrote { at: now, known: None });
            self.changed(id, now);
        }
    }

    /// A session is nowhere any more.
    pub(in crate::store) fn gone(&mut self, id: SessionId) {
        self.wrote.remove(&id);
        self.unseen.remove(&id);
        self.cleared.remove(&id);
        self.culprits.remove(&id);
        self.recent.remove(&id);
    }

    /// What others changed of late: somebody is gone.
    pub(in crate::store) fn recent(&self) -> Vec<SessionId> {
        self.recent.keys().copied().collect()
    }

    /// All that waits is due now, and failures are forgotten.
    pub(super) fn hurry(&mut self, now: Time) {
        (self.writes.not_before, self.writes.pause) = (now, Duration::ZERO);
        self.due = self.pending.keys().map(|id| (now, *id)).collect();
        self.pending.values_mut().for_each(|pending| pending.due = now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.busy.is_empty()
    }

    /// Whether it may be asked for a session: after a failure not at once again.
    pub(super) fn may_read(&self, now: Time) -> bool {
        now >= self.reads.not_before
    }

    /// Whether a session's end is known here and perhaps not there.
    pub(super) fn is_ending(&self, id: SessionId) -> bool {
        let is_end = |pending: &Pending| pending.ended;
        self.pending.get(&id).is_some_and(is_end)
            || self.busy.get(&id).is_some_and(|(job, again)| *job == Job::Remove || again.as_ref().is_some_and(is_end))
    }

    /// What is to be done now.
    pub(super) fn take(&mut self, now: Time) -> Vec<(SessionId, Job)> {
        let mut jobs = Vec::new();
        if now < self.writes.not_before {
            return jobs;
        }
        // One tells whether it is there again.
        let most = if self.writes.is_failing { 1 } else { AT_ONCE };
        while self.busy.len() < most {
            let Some((_, id)) = self.due.first().copied().filter(|(due, _)| *due <= now) else { break };
            self.due.pop_first();
            let Some(pending) = self.pending.remove(&id) else { continue };
            if let Some((_, again)) = self.busy.get_mut(&id) {
                // Not two at once, of which the earlier may come to lie above.
                let ended = pending.ended || again.is_some_and(|again| again.ended);
                *again = Some(Pending { ended, ..pending });
                continue;
            }
            let known =
                self.wrote.get(&id).is_some_and(|wrote| wrote.known == Some(self.epoch) && now - wrote.at < TRUST);
            let job = if pending.ended { Job::Remove } else { Job::Write { known } };
            self.busy.insert(id, (job, None));
            jobs.push((id, job));
        }
        jobs
    }

    /// When [`take`](Self::take) has something, at the latest.
    pub(super) fn next(&self) -> Time {
        if self.busy.len() >= if self.writes.is_failing { 1 } else { AT_ONCE } {
            return Time::NEVER;
        }
        self.due.first().map_or(Time::NEVER, |(due, _)| (*due).max(self.writes.not_before))
    }

    /// It was done: written, or removed.
    pub(super) fn done(&mut self, id: SessionId, removed: bool, now: Time) {
        self.was_written();
        self.culprits.remove(&id);
        if removed {
            self.stats.removed += u64::from(!self.cleared.remove(&id));
            self.gone(id);
        } else {
            self.stats.written += 1;
            if self.wrote.len() < MOST || self.wrote.contains_key(&id) {
                self.wrote.insert(id, Wrote { at: now, known: Some(self.epoch) });
            }
        }
        self.finish(id, None);
    }

    /// There was nothing to be done.
    pub(super) fn needless(&mut self, id: SessionId) {
        self.finish(id, None);
    }

    /// It cannot be done, however often it is tried.
    pub(super) fn impossible(&mut self, id: SessionId) {
        self.stats.failed += 1;
        self.finish(id, None);
    }

    /// It was not done, through no fault of the backing: those that hold the session do not answer.
    pub(super) fn later(&mut self, id: SessionId, ended: bool, now: Time) {
        self.finish(id, Some(Pending { due: now + LATER, ended }));
    }

    /// It was not done, and is to be tried again.
    pub(super) fn failed(&mut self, id: SessionId, ended: bool, now: Time) {
        self.stats.failed += 1;
        // Nobody knows what of it was done, or what is left there.
        if let Some(wrote) = self.wrote.get_mut(&id) {
            wrote.known = None;
        }
        let due = match self.own_pause(id) {
            // Others are not to wait for it.
            Some(pause) => now + pause,
            None => {
                if !self.writes.is_failing {
                    self.epoch += 1;
                }
                self.writes.fails(now);
                self.writes.not_before
            }
        };
        self.finish(id, Some(Pending { due, ended }));
    }

    /// How long a session that fails again waits, if it is that, and not the backing, that fails: others were done between.
    fn own_pause(&mut self, id: SessionId) -> Option<Duration> {
        if self.culprits.len() >= MOST_CULPRITS && !self.culprits.contains_key(&id) {
            // Those that are at fault fail again.
            self.culprits.clear();
        }
        let done = self.stats.written + self.stats.removed;
        let culprit = self.culprits.entry(id).or_default();
        if culprit.times == 0 || culprit.done != done {
            *culprit = Culprit { times: culprit.times.saturating_add(1), done };
        }
        let more = culprit.times.checked_sub(TOO_OFTEN)?;
        Some(PAUSES.1.saturating_mul(1 << more.min(16)).min(LONGEST))
    }

    fn was_written(&mut self) {
        self.writes.works();
        // It is there, as far as anybody knows; whether it is fast enough to be asked is seen by asking.
        self.reads.is_failing = false;
    }

    /// It has answered whether it has a session.
    pub(super) fn was_read(&mut self) {
        self.reads.works();
    }

    /// It has not.
    pub(super) fn read_failed(&mut self, now: Time) {
        self.reads.fails(now);
    }

    /// A session came back from it, as it was written there once.
    pub(super) fn restored(&mut self, id: SessionId, now: Time) {
        self.stats.restored += 1;
        if self.wrote.len() < MOST {
            self.wrote.entry(id).or_insert(Wrote { at: now, known: None });
        }
    }

    pub(super) fn missed(&mut self) {
        self.stats.missed += 1;
    }

    pub(super) fn stats(&self) -> BackingStats {
        let is_failing = self.writes.is_failing || self.reads.is_failing;
        BackingStats { pending: self.pending.len() + self.busy.len(), is_failing, ..self.stats }
    }

    /// Whether it waits, or is being written.
    fn knows(&self, id: SessionId) -> bool {
        self.pending.contains_key(&id) || self.busy.contains_key(&id)
    }

    fn finish(&mut self, id: SessionId, again: Option<Pending>) {
        let later = self.busy.remove(&id).and_then(|(_, again)| again);
        for pending in [again, later].into_iter().flatten() {
            self.add(id, pending);
        }
    }

    fn add(&mut self, id: SessionId, new: Pending) {
        let earlier = self.pending.get(&id).copied();
        if earlier.is_none() && self.pending.len() >= MOST {
            self.stats.dropped += 1;
            return;
        }
        // What has ended stays so.
        let mut pending = new;
        if let Some(earlier) = earlier {
            self.due.remove(&(earlier.due, id));
            pending = Pending { due: earlier.due.min(new.due), ended: earlier.ended || new.ended };
        }
        self.pending.insert(id, pending);
        self.due.insert((pending.due, id));
    }
}

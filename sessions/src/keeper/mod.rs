//! When sessions were used last, and when they end, without I/O: what happens and the time go in, what is to be done comes out.
//!
//! When a session was used is known exactly where it is used. The others are told in batches, as how long ago that was: clocks
//! are never compared. The *owner*, the member that served the session last, ends it when its time is over. The others do that
//! only if the owner is gone, and a little later ([`Rules::lag`]), since they may not have heard of its last use; and, in case
//! that the owner has forgotten, after twice its time, as a Tomcat backup always does.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::time::Duration;

use tribes_core::Time;

use crate::SessionId;
use crate::document::{Lifetime, NodeId, Session};
use crate::id::IdHasher;

/// So many sessions are told of in one message.
pub(crate) const BATCH: usize = 2048;
/// A session is ended again, or looked at again, after so long.
const AGAIN: Duration = Duration::from_secs(5);
/// An end that was to be forgotten, after so long: there may be very many of them, and they do no harm.
const NO_HURRY: Duration = Duration::from_secs(60);

/// The times by which sessions are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// By how much others may lag behind about the last use of a session, at most.
    pub(crate) max_lag: Duration,
    /// For how long it is remembered that a session has ended.
    pub(crate) remember: Duration,
}

impl Rules {
    /// By how much others may lag behind about the last use of a session that ends after `idle`.
    pub(crate) fn lag(self, idle: Duration) -> Duration {
        (idle / 10).min(self.max_lag)
    }
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) time: Time,
    pub(crate) wall_ms: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The time of this session is over.
    End(SessionId),
    /// The end of this session needs to be remembered no more.
    Forget(SessionId),
    /// Tell the others how long ago these were used, in milliseconds.
    Touch(Vec<(SessionId, u64)>),
}

/// How this node came to know how a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Somebody wrote to it just now; all who hold it learn the same.
    Written,
    /// It was served here just now; nobody else knows that.
    Served,
    /// It was so for unknown time, and comes from others.
    Came,
}

/// What became of a session, for this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transition {
    /// It lived, and is over.
    pub(crate) ended: bool,
    /// It had the one owner, and has the other.
    pub(crate) owners: Option<(NodeId, NodeId)>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Keeper {
    me: NodeId,
    rules: Rules,
    present: BTreeSet<NodeId>,
    kept: HashMap<SessionId, Kept, BuildHasherDefault<IdHasher>>,
    /// When to look at a session, in order.
    due: BTreeSet<(Time, SessionId)>,
    /// Whose use the others are to be told of, and when.
    untold: BTreeMap<SessionId, Time>,
    next_touch: Time,
    live: usize,
    /// Until then nobody looks.
    sleeps_until: Time,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// When it was used last, as far as is known here.
    used: Time,
    /// That was said, and not taken from when the session came here.
    certain: bool,
    /// When the others were told last, or told us.
    told: Time,
    /// When they are to be told, at the latest, if they are.
    tell: Time,
    due: Time,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Live { lifetime: Lifetime, owner: NodeId },
    Dead { by: NodeId, since: Time },
}

impl Keeper {
    pub(crate) fn new(me: NodeId, rules: Rules) -> Self {
        Self {
            me,
            rules,
            present: BTreeSet::new(),
            kept: HashMap::default(),
            due: BTreeSet::new(),
            untold: BTreeMap::new(),
            next_touch: Time::NEVER,
            live: 0,
            sleeps_until: Time::ZERO,
        }
    }

    /// How many sessions live, as far as is known here.
    pub(crate) const fn live(&self) -> usize {
        self.live
    }

    /// How many sessions this member is the owner of.
    pub(crate) fn owned(&self) -> usize {
        let is_mine = |kept: &&Kept| matches!(kept.state, State::Live { owner, .. } if owner == self.me);
        self.kept.values().filter(is_mine).count()
    }

    /// These members are there, this one among them.
    pub(crate) fn present(&mut self, present: BTreeSet<NodeId>) {
        self.present = present;
    }

    pub(crate) fn is_present(&self, node: NodeId) -> bool {
        node == self.me || self.present.contains(&node)
    }

    /// A session is as it is now.
    pub(crate) fn changed(&mut self, id: SessionId, session: &Session, news: News, now: Now) -> Transition {
        let state = match session {
            Session::Live(document) => State::Live { lifetime: document.lifetime.1, owner: document.owner.1 },
            Session::Dead(death) => State::Dead { by: death.by, since: now.time },
        };
        let mut transition = Transition::default();
        match self.kept.get_mut(&id) {
            Some(kept) => {
                let State::Live { owner: earlier, .. } = kept.state else { return transition };
                match state {
                    State::Live { owner, .. } if owner != earlier => transition.owners = Some((earlier, owner)),
                    State::Live { .. } => {}
                    State::Dead { .. } => transition.ended = true,
                }
                self.live -= usize::from(transition.ended);
                kept.state = state;
                if news != News::Came {
                    kept.used = kept.used.max(now.time);
                }
            }
            None => {
                self.live += usize::from(matches!(state, State::Live { .. }));
                let told = if news == News::Written { now.time } else { Time::ZERO };
                let (tell, due) = (Time::NEVER, Time::NEVER);
                let kept = Kept { used: now.time, certain: news != News::Came, told, tell, due, state };
                self.kept.insert(id, kept);
            }
        }
        if matches!(state, State::Dead { .. }) && self.untold.remove(&id).is_some() {
            self.kept.entry(id).and_modify(|kept| kept.tell = Time::NEVER);
        }
        self.schedule(id, now);
        transition
    }

    /// Whether this node knows of the session.
    pub(crate) fn knows(&self, id: SessionId) -> bool {
        self.kept.contains_key(&id)
    }

    /// Whether this node takes it for alive.
    pub(crate) fn is_live(&self, id: SessionId) -> bool {
        matches!(self.kept.get(&id), Some(Kept { state: State::Live { .. }, .. }))
    }

    /// How long this session may be unused, if that is how it ends.
    pub(crate) fn idle_limit(&self, id: SessionId) -> Option<Duration> {
        match self.kept.get(&id)?.state {
            State::Live { lifetime: Lifetime::Idle(ms), .. } => Some(Duration::from_millis(ms)),
            State::Live { .. } | State::Dead { .. } => None,
        }
    }

    /// Whether the member is gone that served it last, or ended it; none if it is not known.
    pub(crate) fn is_orphan(&self, id: SessionId) -> Option<bool> {
        let (State::Live { owner: member, .. } | State::Dead { by: member, .. }) = self.kept.get(&id)?.state;
        Some(!self.is_present(member))
    }

    /// A session is not here any more.
    pub(crate) fn gone(&mut self, id: SessionId) {
        self.untold.remove(&id);
        if let Some(kept) = self.kept.remove(&id) {
            self.due.remove(&(kept.due, id));
            self.live -= usize::from(matches!(kept.state, State::Live { .. }));
        }
    }

    /// A session was used here. Whether this member should become its owner, since the present one is gone.
    pub(crate) fn used(&mut self, id: SessionId, now: Now) -> bool {
        let Some(kept) = self.kept.get_mut(&id) else { return false };
        let State::Live { lifetime, owner } = kept.state else { return false };
        kept.used = now.time;
        kept.certain = true;
        if let Lifetime::Idle(limit) = lifetime {
            let limit = Duration::from_millis(limit);
            let lag = self.rules.lag(limit);
            // The owner is about to end it, or does not know of this member: it is told at once.
            let hurry = owner != self.me && now.time - kept.told >= limit / 2;
            let at = if hurry { now.time } else { now.time.max(kept.told + lag) };
            if at < kept.tell {
                kept.tell = at;
                self.untold.insert(id, at);
                self.next_touch = self.next_touch.min(at);
            }
        }
        owner != self.me && !self.present.contains(&owner)
    }

    /// Another member says how long ago it knows that a session was used. Whether it is known here at all.
    pub(crate) fn heard(&mut self, id: SessionId, idle: Duration, now: Now) -> bool {
        let Some(kept) = self.kept.get_mut(&id) else { return false };
        let used =
            Time::from_nanos(now.time.as_nanos().saturating_sub(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX)));
        kept.used = if kept.certain { kept.used.max(used) } else { used };
        kept.certain = true;
        // The others know of that use, and of none since.
        kept.told = kept.told.max(used);
        self.schedule(id, now);
        true
    }

    /// They were not told of these after all.
    pub(crate) fn untold(&mut self, ids: impl IntoIterator<Item = SessionId>, now: Now) {
        let again = now.time + Duration::from_millis(100);
        for id in ids {
            if let Some(kept) = self.kept.get_mut(&id)
                && matches!(kept.state, State::Live { .. })
            {
                kept.tell = *self.untold.entry(id).or_insert(again);
                self.next_touch = self.next_touch.min(again);
            }
        }
    }

    /// How long ago each session after `after` was used, in the order of their ids, as many as fit into a message; and whether
    /// there are more.
    pub(crate) fn ages(&self, after: Option<SessionId>, now: Now) -> (Vec<(SessionId, u64)>, bool) {
        let live = |kept: &Kept| kept.certain && matches!(kept.state, State::Live { .. });
        let mut ids: Vec<SessionId> = self
            .kept
            .iter()
            .filter(|(id, kept)| after.is_none_or(|after| **id > after) && live(kept))
            .map(|(id, _)| *id)
            .collect();
        let more = ids.len() > BATCH;
        if more {
            ids.select_nth_unstable(BATCH);
            ids.truncate(BATCH);
        }
        ids.sort_unstable();
        (ids.into_iter().map(|id| (id, self.idle_ms(id, now))).collect(), more)
    }

    /// How long this session has not been used.
    pub(crate) fn idle(&self, id: SessionId, now: Now) -> Option<Duration> {
        self.kept.get(&id).map(|kept| now.time - kept.used)
    }

    /// Whether the time of a session is over for this member, as things are.
    pub(crate) fn is_over(&self, id: SessionId, now: Now) -> bool {
        self.over(id, now).is_some_and(|over| over <= now.time)
    }

    /// Whether a session has ended so long ago that this need not be remembered any more.
    pub(crate) fn is_forgettable(&self, id: SessionId, now: Now) -> bool {
        !self.is_live(id) && self.is_over(id, now)
    }

    /// What is to be done now.
    pub(crate) fn tick(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((due, id)) = self.due.first().copied().filter(|(due, _)| *due <= now.time) {
            self.due.remove(&(due, id));
            let Some(kept) = self.kept.get_mut(&id) else { continue };
            kept.due = Time::NEVER;
            let over = self.over(id, now);
            if over.is_none_or(|over| over > now.time) {
                self.schedule(id, now);
                continue;
            }
            let (action, again) = match self.kept.get(&id).map(|kept| kept.state) {
                Some(State::Live { .. }) => (Action::End(id), AGAIN),
                Some(State::Dead { .. }) => (Action::Forget(id), NO_HURRY),
                None => continue,
            };
            actions.push(action);
            // In case that it fails.
            self.put_off(id, now.time + again);
        }
        if self.next_touch <= now.time {
            self.touch(&mut actions, now);
        }
        actions
    }

    /// When [`tick`](Self::tick) has something to do, at the latest.
    pub(crate) fn next_wake(&self) -> Time {
        self.due.first().map_or(Time::NEVER, |(due, _)| *due).min(self.next_touch)
    }

    /// As [`next_wake`](Self::next_wake), for who sleeps until then.
    pub(crate) fn sleep(&mut self) -> Time {
        self.sleeps_until = self.next_wake();
        self.sleeps_until
    }

    /// Whether who sleeps is to be woken: something is due earlier than it was.
    pub(crate) fn wakes(&mut self) -> bool {
        let next = self.next_wake();
        let wakes = next < self.sleeps_until;
        self.sleeps_until = self.sleeps_until.min(next);
        wakes
    }

    /// All that others have not been told of yet, now.
    pub(crate) fn touch_all(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        self.untold.values_mut().for_each(|at| *at = now.time);
        self.touch(&mut actions, now);
        actions
    }

    /// What is due soon goes along: fewer messages.
    fn touch(&mut self, actions: &mut Vec<Action>, now: Now) {
        let soon = now.time + self.rules.max_lag / 10;
        let due: Vec<SessionId> = self.untold.iter().filter(|(_, at)| **at <= soon).map(|(id, _)| *id).collect();
        for id in &due {
            self.untold.remove(id);
            if let Some(kept) = self.kept.get_mut(id) {
                (kept.told, kept.tell) = (now.time, Time::NEVER);
            }
        }
        self.next_touch = self.untold.values().min().copied().unwrap_or(Time::NEVER);
        for ids in due.chunks(BATCH) {
            actions.push(Action::Touch(ids.iter().map(|id| (*id, self.idle_ms(*id, now))).collect()));
        }
    }

    fn idle_ms(&self, id: SessionId, now: Now) -> u64 {
        let idle = self.idle(id, now).unwrap_or_default();
        u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)
    }

    /// When the time of a session is over for this member, as things are.
    fn over(&self, id: SessionId, now: Now) -> Option<Time> {
        let kept = self.kept.get(&id)?;
        match kept.state {
            State::Live { lifetime, owner } => {
                let (end, lag, idle) = match lifetime {
                    Lifetime::Idle(ms) => {
                        let idle = Duration::from_millis(ms);
                        (kept.used + idle, self.rules.lag(idle), idle)
                    }
                    Lifetime::Until(wall_ms) => {
                        let left = Duration::from_millis(wall_ms.saturating_sub(now.wall_ms));
                        (now.time + left, self.rules.max_lag, self.rules.max_lag)
                    }
                    Lifetime::Unlimited => return None,
                };
                Some(match owner {
                    owner if owner == self.me => end,
                    owner if self.present.contains(&owner) => end + lag + idle,
                    _ => end + lag,
                })
            }
            State::Dead { by, since } => {
                let over = since + self.rules.remember;
                // One of them is enough, and the others see to it if that one is gone.
                Some(if by == self.me { over } else { over + self.rules.remember / 10 })
            }
        }
    }

    /// When to look at a session that may be over: what is decided by others, now and then.
    fn schedule(&mut self, id: SessionId, now: Now) {
        let Some(over) = self.over(id, now) else { return self.put_off(id, Time::NEVER) };
        let Some(kept) = self.kept.get(&id) else { return };
        let at = match kept.state {
            // Its owner may be gone by then.
            State::Live { lifetime: Lifetime::Idle(ms), owner } if owner != self.me => {
                let idle = Duration::from_millis(ms);
                let first = kept.used + idle + self.rules.lag(idle);
                if first > now.time { first.min(over) } else { over.min(now.time + self.rules.lag(idle)) }
            }
            State::Live { lifetime: Lifetime::Until(_), owner } if owner != self.me => {
                over.min(now.time + self.rules.max_lag).max(now.time)
            }
            _ => over,
        };
        self.put_off(id, at.max(now.time + Duration::from_millis(1)));
    }

    fn put_off(&mut self, id: SessionId, until: Time) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        // Looked at in time anyway, and then again.
        if kept.due <= until && kept.due != Time::NEVER && until != Time::NEVER {
            return;
        }
        if kept.due != Time::NEVER {
            self.due.remove(&(kept.due, id));
        }
        kept.due = until;
        if until != Time::NEVER {
            self.due.insert((until, id));
        }
    }
}

//! Link sessions between our own nodes, without I/O: how many data frames of a sequence were taken, what came of those that
//! wait for an answer, and which connection continues the sequence.
//!
//! One connection at a time owns a session. The next one waits until the owner has ended, because only then is it known
//! what was taken: this is what makes a resume exactly-once and in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::wire::HandledCode;
use tribes_core::{Handled, Member, Time};

use crate::MAX_SYNCHRONIZED;

/// Results remembered for a session, for a connection that broke before they arrived. Those that the sender still waits for are among
/// them, as it does not have more under way: of an older one it has been told, or it would not have been told of any later one.
const MAX_RESULTS: usize = MAX_SYNCHRONIZED;
/// Bytes of failure texts remembered for a session; of the oldest failures beyond only that they are some.
const MAX_TEXTS: usize = 64 << 10;

/// What one sequence of data frames has come to.
#[derive(Debug, Default)]
pub(super) struct SessionCore {
    taken: u64,
    results: VecDeque<(u64, HandledCode)>,
    texts: usize,
    /// So many of the first results have no text any more.
    bare: usize,
}

impl SessionCore {
    /// So many frames have been taken now.
    pub(super) const fn set_taken(&mut self, taken: u64) {
        self.taken = taken;
    }

    /// How many frames were taken.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Remembers what came of frame `seq`.
    pub(super) fn handled(&mut self, seq: u64, result: HandledCode) {
        self.texts += text_len(&result);
        self.results.push_back((seq, result));
        if self.results.len() > MAX_RESULTS
            && let Some((_, oldest)) = self.results.pop_front()
        {
            self.texts -= text_len(&oldest);
            self.bare = self.bare.saturating_sub(1);
        }
        while self.texts > MAX_TEXTS
            && let Some((_, oldest)) = self.results.get_mut(self.bare)
        {
            self.texts -= text_len(oldest);
            self.bare += 1;
            if let HandledCode::Failed(text) = oldest {
                *text = String::new();
            }
        }
    }

    /// All that is remembered, oldest first. The sender knows for which of them it waits.
    pub(super) fn results(&self) -> impl Iterator<Item = &(u64, HandledCode)> {
        self.results.iter()
    }
}

const fn text_len(result: &HandledCode) -> usize {
    match result {
        HandledCode::Failed(text) => text.len(),
        _ => 0,
    }
}

/// A result as it goes on the wire.
pub(super) fn code_of(handled: Handled) -> HandledCode {
    match handled {
        Handled::Accepted => HandledCode::Ok,
        Handled::NoTaker => HandledCode::NoTaker,
        Handled::Failed(text) => HandledCode::Failed(text),
        // A result of a later version of the core that is not one of failure.
        _ => HandledCode::Ok,
    }
}

/// What names a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey {
    /// The sending member.
    pub(super) member: Arc<Member>,
    /// The number it chose.
    pub(super) session: u64,
}

/// All sessions. `S` is the session itself, `W` tells a connection that waits for one.
#[derive(Debug)]
pub(super) struct SessionTable<S, W> {
    entries: BTreeMap<SessionKey, Entry<S, W>>,
    /// Those without a connection, oldest first.
    orphans: BTreeSet<(Time, SessionKey)>,
    keep: Duration,
    max_orphans: usize,
}

#[derive(Debug)]
struct Entry<S, W> {
    session: S,
    /// The connection that owns it, by number.
    owner: Option<u64>,
    waiter: Option<(u64, W)>,
    orphaned_at: Time,
}

/// What became of a connection's claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim<S, W> {
    /// The session is the connection's.
    Granted {
        session: S,
        /// Whether it was known before.
        known: bool,
    },
    /// Close connection `owner`; the claim is granted when it is released.
    Wait {
        owner: u64,
        /// The claim of an older connection that waited; it is void.
        superseded: Option<W>,
    },
}

impl<S: Clone, W> SessionTable<S, W> {
    pub(super) const fn new(keep: Duration, max_orphans: usize) -> Self {
        Self { entries: BTreeMap::new(), orphans: BTreeSet::new(), keep, max_orphans }
    }

    /// Connection `connection` wants the session. `waiter` is kept only if it has to wait.
    pub(super) fn claim(
        &mut self,
        key: &SessionKey,
        connection: u64,
        waiter: W,
        now: Time,
        new: impl FnOnce() -> S,
    ) -> Claim<S, W> {
        self.expire(now);
        if let Some(entry) = self.entries.get_mut(key) {
            if let Some(owner) = entry.owner {
                let superseded = entry.waiter.replace((connection, waiter)).map(|(_, waiter)| waiter);
                return Claim::Wait { owner, superseded };
            }
            entry.owner = Some(connection);
            self.orphans.remove(&(entry.orphaned_at, key.clone()));
            return Claim::Granted { session: entry.session.clone(), known: true };
        }
        let session = new();
        let entry = Entry { session: session.clone(), owner: Some(connection), waiter: None, orphaned_at: now };
        self.entries.insert(key.clone(), entry);
        Claim::Granted { session, known: false }
    }

    /// Connection `connection` gives the session up; the connection that waits for it owns it from now on.
    pub(super) fn release(&mut self, key: &SessionKey, connection: u64, now: Time) -> Option<(u64, W)> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.owner == Some(connection))?;
        let next = entry.waiter.take();
        entry.owner = next.as_ref().map(|(connection, _)| *connection);
        if next.is_none() {
            entry.orphaned_at = now;
            self.orphans.insert((now, key.clone()));
            while self.orphans.len() > self.max_orphans {
                self.forget_oldest();
            }
        }
        next
    }

    /// Forgets sessions that have had no connection for too long.
    pub(super) fn expire(&mut self, now: Time) {
        while self.orphans.first().is_some_and(|(since, _)| *since + self.keep <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.orphans.pop_first() {
            self.entries.remove(&key);
        }
    }

    /// Forgets the sessions that have no connection.
    pub(super) fn forget_orphans(&mut self) {
        while !self.orphans.is_empty() {
            self.forget_oldest();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use tribes_core::MemberId;

    use super::*;

    fn key(session: u64) -> SessionKey {
        let member = Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 4000).into()));
        SessionKey { member, session }
    }

    fn at(secs: u64) -> Time {
        Time::from_millis(secs * 1000)
    }

    fn table(max: usize) -> SessionTable<u64, &'static str> {
        SessionTable::new(Duration::from_secs(60), max)
    }

    #[test]
    fn a_session_is_new_once() {
        let mut table = table(10);
        let granted = table.claim(&key(1), 1, "one", at(0), || 7);
        assert_eq!(granted, Claim::Granted { session: 7, known: false });
        assert_eq!(table.release(&key(1), 1, at(0)), None);
        let granted = table.claim(&key(1), 2, "two", at(59), || 8);
        assert_eq!(granted, Claim::Granted { session: 7, known: true });
        // Not forgotten while it has a connection.
        table.expire(at(1000));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_takeover_waits_and_the_newest_claim_wins() {
        let mut table = table(10);
        table.claim(&key(1), 1, "one", at(0), || 7);
        assert_eq!(table.claim(&key(1), 2, "two", at(0), || 8), Claim::Wait { owner: 1, superseded: None });
        assert_eq!(table.claim(&key(1), 3, "three", at(0), || 8), Claim::Wait { owner: 1, superseded: Some("two") });
        // A connection that owns nothing releases nothing.
        assert_eq!(table.release(&key(1), 2, at(0)), None);
        assert_eq!(table.release(&key(1), 1, at(0)), Some((3, "three")));
        assert_eq!(table.release(&key(1), 1, at(0)), None);
        assert_eq!(table.release(&key(1), 3, at(0)), None);
        assert_eq!(table.claim(&key(1), 4, "four", at(0), || 8), Claim::Granted { session: 7, known: true });
    }

    #[test]
    fn orphans_are_forgotten_by_age_and_by_number() {
        let mut table = table(2);
        for session in 0..3 {
            table.claim(&key(session), session, "", at(session), || session);
        }
        for session in 0..3 {
            table.release(&key(session), session, at(session));
        }
        assert_eq!(table.len(), 2);
        assert_eq!(table.claim(&key(0), 9, "", at(3), || 90), Claim::Granted { session: 90, known: false });
        table.expire(at(61));
        assert_eq!(table.len(), 2); // Session 0, which is owned, and session 2.
        table.expire(at(62));
        assert_eq!(table.len(), 1);
        table.forget_orphans();
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn results_are_bounded() {
        let mut core = SessionCore::default();
        for seq in 0..5000 {
            core.set_taken(seq + 1);
            core.handled(seq, HandledCode::Ok);
        }
        assert_eq!((core.taken(), core.results().count()), (5000, MAX_RESULTS));
        assert_eq!(core.results().next(), Some(&(904, HandledCode::Ok)));
        for seq in 0..1000 {
            core.handled(seq, HandledCode::Failed("x".repeat(500)));
        }
        assert!(core.results().map(|(_, result)| text_len(result)).sum::<usize>() <= MAX_TEXTS);
        assert_eq!(core.results().last().map(|(seq, _)| *seq), Some(999));
        // None is forgotten for its text.
        assert_eq!(core.results().filter(|(_, result)| matches!(result, HandledCode::Failed(_))).count(), 1000);
        for seq in 1000..1000 + MAX_RESULTS as u64 {
            core.handled(seq, HandledCode::Ok);
        }
        assert_eq!((core.texts, core.bare, core.results().count()), (0, 0, MAX_RESULTS));
    }
}

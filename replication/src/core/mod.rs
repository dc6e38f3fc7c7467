//! A replica without I/O: what happens and the time go in, messages and events come out.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | what is kept, and the ways in |
//! | `peers` | who else has the map, what they have seen of this replica's writes |
//! | `writes` | writes of this replica and of others |
//! | `ops` | who has a write that somebody waits for |
//! | `rounds` | comparing with a peer, as the one that asks |
//! | `answers` | as the one that answers; nothing is kept for it |
//! | `join` | until this replica has what the group has |
//! | `disk` | what is to be saved, and what was |
//!
//! Everything that was missed, for whatever reason, comes by a *round*: the asker gets the digests of a peer, then those
//! buckets that differ. At its end the asker holds what the peer held at its beginning, or knows better; then what the peer had
//! seen at its beginning counts as seen here.

mod answers;
#[cfg(feature = "persist")]
mod disk;
mod join;
mod ops;
mod peers;
mod rounds;
#[cfg(test)]
pub(crate) mod tests;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

#[cfg(feature = "persist")]
pub(crate) use self::disk::{Batch, Saved};
pub(crate) use self::ops::{CopyState, Need, OpReport};
use self::peers::{Peer, Stranger};
use self::rounds::{Round, Wish};
pub(crate) use self::writes::{Refused, Wanted, Written};
use crate::clock::Clock;
use crate::context::Context;
use crate::message::{Envelope, Message, Write};
use crate::store::{Keeping, Store};
use crate::version::Incarnation;

/// When something happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) time: Time,
    pub(crate) wall_ms: u64,
}

/// The times and sizes that a replica goes by.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    /// How often it compares with some peer.
    pub(crate) compare_every: Duration,
    /// How long a peer may take to answer before it is asked again; after the third time it is given up.
    pub(crate) patience: Duration,
    /// How long others may take to have a write before they are told of it again.
    pub(crate) reminder: Duration,
    /// How long at most an opening replica waits for members to say whether they have the map; and how long for any member to
    /// appear.
    pub(crate) greeting: Duration,
    pub(crate) company: Duration,
    /// How long removals are remembered at least, and at most. In between they are as long as somebody is away who may not
    /// have heard of them.
    pub(crate) removals: (Duration, Duration),
    /// Bytes of a message, about.
    pub(crate) chunk: usize,
    /// Buckets of one peer that may be on their way.
    pub(crate) credit: usize,
    /// Peers compared with at the same time.
    pub(crate) rounds: usize,
    /// Peers that an opening replica gets the state from, at the same time.
    pub(crate) donors: usize,
    pub(crate) max_value: usize,
    pub(crate) max_bytes: usize,
    /// Members that the group has when nobody is missing; for majorities.
    pub(crate) group_size: Option<usize>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            compare_every: Duration::from_secs(10),
            patience: Duration::from_secs(1),
            reminder: Duration::from_millis(300),
            greeting: Duration::from_secs(10),
            company: Duration::from_secs(1),
            removals: (Duration::from_secs(600), Duration::from_secs(86_400)),
            chunk: 64 << 10,
            credit: 32,
            rounds: 2,
            donors: 3,
            max_value: 4 << 20,
            max_bytes: 1 << 30,
            group_size: None,
        }
    }
}

/// What to do, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Send; nobody waits for it, and [`Core::queued`] and [`Core::unsent`] are to be told what became of it.
    Send { to: Vec<Arc<Member>>, envelope: Envelope },
    /// A key changed.
    Changed { key: Box<[u8]>, change: crate::store::Changed, by: Author },
    /// The operation of the write with this counter has its outcome.
    Done { op: u64, report: OpReport },
    /// The replica has what the group had when it was opened.
    Ready,
}

/// Who changed a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Here,
    Peer,
}

/// See the [module](self).
pub(crate) struct Core {
    me: Incarnation,
    tuning: Tuning,
    pub(crate) store: Store,
    clock: Clock,
    /// How many writes this replica made.
    written: u64,
    peers: BTreeMap<Arc<Member>, Peer>,
    /// Members that have not said yet whether they have the map.
    strangers: BTreeMap<Arc<Member>, Stranger>,
    /// The addresses of replicas that vanished without a good-bye, and until when removals are remembered for them: they may
    /// come back with what they held.
    away: BTreeMap<SocketAddr, Time>,
    ops: ops::Ops,
    rounds: BTreeMap<u64, Round>,
    next_round: u64,
    wishes: BTreeMap<Arc<Member>, Wish>,
    join: join::Join,
    next_compare: Time,
    /// Whose turn it is to be compared with.
    compared_last: Option<Arc<Member>>,
    /// Writes that no message carries yet.
    unsent: Vec<Write>,
    unsent_bytes: usize,
    unsent_ack: bool,
    actions: VecDeque<Action>,
    diffs: Arc<dyn Diffs>,
    /// What is saved, if only that is acknowledged.
    saved: Option<Context>,
    pub(crate) counts: Counts,
}

/// Makes a value of an earlier one and what changed.
pub(crate) trait Diffs: Send + Sync {
    /// `None` if they do not go together.
    fn apply(&self, base: &Arc<[u8]>, diff: &[u8]) -> Option<Arc<[u8]>>;
}

/// For values that only travel whole.
pub(crate) struct NoDiffs;

impl Diffs for NoDiffs {
    fn apply(&self, _: &Arc<[u8]>, _: &[u8]) -> Option<Arc<[u8]>> {
        None
    }
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) written: u64,
    pub(crate) received: u64,
    pub(crate) duplicates: u64,
    /// Writes that met one of which their author did not know.
    pub(crate) conflicts: u64,
    /// Keys that a round put right.
    pub(crate) repaired: u64,
    pub(crate) rounds: u64,
    pub(crate) rounds_failed: u64,
    pub(crate) divergent_buckets: u64,
    /// Writes refused: of a clock far ahead, or beyond the bounds.
    pub(crate) refused: u64,
    pub(crate) diffs_sent: u64,
    pub(crate) diffs_without_base: u64,
    /// Messages of strangers, for predecessors, or out of place.
    pub(crate) ignored: u64,
    pub(crate) saves_failed: u64,
}

impl Core {
    pub(crate) fn new(me: Incarnation, keeping: Keeping, tuning: Tuning, diffs: Arc<dyn Diffs>, now: Now) -> Self {
        Self {
            me,
            store: Store::new(keeping),
            clock: Clock::default(),
            written: 0,
            peers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            away: BTreeMap::new(),
            ops: ops::Ops::default(),
            rounds: BTreeMap::new(),
            next_round: 1,
            wishes: BTreeMap::new(),
            join: join::Join::new(now.time + tuning.company.min(tuning.greeting), now.time + tuning.greeting),
            next_compare: now.time + tuning.compare_every,
            compared_last: None,
            unsent: Vec::new(),
            unsent_bytes: 0,
            unsent_ack: false,
            actions: VecDeque::new(),
            diffs,
            saved: None,
            counts: Counts::default(),
            tuning,
        }
    }

    pub(crate) const fn me(&self) -> Incarnation {
        self.me
    }

    /// Bytes of a message, about.
    pub(crate) const fn chunk_size(&self) -> usize {
        self.tuning.chunk
    }

    /// A message of `from` came.
    pub(crate) fn received(&mut self, from: &Arc<Member>, envelope: Envelope, now: Now) {
        let Envelope { from: incarnation, to, message } = envelope;
        if incarnation == self.me || to.is_some_and(|to| to != self.me) {
            self.counts.ignored += 1;
            // Meant for a predecessor: whoever sent it does not know this replica yet.
            if incarnation != self.me {
                self.greet(from, true, now);
            }
            return;
        }
        if let Message::Hello(hello) = message {
            return self.hello(from, incarnation, &hello, now);
        }
        let Some(peer) = self.peers.get_mut(from).filter(|peer| peer.incarnation == incarnation) else {
            self.counts.ignored += 1;
            self.greet(from, true, now);
            return;
        };
        match message {
            Message::Hello(_) => {}
            Message::Bye => self.lost(from, now),
            Message::Write { writes, ack } => self.writes_came(from, writes, ack, now),
            Message::Ack { seen } => {
                let known = peer.has.upto;
                peer.has(&seen, now.time);
                self.acknowledged(from, known, &seen);
            }
            Message::Offer { written, compare } => self.offered(from, written, compare, now),
            Message::Ask { round, level } => self.asked(from, round, level),
            Message::Digests { round, level, seen, digests } => {
                self.digests_came(from, round, level, seen, &digests, now)
            }
            Message::Pull { round, bucket, after, have } => self.pulled(from, round, bucket, after, &have, now),
            Message::Chunk { round, bucket, after, seen, chunk } => {
                self.chunk_came(from, round, bucket, after.as_deref(), &seen, chunk, now);
            }
        }
    }

    /// The channel says that a member is there.
    pub(crate) fn member_added(&mut self, member: &Arc<Member>, now: Now) {
        if member.id().is_ours() && !self.peers.contains_key(member) {
            self.strangers.insert(Arc::clone(member), Stranger::new(now.time, self.tuning.greeting));
            self.greet(member, true, now);
        }
    }

    /// The channel says that a member is gone, on purpose or not.
    pub(crate) fn member_removed(&mut self, member: &Arc<Member>, on_purpose: bool, now: Now) {
        self.strangers.remove(member);
        if let Some(addr) = member.addr().filter(|_| !on_purpose && self.peers.contains_key(member)) {
            self.away.remove(&addr);
            self.is_away(addr, now.time + self.tuning.removals.1);
            self.compare_with_some(member, now);
        }
        self.lost(member, now);
        self.go_on_joining(now);
    }

    /// This replica is closed: the others are told.
    pub(crate) fn close(&mut self, now: Now) {
        self.flush();
        let peers: Vec<_> = self.peers.keys().cloned().collect();
        self.send_all(peers, None, Message::Bye);
        self.ops.end(&mut self.actions, now.time);
        // Nobody is told anything any more.
        self.peers.clear();
        self.strangers.clear();
        self.rounds.clear();
        self.wishes.clear();
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now) {
        self.greet_strangers(now);
        self.remind(now);
        self.expire_ops(now);
        self.expire_rounds(now);
        self.go_on_joining(now);
        if now.time >= self.next_compare {
            self.next_compare = now.time + self.tuning.compare_every;
            self.compare_with_next(now);
        }
        self.grant_wishes(now);
        self.forget_removals(now);
    }

    /// When [`tick`](Self::tick) has something to do, at the latest.
    pub(crate) fn next_wake(&self) -> Time {
        let strangers = self.strangers.values().map(Stranger::due);
        let peers = self.peers.values().map(|peer| peer.due(self.written));
        let rounds = self.rounds.values().map(Round::due);
        let wishes = self.wishes.values().map(Wish::due);
        let own = [self.next_compare, self.join.due(), self.ops.due()];
        strangers.chain(peers).chain(rounds).chain(wishes).chain(own).min().unwrap_or(Time::NEVER)
    }

    /// What is to be done; asked for until it is empty. Writes of this replica that no message carries yet are put into one, or `gather`
    /// more of their kind: until it is asked for without.
    pub(crate) fn actions(&mut self, gather: bool) -> VecDeque<Action> {
        if !gather {
            self.flush();
        }
        std::mem::take(&mut self.actions)
    }

    /// Whether there are writes that no message carries yet.
    pub(crate) const fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn send(&mut self, to: &Arc<Member>, message: Message) {
        let incarnation = self.peers.get(to).map(|peer| peer.incarnation);
        self.send_all(vec![Arc::clone(to)], incarnation, message);
    }

    fn send_all(&mut self, to: Vec<Arc<Member>>, incarnation: Option<Incarnation>, message: Message) {
        if !to.is_empty() {
            let envelope = Envelope { from: self.me, to: incarnation, message };
            self.actions.push_back(Action::Send { to, envelope });
        }
    }

    fn changed(&mut self, key: Box<[u8]>, change: crate::store::Changed, by: Author) {
        self.actions.push_back(Action::Changed { key, change, by });
    }

    /// Forgets removals that every peer has heard of, once nobody is away who has not.
    fn forget_removals(&mut self, now: Now) {
        let (least, most) = self.tuning.removals;
        self.away.retain(|_, until| now.time < *until);
        if self.store.oldest_removal().is_none_or(|oldest| now.time - oldest < least) {
            return;
        }
        let somebody_missing = !self.away.is_empty()
            || self.tuning.group_size.is_some_and(|size| self.peers.len() + 1 < size)
            || self.peers.values().any(|peer| self.store.seen.has_gap(peer.incarnation));
        let confirmed = if somebody_missing {
            Time::ZERO
        } else {
            self.peers.values().map(|peer| peer.compared_at).min().unwrap_or(now.time)
        };
        let before = ago(now.time, least).min(confirmed).max(ago(now.time, most));
        self.store.forget_removals(before, now.time);
    }
}

fn ago(now: Time, duration: Duration) -> Time {
    Time::from_nanos(now.as_nanos().saturating_sub(duration.as_nanos().try_into().unwrap_or(u64::MAX)))
}

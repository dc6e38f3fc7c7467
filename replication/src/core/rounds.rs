//! Comparing with a peer: whoever asks gets what it lacks.
//!
//! ```text
//! asker                               peer
//!   Ask(all)            →
//!                       ←  Digests(64 groups, what it has seen)
//!   Ask(group)          →                                        for each group that differs
//!                       ←  Digests(64 buckets)
//!   Pull(bucket, have)  →                                        for each bucket that differs, a few at a time
//!                       ←  Chunk(what differs, what it has seen)
//! ```
//! Each question is asked again when it is not answered, and the answers are facts of their own: lost, doubled or late ones
//! do no harm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::peers::LONGEST;
use super::{Author, Core, Now};
use crate::context::Context;
use crate::message::{Level, Message};
use crate::store::{BUCKETS_PER_GROUP, Chunk, GROUPS, Have};
use crate::version::Incarnation;

/// How often a question is asked.
const TRIES: u32 = 3;
/// Rounds with one peer begin at least this far apart: a lossy network makes many reasons for one.
const SPACING: Duration = Duration::from_millis(50);

/// A round under way.
#[derive(Debug)]
pub(super) struct Round {
    peer: Arc<Member>,
    began: Time,
    /// Whether this replica is joining by it.
    joining: bool,
    /// The groups that matter, a bit each.
    groups: u64,
    /// What the peer had seen when it sent its first digests.
    seen: Option<Context>,
    asked: BTreeMap<Question, Asked>,
    todo: VecDeque<Question>,
    /// The peer holds what this replica knows to be gone, or lacks what it has.
    peer_is_behind: bool,
    /// What the peer has seen and holds no more. Dropped at the end, when what it has seen counts as seen here: before that, an
    /// earlier write, which the one to be dropped outdoes, would be news.
    gone: Vec<Have>,
    /// Those of whose writes some were refused: nothing of what the peer has seen of them counts as seen.
    refused: BTreeSet<Incarnation>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Digests(Level),
    Bucket(u16, Option<Box<[u8]>>),
}

#[derive(Debug)]
struct Asked {
    again_at: Time,
    tries: u32,
}

/// A round to be begun.
#[derive(Debug)]
pub(super) struct Wish {
    /// The oldest is granted first.
    since: Time,
    not_before: Time,
    /// Not only if something is still missing by then.
    always: bool,
    /// The peer says that it has written so much.
    written: u64,
}

impl Round {
    pub(super) fn due(&self) -> Time {
        self.asked.values().map(|asked| asked.again_at).min().unwrap_or(Time::NEVER)
    }
}

impl Wish {
    pub(super) const fn due(&self) -> Time {
        self.not_before
    }
}

impl Core {
    /// This replica wants to compare with `peer`.
    pub(super) fn wish(&mut self, peer: &Arc<Member>, not_before: Time, always: bool) {
        let new = Wish { since: not_before, not_before, always, written: 0 };
        let wish = self.wishes.entry(Arc::clone(peer)).or_insert(new);
        wish.since = wish.since.min(not_before);
        wish.not_before = wish.not_before.min(not_before);
        wish.always |= always;
    }

    /// This replica wants to compare with `peer` if it has not seen `written` of its writes soon: they may only be late.
    pub(super) fn wish_unless_seen(&mut self, peer: &Arc<Member>, written: u64, now: Now) {
        self.wish(peer, now.time + SPACING, false);
        if let Some(wish) = self.wishes.get_mut(peer) {
            wish.written = wish.written.max(written);
        }
    }

    /// The peer whose turn it is.
    pub(super) fn compare_with_next(&mut self, now: Now) {
        let after = |last: &Arc<Member>| self.peers.keys().find(|member| *member > last);
        let next = self.compared_last.as_ref().and_then(after).or_else(|| self.peers.keys().next()).cloned();
        if let Some(peer) = &next {
            self.wish(peer, now.time, true);
        }
        self.compared_last = next;
    }

    /// `gone` has vanished: its last writes may be with some of the others only. Each compares with the next three; so they
    /// come round without everybody asking everybody.
    pub(super) fn compare_with_some(&mut self, gone: &Arc<Member>, now: Now) {
        let others = || self.peers.keys().filter(|member| *member != gone);
        let after = others().filter(|member| self.compared_last.as_ref().is_none_or(|last| *member > last));
        let mut next: Vec<_> = after.chain(others()).take(3).cloned().collect();
        next.dedup();
        next.iter().for_each(|member| self.wish(member, now.time, true));
    }

    /// Begins the rounds that are due, a few at a time.
    pub(super) fn grant_wishes(&mut self, now: Now) {
        if !self.join.is_ready() {
            // What is missing comes with joining.
            let soon = now.time + self.tuning.patience;
            self.wishes.values_mut().for_each(|wish| wish.not_before = wish.not_before.max(soon));
            return;
        }
        let due = self.wishes.iter().filter(|(_, wish)| wish.not_before <= now.time);
        let mut due: Vec<_> = due.map(|(peer, wish)| (wish.since, Arc::clone(peer))).collect();
        due.sort();
        for (_, peer) in due {
            if self.rounds.len() >= self.tuning.rounds {
                self.put_off(&peer, now.time + SPACING);
                continue;
            }
            let running = self.rounds.values().any(|round| round.peer == peer);
            let Some(state) = self.peers.get(&peer) else {
                self.wishes.remove(&peer);
                continue;
            };
            if running || now.time < state.compared_at + SPACING {
                self.put_off(&peer, now.time + SPACING);
                continue;
            }
            if now.time < state.rests_until {
                let until = state.rests_until;
                self.put_off(&peer, until);
                continue;
            }
            let incarnation = state.incarnation;
            let Some(wish) = self.wishes.remove(&peer) else { continue };
            let seen = self.store.seen.of(incarnation).map_or(0, |seen| seen.upto);
            if wish.always || self.store.seen.has_gap(incarnation) || seen < wish.written {
                self.begin_round(&peer, u64::MAX, false, now);
            }
        }
    }

    fn put_off(&mut self, peer: &Arc<Member>, until: Time) {
        if let Some(wish) = self.wishes.get_mut(peer) {
            wish.not_before = until;
        }
    }

    pub(super) fn begin_round(&mut self, peer: &Arc<Member>, groups: u64, joining: bool, now: Now) -> u64 {
        let id = self.next_round;
        self.next_round += 1;
        self.counts.rounds += 1;
        let round = Round {
            peer: Arc::clone(peer),
            began: now.time,
            joining,
            groups,
            seen: None,
            asked: BTreeMap::new(),
            todo: [Question::Digests(None)].into(),
            peer_is_behind: false,
            gone: Vec::new(),
            // Of its own writes a replica knows all, whatever others say.
            refused: [self.me].into(),
        };
        self.rounds.insert(id, round);
        self.ask_on(id, now);
        id
    }

    /// Asks as much as may be open at the same time; with nothing left to ask the round is over.
    fn ask_on(&mut self, id: u64, now: Now) {
        let (credit, again_at) = (self.tuning.credit.max(1), now.time + self.tuning.patience);
        let mut questions = Vec::new();
        let Some(round) = self.rounds.get_mut(&id) else { return };
        while round.asked.len() < credit
            && let Some(question) = round.todo.pop_front()
        {
            round.asked.insert(question.clone(), Asked { again_at, tries: 1 });
            questions.push(question);
        }
        let (peer, over) = (Arc::clone(&round.peer), round.asked.is_empty());
        for question in questions {
            self.ask(id, &peer, question);
        }
        if over {
            self.end_round(id, now);
        }
    }

    fn ask(&mut self, round: u64, peer: &Arc<Member>, question: Question) {
        let message = match question {
            Question::Digests(level) => Message::Ask { round, level },
            Question::Bucket(bucket, after) => Message::Pull { round, bucket, after, have: self.store.listing(bucket) },
        };
        self.send(peer, message);
    }

    pub(super) fn digests_came(
        &mut self,
        from: &Arc<Member>,
        id: u64,
        level: Level,
        seen: Context,
        digests: &[u64],
        now: Now,
    ) {
        let Some(round) = self.rounds.get_mut(&id).filter(|round| round.peer == *from) else { return };
        if digests.len() != if level.is_none() { GROUPS } else { BUCKETS_PER_GROUP }
            || round.asked.remove(&Question::Digests(level)).is_none()
        {
            return;
        }
        if let Some(group) = level {
            let ours = self.store.group(group);
            let differ = ours.iter().zip(digests).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
            let first = usize::from(group) * BUCKETS_PER_GROUP;
            let buckets: Vec<u16> = differ.filter_map(|(at, _)| u16::try_from(first + at).ok()).collect();
            self.counts.divergent_buckets += buckets.len() as u64;
            round.todo.extend(buckets.into_iter().map(|bucket| Question::Bucket(bucket, None)));
        } else {
            round.seen = Some(seen);
            let differ =
                self.store.groups().iter().zip(digests).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
            let groups = differ.filter_map(|(at, _)| u16::try_from(at).ok()).filter(|at| round.groups >> at & 1 == 1);
            round.todo.extend(groups.map(|group| Question::Digests(Some(group))));
        }
        self.ask_on(id, now);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the message")]
    pub(super) fn chunk_came(
        &mut self,
        from: &Arc<Member>,
        id: u64,
        bucket: u16,
        after: Option<&[u8]>,
        seen: &Context,
        mut chunk: Chunk,
        now: Now,
    ) {
        let Some(round) = self.rounds.get_mut(&id).filter(|round| round.peer == *from) else { return };
        if round.asked.remove(&Question::Bucket(bucket, after.map(Box::from))).is_none() {
            return;
        }
        round.peer_is_behind |= chunk.behind;
        if let Some(next) = chunk.next.take() {
            round.todo.push_front(Question::Bucket(bucket, Some(next)));
        }
        round.gone.append(&mut chunk.gone);
        let joining = round.joining;
        let mut refused = BTreeSet::new();
        let (mut bytes, mut beyond) = (self.store.census().bytes, 0);
        chunk.entries.retain(|(key, siblings)| {
            let believed = siblings.iter().all(|sibling| self.clock.observe(sibling.version.time, now.wall_ms));
            let fits = self.store.fits(key, siblings, &mut bytes, self.tuning.max_value, self.tuning.max_bytes);
            if !believed || !fits {
                refused.extend(siblings.iter().map(|sibling| sibling.version.dot.node));
                self.counts.refused += 1;
                beyond += usize::from(!fits);
            }
            believed && fits
        });
        if beyond > 0 {
            tracing::warn!(member = %from, beyond, "entries of it are beyond this map's bounds and refused: they must be the same everywhere");
        }
        let known = chunk.entries.iter().flat_map(|(_, siblings)| siblings);
        let stale = known.clone().any(|sibling| self.store.seen.contains(sibling.version.dot));
        let changed = self.store.take(chunk.entries, seen, now.time);
        if let Some(round) = self.rounds.get_mut(&id) {
            round.peer_is_behind |= stale;
            round.refused.append(&mut refused);
        }
        if !joining {
            self.counts.repaired += changed.len() as u64;
        }
        for (key, change) in changed {
            self.changed(key, change, Author::Peer);
        }
        self.ask_on(id, now);
    }

    fn end_round(&mut self, id: u64, now: Now) {
        let Some(round) = self.rounds.remove(&id) else { return };
        let Some(mut seen) = round.seen else { return };
        seen.forget(&round.refused);
        if let Some(peer) = self.peers.get_mut(&round.peer) {
            peer.compared_at = round.began;
            peer.rest = Duration::ZERO;
        }
        if round.joining {
            return self.got_groups(id, &seen, round.gone, now);
        }
        self.store.seen.join(&seen);
        self.drop_gone(round.gone, now);
        self.peers.values_mut().for_each(|peer| peer.ack_at = now.time);
        self.acknowledge(now);
        if round.peer_is_behind {
            self.send(&round.peer, Message::Offer { written: self.written, compare: true });
        }
    }

    /// Drops what others have seen and hold no more.
    pub(super) fn drop_gone(&mut self, gone: Vec<Have>, now: Now) {
        for have in gone {
            if let Some((key, change)) = self.store.gone(have.key_hash, &have.dots, now.time) {
                self.counts.repaired += 1;
                self.changed(key, change, Author::Peer);
            }
        }
    }

    /// Asks again what was not answered, and gives up who does not answer at all.
    pub(super) fn expire_rounds(&mut self, now: Now) {
        let again_at = now.time + self.tuning.patience;
        let (mut failed, mut again) = (Vec::new(), Vec::new());
        for (id, round) in &mut self.rounds {
            for (question, asked) in round.asked.iter_mut().filter(|(_, asked)| asked.again_at <= now.time) {
                if asked.tries >= TRIES {
                    failed.push(*id);
                    break;
                }
                asked.tries += 1;
                asked.again_at = again_at;
                again.push((*id, Arc::clone(&round.peer), question.clone()));
            }
        }
        for id in failed {
            again.retain(|(round, ..)| *round != id);
            self.round_failed(id, now);
        }
        for (id, peer, question) in again {
            self.ask(id, &peer, question);
        }
    }

    fn round_failed(&mut self, id: u64, now: Now) {
        let Some(round) = self.rounds.remove(&id) else { return };
        self.counts.rounds_failed += 1;
        if round.joining {
            self.donor_failed(id, &round.peer, now);
        } else if let Some(peer) = self.peers.get_mut(&round.peer) {
            // Who does not answer holds up those who do: longer each time until it is tried again.
            peer.rest = (peer.rest * 2).clamp(self.tuning.patience, LONGEST.max(self.tuning.patience));
            peer.rests_until = now.time + peer.rest;
            let again_at = peer.rests_until;
            // It may have closed its map without being heard: then the channel says so.
            self.greet(&round.peer, true, now);
            self.wish(&round.peer, again_at, true);
        }
    }

    /// `peer` is gone.
    pub(super) fn end_rounds_with(&mut self, peer: &Arc<Member>, now: Now) {
        let ids: Vec<u64> = self.rounds.iter().filter(|(_, round)| round.peer == *peer).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.round_failed(id, now));
    }
}

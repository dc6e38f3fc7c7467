//! Who else has the map.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::{Core, Now};
use crate::context::Seen;
use crate::message::{Hello, Message};
use crate::version::Incarnation;

/// How long an acknowledgement that nobody asked for may wait for others.
const LAZY_ACK: Duration = Duration::from_millis(100);
/// So many that are away are remembered.
const MAX_AWAY: usize = 256;
/// The longest pause between reminders, between greetings of a member that does not answer, and between comparisons with one.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// Another replica.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) incarnation: Incarnation,
    /// When it said last that it is here.
    said_at: Time,
    pub(super) ready: bool,
    /// What it has seen of this replica's writes.
    pub(super) has: Seen,
    /// When it is reminded, if it lacks some of them and nothing has come of it since.
    remind_at: Time,
    pause: Duration,
    reminder: Duration,
    /// A message to it had no room: it gets no writes until it has caught up.
    pub(super) behind: bool,
    /// When it is told what was seen of its writes.
    pub(super) ack_at: Time,
    /// When the last round with it began that came to its end.
    pub(super) compared_at: Time,
    /// How long it was let alone after the last round, if that did not come to its end; and until when.
    pub(super) rest: Duration,
    pub(super) rests_until: Time,
}

impl Peer {
    fn new(incarnation: Incarnation, ready: bool, now: Time, reminder: Duration) -> Self {
        Self {
            incarnation,
            said_at: now,
            ready,
            has: Seen::default(),
            remind_at: now + reminder,
            pause: reminder,
            reminder,
            behind: false,
            ack_at: Time::NEVER,
            compared_at: Time::ZERO,
            rest: Duration::ZERO,
            rests_until: Time::ZERO,
        }
    }

    /// It has seen this much.
    pub(super) fn has(&mut self, seen: &Seen, now: Time) {
        if seen.upto > self.has.upto {
            // Progress: patience begins anew.
            self.pause = self.reminder;
            self.remind_at = now + self.pause;
        }
        // A message that was overtaken says less than is known.
        if seen.upto >= self.has.upto {
            self.has = seen.clone();
        }
    }

    /// A write is on its way to it.
    pub(super) fn sent(&mut self, now: Time) {
        if self.remind_at == Time::NEVER {
            self.pause = self.reminder;
            self.remind_at = now + self.pause;
        }
    }

    pub(super) fn ack_lazily(&mut self, now: Time) {
        self.ack_at = self.ack_at.min(now + LAZY_ACK);
    }

    pub(super) fn due(&self, written: u64) -> Time {
        let reminder = if self.has.upto < written { self.remind_at } else { Time::NEVER };
        reminder.min(self.ack_at)
    }
}

/// A member of the channel that may have the map.
#[derive(Debug)]
pub(super) struct Stranger {
    greet_at: Time,
    pause: Duration,
    /// Until then it may still say that it has the map and is ready.
    pub(super) expected_until: Time,
}

impl Stranger {
    pub(super) fn new(now: Time, greeting: Duration) -> Self {
        let pause = Duration::from_millis(250);
        Self { greet_at: now + pause, pause, expected_until: now + greeting }
    }

    pub(super) const fn due(&self) -> Time {
        self.greet_at
    }
}

impl Core {
    /// The other replicas: whether they are ready, and how many of this one's writes they have not said to have.
    pub(crate) fn peer_states(&self) -> Vec<(Arc<Member>, bool, u64)> {
        let lag = |peer: &Peer| self.written.saturating_sub(peer.has.upto);
        self.peers.iter().map(|(member, peer)| (Arc::clone(member), peer.ready, lag(peer))).collect()
    }

    /// Some replica that has what the group had, for those that come to this one too early.
    pub(crate) fn ready_peer(&self) -> Option<Arc<Member>> {
        self.peers.iter().find(|(_, peer)| peer.ready).map(|(member, _)| Arc::clone(member))
    }

    /// `member` has what this replica lacks: it is asked, as soon as it is known.
    pub(crate) fn compare_with(&mut self, member: &Arc<Member>, now: Now) {
        if self.peers.contains_key(member) {
            self.wish(member, now.time, true);
        } else {
            self.member_added(member, now);
        }
    }

    pub(super) fn greet(&mut self, member: &Arc<Member>, reply: bool, now: Now) {
        let hello = self.own_hello(reply, now.time);
        self.send_all(vec![Arc::clone(member)], None, hello);
    }

    pub(super) fn own_hello(&self, reply: bool, now: Time) -> Message {
        Message::Hello(Hello {
            ready: self.join.is_ready(),
            reply,
            written: self.written,
            time: self.clock.latest(),
            keeping: self.store.keeping(),
            away: self.away.iter().map(|(addr, until)| (*addr, *until - now)).collect(),
        })
    }

    /// Somebody at this address may come back with what he held; removals are remembered for him until then.
    pub(super) fn is_away(&mut self, addr: SocketAddr, until: Time) {
        if self.away.len() < MAX_AWAY {
            self.away.entry(addr).or_insert(until);
        }
    }

    /// The member has answered, to what was said to it at `asked_at`, that it has no map of this name: it is not waited for. If it opens
    /// one it says so; and if that crossed the answer, this is old news.
    pub(crate) fn has_no_map(&mut self, member: &Arc<Member>, asked_at: Time, now: Now) {
        if self.peers.get(member).is_some_and(|peer| peer.said_at >= asked_at) {
            // Should it have closed it again, it says so now.
            return self.greet(member, false, now);
        }
        if let Some(stranger) = self.strangers.get_mut(member) {
            stranger.expected_until = now.time;
            self.left(member);
            self.go_on_joining(now);
        } else {
            self.lost(member, now);
        }
    }

    /// Members that may have the map, and have not said so yet.
    pub(super) fn expected(&self, now: Time) -> impl Iterator<Item = &Arc<Member>> {
        self.strangers.iter().filter(move |(_, stranger)| now < stranger.expected_until).map(|(member, _)| member)
    }

    pub(super) fn greet_strangers(&mut self, now: Now) {
        let mut due = Vec::new();
        for (member, stranger) in &mut self.strangers {
            if stranger.greet_at <= now.time {
                stranger.pause = (stranger.pause * 2).min(LONGEST);
                stranger.greet_at = now.time + stranger.pause;
                due.push(Arc::clone(member));
            }
        }
        due.iter().for_each(|member| self.greet(member, true, now));
    }

    pub(super) fn hello(&mut self, from: &Arc<Member>, incarnation: Incarnation, greeting: &Hello, now: Now) {
        if greeting.keeping != self.store.keeping() {
            self.counts.refused += 1;
            tracing::warn!(member = %from, "its map of this name resolves conflicts in another way: nothing is exchanged with it");
            return self.has_no_map(from, Time::NEVER, now);
        }
        if !self.clock.observe(greeting.time, now.wall_ms) {
            self.counts.refused += 1;
            tracing::warn!(member = %from, "its clock is more than an hour ahead: its writes are refused");
        }
        let known = self.peers.get(from).is_some_and(|peer| peer.incarnation == incarnation);
        if !known {
            self.lost(from, now);
            self.strangers.remove(from);
            let peer = Peer::new(incarnation, greeting.ready, now.time, self.tuning.reminder);
            self.peers.insert(Arc::clone(from), peer);
        }
        for (addr, left) in &greeting.away {
            // Whoever is here is not away, whatever others have seen so far. And nobody is for longer because two tell each
            // other: the time that is left is told, too.
            if !left.is_zero() && !self.peers.keys().any(|peer| peer.addr() == Some(*addr)) {
                self.is_away(*addr, now.time + (*left).min(self.tuning.removals.1));
            }
        }
        if let Some(addr) = from.addr() {
            self.away.remove(&addr);
        }
        if let Some(peer) = self.peers.get_mut(from) {
            peer.said_at = now.time;
            peer.ready |= greeting.ready;
            peer.ack_lazily(now.time);
        }
        if greeting.reply {
            self.greet(from, false, now);
        }
        let behind = self.store.seen.of(incarnation).map_or(0, |seen| seen.upto) < greeting.written;
        if !self.join.is_ready() {
            self.go_on_joining(now);
        } else if !known {
            self.wish(from, now.time, true);
        } else if behind {
            self.wish_unless_seen(from, greeting.written, now);
        }
    }

    /// It has written so much.
    pub(super) fn offered(&mut self, from: &Arc<Member>, written: u64, compare: bool, now: Now) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        let all = self.store.seen.of(peer.incarnation).is_some_and(|seen| seen.upto >= written) || written == 0;
        peer.ack_at = now.time;
        if compare {
            // It may be about what is under way: not at once.
            self.wish(from, now.time + self.tuning.patience, true);
        }
        if !all {
            self.wish_unless_seen(from, written, now);
        }
        self.acknowledge(now);
    }

    /// Tells peers what was seen of their writes, as far as it is time.
    pub(super) fn acknowledge(&mut self, now: Now) {
        let mut due = Vec::new();
        for (member, peer) in &mut self.peers {
            if peer.ack_at <= now.time {
                peer.ack_at = Time::NEVER;
                let all = self.saved.as_ref().unwrap_or(&self.store.seen);
                let seen = all.of(peer.incarnation).cloned().unwrap_or_default();
                due.push((Arc::clone(member), seen));
            }
        }
        for (member, seen) in due {
            self.send(&member, Message::Ack { seen });
        }
    }

    /// Tells those who lack writes of this replica for long that there are some.
    pub(super) fn remind(&mut self, now: Now) {
        self.acknowledge(now);
        let written = self.written;
        let mut due = Vec::new();
        for (member, peer) in &mut self.peers {
            if peer.has.upto >= written {
                peer.remind_at = Time::NEVER;
                peer.behind = false;
            } else if peer.remind_at <= now.time {
                peer.pause = (peer.pause * 2).min(LONGEST);
                peer.remind_at = now.time + peer.pause;
                // Its own round brings what it missed; what is new it may have again.
                peer.behind = false;
                due.push(Arc::clone(member));
            }
        }
        for member in due {
            self.send(&member, Message::Offer { written, compare: false });
        }
    }

    /// A message to it had no room.
    pub(crate) fn unsent(&mut self, member: &Arc<Member>, now: Now) {
        let reminder = self.tuning.reminder;
        if let Some(peer) = self.peers.get_mut(member) {
            peer.behind = true;
            peer.remind_at = peer.remind_at.min(now.time + reminder);
        }
    }

    /// There is no such replica any more.
    pub(super) fn lost(&mut self, member: &Arc<Member>, now: Now) {
        if self.peers.remove(member).is_none() {
            return;
        }
        self.wishes.remove(member);
        self.end_rounds_with(member, now);
        self.left(member);
        self.go_on_joining(now);
    }
}

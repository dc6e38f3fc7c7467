//! Messages that lack pieces, without I/O: what is kept, for how long, and when a message is complete.
//!
//! Pieces belong together by sender and message id. What is kept is bounded in bytes, for all and for each sender, and in
//! time. A message that has ended, by being complete or by being given up, is remembered for a while, so that a piece that
//! comes late or again does not begin it anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{Body, Member, MessageId, Time};

use super::piece::Place;

/// What a message costs beside its pieces, and a piece beside its bytes: no less than the memory for their place here.
pub(super) const MESSAGE_COST: usize = 1024;
pub(super) const PIECE_COST: usize = 64;
/// So many messages that have ended are remembered, the latest of all senders.
pub(super) const REMEMBERED: usize = 4096;

/// What may be kept, in bytes, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The longest message.
    pub(super) message: usize,
    /// All pieces. A quarter is for one sender.
    pub(super) memory: usize,
    /// From the last piece of a message that came.
    pub(super) expire: Duration,
}

impl Bounds {
    /// What a message of `bytes` in `pieces` takes when it is complete; `None` if that is more than is allowed.
    pub(super) fn cost(&self, bytes: usize, pieces: u32) -> Option<usize> {
        let pieces = usize::try_from(pieces).ok()?.checked_mul(PIECE_COST)?;
        let cost = bytes.checked_add(pieces)?.checked_add(MESSAGE_COST)?;
        (bytes <= self.message && cost <= self.memory).then_some(cost)
    }
}

/// Why a piece was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedPiece {
    /// It states another count of pieces than those before it.
    #[error("the piece says that there are {found} pieces; those before it said {expected}")]
    Count {
        /// What it says.
        found: u32,
        /// What those before it said.
        expected: u32,
    },
    /// Its message is longer than allowed.
    #[error(
        "the message is longer than the limit of {limit} bytes; raise `max_message` of fragmentation on all members"
    )]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// Its message is not too long, but its pieces are so many that no member has room for their places.
    #[error(
        "the message would be cut into {pieces} pieces, which take more than {limit} bytes; raise `max_size` of fragmentation"
    )]
    TooManyPieces {
        /// How many.
        pieces: usize,
        /// What they may take.
        limit: usize,
    },
    /// There is no memory left for it: the whole message is given up.
    #[error("there is no memory left for the pieces of incomplete messages; raise `max_memory` of fragmentation")]
    NoMemory,
    /// Its message was given up before: pieces were missing for too long, or one was refused.
    #[error("the message was given up before this piece came")]
    GivenUp,
    /// Its message was complete before, and refused further up.
    #[error("{0}")]
    Refused(String),
}

/// What becomes of a piece.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is kept; others are missing.
    Kept,
    /// Its message is complete. The cost stays taken until [`Core::release`].
    Complete { body: Body, cost: usize },
    /// Its message was complete before.
    Again,
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    Delivered,
    /// Complete, but refused further up.
    Refused(String),
    GivenUp,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) completed: u64,
    pub(super) expired: u64,
    pub(super) refused_pieces: u64,
    pub(super) repeated_pieces: u64,
}

/// All messages that lack pieces.
#[derive(Debug)]
pub(super) struct Core {
    bounds: Bounds,
    senders: BTreeMap<Arc<Member>, Sender>,
    held: usize,
    /// When which message expires. The number tells those of the same time apart.
    due: BTreeMap<(Time, u64), (Arc<Member>, MessageId)>,
    number: u64,
    /// Messages that have ended, in the order in which they are forgotten.
    ended: VecDeque<(Time, Arc<Member>, MessageId)>,
    counts: Counts,
}

/// What there is of one sender.
#[derive(Debug, Default)]
struct Sender {
    held: usize,
    incomplete: BTreeMap<MessageId, Incomplete>,
    ended: BTreeMap<MessageId, Ending>,
}

/// A message that lacks pieces.
#[derive(Debug)]
struct Incomplete {
    count: u32,
    pieces: BTreeMap<u32, Bytes>,
    bytes: usize,
    cost: usize,
    due: (Time, u64),
}

impl Core {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            senders: BTreeMap::new(),
            held: 0,
            due: BTreeMap::new(),
            number: 0,
            ended: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a piece of a message. `piece` must not be a small part of a larger buffer.
    pub(super) fn take(
        &mut self,
        from: &Member,
        id: &MessageId,
        place: Place,
        piece: Bytes,
        now: Time,
    ) -> Result<Taken, RefusedPiece> {
        self.tick(now);
        let taken = self.try_take(from, id, place, piece, now);
        match &taken {
            Ok(Taken::Kept) => {}
            Ok(Taken::Complete { .. }) => self.counts.completed += 1,
            Ok(Taken::Again) => self.counts.repeated_pieces += 1,
            Err(_) => self.counts.refused_pieces += 1,
        }
        taken
    }

    fn try_take(
        &mut self,
        from: &Member,
        id: &MessageId,
        place: Place,
        piece: Bytes,
        now: Time,
    ) -> Result<Taken, RefusedPiece> {
        let known = self.senders.get_key_value(from).map(|(member, _)| Arc::clone(member));
        let from = known.unwrap_or_else(|| Arc::new(own_key(from)));
        let sender = self.senders.entry(Arc::clone(&from)).or_default();
        match sender.ended.get(id) {
            Some(Ending::Delivered) => return Ok(Taken::Again),
            // With its first piece the sender begins it anew, after it has heard of the refusal.
            Some(Ending::Refused(why)) if place.number > 0 => return Err(RefusedPiece::Refused(why.clone())),
            Some(Ending::GivenUp) if place.number > 0 => return Err(RefusedPiece::GivenUp),
            _ => {}
        }
        let (bytes, cost, again) = match sender.incomplete.get(id) {
            Some(message) if message.count != place.count => {
                return Err(RefusedPiece::Count { found: place.count, expected: message.count });
            }
            Some(message) => {
                let before = message.pieces.get(&place.number).map(Bytes::len);
                let bytes = message.bytes.saturating_sub(before.unwrap_or(0)).saturating_add(piece.len());
                (bytes, before.map_or(PIECE_COST, |_| 0), before)
            }
            None => (piece.len(), MESSAGE_COST + PIECE_COST, None),
        };
        let limit = self.bounds.message;
        if bytes > limit || place.count as usize > limit {
            self.give_up(&from, id, now);
            return Err(RefusedPiece::TooLong { limit });
        }
        let cost = cost.saturating_add(piece.len());
        // What a repeated piece replaces is given back.
        let back = again.unwrap_or(0);
        let others = sender.incomplete.len() > usize::from(sender.incomplete.contains_key(id));
        let share = if others { self.bounds.memory / 4 } else { self.bounds.memory };
        let fits = |held: usize, bound| held.saturating_sub(back).saturating_add(cost) <= bound;
        if !fits(sender.held, share) || !fits(self.held, self.bounds.memory) {
            self.give_up(&from, id, now);
            return Err(RefusedPiece::NoMemory);
        }
        sender.held = sender.held.saturating_sub(back).saturating_add(cost);
        self.held = self.held.saturating_sub(back).saturating_add(cost);
        sender.ended.remove(id);
        let message = sender.incomplete.entry(own_id(id)).or_insert_with(|| Incomplete {
            count: place.count,
            pieces: BTreeMap::new(),
            bytes: 0,
            cost: 0,
            due: (Time::NEVER, 0),
        });
        message.bytes = bytes;
        message.cost = message.cost.saturating_sub(back).saturating_add(cost);
        message.pieces.insert(place.number, piece);
        if message.pieces.len() == message.count as usize {
            return Ok(self.complete(&from, id, now));
        }
        if again.is_none() {
            self.due.remove(&message.due);
            self.number += 1;
            message.due = (now + self.bounds.expire, self.number);
            self.due.insert(message.due, (from, own_id(id)));
        }
        Ok(Taken::Kept)
    }

    fn complete(&mut self, from: &Arc<Member>, id: &MessageId, now: Time) -> Taken {
        let message = self.senders.get_mut(from).and_then(|sender| sender.incomplete.remove(id));
        let Some(message) = message else { return Taken::Again };
        self.due.remove(&message.due);
        self.remember(from, id, Ending::Delivered, now);
        let mut body = Body::default();
        message.pieces.into_values().for_each(|piece| body.push_trailer(piece));
        Taken::Complete { body, cost: message.cost }
    }

    /// Drops what there is of a message, if anything, and remembers that.
    fn give_up(&mut self, from: &Arc<Member>, id: &MessageId, now: Time) {
        if let Some(sender) = self.senders.get_mut(from)
            && let Some(message) = sender.incomplete.remove(id)
        {
            self.due.remove(&message.due);
            sender.held = sender.held.saturating_sub(message.cost);
            self.held = self.held.saturating_sub(message.cost);
        }
        self.remember(from, id, Ending::GivenUp, now);
    }

    fn remember(&mut self, from: &Arc<Member>, id: &MessageId, ending: Ending, now: Time) {
        let sender = self.senders.entry(Arc::clone(from)).or_default();
        // One that ended again stands in its first place: it is forgotten early, which does no harm.
        if sender.ended.insert(own_id(id), ending).is_none() {
            self.ended.push_back((now + self.bounds.expire, Arc::clone(from), own_id(id)));
        }
        if self.ended.len() > REMEMBERED {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, from, id)) = self.ended.pop_front() {
            if let Some(sender) = self.senders.get_mut(&from) {
                sender.ended.remove(&id);
            }
            self.prune(&from);
        }
    }

    /// A complete message was refused further up: who sends its last piece again hears the same.
    pub(super) fn refused(&mut self, from: &Member, id: &MessageId, why: String) {
        if let Some(ending) = self.senders.get_mut(from).and_then(|sender| sender.ended.get_mut(id))
            && *ending == Ending::Delivered
        {
            *ending = Ending::Refused(why);
        }
    }

    /// The pieces of a complete message are kept by others now.
    pub(super) fn release(&mut self, from: &Member, cost: usize) {
        self.held = self.held.saturating_sub(cost);
        if let Some(sender) = self.senders.get_mut(from) {
            sender.held = sender.held.saturating_sub(cost);
        }
        self.prune(from);
    }

    /// Forgets a sender of whom there is nothing.
    fn prune(&mut self, from: &Member) {
        let nothing = |sender: &Sender| sender.held == 0 && sender.incomplete.is_empty() && sender.ended.is_empty();
        if self.senders.get(from).is_some_and(nothing) {
            self.senders.remove(from);
        }
    }

    /// Gives up what has expired, and forgets what ended long ago.
    pub(super) fn tick(&mut self, now: Time) {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let (from, id) = entry.remove();
            self.counts.expired += 1;
            self.give_up(&from, &id, now);
        }
        while self.ended.front().is_some_and(|(at, ..)| *at <= now) {
            self.forget_first();
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_tick(&self) -> Time {
        let due = self.due.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at);
        due.min(self.ended.front().map_or(Time::NEVER, |(at, ..)| *at))
    }

    /// Drops all pieces, and forgets what has ended.
    pub(super) fn clear(&mut self) {
        for sender in self.senders.values_mut() {
            sender.ended.clear();
            for message in std::mem::take(&mut sender.incomplete).into_values() {
                sender.held = sender.held.saturating_sub(message.cost);
                self.held = self.held.saturating_sub(message.cost);
            }
        }
        self.due.clear();
        self.ended.clear();
        // The rest is of complete messages, which are released one day.
        self.senders.retain(|_, sender| sender.held > 0);
    }

    /// Bytes taken, and messages that lack pieces.
    pub(super) fn census(&self) -> (usize, usize) {
        (self.held, self.due.len())
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }
}

/// What tells a sender from others, in memory of its own.
fn own_key(member: &Member) -> Member {
    Member::from_parts(member.id(), Bytes::copy_from_slice(member.host()), member.port())
}

/// The id, in memory of its own.
fn own_id(id: &MessageId) -> MessageId {
    MessageId::from_bytes(Bytes::copy_from_slice(id.as_bytes()))
}

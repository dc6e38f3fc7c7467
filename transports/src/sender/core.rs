//! What is queued for one member and what is in flight to it, without I/O.
//!
//! Entries keep the order in which they were accepted, and so do their bytes in the log. The first `written` of them are
//! released to the present connection, of which the operating system has taken the first `flushed` whole; the rest are
//! queued. Between our own nodes each entry has a number in the link session: the peer
//! says how many it has taken, so a new connection continues exactly there. Towards Java, acknowledgements have no number
//! and come in the order of the frames: while a synchronized one is outstanding nothing else that is acknowledged is
//! written, and a broken connection costs one retry.

mod answers;
mod ending;
mod resume;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::budget::Reservation;
use tribes_core::{AckMode, ChannelMessage, Completion, Delivery, Destination, FaultKind, Member, Time};

use super::frame_log::FrameLog;
use crate::MAX_SYNCHRONIZED;

/// After so many resumes in vain the first message is given up.
const MAX_FRUITLESS: u32 = 5;

/// A completion and its result; resolved by the shell when no lock is held.
pub(super) type Resolved = (Completion, Result<Delivery, FaultKind>);

/// A message for one member; its bytes are in the log.
#[derive(Debug)]
struct Entry {
    len: usize,
    ack: AckMode,
    /// `None` once its outcome is known, while the frame itself is still needed for a resume.
    completion: Option<Completion>,
    /// Bytes of the channel's budget that it holds, in the link's reservation.
    room: usize,
    /// When it was accepted, or written if it has been.
    since: Time,
    retried: bool,
    /// Java only: its acknowledgement came.
    answered: bool,
    /// Its outcome was a failure: it is not to be sent once the peer has said that it was not taken.
    failed: bool,
}

impl Entry {
    fn resolve(&mut self, result: Result<Delivery, FaultKind>, out: &mut Vec<Resolved>) {
        self.failed |= result.is_err() && self.completion.is_some();
        out.extend(self.completion.take().map(|completion| (completion, result)));
    }
}

/// A synchronized message that the peer has taken and not yet handled.
#[derive(Debug)]
struct Handling {
    completion: Completion,
    room: usize,
    since: Time,
}

/// The link to one member.
#[derive(Debug)]
pub(super) struct LinkCore {
    ours: bool,
    timeout: Duration,
    entries: VecDeque<Entry>,
    log: FrameLog,
    /// The room of all entries, taken ahead by a little: the budget is shared with everybody who sends.
    room: Reservation,
    /// How much of it the entries need.
    needed: usize,
    /// How much is taken ahead.
    ahead: usize,
    /// Reservations that do not fit the one above; held until nothing is left here.
    other_rooms: Vec<Reservation>,
    /// Room of entries that have left, to be given back.
    spare: usize,
    /// Entries released to the present connection, and their bytes.
    written: usize,
    written_bytes: usize,
    /// Of those, entries that the operating system has taken whole, and their bytes.
    flushed: usize,
    flushed_bytes: usize,
    /// Java only: entries written that wait for an acknowledgement, and those of them that are synchronized.
    acks_open: usize,
    syncs_open: usize,
    /// Ours only: entries written that are synchronized, answered or not.
    syncs_written: usize,
    /// Names the sequence of entries; ours only.
    session: u64,
    /// Number of the first entry in the session.
    base: u64,
    /// Entries of the session that ever went into a connection; those the peer may have.
    ever_written: u64,
    /// Entries that the peer said on this connection it has taken. It may tell before whoever writes has said so.
    claimed: u64,
    /// By number.
    handling: BTreeMap<u64, Handling>,
    /// When the peer last took, acknowledged or handled something, or the operating system took bytes.
    progress: Time,
    sent_on_connection: u64,
    /// Connections in a row that ended without the peer having taken anything of what was written.
    fruitless: u32,
    /// Nothing fails before this. A lower bound, made exact when it is reached.
    next_check: Option<Time>,
}

impl LinkCore {
    /// `room` is an empty reservation of the member, of which `ahead` bytes may be taken ahead.
    pub(super) fn new(member: &Arc<Member>, room: Reservation, ahead: usize, timeout: Duration, session: u64) -> Self {
        Self {
            ours: member.id().is_ours(),
            timeout,
            entries: VecDeque::new(),
            log: FrameLog::default(),
            room,
            needed: 0,
            ahead,
            other_rooms: Vec::new(),
            spare: 0,
            written: 0,
            written_bytes: 0,
            flushed: 0,
            flushed_bytes: 0,
            acks_open: 0,
            syncs_open: 0,
            syncs_written: 0,
            session,
            base: 0,
            ever_written: 0,
            claimed: 0,
            handling: BTreeMap::new(),
            progress: Time::ZERO,
            sent_on_connection: 0,
            fruitless: 0,
            next_check: None,
        }
    }

    pub(super) const fn session(&self) -> u64 {
        self.session
    }

    /// Whether anything waits to be written, acknowledged or taken.
    pub(super) fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.handling.is_empty()
    }

    /// Whether anything waits to be written or taken, so that a connection is needed.
    pub(super) fn has_work(&self) -> bool {
        !self.is_idle()
    }

    /// Whether there is nothing left that may still arrive or be answered: what is here has failed, and is only kept because
    /// the peer counts it.
    pub(super) fn is_drained(&self) -> bool {
        self.handling.is_empty() && self.entries.iter().all(|entry| entry.failed)
    }

    /// Whether anybody waits for the outcome of anything.
    pub(super) fn is_awaited(&self) -> bool {
        !self.handling.is_empty() || self.entries.iter().any(|entry| entry.completion.is_some())
    }

    /// Whether the peer may have taken what it has not told of, or handles something, so that only it can say how to go on.
    pub(super) fn may_resume(&self) -> bool {
        let in_doubt = self.ever_written > self.base && !self.entries.is_empty();
        self.ours && (in_doubt || !self.handling.is_empty())
    }

    /// Entries that the peer said it has taken; 0 for Java, which does not say.
    pub(super) const fn taken_so_far(&self) -> u64 {
        if self.ours { self.base } else { 0 }
    }

    pub(super) const fn queued_bytes(&self) -> usize {
        self.log.len()
    }

    /// Gives memory back that an idle link does not need.
    pub(super) fn shrink(&mut self) {
        self.log.shrink();
    }

    /// Whether the connection has taken all bytes that there are.
    pub(super) const fn is_flushed(&self) -> bool {
        self.log.cursor() == self.log.len()
    }

    pub(super) const fn sent_on_connection(&self) -> u64 {
        self.sent_on_connection
    }

    /// Queues a message; `sender` is the encoded member of its sender, `len` the checked length of its frame. Whether
    /// there is a deadline now and was none before. A destination without a reservation takes `cost` bytes of room here; it
    /// comes back if there are none. One with a smaller reservation than that takes the rest if there is room.
    pub(super) fn push(
        &mut self,
        message: &ChannelMessage,
        sender: &[u8],
        len: usize,
        destination: Destination,
        cost: usize,
        now: Time,
    ) -> Result<bool, Destination> {
        let room = match destination.reservation {
            Some(_) => 0,
            None if self.take_room(cost) => cost,
            None => return Err(destination),
        };
        let Destination { completion, reservation, .. } = destination;
        let room = room + reservation.map_or(0, |reservation| self.hold(reservation));
        let rest = cost.saturating_sub(room);
        let room = if rest > 0 && self.take_room(rest) { room + rest } else { room };
        self.log.push(message, sender, len);
        let ack = message.options.ack_mode();
        let completion = Some(completion);
        let (retried, answered, failed) = (false, false, false);
        self.entries.push_back(Entry { len, ack, completion, room, since: now, retried, answered, failed });
        let unwatched = self.next_check.is_none();
        self.next_check.get_or_insert_with(|| now.max(self.progress) + self.timeout);
        Ok(unwatched)
    }

    /// Room for `cost` bytes more, if there is any.
    fn take_room(&mut self, cost: usize) -> bool {
        let there = self.room.bytes() - self.needed;
        let found = there >= cost
            || self.room.try_grow((cost - there).max(self.ahead)).is_some()
            || self.room.try_grow(cost - there).is_some();
        self.needed += if found { cost } else { 0 };
        found
    }

    /// Holds `reservation` with those of the other entries; the bytes to give back for it one day.
    fn hold(&mut self, reservation: Reservation) -> usize {
        let bytes = reservation.bytes();
        match self.room.absorb(reservation) {
            Ok(()) => {
                self.needed += bytes;
                bytes
            }
            Err(other) => {
                self.other_rooms.push(other);
                0
            }
        }
    }

    /// Gives back the room of what has left, but for a little while more comes.
    fn give_back(&mut self) {
        self.needed -= std::mem::take(&mut self.spare);
        if self.is_idle() {
            self.room.give_back(self.room.bytes());
            self.other_rooms.clear();
            return;
        }
        let unused = self.room.bytes() - self.needed;
        if unused > 2 * self.ahead {
            self.room.give_back(unused - self.ahead);
        }
    }

    /// Releases what may be written now, until `most` bytes wait to be, and adds it to `into`; the number of bytes added.
    pub(super) fn next_write(&mut self, most: usize, now: Time, into: &mut Vec<Bytes>) -> usize {
        while self.written_bytes - self.log.cursor() < most {
            let Some(next) = self.entries.get_mut(self.written) else { break };
            if self.ours {
                if next.ack == AckMode::Handled {
                    if self.syncs_written + self.handling.len() >= MAX_SYNCHRONIZED {
                        break;
                    }
                    self.syncs_written += 1;
                }
            } else {
                let blocked = match next.ack {
                    AckMode::None => false,
                    AckMode::Received => self.syncs_open > 0,
                    AckMode::Handled => self.acks_open > 0,
                };
                if blocked {
                    break;
                }
                self.acks_open += usize::from(next.ack != AckMode::None);
                self.syncs_open += usize::from(next.ack == AckMode::Handled);
            }
            next.since = now;
            self.written += 1;
            self.written_bytes += next.len;
            self.sent_on_connection += 1;
        }
        self.ever_written = self.ever_written.max(self.base + self.written as u64);
        match self.written_bytes - self.log.cursor() {
            0 => 0,
            bytes => self.log.next(bytes, into),
        }
    }

    /// The operating system has taken `bytes` more. That is the outcome of messages which ask no more.
    pub(super) fn wrote(&mut self, bytes: usize, now: Time, out: &mut Vec<Resolved>) {
        // Nothing is left of them if all failed meanwhile.
        self.log.advance(bytes.min(self.written_bytes - self.log.cursor()));
        self.progress = self.progress.max(now);
        while self.flushed < self.written
            && let Some(entry) = self.entries.get_mut(self.flushed)
            && self.flushed_bytes + entry.len <= self.log.cursor()
        {
            self.flushed_bytes += entry.len;
            self.flushed += 1;
            if entry.ack == AckMode::None {
                entry.resolve(Ok(Delivery::Sent), out);
            }
        }
        if self.ours {
            self.leave_taken(now, out);
        } else {
            self.shed_done();
        }
    }

    /// Java: drops finished entries at the front. (Ours leave when they are taken.)
    fn shed_done(&mut self) {
        let mut gone = 0;
        while self.flushed > 0
            && self
                .entries
                .front()
                .is_some_and(|entry| entry.completion.is_none() && (entry.ack == AckMode::None || entry.answered))
            && let Some(entry) = self.leave()
        {
            gone += entry.len;
        }
        self.log.drop_front(gone);
        self.give_back();
    }

    /// The first entry leaves; its bytes are still in the log.
    fn leave(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.spare += entry.room;
        self.base += 1;
        if self.written > 0 {
            self.written -= 1;
            self.written_bytes -= entry.len;
            if self.ours && entry.ack == AckMode::Handled {
                self.syncs_written -= 1;
            }
        }
        if self.flushed > 0 {
            self.flushed -= 1;
            self.flushed_bytes -= entry.len;
        }
        Some(entry)
    }
}

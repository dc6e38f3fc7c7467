//! What is queued for one member and what is in flight to it, without I/O.
//!
//! Entries keep the order in which they were accepted. The first `written` of them have gone into the present connection
//! and wait for the peer; the rest are queued. Between our own nodes each entry has a number in the link session: the peer
//! says how many it has taken, so a new connection continues exactly there. Towards Java, acknowledgements have no number
//! and come in the order of the frames: while a synchronized one is outstanding nothing else that is acknowledged is
//! written, and a broken connection costs one retry.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::budget::Reservation;
use tribes_core::wire::HandledCode;
use tribes_core::{AckMode, Completion, Delivery, FaultKind, Member, MemberId, Time};

use super::frame::EncodedFrame;

/// After so many resumes in vain the first message is given up.
const MAX_FRUITLESS: u32 = 5;

/// A completion and its result; resolved by the shell when no lock is held.
pub(super) type Resolved = (Completion, Result<Delivery, FaultKind>);

/// A message for one member.
#[derive(Debug)]
pub(super) struct Entry {
    frame: EncodedFrame,
    ack: AckMode,
    /// `None` once its outcome is known, while the frame itself is still needed for a resume.
    completion: Option<Completion>,
    reservation: Option<Reservation>,
    /// When it was accepted, or written if it has been.
    since: Time,
    retried: bool,
    /// Its outcome was a failure: it is not to be sent once the peer has said that it was not taken.
    failed: bool,
}

impl Entry {
    pub(super) const fn new(
        frame: EncodedFrame,
        ack: AckMode,
        completion: Completion,
        reservation: Option<Reservation>,
        now: Time,
    ) -> Self {
        Self { frame, ack, completion: Some(completion), reservation, since: now, retried: false, failed: false }
    }

    /// Fails an entry that was never queued.
    pub(super) fn refuse(self, kind: FaultKind) {
        if let Some(completion) = self.completion {
            completion.fail(kind);
        }
    }

    fn resolve(&mut self, result: Result<Delivery, FaultKind>, out: &mut Vec<Resolved>) {
        self.failed |= result.is_err() && self.completion.is_some();
        out.extend(self.completion.take().map(|completion| (completion, result)));
    }
}

/// A synchronized message that the peer has taken and not yet handled.
#[derive(Debug)]
struct Handling {
    completion: Completion,
    _reservation: Option<Reservation>,
    since: Time,
}

/// The link to one member.
#[derive(Debug)]
pub(super) struct LinkCore {
    ours: bool,
    timeout: Duration,
    entries: VecDeque<Entry>,
    /// Entries that went into the present connection.
    written: usize,
    /// Of those, entries that the operating system has taken whole.
    flushed: usize,
    /// Java only: entries written that wait for an acknowledgement, and those of them that are synchronized.
    acks_open: usize,
    syncs_open: usize,
    /// Bytes queued in `entries`.
    bytes: usize,
    /// Names the sequence of entries; ours only.
    session: u64,
    /// Number of the first entry in the session.
    base: u64,
    /// Entries of the session that ever went into a connection; those the peer may have.
    ever_written: u64,
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
    pub(super) fn new(member: &Arc<Member>, timeout: Duration, session: u64) -> Self {
        Self {
            ours: member.id().is_ours(),
            timeout,
            entries: VecDeque::new(),
            written: 0,
            flushed: 0,
            acks_open: 0,
            syncs_open: 0,
            bytes: 0,
            session,
            base: 0,
            ever_written: 0,
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
        self.bytes
    }

    pub(super) const fn sent_on_connection(&self) -> u64 {
        self.sent_on_connection
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.frame.len();
        self.next_check.get_or_insert_with(|| entry.since.max(self.progress) + self.timeout);
        self.entries.push_back(entry);
    }

    /// A connection is up. `taken` is what the peer said of the session: `None`, it is new to it. Java says nothing.
    pub(super) fn connected(&mut self, taken: Option<u64>, now: Time, out: &mut Vec<Resolved>) {
        self.sent_on_connection = 0;
        self.rewind();
        match taken {
            _ if !self.ours => self.progress = now,
            Some(count) => self.resume(count, now, out),
            None => self.lose_session("the member no longer knows the link session", out),
        }
    }

    /// The peer has taken `count` entries and, since the connection before has ended there, certainly no more.
    fn resume(&mut self, count: u64, now: Time, out: &mut Vec<Resolved>) {
        let before = self.base;
        self.taken(count, now, out);
        let in_vain = self.base == before && self.ever_written > self.base;
        self.fruitless += u32::from(in_vain);
        self.ever_written = self.base;
        if self.fruitless >= MAX_FRUITLESS {
            // Whatever it is about the first of them, its limits perhaps: the peer will not take it.
            self.fruitless = 0;
            self.pop(out, |_| {
                Err(FaultKind::Disconnected("the member closes the connection over this message".to_owned()))
            });
        }
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            if entry.failed {
                *bytes = bytes.saturating_sub(entry.frame.len());
            }
            !entry.failed
        });
    }

    /// Nothing is in a connection any more.
    const fn rewind(&mut self) {
        (self.written, self.flushed, self.acks_open, self.syncs_open) = (0, 0, 0, 0);
    }

    /// What may have arrived cannot be sent again without the peer's word: it fails, and a new sequence begins.
    fn lose_session(&mut self, why: &str, out: &mut Vec<Resolved>) {
        let doubtful = usize::try_from(self.ever_written.saturating_sub(self.base)).unwrap_or(usize::MAX);
        for _ in 0..doubtful.min(self.entries.len()) {
            self.pop(out, |_| Err(FaultKind::Disconnected(why.to_owned())));
        }
        for (_, handling) in std::mem::take(&mut self.handling) {
            out.push((handling.completion, Err(FaultKind::Disconnected(why.to_owned()))));
        }
        (self.base, self.ever_written) = (0, 0);
        self.rewind();
    }

    /// The connection is gone. What was in flight is kept for the next one; towards Java only once, and messages without
    /// acknowledgement not at all once the operating system had taken them.
    pub(super) fn disconnected(&mut self, why: &str, out: &mut Vec<Resolved>) {
        if !self.ours {
            let flight: Vec<Entry> = self.entries.drain(..self.written).collect();
            for mut entry in flight.into_iter().rev() {
                if entry.completion.is_some() && !entry.retried {
                    entry.retried = true;
                    self.entries.push_front(entry);
                } else {
                    self.bytes = self.bytes.saturating_sub(entry.frame.len());
                    entry.resolve(Err(FaultKind::Disconnected(why.to_owned())), out);
                }
            }
        }
        self.rewind();
    }

    /// The next frame to write, if one may be written now. It counts as written.
    pub(super) fn next_frame(&mut self, now: Time) -> Option<EncodedFrame> {
        let next = self.entries.get_mut(self.written)?;
        if !self.ours {
            let blocked = match next.ack {
                AckMode::None => false,
                AckMode::Received => self.syncs_open > 0,
                AckMode::Handled => self.acks_open > 0,
            };
            if blocked {
                return None;
            }
            self.acks_open += usize::from(next.ack != AckMode::None);
            self.syncs_open += usize::from(next.ack == AckMode::Handled);
        }
        next.since = now;
        let frame = next.frame.clone();
        self.written += 1;
        self.sent_on_connection += 1;
        self.ever_written = self.ever_written.max(self.base + self.written as u64);
        Some(frame)
    }

    /// The operating system has taken all written frames but the last `unflushed`: that is the outcome of those that ask
    /// no more.
    pub(super) fn flushed(&mut self, unflushed: usize, now: Time, out: &mut Vec<Resolved>) {
        self.progress = now;
        let flushed = self.written.saturating_sub(unflushed);
        let fresh = flushed.saturating_sub(self.flushed);
        for entry in self.entries.iter_mut().skip(self.flushed).take(fresh).filter(|entry| entry.ack == AckMode::None) {
            entry.resolve(Ok(Delivery::Sent), out);
        }
        self.flushed = self.flushed.max(flushed);
        if !self.ours {
            self.shed_done();
        }
    }

    /// Java: drops finished entries at the front. (Ours leave when they are taken.)
    fn shed_done(&mut self) {
        while self.flushed > 0
            && self.entries.front().is_some_and(|entry| entry.completion.is_none() && entry.ack == AckMode::None)
        {
            self.leave();
        }
    }

    /// The first entry, which was written, leaves.
    fn leave(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes = self.bytes.saturating_sub(entry.frame.len());
        self.base += 1;
        self.written = self.written.saturating_sub(1);
        self.flushed = self.flushed.saturating_sub(1);
        Some(entry)
    }

    /// Ours: the peer has taken `count` entries of the session.
    pub(super) fn taken(&mut self, count: u64, now: Time, out: &mut Vec<Resolved>) {
        let count = count.min(self.ever_written);
        if count > self.base {
            self.progress = now;
            self.fruitless = 0;
        }
        while self.base < count {
            let seq = self.base;
            let Some(mut entry) = self.leave() else { break };
            match (entry.ack, entry.completion.take()) {
                (AckMode::Handled, Some(completion)) => {
                    let handling = Handling { completion, _reservation: entry.reservation.take(), since: now };
                    self.handling.insert(seq, handling);
                }
                (AckMode::Received, Some(completion)) => out.push((completion, Ok(Delivery::Acknowledged))),
                (_, Some(completion)) => out.push((completion, Ok(Delivery::Sent))),
                (_, None) => {}
            }
        }
    }

    /// Ours: the peer has handled entry `seq`.
    pub(super) fn handled(&mut self, seq: u64, code: HandledCode, now: Time, out: &mut Vec<Resolved>) {
        let result = match code {
            HandledCode::Ok => Ok(Delivery::Handled),
            HandledCode::NoTaker => Ok(Delivery::NoTaker),
            HandledCode::Failed(text) => Err(FaultKind::RemoteFailure(Some(text).filter(|text| !text.is_empty()))),
            _ => Err(FaultKind::RemoteFailure(Some("the member gave an answer of a later revision".to_owned()))),
        };
        self.progress = now;
        if let Some(handling) = self.handling.remove(&seq) {
            out.push((handling.completion, result));
            return;
        }
        // Handled before the count of those taken came: the entry itself stays until then.
        let at = seq.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.filter(|at| *at < self.written).and_then(|at| self.entries.get_mut(at)) {
            entry.resolve(result, out);
        }
    }

    /// Java: an acknowledgement came. It belongs to the first entry that waits for one; without such it is ignored.
    pub(super) fn acknowledged(&mut self, positive: bool, now: Time, out: &mut Vec<Resolved>) {
        self.progress = now;
        let waiting = self.entries.iter().take(self.written).position(|entry| entry.ack != AckMode::None);
        let Some(at) = waiting else { return };
        let Some(entry) = self.entries.remove(at) else { return };
        self.written -= 1;
        self.flushed -= usize::from(at < self.flushed);
        self.acks_open = self.acks_open.saturating_sub(1);
        self.syncs_open = self.syncs_open.saturating_sub(usize::from(entry.ack == AckMode::Handled));
        self.bytes = self.bytes.saturating_sub(entry.frame.len());
        let result = match (positive, entry.ack) {
            (false, _) => Err(FaultKind::RemoteFailure(None)),
            (true, AckMode::Handled) => Ok(Delivery::Handled),
            (true, _) => Ok(Delivery::Acknowledged),
        };
        out.extend(entry.completion.map(|completion| (completion, result)));
        self.shed_done();
    }

    /// When to call [`expire`](Self::expire) next; `None` if nothing waits.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.next_check
    }

    /// When the first of what waits now fails unless there is progress.
    fn exact_deadline(&self) -> Option<Time> {
        let entries = self.entries.iter().filter(|entry| entry.completion.is_some()).map(|entry| entry.since);
        let handling = self.handling.values().map(|handling| handling.since);
        entries.chain(handling).min().map(|since| since.max(self.progress) + self.timeout)
    }

    /// Fails what has waited for too long. True if the connection must be closed: towards Java, an acknowledgement that
    /// comes late could not be told from that of the next message.
    pub(super) fn expire(&mut self, now: Time, out: &mut Vec<Resolved>) -> bool {
        let (ours, timeout, progress, written) = (self.ours, self.timeout, self.progress, self.written);
        let late = |since: Time| now >= since.max(progress) + timeout;
        let mut misaligned = false;
        for (at, entry) in self.entries.iter_mut().enumerate().filter(|(_, entry)| late(entry.since)) {
            let in_flight = at < written;
            misaligned |= in_flight && !ours && entry.ack != AckMode::None && entry.completion.is_some();
            let kind = if in_flight && entry.ack != AckMode::None {
                FaultKind::AckTimeout(timeout)
            } else {
                FaultKind::Timeout(timeout)
            };
            entry.resolve(Err(kind), out);
        }
        while let Some(first) = self.handling.first_entry().filter(|first| late(first.get().since)) {
            out.push((first.remove().completion, Err(FaultKind::AckTimeout(timeout))));
        }
        self.drop_unsent();
        self.next_check = self.exact_deadline();
        misaligned
    }

    /// Entries that failed and never went into a connection need no place: the peer cannot know of them. Ours that did go
    /// keep theirs, for the peer counts them. Those that were sent and wait to be sent again have not failed.
    fn drop_unsent(&mut self) {
        let keep = if self.ours {
            usize::try_from(self.ever_written.saturating_sub(self.base)).unwrap_or(usize::MAX)
        } else {
            self.written
        };
        let mut at = 0;
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            let stays = at < keep || !entry.failed;
            at += 1;
            if !stays {
                *bytes = bytes.saturating_sub(entry.frame.len());
            }
            stays
        });
    }

    /// Fails everything, for instance because the member left; a new session begins.
    pub(super) fn fail_all(&mut self, kind: &FaultKind, fresh_session: u64, out: &mut Vec<Resolved>) {
        while !self.entries.is_empty() {
            self.pop(out, |_| Err(kind.clone()));
        }
        for (_, handling) in std::mem::take(&mut self.handling) {
            out.push((handling.completion, Err(kind.clone())));
        }
        self.session = fresh_session;
        (self.base, self.ever_written) = (0, 0);
        self.next_check = None;
        self.rewind();
    }

    /// Another process answers at the member's address.
    pub(super) fn replaced(&mut self, by: MemberId, fresh_session: u64, out: &mut Vec<Resolved>) {
        self.fail_all(&FaultKind::Replaced(by), fresh_session, out);
    }

    fn pop(&mut self, out: &mut Vec<Resolved>, result: impl Fn(&Entry) -> Result<Delivery, FaultKind>) {
        if let Some(mut entry) = self.entries.pop_front() {
            self.bytes = self.bytes.saturating_sub(entry.frame.len());
            let result = result(&entry);
            entry.resolve(result, out);
        }
    }
}

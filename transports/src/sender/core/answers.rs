//! What the peer says of what it was sent.

use tribes_core::wire::HandledCode;
use tribes_core::{AckMode, Delivery, FaultKind, Time};

use super::{Entry, Handling, LinkCore, Resolved};

impl LinkCore {
    /// Ours: the peer has taken `count` entries of the session.
    pub(in crate::sender) fn taken(&mut self, count: u64, now: Time, out: &mut Vec<Resolved>) {
        let count = count.min(self.ever_written);
        if count > self.claimed {
            self.claimed = count;
            self.progress = now;
            self.fruitless = 0;
            self.leave_taken(now, out);
        }
    }

    /// Ours: entries leave that the peer has taken and that are wholly in the connection.
    pub(super) fn leave_taken(&mut self, now: Time, out: &mut Vec<Resolved>) {
        let flushed = self.base + self.flushed as u64;
        self.leave_until(self.claimed.min(flushed), now, out);
    }

    pub(super) fn leave_until(&mut self, count: u64, now: Time, out: &mut Vec<Resolved>) {
        let mut gone = 0;
        while self.base < count {
            let seq = self.base;
            let Some(mut entry) = self.leave() else { break };
            gone += entry.len;
            match (entry.ack, entry.completion.take()) {
                (AckMode::Handled, Some(completion)) => {
                    // Its room stays taken.
                    self.spare -= entry.room;
                    self.handling.insert(seq, Handling { completion, room: entry.room, since: now });
                }
                (AckMode::Received, Some(completion)) => out.push((completion, Ok(Delivery::Acknowledged))),
                (_, Some(completion)) => out.push((completion, Ok(Delivery::Sent))),
                (_, None) => {}
            }
        }
        if gone > 0 {
            self.log.drop_front(gone);
            self.give_back();
        }
    }

    /// Ours: the peer has handled entry `seq`.
    pub(in crate::sender) fn handled(&mut self, seq: u64, code: HandledCode, now: Time, out: &mut Vec<Resolved>) {
        let result = match code {
            HandledCode::Ok => Ok(Delivery::Handled),
            HandledCode::NoTaker => Ok(Delivery::NoTaker),
            HandledCode::Failed(text) => Err(FaultKind::RemoteFailure(Some(text).filter(|text| !text.is_empty()))),
            _ => Err(FaultKind::RemoteFailure(Some("the member gave an answer of a later revision".to_owned()))),
        };
        self.progress = now;
        if let Some(handling) = self.handling.remove(&seq) {
            self.spare += handling.room;
            self.give_back();
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
    pub(in crate::sender) fn acknowledged(&mut self, positive: bool, now: Time, out: &mut Vec<Resolved>) {
        self.progress = now;
        let waits = |entry: &&mut Entry| entry.ack != AckMode::None && !entry.answered;
        let Some(entry) = self.entries.iter_mut().take(self.written).find(waits) else { return };
        entry.answered = true;
        self.acks_open = self.acks_open.saturating_sub(1);
        self.syncs_open = self.syncs_open.saturating_sub(usize::from(entry.ack == AckMode::Handled));
        let result = match (positive, entry.ack) {
            (false, _) => Err(FaultKind::RemoteFailure(None)),
            (true, AckMode::Handled) => Ok(Delivery::Handled),
            (true, _) => Ok(Delivery::Acknowledged),
        };
        out.extend(entry.completion.take().map(|completion| (completion, result)));
        self.shed_done();
    }
}

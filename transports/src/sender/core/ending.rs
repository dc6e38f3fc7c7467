//! What fails: because it waited for too long, or with everything else.

use tribes_core::{AckMode, Delivery, FaultKind, MemberId, Time};

use super::{Entry, LinkCore, Resolved};

impl LinkCore {
    /// When to call [`expire`](Self::expire) next; `None` if nothing waits.
    pub(in crate::sender) const fn deadline(&self) -> Option<Time> {
        self.next_check
    }

    /// When the first of what waits now fails unless there is progress.
    pub(super) fn exact_deadline(&self) -> Option<Time> {
        let entries = self.entries.iter().filter(|entry| entry.completion.is_some()).map(|entry| entry.since);
        let handling = self.handling.values().map(|handling| handling.since);
        entries.chain(handling).min().map(|since| since.max(self.progress) + self.timeout)
    }

    /// Fails what has waited for too long. True if the connection must be closed: towards Java, an acknowledgement that
    /// comes late could not be told from that of the next message.
    pub(in crate::sender) fn expire(&mut self, now: Time, out: &mut Vec<Resolved>) -> bool {
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
            let handling = first.remove();
            self.spare += handling.room;
            out.push((handling.completion, Err(FaultKind::AckTimeout(timeout))));
        }
        self.drop_unsent();
        self.give_back();
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
        self.retain(|at, entry| at < keep || !entry.failed);
    }

    /// Fails everything, for instance because the member left; a new session begins.
    pub(in crate::sender) fn fail_all(&mut self, kind: &FaultKind, fresh_session: u64, out: &mut Vec<Resolved>) {
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
        self.log.clear();
        self.room.give_back(self.room.bytes());
        (self.needed, self.spare) = (0, 0);
        self.other_rooms.clear();
    }

    /// Another process answers at the member's address.
    pub(in crate::sender) fn replaced(&mut self, by: MemberId, fresh_session: u64, out: &mut Vec<Resolved>) {
        self.fail_all(&FaultKind::Replaced(by), fresh_session, out);
    }

    pub(super) fn pop(&mut self, out: &mut Vec<Resolved>, result: impl Fn(&Entry) -> Result<Delivery, FaultKind>) {
        if let Some(mut entry) = self.entries.pop_front() {
            self.log.drop_front(entry.len);
            self.spare += entry.room;
            let result = result(&entry);
            entry.resolve(result, out);
        }
    }
}

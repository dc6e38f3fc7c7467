//! Connections that come and go: what is sent again, and what may have arrived.

use tribes_core::{FaultKind, Time};

use super::{Entry, LinkCore, MAX_FRUITLESS, Resolved};

impl LinkCore {
    /// A connection is up. `taken` is what the peer said of the session: `None`, it is new to it. Java says nothing.
    pub(in crate::sender) fn connected(&mut self, taken: Option<u64>, now: Time, out: &mut Vec<Resolved>) {
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
        if count > before {
            self.progress = now;
            self.fruitless = 0;
        }
        self.leave_until(count.min(self.ever_written), now, out);
        self.claimed = self.base;
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
        self.retain(|_, entry| !entry.failed);
        self.give_back();
    }

    /// Keeps only some entries, with their bytes. `keep` gets the place of each.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(usize, &Entry) -> bool) {
        let stays: Vec<_> = self.entries.iter().enumerate().map(|(at, entry)| (entry.len, keep(at, entry))).collect();
        if stays.iter().all(|(_, stays)| *stays) {
            return;
        }
        self.log.retain(stays.iter().copied());
        let mut stays = stays.into_iter();
        let spare = &mut self.spare;
        self.entries.retain(|entry| {
            let stays = stays.next().is_none_or(|(_, stays)| stays);
            *spare += if stays { 0 } else { entry.room };
            stays
        });
    }

    /// Nothing is in a connection any more.
    pub(super) fn rewind(&mut self) {
        (self.written, self.flushed, self.acks_open, self.syncs_open) = (0, 0, 0, 0);
        (self.written_bytes, self.flushed_bytes, self.syncs_written) = (0, 0, 0);
        self.claimed = self.base;
        self.log.rewind();
    }

    /// What may have arrived cannot be sent again without the peer's word: it fails, and a new sequence begins.
    fn lose_session(&mut self, why: &str, out: &mut Vec<Resolved>) {
        let doubtful = usize::try_from(self.ever_written.saturating_sub(self.base)).unwrap_or(usize::MAX);
        for _ in 0..doubtful.min(self.entries.len()) {
            self.pop(out, |_| Err(FaultKind::Disconnected(why.to_owned())));
        }
        for (_, handling) in std::mem::take(&mut self.handling) {
            self.spare += handling.room;
            out.push((handling.completion, Err(FaultKind::Disconnected(why.to_owned()))));
        }
        (self.base, self.ever_written) = (0, 0);
        self.rewind();
        self.give_back();
    }

    /// The connection is gone. What was in flight is kept for the next one; towards Java only once, and messages without
    /// acknowledgement not at all once the operating system had taken them.
    pub(in crate::sender) fn disconnected(&mut self, why: &str, out: &mut Vec<Resolved>) {
        let written = self.written;
        self.rewind();
        if !self.ours {
            for entry in self.entries.iter_mut().take(written) {
                if entry.completion.is_some() && !entry.retried {
                    entry.retried = true;
                } else {
                    // Whoever knew its outcome already hears nothing.
                    entry.resolve(Err(FaultKind::Disconnected(why.to_owned())), out);
                    entry.failed = true;
                }
            }
            self.retain(|at, entry| at >= written || !entry.failed);
            self.give_back();
        }
    }
}

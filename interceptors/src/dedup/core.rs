//! The senders and what was seen of each, within bounds. No I/O; time is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tribes_core::member::MemberTable;
use tribes_core::{Inbound, Member, Time};

use super::DedupConfig;
use crate::seen::{Fingerprint, Seen, Span};

/// All senders.
#[derive(Debug)]
pub(super) struct Windows {
    config: DedupConfig,
    senders: MemberTable<Arc<Sender>>,
    /// Messages that are remembered.
    entries: AtomicUsize,
    pub(super) duplicates: AtomicU64,
    /// Messages that were forgotten before their time.
    pub(super) crowded_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Sender {
    seen: Arc<Seen>,
    heard: AtomicU64,
    in_group: AtomicBool,
}

impl Windows {
    pub(super) fn new(config: DedupConfig) -> Self {
        Self {
            config,
            senders: MemberTable::default(),
            entries: AtomicUsize::new(0),
            duplicates: AtomicU64::new(0),
            crowded_out: AtomicU64::new(0),
        }
    }

    /// Whether `msg` is the first of its kind. If not, its receipt has been taken.
    pub(super) fn is_first(&self, msg: &mut Inbound, now: Time) -> bool {
        let sender = self.sender(&msg.message.sender);
        sender.heard.store(now.as_nanos(), Ordering::Relaxed);
        let mut entries = self.config.max_entries;
        if self.entries.load(Ordering::Relaxed) >= self.config.max_total {
            entries = entries.min(self.config.max_total / self.senders.load().len().max(1));
        }
        let span = Span::new(entries, self.config.window, now);
        let look = sender.seen.look(Fingerprint::of(&msg.message.id), &msg.message, &mut msg.receipt, now, span);
        self.count(look.change);
        if look.crowded_out > 0 {
            self.crowded_out.fetch_add(u64::try_from(look.crowded_out).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.duplicates.fetch_add(u64::from(!look.first), Ordering::Relaxed);
        look.first
    }

    /// Forgets what is too old, and senders outside the group of which nothing is left.
    pub(super) fn expire(&self, now: Time) {
        let span = Span::new(1, self.config.window, now);
        self.senders.load().iter().for_each(|(_, sender)| sender.seen.forget_older(span.since));
        let gone = |sender: &Sender| sender.is_outsider() && sender.seen.len() == 0;
        if self.senders.load().iter().any(|(_, sender)| gone(sender)) {
            self.senders.retain(|_, sender| !gone(sender));
        }
        // What came while a sender was forgotten is counted no more.
        let entries = self.senders.load().iter().map(|(_, sender)| sender.seen.len()).sum();
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// The member is in the group: it is not forgotten for others.
    pub(super) fn joined(&self, member: &Arc<Member>) {
        self.senders.get_or_insert_with(member, Arc::default).in_group.store(true, Ordering::Relaxed);
    }

    /// The member is gone; what it sent before may still come twice.
    pub(super) fn left(&self, member: &Arc<Member>) {
        if let Some(sender) = self.senders.get(member) {
            sender.in_group.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        drop(self.senders.take());
        self.entries.store(0, Ordering::Relaxed);
    }

    /// How many messages are remembered, and of how many senders.
    pub(super) fn depth(&self) -> (usize, usize) {
        (self.entries.load(Ordering::Relaxed), self.senders.load().len())
    }

    fn sender(&self, member: &Arc<Member>) -> Arc<Sender> {
        if let Some(sender) = self.senders.get(member) {
            return sender;
        }
        let sender = self.senders.get_or_insert_with(member, Arc::default);
        sender.heard.store(u64::MAX, Ordering::Relaxed);
        let mut heard: Vec<_> = {
            let senders = self.senders.load();
            if senders.len() <= self.config.max_outsiders {
                return sender;
            }
            let outsiders = senders.iter().filter(|(_, sender)| sender.is_outsider());
            outsiders.map(|(_, sender)| sender.heard.load(Ordering::Relaxed)).collect()
        };
        if heard.len() > self.config.max_outsiders {
            heard.sort_unstable();
            let middle = heard.get(heard.len() / 2).copied().unwrap_or(0);
            let mut forgotten = 0;
            self.senders.retain(|_, known| {
                let keeps =
                    Arc::ptr_eq(known, &sender) || !known.is_outsider() || known.heard.load(Ordering::Relaxed) > middle;
                forgotten += if keeps { 0 } else { known.seen.len() };
                keeps
            });
            self.count(-isize::try_from(forgotten).unwrap_or(isize::MAX));
        }
        sender
    }

    /// So many more or fewer messages are remembered.
    fn count(&self, change: isize) {
        let count = |entries: usize| Some(entries.saturating_add_signed(change));
        let _ = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }
}

impl Sender {
    fn is_outsider(&self) -> bool {
        !self.in_group.load(Ordering::Relaxed)
    }
}

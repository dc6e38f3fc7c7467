//! What the layer counts and logs.

use std::sync::atomic::{AtomicU64, Ordering};

use tribes_core::{Gauge, Member};

use super::EncryptError;

/// Counters since the layer was made.
#[derive(Debug, Default)]
pub(super) struct Report {
    sealed: AtomicU64,
    not_sealed: AtomicU64,
    java_refused: AtomicU64,
    opened: AtomicU64,
    unopened: AtomicU64,
    stale: AtomicU64,
    replayed: AtomicU64,
    misdirected: AtomicU64,
    options_altered: AtomicU64,
}

impl Report {
    pub(super) fn sealed(&self) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn java_refused(&self, members: usize) {
        let times = self.java_refused.fetch_add(u64::try_from(members).unwrap_or(u64::MAX), Ordering::Relaxed);
        if times == 0 {
            tracing::warn!(
                "a message in authenticated mode was not sent to a Java member; see towards_java of encrypt"
            );
        }
    }

    pub(super) fn not_sealed(&self, error: &EncryptError) {
        if counted(&self.not_sealed) {
            tracing::warn!(%error, "a message was not sealed, and not sent");
        }
    }

    pub(super) fn not_opened(&self, error: &EncryptError, from: &Member) {
        let counter = match error {
            EncryptError::Stale { .. } => &self.stale,
            EncryptError::Replayed => &self.replayed,
            EncryptError::Misdirected => &self.misdirected,
            EncryptError::OptionsAltered { .. } => &self.options_altered,
            _ => &self.unopened,
        };
        if counted(counter) {
            let times = counter.load(Ordering::Relaxed);
            // The sender is what the message claims.
            tracing::warn!(%error, %from, times, "a message was not opened");
        }
    }

    pub(super) fn gauges(&self, (messages, sessions): (usize, usize)) -> Vec<Gauge> {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let mut gauges: Vec<_> = [
            ("sealed", &self.sealed),
            ("not_sealed", &self.not_sealed),
            ("java_refused", &self.java_refused),
            ("opened", &self.opened),
            ("unopened", &self.unopened),
            ("stale", &self.stale),
            ("replayed", &self.replayed),
            ("misdirected", &self.misdirected),
            ("options_altered", &self.options_altered),
        ]
        .into_iter()
        .map(|(name, counter)| Gauge::new(name, counter.load(Ordering::Relaxed)))
        .collect();
        gauges.extend([
            Gauge::new("remembered_messages", count(messages)),
            Gauge::new("known_sessions", count(sessions)),
        ]);
        gauges
    }
}

/// Counts one; whether it is worth a line in the log: each power of two is, so that a flood of messages is none of lines (T63).
fn counted(counter: &AtomicU64) -> bool {
    (counter.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two()
}

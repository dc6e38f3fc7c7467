//! Options of [`Dedup`](super::Dedup).

use std::time::Duration;

use tribes_core::settings::{duration, number};

/// Options of [`Dedup`](super::Dedup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DedupConfig {
    /// For how long a message is remembered. From 1 s to 24 h. Default [`WINDOW`](Self::WINDOW).
    pub window: Duration,
    /// How many messages of one sender are remembered. From 16 to 1,048,576. Default [`MAX_ENTRIES`](Self::MAX_ENTRIES).
    pub max_entries: usize,
    /// How many messages are remembered in all, about 80 bytes each. When there are more, each sender has an equal share.
    /// From 1,024 to 16,777,216. Default [`MAX_TOTAL`](Self::MAX_TOTAL).
    pub max_total: usize,
    /// How many senders outside the group are remembered: such as have left, or never were in it. From 16 to 65,536. Default
    /// [`MAX_OUTSIDERS`](Self::MAX_OUTSIDERS).
    pub max_outsiders: usize,
}

impl DedupConfig {
    /// The default of [`window`](Self::window), 60 s.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// The default of [`max_entries`](Self::max_entries), 16,384.
    pub const MAX_ENTRIES: usize = 16_384;
    /// The default of [`max_total`](Self::max_total), 262,144.
    pub const MAX_TOTAL: usize = 262_144;
    /// The default of [`max_outsiders`](Self::max_outsiders), 1,024.
    pub const MAX_OUTSIDERS: usize = 1024;

    /// With messages remembered for so long.
    #[must_use]
    pub const fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// With so many messages of one sender remembered.
    #[must_use]
    pub const fn with_max_entries(mut self, messages: usize) -> Self {
        self.max_entries = messages;
        self
    }

    /// With so many messages remembered in all.
    #[must_use]
    pub const fn with_max_total(mut self, messages: usize) -> Self {
        self.max_total = messages;
        self
    }

    /// With so many senders outside the group remembered.
    #[must_use]
    pub const fn with_max_outsiders(mut self, members: usize) -> Self {
        self.max_outsiders = members;
        self
    }
}

impl Default for DedupConfig {
    fn default() -> Self {
        Self {
            window: Self::WINDOW,
            max_entries: Self::MAX_ENTRIES,
            max_total: Self::MAX_TOTAL,
            max_outsiders: Self::MAX_OUTSIDERS,
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

tribes_core::settings! { DedupConfig {
    window: duration(Duration::from_secs(1)..=DAY), "For how long a message is remembered.";
    max_entries: number(16..=1 << 20), "How many messages of one sender are remembered.";
    max_total: number(1024..=1 << 24), "How many messages are remembered in all, about 80 bytes each.";
    max_outsiders: number(16..=65_536), "How many senders outside the group are remembered.";
} }

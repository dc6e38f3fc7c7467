//! What a store counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How the state came when the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateResult {
    /// From other members, whole.
    Complete,
    /// There was nobody to have it from.
    Alone,
    /// Not all of it came in time.
    Timeout,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What happened so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)+
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Counts {
                Counts { $($name: self.$name.get(),)+ }
            }
        }
    };
}

counters! {
    /// Sessions made here.
    created,
    /// Loads of a session that was there.
    loaded,
    /// Loads of one that was not.
    missed,
    /// Saves that changed something.
    saved,
    /// Saves that changed nothing, and so sent nothing.
    unchanged,
    /// Sessions ended here by the application.
    invalidated,
    /// Sessions ended here because their time was over.
    timed_out,
    /// Sessions ended here by `kill_all`.
    killed,
    /// Sessions that this node served and that nobody holds any more.
    lost,
    /// Sessions that got a new id here.
    renamed,
    /// Writes of a field that did not know of each other, of which one is gone or waits to be settled.
    conflicts,
    /// Saves of a session that was over: it stayed over.
    resurrections_prevented,
    /// Saves that were refused since something was too large.
    refused,
    /// Writes that fewer had in time than was asked for.
    shortfalls,
    /// Requests of clients that belonged to another node, gone or not, and whose session was here.
    failovers,
    /// Requests that got an older state than the client had seen.
    stale_reads,
    /// Requests that waited for a newer state, or fetched it.
    waited_reads,
    /// Sessions that were fetched from another member because this one lacked a write.
    pulled,
    /// Messages about the use of sessions that were sent.
    touches_sent,
    /// And that came.
    touches_received,
}

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a store holds, and what has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Sessions that live, as far as this node knows: that it holds, or has served.
    pub sessions: usize,
    /// Sessions of these that this node is the owner of.
    pub owned: usize,
    /// How the state came when the store was opened, and how long that took; `None` while it is on its way.
    pub state: Option<(StateResult, Duration)>,
    /// How things stand with the backing, if there is one.
    pub backing: Option<crate::BackingStats>,
    /// What happened so far.
    pub counts: Counts,
}

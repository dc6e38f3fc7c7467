//! What a sender counts.

use std::sync::atomic::{AtomicU64, Ordering};

use tribes_core::{FaultKind, Gauge};

macro_rules! counters {
    ($($(#[$doc:meta])* $count:ident => $name:ident),* $(,)?) => {
        /// Counters of one sender; they outlast stop and start.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $($name: AtomicU64,)*
        }

        impl Counters {
            $($(#[$doc])* pub(super) fn $count(&self) {
                self.$name.fetch_add(1, Ordering::Relaxed);
            })*

            pub(super) fn gauges(&self) -> Vec<Gauge> {
                vec![$(Gauge::new(stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// A message was accepted for a member.
    accepted => accepted_total,
    /// A connection was made.
    connected => connected_total,
    /// A connection could not be made.
    connect_failed => connect_failed_total,
    /// A connection was closed by the peer or the network.
    lost => connections_lost_total,
    /// A member was probed.
    probed => probes_total,
    /// A message failed for want of progress.
    timed_out => failed_timeout_total,
    /// A message was refused by the receiver.
    refused => failed_remote_total,
    /// A message failed because its member was replaced or left.
    gone => failed_gone_total,
    /// A message failed in another way.
    broken => failed_connection_total,
}

impl Counters {
    /// A message failed.
    pub(super) fn failed(&self, kind: &FaultKind) {
        match kind {
            FaultKind::Timeout(_) | FaultKind::AckTimeout(_) => self.timed_out(),
            FaultKind::RemoteFailure(_) => self.refused(),
            FaultKind::Replaced(_) | FaultKind::Left => self.gone(),
            _ => self.broken(),
        }
    }
}

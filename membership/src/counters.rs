//! Figures of a service, read while its driver works.

use std::sync::atomic::{AtomicU64, Ordering};

/// One figure.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A struct of counters; the names of its fields are those of the gauges.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// All figures of one service; the names are those of the gauges.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $($(#[$doc])* pub(super) $name: $crate::counters::Counter,)*
        }

        impl Counters {
            pub(super) fn gauges(&self) -> Vec<tribes_core::Gauge> {
                vec![$(tribes_core::Gauge::new(stringify!($name), self.$name.get()),)*]
            }
        }
    };
}
pub(crate) use counters;

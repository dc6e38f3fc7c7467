//! Room in a receiver's memory.

use std::fmt;
use std::sync::Arc;

/// Takes room back; implemented by receivers.
pub trait LeasePool: Send + Sync + 'static {
    /// A lease of this amount has ended. What the number means is the pool's own affair.
    fn give_back(&self, amount: u64);
}

/// Room in a receiver's memory for as long as a received message is kept. Dropping it gives the room back.
///
/// The receiver stops reading from a connection whose room is used up. A layer that keeps a message until *another one of
/// the same connection* comes must therefore not keep its lease: it drops it and bounds what it keeps by itself.
#[derive(Debug, Default)]
pub struct Lease(Held);

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Share(Share),
    Guard(#[allow(dead_code, reason = "held until dropped")] Box<dyn Send + Sync>),
    Several(Vec<Lease>),
}

/// An amount of a pool.
struct Share {
    pool: Arc<dyn LeasePool>,
    amount: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.give_back(self.amount);
    }
}

impl Lease {
    /// Room that costs nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(Held::Nothing)
    }

    /// Room that is given back by dropping `guard`, such as permits of a semaphore.
    #[must_use]
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Held::Guard(Box::new(guard)))
    }

    /// An amount taken from `pool`: no allocation for each message.
    #[must_use]
    pub const fn of(pool: Arc<dyn LeasePool>, amount: u64) -> Self {
        Self(Held::Share(Share { pool, amount }))
    }

    /// Adds the room of `other`, as when pieces are joined.
    pub fn join(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (_, Held::Nothing) => {}
            (Held::Several(leases), other) => leases.push(Self(other)),
            (held, other) => {
                let first = std::mem::take(held);
                *held = Held::Several(vec![Self(first), Self(other)]);
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Share(share) => write!(f, "Share({})", share.amount),
            Self::Guard(_) => f.write_str("Guard"),
            Self::Several(leases) => f.debug_list().entries(leases).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Pool(AtomicU64);

    impl LeasePool for Pool {
        fn give_back(&self, amount: u64) {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    #[test]
    fn joined_leases_give_everything_back() {
        let pool = Arc::new(Pool::default());
        let lease = |amount| Lease::of(Arc::clone(&pool) as Arc<dyn LeasePool>, amount);
        let guard = Arc::new(());
        let mut joined = Lease::none();
        for amount in [1, 2, 3] {
            joined.join(lease(amount));
        }
        joined.join(Lease::new(Arc::clone(&guard)));
        joined.join(Lease::none());
        assert_eq!((pool.0.load(Ordering::Relaxed), Arc::strong_count(&guard)), (0, 2));
        drop(joined);
        assert_eq!((pool.0.load(Ordering::Relaxed), Arc::strong_count(&guard)), (6, 1));
    }
}

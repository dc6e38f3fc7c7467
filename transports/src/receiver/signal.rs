//! Orders from outside to a running connection.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::sync::Notify;

/// What a connection is told to do. A higher order replaces a lower one, never the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Go on.
    Run,
    /// Read no more; answer what has been taken.
    Stop,
    /// End: another connection continues the session.
    Superseded,
    /// End: it has to make room.
    Evicted,
    /// End: its answers cannot be written.
    WriteFailed,
}

impl Order {
    const ALL: [Self; 5] = [Self::Run, Self::Stop, Self::Superseded, Self::Evicted, Self::WriteFailed];
}

/// The handle to a running connection.
#[derive(Debug, Default)]
pub(super) struct Signal {
    order: AtomicU8,
    identified: AtomicBool,
    changed: Notify,
}

impl Signal {
    pub(super) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(super) fn order(&self) -> Order {
        Order::ALL.get(usize::from(self.order.load(Ordering::Acquire))).copied().unwrap_or(Order::WriteFailed)
    }

    /// Waits for an order of at least `least`. Cancel safe.
    pub(super) async fn at_least(&self, least: Order) -> Order {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let order = self.order();
            if order >= least {
                return order;
            }
            changed.await;
        }
    }

    pub(super) fn is_identified(&self) -> bool {
        self.identified.load(Ordering::Acquire)
    }

    pub(super) fn set_identified(&self, identified: bool) {
        if self.identified.swap(identified, Ordering::AcqRel) != identified {
            self.changed.notify_waiters();
        }
    }

    /// Waits until [`is_identified`](Self::is_identified) differs from `now`. Cancel safe.
    pub(super) async fn standing_changed(&self, now: bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_identified() != now {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn orders_only_rise_and_wake() {
        let signal = Arc::new(Signal::default());
        let waiter = crate::testing::spawn({
            let signal = Arc::clone(&signal);
            async move { signal.at_least(Order::Superseded).await }
        });
        tokio::task::yield_now().await;
        signal.give(Order::Stop);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        signal.give(Order::Evicted);
        assert_eq!(waiter.await.unwrap(), Order::Evicted);
        signal.give(Order::Superseded);
        assert_eq!(signal.order(), Order::Evicted);
        for order in Order::ALL {
            assert_eq!(Order::ALL[order as usize], order);
        }
    }
}

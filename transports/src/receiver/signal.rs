//! Orders from outside to a running connection.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

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
}

impl Order {
    const ALL: [Self; 4] = [Self::Run, Self::Stop, Self::Superseded, Self::Evicted];
}

/// Wakes the task of one connection, whatever has happened.
#[derive(Debug, Default)]
pub(super) struct Bell(Mutex<Option<Waker>>);

impl Bell {
    /// From now on [`ring`](Self::ring) wakes this task, once. To be called before looking whether there is anything to do.
    pub(super) fn arm(&self, waker: &Waker) {
        let mut armed = self.waker();
        if !armed.as_ref().is_some_and(|armed| armed.will_wake(waker)) {
            *armed = Some(waker.clone());
        }
    }

    /// The task is awake: what it does itself need not wake it.
    pub(super) fn disarm(&self) {
        *self.waker() = None;
    }

    pub(super) fn ring(&self) {
        let armed = self.waker().take();
        armed.inspect(Waker::wake_by_ref);
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle to a running connection.
#[derive(Debug, Default)]
pub(super) struct Signal {
    order: AtomicU8,
    identified: AtomicBool,
    /// For the connection's own task.
    bell: Arc<Bell>,
    /// For all others.
    changed: Notify,
}

impl Signal {
    pub(super) const fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(super) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.bell.ring();
        self.changed.notify_waiters();
    }

    pub(super) fn order(&self) -> Order {
        Order::ALL.get(usize::from(self.order.load(Ordering::Acquire))).copied().unwrap_or(Order::Evicted)
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
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
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

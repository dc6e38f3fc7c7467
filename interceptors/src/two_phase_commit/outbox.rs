//! What this layer sends on its own account: a line for each member, so that a slow one delays no other, and everything for
//! one member goes in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tribes_core::{Env, FaultKind, Link, Member, Outbound, Time};

/// The most that wait for one member; a member that takes nothing hears no more.
const MAX_WAITING: usize = 16_384;

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Lines that a task serves.
    lines: Mutex<BTreeMap<Arc<Member>, VecDeque<Outbound>>>,
    /// Told when a line has been served.
    idle: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<Member>, VecDeque<Outbound>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `out`, which is for `to` alone; gives it back if too much waits for that member. Never waits, and calls nobody.
    pub(super) fn push(self: &Arc<Self>, link: &Link, to: &Arc<Member>, out: Outbound) -> Option<Outbound> {
        let mut lines = self.lock();
        if let Some(line) = lines.get_mut(to) {
            if line.len() < MAX_WAITING {
                line.push_back(out);
                return None;
            }
            return Some(out);
        }
        lines.insert(Arc::clone(to), VecDeque::from([out]));
        drop(lines);
        let server = Server { outbox: Arc::clone(self), to: Arc::clone(to), link: link.clone(), ended: false };
        link.spawn(server.run());
        None
    }

    /// Waits until everything has been sent, until `deadline`; what is left fails.
    pub(super) async fn drain(&self, env: &Env, deadline: Time) {
        let drained = async {
            loop {
                let idle = self.idle.notified();
                tokio::pin!(idle);
                idle.as_mut().enable();
                if self.lock().is_empty() {
                    return;
                }
                idle.await;
            }
        };
        env.until(deadline, drained).await;
        let left = std::mem::take(&mut *self.lock());
        left.into_values().flatten().for_each(|out| out.fail(&FaultKind::Stopped));
    }
}

/// The task of one line.
struct Server {
    outbox: Arc<Outbox>,
    to: Arc<Member>,
    link: Link,
    /// Another may serve by now.
    ended: bool,
}

impl Server {
    async fn run(mut self) {
        loop {
            let next = self.outbox.lock().get_mut(&self.to).and_then(VecDeque::pop_front);
            let Some(out) = next else {
                self.ended = true;
                return;
            };
            if let Err(error) = self.link.send(out).await {
                tracing::debug!(to = %self.to, %error, "a layer below refused a frame of two-phase-commit");
            }
            let mut lines = self.outbox.lock();
            if lines.get(&self.to).is_some_and(VecDeque::is_empty) {
                lines.remove(&self.to);
                drop(lines);
                self.ended = true;
                return;
            }
        }
    }
}

impl Drop for Server {
    /// However the task ended, no line is left that nobody serves.
    fn drop(&mut self) {
        if !self.ended {
            let left = self.outbox.lock().remove(&self.to);
            left.into_iter().flatten().for_each(|out| out.fail(&FaultKind::Stopped));
        }
        self.outbox.idle.notify_waiters();
    }
}

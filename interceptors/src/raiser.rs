//! Membership events that a layer raises itself, in the order in which it decided on them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tribes_core::{Link, MemberEvent};

/// Events decided and not yet told above. [`push`](Self::push) them under the lock under which they were decided, so that
/// they have its order, and [`flush`](Self::flush) without it: no lock is held while the stack is called. Holds what is
/// between the two, at most one event for each member that the decision was about.
#[derive(Debug, Default)]
pub(crate) struct Raiser(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<MemberEvent>,
    /// Somebody tells them. One caller at a time does it, for all.
    busy: bool,
}

impl Raiser {
    pub(crate) fn push(&self, event: MemberEvent) {
        self.lock().events.push_back(event);
    }

    /// Tells the layers above `link`'s place, or leaves that to the caller who is at it.
    pub(crate) fn flush(&self, link: &Link) {
        loop {
            let mut waiting = self.lock();
            if waiting.busy {
                return;
            }
            let Some(event) = waiting.events.pop_front() else { return };
            waiting.busy = true;
            drop(waiting);
            link.member_event(event);
            self.lock().busy = false;
        }
    }

    pub(crate) fn clear(&self) {
        self.lock().events.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

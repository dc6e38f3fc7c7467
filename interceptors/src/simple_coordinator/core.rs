//! Who is there, and since when nothing has changed, without I/O.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, MemberEvent, Time};

use crate::leadership::Leadership;

/// See the [module](self). One entry for each member announced from below.
#[derive(Debug, Default)]
pub(super) struct Core {
    settle: Duration,
    local: Option<Arc<Member>>,
    members: BTreeSet<Arc<Member>>,
    view: Arc<[Arc<Member>]>,
    /// When the view is taken over, unless something changes until then.
    due: Option<Time>,
}

impl Core {
    pub(super) fn new(settle: Duration) -> Self {
        Self { settle, ..Self::default() }
    }

    pub(super) fn start(&mut self, local: Arc<Member>, now: Time) {
        self.local = Some(local);
        self.due = Some(now + self.settle);
    }

    pub(super) fn stop(&mut self) {
        *self = Self::new(self.settle);
    }

    pub(super) fn event(&mut self, event: &MemberEvent, now: Time) {
        let changed = match event {
            MemberEvent::Added(member) => self.members.replace(Arc::clone(member)).is_none(),
            MemberEvent::Updated(member) => {
                if self.members.contains(member) {
                    self.members.replace(Arc::clone(member));
                }
                false
            }
            MemberEvent::Removed(member, _) => self.members.remove(member),
            _ => false,
        };
        if changed && self.local.is_some() {
            self.due = Some(now + self.settle);
        }
    }

    pub(super) fn tick(&mut self, now: Time) {
        let Some(local) = self.local.as_ref().filter(|_| self.due.is_some_and(|due| due <= now)) else { return };
        self.due = None;
        let mut view: Vec<_> = self.members.iter().chain([local]).cloned().collect();
        view.sort_unstable();
        view.dedup();
        self.view = view.into();
    }

    pub(super) fn deadline(&self) -> Time {
        self.due.unwrap_or(Time::NEVER)
    }

    pub(super) fn leadership(&self) -> Leadership {
        let there = |member: &&Arc<Member>| Some(*member) == self.local.as_ref() || self.members.contains(*member);
        let coordinator = self.view.first().filter(there).cloned();
        let is_local = coordinator.is_some() && coordinator == self.local;
        Leadership { coordinator, is_local, view: Arc::clone(&self.view), term: None }
    }
}

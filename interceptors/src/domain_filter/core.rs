//! Who belongs to the domain, without I/O: events from below go in, events for above come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribes_core::{Departure, Member, MemberEvent};

/// See the [module](self). Holds one record for each member that the service below knows; that bounds them.
#[derive(Debug, Default)]
pub(super) struct Core {
    domain: Vec<u8>,
    members: BTreeMap<Arc<Member>, Known>,
}

#[derive(Debug)]
struct Known {
    /// The newest record.
    record: Arc<Member>,
    /// Whether the layers above know of it.
    shown: bool,
}

impl Core {
    /// What is to be told above instead of `event`.
    pub(super) fn event(&mut self, event: &MemberEvent) -> Option<MemberEvent> {
        match event {
            MemberEvent::Added(member) | MemberEvent::Updated(member) => {
                let shown = member.domain() == &self.domain;
                let known = Known { record: Arc::clone(member), shown };
                let before = self.members.insert(Arc::clone(member), known).is_some_and(|before| before.shown);
                if before && shown { Some(event.clone()) } else { change(member, before, shown) }
            }
            MemberEvent::Removed(member, _) => {
                self.members.remove(member).filter(|known| known.shown).map(|_| event.clone())
            }
            other => self.members.get(other.member()).filter(|known| known.shown).map(|_| event.clone()),
        }
    }

    /// Another domain counts from now on; what is to be told above.
    pub(super) fn set_domain(&mut self, domain: &[u8]) -> Vec<MemberEvent> {
        domain.clone_into(&mut self.domain);
        let mut events = Vec::new();
        for known in self.members.values_mut() {
            let shown = known.record.domain() == &self.domain;
            let before = std::mem::replace(&mut known.shown, shown);
            events.extend(change(&known.record, before, shown));
        }
        events
    }

    pub(super) fn domain(&self) -> &[u8] {
        &self.domain
    }

    /// Forgets everybody.
    pub(super) fn clear(&mut self) {
        self.members.clear();
    }

    /// How many members are shown, and how many hidden.
    pub(super) fn census(&self) -> (usize, usize) {
        let shown = self.members.values().filter(|known| known.shown).count();
        (shown, self.members.len() - shown)
    }
}

/// How somebody comes into the sight of those above, or goes out of it.
fn change(member: &Arc<Member>, before: bool, shown: bool) -> Option<MemberEvent> {
    match (before, shown) {
        (false, true) => Some(MemberEvent::Added(Arc::clone(member))),
        (true, false) => Some(MemberEvent::Removed(Arc::clone(member), Departure::Excluded)),
        _ => None,
    }
}

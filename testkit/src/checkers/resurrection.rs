//! The dead stay dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tribes_core::{Member, MemberEvent};

use super::{Violations, report};

/// A process that crashed, once an observer has removed it, is never added again there. (A restarted process is another
/// member, with an id of its own.)
#[derive(Clone, Debug, Default)]
pub struct NoResurrection {
    dead: BTreeSet<Arc<Member>>,
    removed: BTreeMap<String, BTreeSet<Arc<Member>>>,
    events: usize,
    violations: Vec<String>,
}

impl NoResurrection {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The process behind `member` has crashed.
    pub fn crashed(&mut self, member: &Arc<Member>) {
        self.dead.insert(Arc::clone(member));
    }

    /// `observer` saw `event`.
    pub fn event(&mut self, observer: &str, event: &MemberEvent) {
        self.events += 1;
        match event {
            MemberEvent::Removed(member, _) => {
                self.removed.entry(observer.to_owned()).or_default().insert(Arc::clone(member));
            }
            MemberEvent::Added(member) => {
                let removed = self.removed.get(observer).is_some_and(|removed| removed.contains(member));
                if removed && self.dead.contains(member) {
                    self.violations
                        .push(format!("{observer} removed {member:?}, which has crashed, and added it again"));
                }
            }
            _ => {}
        }
    }

    /// How many events were checked, if all was well.
    ///
    /// # Errors
    /// Everything that was not.
    pub fn finish(self) -> Result<usize, Violations> {
        report("no resurrection", self.events, self.violations)
    }
}

#[cfg(test)]
mod tests {
    use tribes_core::Departure;

    use super::*;
    use crate::member;

    #[test]
    fn only_the_dead_must_stay_away() {
        let mut checker = NoResurrection::new();
        let (added, removed) = (MemberEvent::Added(member(1)), MemberEvent::Removed(member(1), Departure::Expired));
        for event in [&added, &removed, &added, &removed] {
            checker.event("a", event);
        }
        checker.crashed(&member(1));
        checker.event("b", &added);
        assert_eq!(checker.clone().finish(), Ok(5));
        checker.event("a", &added);
        assert_eq!(checker.finish().unwrap_err().violations.len(), 1);
    }
}

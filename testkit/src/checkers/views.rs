//! Views converge.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribes_core::{Channel, Member, View};

use super::{Violations, report};

/// In the end, everybody who is there sees everybody else who is there, and nobody else.
#[derive(Clone, Debug, Default)]
pub struct ViewsConverge {
    views: BTreeMap<Arc<Member>, Arc<View>>,
}

impl ViewsConverge {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `member` sees `view` now; only its last view counts.
    pub fn view(&mut self, member: &Arc<Member>, view: &Arc<View>) {
        self.views.insert(Arc::clone(member), Arc::clone(view));
    }

    /// What `channel` sees now.
    pub fn channel(&mut self, channel: &Channel) {
        self.view(&channel.local(), &channel.view());
    }

    /// `member` is not there any more: nobody should see it, and what it saw does not count.
    pub fn gone(&mut self, member: &Arc<Member>) {
        self.views.remove(member);
    }

    /// How many members there are, if all was well.
    ///
    /// # Errors
    /// Who sees somebody too many or too few.
    pub fn finish(self) -> Result<usize, Violations> {
        let mut violations = Vec::new();
        for (observer, view) in &self.views {
            let missing = self.views.keys().filter(|member| *member != observer && !view.contains(member));
            violations.extend(missing.map(|member| format!("{observer} does not see {member:?}")));
            let extra = view.members().iter().filter(|member| !self.views.contains_key(*member) || *member == observer);
            violations.extend(extra.map(|member| format!("{observer} sees {member:?}, which is not there")));
        }
        report("views converge", self.views.len(), violations)
    }
}

#[cfg(test)]
mod tests {
    use tribes_core::MemberEvent;

    use super::*;
    use crate::member;

    fn view(numbers: &[u16]) -> Arc<View> {
        let added = |view: View, number: &u16| view.apply(&MemberEvent::Added(member(*number))).unwrap();
        Arc::new(numbers.iter().fold(View::default(), added))
    }

    #[test]
    fn too_many_and_too_few() {
        let mut checker = ViewsConverge::new();
        checker.view(&member(1), &view(&[2, 3]));
        checker.view(&member(2), &view(&[1]));
        checker.view(&member(3), &view(&[1, 2]));
        assert_eq!(checker.clone().finish().unwrap_err().violations.len(), 1);
        checker.gone(&member(3));
        assert!(checker.clone().finish().unwrap_err().violations[0].ends_with("which is not there"));
        checker.view(&member(1), &view(&[2]));
        assert_eq!(checker.finish(), Ok(2));
    }
}

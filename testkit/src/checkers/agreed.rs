//! Members of a side agree on their views.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::{Violations, report};

/// Views with the same id are equal wherever they are installed; the ids that one process installs grow; a process is in each view
/// that it installs; the leader of a view is in it; and in the end all who should be together are in one view.
///
/// `V` names views, with an order; `N` names processes, so a restarted one has another name.
///
/// ```
/// use tribes_testkit::checkers::ViewsAgree;
///
/// let mut checker = ViewsAgree::new();
/// checker.installed("a", 1, ["a", "b"], "a");
/// checker.installed("b", 1, ["a", "b", "c"], "a");
/// checker.together(["a", "b"]);
/// // They are in one view, and do not agree on who is in it.
/// assert_eq!(checker.finish().unwrap_err().violations.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct ViewsAgree<V, N> {
    views: BTreeMap<V, (BTreeSet<N>, N)>,
    last: BTreeMap<N, V>,
    checked: usize,
    violations: Vec<String>,
}

impl<V: Ord + Clone + Debug, N: Ord + Clone + Debug> Default for ViewsAgree<V, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Ord + Clone + Debug, N: Ord + Clone + Debug> ViewsAgree<V, N> {
    /// A checker that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { views: BTreeMap::new(), last: BTreeMap::new(), checked: 0, violations: Vec::new() }
    }

    /// `process` installed this view.
    pub fn installed(&mut self, process: N, view: V, members: impl IntoIterator<Item = N>, leader: N) {
        self.checked += 1;
        let members: BTreeSet<_> = members.into_iter().collect();
        if !members.contains(&process) {
            self.violations.push(format!("{process:?} installed {view:?}, which it is not in: {members:?}"));
        }
        if !members.contains(&leader) {
            self.violations.push(format!("{leader:?} leads {view:?} and is not in it: {members:?}"));
        }
        if let Some(last) = self.last.insert(process.clone(), view.clone()).filter(|last| *last >= view) {
            self.violations.push(format!("{process:?} installed {view:?} after {last:?}"));
        }
        let installed = (members, leader);
        let known = self.views.entry(view.clone()).or_insert_with(|| installed.clone());
        if *known != installed {
            self.violations.push(format!("{view:?} is {installed:?} at {process:?}, and {known:?} elsewhere"));
        }
    }

    /// Now these, and nobody else, should be in one view.
    pub fn together(&mut self, processes: impl IntoIterator<Item = N>) {
        let processes: BTreeSet<_> = processes.into_iter().collect();
        self.checked += processes.len();
        for process in &processes {
            let found = self.last.get(process).and_then(|view| Some((view, &self.views.get(view)?.0)));
            if found.is_none_or(|(_, members)| *members != processes) {
                self.violations.push(format!("{process:?} should be in a view of {processes:?}, and is in {found:?}"));
            }
        }
    }

    /// How many views were checked, if all was well.
    ///
    /// # Errors
    /// Everything that was not.
    pub fn finish(self) -> Result<usize, Violations> {
        report("views agree", self.checked, self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(installed: &[(char, u64, &str, char)], together: &str) -> Vec<String> {
        let mut checker = ViewsAgree::new();
        for (process, view, members, leader) in installed {
            checker.installed(*process, *view, members.chars(), *leader);
        }
        checker.together(together.chars());
        checker.finish().map_or_else(|violations| violations.violations, |_| Vec::new())
    }

    #[test]
    fn each_violation_is_found() {
        assert!(run(&[('a', 1, "ab", 'a'), ('b', 1, "ab", 'a')], "ab").is_empty());
        for (installed, text) in [
            (&[('a', 1, "ab", 'a'), ('b', 1, "ab", 'b')][..], "1 is ({'a', 'b'}, 'b') at 'b', and"),
            (&[('a', 1, "ab", 'a'), ('b', 1, "abc", 'a')], "1 is ({'a', 'b', 'c'}, 'a') at 'b', and"),
            (&[('a', 2, "ab", 'a'), ('a', 1, "a", 'a')], "'a' installed 1 after 2"),
            (&[('a', 2, "ab", 'a'), ('a', 2, "ab", 'a')], "'a' installed 2 after 2"),
            (&[('c', 1, "ab", 'a')], "'c' installed 1, which it is not in"),
            (&[('a', 1, "ab", 'c')], "'c' leads 1 and is not in it"),
        ] {
            let found = run(installed, "");
            assert!(found.len() == 1 && found[0].starts_with(text), "{found:?}");
        }
        assert_eq!(run(&[('a', 1, "ab", 'a')], "ab").len(), 1, "b never installed it");
        assert_eq!(run(&[('a', 1, "abc", 'a'), ('b', 1, "abc", 'a')], "ab").len(), 2);
    }
}

//! One answer of each member for each call, in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::rpc::Answer;
use tribes_core::{Member, Time};

use super::{Violations, report};

/// Every call ends by its deadline with exactly one answer for each member asked and for nobody else; no handler is called twice
/// for a call, and no answer is made up: who is said to have replied, failed or declined was called.
///
/// Calls have numbers of the test's own, which travel with the requests, so that handlers can tell of them. Tell of a handler
/// before it answers.
#[derive(Clone, Debug)]
pub struct RpcOutcomes {
    slack: Duration,
    calls: BTreeMap<u64, Call>,
    handled: BTreeMap<u64, BTreeSet<Arc<Member>>>,
    violations: Vec<String>,
}

#[derive(Clone, Debug)]
struct Call {
    asked: BTreeSet<Arc<Member>>,
    deadline: Time,
    ended: bool,
}

impl RpcOutcomes {
    /// A checker that lets calls end so long after their deadline: timers are not exact.
    #[must_use]
    pub const fn new(slack: Duration) -> Self {
        Self { slack, calls: BTreeMap::new(), handled: BTreeMap::new(), violations: Vec::new() }
    }

    /// A call to these members begins.
    pub fn begun(&mut self, call: u64, asked: &[Arc<Member>], now: Time, within: Duration) {
        let asked = asked.iter().cloned().collect();
        if self.calls.insert(call, Call { asked, deadline: now + within, ended: false }).is_some() {
            self.violations.push(format!("call {call} began twice: the test gives numbers twice"));
        }
    }

    /// The handler of `by` was called for a call.
    pub fn handled(&mut self, call: u64, by: &Arc<Member>) {
        if !self.handled.entry(call).or_default().insert(Arc::clone(by)) {
            self.violations.push(format!("call {call}: {by} handled it twice"));
        }
    }

    /// A call ended with these answers.
    pub fn ended<'a, T: 'a>(
        &mut self,
        call: u64,
        now: Time,
        answers: impl IntoIterator<Item = &'a (Arc<Member>, Answer<T>)>,
    ) {
        let Some(known) = self.calls.get_mut(&call) else {
            return self.violations.push(format!("call {call} ended and never began"));
        };
        if std::mem::replace(&mut known.ended, true) {
            self.violations.push(format!("call {call} ended twice"));
        }
        if now > known.deadline + self.slack {
            let late = now - known.deadline;
            self.violations.push(format!("call {call} ended {late:?} after its deadline"));
        }
        let mut open = known.asked.clone();
        for (member, answer) in answers {
            if !open.remove(member) {
                let why = if known.asked.contains(member) { "has two answers" } else { "was not asked" };
                self.violations.push(format!("call {call}: {member} {why}"));
            }
            let was_called = self.handled.get(&call).is_some_and(|handled| handled.contains(member));
            let must_be = matches!(
                answer,
                Answer::Replied(_) | Answer::Mismatch(_) | Answer::Failed(_) | Answer::NoReply | Answer::NoRoom
            );
            if must_be && !was_called {
                self.violations.push(format!("call {call}: {member} answered, and its handler was not called"));
            }
        }
        for member in open {
            self.violations.push(format!("call {call}: {member} has no answer"));
        }
    }

    /// How many calls there were, if all was well.
    ///
    /// # Errors
    /// Everything that was not.
    pub fn finish(mut self) -> Result<usize, Violations> {
        let open: Vec<_> = self.calls.iter().filter(|(_, call)| !call.ended).map(|(number, _)| *number).collect();
        self.violations.extend(open.iter().map(|call| format!("call {call} never ended")));
        report("one answer of each", self.calls.len(), self.violations)
    }
}

#[cfg(test)]
mod tests {
    use tribes_core::rpc::Payload;

    use super::*;
    use crate::member;

    const SECOND: Duration = Duration::from_secs(1);

    fn begun() -> RpcOutcomes {
        let mut checker = RpcOutcomes::new(Duration::from_millis(1));
        checker.begun(1, &[member(1), member(2)], Time::ZERO, SECOND);
        checker
    }

    fn replied() -> Answer {
        Answer::Replied(Payload::null())
    }

    /// What it says of a run that goes on with `rest`.
    fn verdict(rest: impl FnOnce(&mut RpcOutcomes)) -> String {
        let mut checker = begun();
        rest(&mut checker);
        checker.finish().map_or_else(|violations| violations.violations.join("; "), |calls| format!("{calls} calls"))
    }

    #[test]
    fn what_is_right_is_right_and_each_wrong_is_noticed() {
        let right: [(_, Answer); 2] = [(member(1), replied()), (member(2), Answer::TimedOut)];
        let good = |checker: &mut RpcOutcomes| {
            checker.handled(1, &member(1));
            checker.ended(1, Time::ZERO + SECOND, &right);
        };
        assert_eq!(verdict(good), "1 calls");
        assert_eq!(verdict(|_| {}), "call 1 never ended");
        assert_eq!(
            verdict(|checker| {
                good(checker);
                checker.ended(1, Time::ZERO, &right);
            }),
            "call 1 ended twice"
        );
        assert!(
            verdict(|checker| {
                good(checker);
                checker.handled(1, &member(1));
            })
            .ends_with("handled it twice")
        );
        let ended = |answers: &[(Arc<Member>, Answer)], at: Time| {
            verdict(|checker| {
                checker.handled(1, &member(1));
                checker.ended(1, at, answers);
            })
        };
        assert!(ended(&right, Time::ZERO + 2 * SECOND).ends_with("after its deadline"));
        assert!(ended(&right[..1], Time::ZERO).ends_with("has no answer"));
        let twice = [right[0].clone(), right[0].clone(), right[1].clone()];
        assert!(ended(&twice, Time::ZERO).ends_with("has two answers"));
        let other = [right[0].clone(), right[1].clone(), (member(3), Answer::TimedOut)];
        assert!(ended(&other, Time::ZERO).ends_with("was not asked"));
        for made_up in [replied(), Answer::Failed("x".to_owned()), Answer::NoReply] {
            let made_up = [right[0].clone(), (member(2), made_up)];
            assert!(ended(&made_up, Time::ZERO).ends_with("its handler was not called"));
        }
        assert!(
            verdict(|checker| {
                good(checker);
                checker.ended::<Payload>(2, Time::ZERO, &[]);
            })
            .ends_with("never began")
        );
        assert!(
            verdict(|checker| {
                good(checker);
                checker.begun(1, &[], Time::ZERO, SECOND);
            })
            .contains("gives numbers twice")
        );
    }
}

//! One outcome for each message.

use std::collections::BTreeMap;

use tribes_core::{MessageId, Outcome};

use super::{Violations, report};

/// Every accepted message has exactly one outcome, whose numbers add up.
#[derive(Clone, Debug, Default)]
pub struct OutcomeOnce {
    messages: BTreeMap<MessageId, Seen>,
    violations: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    accepted: bool,
    outcomes: u32,
}

impl OutcomeOnce {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The channel accepted a message: `send_with` or `try_send` returned it.
    pub fn accepted(&mut self, id: &MessageId) {
        let seen = self.messages.entry(id.clone()).or_default();
        if std::mem::replace(&mut seen.accepted, true) {
            self.violations.push(format!("{id} was accepted twice: two messages have one id"));
        }
    }

    /// A message's outcome came. It may come before the channel has returned the message.
    pub fn outcome(&mut self, outcome: &Outcome) {
        let id = &outcome.id;
        let seen = self.messages.entry(id.clone()).or_default();
        seen.outcomes += 1;
        if seen.outcomes > 1 {
            self.violations.push(format!("{id} has {} outcomes", seen.outcomes));
        }
        if outcome.faults.len() + outcome.no_taker.len() > outcome.attempted {
            self.violations.push(format!("{id}: more results than its {} destinations", outcome.attempted));
        }
        for (at, fault) in outcome.faults.iter().enumerate() {
            if outcome.faults.iter().take(at).any(|earlier| earlier.member == fault.member) {
                self.violations.push(format!("{id}: {} failed twice", fault.member));
            }
        }
    }

    /// How many messages were accepted, if all was well.
    ///
    /// # Errors
    /// Everything that was not.
    pub fn finish(mut self) -> Result<usize, Violations> {
        for (id, seen) in &self.messages {
            if seen.accepted && seen.outcomes == 0 {
                self.violations.push(format!("{id} has no outcome"));
            }
            if !seen.accepted {
                self.violations.push(format!("{id} has an outcome and was never accepted"));
            }
        }
        report("one outcome each", self.messages.len(), self.violations)
    }
}

#[cfg(test)]
mod tests {
    use tribes_core::error::FaultKind;
    use tribes_core::{ChannelMessage, Outbound, SendOptions};

    use super::*;
    use crate::{Recorder, member};

    async fn outcome() -> Outcome {
        let message: ChannelMessage = Recorder::new().message(&member(1), "x", SendOptions::ACK);
        let (out, pending) = Outbound::new(message, &[member(2)]);
        out.fail(&FaultKind::Left);
        pending.await
    }

    #[tokio::test]
    async fn none_and_two_are_wrong() {
        let outcome = outcome().await;
        let mut checker = OutcomeOnce::new();
        checker.accepted(&outcome.id);
        assert!(checker.clone().finish().unwrap_err().violations[0].ends_with("has no outcome"));
        checker.outcome(&outcome);
        assert_eq!(checker.clone().finish(), Ok(1));
        checker.outcome(&outcome);
        assert!(checker.finish().unwrap_err().violations[0].ends_with("has 2 outcomes"));
    }
}

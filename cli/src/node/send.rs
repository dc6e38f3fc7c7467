//! Carrying out a `send` command.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use tribes::{Channel, Fault, Member, MemberId, Outcome, Pending, SendError, To};

use super::commands::SendCommand;
use super::events::{Event, sha256};

/// Messages whose outcome may be open at the same time.
const OPEN: usize = 4096;
/// Different reasons that are told.
const REASONS: usize = 32;

/// A `to=` that names nobody.
#[derive(Debug, thiserror::Error)]
#[error("there is no member {0}")]
pub(crate) struct NoMember(MemberId);

/// Sends the messages one after another without waiting for the outcome of one before the next, and returns
/// [`Event::Sent`] when all outcomes are known.
pub(crate) async fn send(channel: &Channel, command: &SendCommand) -> Result<Event, NoMember> {
    let to = match &command.to {
        None => To::All,
        Some(ids) => named(channel, ids)?.into(),
    };
    let mut results = Results::default();
    let mut open: VecDeque<Pending> = VecDeque::new();
    let mut body = Bytes::new();
    for number in 0..command.count {
        if open.len() == OPEN
            && let Some(oldest) = open.pop_front()
        {
            results.add(&oldest.await);
        }
        body = command.payload.body(number, command.count > 1);
        match channel.send_with(to.clone(), body.clone(), command.options).await {
            Ok(pending) => open.push_back(pending),
            Err(error) => results.refused(&error),
        }
    }
    for pending in open {
        results.add(&pending.await);
    }
    Ok(Event::Sent { count: command.count, failed: results.failed, sha256: sha256(&body), why: results.why() })
}

pub(super) fn named(channel: &Channel, ids: &[MemberId]) -> Result<Vec<Arc<Member>>, NoMember> {
    let view = channel.view();
    ids.iter().map(|id| view.by_id(*id).cloned().ok_or(NoMember(*id))).collect()
}

/// The outcomes of one command so far.
#[derive(Debug, Default)]
struct Results {
    failed: u64,
    /// Each once, in the order of their first appearance.
    reasons: Vec<String>,
    more: bool,
}

impl Results {
    fn add(&mut self, outcome: &Outcome) {
        self.fail(&outcome.faults);
    }

    fn refused(&mut self, error: &SendError) {
        if error.faults().is_empty() {
            self.failed += 1;
            let mut text = error.to_string();
            if let Some(cause) = std::error::Error::source(error) {
                text = format!("{text}: {cause}");
            }
            self.reason(&text);
        } else {
            self.fail(error.faults());
        }
    }

    fn fail(&mut self, faults: &[Fault]) {
        if !faults.is_empty() {
            self.failed += 1;
        }
        for fault in faults {
            self.reason(&format_args!("{} ({}): {}", fault.member.id(), fault.member, fault.kind));
        }
    }

    fn reason(&mut self, text: &impl Display) {
        let text = text.to_string();
        if self.reasons.contains(&text) {
            return;
        }
        if self.reasons.len() == REASONS {
            self.more = true;
        } else {
            self.reasons.push(text);
        }
    }

    fn why(&self) -> String {
        let mut why = self.reasons.join("; ");
        if self.more {
            why.push_str("; …");
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use tribes::FaultKind;

    use super::*;

    #[test]
    fn a_message_fails_once_however_many_members_it_missed() {
        let fault = |port, kind| Fault::new(Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], port).into())), kind);
        let mut results = Results::default();
        results.fail(&[]);
        results.fail(&[fault(1, FaultKind::QueueFull), fault(2, FaultKind::Left)]);
        results.fail(&[fault(1, FaultKind::QueueFull)]);
        results.refused(&SendError::Full);
        assert_eq!(results.failed, 3);
        let why = results.why();
        assert_eq!(why.matches(&MemberId::ZERO.to_string()).count(), 2, "{why}");
        assert!(why.contains("127.0.0.1:1): the queue for this member is full; "), "{why}");
    }

    #[test]
    fn reasons_are_bounded() {
        let mut results = Results::default();
        for number in 0..REASONS + 5 {
            results.reason(&number);
        }
        assert_eq!(results.reasons.len(), REASONS);
        assert!(results.why().ends_with("31; …"), "{}", results.why());
    }
}

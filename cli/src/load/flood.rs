//! A flood: the next message as soon as the send of the last one returns.

use std::sync::Arc;

use super::clock;
use super::control::Control;
use super::payload::Kind;
use super::sending::{Numbers, Source, Tally};

/// One of the callers of a part.
pub(super) async fn call(source: Arc<Source>, numbers: Arc<Numbers>, control: Control, kind: Kind) -> Tally {
    let (mut tally, mut maker) = (Tally::default(), source.maker());
    let mut now = clock::monotonic_ns();
    while !control.has_advanced()
        && let Some(number) = numbers.take(now)
    {
        let sent = source.send(&mut maker, kind, number).await;
        // Also when it failed for some member: the others have it and count it.
        tally.messages += 1;
        tally.send.add(sent.ended_ns.saturating_sub(sent.begun_ns));
        if let Err(error) = sent.result {
            tally.fail(&error);
        }
        now = sent.ended_ns;
    }
    tally
}

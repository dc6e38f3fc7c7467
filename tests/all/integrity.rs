//! Tribes' `TestDataIntegrity`: twenty senders at once, and each message arrives as it was sent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "real tasks")]

use crate::common::{PATIENCE, node, node_with, number, within};
use tribes_core::{BudgetConfig, OverloadPolicy, SendOptions};
use tribes_transports::SenderConfig;

const TASKS: u64 = 20;
const EACH: u64 = 500;

/// A number, then bytes that follow from it: every tenth body up to 65,554 bytes, the others up to 4 KiB.
fn body(number: u64) -> Vec<u8> {
    let most = if number.is_multiple_of(10) { 65_554 } else { 4_096 };
    let len = usize::try_from(8 + number * 7_919 % (most - 7)).unwrap();
    let mut body = vec![number.to_be_bytes()[7] ^ 0x5A; len];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body
}

async fn twenty_at_once(options: SendOptions) {
    let budget = BudgetConfig::default().with_policy(OverloadPolicy::Wait(PATIENCE));
    let (sender, roster) = node_with(|builder| builder.budget(budget), SenderConfig::default()).await;
    let (receiver, _) = node().await;
    let mut messages = receiver.messages();
    let to = receiver.local();
    roster.add(&to);
    within("the member", sender.view_when(|view| view.len() == 1)).await;
    for task in 0..TASKS {
        let (sender, to) = (sender.clone(), to.clone());
        tokio::spawn(async move {
            for at in 0..EACH {
                sender.send(&to, body(task * EACH + at), options).await.unwrap();
            }
        });
    }
    let mut next: Vec<_> = (0..TASKS).map(|task| task * EACH).collect();
    for _ in 0..TASKS * EACH {
        let (message, _) = within("the message", messages.next()).await.unwrap();
        let number = number(message.bytes());
        assert!(message.bytes() == &body(number), "message {number} is damaged");
        let expected = &mut next[usize::try_from(number / EACH).unwrap()];
        assert_eq!(number, *expected, "each task's in order");
        *expected += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_tasks_without_acknowledgement() {
    twenty_at_once(SendOptions::NONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_tasks_asynchronously() {
    twenty_at_once(SendOptions::ASYNC).await;
}

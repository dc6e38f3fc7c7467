//! Each message exactly once and in order, under every guarantee, and over connections that are cut.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Proxy, group, node, number, numbered, via, within};
use tokio::sync::watch;
use tribes_core::{Channel, ListenerHandle, SendOptions, To};

/// Counts messages that come in order; the first that does not is kept as a fault.
struct InOrder {
    next: watch::Receiver<Result<u64, String>>,
    _handle: ListenerHandle,
}

impl InOrder {
    fn of(channel: &Channel) -> Self {
        let (state, next) = watch::channel(Ok(0));
        let expected = Arc::new(AtomicU64::new(0));
        let handle = channel.on_message(move |message, _| {
            let got = number(message.bytes());
            let wanted = expected.fetch_add(1, Ordering::Relaxed);
            let result = if got == wanted { Ok(wanted + 1) } else { Err(format!("got {got} instead of {wanted}")) };
            state.send_if_modified(|state| {
                let first_fault = state.is_ok();
                if first_fault {
                    *state = result;
                }
                first_fault
            });
            async { Ok(()) }
        });
        Self { next, _handle: handle }
    }

    async fn reaches(&mut self, count: u64) {
        let state =
            within("all messages", self.next.wait_for(|state| !matches!(state, Ok(seen) if *seen < count))).await;
        assert_eq!(*state.unwrap(), Ok(count));
    }
}

async fn hundred_thousand_to_three(options: SendOptions) {
    const COUNT: u64 = 100_000;
    let nodes = group(4).await;
    let mut receivers: Vec<_> = nodes[1..].iter().map(InOrder::of).collect();
    // One task; it keeps a window of outcomes open, as a program does that wants speed and certainty.
    let mut window = std::collections::VecDeque::new();
    for sent in 0..COUNT {
        window.push_back(nodes[0].send_with(To::All, numbered(sent, 64), options).await.unwrap());
        if window.len() >= 1024 {
            let outcome = window.pop_front().unwrap().await;
            assert!(outcome.is_complete(), "{:?}", outcome.faults);
        }
    }
    for pending in window {
        let outcome = within("an outcome", pending).await;
        assert!(outcome.is_complete(), "{:?}", outcome.faults);
    }
    for receiver in &mut receivers {
        receiver.reaches(COUNT).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_to_three() {
    hundred_thousand_to_three(SendOptions::NONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_to_three() {
    hundred_thousand_to_three(SendOptions::ACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_ack_to_three() {
    hundred_thousand_to_three(SendOptions::SYNC_ACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_to_three() {
    hundred_thousand_to_three(SendOptions::ASYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_ack_to_three() {
    hundred_thousand_to_three(SendOptions::ASYNC | SendOptions::ACK).await;
}

/// Options change from message to message; order holds across them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_options_keep_their_order() {
    const COUNT: u64 = 5_000;
    let nodes = group(2).await;
    let mut receiver = InOrder::of(&nodes[1]);
    let options = [SendOptions::ASYNC, SendOptions::NONE, SendOptions::ACK, SendOptions::ASYNC | SendOptions::SYNC_ACK];
    for sent in 0..COUNT {
        let options = options[usize::try_from(sent).unwrap() * 7 / 3 % options.len()];
        nodes[0].send(To::All, numbered(sent, 100), options).await.unwrap();
    }
    receiver.reaches(COUNT).await;
}

/// The connection, not the process, is cut again and again under messages in flight.
async fn cut_under_traffic(options: SendOptions) {
    const COUNT: u64 = 10_000;
    let (sender, roster) = node().await;
    let (receiver, _) = node().await;
    let proxy = Proxy::to(receiver.local().addr().unwrap()).await;
    let target = via(&receiver.local(), proxy.addr);
    roster.add(&target);
    within("the member", sender.view_when(|view| view.len() == 1)).await;
    let mut in_order = InOrder::of(&receiver);
    let mut pending = Vec::new();
    for sent in 0..COUNT {
        pending.push(sender.send_with(&target, numbered(sent, 200), options).await.unwrap());
        if sent % 1_000 == 500 {
            proxy.cut();
        }
    }
    for pending in pending {
        let outcome = within("an outcome", pending).await;
        assert!(outcome.is_complete(), "{:?}", outcome.faults);
    }
    in_order.reaches(COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_and_doubles_nothing_under_none() {
    cut_under_traffic(SendOptions::NONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_and_doubles_nothing_under_ack() {
    cut_under_traffic(SendOptions::ACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_and_doubles_nothing_under_sync_ack() {
    cut_under_traffic(SendOptions::SYNC_ACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_and_doubles_nothing_under_async() {
    cut_under_traffic(SendOptions::ASYNC).await;
}

//! Sender and receiver over TCP pass the suites of the test kit, over real sockets.

#![allow(clippy::panic, reason = "a test fails by a panic")]

use tribes_testkit::suite::{IoProfile, Site};
use tribes_transports::{PooledParallelSender, ReceiverConfig, SenderConfig, TcpReceiver};

fn sender(_: &Site) -> PooledParallelSender {
    PooledParallelSender::new(SenderConfig::default())
}

/// At any port that is free.
fn receiver(_: &Site) -> TcpReceiver {
    TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap_or_else(|error| panic!("{error}"))
}

fn profile() -> IoProfile {
    IoProfile::sockets().named("tcp")
}

tribes_testkit::sender_suite!(sender_suite, super::sender, super::receiver, super::profile());
tribes_testkit::receiver_suite!(receiver_suite, super::receiver, super::sender, super::profile());

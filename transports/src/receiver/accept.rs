//! Takes connections. Nothing that a peer or the operating system does ends it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::running::{Alive, Running};
use super::signal::{Order, Signal};

/// Pause after an error of `accept`: most are for want of something, such as file descriptors, that must come back first.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the receiver is stopped; the listener is closed then.
pub(super) async fn accept(running: Arc<Running>, listener: TcpListener, alive: Alive) {
    if !running.opened().await {
        return;
    }
    loop {
        let accepted = tokio::select! {
            biased;
            () = running.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => open(&running, stream, peer, &alive),
            Err(error) => failed(&running, &error).await,
        }
    }
}

fn open(running: &Arc<Running>, stream: TcpStream, peer: SocketAddr, alive: &Alive) {
    let shared = &running.shared;
    shared.counters.accepted_total.one();
    if let Err(error) = shared.config.socket.apply_to(&stream) {
        // The peer has gone already, or an option is not known here: neither is a reason to refuse it.
        tracing::debug!(%peer, %error, "socket options were not set");
    }
    let signal = Arc::new(Signal::default());
    let (no, evicted) = shared.census().enter(Arc::clone(&signal));
    if let Some(evicted) = evicted {
        evicted.give(Order::Evicted);
    }
    if running.is_stopped() {
        signal.give(Order::Stop);
    }
    let connection = Connection { running: Arc::clone(running), signal, no, peer };
    let alive = alive.clone();
    running.link.spawn(async move {
        connection.run(stream).await;
        drop(alive);
    });
}

async fn failed(running: &Running, error: &io::Error) {
    let shared = &running.shared;
    shared.counters.accept_errors_total.one();
    if let Some(suppressed) = shared.log_limit.pass(running.env().now()) {
        tracing::warn!(%error, suppressed, "a connection could not be accepted");
    }
    // Whoever has shown least gives its file descriptor.
    if let Some(oldest) = shared.census().evict_oldest() {
        oldest.give(Order::Evicted);
    }
    running.env().sleep(PAUSE).await;
}

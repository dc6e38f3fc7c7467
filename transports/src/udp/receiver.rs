//! Messages that come as datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, Semaphore};
use tribes_core::wire::{self, ACK_FRAME, FAIL_ACK_FRAME, Frame, FrameDecoder, Limits, SenderCache};
use tribes_core::{AckMode, ChannelMessage, Handled, Inbound, Lease, Link, Receipt, Route, Time};

use crate::receiver::{Counters, LogLimit};

/// Larger than any datagram.
const LARGEST: usize = 64 << 10;
/// Bytes that a message costs beside its datagram.
const OVERHEAD: usize = 256;
/// Pause after an error of the socket, so that a lasting one does not use a processor.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes datagrams in. Each is parsed on its own and counts only as a whole: one or several frames, each a message.
///
/// Nothing that comes ends it (T18). Messages beyond what may be unhandled are dropped and counted, as the network would.
#[derive(Debug)]
pub(crate) struct UdpReceiver {
    socket: Arc<UdpSocket>,
    link: Link,
    limits: Limits,
    room: Arc<Semaphore>,
    room_bytes: usize,
    counters: Arc<Counters>,
    log_limit: Arc<LogLimit>,
    awaited: Arc<Awaited>,
}

/// Answers that are still to come.
#[derive(Debug, Default)]
struct Awaited {
    count: AtomicUsize,
    none: Notify,
}

impl UdpReceiver {
    pub(crate) fn new(
        socket: UdpSocket,
        link: Link,
        limits: Limits,
        room_bytes: usize,
        counters: Arc<Counters>,
        log_limit: Arc<LogLimit>,
    ) -> Self {
        Self {
            socket: Arc::new(socket),
            link,
            limits,
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
            counters,
            log_limit,
            awaited: Arc::default(),
        }
    }

    /// Receives until `stopped`.
    pub(crate) async fn run(&self, stopped: impl Future<Output = ()>) {
        let mut buffer = vec![0; LARGEST];
        let mut senders = SenderCache::new();
        tokio::pin!(stopped);
        loop {
            let received = tokio::select! {
                biased;
                () = &mut stopped => return,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((count, source)) => {
                    self.counters.udp_datagrams_total.one();
                    let datagram = buffer.get(..count).unwrap_or_default();
                    self.datagram(datagram, source, &mut senders).await;
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// Lets answers that are still to come go out, until `deadline`; the socket is closed then.
    pub(crate) async fn finish(self, deadline: Time) {
        let answered = async {
            loop {
                let none = self.awaited.none.notified();
                tokio::pin!(none);
                none.as_mut().enable();
                if self.awaited.count.load(Ordering::Acquire) == 0 {
                    return;
                }
                none.await;
            }
        };
        let _ = self.link.env().until(deadline, answered).await;
    }

    async fn datagram(&self, datagram: &[u8], source: SocketAddr, senders: &mut SenderCache) {
        let Some(messages) = parse(datagram, &self.limits, senders) else {
            self.counters.udp_malformed_total.one();
            if let Some(suppressed) = self.log_limit.pass(self.link.env().now()) {
                tracing::warn!(%source, len = datagram.len(), suppressed, "a datagram is ignored: it is not made of messages");
            }
            return;
        };
        for message in messages {
            let bytes = (message.body.len() + OVERHEAD).min(self.room_bytes);
            let room = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
            let Ok(room) = room else {
                self.counters.udp_dropped_full_total.one();
                continue;
            };
            self.counters.udp_messages_total.one();
            let receipt = self.receipt(message.options.ack_mode(), source);
            let inbound = Inbound::new(message, receipt, Lease::new(vec![room]), Route::Datagram);
            if self.link.receive(inbound).await.is_err() {
                self.counters.refused_by_layers_total.one();
            }
        }
    }

    fn receipt(&self, mode: AckMode, source: SocketAddr) -> Receipt {
        match mode {
            AckMode::None => Receipt::none(),
            AckMode::Received => {
                answer(&self.socket, source, true, &self.counters);
                Receipt::none()
            }
            AckMode::Handled => {
                // The socket is not kept open by an answer that never comes.
                let socket: Weak<UdpSocket> = Arc::downgrade(&self.socket);
                let (counters, awaited) = (Arc::clone(&self.counters), Arc::clone(&self.awaited));
                awaited.count.fetch_add(1, Ordering::AcqRel);
                Receipt::new(move |handled: Handled| {
                    if let Some(socket) = socket.upgrade() {
                        answer(&socket, source, !matches!(handled, Handled::Failed(_)), &counters);
                    }
                    if awaited.count.fetch_sub(1, Ordering::AcqRel) == 1 {
                        awaited.none.notify_waiters();
                    }
                })
            }
        }
    }

    async fn failed(&self, error: &io::Error) {
        self.counters.udp_errors_total.one();
        // What an earlier answer met comes back as an error of the next receive; it says nothing about the socket.
        let echo = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset);
        if !echo {
            if let Some(suppressed) = self.log_limit.pass(self.link.env().now()) {
                tracing::warn!(%error, suppressed, "a datagram could not be received");
            }
            self.link.env().sleep(PAUSE).await;
        }
    }
}

/// The messages of a datagram; `None` unless it consists of them entirely.
fn parse(datagram: &[u8], limits: &Limits, senders: &mut SenderCache) -> Option<Vec<ChannelMessage>> {
    let mut decoder = FrameDecoder::new(*limits);
    decoder.extend(datagram);
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next().ok()? {
        let Frame::Data(contents) = frame else { return None };
        messages.push(wire::decode_message(&contents, limits, senders).ok()?);
    }
    if decoder.pending() > 0 || messages.is_empty() {
        return None;
    }
    if messages.len() > 1 {
        // None of several keeps the memory of all.
        for message in &mut messages {
            message.body = Bytes::copy_from_slice(&message.body.to_bytes()).into();
        }
    }
    Some(messages)
}

/// An acknowledgement is one datagram; like any it may get lost, so one that cannot leave now is dropped.
fn answer(socket: &UdpSocket, to: SocketAddr, positive: bool, counters: &Counters) {
    if socket.try_send_to(if positive { ACK_FRAME } else { FAIL_ACK_FRAME }, to).is_err() {
        counters.udp_answer_failed_total.one();
    }
}

//! Messages as single datagrams (`udp` option).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tribes_core::error::Unsupported;
use tribes_core::wire::{Frame, FrameDecoder, Limits};
use tribes_core::{
    AckMode, ChannelMessage, Completion, Delivery, Destination, FaultKind, Link, SendError, SendOptions,
};

/// Bytes of payload that fit a UDP datagram over IPv4.
pub(crate) const MAX_DATAGRAM: usize = 65_507;
/// Acknowledged datagrams under way at once; each has a socket of its own, because an acknowledgement carries no id.
const MAX_UNDER_WAY: usize = 256;

/// Sends each message as one datagram to each destination's UDP port, beside TCP and independent of it (T16).
///
/// Not ordered, may get lost; with `ack` a lost one is noticed, and is not sent again.
#[derive(Debug)]
pub(crate) struct UdpSender {
    link: Link,
    timeout: Duration,
    under_way: Arc<tokio::sync::Semaphore>,
}

impl UdpSender {
    pub(crate) fn new(link: Link, timeout: Duration) -> Self {
        Self { link, timeout, under_way: Arc::new(tokio::sync::Semaphore::new(MAX_UNDER_WAY)) }
    }

    /// Waits until no datagram is under way. Cancel safe.
    pub(crate) async fn drained(&self) {
        // Never closed; all turns are free when all have been given back.
        let all = u32::try_from(MAX_UNDER_WAY).unwrap_or(u32::MAX);
        drop(self.under_way.acquire_many(all).await);
    }

    /// Accepts a message: what cannot be sent as a datagram fails at once. Without an acknowledgement it leaves here and
    /// now; with one it waits for its turn, unless it may not wait.
    pub(crate) async fn send(
        &self,
        message: &ChannelMessage,
        datagram: &Bytes,
        to: Vec<Destination>,
        may_wait: bool,
    ) -> Result<(), SendError> {
        let size = datagram.len();
        if size > MAX_DATAGRAM {
            return Err(SendError::Unsupported(Unsupported::DatagramSize { size, max: MAX_DATAGRAM }));
        }
        for destination in to {
            let Some(addr) = destination.member().udp_addr() else {
                destination.completion.fail(FaultKind::Unsupported(Unsupported::Udp));
                continue;
            };
            if message.options.ack_mode() == AckMode::None {
                let sent = send_now(addr, datagram);
                destination
                    .completion
                    .resolve(sent.map(|()| Delivery::Sent).map_err(|error| FaultKind::Connect(error.to_string())));
                continue;
            }
            let mut reservation = destination.reservation;
            // Whoever sends asynchronously does not wait for the turn: with room, the message waits for it.
            let later = message.options.contains(SendOptions::ASYNCHRONOUS);
            if later && reservation.is_none() {
                let (budget, member) = (self.link.budget(), destination.completion.member());
                reservation = if may_wait { budget.admit(member, size).await } else { budget.try_admit(member, size) };
            }
            let turn = if later { None } else { self.turn(may_wait).await };
            let accepted = if later { reservation.is_some() } else { turn.is_some() };
            if !accepted {
                destination.completion.fail(FaultKind::QueueFull);
                continue;
            }
            let (env, timeout, ack, bytes) =
                (self.link.env().clone(), self.timeout, message.options.ack_mode(), datagram.clone());
            let turns = Arc::clone(&self.under_way);
            let completion = destination.completion;
            self.link.spawn(async move {
                let turn = match turn {
                    Some(turn) => Some(turn),
                    None => turns.acquire_owned().await.ok(),
                };
                let deadline = env.now() + timeout;
                let result = env.until(deadline, exchange(addr, &bytes, ack)).await;
                settle(completion, result, timeout);
                drop((turn, reservation));
            });
        }
        Ok(())
    }
}

impl UdpSender {
    /// A turn; the ones before end within their timeout, so that waiting for one does, too.
    async fn turn(&self, may_wait: bool) -> Option<OwnedSemaphorePermit> {
        let turns = Arc::clone(&self.under_way);
        if !may_wait {
            return turns.try_acquire_owned().ok();
        }
        let env = self.link.env();
        env.until(env.now() + self.timeout, turns.acquire_owned()).await?.ok()
    }
}

/// Hands one datagram to the operating system, which takes or refuses it at once.
fn send_now(addr: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let any: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.send_to(bytes, addr).map(drop)
}

fn settle(completion: Completion, result: Option<io::Result<Result<Delivery, FaultKind>>>, timeout: Duration) {
    completion.resolve(match result {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(FaultKind::Connect(error.to_string())),
        None => Err(FaultKind::AckTimeout(timeout)),
    });
}

async fn exchange(addr: SocketAddr, bytes: &[u8], ack: AckMode) -> io::Result<Result<Delivery, FaultKind>> {
    let any: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(addr).await?;
    socket.send(bytes).await?;
    if ack == AckMode::None {
        return Ok(Ok(Delivery::Sent));
    }
    let mut answer = [0; 64];
    loop {
        let len = socket.recv(&mut answer).await?;
        let mut decoder = FrameDecoder::new(Limits::default());
        decoder.extend(answer.get(..len).unwrap_or_default());
        // Anything that is no acknowledgement is not for us.
        match decoder.next() {
            Ok(Some(Frame::Ack)) if ack == AckMode::Handled => return Ok(Ok(Delivery::Handled)),
            Ok(Some(Frame::Ack)) => return Ok(Ok(Delivery::Acknowledged)),
            Ok(Some(Frame::FailAck)) => return Ok(Err(FaultKind::RemoteFailure(None))),
            _ => {}
        }
    }
}

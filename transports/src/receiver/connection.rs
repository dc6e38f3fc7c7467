//! One connection: how it is opened, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tribes_core::Time;
use tribes_core::wire::RefuseReason;

use super::line::Line;
use super::patience::Late;
use super::reader::Reader;
use super::running::Running;
use super::signal::{Order, Signal};
use super::violation::Violation;

/// Time for the last answers of a connection that ends against its peer's will.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Why a connection is no longer read from.
#[derive(Debug)]
pub(super) enum End {
    /// The peer has ended its side.
    Eof,
    /// The connection broke.
    Broken(io::Error),
    /// Its answers cannot be written.
    Unwritable(io::Error),
    /// It was told to.
    Told(Order),
    /// Something took too long.
    Late(Late),
    Violation(Violation),
    /// The hello is not welcome.
    Refused(RefuseReason),
    /// There are too many identified connections.
    NoRoom,
}

impl<E: Into<Violation>> From<E> for End {
    fn from(violation: E) -> Self {
        Self::Violation(violation.into())
    }
}

/// An accepted connection and its place in the census.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) running: Arc<Running>,
    pub(super) signal: Arc<Signal>,
    /// Its number.
    pub(super) no: u64,
    pub(super) peer: SocketAddr,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.running.shared.census().leave(self.no);
    }
}

impl Connection {
    /// Handles the connection until it ends, or the receiver's stop is due.
    pub(super) async fn run(self, stream: TcpStream) {
        let running = &self.running;
        let opened = running.env().now();
        let handshake =
            running.env().until(opened + running.shared.config.first_frame, running.shared.acceptor.accept(stream));
        let stream = tokio::select! {
            biased;
            order = self.signal.at_least(Order::Stop) => return self.log(&End::Told(order)),
            stream = handshake => match stream {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => return self.log(&End::Broken(error)),
                None => return self.log(&End::Late(Late::FirstFrame)),
            },
        };
        let mut reader = Reader::new(Line::new(&self, stream), opened);
        let end = reader.run().await;
        self.log(&end);
        let Some((limit, all)) = self.last_words(&end, reader.is_ours()) else { return };
        if !all {
            reader.release();
        }
        reader.line.outbox.finish(all);
        if reader.line.finish(limit).await {
            reader.line.linger(self.linger_limit(&end)).await;
        }
    }

    /// Until when answers may still go out, and whether those that are not known yet are waited for; `None` if nothing more
    /// is to be said.
    fn last_words(&self, end: &End, ours: bool) -> Option<(Time, bool)> {
        let now = self.running.env().now();
        match end {
            // Of our own nodes, the next connection gets the rest.
            End::Eof => Some((now + self.running.shared.config.write_timeout, !ours)),
            End::Told(Order::Stop) => Some((self.running.stop_deadline(), true)),
            End::Violation(_) | End::Refused(_) | End::Late(_) => Some((now + LAST_WORDS, false)),
            End::Told(_) | End::Broken(_) | End::Unwritable(_) | End::NoRoom => None,
        }
    }

    /// Until when what the peer still sends is read and dropped.
    fn linger_limit(&self, end: &End) -> Time {
        let now = self.running.env().now();
        match end {
            // A stop does not wait for its peers; what is there already is read.
            End::Eof | End::Told(_) => now,
            _ => now + LAST_WORDS,
        }
    }

    fn log(&self, end: &End) {
        let counters = &self.running.shared.counters;
        match end {
            End::Broken(error) => tracing::debug!(peer = %self.peer, %error, "a connection broke"),
            End::Unwritable(error) => {
                counters.write_failed_total.one();
                tracing::debug!(peer = %self.peer, %error, "answers cannot be written");
            }
            End::Eof | End::Told(Order::Run | Order::Stop) | End::Late(Late::Probe) => {}
            End::Told(Order::Superseded) => counters.superseded_total.one(),
            End::Told(Order::Evicted) => counters.evicted_total.one(),
            End::Late(Late::FirstFrame) => counters.late_first_frame_total.one(),
            End::Late(Late::HalfFrame) => counters.late_half_frame_total.one(),
            End::Late(Late::Idle) => counters.late_idle_total.one(),
            End::NoRoom => counters.closed_no_room_total.one(),
            End::Refused(reason) => match reason {
                RefuseReason::WrongMember { .. } => counters.refused_wrong_member_total.one(),
                RefuseReason::Stopping => counters.refused_stopping_total.one(),
                RefuseReason::Revision => counters.refused_revision_total.one(),
                _ => counters.refused_busy_total.one(),
            },
            End::Violation(violation) => {
                violation.count(counters).one();
                if let Some(suppressed) = self.running.shared.log_limit.pass(self.running.env().now()) {
                    tracing::warn!(peer = %self.peer, %violation, suppressed, "a connection is closed: its peer broke the protocol");
                }
            }
        }
        tracing::debug!(peer = %self.peer, no = self.no, ?end, "a connection is no longer read from");
    }
}

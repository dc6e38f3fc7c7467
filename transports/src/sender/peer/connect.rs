//! Making a member's connection: TCP, and between our own nodes the hello and its answer.

use std::io;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tribes_core::member::REVISION;
use tribes_core::wire::{Control, Frame, FrameDecoder, Limits, LinkKind, RefuseReason};
use tribes_core::{Member, MemberId, Time};

use super::Peer;
use crate::sender::Shared;
use crate::stream::ByteStream;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    Failed(String),
    /// It was there and broke before the hello was answered: that may be chance.
    Broken(String),
    Replaced(MemberId),
    Ordered,
}

impl Peer {
    /// Connects and, to a member of ours, says hello.
    pub(super) async fn connect(&self) -> Result<(Box<dyn ByteStream>, FrameDecoder), NoConnection> {
        let env = self.shared.env();
        let Some(addr) = self.member.addr() else {
            return Err(NoConnection::Failed(format!("{} is no address to connect to", self.member)));
        };
        let limit = env.now() + self.shared.config.connect_timeout;
        let mut stream = match env.until(limit, self.unless_closed(self.shared.connector.connect(addr))).await {
            Some(Some(Ok(stream))) => stream,
            // It was accepted, and cut before anybody looked: as one that is cut right after.
            Some(Some(Err(error))) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(NoConnection::Broken(error.to_string()));
            }
            Some(Some(Err(error))) => return Err(NoConnection::Failed(error.to_string())),
            Some(None) => return Err(NoConnection::Ordered),
            None => {
                return Err(NoConnection::Failed(format!(
                    "no connection within {:?}",
                    self.shared.config.connect_timeout
                )));
            }
        };
        let mut decoder = FrameDecoder::new(self.shared.answer_limits());
        let mut resolved = Vec::new();
        if self.member.id().is_ours() {
            let session = self.state().core.session();
            let limit = env.now() + self.shared.config.timeout;
            let hello = self.shared.hello(LinkKind::Data, &self.member, session);
            let answer =
                env.until(limit, self.unless_closed(greet(&mut *stream, &mut decoder, &hello, &self.shared))).await;
            let taken = match answer {
                Some(Some(Ok(Control::Welcome { own, taken, .. }))) if own == self.member.id() => taken,
                Some(Some(Ok(Control::Welcome { own, .. }))) => return Err(NoConnection::Replaced(own)),
                Some(Some(Ok(Control::Refused { reason: RefuseReason::WrongMember { own } }))) => {
                    return Err(NoConnection::Replaced(own));
                }
                Some(Some(Ok(other))) => {
                    return Err(NoConnection::Failed(unwanted(&other).to_owned()));
                }
                Some(Some(Err(error))) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(NoConnection::Failed(error.to_string()));
                }
                Some(Some(Err(error))) => return Err(NoConnection::Broken(error.to_string())),
                Some(None) => return Err(NoConnection::Ordered),
                None => {
                    return Err(NoConnection::Failed(format!(
                        "no answer to our hello within {:?}",
                        self.shared.config.timeout
                    )));
                }
            };
            self.state().core.connected(taken, env.now(), &mut resolved);
        } else {
            self.state().core.connected(None, env.now(), &mut resolved);
        }
        self.settle(&mut resolved);
        self.connected.store(true, Ordering::Release);
        self.unreachable.store(false, Ordering::Release);
        self.shared.counters.connected();
        Ok((stream, decoder))
    }

    /// Waits for `future`, failing what is due meanwhile; `None` once the owner wants the end.
    async fn unless_closed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        while !self.is_closing() {
            let due = self.look().core.deadline().unwrap_or(Time::NEVER);
            let step = async {
                tokio::select! {
                    biased;
                    done = future.as_mut() => Some(done),
                    () = self.wake.notified() => None,
                }
            };
            match self.shared.env().until(due, step).await {
                Some(Some(done)) => return Some(done),
                Some(None) => {}
                None => drop(self.expire()),
            }
        }
        None
    }
}

/// Why a member of ours does not take our connection.
const fn unwanted(answer: &Control) -> &'static str {
    match answer {
        Control::Refused { reason: RefuseReason::Stopping } => "it is stopping",
        Control::Refused { reason: RefuseReason::Busy } => {
            "it has no room for another connection; raise its `max_connections`"
        }
        Control::Refused { reason: RefuseReason::Revision } => "it does not speak this revision of the link protocol",
        _ => "it answered our hello with something else",
    }
}

/// Says `hello` on a fresh connection and waits for the answer. What comes behind the answer stays in `decoder`.
pub(in crate::sender) async fn greet(
    stream: &mut dyn ByteStream,
    decoder: &mut FrameDecoder,
    hello: &Control,
    shared: &Shared,
) -> io::Result<Control> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = BytesMut::new();
    hello.encode(&mut bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    loop {
        let invalid = |error: tribes_core::wire::WireError| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some(frame) = decoder.next().map_err(invalid)? {
            let Frame::Control(contents) = frame else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it answered a hello with something else"));
            };
            return Control::decode(&contents, &shared.config.limits).map_err(invalid);
        }
        if stream.read_buf(decoder.buffer_mut()).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
        }
    }
}

/// Contents of the largest data frame that a sender expects: an acknowledgement.
const MAX_ANSWER: usize = 64;

/// Our side of a hello.
impl Shared {
    /// What a peer may send on our connections: answers, which are small.
    pub(in crate::sender) const fn answer_limits(&self) -> Limits {
        self.config.limits.with_max_frame(MAX_ANSWER)
    }

    pub(in crate::sender) fn hello(&self, kind: LinkKind, to: &Member, session: u64) -> Control {
        Control::Hello {
            revision: REVISION,
            capabilities: 0,
            kind,
            own: Box::new(self.local.load().member.as_ref().clone()),
            expected: to.id(),
            session,
        }
    }
}

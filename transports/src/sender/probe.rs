//! Short conversations over connections of their own: asking whether a member is alive, and saying good-bye.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tribes_core::member::Member;
use tribes_core::wire::{Control, FrameDecoder, LinkKind, RefuseReason};
use tribes_core::{AckMode, ChannelMessage, ProbeResult, Time};

use super::{Shared, join_all, peer};
use crate::stream::ByteStream;

/// Longest time that a good-bye may take: leaving must not wait for a frozen peer.
const GOODBYE: Duration = Duration::from_millis(500);
/// Pause before a question is asked anew because its connection broke; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(128);

/// Asks `member` by `deadline`.
pub(super) async fn probe(
    shared: &Shared,
    member: &Arc<Member>,
    frame: Option<ChannelMessage>,
    deadline: Time,
) -> ProbeResult {
    let Some(addr) = member.addr() else { return ProbeResult::Unreachable };
    let conversation = async {
        if member.id().is_ours() {
            return ask_ours(shared, member, addr).await;
        }
        let stream = match shared.connector.connect(addr).await {
            Ok(stream) => stream,
            Err(error) => return refusal(&error),
        };
        match frame {
            Some(frame) => ask_other(shared, &frame, stream).await,
            None => ProbeResult::Connected,
        }
    };
    shared.env().until(deadline, conversation).await.unwrap_or(ProbeResult::TimedOut)
}

fn refusal(error: &io::Error) -> ProbeResult {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            ProbeResult::Refused
        }
        io::ErrorKind::TimedOut => ProbeResult::TimedOut,
        _ => ProbeResult::Unreachable,
    }
}

/// A member of ours answers a hello by itself, whatever its listeners do. A connection that breaks without a word says
/// nothing yet: whatever cut the others may have cut this one, too. So it is asked until it answers or time is up; a
/// process that died refuses the next connection.
async fn ask_ours(shared: &Shared, member: &Member, addr: SocketAddr) -> ProbeResult {
    let mut pause = FIRST_PAUSE;
    loop {
        match shared.connector.connect(addr).await {
            Ok(stream) => {
                if let Some(result) = ask_ours_once(shared, member, stream).await {
                    return result;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => return refusal(&error),
        }
        shared.env().sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// `None` if the connection broke without an answer.
async fn ask_ours_once(shared: &Shared, member: &Member, mut stream: Box<dyn ByteStream>) -> Option<ProbeResult> {
    let hello = shared.hello(LinkKind::Probe, member, 0);
    let mut decoder = FrameDecoder::new(shared.answer_limits());
    Some(match peer::greet(&mut *stream, &mut decoder, &hello, shared).await {
        Ok(Control::Welcome { own, .. }) if own == member.id() => ProbeResult::Answered,
        Ok(Control::Welcome { .. } | Control::Refused { reason: RefuseReason::WrongMember { .. } }) => {
            ProbeResult::Replaced
        }
        Ok(Control::Refused { reason: RefuseReason::Stopping }) => ProbeResult::Refused,
        // It is too busy for a connection, or speaks otherwise; yet it spoke.
        Ok(_) => ProbeResult::Answered,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => ProbeResult::Replaced,
        Err(_) => return None,
    })
}

/// Any other member gets the frame; any byte of an answer will do (Tribes: `performReadTest`).
async fn ask_other(shared: &Shared, frame: &ChannelMessage, mut stream: Box<dyn ByteStream>) -> ProbeResult {
    let Ok(frame_bytes) = shared.encode(frame) else { return ProbeResult::Connected };
    if let Err(error) = stream.write_all(&frame_bytes).await {
        return refusal(&error);
    }
    if frame.options.ack_mode() == AckMode::None {
        return ProbeResult::Connected;
    }
    match stream.read(&mut [0; 32]).await {
        Ok(0) => ProbeResult::Refused,
        Ok(_) => ProbeResult::Answered,
        Err(error) => refusal(&error),
    }
}

/// Tells those of `group` that are ours that this member leaves; to all at the same time. Others hear of it by the
/// membership service.
pub(super) async fn say_goodbye(shared: &Shared, group: &[Arc<Member>]) {
    // Said even if draining took all the time there was: it is short, and spares the peers a false alarm.
    let limit = shared.env().now() + GOODBYE;
    join_all(group.iter().filter(|member| member.id().is_ours()).map(|member| async move {
        if shared.env().until(limit, leave(shared, member)).await.is_none() {
            tracing::debug!(%member, "no answer to a good-bye; the member will notice otherwise");
        }
    }))
    .await;
}

async fn leave(shared: &Shared, member: &Member) {
    let Some(addr) = member.addr() else { return };
    let Ok(mut stream) = shared.connector.connect(addr).await else { return };
    let hello = shared.hello(LinkKind::Control, member, 0);
    let mut decoder = FrameDecoder::new(shared.answer_limits());
    if let Ok(Control::Welcome { .. }) = peer::greet(&mut *stream, &mut decoder, &hello, shared).await {
        let mut bytes = BytesMut::new();
        Control::Goodbye { member: shared.local.load().member.id() }.encode(&mut bytes);
        // Whether it arrives is for the peer to notice; there is nothing left to do here.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
    }
}

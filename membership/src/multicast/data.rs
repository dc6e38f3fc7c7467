//! Messages that come by multicast: from a datagram's bytes to the stack, without the heartbeats having to wait.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tribes_core::wire::{self, Frame, FrameDecoder, Limits, SenderCache, WireError};
use tribes_core::{ChannelMessage, Inbound, Lease, Link, Receipt, Route};

/// Messages that may wait for the stack.
const MESSAGES: usize = 1024;
/// Bytes of them.
const BYTES: usize = 8 << 20;

/// All messages of one datagram. Nothing of it is kept for the next one: a damaged datagram spoils only itself (T18).
///
/// # Errors
/// If the datagram is anything but whole data frames.
pub(super) fn decode(datagram: &[u8], limits: Limits) -> Result<Vec<ChannelMessage>, WireError> {
    let mut decoder = FrameDecoder::new(limits);
    let mut cache = SenderCache::new();
    decoder.extend(datagram);
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next()? {
        // Acknowledgements and control frames have no business here, and do no harm.
        if let Frame::Data(contents) = frame {
            messages.push(wire::decode_message(&contents, &limits, &mut cache)?);
        }
    }
    match decoder.pending() {
        0 => Ok(messages),
        available => {
            let needed = decoder.needed().unwrap_or(wire::FRAME_OVERHEAD);
            Err(WireError::Truncated { field: wire::Field::Frame, needed, available })
        }
    }
}

/// The whole frame of `message`, in one piece.
pub(super) fn encode(message: &ChannelMessage) -> Bytes {
    let mut frame = bytes::BytesMut::new();
    wire::encode_frame(message, &mut frame);
    frame.freeze()
}

/// The bounded way to the stack. What is in it, and what of it waits for listeners, counts.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: mpsc::UnboundedSender<Inbound>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Inbox {
    /// An inbox and the task that empties it into `link`; the task ends with the inbox.
    pub(super) fn open(link: &Link) -> Self {
        let (queue, mut messages) = mpsc::unbounded_channel();
        let up = link.clone();
        link.spawn(async move {
            while let Some(message) = messages.recv().await {
                // A refusal is counted by the layer that refuses; nobody waits for an answer to a multicast.
                let _ = up.receive(message).await;
            }
        });
        Self { queue, messages: Arc::new(Semaphore::new(MESSAGES)), bytes: Arc::new(Semaphore::new(BYTES)) }
    }

    /// Puts `message` in, if there is room.
    pub(super) fn push(&self, message: ChannelMessage) -> bool {
        let bytes = u32::try_from(message.body.len().max(1)).unwrap_or(u32::MAX);
        let Ok(one) = Arc::clone(&self.messages).try_acquire_owned() else { return false };
        let Ok(room) = Arc::clone(&self.bytes).try_acquire_many_owned(bytes) else { return false };
        let lease = Lease::new(vec![one, room]);
        self.queue.send(Inbound::new(message, Receipt::none(), lease, Route::Multicast)).is_ok()
    }
}

//! What travels: the envelope and the body of a message.

mod body;
mod extension;
mod id;
mod payload;

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub use body::Body;
pub use id::MessageId;
pub(crate) use payload::decode;
pub use payload::{DecodeError, EncodeError, encode};

use crate::{Member, SendOptions};

/// One message as the layers of the pipeline see it (Tribes: `ChannelData`): envelope and body.
///
/// Cloning is cheap: the body's bytes are shared.
#[derive(Clone, Debug)]
pub struct ChannelMessage {
    /// The option word; layers set and clear their own bits.
    pub options: SendOptions,
    /// Unix time in milliseconds at the sender when the message was made. For people: nothing here depends on it.
    pub timestamp_ms: i64,
    /// Names the logical message: all its pieces, destinations and retries share it.
    pub id: MessageId,
    /// Who sent it, as the sender claims.
    pub sender: Arc<Member>,
    /// The body, as the layer above left it.
    pub body: Body,
}

/// A received message as the application sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Message {
    options: SendOptions,
    timestamp_ms: i64,
    id: MessageId,
    sender: Arc<Member>,
    bytes: Bytes,
    /// The bytes are a small part of a receiver's buffer.
    lent: bool,
}

impl Message {
    /// The application's view of `message`: without extensions that no layer took. Copies only a body of several segments.
    #[must_use]
    pub fn new(mut message: ChannelMessage) -> Self {
        if message.options.contains(SendOptions::EXTENSION) && message.sender.id().is_ours() {
            message.strip_extensions();
        }
        let ChannelMessage { options, timestamp_ms, id, sender, body } = message;
        Self { options, timestamp_ms, id, sender, lent: body.is_lent(), bytes: body.into_bytes() }
    }

    /// The body. It may be a slice of a larger receive buffer, which lives as long as the slice: call
    /// [`detach`](Self::detach) before keeping it.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Makes the message independent of the buffer into which it was received, by a copy if its body is a small part of
    /// that. For messages that are kept after the listener has returned, if they are some among many.
    pub fn detach(&mut self) {
        if std::mem::take(&mut self.lent) {
            self.bytes = Bytes::copy_from_slice(&self.bytes);
        }
    }

    /// Reads the body as MessagePack, as written by [`Channel::send_message`](crate::Channel::send_message).
    ///
    /// # Errors
    /// If the body is a Java object or is not MessagePack of this type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        if self.is_java_object() {
            return Err(DecodeError::java_object());
        }
        decode(&self.bytes)
    }

    /// Whether the body is a serialized Java object: opaque here, never deserialized.
    #[must_use]
    pub fn is_java_object(&self) -> bool {
        !self.options.contains(SendOptions::BYTE_MESSAGE)
    }

    /// The options it was sent with.
    #[must_use]
    pub const fn options(&self) -> SendOptions {
        self.options
    }

    /// The message's id.
    #[must_use]
    pub const fn id(&self) -> &MessageId {
        &self.id
    }

    /// When the sender made it, Unix milliseconds by the sender's clock.
    #[must_use]
    pub const fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The sender as it describes itself in the message.
    #[must_use]
    pub const fn sender(&self) -> &Arc<Member> {
        &self.sender
    }
}

//! What travels: the envelope and the body of a message.

mod body;
mod id;
mod payload;

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub use body::Body;
pub use id::MessageId;
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
    inner: ChannelMessage,
    bytes: Bytes,
}

impl Message {
    /// The application's view of `inner`. Copies only a body of several segments.
    #[must_use]
    pub fn new(inner: ChannelMessage) -> Self {
        let bytes = inner.body.to_bytes();
        Self { inner, bytes }
    }

    /// The body. For a message that the local process keeps for long, note that it may be a slice of a larger receive
    /// buffer: copy it out if it is small.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Reads the body as MessagePack, as written by [`Channel::send_message`](crate::Channel::send_message).
    ///
    /// # Errors
    /// If the body is a Java object or is not MessagePack of this type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        if self.is_java_object() {
            return Err(DecodeError::java_object());
        }
        payload::decode(&self.bytes)
    }

    /// Whether the body is a serialized Java object: opaque here, never deserialized.
    #[must_use]
    pub fn is_java_object(&self) -> bool {
        !self.inner.options.contains(SendOptions::BYTE_MESSAGE)
    }

    /// The options it was sent with.
    #[must_use]
    pub fn options(&self) -> SendOptions {
        self.inner.options
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.inner.id
    }

    /// When the sender made it, Unix milliseconds by the sender's clock.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.inner.timestamp_ms
    }

    /// The sender as it describes itself in the message.
    #[must_use]
    pub fn sender(&self) -> &Arc<Member> {
        &self.inner.sender
    }
}

//! A frame encoded once for all its destinations.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tribes_core::ChannelMessage;
use tribes_core::wire::{self, FRAME_END};

/// Frames up to this size are made contiguous: copying so little costs less than another segment in each write.
const CONTIGUOUS: usize = 8 << 10;

/// An encoded frame; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct EncodedFrame(Arc<[Bytes]>, usize);

impl EncodedFrame {
    /// Encodes `message`; `sender` is the encoded member of its sender, `len` the checked length of the whole frame.
    pub(super) fn new(message: &ChannelMessage, sender: &[u8], len: usize) -> Self {
        if len <= CONTIGUOUS {
            let mut whole = BytesMut::with_capacity(len);
            wire::encode_frame_head(message, sender, &mut whole);
            message.body.segments().for_each(|segment| whole.extend_from_slice(segment));
            whole.extend_from_slice(FRAME_END);
            return Self(Arc::new([whole.freeze()]), len);
        }
        let mut head = BytesMut::new();
        wire::encode_frame_head(message, sender, &mut head);
        let parts = std::iter::once(head.freeze())
            .chain(message.body.segments().cloned())
            .chain(std::iter::once(Bytes::from_static(FRAME_END)))
            .collect();
        Self(parts, len)
    }

    /// Bytes of the whole frame.
    pub(crate) const fn len(&self) -> usize {
        self.1
    }

    /// The whole frame as one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match &*self.0 {
            [whole] => whole.clone(),
            parts => parts.concat().into(),
        }
    }

    /// The frame's pieces in order.
    pub(super) fn parts(&self) -> &[Bytes] {
        &self.0
    }
}

//! Entries of the extension trailer, added to a message and taken off it; see [`wire::Trailer`](crate::wire::Trailer).

use bytes::Bytes;

use super::ChannelMessage;
use crate::SendOptions;
use crate::wire::{ExtensionKind, TRAILER_FOOTER, Trailer, TrailerFull};

/// A stack has few layers that change bodies between others that add trailers; a hostile body has any number inside.
const MAX_NESTED: usize = 8;

impl ChannelMessage {
    /// Adds an entry to the message's extension trailer, which it gets if it has none, and sets
    /// [`SendOptions::EXTENSION`]. For layers that declare [`WireEffect::Ours`](crate::WireEffect::Ours), on messages that go
    /// to our own nodes only: not on multicasts, which everybody hears. The body's bytes are not copied.
    ///
    /// # Errors
    /// If the trailer is full; the message is then unchanged.
    pub fn add_extension(&mut self, kind: ExtensionKind, value: impl Into<Bytes>) -> Result<(), TrailerFull> {
        let marked = self.options.contains(SendOptions::EXTENSION);
        let there = if marked { self.trailer() } else { None };
        let (mut trailer, size) = there.unwrap_or_else(|| (Trailer::new(marked), 0));
        trailer.add(kind, value.into())?;
        // Just seen to be there.
        let _ = self.body.split_trailer(size);
        self.body.push_trailer(trailer.encode());
        self.options |= SendOptions::EXTENSION;
        Ok(())
    }

    /// Takes the entry of this kind off. The last entry takes the trailer, and the option bit, with it. `None` if there is
    /// none, or no whole trailer; the message is then unchanged.
    #[must_use]
    pub fn take_extension(&mut self, kind: ExtensionKind) -> Option<Bytes> {
        let (mut trailer, size) = self.trailer()?;
        let value = trailer.take(kind)?;
        self.replace(&trailer, size);
        Some(value)
    }

    /// Takes the whole trailer off, with entries that nobody knew, and up to seven more inside of it; how many entries those
    /// were.
    pub fn strip_extensions(&mut self) -> usize {
        let mut skipped = 0;
        for _ in 0..MAX_NESTED {
            let Some((trailer, size)) = self.trailer() else { break };
            skipped += trailer.entries().count();
            self.replace(&Trailer::new(trailer.is_nested()), size);
        }
        skipped
    }

    fn replace(&mut self, trailer: &Trailer, size: usize) {
        let _ = self.body.split_trailer(size);
        if !trailer.is_empty() {
            self.body.push_trailer(trailer.encode());
        } else if !trailer.is_nested() {
            self.options -= SendOptions::EXTENSION;
        }
    }

    /// The trailer at the end of the body, and its size.
    fn trailer(&self) -> Option<(Trailer, usize)> {
        if !self.options.contains(SendOptions::EXTENSION) {
            return None;
        }
        let size = Trailer::size_of(&self.body.tail(TRAILER_FOOTER)?)?;
        Some((Trailer::decode(&self.body.tail(size)?)?, size))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::{Body, MessageId};
    use crate::{Member, MemberId};

    const ONE: ExtensionKind = ExtensionKind::new(1);
    const TWO: ExtensionKind = ExtensionKind::new(2);

    fn message(body: &'static str) -> ChannelMessage {
        ChannelMessage {
            options: SendOptions::ACK,
            timestamp_ms: 0,
            id: MessageId::from_array([1; 16]),
            sender: Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 1).into())),
            body: Body::new(body),
        }
    }

    /// As it comes over the wire, in one piece.
    fn received(message: &ChannelMessage) -> ChannelMessage {
        ChannelMessage { body: Body::new(message.body.to_bytes()), ..message.clone() }
    }

    #[test]
    fn entries_share_one_trailer_and_leave_nothing_behind() {
        for body in ["hello", ""] {
            let mut sent = message(body);
            sent.add_extension(ONE, "first").unwrap();
            sent.add_extension(TWO, "second").unwrap();
            assert!(sent.options.contains(SendOptions::EXTENSION));
            assert_eq!(sent.body.len(), body.len() + 2 * 4 + 5 + 6 + TRAILER_FOOTER);
            for mut message in [received(&sent), sent] {
                assert_eq!(message.take_extension(ONE).unwrap(), "first");
                assert_eq!(message.take_extension(ONE), None);
                assert_eq!(message.take_extension(TWO).unwrap(), "second");
                assert_eq!((message.options, message.body.to_bytes()), (SendOptions::ACK, Bytes::from(body)));
            }
        }
    }

    #[test]
    fn what_nobody_knew_is_stripped() {
        let mut message = message("hello");
        message.add_extension(ONE, "x").unwrap();
        message.add_extension(TWO, "y").unwrap();
        let mut message = received(&message);
        assert_eq!(message.strip_extensions(), 2);
        assert_eq!((message.options, message.body), (SendOptions::ACK, Body::new("hello")));
    }

    #[test]
    fn a_layer_in_between_may_change_the_body() {
        let mut message = message("hello");
        message.add_extension(ONE, "above").unwrap();
        // A layer that turns the bytes around, so that the trailer is not seen any more.
        let turn = |message: &mut ChannelMessage| {
            message.body = Body::new(message.body.to_bytes().iter().rev().copied().collect::<Vec<u8>>());
        };
        turn(&mut message);
        message.add_extension(TWO, "below").unwrap();
        let mut message = received(&message);
        assert_eq!(message.take_extension(ONE), None);
        assert_eq!(message.take_extension(TWO).unwrap(), "below");
        assert!(message.options.contains(SendOptions::EXTENSION));
        turn(&mut message);
        assert_eq!(message.take_extension(ONE).unwrap(), "above");
        assert_eq!((message.options, message.body), (SendOptions::ACK, Body::new("hello")));
    }

    #[test]
    fn without_the_bit_or_a_whole_trailer_a_body_is_a_body() {
        let mut message = message("no trailer here");
        message.options |= SendOptions::EXTENSION;
        let before = message.body.clone();
        assert_eq!((message.take_extension(ONE), message.strip_extensions()), (None, 0));
        assert_eq!(message.body, before);
        let mut looks_like = self::message("\0\0\0\x01TRSX");
        assert_eq!((looks_like.take_extension(ONE), looks_like.strip_extensions()), (None, 0));
        assert_eq!(looks_like.body.len(), 8);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut message = message("hello");
        assert!(message.add_extension(ONE, vec![0; 1 << 16]).is_err());
        assert_eq!((message.options, message.body.clone()), (SendOptions::ACK, Body::new("hello")));
        message.add_extension(ONE, "x").unwrap();
        let before = message.body.clone();
        assert!(message.add_extension(TWO, vec![0; 1 << 14]).is_err());
        assert_eq!(message.body, before);
    }
}

//! What holds the layer to its word.

mod authenticated;
mod config;
mod layer;
mod tribes;

use std::sync::Arc;

use tribes_core::{Body, ChannelMessage, Member, MemberId, MessageId, SendOptions};
use tribes_testkit::member;

use super::core::Core;
use super::{EncryptConfig, EncryptError, Key};

/// Key number `number`, of 128 bits.
fn key(number: u8) -> Key {
    Key::from_bytes(&[number; 16]).unwrap()
}

/// The part without I/O, with these keys.
fn core(config: &EncryptConfig, keys: &[u8]) -> Core {
    let core = Core::new(config);
    core.set_keys(keys.iter().copied().map(key).collect(), config);
    core
}

/// Chance that counts, from `from` on.
fn chance(from: u8) -> impl FnMut() -> Result<[u8; 16], EncryptError> {
    let mut next = from;
    move || {
        next += 1;
        Ok([next; 16])
    }
}

fn id(number: u16) -> MemberId {
    member(number).id()
}

/// A message of member `from`.
fn message(from: &Arc<Member>, body: impl Into<Body>) -> ChannelMessage {
    ChannelMessage {
        options: SendOptions::BYTE_MESSAGE | SendOptions::SYNC_ACK,
        timestamp_ms: 1_795_305_600_123,
        id: MessageId::from_array([0xA1; 16]),
        sender: Arc::clone(from),
        body: body.into(),
    }
}

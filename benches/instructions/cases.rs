//! What is counted: each case performs any number of equal operations after a set-up that does not depend on the number.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tribes::wire::{self, Frame, FrameDecoder, Limits, SenderCache};
use tribes::{Body, ChannelMessage, Member, MemberId, MessageId, SendOptions};

use crate::OPERATIONS;
use crate::callgrind::{self, Cost};
use crate::common::layers::{self, Make};
use crate::common::payload::{KIB_64, SMALL, Size, body};
use crate::common::{null, one_thread};
#[cfg(feature = "sessions")]
use crate::sessions::{Stack, request};

/// Operations that can be counted.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    perform: fn(u64),
    /// What one operation consists of: the figures are for one of so many.
    parts: u64,
    /// The case whose cost is taken off first.
    beyond: Option<&'static str>,
}

impl Case {
    const fn new(name: &'static str, perform: fn(u64)) -> Self {
        Self { name, perform, parts: 1, beyond: None }
    }

    /// The figures are for one of `parts` that each operation has.
    const fn of(mut self, parts: u64) -> Self {
        self.parts = parts;
        self
    }

    /// The figures are what it costs beyond the case called `name`.
    const fn beyond(mut self, name: &'static str) -> Self {
        self.beyond = Some(name);
        self
    }

    pub(crate) fn run(&self, operations: u64) {
        (self.perform)(operations);
    }

    /// The cost of one operation, or of what is meant by it. What is `measured` already is not measured again.
    pub(crate) fn cost(&self, measured: &mut BTreeMap<&str, Cost>) -> Result<Cost, String> {
        let mut measure = |name| -> Result<Cost, String> {
            if let Some(cost) = measured.get(name) {
                return Ok(*cost);
            }
            let cost = callgrind::measure(name, OPERATIONS)?;
            measured.insert(name, cost);
            Ok(cost)
        };
        let whole = measure(self.name)?;
        let base = self.beyond.map(measure).transpose()?.unwrap_or_default();
        Ok((whole - base) / self.parts as f64)
    }
}

/// Frames in a batch, as one read returns them.
const BATCH: u64 = 64;
/// Layers in a stack that is measured; the figures are for one.
const LAYERS: u64 = layers::NAMES.len() as u64;
const BARE: &str = "hop: a send through no layer";

pub(crate) const CASES: &[Case] = &[
    Case::new("codec: encode a member", encode_member),
    Case::new("codec: decode a member", decode_member),
    Case::new("codec: encode a frame, 100 B", |count| encode_frame(SMALL, count)),
    Case::new("codec: encode a frame, 64 KiB", |count| encode_frame(KIB_64, count)),
    Case::new("codec: decode a frame, 100 B", |count| decode_frames(SMALL, 1, count)),
    Case::new("codec: decode a frame, 64 KiB", |count| decode_frames(KIB_64, 1, count)),
    Case::new("codec: decode one of 64 frames, 100 B", |count| decode_frames(SMALL, BATCH, count)).of(BATCH),
    Case::new(BARE, |count| send(0, layers::synchronous, true, count)),
    Case::new("hop: + a synchronous layer", |count| send(LAYERS, layers::synchronous, true, count))
        .of(LAYERS)
        .beyond(BARE),
    Case::new("hop: + an asynchronous layer", |count| send(LAYERS, layers::asynchronous, true, count))
        .of(LAYERS)
        .beyond(BARE),
    Case::new("hop: + a layer passed by", |count| send(LAYERS, layers::skipped, true, count)).of(LAYERS).beyond(BARE),
    #[cfg(feature = "sessions")]
    Case::new("session: a read, MemoryStore", |count| request(Stack::Memory, false, count)),
    #[cfg(feature = "sessions")]
    Case::new("session: a read, our store", |count| request(Stack::OneLine, false, count)),
    #[cfg(feature = "sessions")]
    Case::new("session: a read, our layer", |count| request(Stack::Whole, false, count)),
    #[cfg(feature = "sessions")]
    Case::new("session: a write, MemoryStore", |count| request(Stack::Memory, true, count)),
    #[cfg(feature = "sessions")]
    Case::new("session: a write, our store", |count| request(Stack::OneLine, true, count)),
    #[cfg(feature = "sessions")]
    Case::new("session: a write, our layer", |count| request(Stack::Whole, true, count)),
];

/// One allocation, to see whether allocations are seen.
pub(crate) const ONE_ALLOCATION: &Case = &Case::new("check: one allocation", |count| {
    (0..count).for_each(|number| drop(black_box(Box::new(number))));
});

/// The case of that name.
pub(crate) fn find(name: &str) -> &'static Case {
    CASES
        .iter()
        .chain([ONE_ALLOCATION])
        .find(|case| case.name == name)
        .unwrap_or_else(|| panic!("there is no case {name:?}"))
}

fn member() -> Member {
    let id = MemberId::from_bytes(null::ID);
    Member::new(id, ([127, 0, 0, 1], 4000).into()).with_domain("cluster").with_payload(vec![7; 32])
}

fn message(size: Size) -> ChannelMessage {
    ChannelMessage {
        options: SendOptions::ACK | SendOptions::BYTE_MESSAGE,
        timestamp_ms: 1_767_225_600_000,
        id: MessageId::from_array(null::ID),
        sender: Arc::new(member()),
        body: Body::new(body(size)),
    }
}

fn encode_member(count: u64) {
    let member = member();
    let mut out = BytesMut::with_capacity(1024);
    for _ in 0..count {
        out.clear();
        wire::encode_member(black_box(&member), &mut out);
        black_box(&out);
    }
}

fn decode_member(count: u64) {
    let mut encoded = BytesMut::new();
    wire::encode_member(&member(), &mut encoded);
    let (encoded, limits) = (encoded.freeze(), Limits::default());
    for _ in 0..count {
        black_box(wire::decode_member(black_box(&encoded), &limits).unwrap());
    }
}

fn encode_frame(size: Size, count: u64) {
    let message = message(size);
    let mut out = BytesMut::with_capacity(2 * size.0 + 1024);
    for _ in 0..count {
        out.clear();
        wire::encode_frame(black_box(&message), &mut out);
        black_box(&out);
    }
}

/// From the bytes of a read, which are copied into the decoder, to messages.
fn decode_frames(size: Size, frames: u64, count: u64) {
    let message = message(size);
    let mut read = BytesMut::new();
    (0..frames).for_each(|_| wire::encode_frame(&message, &mut read));
    let (read, limits, mut senders) = (read.freeze(), Limits::default(), SenderCache::new());
    let mut decoder = FrameDecoder::new(limits);
    for _ in 0..count {
        decoder.extend(black_box(&read));
        while let Some(Frame::Data(contents)) = decoder.next().unwrap() {
            black_box(wire::decode_message(&contents, &limits, &mut senders).unwrap());
        }
    }
}

/// Sends through so many layers of a kind to a network that takes everything at once.
fn send(layers: u64, make: Make, telemetry: bool, count: u64) {
    let runtime = one_thread();
    let layers = layers::stack(usize::try_from(layers).unwrap(), make);
    let channel = null::channel(&runtime, layers, telemetry);
    let (to, body): (_, Bytes) = (null::target(), body(SMALL));
    runtime.block_on(async {
        for _ in 0..count {
            channel.send(to.clone(), body.clone(), SendOptions::NONE).await.unwrap();
        }
    });
}

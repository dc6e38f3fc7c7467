//! The wire codec: a member (a heartbeat, and the sender of each message), envelopes and frames of all sizes, both ways, and
//! a stream of many frames as one read returns them.
//!
//! Encoding copies the body, so its rate is in bytes. Decoding does not: what is read is handed on in place, so its rate is in
//! frames, and depends on their size only by how cold the memory is.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench says what is wrong by failing")]
#![allow(clippy::panic, clippy::disallowed_methods, reason = "shared helpers measure real time and fail loudly")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::payload::{MIB, SIZES, Size, body};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tribes::wire::{self, Envelope, Frame, FrameDecoder, Limits, SenderCache};
use tribes::{Body, ChannelMessage, Env, Member, MemberId, MessageId, SendOptions};

/// Frames in a stream.
const FRAMES: usize = 64;
/// Prepared input that is in memory at a time.
const PREPARED_BYTES: usize = 8 << 20;

fn sender() -> Member {
    let id = MemberId::generate(&Env::real()).unwrap();
    Member::new(id, ([127, 0, 0, 1], 4000).into()).with_domain("cluster").with_payload(vec![7; 32])
}

fn message(size: Size) -> ChannelMessage {
    let env = Env::real();
    ChannelMessage {
        options: SendOptions::ACK | SendOptions::BYTE_MESSAGE,
        timestamp_ms: env.wall_ms(),
        id: MessageId::generate(&env),
        sender: Arc::new(sender()),
        body: Body::new(body(size)),
    }
}

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}

fn members(criterion: &mut Criterion) {
    let member = sender();
    let bytes = encoded(|out| wire::encode_member(&member, out));
    let limits = Limits::default();

    let mut group = criterion.benchmark_group("codec/member");
    group.throughput(Throughput::Elements(1));
    let mut out = BytesMut::with_capacity(1024);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            wire::encode_member(black_box(&member), &mut out);
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| wire::decode_member(black_box(&bytes), &limits).unwrap());
    });
    group.finish();
}

fn envelopes(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("codec/envelope");
    for size in SIZES {
        let message = message(size);
        let sender = encoded(|out| wire::encode_member(&message.sender, out));
        let (options, at, id) = (message.options, message.timestamp_ms, message.id.clone());
        let envelope = Envelope::new(options, at, id, Some(sender), body(size));
        let bytes = encoded(|out| envelope.encode(out));

        let mut out = BytesMut::with_capacity(2 * bytes.len());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("encode", size.1), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&envelope).encode(&mut out);
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("decode", size.1), |bencher| {
            bencher.iter(|| Envelope::decode(black_box(&bytes), &limits).unwrap());
        });
    }
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/frame");
    for size in SIZES {
        let message = message(size);
        let bytes = encoded(|out| wire::encode_frame(&message, out));
        let mut out = BytesMut::with_capacity(2 * bytes.len());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("encode", size.1), |bencher| {
            bencher.iter(|| {
                out.clear();
                wire::encode_frame(black_box(&message), &mut out);
            });
        });
        let mut reader = Reader::new();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("decode", size.1), |bencher| {
            bencher.iter_batched(|| BytesMut::from(&bytes[..]), |read| reader.decode(read, 1), batch(bytes.len()));
        });
    }
    // What a sender really does for a large message: the body is written from where it is.
    let message = message(MIB);
    let sender = encoded(|out| wire::encode_member(&message.sender, out));
    let mut out = BytesMut::with_capacity(1024);
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode the head", |bencher| {
        bencher.iter(|| {
            out.clear();
            wire::encode_frame_head(black_box(&message), &sender, &mut out);
        });
    });
    group.finish();
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("codec/stream of {FRAMES} frames"));
    group.throughput(Throughput::Elements(FRAMES as u64));
    for size in SIZES.into_iter().filter(|size| *size != MIB) {
        let message = message(size);
        let bytes = encoded(|out| (0..FRAMES).for_each(|_| wire::encode_frame(&message, out)));
        let mut out = BytesMut::with_capacity(2 * bytes.len());
        group.bench_function(BenchmarkId::new("encode", size.1), |bencher| {
            bencher.iter(|| {
                out.clear();
                (0..FRAMES).for_each(|_| wire::encode_frame(black_box(&message), &mut out));
            });
        });
        let mut reader = Reader::new();
        group.bench_function(BenchmarkId::new("decode", size.1), |bencher| {
            let input = || BytesMut::from(&bytes[..]);
            bencher.iter_batched(input, |read| reader.decode(read, FRAMES), batch(bytes.len()));
        });
    }
    group.finish();
}

/// As a receiver does it: from the bytes of a read to messages, the sender known from the frame before.
struct Reader {
    decoder: FrameDecoder,
    limits: Limits,
    senders: SenderCache,
}

impl Reader {
    fn new() -> Self {
        let limits = Limits::default();
        Self { decoder: FrameDecoder::new(limits), limits, senders: SenderCache::new() }
    }

    /// The last of so many messages in `read`. It keeps the memory of `read`, so that giving that back is not measured.
    fn decode(&mut self, read: BytesMut, messages: usize) -> Option<ChannelMessage> {
        *self.decoder.buffer_mut() = read;
        let mut last = None;
        for _ in 0..messages {
            let Some(Frame::Data(contents)) = self.decoder.next().unwrap() else { panic!("a frame is missing") };
            last = Some(wire::decode_message(&contents, &self.limits, &mut self.senders).unwrap());
        }
        last
    }
}

/// As many inputs of `len` bytes at a time as memory allows.
fn batch(len: usize) -> BatchSize {
    BatchSize::NumIterations((PREPARED_BYTES / len).clamp(1, 1024) as u64)
}

criterion_group! {
    name = benches;
    config = common::quick();
    targets = members, envelopes, frames, streams
}
criterion_main!(benches);

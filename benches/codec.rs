//! The wire codec: a member (a heartbeat, and the sender of each message) and frames of three sizes, both ways.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a bench says what is wrong by failing")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tribes::wire::{self, Frame, FrameDecoder, Limits, SenderCache};
use tribes::{Body, ChannelMessage, Env, Member, MemberId, MessageId, SendOptions};

fn sender(env: &Env) -> Member {
    Member::new(MemberId::generate(env), ([127, 0, 0, 1], 4000).into()).with_domain("cluster").with_payload(vec![7; 32])
}

fn members(criterion: &mut Criterion) {
    let member = sender(&Env::real());
    let mut encoded = BytesMut::new();
    wire::encode_member(&member, &mut encoded);
    let encoded = encoded.freeze();
    let limits = Limits::default();

    let mut group = criterion.benchmark_group("codec/member");
    let mut out = BytesMut::with_capacity(1024);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            wire::encode_member(black_box(&member), &mut out);
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| wire::decode_member(black_box(&encoded), &limits).unwrap());
    });
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let env = Env::real();
    let limits = Limits::default();
    for (size, name) in [(100, "100 B"), (1 << 10, "1 KiB"), (64 << 10, "64 KiB")] {
        let message = ChannelMessage {
            options: SendOptions::ACK | SendOptions::BYTE_MESSAGE,
            timestamp_ms: env.wall_ms(),
            id: MessageId::generate(&env),
            sender: Arc::new(sender(&env)),
            body: Body::new(vec![7; size]),
        };
        let mut encoded = BytesMut::new();
        wire::encode_frame(&message, &mut encoded);
        let encoded = encoded.freeze();

        let mut group = criterion.benchmark_group("codec/frame");
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        let mut out = BytesMut::with_capacity(2 * encoded.len());
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                out.clear();
                wire::encode_frame(black_box(&message), &mut out);
            });
        });
        // As the receiver does: from the bytes of a read to the message, the sender known from the frame before.
        let mut cache = SenderCache::default();
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| {
                let mut decoder = FrameDecoder::new(limits);
                decoder.extend(black_box(&encoded));
                decode(&mut decoder, &limits, &mut cache)
            });
        });
        group.finish();
    }
}

fn decode(decoder: &mut FrameDecoder, limits: &Limits, cache: &mut SenderCache) -> Option<ChannelMessage> {
    let contents: Bytes = match decoder.next().unwrap()? {
        Frame::Data(contents) => contents,
        _ => return None,
    };
    Some(wire::decode_message(&contents, limits, cache).unwrap())
}

criterion_group!(benches, members, frames);
criterion_main!(benches);

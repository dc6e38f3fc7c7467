//! A trace among layers that change bodies: what it adds is inside of what they make, or around it, and is gone at the top.
#![cfg(all(feature = "trace", feature = "gzip", feature = "fragmentation", feature = "order"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::registry::Registry;
use tribes_core::{Channel, SendOptions};
use tribes_interceptors::{Trace, TraceContext};
use tribes_testkit::{World, simulate};

/// Layers, top first; `trace` is the layer of that name.
const STACKS: [&[&str]; 7] = [
    &["trace"],
    &["trace", "gzip"],
    &["gzip", "trace"],
    &["trace", "fragmentation"],
    &["fragmentation", "trace"],
    &["order", "trace", "gzip", "fragmentation"],
    &["gzip", "fragmentation", "trace", "order"],
];

#[test]
fn bodies_arrive_as_they_were_and_the_trace_goes_on() {
    let parent: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    for stack in STACKS {
        simulate(1, async |world: World| {
            let mut channels = Vec::new();
            for _ in 0..3 {
                let trace = Arc::new(Trace::default());
                // Some of these are against the advice of the layers.
                let mut builder = world.join(Channel::builder()).order_check(false);
                for name in stack {
                    builder = match *name {
                        "trace" => builder.interceptor(Arc::clone(&trace)),
                        "fragmentation" => {
                            let size = ("max_size", "1024");
                            builder.interceptor(Registry::interceptor("fragmentation", [size]).unwrap())
                        }
                        name => builder.interceptor(Registry::interceptor(name, []).unwrap()),
                    };
                }
                let channel = builder.build().unwrap();
                let heard = Arc::new(Mutex::new(Vec::new()));
                let (hear, of) = (Arc::clone(&heard), Arc::clone(&trace));
                let listener = channel.on_message(move |message, _| {
                    let trace = of.context_of(message.id()).map(|context| *context.trace_id());
                    hear.lock().unwrap().push((message.bytes().clone(), message.options(), trace));
                    async { Ok(()) }
                });
                listener.forever();
                channels.push((channel, heard));
            }
            for (channel, _) in &channels {
                channel.start().await.unwrap();
            }
            let [(sender, _), receivers @ ..] = channels.as_slice() else { panic!("three") };
            let to: Vec<_> = receivers.iter().map(|(channel, _)| channel.local()).collect();
            world.sleep(Duration::from_secs(2)).await;
            // About a piece's size, the trailer makes the difference.
            for len in (0..3).chain(980..1030).chain([200_000]) {
                let body: Vec<u8> = (0..len).map(|at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
                parent.scope(sender.send(&to, body.clone(), SendOptions::SYNC_ACK)).await.unwrap();
                for (_, heard) in receivers {
                    let heard = std::mem::take(&mut *heard.lock().unwrap());
                    let [(bytes, options, trace)] = heard.as_slice() else { panic!("{stack:?}, {len}: {heard:?}") };
                    assert_eq!(bytes, &body, "{stack:?}, {len}");
                    assert_eq!(*options, SendOptions::SYNC_ACK | SendOptions::BYTE_MESSAGE, "{stack:?}, {len}");
                    assert_eq!(trace.as_ref(), Some(parent.trace_id()), "{stack:?}, {len}");
                }
            }
        });
    }
}

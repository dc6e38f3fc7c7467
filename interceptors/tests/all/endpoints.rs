//! Messages for endpoints among all the layers: they arrive whole, at the endpoint and nowhere else.
#![cfg(all(
    feature = "trace",
    feature = "compress-lz4",
    feature = "gzip",
    feature = "fragmentation",
    feature = "order",
    feature = "encrypt",
    feature = "message-dispatch",
    feature = "two-phase-commit"
))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by a panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::registry::Registry;
use tribes_core::{BoxError, Channel, ChannelEndpoint, Lease, Member, Message, SendOptions, To};
// Links the layers, which are asked for by name.
use tribes_interceptors as _;
use tribes_testkit::{RecordingListener, World, simulate};

/// Layers, top first.
const STACKS: [&[&str]; 9] = [
    &[],
    &["trace"],
    &["message-dispatch", "order"],
    &["gzip", "trace"],
    &["compress", "fragmentation"],
    &["encrypt"],
    &["two-phase-commit"],
    &["trace", "message-dispatch", "order", "gzip", "fragmentation", "encrypt"],
    &["trace", "two-phase-commit", "message-dispatch", "order", "compress", "fragmentation", "encrypt"],
];

#[derive(Default)]
struct Port(Mutex<Vec<(Bytes, SendOptions)>>);

impl ChannelEndpoint for Port {
    fn receive(&self, message: Message, _: &Arc<Member>, _: Lease) -> Result<(), BoxError> {
        self.0.lock().unwrap().push((message.bytes().clone(), message.options()));
        Ok(())
    }
}

fn layer(name: &str) -> tribes_core::Layer {
    let setting = match name {
        "fragmentation" => vec![("max_size", "1024")],
        "encrypt" => vec![("key", "000102030405060708090a0b0c0d0e0f")],
        _ => Vec::new(),
    };
    Registry::interceptor(name, setting).unwrap()
}

#[test]
fn they_arrive_whole_through_every_stack() {
    let kinds = [
        SendOptions::NONE,
        SendOptions::ACK,
        SendOptions::SYNC_ACK,
        SendOptions::ASYNC,
        SendOptions::SYNC_ACK | SendOptions::ASYNC,
    ];
    for stack in STACKS {
        simulate(1, async |world: World| {
            let mut sites = Vec::new();
            for _ in 0..3 {
                let builder = world.join(Channel::builder()).order_check(false);
                let builder = stack.iter().fold(builder, |builder, name| builder.interceptor(layer(name)));
                let channel = builder.build().unwrap();
                let (port, listener) = (Arc::new(Port::default()), RecordingListener::new());
                channel.listen(listener.clone()).forever();
                let handle = channel.endpoint("port", Arc::clone(&port) as Arc<dyn ChannelEndpoint>).unwrap();
                channel.start().await.unwrap();
                sites.push((channel, port, handle, listener));
            }
            sites[0].0.view_when(|view| view.len() == 2).await;
            world.sleep(Duration::from_secs(2)).await;
            for options in kinds {
                for len in [0, 1, 1000, 1024, 100_000] {
                    let body: Vec<u8> =
                        (0..len).map(|at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
                    let outcome = sites[0].2.send(To::All, body.clone(), options).await.unwrap().await;
                    assert!(outcome.is_complete(), "{stack:?}, {options}, {len}: {outcome:?}");
                    for (_, port, _, listener) in &sites[1..] {
                        let come = || !port.0.lock().unwrap().is_empty();
                        assert!(world.until(Duration::from_secs(5), come).await, "{stack:?}, {options}, {len}");
                        let heard = std::mem::take(&mut *port.0.lock().unwrap());
                        let [(bytes, with)] = heard.as_slice() else {
                            panic!("{stack:?}, {options}, {len}: {heard:?}")
                        };
                        assert_eq!(bytes, &body, "{stack:?}, {options}, {len}");
                        assert!(!with.contains(SendOptions::EXTENSION), "{stack:?}, {options}, {len}: {with}");
                        assert!(listener.received().is_empty(), "{stack:?}, {options}, {len}");
                    }
                }
            }
        });
    }
}

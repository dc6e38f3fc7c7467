//! A wall clock that is set by hand or by NTP changes nothing: what has a time limit goes by the monotonic clock (T39).
#![cfg(all(
    feature = "dedup",
    feature = "encrypt",
    feature = "fragmentation",
    feature = "order",
    feature = "tcp-failure-detector"
))]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::registry::Registry;
use tribes_core::{Channel, SendOptions, To};
use tribes_interceptors as _;
use tribes_testkit::{World, simulate};

const HOUR_MS: i64 = 3_600_000;

/// Three channels under all layers that keep something for a time.
async fn group(world: &World) -> Vec<(Channel, tribes_testkit::net::Node)> {
    let mut group = Vec::new();
    for _ in 0..3 {
        let node = world.node();
        let mut builder = node.join(Channel::builder());
        for (name, options) in [
            ("order", &[][..]),
            ("dedup", &[]),
            ("fragmentation", &[("max_size", "1024")]),
            ("encrypt", &[("mode", "authenticated"), ("key", "00112233445566778899aabbccddeeff")]),
            ("tcp-failure-detector", &[]),
        ] {
            builder = builder.interceptor(Registry::interceptor(name, options.iter().copied()).unwrap());
        }
        let channel = builder.build().unwrap();
        channel.start().await.unwrap();
        group.push((channel, node));
    }
    assert!(world.until(Duration::from_secs(10), || group.iter().all(|(channel, _)| channel.view().len() == 2)).await);
    group
}

#[test]
fn clocks_that_step_an_hour_lose_no_message_and_no_member() {
    simulate(1, async |world| {
        let group = group(&world).await;
        let heard = Arc::new(Mutex::new(Vec::new()));
        for (channel, _) in &group[1..] {
            let heard = Arc::clone(&heard);
            let hear = move |message: tribes_core::Message, _| {
                heard.lock().unwrap().push(message.bytes().clone());
                async { Ok(()) }
            };
            channel.on_message(hear).forever();
        }
        let views: Vec<_> = group.iter().map(|(channel, _)| channel.view().number()).collect();
        for (round, (stepped, by)) in
            [(0, HOUR_MS), (1, HOUR_MS), (0, -2 * HOUR_MS), (2, -HOUR_MS), (1, -HOUR_MS)].into_iter().enumerate()
        {
            group[stepped].1.sim_env().step_wall_clock(by);
            for number in 0..20_usize {
                let body = vec![u8::try_from(round * 20 + number).unwrap(); number * 300];
                group[0].0.send(To::All, body.clone(), SendOptions::SYNC_ACK).await.unwrap();
                let heard = std::mem::take(&mut *heard.lock().unwrap());
                assert_eq!(heard, [body.clone(), body], "round {round}, message {number}");
            }
            world.sleep(Duration::from_secs(30)).await;
        }
        let after: Vec<_> = group.iter().map(|(channel, _)| channel.view().number()).collect();
        assert_eq!(after, views, "nobody came or went");
    });
}

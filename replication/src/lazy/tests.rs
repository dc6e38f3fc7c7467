#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Context;

use tracing::span;
use tribes_testkit::net::Node as Machine;
use tribes_testkit::{Simulation, World};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

type Map = LazyReplicatedMap<u32, u32>;

struct Place {
    machine: Machine,
    channel: Channel,
    map: Map,
}

impl Place {
    fn is(&self, member: &Member) -> bool {
        self.channel.local().id() == member.id()
    }

    /// How many wait for writes made here, and whether a replica keeps an operation for one.
    fn waiting(&self) -> (usize, bool) {
        let state = self.map.inner.asker.node.lock();
        let open = (0..SHARDS).any(|shard| state.shards.look(shard).is_some_and(crate::core::Core::has_open_ops));
        (state.waiting.len(), open)
    }
}

async fn group(world: &World, count: usize) -> Vec<Place> {
    let mut places = Vec::new();
    for _ in 0..count {
        let machine = world.node();
        let channel = machine.join(Channel::builder()).build().unwrap();
        channel.start().await.unwrap();
        let map = Map::builder("test").open(&channel).unwrap();
        places.push(Place { machine, channel, map });
    }
    for place in &places {
        place.channel.view_when(|view| view.len() == count - 1).await;
        place.map.ready().await;
    }
    places
}

/// A key of which the first is the primary and the second the backup.
fn key_of(primary: &Place, backup: &Place) -> u32 {
    let is_theirs = |key: &u32| {
        let holders = primary.map.holders(key).unwrap();
        primary.is(&holders[0]) && backup.is(&holders[1])
    };
    (0..1000).find(is_theirs).unwrap()
}

fn simulate(scenario: impl AsyncFnOnce(World)) {
    Simulation::new(1).run(scenario);
}

#[test]
fn nothing_is_kept_for_who_waits_no_more() {
    simulate(async |world| {
        let places = group(&world, 3).await;
        let key = key_of(&places[0], &places[1]);
        places[1].machine.freeze();
        for asker in [&places[0], &places[2]] {
            {
                let mut put = pin!(asker.map.put_with(&key, &1, Durability::all(HOUR)));
                let is_waited_for = world.until(SECOND, || places[0].waiting() == (1, true));
                let made = tokio::select! {
                    biased;
                    _ = &mut put => false,
                    made = is_waited_for => made,
                };
                assert!(made, "the backup cannot have it");
            }
            assert!(world.until(SECOND, || places[0].waiting() == (0, false)).await);
        }
    });
}

#[test]
fn a_waker_that_panics_holds_nobody_up() {
    simulate(async |world| {
        let places = group(&world, 2).await;
        let key = key_of(&places[0], &places[1]);
        let mut put = Box::pin(places[0].map.put_with(&key, &1, Durability::all(HOUR)));
        let waker = crate::contain::panicking_waker();
        assert!(put.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        world.sleep(SECOND).await;
        let env = world.env();
        let others = async {
            assert_eq!(put.await.unwrap().members.len(), 1);
            places[0].map.put(&key, &2).await.unwrap();
            places[1].map.put(&key, &3).await.unwrap();
        };
        env.until(env.now() + 60 * SECOND, others).await.expect("they do not wait for ever");
    });
}

/// A log that panics over what the map says is wrong.
struct PanicsOverErrors;

impl tracing::Subscriber for PanicsOverErrors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("tribes_replication") && *metadata.level() == tracing::Level::ERROR
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        panic!("the disk is full");
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_listener_and_a_log_that_panic_hold_nobody_up() {
    simulate(async |world| {
        let places = group(&world, 2).await;
        let key = key_of(&places[0], &places[1]);
        let _handle = places[0].map.on_change(|_| panic!("told"));
        let log = tracing::subscriber::set_default(PanicsOverErrors);
        assert!(catch_unwind(AssertUnwindSafe(|| tracing::error!(target: "tribes_replication", "it works"))).is_err());
        let env = world.env();
        let puts = async {
            for value in 0..3 {
                places[0].map.put(&key, &value).await.unwrap();
                places[1].map.put(&key, &value).await.unwrap();
            }
        };
        env.until(env.now() + 60 * SECOND, puts).await.expect("they do not wait for ever");
        drop(log);
    });
}

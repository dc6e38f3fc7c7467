use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tribes_core::message::{ChannelMessage, MessageId};
use tribes_core::settings::Settings as _;
use tribes_core::{
    Body, Channel, Departure, Handled, Inbound, Lease, Member, MemberEvent, MemberEvents, Receipt, Route, SendOptions,
    Suspicion,
};

use super::core::Core;
use super::{DomainFilter, DomainFilterConfig};
use crate::testing::{World, member, settle};

use MemberEvent::{Added, Removed, Suspected, Updated};

/// The `number`th member, of this domain.
fn of(number: u16, domain: &'static str) -> Arc<Member> {
    Arc::new(member(number).as_ref().clone().with_domain(domain))
}

async fn world(config: DomainFilterConfig, domain: &'static str) -> (World, MemberEvents) {
    let world = World::start(|builder| builder.domain(domain).interceptor(DomainFilter::new(config))).await;
    let events = world.channel.member_events();
    (world, events)
}

async fn drain(events: &mut MemberEvents) -> Vec<MemberEvent> {
    settle().await;
    let mut all = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        all.extend(event);
    }
    all
}

/// What the sender of a message with this domain is answered.
async fn answer(world: &World, domain: &'static str) -> Handled {
    let (answer, answered) = oneshot::channel();
    let message = ChannelMessage {
        options: SendOptions::BYTE_MESSAGE | SendOptions::SYNC_ACK,
        timestamp_ms: 0,
        id: MessageId::from_array([1; 16]),
        sender: of(1, domain),
        body: Body::new("hello"),
    };
    let receipt = Receipt::new(move |handled| drop(answer.send(handled)));
    let _ = world.below.link().receive(Inbound::new(message, receipt, Lease::none(), Route::Stream)).await;
    answered.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn only_members_of_the_domain_are_there() {
    let (world, mut events) = world(DomainFilterConfig::default().with_domain("east"), "east").await;
    for event in [
        Added(of(1, "east")),
        Added(of(2, "west")),
        Added(of(3, "")),
        Added(of(4, "east-1")),
        Suspected(of(1, "east"), Suspicion::Silent),
        Suspected(of(2, "west"), Suspicion::Silent),
        Removed(of(2, "west"), Departure::Failed),
        Removed(of(1, "east"), Departure::Shutdown),
        Removed(of(9, "east"), Departure::Failed),
    ] {
        world.below.raise(event);
    }
    let told = [
        Added(of(1, "east")),
        Suspected(of(1, "east"), Suspicion::Silent),
        Removed(of(1, "east"), Departure::Shutdown),
    ];
    assert_eq!(drain(&mut events).await, told);
    assert_eq!((world.gauge("members"), world.gauge("foreign_members")), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_domain_that_changes_is_noticed() {
    let (world, mut events) = world(DomainFilterConfig::default().with_domain("east"), "east").await;
    world.below.raise(Added(of(1, "west")));
    assert_eq!(drain(&mut events).await, []);
    world.below.raise(Updated(of(1, "east")));
    assert_eq!(drain(&mut events).await, [Added(of(1, "east"))]);
    world.below.raise(Updated(Arc::new(of(1, "east").as_ref().clone().with_payload("p"))));
    assert_eq!(drain(&mut events).await.len(), 1);
    world.below.raise(Updated(of(1, "west")));
    world.below.raise(Removed(of(1, "west"), Departure::Failed));
    assert_eq!(drain(&mut events).await, [Removed(of(1, "west"), Departure::Excluded)]);
    // One after another, with no time between: each is told, in order.
    world.below.raise(Added(of(2, "west")));
    world.below.raise(Updated(of(2, "east")));
    world.below.raise(Removed(of(2, "east"), Departure::Failed));
    world.below.raise(Added(of(2, "east")));
    let told = [Added(of(2, "east")), Removed(of(2, "east"), Departure::Failed), Added(of(2, "east"))];
    assert_eq!(drain(&mut events).await, told);
}

#[tokio::test(start_paused = true)]
async fn the_domain_of_this_member_counts_if_none_is_set() {
    let (world, mut events) = world(DomainFilterConfig::default(), "east").await;
    world.below.raise(Added(of(1, "east")));
    world.below.raise(Added(of(2, "west")));
    assert_eq!(drain(&mut events).await, [Added(of(1, "east"))]);
    world.channel.set_domain("west");
    world.channel.heartbeat().await;
    let told = [Removed(of(1, "east"), Departure::Excluded), Added(of(2, "west"))];
    assert_eq!(drain(&mut events).await, told);
    assert_eq!(answer(&world, "west").await, Handled::NoTaker);
    assert!(matches!(answer(&world, "east").await, Handled::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn messages_of_another_domain_are_refused_and_counted() {
    let (world, _events) = world(DomainFilterConfig::default().with_domain("east").with_log_interval(2), "").await;
    assert_eq!(answer(&world, "east").await, Handled::NoTaker);
    for stranger in ["", "west", "eas", "east ", "East"] {
        // The sender hears of it (T12).
        let Handled::Failed(text) = answer(&world, stranger).await else { panic!("{stranger} was let through") };
        assert!(text.contains("domain-filter") && text.contains("another domain"), "{text}");
    }
    assert_eq!(world.gauge("refused_messages"), 5);
    assert_eq!(world.channel.stats().layers[0].up.errors["refused"], 5);
}

#[tokio::test(start_paused = true)]
async fn empty_equals_empty() {
    let (world, mut events) = world(DomainFilterConfig::default(), "").await;
    world.below.raise(Added(of(1, "")));
    world.below.raise(Added(of(2, "x")));
    assert_eq!(drain(&mut events).await, [Added(of(1, ""))]);
    assert_eq!(answer(&world, "").await, Handled::NoTaker);
}

#[tokio::test(start_paused = true)]
async fn a_restart_begins_anew() {
    let (world, _) = world(DomainFilterConfig::default().with_domain("east"), "east").await;
    world.below.raise(Added(of(1, "east")));
    world.below.raise(Added(of(2, "west")));
    settle().await;
    world.channel.stop().await;
    assert_eq!((world.gauge("members"), world.gauge("foreign_members")), (0, 0));
    world.channel.start().await.unwrap();
    let mut events = world.channel.member_events();
    world.below.raise(Added(of(1, "east")));
    assert_eq!(drain(&mut events).await, [Added(of(1, "east"))]);
}

/// Whatever happens to members: those above see exactly those of the domain, and are told nothing that makes no sense.
#[test]
fn those_above_always_see_the_domain_and_nothing_else() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let domains = ["", "east", "west"];
    let (mut core, mut wanted) = (Core::default(), "");
    let mut below: BTreeMap<u16, &str> = BTreeMap::new();
    let mut above: BTreeMap<Arc<Member>, Arc<Member>> = BTreeMap::new();
    for _ in 0..20_000 {
        let (number, domain) = (rng.u16(1..6), domains[rng.usize(..3)]);
        let events: Vec<_> = match rng.u8(..8) {
            0..3 => {
                below.insert(number, domain);
                core.event(&Added(of(number, domain))).into_iter().collect()
            }
            3..5 if below.contains_key(&number) => {
                below.insert(number, domain);
                core.event(&Updated(of(number, domain))).into_iter().collect()
            }
            5 => core.event(&Suspected(member(number), Suspicion::Silent)).into_iter().collect(),
            6 => {
                below.remove(&number);
                core.event(&Removed(member(number), Departure::Failed)).into_iter().collect()
            }
            7 => {
                wanted = domain;
                core.set_domain(domain.as_bytes())
            }
            _ => continue,
        };
        for event in events {
            match event {
                Added(member) => drop(above.insert(Arc::clone(&member), member)),
                Updated(member) => {
                    assert!(above.insert(Arc::clone(&member), member).is_some(), "updated unknown, seed {seed}");
                }
                Removed(member, _) => {
                    assert!(above.remove(&member).is_some(), "removed an unknown one, seed {seed}");
                }
                other => assert!(above.contains_key(other.member()), "suspected an unknown one, seed {seed}"),
            }
        }
        let seen: Vec<_> = above.values().map(|member| (member.port(), member.domain().clone())).collect();
        let right: Vec<_> = below
            .iter()
            .filter(|(_, domain)| **domain == wanted)
            .map(|(number, domain)| (i32::from(*number), (*domain).into()))
            .collect();
        assert_eq!(seen, right, "seed {seed}");
    }
}

#[test]
fn options_from_text() {
    let mut config = DomainFilterConfig::default();
    assert_eq!((config.domain.clone(), config.log_interval), (None, 100));
    config.set("domain", "east-1").unwrap();
    config.set("log_interval", "7").unwrap();
    assert_eq!(config, DomainFilterConfig::default().with_domain("east-1").with_log_interval(7));
    config.set("domain", "").unwrap();
    assert_eq!(config.domain, Some(vec![]));
    assert_eq!(config.clone().with_domain([0xFF]).validate(), Ok(()));
    let mut own = config.clone();
    own.set("domain", "(own)").unwrap();
    assert_eq!(own.domain, None);
    for (key, value) in [("domain", "zürich"), ("log_interval", "0"), ("log_interval", "often"), ("domains", "x")] {
        let error = config.set(key, value).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    assert_eq!((config.domain.clone(), config.log_interval), (Some(vec![]), 7));
    assert!(config.with_log_interval(0).validate().is_err());
}

/// Tribes' `TestDomainFilterInterceptor`.
#[test]
fn ten_channels_with_a_domain_each_see_nobody() {
    tribes_testkit::simulate(1, async |world| {
        let mut channels = Vec::new();
        for number in 0..10 {
            let filter = DomainFilter::new(DomainFilterConfig::default());
            let builder = world.join(Channel::builder()).interceptor(filter).domain(format!("domain {number}"));
            channels.push(builder.build().unwrap());
        }
        for channel in &channels {
            channel.start().await.unwrap();
        }
        world.sleep(Duration::from_secs(60)).await;
        assert!(channels.iter().all(|channel| channel.view().number() == 0));
        // They would see each other: one that changes its domain is seen.
        channels[0].set_domain("domain 1");
        assert!(world.until(Duration::from_secs(60), || channels[1].view().len() == 1).await);
    });
}

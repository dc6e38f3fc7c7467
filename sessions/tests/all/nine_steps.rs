//! The scenario by which Tomcat's clustering is explained, step by step, with what must be seen at each: two nodes and three, all
//! sessions everywhere and each on two nodes, a faultless network and a bad one.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tower_sessions::Session;
use tribes_core::MemberId;
use tribes_sessions::{EndReason, Mode, SessionEvent, SessionId, StateResult};
use tribes_testkit::net::LinkConfig;
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Browser, Place, Setup, T, within};

#[derive(Clone, Copy, Debug)]
struct Variant {
    mode: Mode,
    nodes: usize,
    is_lossy: bool,
}

/// With which of a few seeds each, unless the environment says otherwise.
const SEEDS: u64 = 6;

fn run(variant: Variant) {
    let command = "cargo test -p tribes-sessions --test all nine_steps";
    Seeds::from_env_or(SEEDS).run(command, |seed| {
        Simulation::new(seed)
            .quiet()
            .limit(Duration::from_secs(3600))
            .run(async |world| nine_steps(&world, variant).await);
    });
}

impl Variant {
    /// The inactivity timeout: on a bad network long enough for what is lost to be noticed and made up for.
    fn timeout(self) -> Duration {
        if self.is_lossy { 12 * T } else { T }
    }
}

fn browser(variant: Variant) -> Browser {
    // Where messages are lost a holder may not answer.
    Browser { patience: if variant.is_lossy { 5 } else { 0 }, ..Browser::default() }
}

/// How long what is to happen at once may take.
fn soon(variant: Variant) -> Duration {
    // What is lost on the way is noticed and made up for: at the latest by comparisons, every 10 s, of which some are lost.
    Duration::from_secs(if variant.is_lossy { 40 } else { 1 })
}

async fn nine_steps(world: &World, variant: Variant) {
    let timeout = variant.timeout();
    if variant.is_lossy {
        let links =
            LinkConfig::default().with_loss(0.2).with_duplicate(0.2).with_reorder(0.2, Duration::from_millis(20));
        world.net().set_links(links);
    }
    let setup: Setup = std::sync::Arc::new(move |builder| builder.mode(variant.mode).inactivity(variant.timeout()));
    let place = |name| Place::new(world, name, &setup);
    let (mut a, mut b) = (place("A"), place("B"));
    let mut more: Vec<Place> = ["C", "D"].into_iter().take(variant.nodes - 2).map(place).collect();

    // 1. A starts.
    let began = world.env().now();
    a.start(0).await;
    assert!(world.env().now() - began <= Duration::from_secs(2), "alone, it is ready at once");
    assert_eq!(a.store().stats().state.unwrap().0, StateResult::Alone);
    assert_eq!(a.store().stats().sessions, 0);

    // 2. B starts, and answers nobody before it has the state.
    b.open(1).await;
    let mut early = browser(variant);
    let answer = early.get(&b, "/").await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    assert_eq!(early.get(&b, "/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(early.get(&b, "/livez").await.status, StatusCode::OK);
    b.store().ready().await;
    assert_eq!(early.get(&b, "/readyz").await.status, StatusCode::OK);
    assert_eq!(b.store().stats().state.unwrap().0, StateResult::Complete);
    assert_eq!(b.store().stats().sessions, 0);
    for (place, others) in more.iter_mut().zip(2..) {
        place.start(others).await;
    }
    settled(world, &[&a, &b], &more, variant).await;

    // 3. A makes S1.
    let mut user = browser(variant);
    let answer = user.post(&a, "/", json!({ "user": 7 })).await;
    assert_eq!(answer.status, StatusCode::OK);
    let s1 = user.id();
    assert_eq!(user.route(), "A");
    // As soon as the client has its answer: another has it.
    let on_b = b.fields(s1).await;
    if variant.is_lossy {
        within(world, soon(variant), "B has the session", async || b.fields(s1).await == Some(json!({ "user": 7 })))
            .await;
    } else {
        assert_eq!(on_b, Some(json!({ "user": 7 })));
    }
    assert_eq!(a.store().stats().counts.created, 1);
    let a_id = a.server().channel.local().id();
    assert!(a.events().contains(&SessionEvent::Created { id: s1, by: a_id }));

    // 4. A crashes. On a bad network nobody may have acknowledged the session in time: then it takes a comparison.
    if variant.is_lossy {
        world.sleep(Duration::from_secs(20)).await;
    }
    a.kill();
    let gone = |place: &Place| place.server().channel.view().members().iter().all(|member| member.id() != a_id);
    within(world, Duration::from_secs(10), "B sees that A is gone", async || gone(&b)).await;
    for place in &more {
        within(world, Duration::from_secs(10), "others see that A is gone", async || gone(place)).await;
    }
    has(world, variant, &b, s1, Some(json!({ "user": 7 }))).await;
    assert!(b.ends(s1).is_empty());

    // 5. B gets a request for S1.
    let before = user.clone();
    let mut answer = user.get(&b, "/failover").await;
    if variant.is_lossy && answer.body != json!("A") {
        // Whoever holds it may not have answered.
        let found = async || {
            user = before.clone();
            answer = user.get(&b, "/failover").await;
            answer.body == json!("A")
        };
        within(world, soon(variant), "B finds the session", found).await;
    }
    assert_eq!(answer.body, json!("A"), "the handler sees where the client comes from");
    assert_eq!(user.id(), s1, "the id does not change");
    assert_eq!(user.route(), "B", "the client belongs to B now: {:?}", answer.set_cookie);
    let answer = user.post(&b, "/", json!({ "seen": 1 })).await;
    assert_eq!(answer.body, json!({ "user": 7, "seen": 1 }));
    let failovers = b.store().stats().counts.failovers;
    assert!(failovers == 1 || (variant.is_lossy && failovers > 1), "{failovers}");
    let b_id = b.server().channel.local().id();
    within(world, soon(variant), "B owns S1", async || owner(&b, s1).await == Some(b_id)).await;
    let failed_over = SessionEvent::FailedOver { id: s1, from: a_id, to: b_id };
    assert_eq!(b.events().iter().filter(|event| **event == failed_over).count(), 1);

    // 6. A restarts, as another incarnation, and has all of S1 before it serves anybody: when it was used last, too.
    world.sleep(Duration::from_secs(1)).await;
    a.open(1 + more.len()).await;
    assert_eq!(user.clone().get(&a, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    a.store().ready().await;
    has(world, variant, &a, s1, Some(json!({ "user": 7, "seen": 1 }))).await;
    assert_ne!(a.server().channel.local().id(), a_id);
    if variant.mode == Mode::All && !variant.is_lossy {
        let (on_a, on_b) = (a.store().idle(s1).unwrap(), b.store().idle(s1).unwrap());
        assert!(on_a.abs_diff(on_b) <= Duration::from_millis(300), "last used: {on_a:?} ago by A, {on_b:?} by B");
    }
    let mut stays = user.clone();
    assert_eq!(stays.get(&a, "/").await.body, json!({ "user": 7, "seen": 1 }));
    settled(world, &[&a, &b], &more, variant).await;

    // 7. A ends S1, while a slow request on B has it in hands.
    let slow = Session::new(Some(s1.into()), std::sync::Arc::new(b.store().clone()), None);
    within(world, soon(variant), "B loads it", async || slow.insert("late", true).await.is_ok()).await;
    let answer = stays.post(&a, "/logout", json!({})).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!stays.cookies.contains_key("id"), "the cookie is removed: {:?}", answer.set_cookie);
    within(world, soon(variant), "B has not the session any more", async || b.fields(s1).await.is_none()).await;
    within(world, soon(variant), "B saves it", async || slow.save().await.is_ok()).await;
    world.sleep(soon(variant)).await;
    let by = a.server().channel.local().id();
    let ended = SessionEvent::Destroyed { id: s1, reason: EndReason::Invalidated, by };
    for place in [&a, &b].into_iter().chain(&more) {
        has(world, variant, place, s1, None).await;
        let ends = place.ends(s1);
        let had_it = variant.mode == Mode::All || !ends.is_empty();
        assert!(!had_it || ends == std::slice::from_ref(&ended), "{}: {ends:?}", place.name);
    }
    // One that does not hold it and missed the news finds out when its time is over.
    let told = async || (a.ends(s1).len(), b.ends(s1).len()) == (1, 1);
    within(world, soon(variant) + 2 * timeout, "both served it, and tell of its end once", told).await;
    assert!(b.store().stats().counts.resurrections_prevented >= 1);
    assert_eq!(user.get(&b, "/").await.body, json!({}), "logged out");

    // 8. B makes S2.
    let mut user = browser(variant);
    let used = world.env().now();
    user.post(&b, "/", json!({ "user": 8 })).await;
    let s2 = user.id();
    assert!(s2 != s1 && user.route() == "B");
    within(world, soon(variant), "A has S2", async || a.fields(s2).await == Some(json!({ "user": 8 }))).await;
    within(world, soon(variant), "B owns S2", async || owner(&b, s2).await == Some(b_id)).await;

    // 9. S2 times out: not before its time, and then at once everywhere.
    let until = |time: Duration| (used + time) - world.env().now();
    world.sleep(until(timeout - Duration::from_millis(50))).await;
    if !variant.is_lossy {
        assert_eq!(b.fields(s2).await, Some(json!({ "user": 8 })), "not yet");
        assert_eq!(a.fields(s2).await, Some(json!({ "user": 8 })), "nor there");
    }
    // Used when it was made, which took no longer than that.
    world.sleep(until(timeout + Duration::from_millis(200))).await;
    has(world, variant, &b, s2, None).await;
    within(world, soon(variant), "A has not S2 any more", async || a.fields(s2).await.is_none()).await;
    world.sleep(soon(variant)).await;
    let ended = SessionEvent::Destroyed { id: s2, reason: EndReason::Timeout, by: b_id };
    for place in [&a, &b].into_iter().chain(&more) {
        has(world, variant, place, s2, None).await;
        let ends = place.ends(s2);
        assert!(ends == [ended.clone()] || (variant.mode != Mode::All && ends.is_empty()), "{}: {ends:?}", place.name);
    }
    assert_eq!(b.ends(s2), [ended]);
    nine_variants(world, variant, &mut a, &mut b).await;
}

/// 9a: its owner dies just before; 9b, clocks that differ, is below; 9c: requests that only read keep it alive.
async fn nine_variants(world: &World, variant: Variant, a: &mut Place, b: &mut Place) {
    let timeout = variant.timeout();
    // 9c.
    let mut user = browser(variant);
    user.post(b, "/", json!({ "user": 9 })).await;
    let s3 = user.id();
    let began = world.env().now();
    let at = |share: u32| (began + timeout * share / 10) - world.env().now();
    world.sleep(at(8)).await;
    reads(world, variant, &mut user, b).await;
    world.sleep(at(16)).await;
    reads(world, variant, &mut user, a).await;
    world.sleep(at(24)).await;
    reads(world, variant, &mut user, b).await;
    // 9a.
    let used = world.env().now();
    world.sleep((used + (timeout - Duration::from_millis(100))) - world.env().now()).await;
    b.kill();
    has(world, variant, a, s3, Some(json!({ "user": 9 }))).await;
    // Its end is due before anybody has noticed that B is gone; then it is ended at once.
    let noticed = Duration::from_secs(4);
    let slack = if variant.is_lossy { Duration::from_secs(10) } else { Duration::from_millis(200) };
    let ended = async || !alive(a, s3).await;
    within(world, timeout / 10 + noticed + slack, "A ends it alone", ended).await;
    let took = world.env().now() - used;
    assert!(took >= timeout, "not before its time: {took:?}");
    // Where another has ended it and A does not hold it, the news may be lost on the way; then A finds out by itself.
    let told = async || matches!(a.ends(s3)[..], [SessionEvent::Destroyed { reason: EndReason::Timeout, .. }]);
    within(world, soon(variant), "A tells of its end once", told).await;
}

/// The session has these fields at `place`: at once, or, on a bad network, when what is lost was made up for.
async fn has(world: &World, variant: Variant, place: &Place, id: SessionId, fields: Option<Value>) {
    let same = async || place.fields(id).await == fields;
    if variant.is_lossy {
        within(world, soon(variant), &format!("{} has {fields:?}", place.name), same).await;
    } else {
        assert_eq!(place.fields(id).await, fields, "{}", place.name);
    }
}

/// The client finds its session at `place`. On a bad network it may be told first that there is none, or that nobody answers.
async fn reads(world: &World, variant: Variant, user: &mut Browser, place: &Place) {
    let wanted = json!({ "user": 9 });
    if variant.is_lossy {
        let cookies = user.clone();
        let found = async || cookies.clone().get(place, "/").await.body == wanted;
        within(world, soon(variant), "the client finds its session", found).await;
    } else {
        assert_eq!(user.get(place, "/").await.body, wanted, "{}", place.name);
    }
}

async fn owner(place: &Place, id: SessionId) -> Option<MemberId> {
    place.store().owner(id).await.ok().flatten()
}

async fn alive(place: &Place, id: SessionId) -> bool {
    // In backup mode the holders may be about to change.
    place.store().get(id).await.is_ok_and(|fields| fields.is_some())
}

/// Waits until all see each other, and shares are where they are to be.
async fn settled(world: &World, places: &[&Place], more: &[Place], variant: Variant) {
    let all: Vec<&Place> = places.iter().copied().chain(more).collect();
    let complete = |place: &&Place| place.server().channel.view().members().len() == all.len() - 1;
    within(world, Duration::from_secs(20), "all see each other", async || all.iter().all(complete)).await;
    if variant.mode != Mode::All {
        world.sleep(Duration::from_secs(1)).await;
    }
}

macro_rules! variants {
    ($($name:ident: $mode:expr, $nodes:expr, $lossy:expr;)+) => {
        $(#[test]
        fn $name() {
            run(Variant { mode: $mode, nodes: $nodes, is_lossy: $lossy });
        })+
    };
}

variants! {
    two_nodes: Mode::All, 2, false;
    three_nodes: Mode::All, 3, false;
    two_nodes_on_a_bad_network: Mode::All, 2, true;
    three_nodes_on_a_bad_network: Mode::All, 3, true;
    two_nodes_with_a_copy: Mode::Backup { copies: 1 }, 2, false;
    three_nodes_with_a_copy: Mode::Backup { copies: 1 }, 3, false;
    two_nodes_with_a_copy_on_a_bad_network: Mode::Backup { copies: 1 }, 2, true;
    three_nodes_with_a_copy_on_a_bad_network: Mode::Backup { copies: 1 }, 3, true;
}

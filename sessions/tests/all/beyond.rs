//! What the nine steps do not catch: overlapping requests, crossing writes, members that join together, lost messages, split groups,
//! wrong clocks, dead holders, members that do not read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::Notify;
use tower::{Layer as _, ServiceExt as _};
use tower_sessions::{ExpiredDeletion as _, Expiry, Session};
use tribes_sessions::{
    Conflict, Durability, EndReason, JoinError, Mode, OnTimeout, ReplicationLayer, SessionEvent, SessionId, Shortfall,
    StateResult, StateTransfer,
};
use tribes_testkit::net::LinkConfig;
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Browser, L, Place, Setup, T, within};

const SEEDS: u64 = 5;
const SECOND: Duration = Duration::from_secs(1);

fn simulate(scenario: impl AsyncFn(&World)) {
    Seeds::from_env_or(SEEDS).run("cargo test -p tribes-sessions --test all beyond", |seed| {
        Simulation::new(seed).quiet().limit(Duration::from_secs(7200)).run(async |world| scenario(&world).await);
    });
}

fn setup(
    change: impl Fn(tribes_sessions::StoreBuilder) -> tribes_sessions::StoreBuilder + Send + Sync + 'static,
) -> Setup {
    Arc::new(change)
}

/// Fields that live long enough for anything, and each of another kind.
fn kinds() -> Setup {
    setup(|builder| {
        let builder = builder.inactivity(600 * SECOND).conflict("cart", Conflict::Union);
        builder.conflict("hits", Conflict::Counter).conflict("best", Conflict::Max)
    })
}

/// Two servers that see each other.
async fn two(world: &World, setup: &Setup) -> (Place, Place) {
    let (mut a, mut b) = (Place::new(world, "A", setup), Place::new(world, "B", setup));
    a.start(0).await;
    b.start(1).await;
    within(world, 5 * SECOND, "both see each other", async || !a.server().channel.view().members().is_empty()).await;
    (a, b)
}

/// A request on `place` that has loaded the session and not saved yet.
async fn request(place: &Place, id: SessionId) -> Session {
    let session = Session::new(Some(id.into()), Arc::new(place.store().clone()), Some(Expiry::OnSessionEnd));
    session.load().await.unwrap();
    session
}

async fn equal(a: &Place, b: &Place, id: SessionId) -> bool {
    a.fields(id).await == b.fields(id).await
}

fn conflicts(place: &Place) -> u64 {
    place.store().stats().counts.conflicts
}

/// Row 10.
#[test]
fn overlapping_requests_on_one_node() {
    simulate(async |world| {
        let (a, b) = two(world, &kinds()).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "user": 7, "cart": [1], "hits": 1 })).await;
        let id = user.id();
        let (one, other) = (request(&a, id).await, request(&a, id).await);
        one.insert("a", 1).await.unwrap();
        one.insert("cart", [1, 2]).await.unwrap();
        one.insert("hits", 2).await.unwrap();
        other.insert("b", 2).await.unwrap();
        other.insert("cart", [1, 3]).await.unwrap();
        other.insert("hits", 2).await.unwrap();
        one.save().await.unwrap();
        other.save().await.unwrap();
        let all = json!({ "user": 7, "a": 1, "b": 2, "cart": [1, 2, 3], "hits": 3 });
        assert_eq!(a.fields(id).await, Some(all.clone()));
        within(world, SECOND, "B has the same", async || b.fields(id).await == Some(all.clone())).await;
        assert_eq!((conflicts(&a), conflicts(&b)), (0, 0));
    });
}

/// Rows 11 and 12.
#[test]
fn crossing_writes_on_two_nodes() {
    simulate(async |world| {
        let (a, b) = two(world, &kinds()).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "user": 7, "hits": 10, "best": 1, "cart": ["k"], "same": 0 })).await;
        let id = user.id();
        let (one, other) = (request(&a, id).await, request(&b, id).await);
        for (request, name, best) in [(&one, "a", 5), (&other, "b", 9)] {
            request.insert(name, true).await.unwrap();
            request.insert("hits", 11).await.unwrap();
            request.insert("best", best).await.unwrap();
            request.insert("cart", ["k", name]).await.unwrap();
            request.insert("same", name).await.unwrap();
        }
        let (saved, saved_too) = tokio::join!(one.save(), other.save());
        saved.and(saved_too).unwrap();
        within(world, SECOND, "both are equal", async || equal(&a, &b, id).await).await;
        let fields = a.fields(id).await.unwrap();
        assert_eq!((&fields["a"], &fields["b"], &fields["hits"]), (&json!(true), &json!(true), &json!(12)));
        assert_eq!(fields["best"], json!(9));
        assert_eq!(fields["cart"].as_array().unwrap().len(), 3);
        let winner = fields["same"].clone();
        assert!(winner == json!("a") || winner == json!("b"));
        // What `best` was is settled by its rule; that it was written twice is told all the same.
        let told = |place: &Place| -> Vec<String> {
            let field = |event| match event {
                SessionEvent::Conflict { field, .. } => Some(field),
                _ => None,
            };
            place.events().into_iter().filter_map(field).collect()
        };
        for place in [&a, &b] {
            assert_eq!(told(place), ["best", "same"], "{}: each once", place.name);
            assert_eq!(conflicts(place), 2);
        }
        // Somebody who has seen both writes again: that is no conflict.
        user.post(&b, "/", json!({ "same": "settled" })).await;
        within(world, SECOND, "both are equal", async || equal(&a, &b, id).await).await;
        assert_eq!((conflicts(&a), conflicts(&b)), (2, 2));
    });
}

/// Row 13: a logout on one node, and a save on another at the same time.
#[test]
fn a_logout_and_a_save_at_the_same_time() {
    for mode in [Mode::All, Mode::Backup { copies: 1 }] {
        simulate(async |world| {
            let (a, b) = two(world, &setup(move |builder| builder.mode(mode))).await;
            let mut user = Browser::default();
            user.post(&a, "/", json!({ "user": 7 })).await;
            let id = user.id();
            let slow = request(&b, id).await;
            slow.insert("late", 1).await.unwrap();
            let (_, saved) = tokio::join!(user.post(&a, "/logout", json!({})), slow.save());
            saved.unwrap();
            world.sleep(SECOND).await;
            slow.insert("later", 1).await.unwrap();
            slow.save().await.unwrap();
            world.sleep(SECOND).await;
            for place in [&a, &b] {
                assert_eq!(place.fields(id).await, None, "{}", place.name);
                assert_eq!(place.ends(id).len(), 1);
            }
        });
    }
}

/// A request gives the session another id, which has ended meanwhile: it does not go on under the new one.
#[test]
fn a_logout_and_another_id_at_the_same_time() {
    simulate(async |world| {
        let (a, b) = two(world, &kinds()).await;
        // Without a layer an end on the same node could be the request's own.
        for (has_layer, is_logout, other) in [(true, true, &a), (true, true, &b), (false, true, &b), (false, false, &a)]
        {
            let mut user = Browser::default();
            user.post(&a, "/", json!({ "user": 7, "cart": [1] })).await;
            let (id, gate) = (user.id(), Arc::new((Notify::new(), Notify::new())));
            let (session, meanwhile) = (request(&a, id).await, Arc::clone(&gate));
            let service = tower::service_fn(move |_: Request<()>| {
                let (session, gate) = (session.clone(), Arc::clone(&gate));
                async move {
                    gate.0.notify_one();
                    gate.1.notified().await;
                    session.cycle_id().await.unwrap();
                    session.insert("seen", 1).await.unwrap();
                    session.save().await.unwrap();
                    Ok::<_, Infallible>(Response::new(session.id()))
                }
            });
            let slow = async {
                let request = Request::new(());
                let response = match has_layer {
                    true => ReplicationLayer::new(a.store()).layer(service).oneshot(request).await,
                    false => service.oneshot(request).await,
                };
                SessionId::from(response.unwrap().into_body().unwrap())
            };
            let end = async {
                meanwhile.0.notified().await;
                match is_logout {
                    true => drop(user.post(other, "/logout", json!({})).await),
                    false => assert_eq!(other.store().kill_all("user", &json!(7)).await.unwrap(), 1),
                }
                within(world, SECOND, "A has heard of it", async || a.fields(id).await.is_none()).await;
                meanwhile.1.notify_one();
            };
            let (after, ()) = tokio::join!(slow, end);
            assert_ne!(after, id);
            within(world, SECOND, "B has it", async || b.fields(after).await.is_some()).await;
            for place in [&a, &b] {
                assert_eq!(place.fields(after).await, Some(json!({ "seen": 1 })), "what it wrote itself");
                assert_eq!(place.fields(id).await, None);
            }
        }
    });
}

/// A login gives the session another id: the old one is dead at once, also for those who have it in hands.
#[test]
fn a_login_changes_the_id() {
    simulate(async |world| {
        let (a, b) = two(world, &kinds()).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "cart": [1] })).await;
        let (before, mut thief) = (user.id(), user.clone());
        let slow = request(&b, before).await;
        user.post(&a, "/login/7", json!({})).await;
        let after = user.id();
        assert_ne!(before, after);
        slow.insert("late", 1).await.unwrap();
        slow.save().await.unwrap();
        within(world, SECOND, "B has it", async || b.fields(after).await.is_some()).await;
        for place in [&a, &b] {
            assert_eq!(place.fields(after).await, Some(json!({ "cart": [1], "user": 7 })));
            assert_eq!(place.fields(before).await, None);
            let events = place.events();
            assert_eq!(
                events.iter().filter(|event| **event == SessionEvent::Renamed { from: before, to: after }).count(),
                1
            );
        }
        assert_eq!(thief.get(&b, "/").await.body, json!({}));
    });
}

/// A handler may save by itself, and the session layer saves once more.
#[test]
fn a_request_saves_twice() {
    simulate(async |world| {
        let (a, b) = two(world, &kinds()).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "hits": 5, "cart": [1, 2], "same": 0 })).await;
        let id = user.id();
        let twice = request(&a, id).await;
        twice.insert("hits", 6).await.unwrap();
        twice.insert("cart", [2, 3]).await.unwrap();
        twice.insert("same", 1).await.unwrap();
        twice.save().await.unwrap();
        user.post(&a, "/", json!({ "same": 2, "cart": [2] })).await;
        twice.save().await.unwrap();
        let wanted = json!({ "hits": 6, "cart": [2], "same": 2 });
        assert_eq!(a.fields(id).await, Some(wanted.clone()));
        within(world, SECOND, "B has the same", async || b.fields(id).await == Some(wanted.clone())).await;
        // One that makes its session.
        let new = Session::new(None, Arc::new(a.store().clone()), None);
        new.insert("hits", 1).await.unwrap();
        new.save().await.unwrap();
        let id = SessionId::from(new.id().unwrap());
        within(world, SECOND, "B has it", async || b.fields(id).await.is_some()).await;
        let other = request(&b, id).await;
        other.insert("b", 1).await.unwrap();
        other.save().await.unwrap();
        within(world, SECOND, "A has it", async || a.fields(id).await == Some(json!({ "hits": 1, "b": 1 }))).await;
        new.insert("a", 1).await.unwrap();
        new.save().await.unwrap();
        assert_eq!(a.fields(id).await, Some(json!({ "hits": 1, "b": 1, "a": 1 })));
    });
}

/// A client whose session is over logs in, by a handler that does not look at what was there; and one that brings an id of its own.
#[test]
fn an_id_that_is_over_is_not_used_again() {
    simulate(async |world| {
        let (a, _b) = two(world, &setup(|builder| builder)).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "user": 7 })).await;
        let over = user.id();
        let cookies = user.clone();
        user.post(&a, "/logout", json!({})).await;
        let mut late = cookies.clone();
        late.get(&a, "/failover").await;
        assert!(!late.cookies.contains_key("id"), "a cookie of what is over is taken away");
        for brought in [
            cookies.cookies["id"].clone(),
            format!("{}.A", SessionId::from_bits(42)),
            SessionId::from_bits(43).to_string(),
        ] {
            let mut user = Browser::default();
            user.cookies.insert("id".into(), brought.clone());
            user.post(&a, "/fresh/8", json!({})).await;
            let id = user.id();
            assert_ne!(id.to_string(), brought.split(['~', '.']).next().unwrap(), "nobody chooses an id");
            assert_eq!(a.fields(id).await, Some(json!({ "user": 8 })));
        }
        assert_eq!(a.fields(over).await, None);
        assert_eq!(a.fields(SessionId::from_bits(42)).await, None);
    });
}

/// A session does not end while a request has it, however long that takes.
#[test]
fn a_session_in_use_does_not_end() {
    simulate(async |world| {
        let (a, b) = two(world, &setup(|builder| builder)).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "user": 7 })).await;
        let id = user.id();
        world.sleep(T - Duration::from_millis(200)).await;
        let slow = request(&a, id).await;
        world.sleep(T - Duration::from_millis(200)).await;
        // A task that an application has for this may go on.
        a.store().delete_expired().await.unwrap();
        slow.insert("late", 1).await.unwrap();
        slow.save().await.unwrap();
        world.sleep(SECOND).await;
        assert_eq!(a.fields(id).await, Some(json!({ "user": 7, "late": 1 })));
        assert!(b.ends(id).is_empty());
    });
}

/// Row 14: two start at the same instant, a third has the state.
#[test]
fn two_that_join_together() {
    simulate(async |world| {
        let setup = kinds();
        let mut places: Vec<Place> = ["A", "B", "C"].into_iter().map(|name| Place::new(world, name, &setup)).collect();
        places[2].start(0).await;
        let mut user = Browser::default();
        for n in 0..50 {
            user = Browser::default();
            user.post(&places[2], "/", json!({ "user": n })).await;
        }
        let id = user.id();
        let began = world.env().now();
        let [a, b, c] = &mut places[..] else { unreachable!() };
        tokio::join!(async { a.open(1).await.store.ready().await }, async { b.open(1).await.store.ready().await });
        assert!(world.env().now() - began <= 2 * SECOND, "{:?}", world.env().now() - began);
        for place in [&*a, &*b] {
            assert_eq!(place.store().stats().sessions, 50);
            assert_eq!(place.store().stats().state.unwrap().0, StateResult::Complete);
            assert!(equal(place, c, id).await);
        }
    });
}

/// Takes everything.
struct Silent;

impl tribes_core::channel::ChannelEndpoint for Silent {
    fn receive(
        &self,
        _: tribes_core::Message,
        _: &Arc<tribes_core::Member>,
        _: tribes_core::Lease,
    ) -> Result<(), tribes_core::BoxError> {
        Ok(())
    }
}

/// Step 2b: a member is there and never answers. The joiner is ready when its patience is over, or fails, as it was told.
#[test]
fn a_member_that_never_answers() {
    for on_timeout in [OnTimeout::StartEmpty, OnTimeout::Fail] {
        simulate(async |world| {
            let transfer = StateTransfer { timeout: 10 * SECOND, on_timeout };
            // It takes what comes for a store, and says nothing.
            let silent = world.node().join(tribes_core::Channel::builder()).build().unwrap();
            silent.start().await.unwrap();
            let _map = silent.endpoint("map:sessions:shop", Arc::new(Silent)).unwrap();
            let channel = world.node().join(tribes_core::Channel::builder()).build().unwrap();
            channel.start_and_wait(1, 10 * SECOND).await.unwrap();
            let began = world.env().now();
            let joined =
                tribes_sessions::ReplicatedStore::builder("shop").state_transfer(transfer).join(&channel).await;
            let took = world.env().now() - began;
            assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
            match (on_timeout, joined) {
                (OnTimeout::Fail, Err(JoinError::Timeout { .. })) => {}
                (OnTimeout::StartEmpty, Ok(store)) => {
                    assert_eq!(store.stats().state.unwrap().0, StateResult::Timeout);
                    assert!(store.is_ready());
                }
                (_, other) => panic!("{other:?}"),
            }
        });
    }
}

/// Step 2a: the other member has no such store. Step 2c: it dies while the state is on its way.
#[test]
fn joining_where_there_is_nothing_to_have() {
    simulate(async |world| {
        let other = world.node().join(tribes_core::Channel::builder()).build().unwrap();
        other.start().await.unwrap();
        let mut a = Place::new(world, "A", &kinds());
        let began = world.env().now();
        a.start(1).await;
        assert!(world.env().now() - began <= 2 * SECOND, "nobody has such a store: ready at once");

        let mut user = Browser::default();
        for _ in 0..200 {
            user = Browser::default();
            user.post(&a, "/", json!({ "cart": ["x".repeat(1000)] })).await;
        }
        let mut b = Place::new(world, "B", &kinds());
        b.open(2).await;
        world.sleep(Duration::from_millis(3)).await;
        let began = world.env().now();
        a.kill();
        b.store().ready().await;
        assert!(world.env().now() - began < 15 * SECOND, "not after its patience: {:?}", world.env().now() - began);
        assert!(b.store().is_ready() && user.get(&b, "/").await.status == StatusCode::OK);
    });
}

/// Row 15: a session's first message is lost, then others come.
#[test]
fn a_lost_creation_is_made_up_for() {
    simulate(async |world| {
        let (a, b) = two(world, &setup(|builder| builder.durability(Durability::Queued))).await;
        world.net().set_link(&a.node, &b.node, LinkConfig::default().with_loss(1.0));
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "user": 7 })).await;
        let id = user.id();
        world.sleep(Duration::from_millis(100)).await;
        assert_eq!(b.fields(id).await, None);
        world.net().set_link(&a.node, &b.node, LinkConfig::default());
        user.post(&a, "/", json!({ "seen": 1 })).await;
        let whole = json!({ "user": 7, "seen": 1 });
        within(world, SECOND, "B has all of it", async || b.fields(id).await == Some(whole.clone())).await;
    });
}

/// Row 16: a split group, both sides write.
#[test]
fn a_split_group_comes_together_again() {
    simulate(async |world| {
        let (a, b) = two(world, &kinds()).await;
        let mut users: Vec<Browser> = Vec::new();
        for n in 0..10 {
            let mut user = Browser::default();
            user.post(&a, "/", json!({ "user": n, "cart": [], "hits": 0 })).await;
            users.push(user);
        }
        world.net().cut(&a.node, &b.node);
        world.sleep(30 * SECOND).await;
        for user in &mut users {
            let mut elsewhere = user.clone();
            user.post(&a, "/", json!({ "a": 1, "cart": ["of a"], "hits": 2 })).await;
            elsewhere.post(&b, "/", json!({ "b": 1, "cart": ["of b"], "hits": 3 })).await;
        }
        let (mut of_a, mut of_b) = (Browser::default(), Browser::default());
        of_a.post(&a, "/", json!({ "a": "new" })).await;
        of_b.post(&b, "/", json!({ "b": "new" })).await;
        // One of them logs out on one side.
        let gone = users.pop().unwrap().id();
        a.store().invalidate(gone).await.unwrap();
        world.net().heal();
        for user in &users {
            let merged = |fields: Option<serde_json::Value>| {
                fields.is_some_and(|fields| {
                    fields["a"] == 1
                        && fields["b"] == 1
                        && fields["hits"] == 5
                        && fields["cart"].as_array().unwrap().len() == 2
                })
            };
            let both = async || merged(a.fields(user.id()).await) && merged(b.fields(user.id()).await);
            within(world, 30 * SECOND, "both sides have both", both).await;
            assert!(equal(&a, &b, user.id()).await);
        }
        let both = async || b.fields(of_a.id()).await.is_some() && a.fields(of_b.id()).await.is_some();
        within(world, SECOND, "no session is lost", both).await;
        within(world, SECOND, "and none comes back", async || b.fields(gone).await.is_none()).await;
        world.sleep(20 * SECOND).await;
        assert_eq!((a.fields(gone).await, b.fields(gone).await), (None, None));
    });
}

/// Row 17, and 9b: clocks that differ by ten minutes.
#[test]
fn clocks_may_differ() {
    for skew in [600_000, -600_000] {
        simulate(async |world| {
            let setup = setup(|builder| builder);
            let (mut a, mut b) = (Place::new(world, "A", &setup), Place::new(world, "B", &setup));
            a.node.sim_env().step_wall_clock(skew);
            a.start(0).await;
            let mut user = Browser::default();
            user.post(&a, "/", json!({ "user": 7 })).await;
            let id = user.id();
            b.start(1).await;
            assert_eq!(b.fields(id).await, Some(json!({ "user": 7 })), "what comes with the state");
            // Each sees what the other wrote after it, whatever their clocks say.
            user.post(&b, "/", json!({ "same": "of b" })).await;
            within(world, SECOND, "A has it", async || equal(&a, &b, id).await).await;
            user.post(&a, "/", json!({ "same": "of a" })).await;
            let latest = async || b.fields(id).await.unwrap()["same"] == "of a";
            within(world, SECOND, "the later write counts", latest).await;
            let used = world.env().now();
            world.sleep(T - Duration::from_millis(100)).await;
            assert!(a.fields(id).await.is_some() && b.fields(id).await.is_some());
            let ended = async || a.fields(id).await.is_none() && b.fields(id).await.is_none();
            within(world, L + Duration::from_millis(400), "it ends on time", ended).await;
            assert!(world.env().now() - used >= T);
        });
    }
}

/// Row 18: with one copy, the death of one node loses nothing, and that of both that held a session loses it, and only it.
#[test]
fn the_holders_of_a_session_die() {
    simulate(async |world| {
        let setup = setup(|builder| builder.mode(Mode::Backup { copies: 1 }).inactivity(3600 * SECOND));
        let mut places: Vec<Place> =
            ["A", "B", "C", "D"].into_iter().map(|name| Place::new(world, name, &setup)).collect();
        for (place, others) in places.iter_mut().zip(0..) {
            place.start(others).await;
        }
        let others = |place: &Place| place.server().channel.view().members().len();
        within(world, 10 * SECOND, "all are there", async || places.iter().all(|place| others(place) == 3)).await;
        world.sleep(3 * SECOND).await;
        let mut users = Vec::new();
        for n in 0..120 {
            let mut user = Browser::default();
            user.post(&places[n % 4], "/", json!({ "user": n })).await;
            users.push(user);
        }
        world.sleep(SECOND).await;
        places[3].kill();
        let gone = |place: &Place| others(place) == 2;
        within(world, 10 * SECOND, "D is gone", async || places[..3].iter().all(gone)).await;
        world.sleep(10 * SECOND).await;
        for (n, user) in users.iter().enumerate() {
            assert_eq!(places[n % 3].fields(user.id()).await, Some(json!({ "user": n })), "one copy is left of {n}");
        }
        // Two at once.
        places[1].kill();
        places[2].kill();
        within(world, 10 * SECOND, "both are gone", async || others(&places[0]) == 0).await;
        world.sleep(10 * SECOND).await;
        let (mut left, mut lost_of_a) = (0, 0);
        for (n, user) in users.iter_mut().enumerate() {
            let is_there = places[0].fields(user.id()).await.is_some();
            left += usize::from(is_there);
            lost_of_a += u64::from(!is_there && n % 4 == 0);
            user.get(&places[0], "/").await;
        }
        assert!(left > 0 && left < users.len(), "those of which A had a copy are there: {left}");
        assert_eq!(places[0].store().ids().len(), left);
        let lost = places[0].events().iter().filter(|event| matches!(event, SessionEvent::Lost { .. })).count();
        assert!(lost_of_a > 0 && places[0].store().stats().counts.lost == lost_of_a && lost as u64 == lost_of_a);
    });
}

/// Row 19: a member that does not read. The others go on, their memory stays, and it gets what it missed afterwards.
#[test]
fn a_member_that_does_not_read() {
    simulate(async |world| {
        let setup = setup(|builder| builder.inactivity(3600 * SECOND).durability(Durability::Queued));
        let (a, b) = two(world, &setup).await;
        b.node.freeze();
        let mut users = Vec::new();
        for n in 0..300 {
            let mut user = Browser::default();
            let answer = user.post(&a, "/", json!({ "user": n, "cart": ["x".repeat(20_000)] })).await;
            assert_eq!(answer.status, StatusCode::OK);
            users.push(user);
        }
        let used = a.server().channel.stats().budget_used;
        assert!(used <= 32 << 20, "{used}");
        b.node.thaw();
        let complete = async || b.store().stats().sessions == users.len();
        within(world, 60 * SECOND, "B has all", complete).await;
    });
}

/// What a request asks for that cannot be had is told, or fails, as was chosen.
#[test]
fn a_shortfall() {
    for shortfall in [Shortfall::ServeAndReport, Shortfall::Fail] {
        simulate(async |world| {
            let mut a = Place::new(world, "A", &setup(move |builder| builder.on_shortfall(shortfall)));
            a.start(0).await;
            let mut user = Browser::default();
            let answer = user.post(&a, "/", json!({ "user": 7 })).await;
            let wanted = if shortfall == Shortfall::Fail { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            assert_eq!(answer.status, wanted, "nobody else is there to have it");
            assert_eq!(a.store().stats().counts.shortfalls, 1);
            assert_eq!(a.store().stats().sessions, 1, "it is written all the same");
        });
    }
}

/// Log out everywhere.
#[test]
fn all_sessions_of_a_user_are_ended() {
    for (mode, indexed) in [(Mode::All, true), (Mode::All, false), (Mode::Backup { copies: 1 }, true)] {
        simulate(async |world| {
            let (a, b) = two(
                world,
                &setup(move |builder| {
                    let builder = builder.mode(mode).inactivity(600 * SECOND);
                    if indexed { builder.index("user") } else { builder }
                }),
            )
            .await;
            let mut users = Vec::new();
            for n in 0..10 {
                let mut user = Browser::default();
                user.post(if n % 2 == 0 { &a } else { &b }, "/", json!({ "user": n % 5 })).await;
                users.push(user);
            }
            // Who was another before does not count.
            users[4].post(&a, "/", json!({ "user": 2 })).await;
            world.sleep(SECOND).await;
            assert_eq!(a.store().kill_all("user", &json!(2)).await.unwrap(), 3);
            world.sleep(SECOND).await;
            for (n, user) in users.iter().enumerate() {
                let is_over = [2, 4, 7].contains(&n);
                for place in [&a, &b] {
                    assert_eq!(place.fields(user.id()).await.is_none(), is_over, "{n} on {}", place.name);
                }
                let killed =
                    |event: &SessionEvent| matches!(event, SessionEvent::Destroyed { reason: EndReason::Killed, .. });
                assert_eq!(a.ends(user.id()).iter().filter(|event| killed(event)).count(), usize::from(is_over));
            }
            assert_eq!(a.store().kill_all("user", &json!(2)).await.unwrap(), 0);
        });
    }
}

/// A client reads what it wrote on whatever node it comes to next, though nothing waits for the others.
#[test]
fn a_client_reads_what_it_wrote() {
    simulate(async |world| {
        let (a, b) = two(world, &setup(|builder| builder.durability(Durability::Local))).await;
        world.net().set_link(
            &a.node,
            &b.node,
            LinkConfig::default().with_delay(Duration::from_millis(10), Duration::from_millis(15)),
        );
        let mut user = Browser::default();
        for n in 0..20 {
            let (here, there) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
            user.post(here, "/", json!({ "seen": n })).await;
            assert_eq!(user.get(there, "/").await.body, json!({ "seen": n }));
        }
        assert_eq!(b.store().stats().counts.stale_reads, 0);
        assert!(b.store().stats().counts.waited_reads > 0);
        // The write is lost on its way: it is fetched.
        world.net().set_link(&a.node, &b.node, LinkConfig::default().with_loss(1.0));
        user.post(&a, "/", json!({ "seen": 99 })).await;
        world.net().set_link(&a.node, &b.node, LinkConfig::default());
        assert_eq!(user.get(&b, "/").await.body, json!({ "seen": 99 }));
    });
}

/// A node leaves in order: nobody is logged out, and when sessions were used last goes along.
#[test]
fn a_rolling_deployment() {
    for mode in [Mode::All, Mode::Backup { copies: 1 }] {
        simulate(async |world| {
            let setup = setup(move |builder| builder.mode(mode).inactivity(600 * SECOND));
            let (mut a, mut b) = two(world, &setup).await;
            let mut users = Vec::new();
            for n in 0..20 {
                let mut user = Browser::default();
                user.post(if n % 2 == 0 { &a } else { &b }, "/", json!({ "user": n })).await;
                users.push(user);
            }
            for round in 0..2 {
                for leaver in 0..2 {
                    let (leaving, stays) = if leaver == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
                    leaving.store().leave(10 * SECOND).await.unwrap();
                    assert_eq!(users[0].clone().get(leaving, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
                    leaving.server().channel.stop().await;
                    leaving.server = None;
                    for (n, user) in users.iter_mut().enumerate() {
                        assert_eq!(user.get(stays, "/").await.body, json!({ "user": n }), "round {round}");
                    }
                    leaving.node = world.node();
                    leaving.start(1).await;
                }
            }
        });
    }
}

/// What the session layer does with errors of the handler, and with what is too large.
#[test]
fn what_is_not_saved() {
    simulate(async |world| {
        let (a, _b) = two(world, &setup(|builder| builder.max_field(100))).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "user": 7 })).await;
        let id = user.id();
        assert_eq!(user.post(&a, "/fail", json!({})).await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(a.fields(id).await, Some(json!({ "user": 7 })), "not after a 5xx");
        let answer = user.post(&a, "/", json!({ "cart": "x".repeat(200), "theme": "dark" })).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(a.fields(id).await, Some(json!({ "user": 7 })), "all of it or nothing");
        assert_eq!(a.store().stats().counts.refused, 1);
    });
}

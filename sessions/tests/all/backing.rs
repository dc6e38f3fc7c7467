//! Sessions that are written behind to a store outside of the group, and had back from it when the whole group was down.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use serde_json::json;
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result as StoreResult};
use tribes_sessions::{BackingStats, Conflict, Mode, SessionId, SharedStore, Unreachable};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Browser, Place, Setup, within};

const SEEDS: u64 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// What is outside of the group: as a Redis it makes only what it has not, and saves only what it has.
#[derive(Clone, Default)]
struct Outside {
    records: Arc<Mutex<HashMap<Id, Record>>>,
    is_down: Arc<AtomicBool>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

impl Outside {
    fn up(&self) -> StoreResult<()> {
        match self.is_down.load(Ordering::Relaxed) {
            true => Err(Error::Backend("it is down".to_owned())),
            false => Ok(()),
        }
    }

    fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    fn has(&self, id: SessionId) -> bool {
        self.records.lock().unwrap().contains_key(&id.into())
    }
}

#[async_trait]
impl SessionStore for Outside {
    async fn create(&self, record: &mut Record) -> StoreResult<()> {
        self.up()?;
        let mut records = self.records.lock().unwrap();
        while records.contains_key(&record.id) {
            record.id = Id::default();
        }
        records.insert(record.id, record.clone());
        Ok(())
    }

    async fn save(&self, record: &Record) -> StoreResult<()> {
        self.up()?;
        if let Some(held) = self.records.lock().unwrap().get_mut(&record.id) {
            *held = record.clone();
        }
        Ok(())
    }

    async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
        self.up()?;
        Ok(self.records.lock().unwrap().get(id).cloned())
    }

    async fn delete(&self, id: &Id) -> StoreResult<()> {
        self.up()?;
        self.records.lock().unwrap().remove(id);
        Ok(())
    }
}

fn simulate(scenario: impl AsyncFn(&World)) {
    Seeds::from_env_or(SEEDS).run("cargo test -p tribes-sessions --test all backing", |seed| {
        Simulation::new(seed).quiet().limit(Duration::from_secs(7200)).run(async |world| scenario(&world).await);
    });
}

fn setup(outside: &Outside, mode: Mode) -> Setup {
    let shared = SharedStore::new(outside.clone());
    Arc::new(move |builder| {
        let builder = builder.mode(mode).inactivity(600 * SECOND).backing(shared.clone());
        builder.conflict("cart", Conflict::Union).conflict("hits", Conflict::Counter)
    })
}

fn stats(place: &Place) -> BackingStats {
    place.store().stats().backing.unwrap()
}

async fn two(world: &World, setup: &Setup) -> (Place, Place) {
    let (mut a, mut b) = (Place::new(world, "A", setup), Place::new(world, "B", setup));
    a.start(0).await;
    b.start(1).await;
    within(world, 5 * SECOND, "both see each other", async || !a.server().channel.view().members().is_empty()).await;
    (a, b)
}

/// All that waited is written.
async fn all_written(world: &World, places: &[&Place]) {
    within(world, 60 * SECOND, "all is written", async || {
        places.iter().all(|place| stats(place).pending == 0 && !stats(place).is_failing)
    })
    .await;
}

/// The whole group is killed, and comes back.
async fn all_die(a: &mut Place, b: &mut Place) {
    a.kill();
    b.kill();
    a.start(0).await;
    b.start(1).await;
}

#[test]
fn after_all_nodes_were_down_sessions_are_back() {
    for mode in [Mode::All, Mode::Backup { copies: 1 }] {
        simulate(async |world| {
            let outside = Outside::default();
            let (mut a, mut b) = two(world, &setup(&outside, mode)).await;
            let (mut ann, mut bob) = (Browser::default(), Browser::default());
            ann.post(&a, "/", json!({"user": 7, "cart": ["shoe"], "hits": 1})).await;
            ann.post(&b, "/", json!({"cart": ["shoe", "hat"], "hits": 2})).await;
            bob.post(&b, "/", json!({"user": 8})).await;
            // He logs out, and his cookie is all that is left.
            let over = bob.clone();
            bob.post(&a, "/logout", json!(null)).await;
            all_written(world, &[&a, &b]).await;
            assert!(outside.has(ann.id()) && !outside.has(over.id()));

            all_die(&mut a, &mut b).await;
            assert_eq!(a.store().stats().sessions, 0);
            // Both have it back at the same time: a counter is not counted twice for that.
            let mut other = ann.clone();
            let (one, two) = tokio::join!(ann.get(&a, "/"), other.get(&b, "/"));
            let expected = json!({"user": 7, "cart": ["hat", "shoe"], "hits": 2});
            for answer in [one.body, two.body] {
                let mut body = answer;
                body["cart"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
                assert_eq!(body, expected);
            }
            let later = ann.post(&a, "/", json!({"hits": 3})).await;
            assert_eq!(later.body["hits"], 3);
            within(world, 5 * SECOND, "B has it", async || b.fields(ann.id()).await.is_some_and(|it| it["hits"] == 3))
                .await;
            assert!(stats(&a).restored + stats(&b).restored >= 1);
            // Who had logged out has not logged in by that.
            let mut over = over;
            assert_eq!(over.get(&b, "/").await.body, json!({}));
        });
    }
}

/// The first that is heard of a session after all nodes were down may be that it is to end, or to be written over.
#[test]
fn the_first_request_after_all_were_down_may_be_a_logout() {
    for mode in [Mode::All, Mode::Backup { copies: 1 }] {
        simulate(async |world| {
            let outside = Outside::default();
            let (mut a, mut b) = two(world, &setup(&outside, mode)).await;
            let (mut ann, mut bob, mut eve) = (Browser::default(), Browser::default(), Browser::default());
            for (number, browser) in [&mut ann, &mut bob, &mut eve].into_iter().enumerate() {
                browser.post(&a, "/", json!({ "user": number })).await;
            }
            all_written(world, &[&a, &b]).await;
            all_die(&mut a, &mut b).await;
            let (over, stolen) = (ann.clone(), eve.clone());
            assert_eq!(ann.post(&a, "/logout", json!(null)).await.status, StatusCode::OK);
            assert_eq!(over.clone().get(&a, "/").await.body, json!({}), "it is over");
            // Cleared without a look at it, and written: that is what there is.
            bob.post(&a, "/fresh/7", json!(null)).await;
            assert_eq!(bob.get(&b, "/").await.body["user"], 7);
            outside.set_down(true);
            assert_eq!(eve.post(&a, "/logout", json!(null)).await.status, StatusCode::OK, "it cannot say");
            outside.set_down(false);
            all_written(world, &[&a, &b]).await;
            assert!(!outside.has(over.id()) && !outside.has(stolen.id()));
            for mut copy in [over, stolen] {
                assert_eq!(copy.get(&b, "/").await.body, json!({}));
            }
        });
    }
}

#[test]
fn a_backing_that_is_down_stops_nobody() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, mut b) = two(world, &setup(&outside, Mode::All)).await;
        let (mut ann, mut bob) = (Browser::default(), Browser::default());
        bob.post(&a, "/", json!({"user": 8})).await;
        all_written(world, &[&a, &b]).await;
        outside.set_down(true);
        for visit in 0..20 {
            let answer = ann.post(if visit % 2 == 0 { &a } else { &b }, "/", json!({"seen": visit})).await;
            assert_eq!((answer.status, &answer.body["seen"]), (StatusCode::OK, &json!(visit)));
            world.sleep(SECOND).await;
        }
        let over = bob.clone();
        assert_eq!(bob.post(&b, "/logout", json!(null)).await.status, StatusCode::OK);
        // A cookie of a session that no node has: nobody can say, and it is served.
        let mut stranger = Browser::default();
        stranger.cookies.insert("id".to_owned(), "AAAAAAAAAAAAAAAAAAAAAA".to_owned());
        assert_eq!(stranger.get(&a, "/").await.status, StatusCode::OK);
        assert!(stats(&a).is_failing && stats(&a).pending > 0 && stats(&a).missed > 0, "{:?}", stats(&a));
        assert!(outside.has(over.id()), "it cannot know");
        outside.set_down(false);
        all_written(world, &[&a, &b]).await;
        assert!(outside.has(ann.id()) && !outside.has(over.id()));
        all_die(&mut a, &mut b).await;
        assert_eq!(ann.get(&b, "/").await.body, json!({"seen": 19}));
        let mut over = over;
        assert_eq!(over.get(&a, "/").await.body, json!({}));
    });
}

#[test]
fn who_dies_before_it_has_written_leaves_that_to_the_others() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, b) = two(world, &setup(&outside, Mode::All)).await;
        let mut ann = Browser::default();
        ann.post(&a, "/", json!({"user": 7})).await;
        a.kill();
        assert!(!outside.has(ann.id()), "not within its delay");
        within(world, 30 * SECOND, "the other has written it", async || outside.has(ann.id())).await;
        assert_eq!(b.fields(ann.id()).await, Some(json!({"user": 7})));
    });
}

#[test]
fn one_that_is_only_read_does_not_end_there() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, mut b) = two(world, &setup(&outside, Mode::All)).await;
        let mut ann = Browser::default();
        ann.post(&a, "/", json!({"user": 7})).await;
        // For longer than it was written to live.
        for _ in 0..20 {
            world.sleep(60 * SECOND).await;
            assert_eq!(ann.get(&b, "/").await.body, json!({"user": 7}));
        }
        all_written(world, &[&a, &b]).await;
        all_die(&mut a, &mut b).await;
        assert_eq!(ann.get(&a, "/").await.body, json!({"user": 7}));
    });
}

#[test]
fn leaving_writes_what_waits() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, mut b) = two(world, &setup(&outside, Mode::All)).await;
        let mut ann = Browser::default();
        ann.post(&a, "/", json!({"user": 7})).await;
        assert!(!outside.has(ann.id()));
        a.store().leave(5 * SECOND).await.unwrap();
        assert!(outside.has(ann.id()));
        b.store().leave(5 * SECOND).await.unwrap();
        all_die(&mut a, &mut b).await;
        assert_eq!(ann.get(&b, "/").await.body, json!({"user": 7}));
    });
}

/// Whatever happens: when all is quiet, what is outside is what the nodes have.
#[test]
fn in_the_end_both_have_the_same() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, mut b) = two(world, &setup(&outside, Mode::All)).await;
        let mut users: Vec<(Browser, bool)> = (0..8).map(|_| (Browser::default(), false)).collect();
        let mut random = fastrand::Rng::with_seed(world.env().random());
        for step in 0..120 {
            let number = random.usize(..users.len());
            let place = if random.bool() { &a } else { &b };
            let (user, is_out) = &mut users[number];
            if *is_out {
                (*user, *is_out) = (Browser::default(), false);
            }
            match random.u32(..10) {
                0 if !user.cookies.is_empty() => {
                    let was = user.id();
                    user.post(place, "/logout", json!(null)).await;
                    user.cookies.insert("id".to_owned(), was.to_string());
                    *is_out = true;
                }
                1 => outside.set_down(random.bool()),
                2 if step % 3 == 0 => {
                    let place = if random.bool() { &mut a } else { &mut b };
                    place.kill();
                    world.sleep(random.u32(..5) * SECOND).await;
                    place.start(1).await;
                }
                _ => {
                    let answer = user.post(place, "/", json!({"seen": step})).await;
                    assert_eq!(answer.body["seen"], step);
                }
            }
            world.sleep(Duration::from_millis(random.u64(..2000))).await;
        }
        outside.set_down(false);
        all_written(world, &[&a, &b]).await;
        world.sleep(15 * SECOND).await;
        all_written(world, &[&a, &b]).await;
        let live: Vec<_> = users.iter().filter(|(user, is_out)| !is_out && !user.cookies.is_empty()).collect();
        let fields = async |place: &Place, id| place.fields(id).await;
        let mut before = Vec::new();
        for (user, _) in &live {
            let (one, other) = (fields(&a, user.id()).await, fields(&b, user.id()).await);
            assert!(one.is_some() && one == other, "{one:?} {other:?}");
            assert!(outside.has(user.id()));
            before.push(one);
        }
        for (user, _) in users.iter().filter(|(_, is_out)| *is_out) {
            assert!(
                !outside.has(user.id()),
                "it has ended, and is there: {:?}\n{}",
                user.id(),
                world.trace().join("\n")
            );
        }
        all_die(&mut a, &mut b).await;
        for ((user, _), before) in live.into_iter().zip(before) {
            let after = user.clone().get(&b, "/").await;
            assert_eq!(Some(after.body), before);
        }
    });
}

/// Nobody is logged out since the backing happens to be down when all nodes have started anew.
#[test]
fn who_cannot_be_found_just_now_keeps_the_cookie() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, mut b) = two(world, &setup(&outside, Mode::All)).await;
        let (mut ann, mut bob) = (Browser::default(), Browser::default());
        for browser in [&mut ann, &mut bob] {
            browser.post(&a, "/", json!({ "user": 7 })).await;
        }
        all_written(world, &[&a, &b]).await;
        outside.set_down(true);
        all_die(&mut a, &mut b).await;
        let before = ann.cookies.clone();
        for place in [&a, &b] {
            let answer = ann.get(place, "/").await;
            assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({})), "without a session");
            assert_eq!(ann.cookies, before);
        }
        outside.set_down(false);
        world.sleep(20 * SECOND).await;
        assert_eq!(ann.get(&a, "/").await.body, json!({ "user": 7 }));
        // Of one of which it is known that there is none the cookie is taken away.
        let mut stranger = Browser::default();
        stranger.cookies.insert("id".to_owned(), SessionId::from_bits(42).to_string());
        stranger.get(&b, "/").await;
        assert!(stranger.cookies.is_empty());
        let pending = stats(&b).pending;
        stranger.cookies.insert("id".to_owned(), SessionId::from_bits(42).to_string());
        stranger.post(&b, "/logout", json!(null)).await;
        assert_eq!(stats(&b).pending, pending, "nor is anything written for an id that anybody may have made up");
        assert_eq!(bob.get(&b, "/").await.body, json!({ "user": 7 }));
    });
}

#[test]
fn who_cannot_be_found_just_now_may_be_told_to_come_again() {
    simulate(async |world| {
        let outside = Outside::default();
        let base = setup(&outside, Mode::All);
        let setup: Setup = Arc::new(move |builder| base(builder).on_unreachable(Unreachable::Fail));
        let (mut a, mut b) = two(world, &setup).await;
        let (mut ann, mut new) = (Browser::default(), Browser::default());
        ann.post(&a, "/", json!({ "user": 7 })).await;
        all_written(world, &[&a, &b]).await;
        outside.set_down(true);
        all_die(&mut a, &mut b).await;
        for place in [&a, &b] {
            // The handler of these tests tells of it by another status; a session layer's own error is a 503.
            assert_eq!(ann.get(place, "/").await.status, StatusCode::BAD_GATEWAY);
            assert_eq!(new.post(place, "/", json!({ "user": 8 })).await.status, StatusCode::OK);
        }
        outside.set_down(false);
        world.sleep(20 * SECOND).await;
        assert_eq!(ann.get(&a, "/").await.body, json!({ "user": 7 }));
    });
}

/// It is down for longer than the end of a session is remembered otherwise, and who was to write the end died.
#[test]
fn an_end_is_remembered_until_it_is_there() {
    for mode in [Mode::All, Mode::Backup { copies: 1 }] {
        simulate(async |world| {
            let outside = Outside::default();
            let base = setup(&outside, mode);
            let setup: Setup = Arc::new(move |builder| base(builder).longest_partition(60 * SECOND));
            let (mut a, b) = two(world, &setup).await;
            let mut ann = Browser::default();
            ann.post(&a, "/", json!({ "user": 7 })).await;
            all_written(world, &[&a, &b]).await;
            let mut over = ann.clone();
            outside.set_down(true);
            assert_eq!(ann.post(&a, "/logout", json!(null)).await.status, StatusCode::OK);
            within(world, SECOND, "B knows", async || b.fields(over.id()).await.is_none()).await;
            a.kill();
            world.sleep(300 * SECOND).await;
            assert!(outside.has(over.id()));
            outside.set_down(false);
            assert_eq!(over.get(&b, "/").await.body, json!({}));
            within(world, 60 * SECOND, "it is gone there", async || !outside.has(ann_id(&outside))).await;
            world.sleep(300 * SECOND).await;
            assert!(outside.records.lock().unwrap().is_empty());
        });
    }
}

/// The id of the only record; of none if there is none.
fn ann_id(outside: &Outside) -> SessionId {
    outside.records.lock().unwrap().keys().next().map_or(SessionId::from_bits(0), |id| SessionId::from(*id))
}

/// Both sides of a split group write, each what it has; what they come to is written when they meet.
#[test]
fn what_a_split_group_comes_to_is_there() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, mut b) = two(world, &setup(&outside, Mode::All)).await;
        let mut ann = Browser::default();
        ann.post(&a, "/", json!({ "user": 7 })).await;
        all_written(world, &[&a, &b]).await;
        world.net().partition(&[&[&a.node], &[&b.node]]);
        world.sleep(60 * SECOND).await;
        let mut other = ann.clone();
        ann.post(&a, "/", json!({ "a": 1 })).await;
        other.post(&b, "/", json!({ "b": 1 })).await;
        world.sleep(120 * SECOND).await;
        world.net().heal();
        let all = json!({ "user": 7, "a": 1, "b": 1 });
        within(world, 120 * SECOND, "they meet", async || {
            a.fields(ann.id()).await == Some(all.clone()) && b.fields(ann.id()).await == Some(all.clone())
        })
        .await;
        all_written(world, &[&a, &b]).await;
        all_die(&mut a, &mut b).await;
        assert_eq!(ann.get(&a, "/").await.body, all);
    });
}

#[test]
fn what_it_has_lost_is_written_again() {
    simulate(async |world| {
        let outside = Outside::default();
        let (a, b) = two(world, &setup(&outside, Mode::All)).await;
        let mut ann = Browser::default();
        ann.post(&a, "/", json!({ "user": 7 })).await;
        all_written(world, &[&a, &b]).await;
        outside.records.lock().unwrap().clear();
        world.sleep(11 * SECOND).await;
        ann.post(&a, "/", json!({ "a": 1 })).await;
        all_written(world, &[&a, &b]).await;
        assert!(outside.has(ann.id()));
    });
}

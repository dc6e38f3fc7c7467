//! Sessions that are written behind to a store outside of the group, and had back from it when the whole group was down.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result as StoreResult};
use tower_sessions::{Session, SessionStore};
use tribes_sessions::{
    BackingStats, Conflict, Mode, ReplicatedSessionLayer, ReplicatedStore, SessionId, SharedStore, Unreachable,
};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Browser, NoStore, Place, Setup, within};

const SEEDS: u64 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// What is outside of the group: as a Redis it makes only what it has not, and saves only what it has.
#[derive(Clone, Default)]
struct Outside {
    records: Arc<Mutex<HashMap<Id, Record>>>,
    is_down: Arc<AtomicBool>,
}

impl Outside {
    /// The same, over another line.
    fn over_another_line(&self) -> Self {
        Self { records: Arc::clone(&self.records), is_down: Arc::default() }
    }
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

/// Another than the node that has had the session so far changed it last, and died.
#[test]
fn a_change_of_who_dies_is_written_by_who_is_left() {
    simulate(async |world| {
        let outside = Outside::default();
        let (mut a, mut b) = two(world, &setup(&outside, Mode::All)).await;
        let mut ann = Browser::default();
        ann.post(&a, "/", json!({"user": 7})).await;
        all_written(world, &[&a, &b]).await;
        // So that it is not written for having overlapped.
        world.sleep(15 * SECOND).await;
        ann.post(&b, "/", json!({"theme": "dark"})).await;
        within(world, SECOND, "A has it", async || {
            a.fields(ann.id()).await == Some(json!({"user": 7, "theme": "dark"}))
        })
        .await;
        b.kill();
        world.sleep(60 * SECOND).await;
        all_written(world, &[&a]).await;
        a.kill();
        a.start(0).await;
        assert_eq!(ann.get(&a, "/").await.body, json!({"user": 7, "theme": "dark"}));
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

/// Who begins to leave and thinks better of it serves as before.
#[test]
fn a_leave_that_is_given_up_leaves_the_gate_open() {
    simulate(async |world| {
        let outside = Outside::default();
        let (a, _b) = two(world, &setup(&outside, Mode::All)).await;
        let mut ann = Browser::default();
        ann.post(&a, "/", json!({"user": 7})).await;
        outside.set_down(true);
        let leave = tokio::time::timeout(SECOND, a.store().leave(20 * SECOND)).await;
        assert!(leave.is_err(), "it waits for what is outside");
        assert!(a.store().is_ready());
        assert_eq!(ann.get(&a, "/").await.body, json!({"user": 7}));
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

/// Who logs out where nobody can say whether there is such a session is logged out, also where somebody can.
#[test]
fn a_logout_holds_though_nobody_can_look() {
    for mode in [Mode::All, Mode::Backup { copies: 1 }] {
        simulate(async |world| {
            let here = Outside::default();
            let elsewhere = here.over_another_line();
            let (mut a, mut b) = (
                Place::new(world, "A", &setup(&here, mode)).with(in_one),
                Place::new(world, "B", &setup(&elsewhere, mode)).with(in_one),
            );
            a.start(0).await;
            b.start(1).await;
            let mut users: Vec<Browser> = Vec::new();
            for user in 0..4 {
                let mut browser = Browser::default();
                browser.post(&a, "/", json!({ "user": user })).await;
                users.push(browser);
            }
            all_written(world, &[&a, &b]).await;
            here.set_down(true);
            all_die(&mut a, &mut b).await;
            within(world, 5 * SECOND, "both see each other", async || {
                [&a, &b].iter().all(|place| !place.server().channel.view().members().is_empty())
            })
            .await;
            // One looks first, one does not; of one the other node has the session back by then.
            for (user, path) in users.iter_mut().zip(["/ends", "/reads-and-ends", "/ends", "/stays"]) {
                let before = user.clone();
                if before.id().to_bits() % 2 == 0 {
                    assert_ne!(before.clone().get(&b, "/").await.body, json!({}));
                }
                let answer = user.post(&a, path, json!(null)).await;
                assert_eq!(answer.status, StatusCode::OK, "{path}");
                assert_eq!(user.cookies.is_empty(), path != "/stays", "{path}");
                world.sleep(SECOND).await;
                let there = before.clone().get(&b, "/").await.body;
                assert_eq!(there == json!({}), path != "/stays", "{path}: {there}");
            }
            here.set_down(false);
            world.sleep(30 * SECOND).await;
            all_written(world, &[&a, &b]).await;
            assert_eq!(here.records.lock().unwrap().len(), 1, "the others are gone there, too");
            assert_eq!(users[3].get(&a, "/").await.body, json!({ "user": 3 }));
        });
    }
}

fn in_one(store: &ReplicatedStore, _: &str) -> Router {
    let all = async |session: Session| Ok::<_, NoStore>(Json(super::site::all(&session).await?));
    let set = async |session: Session, Json(fields): Json<HashMap<String, Value>>| {
        for (name, value) in fields {
            session.insert(&name, value).await?;
        }
        Ok::<_, NoStore>(())
    };
    let ends = async |session: Session| Ok::<_, NoStore>(session.flush().await?);
    let reads_and_ends = async |session: Session| {
        session.get_value("user").await?;
        Ok::<_, NoStore>(session.flush().await?)
    };
    let stays = async |session: Session| session.set_expiry(None);
    let removes = async |session: Session| Ok::<_, NoStore>(session.remove_value("user").await.map(drop)?);
    let renews = async |session: Session| Ok::<_, NoStore>(session.cycle_id().await?);
    let clears = async |session: Session| session.clear().await;
    Router::new()
        .route("/", get(all).post(set))
        .route("/ends", post(ends))
        .route("/reads-and-ends", post(reads_and_ends))
        .route("/stays", post(stays))
        .route("/removes", post(removes))
        .route("/renews", post(renews))
        .route("/clears", post(clears))
        .layer(ReplicatedSessionLayer::new(store).always_save(true))
}

/// What a handler does with a session of which nobody can say whether there is one neither ends it nor is lost.
#[test]
fn one_that_nobody_can_look_up_is_left_as_it_is() {
    simulate(async |world| {
        let outside = Outside::default();
        let mut a = Place::new(world, "A", &setup(&outside, Mode::All)).with(in_one);
        a.start(0).await;
        let mut users = Vec::new();
        for user in 0..7 {
            let mut browser = Browser::default();
            browser.post(&a, "/", json!({ "user": user, "cart": [user] })).await;
            users.push(browser);
        }
        all_written(world, &[&a]).await;
        outside.set_down(true);
        a.kill();
        a.start(0).await;
        let before = users.clone();
        for (user, path) in users.iter_mut().zip(["/", "/stays", "/removes"]) {
            let answer = if path == "/" { user.get(&a, path).await } else { user.post(&a, path, json!(null)).await };
            assert_eq!(answer.status, StatusCode::OK, "{path}");
        }
        users[3].post(&a, "/", json!({ "user": 33 })).await;
        users[4].post(&a, "/renews", json!(null)).await;
        users[5].post(&a, "/clears", json!(null)).await;
        let same: Vec<bool> = users.iter().zip(&before).map(|(now, then)| now.cookies == then.cookies).collect();
        assert_eq!(same, [true, true, true, false, false, false, true]);
        assert_eq!(users[3].get(&a, "/").await.body, json!({ "user": 33 }), "in a session of its own");
        outside.set_down(false);
        world.sleep(20 * SECOND).await;
        all_written(world, &[&a]).await;
        for user in [0, 1, 2, 6] {
            assert_eq!(users[user].get(&a, "/").await.body, json!({ "user": user, "cart": [user] }));
        }
        assert_eq!(users[3].get(&a, "/").await.body, json!({ "user": 33 }));
        assert_eq!(before[3].clone().get(&a, "/").await.body, json!({ "user": 3, "cart": [3] }), "nobody ended it");
        // A handler ended these: one to have another id, one to write over all that there is.
        for user in [4, 5] {
            assert_eq!(before[user].clone().get(&a, "/").await.body, json!({}));
            assert_eq!(users[user].get(&a, "/").await.body, json!({}));
        }
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

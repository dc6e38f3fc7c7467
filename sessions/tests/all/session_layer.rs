//! The session layer that is four in one: what is its own. What it has in common with the four the other tests show, of whose
//! servers about half have it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tower_sessions::{Expiry, Session};
use tribes_sessions::{
    Conflict, Mode, ReadyGateLayer, ReplicatedSessionLayer, ReplicatedStore, ReplicationLayer, SessionId, SessionRole,
    Skip, StickyLayer, StickyMode,
};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Browser, NoStore, Place, Setup, within};

const SECOND: Duration = Duration::from_secs(1);

fn simulate(scenario: impl AsyncFn(&World)) {
    Seeds::from_env_or(5).run("cargo test -p tribes-sessions --test all session_layer", |seed| {
        Simulation::new(seed).quiet().limit(Duration::from_secs(7200)).run(async |world| scenario(&world).await);
    });
}

fn setup(mode: Mode) -> Setup {
    Arc::new(move |builder| {
        let builder = builder.mode(mode).inactivity(600 * SECOND);
        builder.conflict("cart", Conflict::Union).conflict("hits", Conflict::Counter)
    })
}

async fn two(world: &World, setup: &Setup, application: fn(&ReplicatedStore, &str) -> Router) -> (Place, Place) {
    let mut places = (Place::new(world, "A", setup).with(application), Place::new(world, "B", setup).with(application));
    places.0.start(0).await;
    places.1.start(1).await;
    let (a, b) = (&places.0, &places.1);
    within(world, 5 * SECOND, "both see each other", async || {
        [a, b].iter().all(|place| place.server().channel.view().members().len() == 1)
    })
    .await;
    places
}

/// What another request on the same node does in between.
async fn meanwhile(store: &ReplicatedStore, session: &Session, name: &str, value: Value) {
    let id = SessionId::from(session.id().unwrap());
    let mut other = store.load_session(id).await.unwrap().unwrap();
    other.data.insert(name.to_owned(), value);
    store.save_session(id, &other.data, 600 * SECOND).await.unwrap();
}

fn routes(store: &ReplicatedStore) -> Router {
    let set = async |session: Session, Json(fields): Json<serde_json::Map<String, Value>>| {
        for (name, value) in fields {
            session.insert(&name, value).await?;
        }
        Ok::<_, NoStore>(())
    };
    let twice = async |State(store): State<ReplicatedStore>, session: Session| {
        session.insert("hits", 6).await?;
        session.insert("cart", [2, 3]).await?;
        session.insert("same", 1).await?;
        session.save().await?;
        meanwhile(&store, &session, "same", json!(2)).await;
        meanwhile(&store, &session, "hits", json!(16)).await;
        // And the layer saves once more.
        Ok::<_, NoStore>(session.insert("a", 1).await?)
    };
    let made_twice = async |session: Session| {
        session.insert("hits", 1).await?;
        session.save().await?;
        Ok::<_, NoStore>(session.insert("hits", 3).await?)
    };
    let removes = async |State(store): State<ReplicatedStore>, session: Session| {
        session.remove_value("a").await?;
        meanwhile(&store, &session, "b", json!(1)).await;
        Ok::<_, NoStore>(())
    };
    let clears = async |State(store): State<ReplicatedStore>, session: Session| {
        session.get_value("a").await?;
        meanwhile(&store, &session, "b", json!(1)).await;
        session.clear().await;
        Ok::<_, NoStore>(session.insert("user", 9).await?)
    };
    let fresh = async |session: Session| {
        session.clear().await;
        Ok::<_, NoStore>(session.insert("user", 8).await?)
    };
    let renews = async |session: Session| Ok::<_, NoStore>(session.cycle_id().await?);
    let ends = async |session: Session| Ok::<_, NoStore>(session.flush().await?);
    let fails = async |session: Session| {
        session.insert("failed", true).await?;
        Ok::<_, NoStore>(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let role = async |role: Option<Extension<SessionRole>>| Json(role.map(|Extension(role)| format!("{role:?}")));
    let keys = async |session: Session| Ok::<_, NoStore>(Json(session.get_value("a").await?));
    Router::new()
        .route("/", get(keys).post(set))
        .route("/untouched", get(async || ()))
        .route("/twice", post(twice))
        .route("/made-twice", post(made_twice))
        .route("/removes", post(removes))
        .route("/clears", post(clears))
        .route("/fresh", post(fresh))
        .route("/renews", post(renews))
        .route("/ends", post(ends))
        .route("/fails", post(fails))
        .route("/role", get(role))
        .with_state(store.clone())
}

fn plain(store: &ReplicatedStore, _: &str) -> Router {
    routes(store).layer(ReplicatedSessionLayer::new(store))
}

/// What a request was given is kept beside its data, whatever it does.
#[test]
fn what_a_handler_changes_is_what_is_written() {
    simulate(async |world| {
        let (a, b) = two(world, &setup(Mode::All), plain).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "hits": 5, "cart": [1, 2], "same": 0 })).await;
        let id = user.id();
        user.post(&a, "/twice", json!({})).await;
        let wanted = json!({ "hits": 16, "cart": [2, 3], "same": 2, "a": 1 });
        assert_eq!(a.fields(id).await, Some(wanted.clone()), "none is written twice, or over another");
        within(world, SECOND, "B has the same", async || b.fields(id).await == Some(wanted.clone())).await;
        user.post(&b, "/removes", json!({})).await;
        let wanted = json!({ "hits": 16, "cart": [2, 3], "same": 2, "b": 1 });
        assert_eq!(b.fields(id).await, Some(wanted), "what came in between is there");
        user.post(&b, "/clears", json!({})).await;
        assert_eq!(b.fields(id).await, Some(json!({ "user": 9 })), "who clears lets go of all there is");
        user.post(&b, "/renews", json!({})).await;
        assert_ne!(user.id(), id);
        assert_eq!(b.fields(id).await, None);
        assert_eq!(b.fields(user.id()).await, Some(json!({ "user": 9 })));

        let mut new = Browser::default();
        new.post(&a, "/made-twice", json!({})).await;
        assert_eq!(a.fields(new.id()).await, Some(json!({ "hits": 3 })), "counted once");
        let before = a.store().stats().counts;
        new.get(&a, "/").await;
        new.get(&a, "/untouched").await;
        let after = a.store().stats().counts;
        assert_eq!((after.loaded - before.loaded, after.saved - before.saved), (1, 0));
    });
}

/// A client whose session is over, and one that brings an id of its own, with a handler that does not look.
#[test]
fn nobody_chooses_an_id() {
    for mode in [Mode::All, Mode::Backup { copies: 1 }] {
        simulate(async |world| {
            let (a, b) = two(world, &setup(mode), plain).await;
            let mut user = Browser::default();
            user.post(&a, "/", json!({ "user": 7 })).await;
            let over = user.clone();
            user.post(&a, "/ends", json!({})).await;
            assert!(user.cookies.is_empty());
            let mut own = Browser::default();
            own.cookies.insert("id".into(), SessionId::from_bits(42).to_string());
            for (mut user, place) in [(over.clone(), &a), (over.clone(), &b), (own.clone(), &a), (own, &b)] {
                let brought = user.id();
                user.post(place, "/fresh", json!({})).await;
                assert_ne!(user.id(), brought);
                assert_eq!(place.fields(user.id()).await, Some(json!({ "user": 8 })));
                assert_eq!(place.fields(brought).await, None);
            }
            let mut late = over.clone();
            late.get(&a, "/").await;
            assert!(late.cookies.is_empty(), "a cookie of what is over is taken away");
        });
    }
}

/// A client that comes to another node keeps the cookie as long as before.
#[test]
fn who_moves_keeps_the_cookie_as_long() {
    fn moving(store: &ReplicatedStore, route: &str) -> Router {
        let expiry = Expiry::OnInactivity(time::Duration::minutes(10));
        let layer = ReplicatedSessionLayer::new(store).sticky(StickyLayer::new(store, route)).expiry(expiry);
        routes(store).layer(layer)
    }
    simulate(async |world| {
        let (mut a, b) = two(world, &setup(Mode::All), moving).await;
        let mut user = Browser::default();
        user.post(&a, "/", json!({ "a": 1 })).await;
        let id = user.cookies["id"].trim_end_matches(".A").to_owned();
        within(world, SECOND, "B has it", async || b.store().stats().sessions == 1).await;
        a.kill();
        within(world, 60 * SECOND, "A is gone", async || b.server().channel.view().members().is_empty()).await;
        let told = user.get(&b, "/untouched").await.set_cookie;
        assert_eq!(told, [format!("id={id}.B; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=600")]);
    });
}

fn with_settings(store: &ReplicatedStore, route: &str) -> Router {
    let layer = ReplicatedSessionLayer::new(store)
        .sticky(StickyLayer::new(store, route).mode(StickyMode::Cookie("node".into())))
        .replication(ReplicationLayer::new(store).tell_role(true).skip(Skip::regex("/untouched").unwrap()))
        .gate(ReadyGateLayer::new(store).retry_after(7).ready_path(Some("/well")))
        .cookie("sid")
        .attributes("Path=/shop; Domain=example.org")
        .expiry(Expiry::OnInactivity(time::Duration::minutes(10)))
        .always_save(true)
        .save_on_server_error(true);
    routes(store).layer(layer)
}

#[test]
fn it_is_as_it_is_set() {
    simulate(async |world| {
        let setup = setup(Mode::All);
        let mut first = Place::new(world, "A", &setup).with(with_settings);
        first.start(0).await;
        let mut second = Place::new(world, "B", &setup).with(with_settings);
        // Nobody has told it of a session yet.
        second.open(1).await;
        let mut user = Browser::default();
        let early = user.get(&second, "/").await;
        assert_eq!((early.status, early.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("7")));
        assert_eq!(user.get(&second, "/well").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(user.get(&second, "/livez").await.status, StatusCode::OK);
        second.store().ready().await;
        assert_eq!(user.get(&second, "/well").await.status, StatusCode::OK);
        assert_eq!(user.get(&second, "/role").await.body, json!("Absent"));

        let made = user.post(&first, "/", json!({ "a": 1 })).await;
        let id: SessionId = user.cookies["sid"].parse().unwrap();
        assert_eq!(
            made.set_cookie,
            [
                format!("sid={id}; Path=/shop; Domain=example.org; Max-Age=600"),
                "node=A; Path=/shop; Domain=example.org".to_owned(),
            ]
        );
        let read = user.get(&first, "/").await;
        assert_eq!(read.set_cookie.len(), 2, "always: {:?}", read.set_cookie);
        assert_eq!(user.get(&first, "/role").await.body, json!("Owner"));
        within(world, SECOND, "B has it", async || second.fields(id).await.is_some()).await;
        assert_eq!(user.get(&second, "/role").await.body, json!("Backup"));
        assert_eq!(user.cookies["node"], "B", "who comes stays");
        assert_eq!(user.post(&second, "/fails", json!({})).await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(second.fields(id).await, Some(json!({ "a": 1, "failed": true })));
        let ended = user.post(&second, "/ends", json!({})).await;
        assert_eq!(ended.set_cookie[0], "sid=; Path=/shop; Domain=example.org; Max-Age=0");
    });
}

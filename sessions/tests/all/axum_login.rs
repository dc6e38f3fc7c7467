//! axum-login, which uses tower-sessions 0.14, on two nodes: an application as its documentation has it, but for the line with the
//! store.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_login::tower_sessions::{Expiry, SessionManagerLayer};
use axum_login::{AuthManagerLayerBuilder, AuthUser, AuthnBackend, UserId, login_required};
use serde_json::{Value, json};
use tribes_sessions::{ReadyGateLayer, ReplicatedStore, ReplicationLayer, StickyLayer};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Browser, Place, Setup, within};

#[derive(Clone, Debug)]
struct User {
    id: i64,
    password: Vec<u8>,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.password
    }
}

/// Users and their passwords; each node has the same.
#[derive(Clone, Default)]
struct Backend {
    users: HashMap<i64, User>,
}

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = (i64, String);
    type Error = Infallible;

    async fn authenticate(&self, (id, password): (i64, String)) -> Result<Option<User>, Infallible> {
        Ok(self.users.get(&id).filter(|user| user.password == password.as_bytes()).cloned())
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.users.get(id).cloned())
    }
}

type AuthSession = axum_login::AuthSession<Backend>;

async fn login(mut auth: AuthSession, Path((id, password)): Path<(i64, String)>) -> StatusCode {
    match auth.authenticate((id, password)).await {
        Ok(Some(user)) if auth.login(&user).await.is_ok() => StatusCode::OK,
        Ok(None) => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn logout(mut auth: AuthSession) -> StatusCode {
    if auth.logout().await.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

async fn protected(auth: AuthSession) -> Json<Value> {
    Json(json!(auth.user.map(|user| user.id)))
}

fn application(store: &ReplicatedStore, route: &str) -> Router {
    let backend = Backend { users: HashMap::from([(7, User { id: 7, password: b"pw".to_vec() })]) };
    // let session_store = MemoryStore::default();
    let session_store = store.clone();
    let session_layer = SessionManagerLayer::new(session_store).with_expiry(Expiry::OnSessionEnd);
    let auth_layer = AuthManagerLayerBuilder::new(backend, session_layer).build();
    Router::new()
        .route("/protected", get(protected))
        .route_layer(login_required!(Backend))
        .route("/login/{user}/{password}", post(login))
        .route("/logout", post(logout))
        .layer(auth_layer)
        .layer(ReplicationLayer::new(store))
        .layer(StickyLayer::new(store, route))
        .layer(ReadyGateLayer::new(store))
}

async fn two_nodes(world: &World) {
    let setup: Setup = std::sync::Arc::new(|builder| builder.inactivity(Duration::from_secs(600)));
    let place = |name| Place::new(world, name, &setup).with(application);
    let (mut a, mut b) = (place("A"), place("B"));
    a.start(0).await;
    b.start(1).await;
    let seen = async || !a.server().channel.view().members().is_empty();
    within(world, Duration::from_secs(5), "both see each other", seen).await;

    let mut user = Browser::default();
    assert_eq!(user.get(&a, "/protected").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(user.post(&a, "/login/7/wrong", json!({})).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(user.post(&a, "/login/7/pw", json!({})).await.status, StatusCode::OK);
    assert_eq!(user.get(&b, "/protected").await.body, json!(7), "the other node knows him");

    a.kill();
    let gone = async || b.server().channel.view().members().is_empty();
    within(world, Duration::from_secs(10), "A is gone", gone).await;
    assert_eq!(user.get(&b, "/protected").await.body, json!(7));
    a.start(1).await;
    assert_eq!(user.get(&a, "/protected").await.body, json!(7), "also after its restart");

    let logged_in = user.clone();
    assert_eq!(user.post(&b, "/logout", json!({})).await.status, StatusCode::OK);
    for place in [&a, &b] {
        let gone = async || logged_in.clone().get(place, "/protected").await.status == StatusCode::UNAUTHORIZED;
        within(world, Duration::from_secs(1), "logged out everywhere", gone).await;
    }
    // He logs in once more: who had his old session has nothing of the new one.
    assert_eq!(user.post(&a, "/login/7/pw", json!({})).await.status, StatusCode::OK);
    assert_ne!(user.id(), logged_in.id());
    assert_eq!(user.get(&b, "/protected").await.body, json!(7));
    assert_eq!(logged_in.clone().get(&b, "/protected").await.status, StatusCode::UNAUTHORIZED);
}

#[test]
fn an_application_with_axum_login_on_two_nodes() {
    Seeds::from_env_or(3).run("cargo test -p tribes-sessions --all-features --test all axum_login", |seed| {
        Simulation::new(seed).quiet().run(async |world| two_nodes(&world).await);
    });
}

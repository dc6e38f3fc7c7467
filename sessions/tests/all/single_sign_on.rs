//! Several applications of one site, each with sessions of its own, and one login for all (Tomcat: `ClusterSingleSignOn`).

use std::time::Duration;

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use tower_sessions::{Session, SessionManagerLayer};
use tribes_sessions::{ReplicatedStore, ReplicationLayer};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Browser, NoStore, Place, Setup, within};

/// The session of the whole site.
#[derive(Clone)]
struct SignOn(Session);

/// Between the session layer of the site and those of the applications.
async fn sign_on(site: Session, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(SignOn(site));
    next.run(request).await
}

/// Within the session layer of an application: its user is that of the site.
async fn enter(
    Extension(SignOn(site)): Extension<SignOn>,
    session: Session,
    request: Request,
    next: Next,
) -> Result<Response, NoStore> {
    match (site.get::<u32>("user").await?, session.get::<u32>("user").await?) {
        (Some(user), known) if known != Some(user) => {
            session.cycle_id().await?;
            session.insert("user", user).await?;
        }
        (None, Some(_)) => session.flush().await?,
        _ => {}
    }
    Ok(next.run(request).await)
}

async fn login(
    Extension(SignOn(site)): Extension<SignOn>,
    session: Session,
    Path(user): Path<u32>,
) -> Result<(), NoStore> {
    for session in [site, session] {
        session.cycle_id().await?;
        session.insert("user", user).await?;
    }
    Ok(())
}

/// From all applications, in all browsers.
async fn logout(
    Extension(SignOn(site)): Extension<SignOn>,
    Extension(stores): Extension<Vec<ReplicatedStore>>,
) -> Result<Json<usize>, NoStore> {
    let mut ended = 0;
    if let Some(user) = site.get_value("user").await? {
        for store in stores {
            ended += store.kill_all("user", &user).await.unwrap();
        }
    }
    Ok(Json(ended))
}

fn application(name: &'static str, store: &ReplicatedStore) -> Router {
    let show = async |session: Session| {
        let (user, seen) = (session.get_value("user").await?, session.get_value("seen").await?);
        Ok::<_, NoStore>(Json(json!([user, seen])))
    };
    let see = async |session: Session, Path(what): Path<u32>| Ok::<_, NoStore>(session.insert("seen", what).await?);
    Router::new()
        .route("/", get(show))
        .route("/see/{what}", post(see))
        .route("/login/{user}", post(login))
        .route("/logout", post(logout))
        .layer(from_fn(enter))
        .layer(SessionManagerLayer::new(store.clone()).with_name(name).with_path(format!("/{name}")))
}

/// Two applications with the store of the site, one with its own.
fn site(shared: &ReplicatedStore, own: &ReplicatedStore) -> Router {
    Router::new()
        .nest("/shop", application("shop", shared))
        .nest("/admin", application("admin", shared))
        .nest("/wiki", application("wiki", own))
        .layer(from_fn(sign_on))
        .layer(SessionManagerLayer::new(shared.clone()).with_name("site").with_path("/"))
        .layer(Extension(vec![shared.clone(), own.clone()]))
        .layer(ReplicationLayer::new(shared))
        .layer(ReplicationLayer::new(own))
}

/// A server; and the store that one of its applications has for itself.
async fn start(world: &World, name: &'static str, others: usize) -> (Place, ReplicatedStore) {
    let setup: Setup = std::sync::Arc::new(|builder| builder.inactivity(Duration::from_secs(600)).index("user"));
    let mut place = Place::new(world, name, &setup);
    let server = place.start(others).await;
    let own = ReplicatedStore::builder("wiki").inactivity(Duration::from_secs(600)).index("user");
    let own = own.join(&server.channel).await.unwrap();
    let site = site(&server.store, &own);
    place.server.as_mut().unwrap().app = site;
    (place, own)
}

#[test]
fn one_login_for_all_applications() {
    Seeds::from_env_or(3).run("cargo test -p tribes-sessions --all-features --test all single_sign_on", |seed| {
        Simulation::new(seed).quiet().run(async |world: World| {
            let (a, own_a) = start(&world, "A", 0).await;
            let (b, own_b) = start(&world, "B", 1).await;
            let seen = async || !a.server().channel.view().members().is_empty();
            within(&world, Duration::from_secs(5), "both see each other", seen).await;

            let mut user = Browser::default();
            assert_eq!(user.get(&a, "/shop").await.body, json!([null, null]));
            user.post(&a, "/shop/see/3", json!({})).await;
            user.post(&b, "/admin/see/4", json!({})).await;
            user.post(&b, "/wiki/see/5", json!({})).await;
            let login = user.post(&a, "/shop/login/7", json!({})).await;
            assert_eq!(login.status, StatusCode::OK);
            let cookies: Vec<_> = login.set_cookie.iter().filter_map(|set| set.split_once('=')).collect();
            for (name, path) in [("shop", "Path=/shop"), ("site", "Path=/")] {
                let has = |(found, rest): &(&str, &str)| *found == name && rest.split("; ").any(|part| part == path);
                assert!(cookies.iter().any(has), "{cookies:?}");
            }
            // He is known to the others, on any node, and they have what they had of him.
            let all = [("/shop", json!([7, 3])), ("/admin", json!([7, 4])), ("/wiki", json!([7, 5]))];
            for (path, wanted) in &all {
                let knows = async || user.get(&b, path).await.body == *wanted;
                within(&world, Duration::from_secs(1), path, knows).await;
                assert_eq!(user.get(&b, path).await.body, *wanted);
            }
            assert_eq!(user.cookies.len(), 4);
            // Another browser of his, and another user.
            let mut second = Browser::default();
            second.post(&b, "/admin/login/7", json!({})).await;
            second.get(&b, "/wiki").await;
            let mut other = Browser::default();
            other.post(&b, "/wiki/login/8", json!({})).await;
            let whole = async || a.store().ids().len() == 3 + 2 + 1 && own_a.ids().len() == 1 + 1 + 1;
            within(&world, Duration::from_secs(1), "A has all sessions", whole).await;

            let logout = user.clone().post(&a, "/admin/logout", json!({})).await;
            assert_eq!((logout.status, logout.body), (StatusCode::OK, json!(3 + 2 + 1 + 1)));
            let ended = async || [a.store(), b.store(), &own_a, &own_b].iter().all(|store| store.ids().len() == 1);
            within(&world, Duration::from_secs(1), "ended everywhere, in both stores", ended).await;
            for browser in [&user, &second] {
                for (place, (path, _)) in [&a, &b].into_iter().flat_map(|place| all.iter().map(move |it| (place, it))) {
                    assert_eq!(
                        browser.clone().get(place, path).await.body,
                        json!([null, null]),
                        "{path} at {}",
                        place.name
                    );
                }
            }
            assert_eq!(other.get(&a, "/shop").await.body[0], json!(8), "nobody else was logged out");
        });
    });
}

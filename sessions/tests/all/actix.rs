//! actix-session on two nodes: an application with its middleware as it is, and this store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix_session::config::{BrowserSession, TtlExtensionPolicy};
use actix_session::storage::SessionStore as _;
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::{Key, time};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::test::{self as server, TestRequest};
use actix_web::{App, Error, HttpResponse, body, web};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tribes_core::Channel;
use tribes_sessions::{Conflict, Durability, Mode, ReplicatedStore, Shortfall};
use tribes_testkit::net::SimNet;
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use super::site::{Place, Setup, within};

const SEEDS: &str = "cargo test -p tribes-sessions --all-features --test all actix";
/// What the policies of `the_policy_for_uses` go by.
const TTL: Duration = Duration::from_secs(60);

/// Where a slow request waits.
#[derive(Debug, Default)]
struct Gate {
    entered: Notify,
    leave: Notify,
}

impl Gate {
    async fn pass(&self) {
        self.entered.notify_one();
        self.leave.notified().await;
    }
}

async fn read(session: Session) -> web::Json<Value> {
    let fields = session.entries();
    let told = fields.iter().filter(|(name, _)| !name.starts_with('\0'));
    web::Json(told.map(|(name, json)| (name.clone(), serde_json::from_str::<Value>(json).unwrap())).collect())
}

async fn set(session: Session, path: web::Path<(String, u32)>) -> Result<HttpResponse, Error> {
    session.insert(path.0.clone(), path.1)?;
    Ok(HttpResponse::Ok().finish())
}

async fn count(session: Session, gate: web::Data<Gate>) -> Result<HttpResponse, Error> {
    let hits: i64 = session.get("hits")?.unwrap_or_default();
    gate.pass().await;
    session.insert("hits", hits + 1)?;
    Ok(HttpResponse::Ok().finish())
}

async fn slow_set(
    session: Session,
    path: web::Path<(String, u32)>,
    gate: web::Data<Gate>,
) -> Result<HttpResponse, Error> {
    gate.pass().await;
    set(session, path).await
}

async fn slow_renew(
    session: Session,
    path: web::Path<(String, u32)>,
    gate: web::Data<Gate>,
) -> Result<HttpResponse, Error> {
    gate.pass().await;
    session.renew();
    set(session, path).await
}

async fn login(session: Session, user: web::Path<u32>) -> Result<HttpResponse, Error> {
    session.renew();
    session.insert("user", *user)?;
    Ok(HttpResponse::Ok().finish())
}

async fn logout(session: Session) -> HttpResponse {
    session.purge();
    HttpResponse::Ok().finish()
}

async fn fresh(session: Session, user: web::Path<u32>) -> Result<HttpResponse, Error> {
    session.clear();
    session.insert("user", *user)?;
    Ok(HttpResponse::Ok().finish())
}

async fn large(session: Session) -> Result<HttpResponse, Error> {
    session.insert("large", "x".repeat(100_000))?;
    Ok(HttpResponse::Ok().finish())
}

/// All nodes have the same.
fn key() -> Key {
    Key::from(&[7; 64])
}

fn application(
    store: ReplicatedStore,
    gate: Arc<Gate>,
    policy: TtlExtensionPolicy,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl body::MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let ttl = time::Duration::try_from(TTL).unwrap();
    let lifecycle = BrowserSession::default().state_ttl(ttl).state_ttl_extension_policy(policy);
    App::new()
        // .wrap(SessionMiddleware::builder(RedisSessionStore::new(…).await?, key())
        .wrap(SessionMiddleware::builder(store, key()).session_lifecycle(lifecycle).build())
        .app_data(web::Data::from(gate))
        .route("/", web::get().to(read))
        .route("/set/{name}/{value}", web::post().to(set))
        .route("/count", web::post().to(count))
        .route("/slow-set/{name}/{value}", web::post().to(slow_set))
        .route("/slow-renew/{name}/{value}", web::post().to(slow_renew))
        .route("/login/{user}", web::post().to(login))
        .route("/logout", web::post().to(logout))
        .route("/fresh/{user}", web::post().to(fresh))
        .route("/large", web::post().to(large))
}

/// A browser with one cookie.
#[derive(Clone, Default)]
struct Client {
    cookie: Option<String>,
    gate: Arc<Gate>,
    policy: Option<TtlExtensionPolicy>,
}

impl Client {
    async fn get(&mut self, store: &ReplicatedStore) -> Value {
        let (status, body) = self.ask(store, TestRequest::get().uri("/")).await;
        assert_eq!(status, StatusCode::OK);
        body
    }

    async fn post(&mut self, store: &ReplicatedStore, path: &str) -> StatusCode {
        self.ask(store, TestRequest::post().uri(path)).await.0
    }

    async fn ask(&mut self, store: &ReplicatedStore, request: TestRequest) -> (StatusCode, Value) {
        let policy = self.policy.clone().unwrap_or(TtlExtensionPolicy::OnStateChanges);
        let service = server::init_service(application(store.clone(), Arc::clone(&self.gate), policy)).await;
        let request = match &self.cookie {
            Some(cookie) => request.insert_header((header::COOKIE, cookie.as_str())),
            None => request,
        };
        let response = match server::try_call_service(&service, request.to_request()).await {
            Ok(response) => response,
            Err(error) => return (error.as_response_error().status_code(), Value::Null),
        };
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name_and_value, _) = cookie.split_once(';').unwrap();
            self.cookie = Some(name_and_value.to_owned()).filter(|_| !cookie.contains("Max-Age=0"));
        }
        let status = response.status();
        let body = body::to_bytes(response.into_body()).await.ok().unwrap_or_default();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Asks one thing, and, while the handler of that waits, does another.
    async fn meanwhile(&mut self, store: &ReplicatedStore, path: &str, other: impl Future<Output = ()>) -> StatusCode {
        let gate = Arc::clone(&self.gate);
        let meanwhile = async {
            gate.entered.notified().await;
            other.await;
            gate.leave.notify_one();
        };
        tokio::join!(self.post(store, path), meanwhile).0
    }
}

fn setup() -> Setup {
    Arc::new(|builder| builder.inactivity(Duration::from_secs(600)).conflict("hits", Conflict::Counter))
}

async fn start(world: &World, setup: &Setup) -> (Place, Place) {
    let (mut a, mut b) = (Place::new(world, "A", setup), Place::new(world, "B", setup));
    a.start(0).await;
    b.start(1).await;
    let seen = async || !a.server().channel.view().members().is_empty();
    within(world, Duration::from_secs(5), "both see each other", seen).await;
    (a, b)
}

fn on_two_nodes(scenario: impl AsyncFn(&World, Place, Place)) {
    Seeds::from_env_or(3).run(SEEDS, |seed| {
        let run = async |world: World| {
            let (a, b) = start(&world, &setup()).await;
            scenario(&world, a, b).await;
        };
        Simulation::new(seed).quiet().run(run);
    });
}

#[test]
fn a_session_outlives_its_node() {
    on_two_nodes(async |world, mut a, mut b| {
        let mut user = Client::default();
        assert_eq!(user.get(a.store()).await, json!({}));
        assert_eq!(user.cookie, None, "nothing to keep");
        assert_eq!(user.post(a.store(), "/set/cart/3").await, StatusCode::OK);
        // It was waited for: `durability`.
        assert_eq!(user.get(b.store()).await, json!({"cart": 3}));

        a.kill();
        let gone = async || b.server().channel.view().members().is_empty();
        within(world, Duration::from_secs(10), "A is gone", gone).await;
        assert_eq!(user.get(b.store()).await, json!({"cart": 3}));
        assert_eq!(user.post(b.store(), "/set/theme/1").await, StatusCode::OK);
        a.start(1).await;
        assert_eq!(user.get(a.store()).await, json!({"cart": 3, "theme": 1}), "also after its restart");

        let before = user.clone();
        assert_eq!(user.post(a.store(), "/login/7").await, StatusCode::OK);
        assert_ne!(user.cookie, before.cookie);
        for store in [a.store(), b.store()] {
            assert_eq!(user.get(store).await, json!({"cart": 3, "theme": 1, "user": 7}));
            assert_eq!(before.clone().get(store).await, json!({}), "the id that it had before is nobody's");
        }
        assert_eq!(user.post(b.store(), "/fresh/8").await, StatusCode::OK);
        assert_eq!(user.get(a.store()).await, json!({"user": 8}), "what it had before is gone");

        let logged_in = user.clone();
        assert_eq!(user.post(b.store(), "/logout").await, StatusCode::OK);
        assert_eq!(user.cookie, None);
        for place in [&mut a, &mut b] {
            assert_eq!(logged_in.clone().get(place.store()).await, json!({}));
            assert_eq!(place.store().ids(), []);
        }
    });
}

#[test]
fn requests_that_overlap_lose_nothing() {
    on_two_nodes(async |_, a, b| {
        let mut user = Client::default();
        assert_eq!(user.post(a.store(), "/set/cart/3").await, StatusCode::OK);
        for other in [a.store(), b.store()] {
            let mut second = user.clone();
            let meanwhile = async { assert_eq!(second.post(other, "/set/theme/1").await, StatusCode::OK) };
            assert_eq!(user.meanwhile(a.store(), "/slow-set/seen/2", meanwhile).await, StatusCode::OK);
            for store in [a.store(), b.store()] {
                assert_eq!(user.get(store).await, json!({"cart": 3, "theme": 1, "seen": 2}));
            }
            assert_eq!(user.post(a.store(), "/fresh/7").await, StatusCode::OK);
            assert_eq!(user.post(a.store(), "/set/cart/3").await, StatusCode::OK);
            // Both write the same field, of which the changes add up.
            let mut second = Client { gate: Arc::default(), ..user.clone() };
            second.gate.leave.notify_one();
            let meanwhile = async { assert_eq!(second.post(other, "/count").await, StatusCode::OK) };
            assert_eq!(user.meanwhile(a.store(), "/count", meanwhile).await, StatusCode::OK);
            assert_eq!(user.get(b.store()).await, json!({"cart": 3, "user": 7, "hits": 2}));
            assert_eq!(user.post(a.store(), "/logout").await, StatusCode::OK);
            assert_eq!(user.post(a.store(), "/set/cart/3").await, StatusCode::OK);
        }
    });
}

#[test]
fn a_slow_request_after_a_logout_logs_nobody_in() {
    on_two_nodes(async |_, a, b| {
        for other in [a.store(), b.store()] {
            let mut user = Client::default();
            assert_eq!(user.post(a.store(), "/login/7").await, StatusCode::OK);
            let mut second = user.clone();
            let meanwhile = async { assert_eq!(second.post(other, "/logout").await, StatusCode::OK) };
            let prevented = a.store().stats().counts.resurrections_prevented;
            // The handler's answer goes out.
            assert_eq!(user.meanwhile(a.store(), "/slow-set/seen/2", meanwhile).await, StatusCode::OK);
            assert_eq!(a.store().stats().counts.resurrections_prevented, prevented + 1);
            for store in [a.store(), b.store()] {
                assert_eq!(user.clone().get(store).await, json!({}));
                assert_eq!(store.ids(), []);
            }
            // He goes on with a session of which nobody else has the id.
            let over = user.cookie.clone();
            assert_eq!(user.post(b.store(), "/set/cart/3").await, StatusCode::OK);
            assert_ne!(user.cookie, over);
            assert_eq!(user.get(a.store()).await, json!({"cart": 3}));

            assert_eq!(user.post(a.store(), "/login/7").await, StatusCode::OK);
            let mut second = user.clone();
            let meanwhile = async { assert_eq!(second.post(other, "/logout").await, StatusCode::OK) };
            assert_eq!(user.meanwhile(a.store(), "/slow-renew/seen/2", meanwhile).await, StatusCode::OK);
            for store in [a.store(), b.store()] {
                assert_eq!(user.clone().get(store).await, json!({"seen": 2}), "what it wrote itself, and no more");
            }
            assert_eq!(user.post(a.store(), "/logout").await, StatusCode::OK);
        }
    });
}

#[test]
fn a_session_that_is_renewed_keeps_what_it_has() {
    on_two_nodes(async |_, a, b| {
        for other in [a.store(), b.store()] {
            let mut user = Client::default();
            assert_eq!(user.post(other, "/set/cart/3").await, StatusCode::OK);
            let before = user.clone();
            let mut second = user.clone();
            // What comes to the old one meanwhile goes with it: the new one has what its request was given, and wrote.
            let meanwhile = async { assert_eq!(second.post(other, "/set/theme/1").await, StatusCode::OK) };
            assert_eq!(user.meanwhile(a.store(), "/slow-renew/seen/2", meanwhile).await, StatusCode::OK);
            assert_eq!(user.get(b.store()).await, json!({"cart": 3, "seen": 2}));
            assert_eq!(before.clone().get(b.store()).await, json!({}));
        }
    });
}

/// Actix-session says when a session counts as used.
async fn policy(world: &World, policy: TtlExtensionPolicy, server_decides: bool) -> bool {
    let open = async |others| {
        let channel = world.join(Channel::builder()).build().unwrap();
        channel.start_and_wait(others, Duration::from_secs(60)).await.unwrap();
        let builder = ReplicatedStore::builder("shop").durability(Durability::copies(1, Duration::from_secs(2)));
        let builder = if server_decides { builder.inactivity(TTL) } else { builder };
        (builder.join(&channel).await.unwrap(), channel)
    };
    let ((a, _on_a), (b, _on_b)) = (open(0).await, open(1).await);
    let mut user = Client { policy: Some(policy), ..Client::default() };
    assert_eq!(user.post(&a, "/set/cart/3").await, StatusCode::OK);
    for _ in 0..8 {
        world.sleep(TTL / 10).await;
        assert_eq!(user.get(&b).await, json!({"cart": 3}));
    }
    world.sleep(TTL / 2).await;
    let lives = user.clone().get(&a).await == json!({"cart": 3});
    assert_eq!(user.get(&b).await == json!({"cart": 3}), lives, "all say the same");
    lives
}

#[test]
fn uses_are_what_its_policy_says() {
    Seeds::from_env_or(2).run(SEEDS, |seed| {
        Simulation::new(seed).quiet().run(async |world| {
            assert!(!policy(&world, TtlExtensionPolicy::OnStateChanges, false).await, "it was read only");
        });
        Simulation::new(seed).quiet().run(async |world| {
            assert!(policy(&world, TtlExtensionPolicy::OnEveryRequest, false).await, "it was used");
        });
        Simulation::new(seed).quiet().run(async |world| {
            assert!(policy(&world, TtlExtensionPolicy::OnStateChanges, true).await, "the store was told to count that");
        });
    });
}

#[test]
fn what_cannot_be_kept_is_an_error() {
    let setup: Setup = Arc::new(|builder| {
        builder.on_shortfall(Shortfall::Fail).durability(Durability::copies(1, Duration::from_millis(50)))
    });
    Seeds::from_env_or(2).run(SEEDS, |seed| {
        Simulation::new(seed).quiet().run(async |world: World| {
            let (a, mut b) = start(&world, &setup).await;
            let mut user = Client::default();
            assert_eq!(user.post(a.store(), "/set/cart/3").await, StatusCode::OK);
            assert_eq!(user.post(a.store(), "/large").await, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(user.get(a.store()).await, json!({"cart": 3}));
            b.kill();
            let gone = async || a.server().channel.view().members().is_empty();
            within(&world, Duration::from_secs(10), "B is gone", gone).await;
            assert_eq!(user.post(a.store(), "/set/cart/4").await, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(user.get(a.store()).await, json!({"cart": 4}), "it is made all the same");
            // A login is whole or not there, and a logout is one.
            assert_eq!(user.post(a.store(), "/logout").await, StatusCode::OK);
            assert_eq!(a.store().ids(), []);
        });
    });
}

#[test]
fn with_each_session_on_a_few_nodes() {
    let setup: Setup = Arc::new(|builder| builder.mode(Mode::Backup { copies: 1 }));
    Seeds::from_env_or(3).run(SEEDS, |seed| {
        Simulation::new(seed).quiet().run(async |world: World| {
            let (a, b) = start(&world, &setup).await;
            let mut user = Client::default();
            assert_eq!(user.post(a.store(), "/login/7").await, StatusCode::OK);
            let mut second = user.clone();
            let meanwhile = async { assert_eq!(second.post(b.store(), "/set/theme/1").await, StatusCode::OK) };
            assert_eq!(user.meanwhile(a.store(), "/slow-set/seen/2", meanwhile).await, StatusCode::OK);
            assert_eq!(user.get(b.store()).await, json!({"user": 7, "theme": 1, "seen": 2}));
            let before = user.clone();
            assert_eq!(user.post(b.store(), "/login/8").await, StatusCode::OK);
            assert_eq!(user.get(a.store()).await, json!({"user": 8, "theme": 1, "seen": 2}));
            assert_eq!(before.clone().get(a.store()).await, json!({}));
            for path in ["/slow-set/seen/3", "/slow-renew/seen/3"] {
                let mut second = user.clone();
                let meanwhile = async { assert_eq!(second.post(b.store(), "/logout").await, StatusCode::OK) };
                assert_eq!(user.meanwhile(a.store(), path, meanwhile).await, StatusCode::OK);
                for store in [a.store(), b.store()] {
                    assert_eq!(user.clone().get(store).await.get("user"), None);
                }
                assert_eq!(user.post(a.store(), "/login/8").await, StatusCode::OK);
            }
        });
    });
}

/// Asks a server that listens; the answer's body, and its cookie if it sets one.
async fn http(port: u16, request: &str, cookie: &str) -> (String, Option<String>) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    (body.to_owned(), set.map(|cookie| cookie.split(';').next().unwrap().to_owned()))
}

/// Real servers on real ports, each with several workers that are threads.
#[actix_web::test]
async fn all_workers_use_one_store() {
    let net = SimNet::new(1);
    let mut nodes = Vec::new();
    for others in 0..2 {
        let channel = net.join(Channel::builder()).build().unwrap();
        channel.start_and_wait(others, Duration::from_secs(30)).await.unwrap();
        let durability = Durability::copies(1, Duration::from_secs(30));
        let builder = ReplicatedStore::builder("shop").conflict("hits", Conflict::Counter).durability(durability);
        let store = builder.join(&channel).await.unwrap();
        let on_worker = store.clone();
        let gate = Arc::new(Gate::default());
        let server = actix_web::HttpServer::new(move || {
            let hit = async |session: Session| {
                session.insert("hits", session.get::<i64>("hits")?.unwrap_or_default() + 1)?;
                Ok::<_, Error>(format!("{:?}", std::thread::current().id()))
            };
            application(on_worker.clone(), Arc::clone(&gate), TtlExtensionPolicy::OnStateChanges)
                .route("/hit", web::post().to(hit))
        });
        let server = server.workers(2).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let port = server.addrs()[0].port();
        let running = server.run();
        let handle = running.handle();
        nodes.push((port, handle, actix_web::rt::spawn(running), store, channel));
    }
    let (first, second) = (nodes[0].0, nodes[1].0);
    let (_, cookie) = http(first, "POST /set/cart/3", "").await;
    let cookie = cookie.unwrap();
    let mut threads = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let hit = |port| http(port, "POST /hit", &cookie);
        let (a, b, c, d) = tokio::join!(hit(first), hit(first), hit(second), hit(second));
        threads.extend([a.0, b.0, c.0, d.0]);
    }
    assert_eq!(threads.len(), 4, "two workers of each server served");
    let (fields, _) = http(second, "GET /", &cookie).await;
    assert_eq!(serde_json::from_str::<Value>(&fields).unwrap(), json!({"cart": 3, "hits": 40}));

    // One server ends, with its threads; the stores go on.
    let (_, handle, running, store, _channel) = nodes.remove(0);
    handle.stop(true).await;
    running.await.unwrap().unwrap();
    http(second, "POST /login/7", &cookie).await;
    assert_eq!(store.ids(), nodes[0].3.ids());
    let fields = store.get(store.ids()[0]).await.unwrap().unwrap();
    assert_eq!((fields.len(), &fields["user"], &fields["hits"]), (3, &json!(7), &json!(40)));
    let (_, handle, running, ..) = nodes.remove(0);
    handle.stop(true).await;
    running.await.unwrap().unwrap();
}

/// A worker's runtime needs nothing, not even a clock: what is begun there belongs to the one in which the store was opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_begun_in_the_runtime_of_a_worker() {
    let net = SimNet::new(1);
    let mut stores = Vec::new();
    for others in 0..2 {
        let channel = net.join(Channel::builder()).build().unwrap();
        channel.start_and_wait(others, Duration::from_secs(30)).await.unwrap();
        let durability = Durability::copies(1, Duration::from_secs(30));
        let builder = ReplicatedStore::builder("shop").mode(Mode::Backup { copies: 1 }).durability(durability);
        stores.push((builder.join(&channel).await.unwrap(), channel));
    }
    let (a, b) = (stores[0].0.clone(), stores[1].0.clone());
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (state, ttl) = (HashMap::from([("user".to_owned(), "7".to_owned())]), time::Duration::minutes(1));
            // Whoever holds it, one of the two asks the other.
            for (one, other) in [(&a, &b), (&b, &a)] {
                let key = one.save(state.clone(), &ttl).await.unwrap();
                let mut found = other.load(&key).await.unwrap().unwrap();
                found.insert("seen".to_owned(), "1".to_owned());
                let key = other.update(key, found, &ttl).await.unwrap();
                one.update_ttl(&key, &(ttl * 2)).await.unwrap();
                assert_eq!(one.load(&key).await.unwrap().unwrap()["seen"], "1");
                one.delete(&key).await.unwrap();
                assert_eq!(other.load(&key).await.unwrap(), None);
            }
        });
    });
    tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap();
}

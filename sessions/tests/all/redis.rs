//! A real Redis: shared by nodes, with the layers before it; and behind ours. Needs `redis-server` (Debian's package of that name).

#![allow(clippy::disallowed_methods, reason = "a real server, on real time")]
#![allow(clippy::map_err_ignore, reason = "a client learns that it failed, and no more")]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_sessions::{Session, SessionManagerLayer};
use tower_sessions_core_0_14::session::{Id, Record};
use tower_sessions_core_0_14::session_store::SessionStore as _;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{Builder, ClientLike as _, Config, Pool, ReconnectPolicy};
use tribes_core::{Channel, Env};
use tribes_sessions::{
    Conflict, Failover, LayerStore, ReadyGateLayer, ReplicatedStore, ReplicationLayer, SharedStore, StickyLayer,
};
use tribes_testkit::net::SimNet;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis, which can be killed and started again at the same place. It forgets all then.
struct Redis {
    address: SocketAddr,
    process: Option<Child>,
    folder: PathBuf,
}

impl Redis {
    fn start() -> Self {
        // Somebody else may be given the port before the Redis listens there: then another.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let folder = std::env::temp_dir().join(format!("tribes-redis-{}-{}", std::process::id(), address.port()));
            std::fs::create_dir_all(&folder).unwrap();
            let mut redis = Self { address, process: None, folder };
            if redis.begin() {
                return redis;
            }
        }
        panic!("no Redis starts");
    }

    /// Whether it listens.
    fn begin(&mut self) -> bool {
        let port = self.address.port().to_string();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no", "--dir"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is to be installed (Debian: apt-get install redis-server)");
        let process = self.process.insert(process);
        let until = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < until {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            if std::net::TcpStream::connect(self.address).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn pool(&self) -> Pool {
        let mut config = Config::from_url(&format!("redis://{}", self.address)).unwrap();
        config.fail_fast = false;
        let pool = Builder::from_config(config)
            .with_performance_config(|performance| performance.default_command_timeout = Duration::from_millis(500))
            .with_connection_config(|connection| connection.max_command_attempts = 1)
            .set_policy(ReconnectPolicy::new_constant(0, 50))
            .build_pool(2)
            .unwrap();
        pool.connect_pool();
        pool
    }

    fn store(&self) -> SharedStore {
        SharedStore::new_0_14(RedisStore::new(self.pool()))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The same application over any store, with all layers.
fn application<S>(store: &S, route: &str) -> Router
where
    S: LayerStore + tower_sessions::SessionStore + Clone,
{
    let read = async |session: Session| {
        let user = session.get::<u32>("user").await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        Ok::<_, StatusCode>(user.unwrap_or_default().to_string())
    };
    let write = async |session: Session| session.insert("user", 7).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR);
    let logout = async |session: Session| session.flush().await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR);
    let failover = async |failover: Option<Extension<Failover>>| failover.map(|it| it.0.from).unwrap_or_default();
    Router::new()
        .route("/", get(read).post(write))
        .route("/logout", post(logout))
        .route("/failover", get(failover))
        .layer(
            ServiceBuilder::new()
                .layer(ReadyGateLayer::new(store))
                .layer(StickyLayer::new(store, route))
                .layer(ReplicationLayer::new(store))
                .layer(SessionManagerLayer::new(store.clone())),
        )
}

async fn ask(app: &Router, method: &str, path: &str, cookie: &str) -> (Response<()>, String) {
    let request = Request::builder().method(method).uri(path).header(header::COOKIE, cookie);
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    (Response::from_parts(parts, ()), String::from_utf8(bytes.to_vec()).unwrap())
}

fn cookie(response: &Response<()>) -> String {
    response.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
}

/// Again and again, until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("within {PATIENCE:?}: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_a_redis_with_the_same_layers() {
    let mut redis = Redis::start();
    // As two processes would: each with connections of its own.
    let (one, other) = (redis.store(), redis.store());
    let (a, b) = (application(&one, "a"), application(&other, "b"));
    until("the Redis answers", async || ask(&a, "GET", "/readyz", "").await.0.status() == StatusCode::OK).await;
    let (login, _) = ask(&a, "POST", "/", "").await;
    let at_a = cookie(&login);
    assert!(at_a.starts_with("id=") && at_a.ends_with(".a"), "{at_a}");
    assert_eq!(ask(&a, "GET", "/", &at_a).await.1, "7");
    // The other node has it, is told where it came from, and keeps the client.
    let (moved, from) = ask(&b, "GET", "/failover", &at_a).await;
    assert_eq!((from.as_str(), other.stats().failovers), ("a", 1));
    let at_b = cookie(&moved);
    assert_eq!(at_b, at_a.replace(".a", ".b"), "the id stays");
    assert_eq!(ask(&b, "GET", "/", &at_b).await.1, "7");

    redis.kill();
    until("it is noticed", async || ask(&b, "GET", "/readyz", "").await.0.status() == StatusCode::SERVICE_UNAVAILABLE)
        .await;
    // Not 500 with nothing: the client may try again.
    let (failed, body) = ask(&b, "POST", "/", &at_b).await;
    assert_eq!((failed.status(), body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, ""));
    assert_eq!(failed.headers()[header::RETRY_AFTER], "1");
    assert!(other.stats().failed > 0);
    assert_eq!(ask(&b, "GET", "/livez", "").await.0.status(), StatusCode::OK);

    assert!(redis.begin());
    until("it answers again", async || ask(&b, "GET", "/readyz", "").await.0.status() == StatusCode::OK).await;
    until("and saves", async || ask(&b, "POST", "/", "").await.0.status() == StatusCode::OK).await;
}

/// A node of a group of its own, on real time.
async fn node(net: &SimNet, others: usize, backing: SharedStore) -> (Channel, ReplicatedStore) {
    // The Redis has a clock, too.
    let channel = net.join(Channel::builder()).env(Env::real()).build().unwrap();
    channel.start_and_wait(others, PATIENCE).await.unwrap();
    let builder = ReplicatedStore::builder("shop").conflict("hits", Conflict::Counter).index("user");
    let builder = builder.backing(backing).write_behind(Duration::from_millis(100));
    let store = builder.join(&channel).await.unwrap();
    (channel, store)
}

fn pending(store: &ReplicatedStore) -> usize {
    store.stats().backing.unwrap().pending
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_behind_may_be_down_and_brings_sessions_back() {
    let mut redis = Redis::start();
    let net = SimNet::new(1);
    let (first, a) = node(&net, 0, redis.store()).await;
    let (second, b) = node(&net, 1, redis.store()).await;
    let (at_a, at_b) = (application(&a, "a"), application(&b, "b"));
    let ann = cookie(&ask(&at_a, "POST", "/", "").await.0);
    let bob = cookie(&ask(&at_a, "POST", "/", "").await.0);
    until("both are written", async || pending(&a) == 0 && a.stats().backing.unwrap().written >= 2).await;

    redis.kill();
    // Nobody notices.
    let carl = cookie(&ask(&at_b, "POST", "/", "").await.0);
    assert_eq!(ask(&at_a, "POST", "/logout", &bob).await.0.status(), StatusCode::OK);
    for app in [&at_a, &at_b] {
        assert_eq!(ask(app, "GET", "/", &ann).await.1, "7");
        until("the other has it", async || ask(app, "GET", "/", &carl).await.1 == "7").await;
        assert_eq!(ask(app, "GET", "/readyz", "").await.0.status(), StatusCode::OK);
    }
    until("it fails", async || a.stats().backing.unwrap().is_failing && pending(&a) > 0 && pending(&b) > 0).await;
    // It comes back empty: what changes from now on is written whole.
    assert!(redis.begin());
    assert_eq!(ask(&at_a, "POST", "/", &ann).await.0.status(), StatusCode::OK);
    let hits = |hits: i64| std::collections::HashMap::from([("hits".to_owned(), json!(hits))]);
    let dora = a.create_session(&hits(3), PATIENCE * 10).await.unwrap();
    until("all is written", async || pending(&a) == 0 && pending(&b) == 0).await;

    // All nodes are gone, without a word.
    for channel in [&first, &second] {
        channel.stop().await;
    }
    drop((a, b, at_a, at_b));
    let net = SimNet::new(2);
    let (_first, a) = node(&net, 0, redis.store()).await;
    let (_second, b) = node(&net, 1, redis.store()).await;
    let (at_a, at_b) = (application(&a, "a"), application(&b, "b"));
    until("the Redis is connected", async || ask(&at_b, "GET", "/", &carl).await.1 == "7").await;
    let (one, other) = tokio::join!(a.load_session(dora), b.load_session(dora));
    assert_eq!((&one.unwrap().unwrap().data["hits"], &other.unwrap().unwrap().data["hits"]), (&json!(3), &json!(3)));
    until("it is not counted twice", async || a.get(dora).await.unwrap() == b.get(dora).await.unwrap()).await;
    assert_eq!(a.get(dora).await.unwrap(), Some(hits(3)));
    assert_eq!(ask(&at_a, "GET", "/", &bob).await.1, "0", "he has logged out");
    assert!(a.stats().backing.unwrap().restored + b.stats().backing.unwrap().restored >= 2);
}

/// Who moves from a Redis to here need not log his users out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_an_application_left_in_a_redis_are_had_back() {
    let redis = Redis::start();
    let pool = redis.pool();
    pool.wait_for_connect().await.unwrap();
    let data = std::collections::HashMap::from([("user".to_owned(), json!(7)), ("cart".to_owned(), json!(["shoe"]))]);
    let expiry_date = time::OffsetDateTime::now_utc() + Duration::from_secs(3600);
    let mut record = Record { id: Id::default(), data: data.clone(), expiry_date };
    RedisStore::new(pool).create(&mut record).await.unwrap();

    let (_channel, store) = node(&SimNet::new(3), 0, redis.store()).await;
    let id = record.id.into();
    until("the Redis is connected", async || store.load_session(id).await.unwrap().is_some()).await;
    assert_eq!(store.get(id).await.unwrap(), Some(data));
    assert_eq!(store.kill_all("user", &Value::from(7)).await.unwrap(), 1);
    until("it is removed there, too", async || pending(&store) == 0).await;
    let left = RedisStore::new(redis.pool()).load(&record.id).await;
    assert_eq!(left.unwrap(), None);
}

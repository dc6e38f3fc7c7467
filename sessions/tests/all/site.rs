//! A group of web servers, and browsers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_sessions::{Session, SessionManagerLayer};
use tribes_core::Channel;
use tribes_sessions::{
    Durability, Failover, ReadyGateLayer, ReplicatedSessionLayer, ReplicatedStore, ReplicationLayer, SessionEvent,
    SessionId, StickyLayer, StoreBuilder,
};
use tribes_testkit::World;
use tribes_testkit::net::Node;

/// The inactivity timeout of the tests, and by how much others lag behind.
pub(crate) const T: Duration = Duration::from_secs(5);
pub(crate) const L: Duration = Duration::from_millis(500);

/// How a store is set up beyond what all tests have.
pub(crate) type Setup = Arc<dyn Fn(StoreBuilder) -> StoreBuilder + Send + Sync>;

/// A place where a web server runs, if one does.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) node: Node,
    pub(crate) server: Option<Server>,
    setup: Setup,
    application: fn(&ReplicatedStore, &str) -> Router,
    world: World,
    /// Of all servers that ran here.
    pub(crate) events: Arc<Mutex<Vec<SessionEvent>>>,
}

/// A web server of the group.
pub(crate) struct Server {
    pub(crate) channel: Channel,
    pub(crate) store: ReplicatedStore,
    pub(crate) app: Router,
}

impl Place {
    pub(crate) fn new(world: &World, name: &'static str, setup: &Setup) -> Self {
        let (events, setup) = (Arc::default(), Arc::clone(setup));
        // Servers of both kinds in one group, and over the seeds all that can be combined.
        let is_one = (world.net().seed() + u64::from(name.as_bytes()[0] / 2)).is_multiple_of(2);
        let application = if is_one { in_one_layer } else { in_layers };
        Self { name, node: world.node(), server: None, setup, application, world: world.clone(), events }
    }

    /// That runs another application.
    pub(crate) fn with(mut self, application: fn(&ReplicatedStore, &str) -> Router) -> Self {
        self.application = application;
        self
    }

    /// Starts a server that sees `others`; it is not ready yet.
    pub(crate) async fn open(&mut self, others: usize) -> &Server {
        let channel = self.node.join(Channel::builder()).build().unwrap();
        channel.start_and_wait(others, Duration::from_secs(60)).await.unwrap();
        self.world.note(format_args!("{} starts", self.name));
        let events = Arc::clone(&self.events);
        let builder = ReplicatedStore::builder("shop")
            .inactivity(T)
            .durability(Durability::copies(1, Duration::from_secs(2)))
            .on_event(move |event| events.lock().unwrap().push(event.clone()));
        let store = (self.setup)(builder).open(&channel).unwrap();
        let app = (self.application)(&store, self.name);
        self.server.insert(Server { channel, store, app })
    }

    /// Starts a server, and waits until it is ready.
    pub(crate) async fn start(&mut self, others: usize) -> &Server {
        self.open(others).await.store.ready().await;
        self.server()
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    pub(crate) fn store(&self) -> &ReplicatedStore {
        &self.server().store
    }

    /// SIGKILL: the process is gone, and its host says so.
    pub(crate) fn kill(&mut self) {
        self.world.note(format_args!("{} is killed", self.name));
        self.node.crash();
        self.server = None;
    }

    /// What this node's store told of.
    pub(crate) fn events(&self) -> Vec<SessionEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Why and how often the session ended here.
    pub(crate) fn ends(&self, id: SessionId) -> Vec<SessionEvent> {
        let is_its = |event: &SessionEvent| matches!(event, SessionEvent::Destroyed { id: ended, .. } if *ended == id);
        self.events().into_iter().filter(is_its).collect()
    }

    /// The session's fields here; none if it is not there.
    pub(crate) async fn fields(&self, id: SessionId) -> Option<Value> {
        for _ in 0..5 {
            match self.store().get(id).await {
                Ok(fields) => return fields.map(|fields| Value::Object(fields.into_iter().collect())),
                // On a bad network nobody that holds it may have answered.
                Err(error) => eprintln!("{}: {error}", self.name),
            }
        }
        panic!("{} finds no holder of {id:?}", self.name)
    }
}

/// The application within the four layers.
fn in_layers(store: &ReplicatedStore, route: &str) -> Router {
    application()
        .layer(SessionManagerLayer::new(store.clone()))
        .layer(ReplicationLayer::new(store))
        .layer(StickyLayer::new(store, route).remember(true))
        .layer(ReadyGateLayer::new(store))
}

/// The application within the one that is all four.
fn in_one_layer(store: &ReplicatedStore, route: &str) -> Router {
    application().layer(ReplicatedSessionLayer::new(store).sticky(StickyLayer::new(store, route).remember(true)))
}

/// The application: reads and writes whatever it is told to.
fn application() -> Router {
    let read = async |session: Session| Ok::<_, NoStore>(Json(all(&session).await?));
    let write = async |session: Session, Json(fields): Json<BTreeMap<String, Value>>| {
        for (name, value) in fields {
            session.insert(&name, value).await?;
        }
        Ok::<_, NoStore>(Json(all(&session).await?))
    };
    let login = async |session: Session, Path(user): Path<u32>| {
        session.cycle_id().await?;
        Ok::<_, NoStore>(session.insert("user", user).await?)
    };
    // What an application does that does not care what was there before.
    let fresh = async |session: Session, Path(user): Path<u32>| {
        session.clear().await;
        Ok::<_, NoStore>(session.insert("user", user).await?)
    };
    let logout = async |session: Session| Ok::<_, NoStore>(session.flush().await?);
    let fail = async |session: Session| {
        session.insert("failed", true).await?;
        Ok::<_, NoStore>(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let failover = async |failover: Option<Extension<Failover>>| Json(failover.map(|Extension(it)| it.from));
    Router::new()
        .route("/", get(read).post(write))
        .route("/login/{user}", post(login))
        .route("/fresh/{user}", post(fresh))
        .route("/logout", post(logout))
        .route("/fail", post(fail))
        .route("/failover", get(failover))
}

/// Fields that the tests know of, as the handler sees them.
pub(crate) async fn all(session: &Session) -> Result<Value, NoStore> {
    let mut fields = serde_json::Map::new();
    for name in ["user", "seen", "cart", "hits", "theme", "a", "b", "same"] {
        if let Some(value) = session.get_value(name).await? {
            fields.insert(name.to_owned(), value);
        }
    }
    Ok(Value::Object(fields))
}

/// The store did not do it.
pub(crate) struct NoStore(tower_sessions::session::Error);

impl From<tower_sessions::session::Error> for NoStore {
    fn from(error: tower_sessions::session::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for NoStore {
    fn into_response(self) -> Response {
        (StatusCode::BAD_GATEWAY, Json(self.0.to_string())).into_response()
    }
}

/// A browser: keeps its cookies.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
    /// How often it tries again when it is told that a server failed.
    pub(crate) patience: u32,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    pub(crate) set_cookie: Vec<String>,
    pub(crate) retry_after: Option<String>,
}

impl Browser {
    pub(crate) async fn get(&mut self, place: &Place, path: &str) -> Answer {
        self.ask(place, "GET", path, "").await
    }

    pub(crate) async fn post(&mut self, place: &Place, path: &str, fields: Value) -> Answer {
        self.ask(place, "POST", path, &fields.to_string()).await
    }

    async fn ask(&mut self, place: &Place, method: &str, path: &str, body: &str) -> Answer {
        let mut tries = 0;
        loop {
            let answer = self.ask_once(place, method, path, Body::from(body.to_owned())).await;
            let failed = [StatusCode::BAD_GATEWAY, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE]
                .contains(&answer.status);
            if !failed || tries >= self.patience {
                return answer;
            }
            tries += 1;
        }
    }

    async fn ask_once(&mut self, place: &Place, method: &str, path: &str, body: Body) -> Answer {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header(header::COOKIE, cookies.join("; ")) };
        let response = place.server().app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = |value: &header::HeaderValue| value.to_str().unwrap().to_owned();
        let set_cookie: Vec<String> = parts.headers.get_all(header::SET_COOKIE).iter().map(text).collect();
        for cookie in &set_cookie {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() || cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: parts.status,
            body: serde_json::from_slice(&bytes).unwrap_or(json!(null)),
            set_cookie,
            retry_after: parts.headers.get(header::RETRY_AFTER).map(text),
        }
    }

    /// The session's id, without what hangs on the cookie.
    pub(crate) fn id(&self) -> SessionId {
        self.cookies["id"].split(['~', '.']).next().unwrap().parse().unwrap()
    }

    /// The node that the cookie names.
    pub(crate) fn route(&self) -> String {
        self.cookies["id"].split_once('.').unwrap().1.to_owned()
    }
}

/// Waits until what `condition` asks for holds, or says what did not.
pub(crate) async fn within(world: &World, limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = world.env().now() + limit;
    while !condition().await {
        assert!(world.env().now() < deadline, "within {limit:?}: {what}\n{}", world.trace().join("\n"));
        world.sleep(Duration::from_millis(5)).await;
    }
}

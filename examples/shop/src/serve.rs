//! One node of the shop.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceBuilder;
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer, SessionStore};
use tribes::prelude::BoxError;
use tribes::sessions::{
    Conflict, Durability, Mode, ReadyGateLayer, ReplicatedSessionLayer, ReplicatedStore, ReplicationLayer, SharedStore,
    Skip, StickyLayer,
};

use crate::admin::Ended;
use crate::{admin, application, redis, witness};

/// How much is known of a save when its request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Saves {
    /// It is on its way to the others.
    Async,
    /// Another node has it.
    Acked,
}

/// Where sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// On the nodes, each of which has them.
    Tribes,
    /// In this process, and gone with it.
    Memory,
    /// In a Redis that all nodes share.
    Redis,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The node's name, as balancers know it.
    #[arg(long)]
    name: String,
    /// Where clients come.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// The multicast group in which nodes find each other.
    #[arg(long, default_value = "228.0.0.4:45564")]
    group: String,
    /// Waits until it sees so many other nodes, for ten seconds at most, before it takes their sessions over. Without it, a node
    /// that hears of nobody within a second takes itself for the first.
    #[arg(long, default_value_t = 0)]
    expect: usize,
    /// Shows at /admin what the node has, whole sessions with their ids: whoever sees that can be any user. And at /admin/events,
    /// with only the beginning of each id, what happens to it.
    #[arg(long)]
    admin: bool,
    /// How many other nodes hold each session; all, if it is not said.
    #[arg(long)]
    copies: Option<usize>,
    /// How much is known of a save when its request is answered.
    #[arg(long, value_enum, default_value = "acked")]
    saves: Saves,
    /// How many milliseconds a save that nobody waits for waits for others that travel along.
    #[arg(long)]
    linger: Option<u64>,
    /// Where sessions are.
    #[arg(long, value_enum, default_value = "tribes")]
    store: Kind,
    /// The address of the Redis, such as redis://127.0.0.1:6379. If sessions are on the nodes, they are written behind to it, too.
    #[arg(long, required_if_eq("store", "redis"))]
    redis: Option<String>,
    /// Only the session layer, no others: what there is without this project.
    #[arg(long)]
    bare: bool,
    /// Seconds without a request after which a session ends.
    #[arg(long, default_value_t = 1800.0)]
    idle: f64,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        match self.store {
            Kind::Tribes => self.replicated().await,
            Kind::Memory => {
                let store = SharedStore::new(MemoryStore::default());
                let app = match self.bare {
                    true => application::routes().layer(sessions(MemoryStore::default(), self.expiry()?)),
                    false => self.shared(&store)?,
                };
                self.serve(app).await
            }
            Kind::Redis => {
                let store = redis::sessions(self.redis.as_deref().unwrap_or_default())?;
                let app = match self.bare {
                    true => application::routes().layer(sessions(store, self.expiry()?)),
                    false => self.shared(&store)?,
                };
                self.serve(app).await
            }
        }
    }

    /// With a store that nodes share a session ends so long after its last save, and its cookie with it.
    fn expiry(&self) -> Result<Expiry, BoxError> {
        Ok(Expiry::OnInactivity(time::Duration::try_from(self.idle()?)?))
    }

    fn idle(&self) -> Result<Duration, BoxError> {
        Ok(Duration::try_from_secs_f64(self.idle)?)
    }

    /// The shop over a store that nodes share.
    fn shared(&self, store: &SharedStore) -> Result<Router, BoxError> {
        let layers = ServiceBuilder::new()
            .layer(ReadyGateLayer::new(store))
            .layer(StickyLayer::new(store, &self.name).attributes(COOKIE))
            .layer(ReplicationLayer::new(store).skip(Skip::static_assets()))
            .layer(sessions(store.clone(), self.expiry()?));
        Ok(application::routes().layer(layers))
    }

    async fn serve(&self, app: Router) -> Result<(), BoxError> {
        self.serve_until(app, stop()).await
    }

    async fn serve_until(
        &self,
        app: Router,
        stopped: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), BoxError> {
        let listener = TcpListener::bind(self.http).await?;
        println!("{} listens at http://{}", self.name, listener.local_addr()?);
        Ok(axum::serve(listener, app).with_graceful_shutdown(stopped).await?)
    }

    /// The shop over sessions that each node has.
    async fn replicated(self) -> Result<(), BoxError> {
        let channel = tribes::channel().bind("127.0.0.1:0").multicast(&self.group).name(&self.name).build()?;
        if let Err(error) = channel.start_and_wait(self.expect, Duration::from_secs(10)).await {
            // Those that are missing may be down: that is what this is all for.
            eprintln!("{}: {error}", self.name);
        }
        let ended = Ended::default();
        let events = ended.clone();
        let mut store = ReplicatedStore::builder("shop")
            .mode(self.copies.map_or(Mode::All, |copies| Mode::Backup { copies }))
            .durability(match self.saves {
                Saves::Async => Durability::Queued,
                Saves::Acked => Durability::copies(1, Duration::from_millis(500)),
            })
            .inactivity(self.idle()?)
            .conflict("cart", Conflict::Union)
            .index("user")
            .on_event(move |event| events.note(event));
        if let Some(linger) = self.linger {
            store = store.linger(Duration::from_millis(linger));
        }
        if let Some(url) = &self.redis {
            store = store.backing(redis::sessions(url)?);
        }
        let store = store.open(&channel)?;

        let routes = application::routes();
        // Said from within, for those who watch.
        let routes = if self.admin { witness::watch(routes, &self.name, &store) } else { routes };
        let mut app = match self.bare {
            // One line: the store of a session layer that there was.
            true => routes.layer(sessions(store.clone(), Expiry::OnSessionEnd)),
            false => routes.layer(
                ReplicatedSessionLayer::new(&store)
                    .attributes(COOKIE)
                    .sticky(StickyLayer::new(&store, &self.name).remember(true))
                    .replication(ReplicationLayer::new(&store).skip(Skip::static_assets())),
            ),
        };
        // What is not the administration's goes through the layers, also what the gate answers itself.
        let (stopping, stops) = watch::channel(false);
        if self.admin {
            let admin = admin::routes(&self.name, &channel, &store, ended, stops);
            app = admin.merge(witness::counted(&store)).fallback_service(app);
        }

        // Streams of the administration end then, too; otherwise they would be waited for.
        let stopped = async move {
            stop().await;
            stopping.send_replace(true);
        };
        self.serve_until(app, stopped).await?;
        // No requests come any more: what only this node has goes to the others.
        store.leave(Duration::from_secs(10)).await?;
        channel.stop().await;
        Ok(())
    }
}

/// The attributes of the session's cookie.
const COOKIE: &str = "HttpOnly; SameSite=Strict; Path=/";

/// The session layer.
fn sessions<S: SessionStore + Clone>(store: S, expiry: Expiry) -> SessionManagerLayer<S> {
    SessionManagerLayer::new(store).with_secure(false).with_expiry(expiry)
}

/// Until somebody asks this process to end.
pub(crate) async fn stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminated) = signal(SignalKind::terminate()) else { return drop(interrupted.await) };
        tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        }
    }
    #[cfg(not(unix))]
    drop(interrupted.await);
}

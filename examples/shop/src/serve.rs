//! One node of the shop.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_sessions::SessionManagerLayer;
use tribes::prelude::BoxError;
use tribes::sessions::{
    Conflict, Durability, Mode, ReadyGateLayer, ReplicatedStore, ReplicationLayer, Skip, StickyLayer,
};

use crate::admin::Ended;
use crate::{admin, application};

/// How much is known of a save when its request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Saves {
    /// It is on its way to the others.
    Async,
    /// Another node has it.
    Acked,
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
    /// Seconds without a request after which a session ends.
    #[arg(long, default_value_t = 1800.0)]
    idle: f64,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let channel = tribes::channel().bind("127.0.0.1:0").multicast(&self.group).name(&self.name).build()?;
        if let Err(error) = channel.start_and_wait(self.expect, Duration::from_secs(10)).await {
            // Those that are missing may be down: that is what this is all for.
            eprintln!("{}: {error}", self.name);
        }
        let ended = Ended::default();
        let events = ended.clone();
        let store = ReplicatedStore::builder("shop")
            .mode(self.copies.map_or(Mode::All, |copies| Mode::Backup { copies }))
            .durability(match self.saves {
                Saves::Async => Durability::Queued,
                Saves::Acked => Durability::copies(1, Duration::from_millis(500)),
            })
            .inactivity(Duration::try_from_secs_f64(self.idle)?)
            .conflict("cart", Conflict::Union)
            .index("user")
            .on_event(move |event| events.note(event))
            .open(&channel)?;

        let app = application::routes()
            .layer(SessionManagerLayer::new(store.clone()).with_secure(false))
            .layer(ReplicationLayer::new(&store).skip(Skip::static_assets()))
            .layer(StickyLayer::new(&store, &self.name).remember(true).attributes("HttpOnly; SameSite=Strict; Path=/"))
            .layer(ReadyGateLayer::new(&store));
        // What is not the administration's goes through the layers, also what the gate answers itself.
        let (stopping, stops) = watch::channel(false);
        let admin = if self.admin { admin::routes(&self.name, &channel, &store, ended, stops) } else { Router::new() };
        let app = admin.fallback_service(app);

        let listener = TcpListener::bind(self.http).await?;
        println!("{} listens at http://{}", self.name, listener.local_addr()?);
        let stopped = async move {
            stop().await;
            stopping.send_replace(true);
        };
        axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
        // No requests come any more: what only this node has goes to the others.
        store.leave(Duration::from_secs(10)).await?;
        channel.stop().await;
        Ok(())
    }
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

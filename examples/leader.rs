//! Three members; the one that leads writes to a store that nobody else may write to at the same time. It dies, the others agree
//! that it is gone, and the next one goes on, with a greater token: what the dead one may still have sent is refused.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "an example shows what it does")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tribes::interceptors::agreed_views::{AgreedViews, AgreedViewsConfig, Quorum, ViewEvent};
use tribes::prelude::*;

/// Something outside of the group: it takes no token below the highest that it has seen.
#[derive(Default)]
struct Store(Mutex<(u64, Vec<String>)>);

impl Store {
    fn write(&self, token: u64, text: &str) -> Result<(), BoxError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if token < held.0 {
            return Err(format!("token {token} is past: there was {}", held.0).into());
        }
        held.0 = token;
        held.1.push(text.to_owned());
        Ok(())
    }
}

struct Peer {
    name: &'static str,
    channel: Channel,
    views: Arc<AgreedViews>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let store = Store::default();
    let mut peers = Vec::new();
    for name in ["anna", "bert", "carl"] {
        // More than half of three; and faster than by default, for an example.
        let config = AgreedViewsConfig::default()
            .with_heartbeat(Duration::from_millis(100), Duration::from_secs(1))
            .with_quorum(Quorum::Static, 3);
        let views = Arc::new(AgreedViews::new(config));
        let channel = tribes::channel()
            .bind("127.0.0.1:0")
            .multicast(format!("228.0.0.4:{port}"))
            .interceptor(Arc::clone(&views))
            .default_interceptors()
            .build()?;
        let mut events = views.events();
        channel.start().await?;
        tribes::Env::real().spawn(async move {
            while let Some(event) = events.next().await {
                tell(name, &event);
            }
        });
        peers.push(Peer { name, channel, views });
    }

    let (first, name, old) = leader(&peers).await?;
    store.write(old, &format!("{name} was here"))?;
    println!("{name} wrote under token {old}");

    // Dropped, it is gone as by a crash.
    drop(peers.remove(first));
    let (_, name, token) = leader(&peers).await?;
    store.write(token, &format!("{name} was here"))?;
    println!("{name} wrote under token {token}");
    if let Err(error) = store.write(old, "I have been away for a while") {
        println!("what the first one sent late is refused: {error}");
    }

    for peer in &peers {
        peer.channel.stop().await;
    }
    Ok(())
}

/// Waits until one of them leads: which, its name, and its token.
async fn leader(peers: &[Peer]) -> Result<(usize, &'static str, u64), BoxError> {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while tokio::time::Instant::now() < limit {
        for (index, peer) in peers.iter().enumerate() {
            let mut changes = peer.views.standing_changes();
            let wait = changes.wait_for(|standing| standing.is_leader);
            if tokio::time::timeout(Duration::from_millis(50), wait).await.is_ok()
                && let Some(token) = peer.views.leads()
            {
                return Ok((index, peer.name, token));
            }
        }
    }
    Err("nobody leads".into())
}

fn tell(name: &str, event: &ViewEvent) {
    match event {
        ViewEvent::ViewInstalled { view, missing, .. } => {
            let (all, gone) = (view.members.len(), missing.len());
            println!("  {name}: view {} of {all}, {gone} missing", view.id);
        }
        ViewEvent::PartitionSuspected { missing, .. } => println!("  {name}: {} vanished", missing.len()),
        ViewEvent::Merged { sides, .. } => println!("  {name}: {} sides are one", sides.len()),
        ViewEvent::MayWrite { token, .. } => println!("  {name}: we may write, token {token}"),
        ViewEvent::MustStop { why, .. } => println!("  {name}: we must stop ({why})"),
        _ => {}
    }
}

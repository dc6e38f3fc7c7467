//! From the options to a channel that sees its peers.

use std::net::SocketAddr;
use std::time::Duration;

use tribes::membership::{StaticConfig, StaticPeer};
use tribes::transports::{ReceiverConfig, SenderConfig};
use tribes::{BoxError, BudgetConfig, Channel, Interest, SyncInterceptor, View};

use super::args::{Extras, LoadArgs};
use crate::node::HostPort;

/// Leaving must not hold up a driver that ends one member after another.
const DRAIN: Duration = Duration::from_secs(1);
/// A member that waits for its peers says so this often.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses behind `peers`.
pub(super) fn resolve(peers: &[HostPort]) -> Result<Vec<SocketAddr>, BoxError> {
    peers.iter().map(one).collect()
}

fn one(addr: &HostPort) -> Result<SocketAddr, BoxError> {
    addr.resolve().map_err(|error| format!("cannot resolve {addr:?}: {error}").into())
}

/// The channel that the options describe, not yet started: fixed members and, unless told otherwise, the default
/// interceptors.
pub(super) fn channel(args: &LoadArgs, extras: &Extras, peers: &[SocketAddr]) -> Result<Channel, BoxError> {
    let bind = one(&args.bind)?;
    let mut receiver = ReceiverConfig::default().with_bind(bind.ip()).with_port(bind.port()).with_auto_bind(1);
    receiver.socket = receiver.socket.with_recv_buffer(extras.receive_buffer);
    let mut sender = SenderConfig::default();
    if let Some(bytes) = extras.coalesce {
        sender = sender.with_coalesce(bytes);
    }
    let peers: Vec<_> = peers.iter().map(|peer| StaticPeer::new(peer.to_string())).collect::<Result<_, _>>()?;
    let members = StaticConfig::default().with_peers(peers);
    let mut builder = tribes::channel().receiver(receiver).sender(sender).peers_config(members).drain(DRAIN);
    if let Some(bytes) = extras.budget {
        builder = builder.budget(BudgetConfig::with_total(bytes));
    }
    for name in NOOPS.iter().take(extras.noop) {
        builder = builder.interceptor(Noop(name));
    }
    builder = if extras.bare { builder.no_default_interceptors() } else { builder.default_interceptors() };
    Ok(builder.build()?)
}

/// Waits until the channel sees all of `peers`. Cancel safe.
pub(super) async fn all_there(channel: &Channel, peers: &[SocketAddr]) {
    let are_there = || channel.view_when(|view| missing(view, peers).next().is_none());
    while tokio::time::timeout(PATIENCE, are_there()).await.is_err() {
        let missing: Vec<_> = missing(&channel.view(), peers).collect();
        tracing::warn!(?missing, "still waiting for members; do they run, with this one among their --peers?");
    }
}

fn missing<'a>(view: &View, peers: &'a [SocketAddr]) -> impl Iterator<Item = &'a SocketAddr> {
    peers.iter().filter(|peer| !view.members().iter().any(|member| member.addr() == Some(**peer)))
}

/// Names of the layers that do nothing; each layer of a stack has a name of its own.
pub(super) const NOOPS: [&str; 10] =
    ["noop-1", "noop-2", "noop-3", "noop-4", "noop-5", "noop-6", "noop-7", "noop-8", "noop-9", "noop-10"];

/// A layer that is called for each message and does nothing, to measure what a layer costs.
#[derive(Debug)]
struct Noop(&'static str);

impl SyncInterceptor for Noop {
    fn name(&self) -> &'static str {
        self.0
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE
    }
}

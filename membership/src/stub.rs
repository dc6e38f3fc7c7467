//! A network in memory for the tests of the drivers: senders and receivers that hand messages to each other, and nodes
//! that can be killed or frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use tribes_core::{
    BoxError, Channel, ChannelBuilder, ChannelMessage, ChannelReceiver, ChannelSender, Delivery, Endpoint, FaultKind,
    Inbound, Lease, Link, Member, Outbound, ProbeResult, Receipt, Route, SendError, Time,
};

/// All nodes of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hub(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<SocketAddr, Node>,
    frozen: BTreeSet<SocketAddr>,
    connected: BTreeSet<Arc<Member>>,
    probes: usize,
}

#[derive(Debug)]
struct Node {
    local: Option<Arc<Member>>,
    link: Link,
}

impl Hub {
    /// A builder of a channel on this network; a port of 0 means any.
    pub(crate) fn channel(&self, port: u16) -> ChannelBuilder {
        let port = if port == 0 { next_port() } else { port };
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (sender, receiver) =
            (StubSender { hub: self.clone(), env: OnceLock::new() }, StubReceiver { hub: self.clone(), addr });
        Channel::builder().sender(sender).receiver(receiver).heartbeat(None)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The node takes what comes, and does nothing any more.
    pub(crate) fn freeze(&self, member: &Member) {
        self.state().frozen.insert(member.addr().unwrap());
    }

    /// The node's port closes, without a word.
    pub(crate) fn kill(&self, member: &Member) {
        self.state().nodes.remove(&member.addr().unwrap());
    }

    pub(crate) fn connect(&self, member: &Arc<Member>) {
        self.state().connected.insert(Arc::clone(member));
    }

    pub(crate) fn probes(&self) -> usize {
        self.state().probes
    }

    /// Where `member` would be reached.
    fn find(&self, member: &Member) -> Found {
        let state = self.state();
        let Some(addr) = member.addr() else { return Found::Nobody };
        match state.nodes.get(&addr) {
            None => Found::Nobody,
            Some(_) if state.frozen.contains(&addr) => Found::Frozen,
            Some(node) => match &node.local {
                Some(local) if member.id().is_ours() && local.id() != member.id() => Found::Other(Arc::clone(local)),
                _ => Found::Node(node.link.clone()),
            },
        }
    }
}

/// A port that no other test of this process uses. Nothing is bound to it.
pub(crate) fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

enum Found {
    Nobody,
    Frozen,
    Other(Arc<Member>),
    Node(Link),
}

#[derive(Debug)]
struct StubReceiver {
    hub: Hub,
    addr: SocketAddr,
}

#[async_trait]
impl ChannelReceiver for StubReceiver {
    async fn start(&self, up: Link) -> Result<Endpoint, BoxError> {
        self.hub.state().nodes.insert(self.addr, Node { local: None, link: up });
        Ok(Endpoint::new(self.addr.ip(), self.addr.port()))
    }

    async fn stop(&self, _deadline: Time) {
        self.hub.state().nodes.remove(&self.addr);
    }

    fn update_local(&self, local: Arc<Member>) {
        if let Some(node) = self.hub.state().nodes.get_mut(&self.addr) {
            node.local = Some(local);
        }
    }
}

#[derive(Debug)]
struct StubSender {
    hub: Hub,
    env: OnceLock<Link>,
}

#[async_trait]
impl ChannelSender for StubSender {
    async fn start(&self, _local: Arc<Member>, up: Link) -> Result<(), BoxError> {
        let _ = self.env.set(up);
        Ok(())
    }

    async fn stop(&self, _deadline: Time) {}

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        for to in out.to {
            let completion = to.completion;
            match self.hub.find(completion.member()) {
                Found::Node(link) => {
                    let message = out.message.clone();
                    // As over a real network: the sender does not wait for the receiver.
                    let up = link.clone();
                    link.spawn(async move {
                        let _ = up.receive(Inbound::new(message, Receipt::none(), Lease::none(), Route::Other)).await;
                    });
                    completion.deliver(Delivery::Sent);
                }
                Found::Frozen => completion.deliver(Delivery::Sent),
                Found::Other(local) => completion.fail(FaultKind::Replaced(local.id())),
                Found::Nobody => completion.fail(FaultKind::Connect("refused".to_owned())),
            }
        }
        Ok(())
    }

    async fn probe(&self, member: &Arc<Member>, _frame: Option<ChannelMessage>, deadline: Time) -> ProbeResult {
        self.hub.state().probes += 1;
        match self.hub.find(member) {
            Found::Node(_) if member.id().is_ours() => ProbeResult::Answered,
            Found::Node(_) => ProbeResult::Connected,
            Found::Other(_) => ProbeResult::Replaced,
            Found::Nobody => ProbeResult::Refused,
            Found::Frozen => {
                if let Some(link) = self.env.get() {
                    link.env().sleep_until(deadline).await;
                }
                ProbeResult::TimedOut
            }
        }
    }

    fn is_connected(&self, member: &Member) -> bool {
        self.hub.state().connected.contains(member)
    }
}

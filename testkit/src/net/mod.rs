//! A group of channels in one process, over a network that behaves as a seed says.
//!
//! | file | holds |
//! |---|---|
//! | `core` | the state: nodes, what they wait for, and the queue of what will happen; no I/O |
//! | `life`, `flight`, `announce` | what may be done to it: processes and links; messages and probes; membership |
//! | `frame` | what travels, and what happens to it on the way and on arrival |
//! | `members` | the membership table of a node |
//! | `config`, `trace` | how the network behaves; what happened |
//! | `driver` | the one task that lets time pass |
//! | `parts` | sender, receiver and membership service over it |

mod announce;
mod config;
mod core;
mod driver;
mod flight;
mod frame;
mod life;
mod members;
mod parts;
#[cfg(test)]
mod tests;
mod trace;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tribes_core::{ChannelBuilder, Env, Time};

pub use self::config::{LinkConfig, NetConfig};
pub use self::core::{NetStats, NodeId};
use self::core::{Place, Power, address};
use self::driver::Shared;
pub use self::parts::{SimMembership, SimReceiver, SimSender};
use crate::SimEnv;

/// A simulated network: in-process links with delay, loss, duplication, reordering and cuts; nodes that crash, freeze and
/// come back. Cheap to clone.
///
/// Make it inside the runtime; best let [`simulate`](crate::simulate) do both. It prints its seed to standard error: on a
/// current-thread runtime with paused time the same seed replays the same run.
///
/// What its parts do:
/// - The **sender** keeps the order of what is sent to one member (unless [`LinkConfig::reorder`] says otherwise), admits to
///   the channel's budget, and acknowledges for real: `ack` when the remote receiver took the message, `sync` when its
///   listeners returned. A frame lost on a link is not sent again, so that loss shows as
///   [`FaultKind::AckTimeout`](tribes_core::error::FaultKind::AckTimeout). A process that crashed has its connections
///   closed (its peers' senders raise a suspicion) and refuses new ones; another process at its address is
///   [`Replaced`](tribes_core::error::FaultKind::Replaced); cut links and dark machines are silent.
/// - The **membership service** announces itself every [`NetConfig::heartbeat`] over the same links, expires who was not
///   heard for [`NetConfig::expiry`], and raises [`Departure::Shutdown`](tribes_core::Departure::Shutdown) for who said
///   good-bye. It verifies nothing; that is a layer's work.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// use std::time::Duration;
/// use tribes_core::{Channel, SendOptions};
/// use tribes_testkit::net::SimNet;
///
/// let net = SimNet::new(7);
/// let one = net.join(Channel::builder()).build()?;
/// let two = net.join(Channel::builder()).build()?;
/// let mut messages = two.messages();
/// one.start().await?;
/// two.start_and_wait(1, Duration::from_secs(5)).await?;
/// one.send(&two.local(), "hello", SendOptions::ACK).await?;
/// assert_eq!(messages.next().await.unwrap().0.bytes(), "hello");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SimNet(Arc<Shared>);

/// A node of a [`SimNet`]: one address, at which one process after another may live. Cheap to clone; keeps the network
/// alive.
#[derive(Clone)]
pub struct Node {
    net: SimNet,
    id: NodeId,
}

impl SimNet {
    /// A network with this seed and default behaviour.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_config(seed, NetConfig::default())
    }

    /// A network with this seed and behaviour.
    #[must_use]
    pub fn with_config(seed: u64, config: NetConfig) -> Self {
        Self::within(&SimEnv::new(seed), seed, config)
    }

    /// A network in the world of `env`, whose clock it follows.
    #[must_use]
    pub fn within(env: &SimEnv, seed: u64, config: NetConfig) -> Self {
        eprintln!("simulated network: seed {seed}");
        Self::quietly_within(env, seed, config)
    }

    /// For those who say by themselves which seed it was.
    pub(crate) fn quietly_within(env: &SimEnv, seed: u64, config: NetConfig) -> Self {
        Self(Arc::new(Shared::new(env.fork(), seed, config)))
    }

    /// Keeps no trace from now on.
    pub(crate) fn untraced(&self) {
        self.0.change(|state| state.core.trace.turn_off());
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// A new node, with a fresh process that is not yet listening.
    #[must_use]
    pub fn node(&self) -> Node {
        let (now, env) = (self.now(), self.0.env.fork());
        let id = self.0.change(|state| {
            let id = state.core.add_node();
            let place = state.core.revive(now, id);
            drop(state.move_in(place, env));
            id
        });
        Node { net: self.clone(), id }
    }

    /// Gives `builder` sender, receiver, membership service and surroundings at a new node. Use [`SimNet::node`] and
    /// [`Node::join`] to keep hold of the node.
    pub fn join(&self, builder: ChannelBuilder) -> ChannelBuilder {
        self.node().join(builder)
    }

    /// From now on, links without a setting of their own behave like this.
    pub fn set_links(&self, config: LinkConfig) {
        self.0.change(|state| state.core.everywhere = config);
    }

    /// From now on, the link from `from` to `to` behaves like this; the way back is another link.
    pub fn set_link(&self, from: &Node, to: &Node, config: LinkConfig) {
        self.0.change(|state| state.core.links.entry((from.id, to.id)).or_default().config = Some(config));
    }

    /// Cuts both links between `a` and `b`: frames vanish without a trace, also those that are on their way.
    pub fn cut(&self, a: &Node, b: &Node) {
        let now = self.now();
        self.0.change(|state| state.core.cut(now, a.id, b.id, true));
    }

    /// Cuts the link from `from` to `to` alone: what `to` sends still arrives.
    pub fn cut_one_way(&self, from: &Node, to: &Node) {
        let now = self.now();
        self.0.change(|state| state.core.cut_one_way(now, from.id, to.id, true));
    }

    /// Mends the link from `from` to `to` alone.
    pub fn mend_one_way(&self, from: &Node, to: &Node) {
        let now = self.now();
        self.0.change(|state| state.core.cut_one_way(now, from.id, to.id, false));
    }

    /// Mends both links between `a` and `b`.
    pub fn mend(&self, a: &Node, b: &Node) {
        let now = self.now();
        self.0.change(|state| state.core.cut(now, a.id, b.id, false));
    }

    /// Splits the network: links within a group work, links between groups are cut. Nodes that are in no group form one more.
    /// Replaces all earlier cuts.
    pub fn partition(&self, groups: &[&[&Node]]) {
        let now = self.now();
        let groups: Vec<Vec<NodeId>> = groups.iter().map(|group| group.iter().map(|node| node.id).collect()).collect();
        self.0.change(|state| state.core.partition(now, &groups));
    }

    /// Mends all cuts.
    pub fn heal(&self) {
        self.partition(&[]);
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        self.0.lock().core.stats
    }

    /// What happened, one line for each event, at most 200,000. The same run gives the same lines.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.0.lock().core.trace.lines()
    }

    /// Adds a line to the trace, so that what the test sees stands among what the network did.
    pub fn note(&self, text: impl fmt::Display) {
        let now = self.now();
        self.0.lock().core.trace.line(now, format_args!("{text}"));
    }

    fn now(&self) -> Time {
        self.0.now()
    }
}

impl Node {
    /// Which node this is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The address at which a channel here listens. It exists in the simulation only.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        address(self.id)
    }

    /// Gives `builder` sender, receiver, membership service and surroundings at this node. If a process lived here before, a
    /// new one begins, with surroundings of its own. Panics while a channel is listening here: stop or crash it first.
    pub fn join(&self, builder: ChannelBuilder) -> ChannelBuilder {
        let (now, env) = (self.net.now(), self.net.0.env.fork());
        let moved = self.net.0.change(|state| {
            let node = state.core.node(self.id)?;
            if node.open {
                return None;
            }
            let ended = if !node.alive || state.is_used(self.id) {
                let place = state.core.revive(now, self.id);
                state.move_in(place, env)
            } else {
                None
            };
            state.mark_used(self.id);
            Some(ended)
        });
        match moved {
            None => {
                panic!("a channel is listening at {} already: stop or crash it before another joins there", self.id)
            }
            // Without the lock: what ends lets go of messages.
            Some(Some(ended)) => ended.end(),
            Some(None) => {}
        }
        builder.sender(self.sender()).receiver(self.receiver()).membership(self.membership()).env(self.env())
    }

    /// The sender of the process that lives here now.
    #[must_use]
    pub fn sender(&self) -> SimSender {
        SimSender::new(self.net.clone(), self.place())
    }

    /// The receiver of the process that lives here now.
    #[must_use]
    pub fn receiver(&self) -> SimReceiver {
        SimReceiver::new(self.net.clone(), self.place())
    }

    /// The membership service of the process that lives here now.
    #[must_use]
    pub fn membership(&self) -> SimMembership {
        SimMembership::new(self.net.clone(), self.place())
    }

    /// The surroundings of the process that lives here now. All tasks in them end when it crashes.
    #[must_use]
    pub fn env(&self) -> Env {
        self.sim_env().env()
    }

    /// As [`Node::env`], with the controls of the simulation.
    #[must_use]
    pub fn sim_env(&self) -> SimEnv {
        self.net.0.lock().env(self.id).unwrap_or_else(|| self.net.0.env.fork())
    }

    /// Ends the process here without a good-bye: its tasks stop where they are, its kernel closes its connections, and new
    /// ones are refused. Messages that it sent before still arrive. [`Node::join`] begins another process.
    pub fn crash(&self) {
        self.end(Power::On);
    }

    /// As [`Node::crash`], but the whole machine goes dark: nothing is closed and nothing refused, there is only silence.
    pub fn power_off(&self) {
        self.end(Power::Off);
    }

    fn end(&self, power: Power) {
        let now = self.net.now();
        let ended = self.net.0.change(|state| {
            state.core.crash(now, self.id, power);
            state.move_out(self.id)
        });
        // After the network knows: what the dying tasks let go of is no answer to anybody.
        if let Some(ended) = ended {
            ended.end();
        }
    }

    /// Freezes the process here as a debugger or a long pause does: its sockets stay open and take in what comes, but nothing
    /// is answered. (Its tasks do run on; what they send leaves when it thaws.)
    pub fn freeze(&self) {
        let now = self.net.now();
        self.net.0.change(|state| state.core.freeze(now, self.id));
    }

    /// Lets a frozen process run on.
    pub fn thaw(&self) {
        let now = self.net.now();
        self.net.0.change(|state| state.core.thaw(now, self.id));
    }

    fn place(&self) -> Place {
        let mut state = self.net.0.lock();
        state.core.node(self.id).map_or(Place { node: self.id, life: 0 }, |node| node.place)
    }
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNet").field("seed", &self.0.seed).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.id).field("addr", &self.addr()).finish_non_exhaustive()
    }
}

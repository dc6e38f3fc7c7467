//! The state of a simulated network: nodes, links, what is on its way and what is waited for. No I/O and no clock: inputs
//! come with the time, [`Core::take_actions`] says what they cause.
//!
//! Events are ordered by (time, sequence), and everything random comes from one generator: the same inputs at the same times
//! give the same actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tribes_core::error::FaultKind;
use tribes_core::{ChannelMessage, Delivery, Member, MemberEvent, MemberId, ProbeResult, Route, Suspicion, Time};

use super::config::{LinkConfig, NetConfig};
use super::frame::{Frame, Lane};
use super::members::Table;
use super::trace::Trace;

/// A node of a simulated network: one address, at which one process after another may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// One process at a node. What a process asks for after its end is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) node: NodeId,
    pub(super) life: u64,
}

pub(super) type SendId = u64;
pub(super) type ProbeId = u64;

/// What the shell has to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Hand a message to the receiver at `to`. With `send` it wants to hear how that went.
    Deliver { to: Place, from: NodeId, message: ChannelMessage, route: Route, as_tribes: bool, send: Option<SendId> },
    /// A destination's result.
    Resolve { at: Place, send: SendId, result: Result<Delivery, FaultKind> },
    /// A probe's result.
    Probed { at: Place, probe: ProbeId, result: ProbeResult },
    /// The membership service raises an event.
    Event { at: Place, event: MemberEvent },
    /// The sender suspects a member.
    Suspect { at: Place, member: Arc<Member>, why: Suspicion },
    /// A member said over its connection that it leaves.
    Departed { at: Place, member: Arc<Member> },
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    Arrive { from: NodeId, to: NodeId, frame: Frame },
    AckDeadline { send: SendId },
    ProbeDeadline { probe: ProbeId },
    Beat { at: Place },
}

/// Whether a process lives at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    /// The machine runs. Whether a process listens is another question: without one, connections are refused.
    On,
    /// The machine is dark: nothing answers at all.
    Off,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) power: Power,
    pub(super) alive: bool,
    /// Whether its receiver was started, and whether it takes messages by now.
    pub(super) open: bool,
    pub(super) listening: bool,
    pub(super) local: Option<Arc<Member>>,
    pub(super) frozen: bool,
    /// What arrived, and what was sent, while it was frozen.
    pub(super) backlog: Vec<(NodeId, Frame)>,
    pub(super) outbox: Vec<(NodeId, Frame, Lane)>,
    pub(super) connected: BTreeSet<NodeId>,
    pub(super) table: Table,
    /// Whether its heartbeat is scheduled.
    pub(super) beating: bool,
}

/// One direction between two nodes.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) config: Option<LinkConfig>,
    pub(super) cut: bool,
    /// Nothing on the data or control lane arrives before these.
    pub(super) last: [Time; 2],
    /// Bytes that the receiver has not taken, by message, and the messages that wait for room.
    pub(super) in_window: BTreeMap<SendId, usize>,
    pub(super) waiting: VecDeque<SendId>,
}

/// A message to one member, until its result is known.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) from: Place,
    pub(super) to: NodeId,
    pub(super) expected: MemberId,
    pub(super) message: ChannelMessage,
    pub(super) route: Route,
    pub(super) sent: bool,
}

#[derive(Debug)]
pub(super) struct ProbeFlight {
    pub(super) at: Place,
    pub(super) to: NodeId,
}

/// What the network counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetStats {
    /// Frames put on a link: messages, acknowledgements, announcements, probes.
    pub sent: u64,
    /// Frames that arrived.
    pub arrived: u64,
    /// Frames lost by chance or to a cut link.
    pub lost: u64,
    /// Frames that arrived once more.
    pub duplicated: u64,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: NetConfig,
    pub(super) everywhere: LinkConfig,
    pub(super) rng: fastrand::Rng,
    pub(super) nodes: Vec<Node>,
    pub(super) links: BTreeMap<(NodeId, NodeId), Link>,
    pub(super) flights: BTreeMap<SendId, Flight>,
    pub(super) probes: BTreeMap<ProbeId, ProbeFlight>,
    pub(super) trace: Trace,
    pub(super) stats: NetStats,
    queue: BTreeMap<(Time, u64), Event>,
    actions: VecDeque<Action>,
    sequence: u64,
}

impl Core {
    pub(super) fn new(seed: u64, config: NetConfig) -> Self {
        Self {
            config,
            everywhere: LinkConfig::default(),
            rng: fastrand::Rng::with_seed(seed),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            flights: BTreeMap::new(),
            probes: BTreeMap::new(),
            trace: Trace::default(),
            stats: NetStats::default(),
            queue: BTreeMap::new(),
            actions: VecDeque::new(),
            sequence: 0,
        }
    }

    /// When something happens next by itself.
    pub(super) fn next_event(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Has everything happen that is due at `now`.
    pub(super) fn advance(&mut self, now: Time) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Event::Arrive { from, to, frame } => self.arrive(now, from, to, frame),
                Event::AckDeadline { send } => self.ack_deadline(now, send),
                Event::ProbeDeadline { probe } => self.probed(probe, ProbeResult::TimedOut),
                Event::Beat { at } => self.beat(now, at),
            }
        }
    }

    pub(super) fn take_actions(&mut self) -> VecDeque<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn schedule(&mut self, at: Time, event: Event) {
        let number = self.number();
        self.queue.insert((at, number), event);
    }

    pub(super) const fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn node(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// The node, if the process asked about still lives there.
    pub(super) fn process(&mut self, place: Place) -> Option<&mut Node> {
        self.node(place.node).filter(|node| node.alive && node.place == place)
    }

    /// Which node has this address.
    pub(super) fn at(&self, member: &Member) -> Option<NodeId> {
        member.addr().and_then(node_at).filter(|id| (id.0 as usize) < self.nodes.len())
    }
}

/// Where node `id` listens. Nothing real does there.
pub(super) fn address(id: NodeId) -> SocketAddr {
    let [_, high, low, lowest] = (id.0 + 1).to_be_bytes();
    // Each node is a host of its own, as in a real group.
    SocketAddr::from((Ipv4Addr::new(10, high, low, lowest), PORT))
}

const PORT: u16 = 4000;

/// Whose address this is.
pub(super) fn node_at(addr: SocketAddr) -> Option<NodeId> {
    let SocketAddr::V4(addr) = addr else { return None };
    let [ten, high, low, lowest] = addr.ip().octets();
    let number = u32::from_be_bytes([0, high, low, lowest]).checked_sub(1)?;
    (ten == 10 && addr.port() == PORT).then_some(NodeId(number))
}

//! The state of a simulated network: nodes, links, what is on its way and what is waited for. No I/O and no clock: inputs
//! come with the time, [`Core::take_actions`] says what they cause.
//!
//! Events are ordered by (time, sequence), and everything random comes from one generator: the same inputs at the same times
//! give the same actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tribes_core::error::FaultKind;
use tribes_core::{
    AckMode, ChannelMessage, Delivery, Handled, Member, MemberEvent, MemberId, ProbeResult, Route, Services, Suspicion, Time,
};

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
    Deliver { to: Place, from: NodeId, message: ChannelMessage, route: Route, send: Option<SendId> },
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
    beating: bool,
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
    fn at(&self, member: &Member) -> Option<NodeId> {
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

/// # Life and death
impl Core {
    /// A new node with nobody living there.
    pub(super) fn add_node(&mut self) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node {
            place: Place { node: id, life: 0 },
            power: Power::On,
            alive: false,
            open: false,
            listening: false,
            local: None,
            frozen: false,
            backlog: Vec::new(),
            outbox: Vec::new(),
            connected: BTreeSet::new(),
            table: Table::new(),
            beating: false,
        });
        id
    }

    /// A new process moves in.
    pub(super) fn revive(&mut self, now: Time, id: NodeId) -> Place {
        let Some(node) = self.node(id) else { return Place { node: id, life: 0 } };
        let place = Place { node: id, life: node.place.life + 1 };
        *node = Node {
            place,
            power: Power::On,
            alive: true,
            open: false,
            listening: false,
            local: None,
            frozen: false,
            backlog: Vec::new(),
            outbox: Vec::new(),
            connected: BTreeSet::new(),
            table: Table::new(),
            beating: false,
        };
        self.trace.line(now, format_args!("{id} process {}", place.life));
        place
    }

    /// The process ends without a good-bye; with `power` off, so does the machine.
    pub(super) fn crash(&mut self, now: Time, id: NodeId, power: Power) {
        let Some(node) = self.node(id).filter(|node| node.alive) else { return };
        let (place, local, connected) = (node.place, node.local.clone(), std::mem::take(&mut node.connected));
        (node.power, node.alive, node.open, node.listening, node.frozen) = (power, false, false, false, false);
        node.backlog.clear();
        node.outbox.clear();
        self.trace.line(now, format_args!("{id} {}", if power == Power::On { "crashes" } else { "loses power" }));
        for peer in connected {
            if let Some(other) = self.node(peer) {
                other.connected.remove(&id);
            }
            // The kernel closes the connections of a dead process; a dark machine closes nothing.
            if power == Power::On && let Some(member) = &local {
                self.put(now, id, peer, Frame::Closed { member: Arc::clone(member), goodbye: false }, Lane::Control);
            }
        }
        self.abandon(place);
        self.reopen(now, id);
    }

    /// A receiver is gone with what it had not taken: its senders' buffers are empty again.
    fn reopen(&mut self, now: Time, to: NodeId) {
        let senders: Vec<_> = self.links.keys().filter(|(_, end)| *end == to).map(|(from, _)| *from).collect();
        for from in senders {
            if let Some(link) = self.links.get_mut(&(from, to)) {
                link.in_window.clear();
            }
            self.fill_window(now, from, to);
        }
    }

    /// What a process waited for when it ended.
    fn abandon(&mut self, place: Place) {
        let mine: Vec<_> = self.flights.iter().filter(|(_, flight)| flight.from == place).map(|(id, _)| *id).collect();
        for send in mine {
            self.resolve(send, Err(FaultKind::Stopped));
        }
        self.probes.retain(|_, probe| probe.at != place);
        for ((from, _), link) in &mut self.links {
            if *from == place.node {
                link.waiting.clear();
                link.in_window.clear();
            }
        }
    }

    /// The process stops running, and so do its timers, but its sockets stay open.
    pub(super) fn freeze(&mut self, now: Time, id: NodeId) {
        if let Some(node) = self.node(id).filter(|node| node.alive) {
            node.frozen = true;
            self.trace.line(now, format_args!("{id} freezes"));
        }
    }

    /// A frozen process runs on: what came meanwhile is there, what it wanted to send goes out.
    pub(super) fn thaw(&mut self, now: Time, id: NodeId) {
        let Some(node) = self.node(id).filter(|node| node.frozen) else { return };
        node.frozen = false;
        node.table.refresh(now);
        let (backlog, outbox) = (std::mem::take(&mut node.backlog), std::mem::take(&mut node.outbox));
        self.trace.line(now, format_args!("{id} thaws"));
        for (from, frame) in backlog {
            self.schedule(now, Event::Arrive { from, to: id, frame });
        }
        for (to, frame, lane) in outbox {
            self.put(now, id, to, frame, lane);
        }
    }
}

/// # Links
impl Core {
    /// Cuts or mends both directions between two nodes.
    pub(super) fn cut(&mut self, now: Time, a: NodeId, b: NodeId, cut: bool) {
        for pair in [(a, b), (b, a)] {
            self.links.entry(pair).or_default().cut = cut;
        }
        self.trace.line(now, format_args!("{a} and {b} are {}", if cut { "cut off" } else { "joined" }));
    }

    /// Cuts every pair of nodes that are not in the same group. Nodes in none of them form one more.
    pub(super) fn partition(&mut self, now: Time, groups: &[Vec<NodeId>]) {
        let group = |id: NodeId| groups.iter().position(|members| members.contains(&id));
        let ids: Vec<_> = self.nodes.iter().map(|node| node.place.node).collect();
        for (at, a) in ids.iter().enumerate() {
            for b in ids.iter().skip(at + 1) {
                let cut = group(*a) != group(*b);
                if self.links.get(&(*a, *b)).is_some_and(|link| link.cut) != cut {
                    self.cut(now, *a, *b, cut);
                }
            }
        }
    }
}

/// # What a process asks for
impl Core {
    /// Its receiver was started.
    pub(super) fn open(&mut self, at: Place) {
        if let Some(node) = self.process(at) {
            node.open = true;
        }
    }

    /// Its receiver takes messages as `local`.
    pub(super) fn listen(&mut self, now: Time, at: Place, local: &Arc<Member>) {
        if let Some(node) = self.process(at).filter(|node| node.open) {
            let news = !node.listening || node.local.as_ref().is_none_or(|known| !known.same_content(local));
            node.listening = true;
            node.local = Some(Arc::clone(local));
            if news {
                self.trace.line(now, format_args!("{} listens as {}", at.node, local.id()));
            }
        }
    }

    /// Its receiver closed.
    pub(super) fn deafen(&mut self, now: Time, at: Place) {
        if let Some(node) = self.process(at) {
            (node.open, node.listening) = (false, false);
            self.trace.line(now, format_args!("{} stops listening", at.node));
            self.reopen(now, at.node);
        }
    }

    /// Its sender closes, and says so over every connection.
    pub(super) fn hang_up(&mut self, now: Time, at: Place) {
        let Some(node) = self.process(at) else { return };
        let (local, connected) = (node.local.clone(), std::mem::take(&mut node.connected));
        for peer in connected {
            if let Some(other) = self.node(peer) {
                other.connected.remove(&at.node);
            }
            if let Some(member) = &local {
                let frame = Frame::Closed { member: Arc::clone(member), goodbye: true };
                self.put(now, at.node, peer, frame, Lane::Control);
            }
        }
        self.abandon(at);
    }

    /// Sends a message to one member; `None` if the process is gone.
    pub(super) fn send(
        &mut self,
        now: Time,
        from: Place,
        member: &Arc<Member>,
        message: ChannelMessage,
        route: Route,
    ) -> Option<SendId> {
        self.process(from)?;
        let send = self.number();
        let Some(to) = self.at(member) else {
            let kind = FaultKind::Connect("there is no such host".to_owned());
            self.act(Action::Resolve { at: from, send, result: Err(kind) });
            return Some(send);
        };
        let len = message.body.len();
        let mode = message.options.ack_mode();
        self.trace.line(now, format_args!("{} -> {to} accepts {} {len} B {mode:?}", from.node, message.id));
        self.flights.insert(send, Flight { from, to, expected: member.id(), message, route, sent: false });
        self.schedule(now + self.config.ack_timeout, Event::AckDeadline { send });
        if route == Route::Stream {
            self.links.entry((from.node, to)).or_default().waiting.push_back(send);
            self.fill_window(now, from.node, to);
        } else {
            self.launch(now, send);
        }
        Some(send)
    }

    /// Puts waiting messages on their way as far as the receiver has room.
    pub(super) fn fill_window(&mut self, now: Time, from: NodeId, to: NodeId) {
        let window = self.config.window;
        loop {
            let Some(link) = self.links.get_mut(&(from, to)) else { return };
            let Some(send) = link.waiting.front().copied() else { return };
            let len = self.flights.get(&send).map_or(0, |flight| flight.message.body.len());
            let used: usize = link.in_window.values().sum();
            if used > 0 && used + len > window {
                return;
            }
            link.waiting.pop_front();
            if self.flights.contains_key(&send) {
                link.in_window.insert(send, len);
                self.launch(now, send);
            }
        }
    }

    fn launch(&mut self, now: Time, send: SendId) {
        let Some(flight) = self.flights.get_mut(&send) else { return };
        flight.sent = true;
        let (from, to, route) = (flight.from, flight.to, flight.route);
        let unacked = flight.message.options.ack_mode() == AckMode::None;
        let message = flight.message.clone();
        let frame = Frame::Data { send: Some(send), expected: flight.expected, message, route };
        let lane = if route == Route::Stream { Lane::Data } else { Lane::Datagram };
        let connected = self.node(from.node).is_some_and(|node| node.connected.contains(&to));
        self.put(now, from.node, to, frame, lane);
        // What the operating system took is sent. Without a connection that is not known yet.
        if route == Route::Datagram || (unacked && connected) {
            self.resolve(send, Ok(Delivery::Sent));
        }
    }

    /// The receiver took a message into its memory.
    pub(super) fn taken(&mut self, now: Time, at: Place, from: NodeId, send: SendId) {
        if self.process(at).is_none() {
            return;
        }
        self.leave_window(now, from, at.node, send);
        let received = self.flights.get(&send).is_some_and(|flight| flight.message.options.ack_mode() == AckMode::Received);
        if received {
            self.put(now, at.node, from, Frame::Answer { send, result: Ok(Delivery::Acknowledged) }, Lane::Data);
        }
    }

    /// The layers and listeners at the receiver are done with a message.
    pub(super) fn handled(&mut self, now: Time, at: Place, from: NodeId, send: SendId, handled: Handled) {
        if self.process(at).is_none() {
            return;
        }
        let result = match handled {
            Handled::Accepted => Ok(Delivery::Handled),
            Handled::NoTaker => Ok(Delivery::NoTaker),
            Handled::Failed(text) => Err(FaultKind::RemoteFailure(Some(text))),
            other => Err(FaultKind::RemoteFailure(Some(format!("{other:?}")))),
        };
        let awaited = self.flights.get(&send).is_some_and(|flight| flight.message.options.ack_mode() == AckMode::Handled);
        if awaited {
            self.put(now, at.node, from, Frame::Answer { send, result }, Lane::Data);
        }
    }

    pub(super) fn leave_window(&mut self, now: Time, from: NodeId, to: NodeId, send: SendId) {
        let left = self.links.get_mut(&(from, to)).and_then(|link| link.in_window.remove(&send));
        if left.is_some() {
            self.fill_window(now, from, to);
        }
    }

    fn ack_deadline(&mut self, now: Time, send: SendId) {
        let Some(flight) = self.flights.get(&send) else { return };
        let limit = self.config.ack_timeout;
        let acked = flight.sent && flight.message.options.ack_mode() != AckMode::None;
        self.trace.line(now, format_args!("{} -> {} gives {} up", flight.from.node, flight.to, flight.message.id));
        self.resolve(send, Err(if acked { FaultKind::AckTimeout(limit) } else { FaultKind::Timeout(limit) }));
    }

    /// A destination's result is known. Only the first one counts.
    pub(super) fn resolve(&mut self, send: SendId, result: Result<Delivery, FaultKind>) {
        if let Some(flight) = self.flights.remove(&send) {
            self.act(Action::Resolve { at: flight.from, send, result });
        }
    }

    /// Opens a connection to a new member.
    pub(super) fn connect(&mut self, now: Time, from: Place, member: &Arc<Member>) {
        if self.process(from).is_some() && let Some(to) = self.at(member) {
            self.put(now, from.node, to, Frame::Connect { expected: member.id() }, Lane::Control);
        }
    }

    pub(super) fn is_connected(&mut self, from: Place, member: &Member) -> bool {
        let to = self.at(member);
        to.zip(self.process(from)).is_some_and(|(to, node)| node.connected.contains(&to))
    }

    /// Asks whether `member` is alive.
    pub(super) fn probe(&mut self, now: Time, at: Place, member: &Arc<Member>, deadline: Time) -> ProbeId {
        let probe = self.number();
        let to = self.at(member).filter(|_| self.process(at).is_some());
        let Some(to) = to else {
            self.act(Action::Probed { at, probe, result: ProbeResult::Unreachable });
            return probe;
        };
        self.probes.insert(probe, ProbeFlight { at, to });
        self.schedule(deadline, Event::ProbeDeadline { probe });
        self.put(now, at.node, to, Frame::Probe { probe, expected: member.id() }, Lane::Control);
        probe
    }

    pub(super) fn probed(&mut self, probe: ProbeId, result: ProbeResult) {
        if let Some(flight) = self.probes.remove(&probe) {
            self.act(Action::Probed { at: flight.at, probe, result });
        }
    }
}

/// # Membership
impl Core {
    /// Starts halves of the membership service at `at`.
    pub(super) fn join(&mut self, now: Time, at: Place, services: Services) {
        let Some(node) = self.process(at) else { return };
        node.table.services |= services;
        if !std::mem::replace(&mut node.beating, true) {
            self.schedule(now, Event::Beat { at });
        } else if services.contains(Services::MEMBERSHIP_TX) {
            self.announce(now, at);
        }
    }

    /// Stops halves of the membership service at `at`; the announcing half says good-bye.
    pub(super) fn leave(&mut self, now: Time, at: Place, services: Services) {
        let Some(node) = self.process(at) else { return };
        let stopping = node.table.services & services;
        node.table.services -= stopping;
        if stopping.contains(Services::MEMBERSHIP_RX) {
            node.table.clear();
        }
        if stopping.contains(Services::MEMBERSHIP_TX) && let Some(member) = node.local.clone() {
            self.trace.line(now, format_args!("{} says good-bye", at.node));
            self.to_all(now, at.node, |_| Frame::Goodbye { member: Arc::clone(&member) });
        }
    }

    /// Announces the local member's new record.
    pub(super) fn update(&mut self, now: Time, at: Place, local: &Arc<Member>) {
        if let Some(node) = self.process(at) {
            node.local = Some(Arc::clone(local));
            self.announce(now, at);
        }
    }

    /// Sends a datagram to everybody.
    pub(super) fn multicast(&mut self, now: Time, at: Place, message: &ChannelMessage) {
        if self.process(at).is_some() {
            self.to_all(now, at.node, |expected| Frame::Data {
                send: None,
                expected,
                message: message.clone(),
                route: Route::Multicast,
            });
        }
    }

    fn beat(&mut self, now: Time, at: Place) {
        let expiry = self.config.expiry;
        let Some(node) = self.process(at) else { return };
        if node.table.services.is_empty() {
            node.beating = false;
            return;
        }
        if !node.frozen {
            let expired = if node.table.services.contains(Services::MEMBERSHIP_RX) {
                node.table.expire(now, expiry)
            } else {
                Vec::new()
            };
            self.announce(now, at);
            self.raise(now, at, expired);
        }
        self.schedule(now + self.config.heartbeat, Event::Beat { at });
    }

    fn announce(&mut self, now: Time, at: Place) {
        if let Some((member, number)) = self.announcement(at) {
            self.to_all(now, at.node, |_| Frame::Heartbeat { member: Arc::clone(&member), number });
        }
    }

    pub(super) fn announcement(&mut self, at: Place) -> Option<(Arc<Member>, u64)> {
        let node = self.process(at)?;
        let member = node.local.clone().filter(|_| node.table.services.contains(Services::MEMBERSHIP_TX))?;
        Some((member, node.table.announce()))
    }

    pub(super) fn raise(&mut self, now: Time, at: Place, events: Vec<MemberEvent>) {
        for event in events {
            self.trace.line(now, format_args!("{} {event:?}", at.node));
            self.act(Action::Event { at, event });
        }
    }

    fn to_all(&mut self, now: Time, from: NodeId, frame: impl Fn(MemberId) -> Frame) {
        let others = self.nodes.iter().filter(|node| node.alive && node.place.node != from);
        let others: Vec<_> = others
            .map(|node| (node.place.node, node.local.as_ref().map_or(MemberId::ZERO, |local| local.id())))
            .collect();
        for (to, id) in others {
            self.put(now, from, to, frame(id), Lane::Datagram);
        }
    }
}

//! Processes begin and end, listen and hang up; links are cut and mended.

use std::collections::BTreeSet;
use std::sync::Arc;

use tribes_core::error::FaultKind;
use tribes_core::{Member, Time};

use super::core::{Core, Event, Node, NodeId, Place, Power};
use super::frame::{Frame, Lane};
use super::members::Table;

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
            table: Table::new(0),
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
            table: Table::new(node.table.announced()),
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
            if power == Power::On
                && let Some(member) = &local
            {
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
}

impl Core {
    /// Cuts or mends both directions between two nodes.
    pub(super) fn cut(&mut self, now: Time, a: NodeId, b: NodeId, cut: bool) {
        for pair in [(a, b), (b, a)] {
            self.links.entry(pair).or_default().cut = cut;
        }
        self.trace.line(now, format_args!("{a} and {b} are {}", if cut { "cut off" } else { "joined" }));
    }

    /// Cuts or mends the direction from `from` to `to`.
    pub(super) fn cut_one_way(&mut self, now: Time, from: NodeId, to: NodeId, cut: bool) {
        self.links.entry((from, to)).or_default().cut = cut;
        self.trace.line(now, format_args!("{from} -> {to} is {}", if cut { "cut" } else { "mended" }));
    }

    /// Cuts every pair of nodes that are not in the same group. Nodes in none of them form one more.
    pub(super) fn partition(&mut self, now: Time, groups: &[Vec<NodeId>]) {
        let group = |id: NodeId| groups.iter().position(|members| members.contains(&id));
        let ids: Vec<_> = self.nodes.iter().map(|node| node.place.node).collect();
        for (at, a) in ids.iter().enumerate() {
            for b in ids.iter().skip(at + 1) {
                let cut = group(*a) != group(*b);
                let is_cut = |from, to| self.links.get(&(from, to)).is_some_and(|link| link.cut);
                if is_cut(*a, *b) != cut || is_cut(*b, *a) != cut {
                    self.cut(now, *a, *b, cut);
                }
            }
        }
    }
}

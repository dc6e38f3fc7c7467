//! What travels between the nodes of a simulated network, and what happens on the way and on arrival.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::error::FaultKind;
use tribes_core::{
    AckMode, ChannelMessage, Delivery, Member, MemberEvent, MemberId, ProbeResult, Route, Suspicion, Time,
};

use super::config::LinkConfig;
use super::core::{Action, Core, Event, Flight, NodeId, Power, ProbeId, SendId, node_at};

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    /// A message. Copies that the network made carry no `send`: nobody waits for them.
    Data { send: Option<SendId>, expected: MemberId, message: ChannelMessage, route: Route },
    /// The receiver's answer, or its kernel's.
    Answer { send: SendId, result: Result<Delivery, FaultKind> },
    /// Opens a connection.
    Connect { expected: MemberId },
    /// The sender's side closed its connection.
    Closed { member: Arc<Member>, goodbye: bool },
    /// Is the process that is expected alive?
    Probe { probe: ProbeId, expected: MemberId },
    /// The answer.
    Probed { probe: ProbeId, result: ProbeResult },
    /// A membership announcement.
    Heartbeat { member: Arc<Member>, number: u64 },
    /// A membership good-bye.
    Goodbye { member: Arc<Member>, number: u64 },
}

/// Which of the parallel ways between two nodes a frame takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The data connection, in order.
    Data,
    /// The control connection, in order, never behind data.
    Control,
    /// Datagrams, in no order.
    Datagram,
}

impl Core {
    /// Puts a frame on the link between two nodes.
    pub(super) fn put(&mut self, now: Time, from: NodeId, to: NodeId, frame: Frame, lane: Lane) {
        if let Some(node) = self.node(from).filter(|node| node.frozen) {
            node.outbox.push((to, frame, lane));
            return;
        }
        self.stats.sent += 1;
        if from == to {
            self.schedule(now, Event::Arrive { from, to, frame });
            return;
        }
        let link = self.links.entry((from, to)).or_default();
        let (config, cut) = (link.config.unwrap_or(self.everywhere), link.cut);
        if cut || self.chance(config.loss) {
            self.lose(now, from, to, &frame);
            return;
        }
        if self.chance(config.duplicate) {
            self.stats.duplicated += 1;
            let mut copy = frame.clone();
            if let Frame::Data { send, .. } = &mut copy {
                *send = None;
            }
            let at = self.arrival(now, from, to, lane, config);
            self.schedule(at, Event::Arrive { from, to, frame });
            let at = self.arrival(now, from, to, lane, config);
            self.schedule(at, Event::Arrive { from, to, frame: copy });
            return;
        }
        let at = self.arrival(now, from, to, lane, config);
        self.schedule(at, Event::Arrive { from, to, frame });
    }

    /// When a frame that leaves now arrives.
    fn arrival(&mut self, now: Time, from: NodeId, to: NodeId, lane: Lane, config: LinkConfig) -> Time {
        let at = now + self.delay(config.min_delay, config.max_delay);
        if self.chance(config.reorder) {
            return at + self.delay(Duration::ZERO, config.reorder_delay);
        }
        let link = self.links.entry((from, to)).or_default();
        let last = match lane {
            Lane::Data => link.last.first_mut(),
            Lane::Control => link.last.last_mut(),
            Lane::Datagram => None,
        };
        last.map_or(at, |last| {
            *last = at.max(*last);
            *last
        })
    }

    fn chance(&mut self, probability: f64) -> bool {
        // Without need no number is drawn, so that a setting does not change what else happens.
        probability > 0.0 && self.rng.f64() < probability
    }

    fn delay(&mut self, min: Duration, max: Duration) -> Duration {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (min, max) = (nanos(min), nanos(max));
        Duration::from_nanos(if min < max { self.rng.u64(min..=max) } else { min })
    }

    fn lose(&mut self, now: Time, from: NodeId, to: NodeId, frame: &Frame) {
        self.stats.lost += 1;
        self.trace.line(now, format_args!("{from} -> {to} loses {}", name(frame)));
        // Its bytes fill no buffer any more.
        if let Frame::Data { send: Some(send), .. } = frame {
            self.leave_window(now, from, to, *send);
        }
    }

    /// A frame has come to the end of its link.
    pub(super) fn arrive(&mut self, now: Time, from: NodeId, to: NodeId, frame: Frame) {
        if self.links.get(&(from, to)).is_some_and(|link| link.cut) {
            self.lose(now, from, to, &frame);
            return;
        }
        let Some(node) = self.node(to) else { return };
        if node.frozen {
            node.backlog.push((from, frame));
            return;
        }
        if node.power == Power::Off {
            self.lose(now, from, to, &frame);
            return;
        }
        self.stats.arrived += 1;
        self.trace.line(now, format_args!("{from} -> {to} {}", name(&frame)));
        let Some(node) = self.node(to) else { return };
        match frame {
            Frame::Data { send, expected, message, route } => {
                self.data(now, from, to, (send, expected, message, route))
            }
            Frame::Answer { send, result } => {
                // An answer shows that there is a connection.
                if !matches!(result, Err(FaultKind::Connect(_))) {
                    self.connected(to, from);
                }
                self.resolve(send, result);
            }
            Frame::Connect { expected } => {
                let there = node.listening && node.local.as_ref().is_some_and(|local| local.id() == expected);
                if there {
                    self.connected(from, to);
                }
            }
            Frame::Closed { member, goodbye } => self.closed(now, from, to, member, goodbye),
            Frame::Probe { probe, expected } => {
                let local = node.local.as_ref().filter(|_| node.listening);
                let result = match local {
                    None => ProbeResult::Refused,
                    Some(local) if local.id() == expected => ProbeResult::Answered,
                    Some(_) => ProbeResult::Replaced,
                };
                self.put(now, to, from, Frame::Probed { probe, result }, Lane::Control);
            }
            Frame::Probed { probe, result } => {
                // A late copy of a probe's answer to somebody else's probe cannot be: numbers are unique in the network.
                if self.probes.get(&probe).is_some_and(|flight| flight.to == from) {
                    self.probed(probe, result);
                }
            }
            Frame::Heartbeat { member, number } => self.heartbeat(now, to, &member, number),
            Frame::Goodbye { member, number } => {
                let place = node.place;
                let event = node.table.departed(&member, number).filter(|_| node.alive);
                self.raise(now, place, event.into_iter().collect());
            }
        }
    }

    fn data(
        &mut self,
        now: Time,
        from: NodeId,
        to: NodeId,
        (send, expected, message, route): (Option<SendId>, MemberId, ChannelMessage, Route),
    ) {
        let Some(node) = self.node(to) else { return };
        let place = node.place;
        let local = node.local.as_ref().filter(|_| node.listening).map(|local| local.id());
        // As over TCP: without an id of ours there is no greeting which could tell that another process lives there now.
        let as_tribes = route == Route::Stream && !expected.is_ours();
        let accepted = local == Some(expected) || (local.is_some() && (as_tribes || route == Route::Multicast));
        if accepted {
            if route == Route::Stream {
                self.connected(from, to);
                let unacked = message.options.ack_mode() == AckMode::None;
                if let Some(send) = send.filter(|send| unacked && self.flights.contains_key(send)) {
                    self.put(now, to, from, Frame::Answer { send, result: Ok(Delivery::Sent) }, Lane::Data);
                }
            }
            self.act(Action::Deliver { to: place, from, message, route, as_tribes, send });
            return;
        }
        let Some(send) = send else { return };
        self.leave_window(now, from, to, send);
        if route == Route::Stream {
            let kind = local.map_or_else(|| FaultKind::Connect("connection refused".to_owned()), FaultKind::Replaced);
            self.put(now, to, from, Frame::Answer { send, result: Err(kind) }, Lane::Data);
        }
    }

    fn connected(&mut self, a: NodeId, b: NodeId) {
        for (at, peer) in [(a, b), (b, a)] {
            if let Some(node) = self.node(at).filter(|node| node.alive) {
                node.connected.insert(peer);
            }
        }
    }

    fn closed(&mut self, now: Time, from: NodeId, to: NodeId, member: Arc<Member>, goodbye: bool) {
        let Some(node) = self.node(to).filter(|node| node.alive) else { return };
        let at = node.place;
        // What was sent over the connection and not answered may or may not have been handled.
        let open =
            |flight: &Flight| flight.from == at && flight.to == from && flight.sent && flight.expected == member.id();
        let broken: Vec<_> = self.flights.iter().filter(|(_, flight)| open(flight)).map(|(send, _)| *send).collect();
        for send in broken {
            self.leave_window(now, to, from, send);
            self.resolve(send, Err(FaultKind::Disconnected(format!("{from} closed it"))));
        }
        if goodbye {
            self.act(Action::Departed { at, member });
        } else {
            self.act(Action::Suspect { at, member, why: Suspicion::ConnectionClosed });
        }
    }

    fn heartbeat(&mut self, now: Time, to: NodeId, member: &Arc<Member>, number: u64) {
        let Some(node) = self.node(to).filter(|node| node.alive) else { return };
        let at = node.place;
        if node.local.as_ref().is_some_and(|local| local == member) {
            return;
        }
        let events = node.table.heard(now, member, number);
        let newcomer = events.iter().any(|event| matches!(event, MemberEvent::Added(_)));
        self.raise(now, at, events);
        // A newcomer need not wait for the next heartbeat to know us.
        let Some(address) = member.addr().and_then(node_at).filter(|_| newcomer) else { return };
        if let Some((local, number)) = self.announcement(at) {
            self.put(now, to, address, Frame::Heartbeat { member: local, number }, Lane::Datagram);
        }
    }
}

/// A frame in a trace.
fn name(frame: &Frame) -> String {
    match frame {
        Frame::Data { message, route, .. } => format!("{route:?} {} {} B", message.id, message.body.len()),
        Frame::Answer { result, .. } => format!("answer {result:?}"),
        Frame::Connect { .. } => "connect".to_owned(),
        Frame::Closed { goodbye, .. } => if *goodbye { "leaves" } else { "closed" }.to_owned(),
        Frame::Probe { .. } => "probe".to_owned(),
        Frame::Probed { result, .. } => format!("probed {result:?}"),
        Frame::Heartbeat { number, .. } => format!("heartbeat {number}"),
        Frame::Goodbye { .. } => "good-bye".to_owned(),
    }
}

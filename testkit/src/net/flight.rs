//! Messages and probes, from the one who asks to the result.

use std::sync::Arc;

use tribes_core::error::FaultKind;
use tribes_core::{AckMode, ChannelMessage, Delivery, Handled, Member, ProbeResult, Route, Time};

use super::core::{Action, Core, Event, Flight, NodeId, Place, ProbeFlight, ProbeId, SendId};
use super::frame::{Frame, Lane};

impl Core {
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
        let received =
            self.flights.get(&send).is_some_and(|flight| flight.message.options.ack_mode() == AckMode::Received);
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
        let awaited =
            self.flights.get(&send).is_some_and(|flight| flight.message.options.ack_mode() == AckMode::Handled);
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

    pub(super) fn ack_deadline(&mut self, now: Time, send: SendId) {
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
        if self.process(from).is_some()
            && let Some(to) = self.at(member)
        {
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

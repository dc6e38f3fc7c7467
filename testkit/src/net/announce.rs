//! The membership service: announcements and good-byes.

use std::sync::Arc;

use tribes_core::{ChannelMessage, Member, MemberEvent, MemberId, Route, Services, Time};

use super::core::{Action, Core, Event, NodeId, Place};
use super::frame::{Frame, Lane};

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
        if stopping.contains(Services::MEMBERSHIP_TX)
            && let Some(member) = node.local.clone()
        {
            let number = node.table.announce();
            self.trace.line(now, format_args!("{} says good-bye", at.node));
            self.send_all(now, at.node, |_| Frame::Goodbye { member: Arc::clone(&member), number });
        }
    }

    /// A member said over its connection to `at` that it leaves.
    pub(super) fn departed(&mut self, now: Time, at: Place, member: &Arc<Member>) {
        // What it announced before is on its way still, or has come.
        let own = self.at(member).and_then(|id| self.node(id)).filter(|node| node.local.as_ref() == Some(member));
        let number = own.map_or(u64::MAX, |node| node.table.announced());
        let event = self.process(at).and_then(|node| node.table.departed(member, number));
        self.raise(now, at, event.into_iter().collect());
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
            self.send_all(now, at.node, |expected| Frame::Data {
                send: None,
                expected,
                message: message.clone(),
                route: Route::Multicast,
            });
        }
    }

    pub(super) fn beat(&mut self, now: Time, at: Place) {
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
            self.send_all(now, at.node, |_| Frame::Heartbeat { member: Arc::clone(&member), number });
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

    fn send_all(&mut self, now: Time, from: NodeId, frame: impl Fn(MemberId) -> Frame) {
        let others = self.nodes.iter().filter(|node| node.alive && node.place.node != from);
        let others: Vec<_> = others
            .map(|node| (node.place.node, node.local.as_ref().map_or(MemberId::ZERO, |local| local.id())))
            .collect();
        for (to, id) in others {
            self.put(now, from, to, frame(id), Lane::Datagram);
        }
    }
}

//! Sender, receiver and membership service over a simulated network.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tribes_core::budget::Reservation;
use tribes_core::error::{FaultKind, SendError};
use tribes_core::{
    BoxError, ChannelMessage, ChannelReceiver, ChannelSender, Completion, Delivery, Destination, Endpoint, Link,
    Member, MemberEvent, MembershipContext, MembershipService, Outbound, ProbeResult, Route, SendOptions, Services,
    Time,
};

use super::SimNet;
use super::core::{Place, address};

macro_rules! part {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            net: SimNet,
            place: Place,
        }

        impl $name {
            pub(super) const fn new(net: SimNet, place: Place) -> Self {
                Self { net, place }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("node", &self.place.node).finish_non_exhaustive()
            }
        }
    };
}

part! {
    /// A sender over a [`SimNet`]; see there for what it does.
    SimSender
}

part! {
    /// A receiver over a [`SimNet`]. Binds nothing.
    SimReceiver
}

part! {
    /// A membership service over a [`SimNet`], with announcements over its links.
    SimMembership
}

impl SimNet {
    /// Has the parts of a process reach their channel by `link`, and time pass.
    fn attach(&self, place: Place, link: Link) -> Result<(), BoxError> {
        let alive = self.0.change(|state| {
            let alive = state.core.process(place).is_some();
            if alive {
                state.set_link(place, link);
            }
            alive
        });
        self.0.drive();
        if alive { Ok(()) } else { Err(format!("the process at {} has ended; join again", place.node).into()) }
    }
}

#[async_trait]
impl ChannelSender for SimSender {
    async fn start(&self, _: Arc<Member>, up: Link) -> Result<(), BoxError> {
        self.net.attach(self.place, up)
    }

    async fn stop(&self, deadline: Time) {
        let env = self.net.0.env.env();
        // Results come by the network's own events, each within the acknowledgement timeout.
        while self.net.0.lock().open_sends(self.place) > 0 && self.net.now() < deadline {
            env.sleep(Duration::from_millis(1)).await;
        }
        let now = self.net.now();
        self.net.0.change(|state| state.core.hang_up(now, self.place));
        // The driver resolves what was left; wait until it has.
        while self.net.0.lock().open_sends(self.place) > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        let Some(link) = self.net.0.lock().link(self.place) else { return Err(SendError::Stopped) };
        let (len, may_wait, message) = (out.len(), out.may_wait, out.message);
        let mut without_room = Vec::new();
        // Those who have room first: a stalled member delays nobody.
        for destination in out.to {
            let Destination { completion, reservation, .. } = destination;
            match reservation.or_else(|| link.budget().try_admit(completion.member(), len)) {
                Some(room) => self.launch(&message, completion, room),
                None => without_room.push(completion),
            }
        }
        for completion in without_room {
            let room = if may_wait { link.budget().admit(completion.member(), len).await } else { None };
            match room {
                Some(room) => self.launch(&message, completion, room),
                None => completion.fail(FaultKind::QueueFull),
            }
        }
        Ok(())
    }

    async fn probe(&self, member: &Arc<Member>, _: Option<ChannelMessage>, deadline: Time) -> ProbeResult {
        let now = self.net.now();
        let answer = self.net.0.change(|state| {
            let probe = state.core.probe(now, self.place, member, deadline);
            state.await_probe(self.place, probe)
        });
        answer.await.unwrap_or(ProbeResult::Unreachable)
    }

    fn is_connected(&self, member: &Member) -> bool {
        self.net.0.lock().core.is_connected(self.place, member)
    }

    fn member_event(&self, event: &MemberEvent) {
        if let MemberEvent::Added(member) = event {
            let now = self.net.now();
            self.net.0.change(|state| state.core.connect(now, self.place, member));
        }
    }
}

impl SimSender {
    fn launch(&self, message: &ChannelMessage, completion: Completion, room: Reservation) {
        let route = if message.options.contains(SendOptions::UDP) { Route::Datagram } else { Route::Stream };
        let now = self.net.now();
        let refused = self.net.0.change(|state| {
            match state.core.send(now, self.place, completion.member(), message.clone(), route) {
                Some(send) => state.open(self.place, send, completion, Some(room)),
                None => Some(completion),
            }
        });
        if let Some(completion) = refused {
            completion.fail(FaultKind::Stopped);
        }
    }
}

#[async_trait]
impl ChannelReceiver for SimReceiver {
    async fn start(&self, up: Link) -> Result<Endpoint, BoxError> {
        self.net.attach(self.place, up)?;
        self.net.0.change(|state| state.core.open(self.place));
        let addr = address(self.place.node);
        Ok(Endpoint::new(addr.ip(), addr.port()).with_udp_port(Some(addr.port())))
    }

    async fn stop(&self, _: Time) {
        let now = self.net.now();
        self.net.0.change(|state| {
            state.core.deafen(now, self.place);
            state.close_inboxes(self.place);
        });
    }

    fn update_local(&self, local: Arc<Member>) {
        let now = self.net.now();
        self.net.0.change(|state| state.core.listen(now, self.place, &local));
    }
}

#[async_trait]
impl MembershipService for SimMembership {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn start(&self, services: Services, context: MembershipContext) -> Result<(), BoxError> {
        self.net.attach(self.place, context.link)?;
        let now = self.net.now();
        self.net.0.change(|state| state.core.join(now, self.place, services));
        Ok(())
    }

    async fn stop(&self, services: Services) {
        let now = self.net.now();
        self.net.0.change(|state| state.core.leave(now, self.place, services));
    }

    fn update_local(&self, local: Arc<Member>) {
        let now = self.net.now();
        self.net.0.change(|state| state.core.update(now, self.place, &local));
    }

    async fn broadcast(&self, out: Outbound) -> Result<(), SendError> {
        let now = self.net.now();
        self.net.0.change(|state| state.core.multicast(now, self.place, &out.message));
        for destination in out.to {
            destination.completion.deliver(Delivery::Sent);
        }
        Ok(())
    }

    fn departed(&self, member: &Arc<Member>) {
        let now = self.net.now();
        self.net.0.change(|state| state.core.departed(now, self.place, member));
    }
}

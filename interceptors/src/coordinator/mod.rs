//! The members of a group agree on one of them to lead (Tribes: `NonBlockingCoordinator`).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::sync::Arc;
//! # use tribes_interceptors::{Coordinator, CoordinatorConfig};
//! # use tribes_testkit::net::SimNet;
//! # let net = SimNet::new(1);
//! let coordinator = Arc::new(Coordinator::new(CoordinatorConfig::default()));
//! let channel = net.join(tribes_core::Channel::builder()).interceptor(Arc::clone(&coordinator)).build()?;
//! channel.start().await?;
//! // Alone, it leads itself.
//! let mut changes = coordinator.changes();
//! let leadership = changes.wait_for(|leadership| leadership.coordinator.is_some()).await.expect("the layer is there");
//! assert_eq!(leadership.coordinator, Some(channel.local()));
//! assert!(coordinator.is_coordinator() && leadership.term.is_some());
//! # Ok(()) }
//! ```
//!
//! The member that is first in absolute order (see [`Member`]) leads. Whenever the group changes as the layers below tell it,
//! that member runs an election: a token with the list of all goes round, each member adds whom it knows and passes it on to
//! the next, and when the token is back and nobody was missing, all are sent the view. A member takes a view over only if it
//! holds the leader for the first itself, and is in the view. Once all see the same members, all have the same coordinator
//! within a few round trips; nothing more is sent until the group changes again (but to members of ours that are there and cannot be
//! reached). Messages of the application never wait for
//! any of this, and those of elections never reach it.
//!
//! # Terms
//! Each leadership has a number, the [`term`](Leadership::term), higher than any that those who promised it had heard of. It
//! travels in the view's id, which Java members carry along unread. A view of a past term is refused, and its sender told of the
//! later one. Terms start at the wall clock's milliseconds, so that they go on when a whole group is started anew; within the
//! group only comparisons count, not clocks. The low 16 bits depend on the member that leads, so that no two lead under the same
//! number, on whichever side of a split they are (unless both count alike and share these bits, one pair in 65,536). Views that a
//! Java member confirms have no term.
//!
//! There is no majority rule unless a [`quorum`](CoordinatorConfig::quorum) is set: each side of a split group elects a
//! coordinator (T6), and when they meet again the first of all leads, under a new term.
//!
//! # What is lost
//! A token that does not come back in [time](CoordinatorConfig::timeout), or while somebody on its way is gone, is sent
//! again; after four rounds the view is confirmed without. Who cannot be reached with a token is left out, with a view it is
//! tried again: a Java member four times, one of ours as long as it is there. Who has promised a term and misses its view
//! [asks](CoordinatorConfig::patience) for it.
//!
//! # Towards Java
//! The messages are Tribes' own, byte for byte. Where Java gets stuck (a lost token ends its elections for good, T50), the first
//! member of ours steps in: it sends everybody the view that it sees, which Java takes over. Java adds members that it hears of
//! in elections to its group, and never takes one out again that its failure detector does not know; here only membership does that, and a message about members that are not known yet is kept until
//! they are, for a few seconds. A member that leads and gets a request answers it; Java's drops it. Since Java calls nobody back
//! who is not in the ring, the layer stands in the stack of all members or of none: a Java member without it logs an error for
//! each message.
//!
//! # Faults of Tribes that are none here
//! T22 (the event thread waits up to 15 s), T50 (no term, a token once lost is lost for good, past views come back), T9 (lengths
//! are trusted; here a message is refused that is malformed, above 1 MiB or lists more than 4,096 members), tokens that circle
//! for ever (here up to 32 times), a coordinator that is known to be gone and yet named.
//!
//! # Place in the stack
//! Above `tcp-failure-detector`, so that members that are gone are gone for the election, and above `static-members` and
//! `domain-filter`, so that it counts on the members that the application sees. Layers below see its messages.

mod config;
mod core;
mod election;
#[cfg(test)]
mod tests;
mod view_id;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, Cx, EventVerdict, Gauge, Inbound, Interest, Link, Member, MemberEvent, Outbound, Rule, SendOptions,
    SyncInterceptor, Time, Verdict,
};

pub use self::config::CoordinatorConfig;
use self::core::{Core, Send};
use self::election::{Election, Kind, Recognised};
use crate::leadership::{Leadership, LeadershipChanges, Publisher};

const NAME: &str = "coordinator";

/// Elects a coordinator of the group. See the [module](self). One instance serves one channel; keep an `Arc` of it to ask who
/// leads.
#[derive(Debug, Default)]
pub struct Coordinator(Arc<Shell>);

/// Performs what the core decides.
#[derive(Debug, Default)]
struct Shell {
    config: CoordinatorConfig,
    core: Mutex<Core>,
    published: Publisher,
    /// There is something to send, or another deadline.
    wake: Notify,
}

impl Coordinator {
    /// A layer with these options. Those out of bounds are refused when the channel starts.
    #[must_use]
    pub fn new(config: CoordinatorConfig) -> Self {
        Self(Arc::new(Shell { config, core: Mutex::new(Core::new(config)), ..Shell::default() }))
    }

    /// Who leads; `None` if nobody does at present (Tribes: `getCoordinator`).
    #[must_use]
    pub fn coordinator(&self) -> Option<Arc<Member>> {
        self.leadership().coordinator
    }

    /// Whether the local member leads (Tribes: `isCoordinator`).
    #[must_use]
    pub fn is_coordinator(&self) -> bool {
        self.leadership().is_local
    }

    /// The members that agreed on the coordinator, the local one included, in absolute order (Tribes: `getView`).
    #[must_use]
    pub fn view(&self) -> Arc<[Arc<Member>]> {
        self.leadership().view
    }

    /// All of that at one moment, and the term.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.0.published.current()
    }

    /// What changes of it from now on (Tribes: `viewChange`).
    #[must_use]
    pub fn changes(&self) -> LeadershipChanges {
        self.0.published.subscribe()
    }
}

impl Configure for Coordinator {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "elects a coordinator by a token that walks round the members";
    type Config = CoordinatorConfig;
    fn configure(config: CoordinatorConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Coordinator);

impl SyncInterceptor for Coordinator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::RECEIVE | Interest::MEMBERS
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::above(
                "tcp-failure-detector",
                "coordinator would count on members that tcp-failure-detector has found dead",
            ),
            Rule::above("static-members", "coordinator would not hear of the members that static-members adds"),
            Rule::above(
                "domain-filter",
                "coordinator would count on members of other domains, which domain-filter hides",
            ),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.0.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let local = link.local().ok_or("the channel is gone")?;
        let wall_ms = u64::try_from(link.env().wall_ms()).unwrap_or_default();
        self.0.with_core(|core| core.start(local, wall_ms, link.env().now()));
        link.spawn(Arc::clone(&self.0).work(link.clone()));
        Ok(())
    }

    fn stop(&self) {
        self.0.with_core(Core::stop);
    }

    fn receive(&self, msg: &mut Inbound, cx: &mut Cx<'_>) -> Verdict<Inbound> {
        match election::recognise(&msg.message.body) {
            Recognised::Other => return Verdict::Pass,
            Recognised::Alive => return Verdict::Drop("alive"),
            Recognised::Election => {}
        }
        match Election::decode(&msg.message.body) {
            Ok(election) => {
                let now = cx.now();
                self.0.with_core(|core| core.received(&msg.message.sender, election, now));
                Verdict::Drop("election")
            }
            Err(error) => Verdict::Refuse(error.into()),
        }
    }

    fn member_event(&self, event: &MemberEvent, cx: &mut Cx<'_>) -> EventVerdict {
        let now = cx.now();
        self.0.with_core(|core| core.event(event, now));
        EventVerdict::Pass
    }

    fn gauges(&self) -> Vec<Gauge> {
        let counts = self.0.lock().counts();
        let leadership = self.leadership();
        vec![
            Gauge::new("view_members", u64::try_from(leadership.view.len()).unwrap_or(u64::MAX)),
            Gauge::new("is_coordinator", u64::from(leadership.is_local)),
            Gauge::new("term", leadership.term.unwrap_or_default()),
            Gauge::new("elections", counts.elections),
            Gauge::new("views", counts.views),
            Gauge::new("messages_received", counts.received),
            Gauge::new("messages_failed", counts.failed),
            Gauge::new("tokens_passed", counts.passed),
            Gauge::new("tokens_retried", counts.retried),
            Gauge::new("messages_lost", counts.lost),
            Gauge::new("views_asked_for", counts.asked),
            Gauge::new("views_stale", counts.stale),
        ]
    }
}

impl Shell {
    /// Lets the core decide something, and tells what has come of it, in the order in which it was decided.
    fn with_core(&self, decide: impl FnOnce(&mut Core)) {
        let mut core = self.lock();
        decide(&mut core);
        let leadership = core.leadership();
        let told = self.published.publish(leadership.clone()).then_some(leadership);
        drop(core);
        self.wake.notify_one();
        if let Some(Leadership { coordinator, view, term, .. }) = told {
            let members = view.len();
            match coordinator {
                Some(coordinator) => {
                    tracing::info!(%coordinator, id = %coordinator.id(), term, members, "the coordinator")
                }
                None => tracing::info!(members, "no coordinator"),
            }
        }
    }

    /// Sends what is to be sent and keeps the time, as long as the channel runs.
    async fn work(self: Arc<Self>, link: Link) {
        loop {
            let now = link.env().now();
            let (due, send) = {
                let mut core = self.lock();
                (core.deadline(), core.next_send())
            };
            if due <= now {
                self.with_core(|core| core.tick(now));
            }
            match send {
                Some(send) => self.transmit(&link, send).await,
                None if due <= now => {}
                None => tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = link.env().sleep_until(due) => {}
                },
            }
        }
    }

    /// Sends a message. Returns when the layers below have taken it, after one timeout at the latest.
    async fn transmit(self: &Arc<Self>, link: &Link, send: Send) {
        let Send { ticket, to, election } = send;
        // A view has arrived when that member's layer has seen it, for it may not know that there is one to ask for. With Java nothing is
        // gained: it acknowledges what it has thrown away, too, and a token's way round would be one chain of waiting threads.
        let matters = election.kind == Kind::Confirmation && to.id().is_ours();
        let options = if matters { SendOptions::SYNC_ACK } else { SendOptions::USE_ACK };
        let Some(message) = link.message(election.encode(), options) else { return };
        let (mut out, pending) = Outbound::new(message, std::slice::from_ref(&to));
        // It goes to another member rather than wait.
        out.may_wait = false;
        let (shell, env) = (Arc::clone(self), link.env().clone());
        pending.on_complete(move |outcome| {
            let arrived = outcome.faults.is_empty();
            shell.with_core(|core| core.done(ticket, arrived, env.now()));
        });
        let limit: Time = link.env().now() + self.config.timeout;
        if let Some(Err(error)) = link.env().until(limit, link.send(out)).await {
            tracing::debug!(%to, %error, "a layer below refused a message of an election");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Members at fixed addresses (Tribes: `StaticMembershipInterceptor`).
//!
//! Members that multicast does not reach, or all of them with no membership service at all
//! (`channel.start_services(Services::RECEIVER | Services::SENDER)`), are given as a list. They are in the group from the start
//! on; there is no exchange between members beyond two small notices, one when a member starts and one when it stops.
//!
//! | what happens | what the layers above hear |
//! |---|---|
//! | this channel starts | all of the list as added; each is sent the start notice |
//! | a start notice from a member of the list | it is added; or, known to be there, added once more, so that a failure detector above that gave it up tries again at once |
//! | a stop notice from one | removed, [`Shutdown`](tribes_core::Departure::Shutdown); from then on it is tried every [`retry_interval`](StaticMembersConfig::retry_interval), and added when it can be connected to |
//! | the membership service below reports one | an update at most; one that it drops for its silence is suspected, and stays |
//! | a notice of somebody else | nothing; it is counted |
//!
//! What is there is not checked here: a member of the list that is dead stays in the group unless a `tcp-failure-detector` stands
//! above, which removes it and tries it again and again; one that stops answering later is noticed by `tcp-ping` above that. A
//! stop sends the notices before anything closes. Both notices are swallowed, and counted as dropped with the reason `notice`.
//!
//! # Ids
//! A member given with its id is that one alone. Without an id it is in the group under an id of zeros, as in Java, until its
//! process makes itself known by its notice; it is then removed as [`Excluded`](tribes_core::Departure::Excluded) and
//! added under its own. A process that is started anew in its place removes the former one as
//! [`Failed`](tribes_core::Departure::Failed). Java recognises a notice only if address *and* id are those of its own list, so with
//! Java members, ids are to be given to all: [`ChannelBuilder::id`](tribes_core::ChannelBuilder::id) sets this member's.
//!
//! Differences to Tribes: a list may contain the local member, whatever its port turns out to be (T38); a notice goes to each member
//! of the list at once, not only to those that the top of the stack knows; a member that left is looked for by this layer too,
//! not only by a failure detector.
//!
//! # Place in the stack
//! Below `tcp-failure-detector` and `tcp-ping`, which hear of members from below; below every layer that changes bytes, for the
//! notices come in through all layers below (T5); above `domain-filter`, which would hide these members, as they are listed
//! without a domain. No channel is built otherwise.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::wire::{STATIC_MEMBER_START, STATIC_MEMBER_STOP};
use tribes_core::{
    Body, BoxError, Cx, EventVerdict, FaultKind, Gauge, Inbound, Interest, Link, Member, MemberEvent, Outbound, Rule,
    SendOptions, SyncInterceptor, Verdict,
};

pub use self::config::{StaticMember, StaticMembersConfig};
use self::core::{Action, Core, Notice};
use crate::raiser::Raiser;

const NAME: &str = "static-members";

/// Adds members at fixed addresses to the group. See the [module](self). One instance serves one channel.
#[derive(Debug, Default)]
pub struct StaticMembers(Arc<Shell>);

/// Performs what the core decides.
#[derive(Debug, Default)]
struct Shell {
    config: StaticMembersConfig,
    state: Mutex<State>,
    raiser: Raiser,
}

#[derive(Debug, Default)]
struct State {
    core: Core,
    /// While it runs.
    link: Option<Link>,
}

impl StaticMembers {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: StaticMembersConfig) -> Self {
        Self(Arc::new(Shell { config, ..Shell::default() }))
    }
}

impl Configure for StaticMembers {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "adds members at fixed addresses to the group";
    type Config = StaticMembersConfig;
    fn configure(config: StaticMembersConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(StaticMembers);

impl SyncInterceptor for StaticMembers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        // Notices are recognised whatever their options.
        Interest::RECEIVE | Interest::MEMBERS | Interest::SEES_ALL
    }

    fn trigger(&self) -> SendOptions {
        self.0.config.trigger
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::below_all_that_change_bytes(
                "the notices of static-members go out past the layers below it in Tribes, but come in through \
                them",
            ),
            Rule::below("tcp-ping", "tcp-ping pings only the members that it hears of from below"),
            Rule::above(
                "domain-filter",
                "domain-filter would hide the members of static-members, which are listed without a domain",
            ),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.0.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let local = link.local().and_then(|local| local.addr());
        self.0.lock().link = Some(link.clone());
        self.0.decide(|core| core.start(&self.0.config.members, local));
        let shell = Arc::clone(&self.0);
        let env = link.env().clone();
        link.spawn(async move {
            loop {
                env.sleep(shell.config.retry_interval).await;
                shell.decide(Core::tick);
            }
        });
        Ok(())
    }

    fn stop(&self) {
        let (link, present) = {
            let mut state = self.0.lock();
            let present = state.core.stop();
            (state.link.take(), present)
        };
        self.0.raiser.clear();
        let Some(link) = link else { return };
        // Those who did not hear of the start would only hold up the sender, which sends what is queued before it stops.
        let told = present.into_iter().filter(|(member, unreachable)| !unreachable || link.is_connected(member));
        let told: Vec<_> = told.map(|(member, _)| member).collect();
        let message = link.message(STATIC_MEMBER_STOP.as_slice(), self.0.config.trigger);
        let Some(message) = message.filter(|_| !told.is_empty()) else { return };
        let (mut out, pending) = Outbound::new(message, &told);
        // A failure needs no log: the member is stopping, too, or will notice otherwise.
        pending.on_complete(|outcome| tracing::debug!(faults = ?outcome.faults, "said good-bye to static members"));
        out.may_wait = false;
        now_or_later(&link.clone(), async move { drop(link.send(out).await) });
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        let Some(notice) = notice(&msg.message.body) else { return Verdict::Pass };
        tracing::debug!(member = %msg.from(), ?notice, "a notice came");
        self.0.decide(|core| core.notice(notice, msg.from()));
        Verdict::Drop("notice")
    }

    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        let decided = self.0.decide(|core| core.event(event));
        // Stopped, it still lets members go.
        if decided || !matches!(event, MemberEvent::Removed(..)) { EventVerdict::Swallow } else { EventVerdict::Pass }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let census = self.0.lock().core.census();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        vec![
            Gauge::new("members", count(census.present)),
            Gauge::new("members_gone", count(census.gone)),
            Gauge::new("members_unresolved", count(census.unresolved)),
            Gauge::new("notices_of_strangers", census.strangers),
        ]
    }
}

impl Shell {
    /// Has the core decide, then does what it decided. `false`, and nothing happens, before the start and after the stop.
    fn decide(self: &Arc<Self>, decide: impl FnOnce(&mut Core) -> Vec<Action>) -> bool {
        let mut state = self.lock();
        let Some(link) = state.link.clone() else { return false };
        let mut others = Vec::new();
        for action in decide(&mut state.core) {
            match action {
                Action::Raise(event) => self.raiser.push(event),
                other => others.push(other),
            }
        }
        drop(state);
        self.raiser.flush(&link);
        for action in others {
            match action {
                Action::Resolve { number, addr } => self.resolve(&link, number, addr),
                Action::Greet(member) => self.greet(&link, member),
                Action::Probe { member, ticket } => self.probe(&link, member, ticket),
                Action::Raise(_) => {}
            }
        }
        true
    }

    fn resolve(self: &Arc<Self>, link: &Link, number: usize, addr: String) {
        let shell = Arc::clone(self);
        link.spawn(async move {
            let name = addr.clone();
            let found = tokio::task::spawn_blocking(move || first_address(&name)).await.ok().flatten();
            if found.is_none() {
                tracing::warn!(addr, "a static member's name has no address; it will be tried again");
            }
            shell.decide(|core| core.resolved(number, found));
        });
    }

    fn greet(self: &Arc<Self>, link: &Link, member: Arc<Member>) {
        let Some(message) = link.message(STATIC_MEMBER_START.as_slice(), self.config.trigger) else { return };
        let (mut out, pending) = Outbound::new(message, slice::from_ref(&member));
        let shell = Arc::clone(self);
        pending.on_complete(move |outcome| {
            let fault = outcome.faults.first();
            tracing::debug!(%member, ?fault, "greeted a static member");
            let arrived = !fault.is_some_and(|fault| FaultKind::speaks_against_member(&fault.kind));
            shell.lock().core.greeted(&member, arrived);
        });
        out.may_wait = false;
        now_or_later(&link.clone(), {
            let link = link.clone();
            async move { drop(link.send(out).await) }
        });
    }

    fn probe(self: &Arc<Self>, link: &Link, member: Arc<Member>, ticket: u64) {
        let shell = Arc::clone(self);
        let link_of_task = link.clone();
        link.spawn(async move {
            // By connecting alone: that leaves no trace in a Java member.
            let result = link_of_task.probe(&member, None, shell.config.retry_interval).await;
            shell.decide(|core| core.probed(ticket, result));
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes `task` as far as it goes at once, which a message gets to the sender's queue unless a layer below waits; the rest on a
/// task of its own. So what a stopping layer sends is in the queue before the sender stops.
fn now_or_later(link: &Link, task: impl Future<Output = ()> + Send + 'static) {
    let mut task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
    if task.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending {
        link.spawn(task);
    }
}

fn first_address(addr: &str) -> Option<SocketAddr> {
    let all: Vec<SocketAddr> = addr.to_socket_addrs().ok()?.collect();
    all.iter().find(|addr| addr.is_ipv4()).or_else(|| all.first()).copied()
}

/// Which notice `body` is. Nearly every other body differs in its length already.
fn notice(body: &Body) -> Option<Notice> {
    let is = |text: &[u8]| body.len() == text.len() && body.segments().flatten().eq(text);
    if is(STATIC_MEMBER_START) {
        Some(Notice::Start)
    } else if is(STATIC_MEMBER_STOP) {
        Some(Notice::Stop)
    } else {
        None
    }
}

//! Liveness checked through the stack (Tribes: `TcpPingInterceptor`).
//!
//! Membership by heartbeats notices a member that falls silent. Fixed members (`static-members`) have no heartbeats, and a
//! member that nobody sends to is not noticed to be frozen. So this layer sends each member a small message of its own, every
//! [`interval`](TcpPingConfig::interval), down the layers below and over the connection that messages use. A ping that fails
//! makes the member suspected at the bottom of the stack, [`SendFailed`](Suspicion::SendFailed): the membership service and a
//! failure detector below then look into it, and remove it if it is dead. Without a failure detector nobody is removed; the
//! suspicion is all that the layers above hear, at the first failure and at each tenth in a row.
//!
//! A ping has to be *acknowledged*, so a frozen process is found (T32). How long that may take is the sender's affair (3 s by
//! default); while a ping is under way its member gets no other, so a slow member costs one message of 64 bytes. A ping never
//! waits for room in a full queue: it is left out then, and nobody is blamed (T26). Members are pinged beside each other (T22).
//!
//! Differences to Tribes: each member is pinged, never only the static ones (`staticOnly`); pings are acknowledged, Tribes'
//! are lost without notice; a timer of its own instead of the heartbeat (`useThread`); with a failure detector in the stack
//! Tribes has that one probe all members, here the ping is the probe and the detector confirms what fails.
//!
//! # Towards Java
//! A ping is Tribes' own, 64 fixed bytes, with an acknowledgement asked for unless [`ack`](TcpPingConfig::ack) is off; Java's
//! are swallowed here, as are ours there, and counted as dropped with the reason `ping`. A member without this layer hands
//! pings to its application: a Java one logs an error, for they are no objects; so it stands in the stack of all members or
//! of none, with the same layers below it.
//!
//! # Place in the stack
//! Above `static-members`, without which it would not hear of those members: no channel is built otherwise. Above
//! `tcp-failure-detector` and `domain-filter`, as [advice](tribes_core::Rule::advised). Layers below it see the pings, an `encrypt` encrypts them.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::wire::TCP_PING;
use tribes_core::{
    Body, BoxError, Cx, EventVerdict, Gauge, Inbound, Interest, Link, Member, MemberEvent, Outbound, Outcome, Rule,
    SendOptions, Suspicion, SyncInterceptor, Verdict,
};

pub use self::config::TcpPingConfig;
use self::core::{Core, Finding};

const NAME: &str = "tcp-ping";

/// Pings each member through the stack. See the [module](self). One instance serves one channel.
#[derive(Debug, Default)]
pub struct TcpPing(Arc<Shell>);

/// Performs what the core decides.
#[derive(Debug, Default)]
struct Shell {
    config: TcpPingConfig,
    core: Mutex<Core>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    received: AtomicU64,
}

impl TcpPing {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: TcpPingConfig) -> Self {
        Self(Arc::new(Shell { config, ..Shell::default() }))
    }
}

impl Configure for TcpPing {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "pings each member through the stack, and has those suspected that do not answer";
    type Config = TcpPingConfig;
    fn configure(config: TcpPingConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(TcpPing);

impl SyncInterceptor for TcpPing {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::RECEIVE | Interest::MEMBERS
    }

    fn trigger(&self) -> SendOptions {
        self.0.config.trigger
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::above(
                "tcp-failure-detector",
                "tcp-ping should ping only whom tcp-failure-detector has verified, and hear whom it removes",
            )
            .advised(),
            Rule::above("domain-filter", "tcp-ping need not ping members that domain-filter hides").advised(),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.0.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let shell = Arc::clone(&self.0);
        let link_of_task = link.clone();
        link.spawn(async move {
            let link = link_of_task;
            loop {
                link.env().sleep(shell.config.interval).await;
                shell.ping(&link).await;
            }
        });
        Ok(())
    }

    fn stop(&self) {
        self.0.lock().clear();
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        if !is_ping(&msg.message.body) {
            return Verdict::Pass;
        }
        self.0.counters.received.fetch_add(1, Ordering::Relaxed);
        Verdict::Drop("ping")
    }

    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        self.0.lock().event(event);
        EventVerdict::Pass
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (members, silent) = self.0.lock().census();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let counters = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Gauge::new("members", count(members)),
            Gauge::new("silent_members", count(silent)),
            Gauge::new("pings_sent", read(&counters.sent)),
            Gauge::new("pings_answered", read(&counters.answered)),
            Gauge::new("pings_failed", read(&counters.failed)),
            Gauge::new("pings_received", read(&counters.received)),
        ]
    }
}

impl Shell {
    /// Pings those who are due. Returns when the layers below have taken it, after one interval at the latest.
    async fn ping(self: &Arc<Self>, link: &Link) {
        let due = self.lock().due();
        let mut round: Option<Outbound> = None;
        for (member, ticket) in due {
            let message = match &round {
                Some(out) => out.message.clone(),
                None => match link.message(TCP_PING.as_slice(), self.config.options()) {
                    Some(message) => message,
                    // The channel is gone.
                    None => return,
                },
            };
            // One message to all, so that it is encoded once; but each outcome is known as soon as it can be.
            let (out, pending) = Outbound::new(message, slice::from_ref(&member));
            let (shell, link) = (Arc::clone(self), link.clone());
            pending.on_complete(move |outcome| shell.pinged(&link, &member, ticket, &outcome));
            match &mut round {
                Some(round) => round.to.extend(out.to),
                None => round = Some(out),
            }
        }
        let Some(mut out) = round else { return };
        out.may_wait = false;
        self.counters.sent.fetch_add(u64::try_from(out.to.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        // What a layer below holds on to beyond that counts as dropped here, and speaks against nobody.
        let limit = link.env().now() + self.config.interval;
        if let Some(Err(error)) = link.env().until(limit, link.send(out)).await {
            tracing::debug!(%error, "a layer below refused a ping");
        }
    }

    fn pinged(&self, link: &Link, member: &Arc<Member>, ticket: u64, outcome: &Outcome) {
        let fault = outcome.faults.first().map(|fault| &fault.kind);
        let finding = self.lock().done(member, ticket, fault);
        match finding {
            Finding::Alive => drop(self.counters.answered.fetch_add(1, Ordering::Relaxed)),
            Finding::Failed { report } => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%member, ?fault, "a ping failed");
                if report {
                    link.suspect(member, Suspicion::SendFailed);
                }
            }
            Finding::Unknown | Finding::Stale => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `body` is that of a ping. Nearly every other body differs in its length already; a failure detector's probe in
/// five bytes only.
fn is_ping(body: &Body) -> bool {
    body.len() == TCP_PING.len() && body.segments().flatten().eq(&TCP_PING)
}

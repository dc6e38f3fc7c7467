//! Verifies what membership says (Tribes: `TcpFailureDetector`).
//!
//! Membership hears heartbeats; this layer asks the member itself, by a connection of its own, before it believes.
//!
//! | from below | what happens |
//! |---|---|
//! | a member was added | it is probed at once, and announced above when it answers; until then it is tried again |
//! | it left on purpose, or was excluded | believed |
//! | it expired or failed | probed: dead, it is removed; alive, it is a *suspect*: announced as suspected once, and probed again until the service hears of it again, or it is dead |
//! | its connection closed, a message to it failed | probed at once, one of Tribes after 25 ms, in which its good-bye may still come: dead, it is removed; alive, nothing happened |
//!
//! A probe has to be *answered*: a frozen process, whose kernel still accepts connections, is found (T32). Being refused is
//! proof of death at once, and so is another process at the address. No answer in time is proof for a member that went
//! silent; for one of which only a connection broke it takes a second such probe, for a loaded machine is not dead. What
//! this side causes itself, a full queue or a refused request, never has a member probed (T26).
//!
//! A member that was removed here while the service still lists it is probed with each heartbeat of the channel, and comes
//! back when it answers. A suspect is never forgotten (T34). Probes run beside each other, at most
//! [`max_probes`](TcpFailureDetectorConfig::max_probes), and hold nothing up (T22).
//!
//! # Place in the stack
//! Towards Java members, probes go out past all layers below this one but come in through all of theirs. So it stands below every layer
//! that changes bytes (T5), and above `static-members`, whose members it would not hear of: no channel is built otherwise. Above
//! `domain-filter`, as [advice](tribes_core::Rule::advised). Above or below `message-dispatch`, as it likes: outcomes come to it past
//! all layers.
//!
//! # Towards Java
//! A probe is Tribes' own: 64 fixed bytes, with an acknowledgement asked for under the read test. Java's probes of this
//! member are swallowed here, and counted as dropped with the reason `probe`.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::wire::FAILURE_DETECTOR_PROBE;
use tribes_core::{
    BoxError, Cx, Departure, EventVerdict, Gauge, Inbound, Interest, Link, Member, MemberEvent, Outcome, ProbeResult,
    Rule, SendOptions, SyncInterceptor, Time, Verdict,
};

pub use self::config::TcpFailureDetectorConfig;
use self::core::{Action, Core, Timing};

const NAME: &str = "tcp-failure-detector";

/// Verifies by probes what membership says. See the [module](self). One instance serves one channel.
#[derive(Debug)]
pub struct TcpFailureDetector(Arc<Shell>);

/// Performs what the core decides.
#[derive(Debug)]
struct Shell {
    config: TcpFailureDetectorConfig,
    state: Mutex<State>,
    /// When the core wants to be called.
    wake_at: watch::Sender<Time>,
    slots: Semaphore,
    probes: Probes,
}

#[derive(Debug)]
struct State {
    core: Core,
    link: Option<Link>,
    /// Decided and not yet told above. Told by one caller at a time, so that they keep their order.
    raised: VecDeque<MemberEvent>,
    raising: bool,
}

/// Results of probes.
#[derive(Debug, Default)]
struct Probes {
    answered: AtomicU64,
    connected: AtomicU64,
    refused: AtomicU64,
    replaced: AtomicU64,
    timed_out: AtomicU64,
    unreachable: AtomicU64,
}

impl TcpFailureDetector {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: TcpFailureDetectorConfig) -> Self {
        let timing = Timing { recheck: config.recheck_interval, close_watch: config.remove_suspects_timeout };
        let state = State { core: Core::new(timing), link: None, raised: VecDeque::new(), raising: false };
        Self(Arc::new(Shell {
            config,
            state: Mutex::new(state),
            wake_at: watch::Sender::new(Time::NEVER),
            slots: Semaphore::new(config.max_probes.min(Semaphore::MAX_PERMITS)),
            probes: Probes::default(),
        }))
    }
}

impl Default for TcpFailureDetector {
    fn default() -> Self {
        Self::new(TcpFailureDetectorConfig::default())
    }
}

impl Configure for TcpFailureDetector {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "verifies by a probe what membership says of members";
    type Config = TcpFailureDetectorConfig;
    fn configure(config: TcpFailureDetectorConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(TcpFailureDetector);

impl SyncInterceptor for TcpFailureDetector {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::RECEIVE | Interest::MEMBERS | Interest::HEARTBEAT | Interest::FAULTS
    }

    fn trigger(&self) -> SendOptions {
        self.0.config.trigger
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::below_all_that_change_bytes(
                "the probes of tcp-failure-detector go out past the layers below it but come in through them",
            ),
            Rule::above("static-members", "tcp-failure-detector verifies only the members that it hears of from below"),
            Rule::above("domain-filter", "tcp-failure-detector need not probe members that domain-filter hides")
                .advised(),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.0.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        {
            let mut state = self.0.lock();
            state.core.clear();
            state.raised.clear();
            state.link = Some(link.clone());
            self.0.wake_at.send_replace(Time::NEVER);
        }
        let shell = Arc::clone(&self.0);
        let env = link.env().clone();
        let mut wake_at = self.0.wake_at.subscribe();
        link.spawn(async move {
            loop {
                let at = *wake_at.borrow_and_update();
                tokio::select! {
                    biased;
                    // The sender lives in the shell that this task holds.
                    _ = wake_at.changed() => {}
                    () = env.sleep_until(at) => { let _ = shell.decide(Core::tick); }
                }
            }
        });
        Ok(())
    }

    fn stop(&self) {
        let mut state = self.0.lock();
        state.link = None;
        state.core.clear();
        self.0.wake_at.send_replace(Time::NEVER);
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        if is_probe(&msg.message.body) { Verdict::Drop("probe") } else { Verdict::Pass }
    }

    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        let decided = self.0.decide(|core, now| core.event(event.clone(), now));
        // Stopped, it still lets members go.
        if decided || !matches!(event, MemberEvent::Removed(..)) { EventVerdict::Swallow } else { EventVerdict::Pass }
    }

    fn heartbeat(&self, _: Time) {
        let _ = self.0.decide(Core::heartbeat);
    }

    fn outcome(&self, outcome: &Outcome) {
        for fault in outcome.faults.iter().filter(|fault| fault.kind.speaks_against_member()) {
            let _ = self.0.decide(|core, now| core.fault(&fault.member, &fault.kind, now));
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let census = self.0.lock().core.census();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let probes = &self.0.probes;
        let mut gauges = vec![
            Gauge::new("members", count(census.members)),
            Gauge::new("suspects", count(census.suspects)),
            Gauge::new("unverified", count(census.unverified)),
        ];
        let results = [
            ("probes_answered", &probes.answered),
            ("probes_connected", &probes.connected),
            ("probes_refused", &probes.refused),
            ("probes_replaced", &probes.replaced),
            ("probes_timed_out", &probes.timed_out),
            ("probes_unreachable", &probes.unreachable),
        ];
        gauges.extend(results.map(|(name, counter)| Gauge::new(name, counter.load(Ordering::Relaxed))));
        gauges
    }
}

impl Shell {
    /// Has the core decide, then does what it decided. `false`, and nothing happens, before the start and after the stop.
    fn decide(self: &Arc<Self>, decide: impl FnOnce(&mut Core, Time) -> Vec<Action>) -> bool {
        let mut state = self.lock();
        let Some(link) = state.link.clone() else { return false };
        let mut probes = Vec::new();
        for action in decide(&mut state.core, link.env().now()) {
            match action {
                Action::Raise(event) => state.raised.push_back(event),
                Action::Probe { member, ticket } => probes.push((member, ticket)),
                // Under the lock, so that a later decision's time is not overwritten by an earlier one's.
                Action::WakeAt(at) => drop(self.wake_at.send_replace(at)),
            }
        }
        drop(state);
        for (member, ticket) in probes {
            self.probe(&link, member, ticket);
        }
        self.raise(&link);
        true
    }

    /// Tells above what was decided. One caller at a time does it, for all.
    fn raise(&self, link: &Link) {
        loop {
            let mut state = self.lock();
            if state.raising {
                return;
            }
            let Some(event) = state.raised.pop_front() else { return };
            state.raising = true;
            drop(state);
            log(&event);
            link.member_event(event);
            self.lock().raising = false;
        }
    }

    fn probe(self: &Arc<Self>, link: &Link, member: Arc<Member>, ticket: u64) {
        let shell = Arc::clone(self);
        let link_of_task = link.clone();
        link.spawn(async move {
            let link = link_of_task;
            let Ok(_slot) = shell.slots.acquire().await else { return };
            let options = shell.config.trigger | SendOptions::BYTE_MESSAGE | SendOptions::USE_ACK;
            // Without the read test there is no answer to wait for: to connect is all.
            let frame =
                if shell.config.read_test { link.message(FAILURE_DETECTOR_PROBE.as_slice(), options) } else { None };
            let result = link.probe(&member, frame, shell.config.probe_limit()).await;
            shell.probes.count(result);
            tracing::debug!(%member, ?result, "probed");
            let _ = shell.decide(|core, now| core.probed(&member, ticket, result, now));
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probes {
    fn count(&self, result: ProbeResult) {
        let counter = match result {
            ProbeResult::Answered => &self.answered,
            ProbeResult::Connected => &self.connected,
            ProbeResult::Refused => &self.refused,
            ProbeResult::Replaced => &self.replaced,
            ProbeResult::TimedOut => &self.timed_out,
            _ => &self.unreachable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn log(event: &MemberEvent) {
    match event {
        MemberEvent::Removed(member, Departure::Failed) => tracing::info!(%member, "member failed its probe: removed"),
        MemberEvent::Suspected(member, why) => {
            tracing::info!(%member, %why, "member is suspected, but answers its probes")
        }
        event => tracing::debug!(?event, "member event verified"),
    }
}

/// Whether `body` is that of a probe. Nearly every other body differs in its length already.
fn is_probe(body: &tribes_core::Body) -> bool {
    body.len() == FAILURE_DETECTOR_PROBE.len() && body.segments().flatten().eq(&FAILURE_DETECTOR_PROBE)
}

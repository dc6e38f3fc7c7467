//! Only members of one domain are there (Tribes: `DomainFilterInterceptor`).
//!
//! Several groups can share one multicast address, or one list of addresses: each member announces a domain, and this layer
//! hides those of other domains from the layers above, and refuses their messages.
//!
//! | from below | what happens |
//! |---|---|
//! | a member of the domain | passed on |
//! | a member of another domain | not told above, nor what happens to it later |
//! | a member changed, and now has the domain | told above as added |
//! | a member changed, and has the domain no more | told above as removed, [`Excluded`](tribes_core::Departure::Excluded) |
//! | a message whose sender has the domain | passed on |
//! | a message whose sender has another | refused and counted |
//!
//! Membership is judged anew with each update (in Tribes only when a member is added, T42). The sender of a refused message
//! hears of it if it asked for a synchronized acknowledgement; Tribes says that all is well (T12). Messages are judged by the
//! sender that they name; this keeps groups apart and is no protection against somebody who lies.
//!
//! What goes down is not looked at. The layer adds no bytes, and members without it notice nothing of it. It does not set
//! this member's own domain: that is [`ChannelBuilder::domain`](tribes_core::ChannelBuilder::domain). If the two differ, a
//! warning says so at the start, for all members with a like filter then hide from each other.
//!
//! # Guarantees
//! Events keep their order. A member is added before it is updated or removed, whatever its domain was meanwhile. A change of
//! the domain that this channel announces is followed with the next heartbeat, if no domain was configured.
//!
//! # Place in the stack
//! The lowest, next to the network: what is above then never hears of strangers. Layers that find members themselves, as
//! `static-members`, stand above it, and their members are not judged: `static-members` demands that. `tcp-failure-detector` and
//! `tcp-ping` advise it.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, Cx, EventVerdict, Gauge, Inbound, Interest, Link, MemberEvent, SyncInterceptor, Time, Verdict,
};

pub use self::config::DomainFilterConfig;
use self::core::Core;
use crate::raiser::Raiser;

const NAME: &str = "domain-filter";

/// Hides members of other domains and refuses their messages. See the [module](self). One instance serves one channel.
#[derive(Debug, Default)]
pub struct DomainFilter {
    config: DomainFilterConfig,
    state: Mutex<State>,
    raiser: Raiser,
    /// As in the core, for messages.
    domain: RwLock<Vec<u8>>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    core: Core,
    /// While it runs.
    link: Option<Link>,
}

impl DomainFilter {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: DomainFilterConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Has the core decide, then tells above what it decided. `false`, and nothing happens, before the start and after the
    /// stop.
    fn decide<E: IntoIterator<Item = MemberEvent>>(&self, decide: impl FnOnce(&mut Core) -> E) -> bool {
        let mut state = self.lock();
        let Some(link) = state.link.clone() else { return false };
        decide(&mut state.core).into_iter().for_each(|event| self.raiser.push(event));
        drop(state);
        self.raiser.flush(&link);
        true
    }

    /// Lets `domain` count from now on, if it does not yet.
    fn adopt(&self, domain: &[u8]) {
        if self.lock().core.domain() == domain {
            return;
        }
        domain.clone_into(&mut self.domain.write().unwrap_or_else(PoisonError::into_inner));
        self.decide(|core| core.set_domain(domain));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Configure for DomainFilter {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "hides members of other domains and refuses their messages";
    type Config = DomainFilterConfig;
    fn configure(config: DomainFilterConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(DomainFilter);

impl SyncInterceptor for DomainFilter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::RECEIVE | Interest::MEMBERS | Interest::HEARTBEAT
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let announced = link.local().map(|local| local.domain().clone()).unwrap_or_default();
        self.lock().link = Some(link);
        if let Some(domain) = self.config.domain.as_deref().filter(|domain| *domain != announced) {
            let domain = domain.escape_ascii().to_string();
            tracing::warn!(?announced, domain, "this member announces another domain than it lets pass");
        }
        self.adopt(self.config.domain.as_deref().unwrap_or(&announced));
        Ok(())
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.link = None;
        state.core.clear();
        drop(state);
        self.raiser.clear();
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        let sender = msg.from();
        if sender.domain() == &*self.domain.read().unwrap_or_else(PoisonError::into_inner) {
            return Verdict::Pass;
        }
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(self.config.log_interval.max(1)) {
            tracing::warn!(%sender, domain = ?sender.domain(), refused = before + 1, "refused a message from another domain");
        }
        Verdict::Refuse("its sender belongs to another domain".into())
    }

    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        let decided = self.decide(|core| core.event(event));
        // Stopped, it still lets members go.
        if decided || !matches!(event, MemberEvent::Removed(..)) { EventVerdict::Swallow } else { EventVerdict::Pass }
    }

    fn heartbeat(&self, _: Time) {
        if self.config.domain.is_some() {
            return;
        }
        let local = self.lock().link.as_ref().and_then(Link::local);
        if let Some(local) = local {
            self.adopt(local.domain());
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (members, foreign) = self.lock().core.census();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        vec![
            Gauge::new("members", count(members)),
            Gauge::new("foreign_members", count(foreign)),
            Gauge::new("refused_messages", self.refused.load(Ordering::Relaxed)),
        ]
    }
}

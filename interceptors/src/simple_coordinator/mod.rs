//! The first member leads, without a word between members (Tribes: `SimpleCoordinator`).
//!
//! When no member has come or gone for a [while](SimpleCoordinatorConfig::settle), the members that this one sees, itself
//! included, are the view, and the first of them in absolute order (see [`Member`]) is the coordinator. Nothing is sent, so
//! members that see different groups have different coordinators, for as long as they do (T6); there is no term either. Where that
//! is not good enough use [`coordinator`](crate::Coordinator), which agrees on it.
//!
//! Differences to Tribes: nothing waits meanwhile (there the event thread is blocked for 2.5 s and more, T22), and a coordinator
//! that is gone is none from that moment on.
//!
//! # Towards Java
//! There is nothing on the wire. A Java member with its `SimpleCoordinator` comes to the same result.
//!
//! # Place in the stack
//! Above `tcp-failure-detector`, so that members that are gone are gone here, too, and above `static-members` and
//! `domain-filter`, so that it counts on the members that the application sees.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{BoxError, Cx, EventVerdict, Gauge, Interest, Link, Member, MemberEvent, Rule, SyncInterceptor};

pub use self::config::SimpleCoordinatorConfig;
use self::core::Core;
use crate::leadership::{Leadership, LeadershipChanges, Publisher};

const NAME: &str = "simple-coordinator";

/// Takes the first member for the coordinator. See the [module](self). One instance serves one channel; keep an `Arc` of it to
/// ask who leads.
#[derive(Debug)]
pub struct SimpleCoordinator(Arc<Shell>);

/// Keeps the time for the core.
#[derive(Debug)]
struct Shell {
    config: SimpleCoordinatorConfig,
    core: Mutex<Core>,
    published: Publisher,
    /// There is another deadline.
    wake: Notify,
}

impl SimpleCoordinator {
    /// A layer with these options. Those out of bounds are refused when the channel starts.
    #[must_use]
    pub fn new(config: SimpleCoordinatorConfig) -> Self {
        let core = Mutex::new(Core::new(config.settle));
        Self(Arc::new(Shell { config, core, published: Publisher::default(), wake: Notify::new() }))
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

    /// The members when they were looked at last, the local one included, in absolute order (Tribes: `getView`).
    #[must_use]
    pub fn view(&self) -> Arc<[Arc<Member>]> {
        self.leadership().view
    }

    /// All of that at one moment.
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

impl Default for SimpleCoordinator {
    fn default() -> Self {
        Self::new(SimpleCoordinatorConfig::default())
    }
}

impl Configure for SimpleCoordinator {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "takes the first member for the coordinator, without a word";
    type Config = SimpleCoordinatorConfig;
    fn configure(config: SimpleCoordinatorConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(SimpleCoordinator);

impl SyncInterceptor for SimpleCoordinator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::MEMBERS
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::above(
                "tcp-failure-detector",
                "simple-coordinator would count on members that tcp-failure-detector has found dead",
            ),
            Rule::above("static-members", "simple-coordinator would not hear of the members that static-members adds"),
            Rule::above(
                "domain-filter",
                "simple-coordinator would count on members of other domains, which domain-filter hides",
            ),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.0.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let local = link.local().ok_or("the channel is gone")?;
        self.0.with_core(|core| core.start(local, link.env().now()));
        link.spawn(Arc::clone(&self.0).work(link.clone()));
        Ok(())
    }

    fn stop(&self) {
        self.0.with_core(Core::stop);
    }

    fn member_event(&self, event: &MemberEvent, cx: &mut Cx<'_>) -> EventVerdict {
        let now = cx.now();
        self.0.with_core(|core| core.event(event, now));
        EventVerdict::Pass
    }

    fn gauges(&self) -> Vec<Gauge> {
        let leadership = self.leadership();
        vec![
            Gauge::new("view_members", u64::try_from(leadership.view.len()).unwrap_or(u64::MAX)),
            Gauge::new("is_coordinator", u64::from(leadership.is_local)),
        ]
    }
}

impl Shell {
    fn with_core(&self, decide: impl FnOnce(&mut Core)) {
        let mut core = self.lock();
        decide(&mut core);
        self.published.publish(core.leadership());
        drop(core);
        self.wake.notify_one();
    }

    /// Keeps the time, as long as the channel runs.
    async fn work(self: Arc<Self>, link: Link) {
        loop {
            let due = self.lock().deadline();
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = link.env().sleep_until(due) => {
                    let now = link.env().now();
                    self.with_core(|core| core.tick(now));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

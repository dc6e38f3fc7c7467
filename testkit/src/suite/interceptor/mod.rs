//! What every interceptor has to do.

mod arrivals;
mod bench;
mod cases;
mod pair;
mod profile;
mod slow;

use std::fmt;
use std::sync::Arc;

use tribes_core::{IntoLayer, Layer};

pub(super) use self::arrivals::{arrived, body};
pub(super) use self::cases::consistent;
pub use self::profile::Profile;
use self::profile::{Deliberate, Factory};
use super::run::{TestSite, run_case, run_test};
use super::{CaseReport, Seeds, SuiteReport};

/// What is tested.
#[derive(Clone)]
pub(super) struct Subject {
    factory: Factory,
    profile: Profile,
}

impl Subject {
    fn new<F, L, Form>(factory: F, profile: Profile) -> Self
    where
        F: Fn() -> L + Send + Sync + 'static,
        L: IntoLayer<Form>,
    {
        Self { factory: Arc::new(move || factory().into_layer()), profile }
    }

    fn layer(&self) -> Layer {
        (self.factory)()
    }

    fn report(&self, seeds: Seeds, cases: Vec<CaseReport>) -> SuiteReport {
        SuiteReport {
            suite: "interceptor",
            subject: self.layer().name().to_owned(),
            declared: self.profile.declared(),
            seeds,
            cases,
        }
    }
}

/// Runs all cases on an interceptor, as [`conformance!`](crate::conformance) does, and returns what it found: for a test of
/// its own, or for a program. See [`InterceptorSuite`] for more wishes.
///
/// ```
/// use tribes_core::SyncInterceptor;
/// use tribes_testkit::suite::{Profile, interceptor_suite};
///
/// #[derive(Debug)]
/// struct PassOn;
///
/// impl SyncInterceptor for PassOn {
///     fn name(&self) -> &'static str {
///         "pass-on"
///     }
/// }
///
/// interceptor_suite(|| PassOn, Profile::default()).assert_passed();
/// ```
pub fn interceptor_suite<F, L, Form>(factory: F, profile: Profile) -> SuiteReport
where
    F: Fn() -> L + Send + Sync + 'static,
    L: IntoLayer<Form>,
{
    InterceptorSuite::new(factory, profile).run()
}

/// What every interceptor has to do, as cases that run in simulated groups and pairs of channels that all have the layer.
/// Messages are sent with the layer's trigger and without it. In all cases a panic of the layer is a failure.
///
/// | case | demands |
/// |---|---|
/// | `declaration` | a name in kebab-case; a trigger that a channel accepts; the same answers every time |
/// | `lifecycle` | it starts and stops in any state, also twice, in part and after a start that failed; it stops in time; nothing that was accepted stays without an outcome |
/// | `flags` | a message without the trigger's bits leaves it, and comes in, as it was; other bits stay as they are |
/// | `transparency` | body, options, id, sender and order survive a round trip through two instances, alone and above, below and between other layers; no time passes |
/// | `content` | each body of any size arrives unchanged, once, in order, at each of several members |
/// | `volume` | of thousands of messages each arrives once and in order |
/// | `concurrency` | what many tasks send at the same time arrives once, and each task's in order |
/// | `backpressure` | a layer accepts no more than there is room for while those below or above do not get on |
/// | `outcomes` | every message has one outcome, which blames the dead member and nobody else |
/// | `refusals` | what those below refuse, for a member or as a whole, is told of just those members and for that reason |
/// | `receipts` | the answer of a remote listener comes back |
/// | `member_events` | membership events come through, all and in order, or are consistently hidden |
/// | `heartbeat` | minutes of heartbeats without traffic change nothing |
/// | `garbage` | whatever comes from below is answered, nothing panics, memory does not grow with what a peer claims, and proper messages still come through |
/// | `cancellation` | a send, receive, start or stop that is dropped at any of its awaits spoils nothing |
/// | `panics` | a panic in the layer above or below fails that message only |
/// | `determinism` | the same seed gives the same run |
/// | `memory` | when traffic has ended nothing is kept: no body, no room, no lease, no members of the past |
///
/// What a layer does on purpose its [`Profile`] declares.
#[derive(Clone)]
#[must_use = "call `run`"]
pub struct InterceptorSuite {
    subject: Subject,
    seeds: Seeds,
}

impl InterceptorSuite {
    /// All cases for the layers that `factory` makes, under the seeds that the environment names.
    pub fn new<F, L, Form>(factory: F, profile: Profile) -> Self
    where
        F: Fn() -> L + Send + Sync + 'static,
        L: IntoLayer<Form>,
    {
        Self { subject: Subject::new(factory, profile), seeds: Seeds::default() }
    }

    /// Other seeds.
    pub const fn seeds(mut self, seeds: Seeds) -> Self {
        self.seeds = seeds;
        self
    }

    /// The names of the cases.
    #[must_use]
    pub fn cases() -> Vec<&'static str> {
        cases::ALL.iter().map(|case| case.name).collect()
    }

    /// Runs all cases, prints the report, and writes it if the environment says where. Works inside and outside of a runtime;
    /// takes virtual time only, and blocks the caller meanwhile.
    pub fn run(&self) -> SuiteReport {
        let report = self.run_cases(|_| true);
        eprintln!("{report}");
        report.write(&format!("interceptor.{}", report.subject));
        report
    }

    /// Runs one case, silently.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn run_case(&self, name: &str) -> SuiteReport {
        if !Self::cases().contains(&name) {
            panic!("there is no case {name}; there are {:?}", Self::cases());
        }
        self.run_cases(|case| case == name)
    }

    fn run_cases(&self, wanted: impl Fn(&str) -> bool) -> SuiteReport {
        let cases = cases::ALL.iter().filter(|case| wanted(case.name));
        self.subject.report(self.seeds, cases.map(|case| run_case(*case, &self.subject, self.seeds)).collect())
    }
}

impl fmt::Debug for InterceptorSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterceptorSuite").field("profile", &self.subject.profile).field("seeds", &self.seeds).finish()
    }
}

/// Runs the case `name` as a test; for the macro.
#[doc(hidden)]
pub fn __interceptor_test<F, L, Form>(name: &str, site: TestSite, (factory, profile): (F, Profile))
where
    F: Fn() -> L + Send + Sync + 'static,
    L: IntoLayer<Form>,
{
    let subject = Subject::new(factory, profile);
    run_test(cases::ALL, name, &subject, site, |seeds, case| subject.report(seeds, vec![case]));
}

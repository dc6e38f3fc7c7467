//! What every interceptor has to do.

mod cases;
mod group;

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use tribes_core::{Layer, SendOptions};

use self::group::Bench;
use super::{CaseReport, SuiteReport};
use crate::Simulation;

/// Runs all cases on the layer that `make` makes; each member of a simulated group gets one of its own. See
/// [`InterceptorSuite`] for more wishes.
///
/// ```
/// use tribes_core::{Cx, IntoLayer, Outbound, SyncInterceptor, Verdict};
/// use tribes_testkit::suite::interceptor_suite;
///
/// #[derive(Debug)]
/// struct PassOn;
///
/// impl SyncInterceptor for PassOn {
///     fn name(&self) -> &'static str {
///         "pass-on"
///     }
///     fn send(&self, _: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
///         Verdict::Pass
///     }
/// }
///
/// interceptor_suite(|| PassOn.into_layer()).assert_passed();
/// ```
pub fn interceptor_suite(make: impl Fn() -> Layer) -> SuiteReport {
    InterceptorSuite::new().run(make)
}

/// What every interceptor has to do, as cases that run in simulated groups whose members all have the layer. Messages
/// are sent with the layer's trigger and without it.
///
/// | case | demands |
/// |---|---|
/// | `declaration` | a name in kebab-case; a trigger that a channel accepts; the same answers every time |
/// | `content` | each body, of any size, arrives unchanged, once, in order, at each of several members |
/// | `empty-body` | so does the empty one |
/// | `outcomes` | every message has one outcome, which blames the dead member and nobody else; no room stays taken |
/// | `receipts` | a remote listener's failure comes back as such, and a message that nobody wants is no failure |
/// | `member-events` | membership events come through, all and in order |
/// | `stop-start` | a stopped channel, also one stopped twice, works again; nothing that was accepted stays without an outcome |
/// | `concurrency` | many tasks send at the same time; what each sends arrives once and in order |
/// | `heartbeat` | ten minutes of heartbeats without traffic change nothing |
/// | `garbage` | bodies that no peer of this kind would send are answered; no panic; proper messages still come through |
///
/// In all cases a panic of the layer is a failure.
///
/// A layer whose very job contradicts a case leaves it out with [`skip`](Self::skip): a domain filter `member-events`, a
/// layer that drops messages by chance `content`.
#[derive(Clone, Debug)]
#[must_use = "call `run`"]
pub struct InterceptorSuite {
    seed: u64,
    options: SendOptions,
    skipped: BTreeSet<&'static str>,
}

/// What a case gives.
type Verdict = Result<(), String>;

/// A case that is running.
type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// A case.
struct Case {
    name: &'static str,
    demand: &'static str,
    run: for<'a> fn(&'a Bench) -> Running<'a>,
}

impl Default for InterceptorSuite {
    fn default() -> Self {
        Self::new()
    }
}

impl InterceptorSuite {
    /// All cases, with a fixed seed.
    pub const fn new() -> Self {
        Self { seed: 1, options: SendOptions::empty(), skipped: BTreeSet::new() }
    }

    /// Another seed for the simulations.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sends all messages with these options, too.
    pub const fn options(mut self, options: SendOptions) -> Self {
        self.options = options;
        self
    }

    /// Leaves a case out. Panics if there is none of this name.
    pub fn skip(mut self, case: &'static str) -> Self {
        let known = cases::ALL.iter().map(|case| case.name);
        if !known.clone().any(|name| name == case) {
            panic!("there is no case {case}; there are {:?}", known.collect::<Vec<_>>());
        }
        self.skipped.insert(case);
        self
    }

    /// Runs the cases. Works inside and outside of a runtime; takes virtual time only, and blocks the caller meanwhile.
    pub fn run(&self, make: impl Fn() -> Layer) -> SuiteReport {
        let subject = format!("interceptor {}", make().name());
        let cases = cases::ALL.iter().map(|case| {
            let skipped = self.skipped.contains(case.name);
            let failure = if skipped { None } else { self.run_case(case, &make).err() };
            CaseReport { name: case.name, demand: case.demand, failure, skipped }
        });
        SuiteReport { subject, seed: self.seed, cases: cases.collect() }
    }

    fn run_case(&self, case: &Case, make: &impl Fn() -> Layer) -> Verdict {
        // Made here, so that `make` need not be `Sync`.
        let layers: Vec<_> = (0..Bench::MEMBERS).map(|_| make()).collect();
        let (seed, options, run) = (self.seed, self.options, case.run);
        let simulation = Simulation::new(seed).limit(Duration::from_secs(2 * 3600));
        // On a thread of its own: the caller may be in a runtime already.
        let thread = move || {
            let scenario = async |world| {
                let bench = Bench::new(world, layers, options);
                let verdict = run(&bench).await;
                verdict.and_then(|()| bench.no_panics())
            };
            catch_unwind(AssertUnwindSafe(|| simulation.run(scenario).value)).unwrap_or_else(|panic| Err(text(&*panic)))
        };
        std::thread::scope(|scope| {
            scope.spawn(thread).join().unwrap_or_else(|_| Err("the case itself broke".to_owned()))
        })
    }
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".to_owned())
}

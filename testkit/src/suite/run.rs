//! Runs cases: each seed on a thread of its own, with a limit.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Once, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::seeds::SEED;
use super::{CaseFailure, CaseReport, Seeds, SuiteReport};

/// What a case gives.
pub(super) type Verdict = Result<(), String>;

/// A case of a suite whose subject is an `S`.
pub(super) struct Case<S> {
    pub(super) name: &'static str,
    pub(super) demand: &'static str,
    /// Runs it under a seed.
    pub(super) run: fn(&S, u64) -> Verdict,
}

impl<S> Clone for Case<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Case<S> {}

/// How long a case may take under one seed, by the clock on the wall: only a part that blocks its thread takes that long
/// where time is virtual.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cases that look at the memory of the whole process.
const ALONE: [&str; 1] = ["garbage"];

/// Held by every case; by those alone against all others. `cargo test` runs tests beside each other in one process, and what
/// the others allocate, or have reserved for their threads, was taken for what the garbage made.
static RUNNING: RwLock<()> = RwLock::new(());
static SETTLED: Once = Once::new();

/// Runs `case` under `seeds`, up to the first failure.
pub(super) fn run_case<S: Clone + Send + 'static>(case: Case<S>, subject: &S, seeds: Seeds) -> CaseReport {
    #[allow(clippy::disallowed_methods, reason = "for the report: how long it really took")]
    let began = Instant::now();
    let failure = seeds
        .iter()
        .find_map(|seed| run_once(case, subject.clone(), seed).err().map(|text| CaseFailure::new(seed, text)));
    CaseReport { name: case.name, demand: case.demand, failure, took: began.elapsed() }
}

/// On a thread of its own: the caller may be in a runtime already, and a thread that blocks can be left behind.
fn run_once<S: Send + 'static>(case: Case<S>, subject: S, seed: u64) -> Verdict {
    let alone = ALONE.contains(&case.name).then(|| RUNNING.write().unwrap_or_else(PoisonError::into_inner));
    if alone.is_some() {
        // Threads of other tests have begun by then, and wait.
        SETTLED.call_once(|| std::thread::sleep(Duration::from_millis(200)));
    }
    let beside = alone.is_none().then(|| RUNNING.read().unwrap_or_else(PoisonError::into_inner));
    let (sender, receiver) = sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("{} seed {seed}", case.name)).spawn(move || {
        let verdict = catch_unwind(AssertUnwindSafe(|| (case.run)(&subject, seed)));
        // Nobody waits any more only after the limit.
        let _ = sender.send(verdict.unwrap_or_else(|panic| Err(text(&*panic))));
    });
    let Ok(thread) = thread else { return Err("there is no thread for the case".to_owned()) };
    let verdict = match receiver.recv_timeout(PATIENCE) {
        Ok(verdict) => {
            // What it drops at its end belongs to the case, too.
            let _ = thread.join();
            verdict
        }
        Err(RecvTimeoutError::Timeout) => Err(format!("not done after {PATIENCE:?}: something blocks its thread")),
        Err(RecvTimeoutError::Disconnected) => Err("the case itself broke".to_owned()),
    };
    drop((alone, beside));
    verdict
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".to_owned())
}

/// Where a case is run as a test of its own; made by the macros.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct TestSite {
    /// The package that the test is in.
    pub package: &'static str,
    /// The module that the macro made, with the name of the crate in front.
    pub module: &'static str,
}

/// Runs one case as a test: prints its line, writes its report, and panics with the command to replay it if it failed.
pub(super) fn run_test<S: Clone + Send + 'static>(
    cases: &[Case<S>],
    name: &str,
    subject: &S,
    site: TestSite,
    report: impl FnOnce(Seeds, CaseReport) -> SuiteReport,
) {
    let Some(case) = cases.iter().find(|case| case.name == name) else { panic!("there is no case {name}") };
    let seeds = Seeds::from_env();
    let report = report(seeds, run_case(*case, subject, seeds));
    let (_, module) = site.module.split_once("::").unwrap_or(("", site.module));
    eprintln!("{report}");
    report.write(&format!("{}.{module}.{name}", site.package));
    if let Some(failure) = report.cases.iter().find_map(|case| case.failure.as_ref()) {
        let binary = std::env::args().next().unwrap_or_default();
        panic!(
            "{report}\n\nTo replay it:\n  {SEED}={seed} cargo test -p {package} {module}::{name}\nor, without building \
             anything:\n  {SEED}={seed} {binary} --exact {module}::{name}\n",
            seed = failure.seed,
            package = site.package,
        );
    }
}

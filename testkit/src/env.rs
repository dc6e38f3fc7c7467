//! Simulated surroundings of a channel.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::task::AbortHandle;
use tribes_core::{BoxFuture, Env, EnvProvider, TaskHandle, Time};

/// Where the wall clock of every simulation begins: 1 January 2026, 00:00 UTC, in milliseconds.
pub const WALL_ORIGIN_MS: i64 = 1_767_225_600_000;

/// A simulated [`Env`]: tokio's (paused) clock, chance from a seed, and a wall clock that begins at [`WALL_ORIGIN_MS`].
/// Cheap to clone.
///
/// Make it inside the runtime whose clock it is to follow. On a current-thread runtime with paused time, the same seed
/// gives the same ids, session numbers and jitter in the same order. See [`simulate`](crate::simulate), which does all
/// this.
#[derive(Clone)]
pub struct SimEnv(Arc<Inner>);

struct Inner {
    origin: tokio::time::Instant,
    rng: Mutex<fastrand::Rng>,
    wall_step_ms: AtomicI64,
    tasks: Mutex<Tasks>,
    dead: AtomicBool,
    panics: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct Tasks {
    running: Vec<AbortHandle>,
    /// Prune the list when it has grown to this.
    prune_at: usize,
}

impl SimEnv {
    /// Surroundings whose time begins now.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(tokio::time::Instant::now(), fastrand::Rng::with_seed(seed), Arc::default())
    }

    fn with(origin: tokio::time::Instant, rng: fastrand::Rng, panics: Arc<Mutex<Vec<String>>>) -> Self {
        Self(Arc::new(Inner {
            origin,
            rng: Mutex::new(rng),
            wall_step_ms: AtomicI64::new(0),
            tasks: Mutex::default(),
            dead: AtomicBool::new(false),
            panics,
        }))
    }

    /// The surroundings as a channel takes them.
    #[must_use]
    pub fn env(&self) -> Env {
        Env::new(self.clone())
    }

    /// Surroundings of another process in the same world: the same clock, chance of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with(self.0.origin, self.rng().fork(), Arc::clone(&self.0.panics))
    }

    /// Ends the process that lives here without a good-bye: all its tasks stop where they are, and new ones never run.
    pub fn kill(&self) {
        self.0.dead.store(true, Ordering::Release);
        for task in std::mem::take(&mut self.tasks().running) {
            task.abort();
        }
    }

    /// Steps the wall clock by so many milliseconds, as an operator or NTP may. The monotonic clock does not notice.
    pub fn step_wall_clock(&self, by_ms: i64) {
        self.0.wall_step_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// What tasks of this world panicked with.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        self.0.panics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.0.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EnvProvider for SimEnv {
    fn now(&self) -> Time {
        Time::ZERO + tokio::time::Instant::now().saturating_duration_since(self.0.origin)
    }

    fn wall_ms(&self) -> i64 {
        let since = i64::try_from(self.now().as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        WALL_ORIGIN_MS.saturating_add(since).saturating_add(self.0.wall_step_ms.load(Ordering::Relaxed))
    }

    fn random(&self) -> u64 {
        self.rng().u64(..)
    }

    fn fill_unique(&self, bytes: &mut [u8; 16]) -> std::io::Result<()> {
        self.rng().fill(bytes);
        Ok(())
    }

    fn spawn(&self, mut task: BoxFuture) -> TaskHandle {
        if self.0.dead.load(Ordering::Acquire) {
            task = Box::pin(std::future::ready(()));
        }
        let panics = Arc::clone(&self.0.panics);
        let guarded = async move {
            let outcome = std::future::poll_fn(|cx| {
                match std::panic::catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            });
            if let Err(panic) = outcome.await {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                let text = text.unwrap_or_else(|| "a panic without text".to_owned());
                panics.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        };
        #[allow(clippy::disallowed_methods, reason = "this is what runs the tasks of a simulated process")]
        let handle = tokio::spawn(guarded);
        let mut tasks = self.tasks();
        if tasks.running.len() >= tasks.prune_at {
            tasks.running.retain(|task| !task.is_finished());
            tasks.prune_at = 64 + 2 * tasks.running.len();
        }
        tasks.running.push(handle.abort_handle());
        TaskHandle::new(handle)
    }

    fn sleep_until(&self, deadline: Time) -> BoxFuture {
        let at = self.0.origin.checked_add(Duration::from_nanos(deadline.as_nanos()));
        Box::pin(async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        })
    }
}

impl fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimEnv").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_seed_decides_and_time_is_virtual() {
        let (one, same, other) = (SimEnv::new(1).env(), SimEnv::new(1).env(), SimEnv::new(2).env());
        assert_eq!((one.random(), one.unique().unwrap()), (same.random(), same.unique().unwrap()));
        assert_ne!(one.random(), other.random());
        one.sleep(Duration::from_secs(3600)).await;
        assert_eq!(one.now(), Time::from_millis(3_600_000));
        assert_eq!(one.wall_ms(), WALL_ORIGIN_MS + 3_600_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_does_nothing_more() {
        let sim = SimEnv::new(1);
        let env = sim.env();
        let mut handles = vec![env.spawn(std::future::pending())];
        sim.kill();
        handles.push(env.spawn(async { panic!("must not run") }));
        for mut handle in handles {
            handle.ended().await;
        }
        assert!(sim.panics().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_task_is_remembered() {
        let sim = SimEnv::new(1);
        sim.fork().env().spawn(async { panic!("oh") }).ended().await;
        assert_eq!(sim.panics(), ["oh"]);
    }
}

//! What a channel needs from its surroundings: clocks, chance, tasks and timers.
//!
//! A channel never asks the operating system for any of these itself. It is given an [`Env`], real by default and
//! simulated in the testkit, so that a seed replays a whole group.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Time;

/// A boxed future that an [`Env`] can run as a task.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// The services behind an [`Env`]. Implement it to run channels in a world of your own.
pub trait EnvProvider: Send + Sync + 'static {
    /// Monotonic time now.
    fn now(&self) -> Time;
    /// Wall-clock time in milliseconds since 1970 (UTC). Used only in what goes on the wire for people to read.
    fn wall_ms(&self) -> i64;
    /// The wall clock's milliseconds at `time`, which is now or was a moment ago. For whoever has looked at the monotonic
    /// clock already; the default looks at the wall clock.
    fn wall_ms_at(&self, time: Time) -> i64 {
        let _ = time;
        self.wall_ms()
    }
    /// The next 64 random bits. Must be fast; used for session numbers and jitter.
    fn random(&self) -> u64;
    /// Sixteen random bytes for the id of a message. Must be fast, and never the same twice in a group of any size.
    fn message_id(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.random().to_be_bytes());
        bytes[8..].copy_from_slice(&self.random().to_be_bytes());
        bytes
    }
    /// Fills `bytes` for what nobody may guess or have as well: a member id, the random part of an encryption.
    ///
    /// # Errors
    /// There are no such bytes. Weaker ones are no substitute.
    fn fill_unique(&self, bytes: &mut [u8; 16]) -> io::Result<()>;
    /// Runs `task` until it ends or the returned handle aborts it.
    fn spawn(&self, task: BoxFuture) -> TaskHandle;
    /// Completes when the clock has reached `deadline`.
    fn sleep_until(&self, deadline: Time) -> BoxFuture;
}

/// The surroundings of a channel; a cheap handle. See [`EnvProvider`].
#[derive(Clone)]
pub struct Env(Arc<dyn EnvProvider>);

impl Env {
    /// The real world: tokio's clock and tasks, the operating system's chance.
    ///
    /// Uses tokio's own clock, so a runtime with paused time is seen as such.
    #[must_use]
    pub fn real() -> Self {
        Self::new(Real::new())
    }

    /// An environment made of `provider`.
    pub fn new(provider: impl EnvProvider) -> Self {
        Self(Arc::new(provider))
    }

    /// Monotonic time now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.now()
    }

    /// Milliseconds since 1970 (UTC).
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        self.0.wall_ms()
    }

    /// Milliseconds since 1970 (UTC) at `time`, which is now or was a moment ago: spares a look at the other clock.
    #[must_use]
    pub fn wall_ms_at(&self, time: Time) -> i64 {
        self.0.wall_ms_at(time)
    }

    /// Sixteen random bytes that name a message.
    #[must_use]
    pub fn message_id(&self) -> [u8; 16] {
        self.0.message_id()
    }

    /// The next 64 random bits.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.0.random()
    }

    /// Sixteen bytes that no other process has, and nobody can guess.
    ///
    /// # Errors
    /// The operating system gives none: nothing that rests on them is to go on.
    pub fn unique(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        self.0.fill_unique(&mut bytes)?;
        Ok(bytes)
    }

    /// Runs `task` beside the caller. Dropping the handle lets the task run on.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        self.0.spawn(Box::pin(task))
    }

    /// Waits until the clock has reached `deadline`. Cancel safe.
    pub async fn sleep_until(&self, deadline: Time) {
        self.0.sleep_until(deadline).await;
    }

    /// Waits for `duration`. Cancel safe.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Runs `future` until `deadline`; `None` if it was not done by then. Cancel safe as far as `future` is.
    pub async fn until<T>(&self, deadline: Time, future: impl Future<Output = T>) -> Option<T> {
        if deadline == Time::NEVER {
            return Some(future.await);
        }
        tokio::select! {
            biased;
            done = future => Some(done),
            () = self.sleep_until(deadline) => None,
        }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Default for Env {
    fn default() -> Self {
        Self::real()
    }
}

/// A running task. Dropping it lets the task run on; [`TaskHandle::abort`] ends it.
pub struct TaskHandle(tokio::task::JoinHandle<()>);

impl TaskHandle {
    /// A handle of a tokio task.
    #[must_use]
    pub fn new(handle: tokio::task::JoinHandle<()>) -> Self {
        Self(handle)
    }

    /// Ends the task at its next suspension.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until the task has ended, whether by itself, by a panic or by an abort. Cancel safe.
    pub async fn ended(&mut self) {
        // A panic was already reported by the runtime; what matters here is that the task is gone.
        let _ = (&mut self.0).await;
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("finished", &self.is_finished()).finish()
    }
}

struct Real {
    origin: tokio::time::Instant,
    rng: Mutex<fastrand::Rng>,
    /// The wall clock's milliseconds at monotonic zero, as last compared, and when (in milliseconds) that was.
    wall_origin: AtomicI64,
    compared_at: AtomicI64,
}

/// The wall clock is compared with the monotonic one this often: it is set now and then.
const COMPARE_EVERY_MS: i64 = 100;

thread_local! {
    /// Each thread draws message ids from a generator of its own.
    static MESSAGE_IDS: RefCell<IdGenerator> = RefCell::new(IdGenerator::new());
}

/// A fast generator under a key of the system's: two generators give the same id only if they have the same key of 128 bits.
struct IdGenerator {
    rng: fastrand::Rng,
    key: [u64; 2],
}

impl IdGenerator {
    fn new() -> Self {
        let mut seed = [0; 24];
        // Without the system's chance no member gets an id, unless it has a configured one; for that a generator seeded by
        // clock and thread serves.
        if getrandom::fill(&mut seed).is_err() {
            fastrand::fill(&mut seed);
        }
        let (words, _) = seed.as_chunks::<8>();
        let word = |at: usize| words.get(at).copied().map_or(0, u64::from_ne_bytes);
        Self { rng: fastrand::Rng::with_seed(word(0)), key: [word(1), word(2)] }
    }

    fn next(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let [high, low] = self.key;
        bytes[..8].copy_from_slice(&(self.rng.u64(..) ^ high).to_be_bytes());
        bytes[8..].copy_from_slice(&(self.rng.u64(..) ^ low).to_be_bytes());
        bytes
    }
}

impl Real {
    fn new() -> Self {
        let mut seed = [0; 8];
        // Without the system's chance the clock-seeded generator still serves for jitter.
        let rng = match getrandom::fill(&mut seed) {
            Ok(()) => fastrand::Rng::with_seed(u64::from_ne_bytes(seed)),
            Err(_) => fastrand::Rng::new(),
        };
        Self {
            origin: tokio::time::Instant::now(),
            rng: Mutex::new(rng),
            wall_origin: AtomicI64::new(0),
            compared_at: AtomicI64::new(i64::MIN / 2),
        }
    }
}

impl EnvProvider for Real {
    fn now(&self) -> Time {
        Time::ZERO + tokio::time::Instant::now().saturating_duration_since(self.origin)
    }

    #[allow(clippy::disallowed_methods, reason = "the one place where the real wall clock is read")]
    fn wall_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn wall_ms_at(&self, time: Time) -> i64 {
        let ms = i64::try_from(time.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        if ms - self.compared_at.load(Ordering::Relaxed) >= COMPARE_EVERY_MS {
            self.wall_origin.store(self.wall_ms() - ms, Ordering::Relaxed);
            self.compared_at.store(ms, Ordering::Relaxed);
        }
        self.wall_origin.load(Ordering::Relaxed) + ms
    }

    fn random(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).u64(..)
    }

    fn message_id(&self) -> [u8; 16] {
        MESSAGE_IDS.with_borrow_mut(IdGenerator::next)
    }

    fn fill_unique(&self, bytes: &mut [u8; 16]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(|error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(error.to_string()),
        })
    }

    #[allow(clippy::disallowed_methods, reason = "the one place where tasks are made")]
    fn spawn(&self, task: BoxFuture) -> TaskHandle {
        TaskHandle::new(tokio::spawn(task))
    }

    fn sleep_until(&self, deadline: Time) -> BoxFuture {
        let at = self.origin.checked_add(Duration::from_nanos(deadline.as_nanos()));
        Box::pin(async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        })
    }
}

//! What the pipeline counts, as plain snapshots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A figure of a layer's or transport's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Its name, in snake_case, with the unit at its end where it has one.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

impl Gauge {
    /// A figure.
    #[must_use]
    pub const fn new(name: &'static str, value: u64) -> Self {
        Self { name, value }
    }
}

/// Everything a channel counts, at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Each layer, top first.
    pub layers: Vec<LayerStats>,
    /// The application's end: down, what it sent; up, what its listeners handled.
    pub top: LayerStats,
    /// Bytes held for members now.
    pub budget_used: usize,
    /// The most bytes ever held for members.
    pub budget_peak: usize,
    /// Messages that wait for a listener now.
    pub listener_queue: usize,
    /// Each endpoint, by its name. Messages for an endpoint that this channel does not have are among the drops of
    /// [`top`](Self::top), up, as `no endpoint`.
    pub endpoints: Vec<EndpointStats>,
    /// Figures of sender, receiver and membership service.
    pub io: BTreeMap<&'static str, Vec<Gauge>>,
}

/// What was counted for one endpoint; see [`channel::endpoint`](crate::channel::endpoint).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its name.
    pub name: String,
    /// What it sent. Messages that were not accepted are among the errors, as `refused`.
    pub down: FlowStats,
    /// What it was called with. Errors: `refused` when it returned one, `panicked`.
    pub up: FlowStats,
}

/// What the pipeline counted for one layer, without any code of the layer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LayerStats {
    /// The layer.
    pub name: &'static str,
    /// On the way down.
    pub down: FlowStats,
    /// On the way up.
    pub up: FlowStats,
    /// Membership events that it saw.
    pub member_events: u64,
    /// Figures of its own.
    pub gauges: Vec<Gauge>,
}

/// Counts of one layer in one direction.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FlowStats {
    /// Messages that entered the layer.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Messages that it passed by because they go to members that could not read it.
    pub passed_by: u64,
    /// Messages that ended here as intended, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Messages that failed here, by reason (`refused`, `panicked`, …).
    pub errors: BTreeMap<&'static str, u64>,
    /// Time that messages spent in the layer itself, without those beyond it. One message in 64 is timed.
    pub latency: Histogram,
}

/// A latency distribution in powers of two: bucket `i` counts times below `2^i` nanoseconds and not below half of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
}

const BUCKETS: usize = 48;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS] }
    }
}

impl Histogram {
    /// Counts `time`.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - nanos.leading_zeros()) as usize;
        if let Some(count) = self.buckets.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
    }

    /// How many times were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound below which a `share` (0 to 1) of the times lie, exact to a factor of two; `None` if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let mut seen = 0;
        self.buckets.iter().enumerate().find_map(|(bucket, number)| {
            seen += number;
            // Counts far below 2^52: the conversion is exact.
            #[allow(clippy::cast_precision_loss, reason = "a share of a count")]
            let reached = seen > 0 && seen as f64 >= share * count as f64;
            reached.then(|| Duration::from_nanos(1 << bucket))
        })
    }

    /// The counts; index `i` is for times below `2^i` nanoseconds.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }
}

/// The live counters behind [`FlowStats`].
#[derive(Debug)]
pub(crate) struct FlowCounters {
    /// Messages and bytes since the totals were last brought up to date, in one word: see [`Recent`].
    recent: AtomicU64,
    totals: Mutex<Totals>,
    passed_by: AtomicU64,
    // Rare paths: a lock is fine.
    drops: Mutex<BTreeMap<&'static str, u64>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    latency: [AtomicU64; BUCKETS],
}

#[derive(Debug, Default)]
struct Totals {
    messages: u64,
    bytes: u64,
}

/// Messages in the upper 20 bits, bytes in the lower 44: an atomic operation is most of what counting costs, so one counts
/// both. Moved to the totals when either has come half way.
#[derive(Clone, Copy)]
struct Recent(u64);

impl Recent {
    const BYTES: u32 = 44;

    const fn of(messages: u32, bytes: u64) -> Self {
        Self(((messages as u64) << Self::BYTES) | bytes)
    }

    const fn messages(self) -> u64 {
        self.0 >> Self::BYTES
    }

    const fn bytes(self) -> u64 {
        self.0 & ((1 << Self::BYTES) - 1)
    }

    /// Whether either is half full: whoever counts on meanwhile does not fill it.
    const fn is_much(self) -> bool {
        self.0 & ((1 << (u64::BITS - 1)) | (1 << (Self::BYTES - 1))) != 0
    }
}

impl Default for FlowCounters {
    fn default() -> Self {
        Self {
            recent: AtomicU64::new(0),
            totals: Mutex::default(),
            passed_by: AtomicU64::new(0),
            drops: Mutex::default(),
            errors: Mutex::default(),
            latency: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// One message in this many is timed: reading the clock twice costs more than a synchronous hop.
const SAMPLE: u64 = 64;

impl FlowCounters {
    /// Counts a message of `bytes`; whether it should be timed.
    pub(crate) fn enter(&self, bytes: usize) -> bool {
        self.entered(1, bytes).is_multiple_of(SAMPLE)
    }

    /// Counts so many messages, with so many bytes together; how many were counted before, since the totals are up to date.
    #[inline]
    pub(crate) fn entered(&self, messages: u32, bytes: usize) -> u64 {
        let before = Recent(self.recent.fetch_add(Recent::of(messages, bytes as u64).0, Ordering::Relaxed));
        if before.is_much() {
            self.settle();
        }
        before.messages()
    }

    #[cold]
    fn settle(&self) {
        let mut totals = self.totals();
        // Another may have been faster.
        let recent = Recent(self.recent.swap(0, Ordering::Relaxed));
        totals.messages += recent.messages();
        totals.bytes += recent.bytes();
    }

    /// Whether one of the next `messages` should be timed.
    pub(crate) fn is_due(&self, messages: usize) -> bool {
        let counted = Recent(self.recent.load(Ordering::Relaxed)).messages();
        counted % SAMPLE + messages as u64 >= SAMPLE
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn passed_by(&self) {
        self.passed_by.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, reason: &'static str) {
        *self.drops.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// Counts an error; how many there are now for this reason.
    pub(crate) fn failed(&self, reason: &'static str) -> u64 {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let times = errors.entry(reason).or_default();
        *times += 1;
        *times
    }

    pub(crate) fn took(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = usize::try_from(u64::BITS - nanos.leading_zeros()).unwrap_or_default().min(BUCKETS - 1);
        if let Some(bucket) = self.latency.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> FlowStats {
        let (messages, bytes) = {
            let totals = self.totals();
            let recent = Recent(self.recent.load(Ordering::Relaxed));
            (totals.messages + recent.messages(), totals.bytes + recent.bytes())
        };
        let mut latency = Histogram::default();
        for (to, from) in latency.buckets.iter_mut().zip(&self.latency) {
            *to = from.load(Ordering::Relaxed);
        }
        FlowStats {
            messages,
            bytes,
            passed_by: self.passed_by.load(Ordering::Relaxed),
            drops: self.drops.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds() {
        let counters = FlowCounters::default();
        for nanos in [100, 100, 100, 5_000] {
            counters.took(Duration::from_nanos(nanos));
        }
        let latency = counters.snapshot().latency;
        assert_eq!(latency.count(), 4);
        assert_eq!(latency.quantile(0.5), Some(Duration::from_nanos(128)));
        assert_eq!(latency.quantile(1.0), Some(Duration::from_nanos(8192)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn nothing_is_lost_when_recent_counts_are_moved() {
        let counters = FlowCounters::default();
        // Moved by messages, and by bytes.
        std::thread::scope(|scope| {
            for bytes in [0, 3, 1 << 30] {
                let counters = &counters;
                scope.spawn(move || {
                    (0..400_000).for_each(|_| {
                        counters.enter(bytes);
                    })
                });
            }
        });
        let stats = counters.snapshot();
        assert_eq!((stats.messages, stats.bytes), (1_200_000, 400_000 * (3 + (1 << 30))));
    }

    #[test]
    fn reasons_are_counted_apart() {
        let counters = FlowCounters::default();
        assert!(counters.enter(10));
        assert!(!counters.enter(10));
        counters.dropped("probe");
        counters.failed("panicked");
        counters.failed("panicked");
        let stats = counters.snapshot();
        assert_eq!((stats.messages, stats.bytes), (2, 20));
        assert_eq!(stats.errors["panicked"], 2);
        assert_eq!(stats.drops["probe"], 1);
    }
}

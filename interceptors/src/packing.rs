//! What the layers that compress bodies have in common: work in steps, memory for what they unpack, machines that are kept
//! for the next message, and counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tribes_core::budget::Reservation;
use tribes_core::error::ReceiveError;
use tribes_core::{Body, Budget, BudgetConfig, Env, Gauge, Handled, Inbound, OverloadPolicy};

/// Bytes to work on between two looks at what else there is to do: about a millisecond's worth.
pub(crate) const STEP: usize = 64 << 10;

/// Machines that are kept for the next message: as many as work at a time, in a process of usual size.
const SPARE: usize = 4;

/// Room is waited for until there is some: that makes the sender wait, as it should.
const PATIENTLY: OverloadPolicy = OverloadPolicy::Wait(Duration::MAX);

/// Feeds a body in steps of at most [`STEP`] bytes, between which other tasks have their turn.
pub(crate) async fn in_steps<E>(body: &Body, mut feed: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    for segment in body.segments() {
        for bytes in segment.chunks(STEP) {
            feed(bytes)?;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Memory for unpacked bodies, by their senders; a quarter of it is for one.
#[derive(Debug, Default)]
pub(crate) struct Memory(OnceLock<Budget>);

impl Memory {
    pub(crate) fn start(&self, bytes: usize, env: &Env) {
        self.0.get_or_init(|| Budget::new(BudgetConfig::with_total(bytes).with_policy(PATIENTLY), env.clone()));
    }

    /// Room for a body that the sender of `msg` has packed, once there is some; `None` when the channel is not started.
    pub(crate) async fn room(&self, msg: &Inbound, bytes: usize) -> Option<Reservation> {
        self.0.get()?.admit_with(msg.from(), bytes, PATIENTLY).await
    }
}

/// Compressors or decompressors without work.
#[derive(Debug)]
pub(crate) struct Spare<T>(Mutex<Vec<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Spare<T> {
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps one that is not in use any more, if there are not enough.
    pub(crate) fn keep(&self, one: T) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(one);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    plain: AtomicU64,
    packed: AtomicU64,
    packed_from: AtomicU64,
    packed_to: AtomicU64,
    unpacked: AtomicU64,
    unpacked_from: AtomicU64,
    unpacked_to: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// A message went out as it was.
    pub(crate) fn plain(&self) {
        add(&self.plain, 1);
    }

    pub(crate) fn packed(&self, from: usize, to: usize) {
        add(&self.packed, 1);
        add(&self.packed_from, from);
        add(&self.packed_to, to);
    }

    pub(crate) fn unpacked(&self, from: usize, to: usize) {
        add(&self.unpacked, 1);
        add(&self.unpacked_from, from);
        add(&self.unpacked_to, to);
    }

    /// Refuses a message that cannot be unpacked, for the reason `why`.
    pub(crate) fn refuse(
        &self,
        layer: &'static str,
        msg: Inbound,
        why: &(dyn std::error::Error + Sync),
    ) -> Result<(), ReceiveError> {
        add(&self.refused, 1);
        tracing::debug!(layer, from = %msg.from(), id = %msg.message.id, %why, "a compressed message was refused");
        let error = ReceiveError::Refused { layer, reason: why.to_string() };
        msg.receipt.resolve(Handled::Failed(error.to_string()));
        Err(error)
    }

    pub(crate) fn gauges(&self, memory: &Memory) -> Vec<Gauge> {
        let counted = [
            ("plain_messages", &self.plain),
            ("packed_messages", &self.packed),
            ("packed_from_bytes", &self.packed_from),
            ("packed_to_bytes", &self.packed_to),
            ("unpacked_messages", &self.unpacked),
            ("unpacked_from_bytes", &self.unpacked_from),
            ("unpacked_to_bytes", &self.unpacked_to),
            ("refused_messages", &self.refused),
        ];
        let mut gauges = counted.map(|(name, counter)| Gauge::new(name, counter.load(Ordering::Relaxed))).to_vec();
        let held = memory.0.get().map_or(0, Budget::used);
        gauges.push(Gauge::new("held_bytes", u64::try_from(held).unwrap_or(u64::MAX)));
        gauges
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

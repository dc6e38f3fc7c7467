//! The queue before the writer, and the writer's thread: disks are slow, and not asynchronous.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use super::core::{Event, Record};
use super::file::Log;

/// Lines are written together up to so many bytes.
const BATCH: usize = 64 << 10;

/// What became of the records.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) taken: AtomicU64,
    pub(super) written: AtomicU64,
    /// Those for which the queue was full.
    pub(super) lost: AtomicU64,
    /// Those that the disk did not take.
    pub(super) unwritten: AtomicU64,
    pub(super) rotations: AtomicU64,
}

/// The end of the queue into which records go. Dropping it lets the writer end when it has written what is queued.
#[derive(Debug)]
pub(super) struct Tap {
    queue: SyncSender<Record>,
    counters: Arc<Counters>,
}

/// The other end, for the writer.
#[derive(Debug)]
pub(super) struct Records {
    queue: Receiver<Record>,
    /// How many were lost in earlier runs.
    lost_before: u64,
}

impl Tap {
    /// A queue for `room` records.
    pub(super) fn new(room: usize, counters: Arc<Counters>) -> (Self, Records) {
        let (sender, queue) = sync_channel(room);
        let lost_before = counters.lost.load(Ordering::Relaxed);
        (Self { queue: sender, counters }, Records { queue, lost_before })
    }

    /// Queues a record, or counts it as lost. Never waits.
    pub(super) fn record(&self, at_ms: i64, event: Event) {
        let number = self.counters.taken.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Record { number, at_ms, event }).is_err() {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A writer's thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// Ends with the thread.
    running: Receiver<()>,
}

impl Writer {
    /// Writes what comes out of `records` until all senders are gone.
    pub(super) fn spawn(records: Records, log: Log, counters: Arc<Counters>) -> std::io::Result<Self> {
        let (alive, running) = sync_channel(0);
        std::thread::Builder::new().name("tribes-audit".to_owned()).spawn(move || {
            write_all(&records, log, &counters);
            drop(alive);
        })?;
        Ok(Self { running })
    }

    /// Waits until all is written, for at most so long; whether it is.
    pub(super) fn join(self, limit: Duration) -> bool {
        matches!(self.running.recv_timeout(limit), Err(RecvTimeoutError::Disconnected))
    }
}

/// Writes records as lines until all senders are gone: as many together as there are.
pub(super) fn write_all(records: &Records, log: Log, counters: &Counters) {
    let Records { queue, lost_before } = records;
    let mut batch = Lines { log, counters, lines: Vec::new(), count: 0, lost: *lost_before };
    let mut last = None;
    loop {
        let record = match queue.try_recv() {
            Ok(record) => record,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                batch.flush();
                match queue.recv() {
                    Ok(record) => record,
                    Err(_) => break,
                }
            }
        };
        batch.add(&record);
        last = Some(record);
    }
    if let Some(last) = last {
        // There is no record behind which a loss at the very end could be told.
        batch.tell_lost(&last);
    }
    batch.flush();
}

/// Lines that are to be written together.
struct Lines<'a> {
    log: Log,
    counters: &'a Counters,
    lines: Vec<u8>,
    count: u64,
    /// How many losses have been written down.
    lost: u64,
}

impl Lines<'_> {
    fn add(&mut self, record: &Record) {
        let before = self.lines.len();
        self.tell_lost(record);
        record.write(&mut self.lines);
        if self.lines.len() as u64 > self.log.room() && before > 0 {
            // What came before fills the file; this begins the next.
            let next = self.lines.split_off(before);
            self.flush();
            self.lines = next;
        }
        self.count += 1;
        if self.lines.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes down what was lost since it was last told.
    fn tell_lost(&mut self, record: &Record) {
        let lost = self.counters.lost.load(Ordering::Relaxed);
        if lost > self.lost {
            record.write_lost(lost - self.lost, &mut self.lines);
            self.lost = lost;
        }
    }

    fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let counter = match self.log.append(&self.lines) {
            Ok(()) => &self.counters.written,
            Err(error) => {
                let before = self.counters.unwritten.load(Ordering::Relaxed);
                let now = before + self.count;
                // A disk that is full would fill the other log, too: at first, and then ever fewer lines.
                if before == 0 || before.leading_zeros() != now.leading_zeros() {
                    tracing::error!(%error, unwritten = now, "audit records cannot be written");
                }
                &self.counters.unwritten
            }
        };
        counter.fetch_add(self.count, Ordering::Relaxed);
        self.counters.rotations.store(self.log.rotations, Ordering::Relaxed);
        self.lines.clear();
        self.count = 0;
    }
}

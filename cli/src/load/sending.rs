//! What a sender does, whichever way messages follow each other: warm-up, pause, measured part, the announcement of its end.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tribes::{BoxError, Channel, SendError, SendOptions, To};

use super::args::{LoadArgs, Mode};
use super::control::Control;
use super::histogram::Histogram;
use super::listener::Listener;
use super::payload::{Kind, Maker};
use super::{clock, flood, pingpong};
use crate::units::with_causes;

/// Between warm-up and measurement, so that nothing of the one is left in the other.
const PAUSE: Duration = Duration::from_millis(300);

/// A sender of one run.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) source: Arc<Source>,
    pub(super) listener: Arc<Listener>,
    pub(super) peers: usize,
    /// Has seen the stage in which this sender sends: what comes after it ends the sending.
    pub(super) control: Control,
}

/// The measured part.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) tally: Tally,
    pub(super) seconds: f64,
    /// Processor time of the process when it began.
    pub(super) cpu_at_start: f64,
}

impl Sender {
    /// Sends as the options say, until it is done or the run goes on without it.
    pub(super) async fn run(self, args: &LoadArgs) -> Result<Measured, BoxError> {
        self.part(args, Kind::WarmUp, Limit::lasting(args.warmup)).await?;
        tokio::time::sleep(PAUSE).await;

        let (start, cpu_at_start) = (clock::monotonic_ns(), clock::cpu_seconds());
        let limit = if args.messages > 0 { Limit::Messages(args.messages) } else { Limit::lasting(args.seconds) };
        let tally = self.part(args, Kind::Data, limit).await?;
        let seconds = (clock::monotonic_ns() - start) as f64 / 1e9;

        // In ping-pong nothing is counted at the other end.
        let announced = if args.mode == Mode::Flood { tally.messages } else { 0 };
        if let Err(error) = self.source.send(&mut self.source.maker(), Kind::End, announced).await.result {
            tracing::warn!(error = with_causes(&error), "the end could not be announced: receivers will wait for it");
        }
        Ok(Measured { tally, seconds, cpu_at_start })
    }

    /// One part, in tasks of its own: the task that starts the runtime is slower to wake than its workers.
    async fn part(&self, args: &LoadArgs, kind: Kind, limit: Limit) -> Result<Tally, BoxError> {
        let numbers = Arc::new(Numbers { next: AtomicU64::new(0), limit });
        let mut callers = JoinSet::new();
        match args.mode {
            Mode::Flood => {
                for _ in 0..args.threads {
                    let (source, numbers) = (Arc::clone(&self.source), Arc::clone(&numbers));
                    callers.spawn(flood::call(source, numbers, self.control.clone(), kind));
                }
            }
            Mode::Pingpong => {
                let (source, listener) = (Arc::clone(&self.source), Arc::clone(&self.listener));
                callers.spawn(pingpong::call(source, listener, self.peers, numbers, self.control.clone()));
            }
        }
        let mut all = Tally::default();
        while let Some(tally) = callers.join_next().await {
            all.merge(tally?);
        }
        Ok(all)
    }
}

/// What a sender sends, and through what.
#[derive(Debug)]
pub(super) struct Source {
    channel: Channel,
    index: u8,
    payload: usize,
    options: SendOptions,
}

/// One send.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) begun_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) result: Result<(), SendError>,
}

impl Source {
    pub(super) fn new(channel: Channel, args: &LoadArgs) -> Self {
        Self { channel, index: args.index, payload: args.payload, options: args.options.options() }
    }

    /// What a caller makes its payloads with.
    pub(super) fn maker(&self) -> Maker {
        Maker::new(self.index, self.payload)
    }

    /// Sends one message to all others.
    pub(super) async fn send(&self, maker: &mut Maker, kind: Kind, number: u64) -> Call {
        let (payload, begun_ns) = maker.make(kind, number);
        let result = self.channel.send(To::All, payload, self.options).await.map(drop);
        Call { begun_ns, ended_ns: clock::monotonic_ns(), result }
    }
}

/// How long a part lasts.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Until this [monotonic](clock::monotonic_ns) time.
    Until(u64),
    Messages(u64),
}

impl Limit {
    fn lasting(time: Duration) -> Self {
        Self::Until(clock::monotonic_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The numbers of the messages of a part, without a gap, for all its callers.
#[derive(Debug)]
pub(super) struct Numbers {
    next: AtomicU64,
    limit: Limit,
}

impl Numbers {
    /// The next number; `None` if the part is over at `now`.
    pub(super) fn take(&self, now: u64) -> Option<u64> {
        match self.limit {
            Limit::Until(end) if now >= end => None,
            Limit::Until(_) => Some(self.next.fetch_add(1, Ordering::Relaxed)),
            Limit::Messages(count) => Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count),
        }
    }
}

/// What the callers of a part counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Numbers given out: messages that were sent, to each member or not.
    pub(super) messages: u64,
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
    pub(super) send: Histogram,
    pub(super) rtt: Histogram,
}

impl Tally {
    /// Counts a message that failed.
    pub(super) fn fail(&mut self, error: &(dyn Error + 'static)) {
        let error = with_causes(error);
        if self.last_error.as_ref() != Some(&error) {
            tracing::warn!(%error, "a send failed; only changes of the reason are logged");
        }
        self.errors += 1;
        self.last_error = Some(error);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.messages += other.messages;
        self.errors += other.errors;
        if other.last_error.is_some() {
            self.last_error = other.last_error;
        }
        self.send.merge(&other.send);
        self.rtt.merge(&other.rtt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(limit: Limit) -> Numbers {
        Numbers { next: AtomicU64::new(0), limit }
    }

    #[test]
    fn numbers_have_no_gap() {
        let by_count = numbers(Limit::Messages(2));
        assert_eq!([0, u64::MAX, 0].map(|now| by_count.take(now)), [Some(0), Some(1), None]);
        let by_time = numbers(Limit::Until(10));
        assert_eq!([0, 10, 9, 11].map(|now| by_time.take(now)), [Some(0), None, Some(1), None]);
    }

    #[test]
    fn callers_are_counted_together() {
        let mut all = Tally::default();
        let mut one = Tally { messages: 3, ..Tally::default() };
        one.fail(&SendError::Full);
        all.merge(one);
        all.merge(Tally { messages: 2, ..Tally::default() });
        assert_eq!((all.messages, all.errors, all.last_error), (5, 1, Some(SendError::Full.to_string())));
    }
}

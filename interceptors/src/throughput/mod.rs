//! How much goes through: messages and bytes per second (Tribes: `ThroughputInterceptor`).
//!
//! It counts what passes its place in the stack: bodies as they are *there*, so above a compressing layer it shows the
//! application's bytes and below it those of the wire. Each message costs a few atomic additions and no look at the clock.
//!
//! Differences to Tribes: bytes are those of bodies, without frame and envelope; rates are per second of wall time since
//! the first message, as Tribes' sum of time spent sending could stick and counted overlapping sends wrongly (T49); a
//! message that failed for some of its members counts as one error, with its faults counted beside.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, Cx, Env, Gauge, Inbound, Interest, Link, Outbound, Outcome, SyncInterceptor, Time, Verdict,
};

pub use self::config::{ReportInterval, ThroughputConfig};
use self::core::{Meter, mib, per_second};

const NAME: &str = "throughput";

/// Counts messages and bytes, and reports them through `tracing` at level info. Keep an `Arc` of it to ask for a
/// [`snapshot`](Self::snapshot). One instance serves one channel.
#[derive(Debug, Default)]
pub struct Throughput {
    config: ThroughputConfig,
    meter: Arc<Meter>,
    env: OnceLock<Env>,
}

/// One direction, since its first message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FlowRate {
    /// Messages.
    pub messages: u64,
    /// Bytes of their bodies, each message counted once.
    pub bytes: u64,
    /// Time since the first message.
    pub elapsed: Duration,
    /// Messages per second of it.
    pub messages_per_s: f64,
    /// MiB (2^20 bytes) per second of it.
    pub mib_per_s: f64,
}

impl FlowRate {
    fn new(messages: u64, bytes: u64, elapsed: Duration) -> Self {
        let mib_per_s = mib(1) * per_second(bytes, elapsed);
        Self { messages, bytes, elapsed, messages_per_s: per_second(messages, elapsed), mib_per_s }
    }
}

/// What went through so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ThroughputSnapshot {
    /// What was sent; bytes are the application's, each message counted once.
    pub sent: FlowRate,
    /// Bytes sent, each message counted once for each of its destinations.
    pub sent_total_bytes: u64,
    /// [`sent_total_bytes`](Self::sent_total_bytes) in MiB per second.
    pub sent_total_mib_per_s: f64,
    /// What was received.
    pub received: FlowRate,
    /// Application messages that failed for at least one destination.
    pub failed_messages: u64,
    /// Destinations that failed, over all of them.
    pub faults: u64,
}

impl Throughput {
    /// A layer with these options.
    #[must_use]
    pub fn new(config: ThroughputConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// What went through so far. All zero before the channel has started.
    #[must_use]
    pub fn snapshot(&self) -> ThroughputSnapshot {
        let now = self.env.get().map_or(Time::ZERO, Env::now);
        let figures = self.meter.figures();
        let (sending, receiving) = self.meter.since_first(now);
        ThroughputSnapshot {
            sent: FlowRate::new(figures.sent, figures.sent_bytes, sending),
            sent_total_bytes: figures.sent_total,
            sent_total_mib_per_s: mib(1) * per_second(figures.sent_total, sending),
            received: FlowRate::new(figures.received, figures.received_bytes, receiving),
            failed_messages: figures.failed,
            faults: figures.faults,
        }
    }

    fn report_if_due(&self, number: u64, cx: &Cx<'_>) {
        if let ReportInterval::Messages(every) = self.config.interval
            && number.is_multiple_of(every)
        {
            report(&self.meter, cx.now());
        }
    }
}

impl Configure for Throughput {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "counts messages and bytes per second and reports them";
    type Config = ThroughputConfig;
    fn configure(config: ThroughputConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Throughput);

impl SyncInterceptor for Throughput {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE | Interest::OUTCOME
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let env = self.env.get_or_init(|| link.env().clone()).clone();
        if let ReportInterval::Every(every) = self.config.interval {
            let meter = Arc::clone(&self.meter);
            link.spawn(async move {
                loop {
                    env.sleep(every).await;
                    report(&meter, env.now());
                }
            });
        }
        Ok(())
    }

    fn send(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Verdict<Outbound> {
        // A multicast has no destinations and is sent once.
        let number = self.meter.sent(out.len(), out.to.len().max(1), || cx.now());
        self.report_if_due(number, cx);
        Verdict::Pass
    }

    fn receive(&self, msg: &mut Inbound, cx: &mut Cx<'_>) -> Verdict<Inbound> {
        let number = self.meter.received(msg.message.body.len(), || cx.now());
        self.report_if_due(number, cx);
        Verdict::Pass
    }

    fn outcome(&self, outcome: &Outcome) {
        if !outcome.is_complete() {
            self.meter.failed(outcome.faults.len());
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let figures = self.meter.figures();
        vec![
            Gauge::new("sent_messages", figures.sent),
            Gauge::new("sent_bytes", figures.sent_bytes),
            Gauge::new("sent_total_bytes", figures.sent_total),
            Gauge::new("received_messages", figures.received),
            Gauge::new("received_bytes", figures.received_bytes),
            Gauge::new("failed_messages", figures.failed),
            Gauge::new("faults", figures.faults),
        ]
    }
}

/// Writes what happened since the last report, if anything did.
fn report(meter: &Meter, now: Time) {
    let Some(core::Report { span, interval, total }) = meter.report(now) else { return };
    let rate = |count| format!("{:.1}", per_second(count, span));
    let mib_rate = |bytes| format!("{:.3}", mib(1) * per_second(bytes, span));
    tracing::info!(
        span_s = format!("{:.3}", span.as_secs_f64()),
        sent = total.sent,
        sent_per_s = rate(interval.sent),
        sent_mib_per_s = mib_rate(interval.sent_bytes),
        sent_total_mib_per_s = mib_rate(interval.sent_total),
        sent_mib = format!("{:.3}", mib(total.sent_bytes)),
        sent_total_mib = format!("{:.3}", mib(total.sent_total)),
        received = total.received,
        received_per_s = rate(interval.received),
        received_mib_per_s = mib_rate(interval.received_bytes),
        received_mib = format!("{:.3}", mib(total.received_bytes)),
        failed = total.failed,
        faults = total.faults,
        "throughput"
    );
}

//! The figures of a member, one JSON object.

use serde::Serialize;

use super::args::{Guarantee, LoadArgs, Mode, Role};
use super::clock;
use super::histogram::Histogram;
use super::receiving::Receiving;
use super::sending::Measured;

/// What this program calls itself in comparisons.
const SYSTEM: &str = "tribes-rs";

/// The line that a member prints.
#[derive(Debug, Serialize)]
pub(super) struct ReportLine {
    sys: &'static str,
    role: Role,
    index: u8,
    mode: Mode,
    options: Guarantee,
    payload: usize,
    #[serde(flatten)]
    sent: Option<Sent>,
    #[serde(flatten)]
    received: Option<Received>,
}

/// The figures of a sender.
#[derive(Debug, Serialize)]
struct Sent {
    /// Messages that reached, as far as `options` ask, every member.
    tx_msgs: u64,
    tx_secs: f64,
    tx_msgs_per_s: f64,
    tx_mib_per_s: f64,
    send_p50_us: f64,
    send_p99_us: f64,
    rtt_n: u64,
    rtt_p50_us: f64,
    rtt_p99_us: f64,
    rtt_max_us: f64,
    /// Pairs of a percentage and the round trip below which so many lie.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rtt_percentiles_us: Vec<(f64, f64)>,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Until now, so with what still had to be done after the last send returned.
    tx_cpu_s: f64,
}

/// The figures of a receiver.
#[derive(Debug, Serialize)]
struct Received {
    rx_msgs: u64,
    rx_secs: f64,
    rx_msgs_per_s: f64,
    rx_mib_per_s: f64,
    oneway_p50_us: f64,
    oneway_p99_us: f64,
    lost: i64,
    bad: u64,
    reordered: u64,
    complete: bool,
    rx_cpu_s: f64,
}

impl ReportLine {
    /// The figures as they are now.
    pub(super) fn new(args: &LoadArgs, sent: Option<&Measured>, received: Option<&Receiving>) -> Self {
        Self {
            sys: SYSTEM,
            role: args.role,
            index: args.index,
            mode: args.mode,
            options: args.options,
            payload: args.payload,
            sent: sent.map(|sent| Sent::of(sent, args.payload)),
            received: received.map(|received| Received::of(received, args.payload)),
        }
    }
}

impl Sent {
    fn of(measured: &Measured, payload: usize) -> Self {
        let (tally, seconds) = (&measured.tally, measured.seconds);
        let messages = tally.messages - tally.errors;
        let rate = rate(messages, seconds);
        Self {
            tx_msgs: messages,
            tx_secs: seconds,
            tx_msgs_per_s: rate,
            tx_mib_per_s: mib(rate, payload),
            send_p50_us: tally.send.percentile_us(50),
            send_p99_us: tally.send.percentile_us(99),
            rtt_n: tally.rtt.count(),
            rtt_p50_us: tally.rtt.percentile_us(50),
            rtt_p99_us: tally.rtt.percentile_us(99),
            rtt_max_us: tally.rtt.max_us(),
            rtt_percentiles_us: percentiles(&tally.rtt),
            errors: tally.errors,
            last_error: tally.last_error.clone(),
            tx_cpu_s: clock::cpu_seconds() - measured.cpu_at_start,
        }
    }
}

impl Received {
    fn of(receiving: &Receiving, payload: usize) -> Self {
        let seconds = receiving.seconds();
        // The time begins with the first message, so that one is not in it.
        let rate = rate(receiving.messages.saturating_sub(1), seconds);
        Self {
            rx_msgs: receiving.messages,
            rx_secs: seconds,
            rx_msgs_per_s: rate,
            rx_mib_per_s: mib(rate, payload),
            oneway_p50_us: receiving.oneway.percentile_us(50),
            oneway_p99_us: receiving.oneway.percentile_us(99),
            lost: receiving.lost(),
            bad: receiving.bad,
            reordered: receiving.reordered,
            complete: receiving.is_complete(),
            rx_cpu_s: receiving.cpu_seconds(),
        }
    }
}

/// The distribution of `times`, finer towards its slow end; empty if there are none.
fn percentiles(times: &Histogram) -> Vec<(f64, f64)> {
    const PERMILLE: [u32; 8] = [100, 250, 500, 750, 900, 950, 990, 999];
    let known = PERMILLE.iter().filter(|_| times.count() > 0);
    known.map(|permille| (f64::from(*permille) / 10.0, times.permille_us(u64::from(*permille)))).collect()
}

fn rate(messages: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { messages as f64 / seconds } else { 0.0 }
}

fn mib(rate: f64, payload: usize) -> f64 {
    rate * payload as f64 / f64::from(1 << 20)
}

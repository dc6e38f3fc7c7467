//! One member stops reading, or is slow: the others lose nothing and keep their rate, and the sender its memory.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{Roster, node, node_with, numbered, within};
use tokio::time::Instant;
use tribes_core::{Channel, FaultKind, Member, SendOptions, To};
use tribes_transports::SenderConfig;

const WARM_UP: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(5);
const BODY: usize = 1024;

/// A channel on a runtime of its own, which can be frozen as a stopped process is: its kernel still accepts, and nobody reads.
struct Freezable {
    channel: Channel,
    roster: Roster,
    freeze: mpsc::Sender<mpsc::Receiver<()>>,
}

impl Freezable {
    fn start() -> Self {
        let (started, channel) = mpsc::channel();
        let (freeze, orders) = mpsc::channel::<mpsc::Receiver<()>>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                // No failure detector: this one judges nobody after its sleep.
                started.send(node().await).unwrap();
                loop {
                    match orders.try_recv() {
                        // The only thread of this runtime waits here: everything in it stands still.
                        Ok(thaw) => drop(thaw.recv()),
                        Err(mpsc::TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(1)).await,
                        Err(mpsc::TryRecvError::Disconnected) => return,
                    }
                }
            });
        });
        let (channel, roster) = channel.recv().unwrap();
        Self { channel, roster, freeze }
    }

    /// Frozen until what is returned is dropped.
    fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, frozen) = mpsc::channel();
        self.freeze.send(frozen).unwrap();
        thaw
    }
}

fn count(channel: &Channel) -> Arc<AtomicU64> {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    channel
        .on_message(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        })
        .forever();
    seen
}

/// What a run showed.
struct Run {
    sent: u64,
    /// Received by each healthy member in the window, per second.
    rates: Vec<f64>,
    /// Received by each healthy member in all.
    received: Vec<u64>,
    /// Failures of the troubled member, and of the others.
    troubled: u64,
    healthy_faults: Vec<String>,
    peak: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Frozen,
    Slow,
}

async fn run(trouble: Trouble) -> Run {
    // Without a failure detector the troubled one stays a member for the whole run: the harder case.
    let (sender, roster) = node_with(|builder| builder, SenderConfig::default()).await;
    let (first, _) = node().await;
    let (second, _) = node().await;
    let third = Freezable::start();
    let counters = [count(&first), count(&second)];
    if trouble == Trouble::Slow {
        third
            .channel
            .on_message(|_, _| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(())
            })
            .forever();
    } else {
        count(&third.channel);
    }
    third.roster.add(&sender.local());
    for member in [first.local(), second.local(), third.channel.local()] {
        roster.add(&member);
    }
    within("the group", sender.view_when(|view| view.len() == 3)).await;
    let thaw = (trouble == Trouble::Frozen).then(|| third.freeze());

    let troubled_member: Arc<Member> = third.channel.local();
    let troubled = Arc::new(AtomicU64::new(0));
    let faults = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let flood = tokio::spawn({
        let (sender, stop, troubled, faults) =
            (sender.clone(), Arc::clone(&stop), Arc::clone(&troubled), Arc::clone(&faults));
        let group: Vec<_> = [first.local(), second.local(), third.channel.local()].into();
        async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                // To these three, whether or not a failure detector still counts the third in.
                let pending =
                    sender.send_with(To::from(&group), numbered(sent, BODY), SendOptions::ASYNC).await.unwrap();
                sent += 1;
                let (troubled, faults, member) =
                    (Arc::clone(&troubled), Arc::clone(&faults), Arc::clone(&troubled_member));
                pending.on_complete(move |outcome| {
                    for fault in outcome.faults {
                        if fault.member == member {
                            troubled.fetch_add(1, Ordering::Relaxed);
                        } else {
                            faults.lock().unwrap().push(fault.to_string());
                        }
                    }
                });
            }
            sent
        }
    });
    tokio::time::sleep(WARM_UP).await;
    let (start, before) = (Instant::now(), counters.each_ref().map(|counter| counter.load(Ordering::Relaxed)));
    tokio::time::sleep(WINDOW).await;
    let (elapsed, after) = (start.elapsed(), counters.each_ref().map(|counter| counter.load(Ordering::Relaxed)));
    stop.store(true, Ordering::Relaxed);
    let sent = within("the flood to end", flood).await.unwrap();
    within("the healthy ones to get everything", async {
        while counters.iter().any(|counter| counter.load(Ordering::Relaxed) < sent) && faults.lock().unwrap().is_empty()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let peak = sender.stats().budget_peak;
    drop(thaw);
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rates =
        after.iter().zip(before).map(|(after, before)| (after - before) as f64 / elapsed.as_secs_f64()).collect();
    Run {
        sent,
        rates,
        received: counters.iter().map(|counter| counter.load(Ordering::Relaxed)).collect(),
        troubled: troubled.load(Ordering::Relaxed),
        healthy_faults: faults.lock().unwrap().clone(),
        peak,
    }
}

/// Pairs of runs: a machine that is shared may be slow in either, so one pair of three that holds is enough for the rate.
/// All else must hold in each.
const PAIRS: usize = 3;

async fn healthy_keep_their_rate(trouble: Trouble) {
    let mut shortfalls = Vec::new();
    for _ in 0..PAIRS {
        match pair(trouble).await {
            Ok(()) => return,
            Err(shortfall) => shortfalls.push(shortfall),
        }
    }
    panic!("{shortfalls:?}");
}

async fn pair(trouble: Trouble) -> Result<(), String> {
    let calm = run(Trouble::None).await;
    let troubled = run(trouble).await;
    println!(
        "calm {:.0?} msg/s, troubled {:.0?} msg/s of {BODY} bytes; sent {}, the troubled one failed {}, budget peak {} KiB",
        calm.rates,
        troubled.rates,
        troubled.sent,
        troubled.troubled,
        troubled.peak >> 10
    );
    assert_eq!(troubled.healthy_faults, Vec::<String>::new());
    assert!(troubled.received.iter().all(|received| *received == troubled.sent), "{:?}", troubled.received);
    assert!(troubled.troubled > 0, "what could not be delivered is reported");
    assert!(troubled.peak <= 32 << 20, "{}", troubled.peak);
    for (calm, troubled) in calm.rates.iter().zip(&troubled.rates) {
        if troubled / calm < 0.8 {
            return Err(format!("{troubled:.0} msg/s is less than 80 % of {calm:.0} msg/s"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stops_reading_costs_the_others_nothing() {
    healthy_keep_their_rate(Trouble::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listener_costs_the_others_nothing() {
    healthy_keep_their_rate(Trouble::Slow).await;
}

/// A queue that is full fails at once after the first wait, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_member_is_waited_for_once() {
    let (sender, roster) = node().await;
    let third = Freezable::start();
    roster.add(&third.channel.local());
    within("the member", sender.view_when(|view| view.len() == 1)).await;
    let _thaw = third.freeze();
    let member = third.channel.local();
    let mut waited = Vec::new();
    let mut full = 0;
    while full < 10 {
        let start = Instant::now();
        let pending = sender.send_with(&member, vec![0; 256 << 10], SendOptions::ASYNC).await.unwrap();
        waited.push(start.elapsed());
        let mut pending = std::pin::pin!(pending);
        if let Ok(outcome) = tokio::time::timeout(Duration::ZERO, &mut pending).await {
            // The first ones went into the buffers of the system.
            let Some(fault) = outcome.faults.first() else { continue };
            assert!(matches!(fault.kind, FaultKind::QueueFull | FaultKind::Left), "{fault}");
            full += 1;
        }
    }
    let long = waited.iter().filter(|waited| **waited > Duration::from_millis(150)).count();
    assert!(long <= 1, "waited {long} times: {waited:?}");
}

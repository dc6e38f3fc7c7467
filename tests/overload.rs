//! One member stops reading, or is slow: the others lose nothing and keep their rate, and the sender its memory.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{node, node_with, numbered, within};
use tokio::time::Instant;
use tribes_core::{Channel, FaultKind, Member, MemberId, SendOptions, To};
use tribes_transports::SenderConfig;

const WARM_UP: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(5);
const BODY: usize = 1024;
/// What a channel may hold by default.
const BUDGET: usize = 32 << 20;
/// What the process needs besides: its program, stacks of threads, what the allocator keeps.
const OVERHEAD: usize = 24 << 20;

/// Set in the environment of a process of this program that is to be a receiver; its value is the listener's delay in milliseconds.
const RECEIVER: &str = "TRIBES_TEST_RECEIVER_DELAY_MS";

/// The other side of [`Receiver`]: a member that tells its id and address, and how much it got each time it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiving_process() {
    let Ok(delay) = std::env::var(RECEIVER) else { return };
    let delay = Duration::from_millis(delay.parse().unwrap());
    let (channel, _) = node().await;
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    channel
        .on_message(move |_, _| {
            let counter = Arc::clone(&counter);
            async move {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                counter.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        })
        .forever();
    let local = channel.local();
    let id: String = local.id().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("\nMEMBER {id} {}", local.addr().unwrap());
    // Asked through a pipe: what waits for it must not be a thread of the runtime.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            println!("COUNT {}", seen.load(Ordering::Relaxed));
        }
        std::process::exit(0);
    });
    std::future::pending::<()>().await;
}

/// A member in a process of its own, which ends with it.
struct Receiver {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
    member: Arc<Member>,
}

impl Receiver {
    fn start(delay: Duration) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_receiving_process", "--nocapture"])
            .env(RECEIVER, delay.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let line = answer(&mut answers, "MEMBER ");
        let (id, addr) = line.split_once(' ').unwrap();
        let id: Vec<u8> = (0..32).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect();
        let id = MemberId::from_bytes(id.try_into().unwrap());
        let member = Arc::new(Member::new(id, addr.parse::<std::net::SocketAddr>().unwrap()));
        Self { process, answers, member }
    }

    /// How many messages its listener has handled.
    fn count(&mut self) -> u64 {
        self.process.stdin.as_mut().unwrap().write_all(b"count\n").unwrap();
        answer(&mut self.answers, "COUNT ").parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rest of the next line that has `mark`; the test harness writes on the same output.
fn answer(answers: &mut impl BufRead, mark: &str) -> String {
    let mut line = String::new();
    while answers.read_line(&mut line).unwrap() > 0 {
        if let Some(at) = line.find(mark) {
            return line[at + mark.len()..].trim().to_owned();
        }
        line.clear();
    }
    panic!("the receiver ended before it said {mark}");
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
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
    /// Most that the sender's budget held.
    peak: usize,
    /// Most that the sender's process held.
    resident: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Frozen,
    Slow,
}

async fn run(trouble: Trouble) -> Run {
    // The failure detector is told nothing of a membership: the troubled one stays a member for the whole run, the harder case.
    let (sender, roster) = node_with(|builder| builder, SenderConfig::default()).await;
    let mut healthy = [Receiver::start(Duration::ZERO), Receiver::start(Duration::ZERO)];
    let third = Receiver::start(if trouble == Trouble::Slow { Duration::from_millis(50) } else { Duration::ZERO });
    let group = [&healthy[0].member, &healthy[1].member, &third.member].map(Arc::clone);
    for member in &group {
        roster.add(member);
    }
    within("the group", sender.view_when(|view| view.len() == 3)).await;
    if trouble == Trouble::Frozen {
        third.signal("-STOP");
    }

    let troubled = Arc::new(AtomicU64::new(0));
    let faults = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let flood = tokio::spawn({
        let (sender, stop, troubled, faults) =
            (sender.clone(), Arc::clone(&stop), Arc::clone(&troubled), Arc::clone(&faults));
        let troubled_member = Arc::clone(&third.member);
        async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                // To these three, whether or not a failure detector still counts the third in.
                let pending =
                    sender.send_with(To::from(&group[..]), numbered(sent, BODY), SendOptions::ASYNC).await.unwrap();
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
    let start = Instant::now();
    let first = healthy.each_mut().map(Receiver::count);
    let mut resident_peak = 0;
    while start.elapsed() < WINDOW {
        tokio::time::sleep(Duration::from_millis(50)).await;
        resident_peak = resident_peak.max(resident());
    }
    let (elapsed, last) = (start.elapsed(), healthy.each_mut().map(Receiver::count));
    stop.store(true, Ordering::Relaxed);
    let sent = within("the flood to end", flood).await.unwrap();
    within("the healthy ones to get everything", async {
        while healthy.iter_mut().any(|receiver| receiver.count() < sent) && faults.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rates = last.iter().zip(first).map(|(last, first)| (last - first) as f64 / elapsed.as_secs_f64()).collect();
    Run {
        sent,
        rates,
        received: healthy.iter_mut().map(Receiver::count).collect(),
        troubled: troubled.load(Ordering::Relaxed),
        healthy_faults: faults.lock().unwrap().clone(),
        peak: sender.stats().budget_peak,
        resident: resident_peak,
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
        "calm {:.0?} msg/s, troubled {:.0?} msg/s of {BODY} bytes; sent {}, the troubled one failed {}, budget peak {} KiB, process {} KiB resident",
        calm.rates,
        troubled.rates,
        troubled.sent,
        troubled.troubled,
        troubled.peak >> 10,
        troubled.resident >> 10
    );
    assert_eq!(troubled.healthy_faults, Vec::<String>::new());
    assert!(troubled.received.iter().all(|received| *received == troubled.sent), "{:?}", troubled.received);
    assert!(troubled.troubled > 0, "what could not be delivered is reported");
    assert!(troubled.peak <= BUDGET, "{}", troubled.peak);
    assert!(troubled.resident <= BUDGET + OVERHEAD, "{}", troubled.resident);
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

/// A channel on a runtime of its own, which can be frozen as a stopped process is: its kernel still accepts, and nobody reads.
struct Freezable {
    channel: Channel,
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
                started.send(node().await.0).unwrap();
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
        Self { channel: channel.recv().unwrap(), freeze }
    }

    /// Frozen until what is returned is dropped.
    fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, frozen) = mpsc::channel();
        self.freeze.send(frozen).unwrap();
        thaw
    }
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
    // One is; a busy machine may take as long for a few others. If each waited, it would be all of the ten that were refused.
    let long = waited.iter().filter(|waited| **waited > Duration::from_millis(150)).count();
    assert!(long <= full / 2, "waited {long} times: {waited:?}");
}

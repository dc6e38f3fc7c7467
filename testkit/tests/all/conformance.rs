//! What is right passes the suites, in either form.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use tribes_core::{
    BoxError, ChannelInterceptor, Cx, Inbound, Interest, Link, Next, Outbound, ReceiveError, SendError, SendOptions,
    SyncInterceptor, Time, Verdict,
};
use tribes_testkit::conformance;
use tribes_testkit::suite::{InterceptorSuite, Profile, Seeds, interceptor_suite};

/// Passes everything on, by the defaults of the synchronous form.
#[derive(Debug)]
struct SyncPass;

impl SyncInterceptor for SyncPass {
    fn name(&self) -> &'static str {
        "sync-pass"
    }
}

/// Passes everything on, by the defaults of the asynchronous form.
#[derive(Debug)]
struct AsyncPass;

#[async_trait]
impl ChannelInterceptor for AsyncPass {
    fn name(&self) -> &'static str {
        "async-pass"
    }
}

/// Changes bodies on the way down and changes them back on the way up; acts on messages with its bit.
#[derive(Debug)]
struct Trailer;

impl SyncInterceptor for Trailer {
    fn name(&self) -> &'static str {
        "trailer"
    }
    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE
    }
    fn trigger(&self) -> SendOptions {
        SendOptions::from_bits_retain(0x200)
    }
    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        out.message.body.push_trailer("end");
        Verdict::Pass
    }
    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        match msg.message.body.split_trailer(3) {
            Some(end) if end == "end" => Verdict::Pass,
            _ => Verdict::Refuse("no trailer".into()),
        }
    }
}

impl Trailer {
    fn factory() -> impl Fn() -> Self + Send + Sync + 'static {
        || Self
    }
}

/// Hands messages to a task of its own, in both directions, which keeps their order. What waits for the task is bounded by
/// the budget, as everything below is.
#[derive(Debug, Default)]
struct Queued(Mutex<Option<Queues>>);

type Queues = (tokio::sync::mpsc::Sender<Outbound>, tokio::sync::mpsc::Sender<Inbound>);

/// How many messages wait at most.
const QUEUE: usize = 1;

#[async_trait]
impl ChannelInterceptor for Queued {
    fn name(&self) -> &'static str {
        "queued"
    }
    async fn start(&self, link: Link) -> Result<(), BoxError> {
        let (down, mut downward) = tokio::sync::mpsc::channel(QUEUE);
        let (up, mut upward) = tokio::sync::mpsc::channel(QUEUE);
        let (sending, receiving) = (link.clone(), link.clone());
        link.spawn(async move {
            while let Some(out) = downward.recv().await {
                let _ = sending.send(out).await;
            }
        });
        link.spawn(async move {
            while let Some(msg) = upward.recv().await {
                let _ = receiving.receive(msg).await;
            }
        });
        *self.0.lock().unwrap() = Some((down, up));
        Ok(())
    }
    async fn stop(&self, _: Time) {
        *self.0.lock().unwrap() = None;
    }
    async fn send(&self, out: Outbound, _: Next<'_>) -> Result<(), SendError> {
        let down = self.0.lock().unwrap().as_ref().map(|(down, _)| down.clone());
        down.ok_or(SendError::Stopped)?.send(out).await.map_err(|_gone| SendError::Stopped)
    }
    async fn receive(&self, msg: Inbound, _: Next<'_>) -> Result<(), ReceiveError> {
        let up = self.0.lock().unwrap().as_ref().map(|(_, up)| up.clone());
        up.ok_or(ReceiveError::Stopped)?.send(msg).await.map_err(|_gone| ReceiveError::Stopped)
    }
}

fn neighbours() -> Profile {
    Profile::default().between("trailer", Trailer::factory()).between("queued", Queued::default)
}

conformance!(|| SyncPass, neighbours());
conformance!(async_pass, || AsyncPass, neighbours());
conformance!(trailer, Trailer::factory(), neighbours());
conformance!(queued, Queued::default, neighbours());

/// Ends every third message at its receiver, one way or the other.
#[derive(Debug)]
struct Picky(AtomicU64, fn() -> Verdict<Inbound>);

impl SyncInterceptor for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }
    fn interest(&self) -> Interest {
        Interest::RECEIVE
    }
    fn receive(&self, _: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        if self.0.fetch_add(1, Relaxed) % 3 == 2 { (self.1)() } else { Verdict::Pass }
    }
}

impl Picky {
    fn drops() -> Self {
        Self(AtomicU64::new(0), || Verdict::Drop("every third"))
    }
    fn refuses() -> Self {
        Self(AtomicU64::new(0), || Verdict::Refuse("every third".into()))
    }
}

conformance!(drops_received, Picky::drops, Profile::default().drops_received());
conformance!(refuses_received, Picky::refuses, Profile::default().drops_received());

#[test]
fn what_drops_at_the_receiver_is_told_what_to_declare() {
    let report = |profile| InterceptorSuite::new(Picky::drops, profile).seeds(Seeds::only(1)).run_case("content");
    let error = report(Profile::default().drops()).to_string();
    assert!(error.contains("declares `drops_received`"), "{error}");
    assert!(report(Profile::default().drops_received()).passed());
}

#[tokio::test]
async fn it_works_inside_a_runtime_too() {
    let report = interceptor_suite(|| SyncPass, Profile::default());
    report.assert_passed();
    assert_eq!(report.cases.len(), InterceptorSuite::cases().len());
}

#[test]
fn one_case_under_one_seed() {
    let report =
        InterceptorSuite::new(|| SyncPass, Profile::default().drops()).seeds(Seeds::only(7)).run_case("content");
    assert_eq!((report.cases.len(), report.seeds.count(), report.passed()), (1, 1, true));
    assert!(
        report.to_string().starts_with("interceptor sync-pass: 1 of 1 cases passed (seed 7; declared: drops)"),
        "{report}"
    );
}

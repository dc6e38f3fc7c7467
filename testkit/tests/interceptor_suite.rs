//! The interceptor suite passes what is right in either form, and finds each kind of fault.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tribes_core::{
    BoxError, ChannelInterceptor, Cx, EventVerdict, Inbound, Interest, IntoLayer, Layer, Link, MemberEvent, Next,
    Outbound, ReceiveError, SendError, SendOptions, SyncInterceptor, Time, Verdict,
};
use tribes_testkit::suite::{InterceptorSuite, interceptor_suite};

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

const BIT: SendOptions = SendOptions::from_bits_retain(0x200);

impl SyncInterceptor for Trailer {
    fn name(&self) -> &'static str {
        "trailer"
    }
    fn trigger(&self) -> SendOptions {
        BIT
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

/// Hands messages to a task of its own, in both directions, which keeps their order.
#[derive(Debug, Default)]
struct Queued(Mutex<Option<Queues>>);

type Queues = (tokio::sync::mpsc::UnboundedSender<Outbound>, tokio::sync::mpsc::UnboundedSender<Inbound>);

#[async_trait]
impl ChannelInterceptor for Queued {
    fn name(&self) -> &'static str {
        "queued"
    }
    async fn start(&self, link: Link) -> Result<(), BoxError> {
        let (down, mut downward) = tokio::sync::mpsc::unbounded_channel();
        let (up, mut upward) = tokio::sync::mpsc::unbounded_channel();
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
        let queues = self.0.lock().unwrap();
        let (down, _) = queues.as_ref().ok_or(SendError::Stopped)?;
        down.send(out).map_err(|_gone| SendError::Stopped)
    }
    async fn receive(&self, msg: Inbound, _: Next<'_>) -> Result<(), ReceiveError> {
        let queues = self.0.lock().unwrap();
        let (_, up) = queues.as_ref().ok_or(ReceiveError::Stopped)?;
        up.send(msg).map_err(|_gone| ReceiveError::Stopped)
    }
}

#[test]
fn what_is_right_passes() {
    interceptor_suite(|| SyncPass.into_layer()).assert_passed();
    interceptor_suite(|| AsyncPass.into_layer()).assert_passed();
    interceptor_suite(|| Trailer.into_layer()).assert_passed();
    interceptor_suite(|| Queued::default().into_layer()).assert_passed();
}

#[tokio::test]
async fn it_works_inside_a_runtime_too() {
    interceptor_suite(|| SyncPass.into_layer()).assert_passed();
}

/// What a layer can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LosesMessages,
    LeaksCompletions,
    LeaksReceipts,
    DropsReceived,
    ChangesBodies,
    LeavesBits,
    PanicsOnEmpty,
    PanicsOnGarbage,
    SwallowsRemovals,
    ReordersEvents,
    Duplicates,
    Reorders,
    ClaimsSuccess,
    DiesOnStop,
    BlamesEverybody,
    HidesRefusals,
    Shouts,
    WearsOut,
}

#[derive(Debug)]
struct Broken {
    fault: Fault,
    count: AtomicU64,
    kept: Mutex<Vec<MemberEvent>>,
    swapped: Mutex<Option<Inbound>>,
    stopped: Mutex<bool>,
}

impl Broken {
    fn layer(fault: Fault) -> Layer {
        let layer = Self {
            fault,
            count: AtomicU64::new(0),
            kept: Mutex::default(),
            swapped: Mutex::default(),
            stopped: Mutex::default(),
        };
        Layer::Sync(Arc::new(layer))
    }

    fn every(&self, number: u64) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) % number == number - 1
    }
}

impl SyncInterceptor for Broken {
    fn name(&self) -> &'static str {
        if self.fault == Fault::Shouts { "Broken" } else { "broken" }
    }

    fn interest(&self) -> Interest {
        Interest::all_hooks()
    }

    fn stop(&self) {
        *self.stopped.lock().unwrap() = true;
    }

    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        match self.fault {
            Fault::LosesMessages if self.every(3) => return Verdict::Drop("lost"),
            Fault::LeaksCompletions if self.every(3) => {
                std::mem::forget(std::mem::take(&mut out.to));
                return Verdict::Drop("leaked");
            }
            Fault::ChangesBodies if out.len() == 1000 => out.message.body.push_trailer("?"),
            Fault::LeavesBits => out.message.options |= BIT,
            Fault::PanicsOnEmpty => assert!(!out.is_empty(), "empty"),
            Fault::ClaimsSuccess => {
                for destination in std::mem::take(&mut out.to) {
                    destination.completion.deliver(tribes_core::Delivery::Handled);
                }
            }
            Fault::DiesOnStop if *self.stopped.lock().unwrap() => return Verdict::Refuse("was stopped once".into()),
            Fault::BlamesEverybody => {
                let parts = std::mem::take(&mut out.to);
                for destination in parts {
                    destination.completion.fail(tribes_core::error::FaultKind::QueueFull);
                }
            }
            _ => {}
        }
        Verdict::Pass
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        match self.fault {
            Fault::LeaksReceipts if self.every(5) => {
                std::mem::forget(std::mem::take(&mut msg.receipt));
                Verdict::Drop("leaked")
            }
            Fault::DropsReceived if self.every(5) => Verdict::Drop("dropped"),
            Fault::PanicsOnGarbage => {
                let first = msg.message.body.to_bytes().first().copied().unwrap_or_default();
                assert!(first != 0xF0, "a length cannot be that large");
                Verdict::Pass
            }
            Fault::Duplicates if self.every(7) => {
                let copy = msg.message.clone();
                let receipt = std::mem::take(&mut msg.receipt);
                let (lease, route) = (std::mem::take(&mut msg.lease), msg.route);
                let twin = Inbound::new(copy.clone(), tribes_core::Receipt::none(), tribes_core::Lease::none(), route);
                Verdict::Many(vec![Inbound::new(copy, receipt, lease, route), twin])
            }
            Fault::Reorders => {
                // Holds one message back until the next one has passed.
                msg.receipt.park();
                let (lease, route) = (std::mem::take(&mut msg.lease), msg.route);
                let this = Inbound::new(msg.message.clone(), tribes_core::Receipt::none(), lease, route);
                let mut swapped = self.swapped.lock().unwrap();
                if let Some(earlier) = swapped.take() {
                    Verdict::Many(vec![this, earlier])
                } else {
                    *swapped = Some(this);
                    Verdict::Drop("held back")
                }
            }
            Fault::HidesRefusals => {
                msg.receipt.park();
                Verdict::Pass
            }
            _ => Verdict::Pass,
        }
    }

    fn member_event(&self, event: &MemberEvent, cx: &mut Cx<'_>) -> EventVerdict {
        match (self.fault, event) {
            (Fault::SwallowsRemovals, MemberEvent::Removed(..)) => EventVerdict::Swallow,
            (Fault::ReordersEvents, _) => {
                let mut kept = self.kept.lock().unwrap();
                kept.push(event.clone());
                if kept.len() == 2 {
                    for event in kept.drain(..).rev() {
                        cx.link().member_event(event);
                    }
                }
                EventVerdict::Swallow
            }
            _ => EventVerdict::Pass,
        }
    }

    fn heartbeat(&self, _: Time) {
        assert!(self.fault != Fault::WearsOut || !self.every(100), "worn out");
    }
}

#[test]
fn each_fault_is_found_by_the_case_for_it() {
    for (fault, case) in [
        (Fault::LosesMessages, "content"),
        (Fault::LeaksCompletions, "outcomes"),
        (Fault::LeaksReceipts, "content"),
        (Fault::DropsReceived, "content"),
        (Fault::ChangesBodies, "content"),
        (Fault::LeavesBits, "content"),
        (Fault::PanicsOnEmpty, "empty-body"),
        (Fault::PanicsOnGarbage, "garbage"),
        (Fault::SwallowsRemovals, "member-events"),
        (Fault::ReordersEvents, "member-events"),
        (Fault::Duplicates, "content"),
        (Fault::Reorders, "concurrency"),
        (Fault::ClaimsSuccess, "content"),
        (Fault::DiesOnStop, "stop-start"),
        (Fault::BlamesEverybody, "outcomes"),
        (Fault::HidesRefusals, "receipts"),
        (Fault::Shouts, "declaration"),
        (Fault::WearsOut, "heartbeat"),
    ] {
        let report = interceptor_suite(|| Broken::layer(fault));
        assert!(report.failed().contains(&case), "{fault:?} is not found by {case}: {report}");
    }
}

#[test]
fn a_case_can_be_left_out() {
    let suite = InterceptorSuite::new().skip("declaration");
    let report = suite.run(|| Broken::layer(Fault::Shouts));
    assert!(report.passed() && report.to_string().contains("left out declaration"), "{report}");
}

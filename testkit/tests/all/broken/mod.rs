//! A layer that does one thing wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tribes_core::error::FaultKind;
use tribes_core::{
    BoxError, ChannelInterceptor, ChannelMessage, Delivery, Inbound, Interest, IntoLayer as _, Layer, Lease, Link,
    MemberEvent, MessageId, Next, Outbound, Receipt, ReceiveError, SendError, SendOptions, Time,
};
use tribes_testkit::suite::Profile;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Shouts,
    DeadlocksOnStop,
    DiesOnStop,
    KeepsWhatComesLate,
    ActsOnAnyFlag,
    ClearsBits,
    LeavesBits,
    Dawdles,
    Renames,
    ChangesBodies,
    PanicsOnEmpty,
    Duplicates,
    LosesOneInAThousand,
    Reorders,
    MixesTasksUp,
    Hoards,
    DropsLeases,
    BlamesEverybody,
    LeaksCompletions,
    ClaimsSuccess,
    BlamesAnother,
    HidesRefusals,
    LeaksReceipts,
    SwallowsRemovals,
    ReordersEvents,
    HidesAdditions,
    WearsOut,
    PanicsOnGarbage,
    BelievesLengths,
    StaysBusy,
    StuckAfterPanic,
    ThrowsDice,
    Leaks,
    RemembersMembers,
}

/// What such a layer may declare and still be caught: all that does not make its fault legal.
pub(crate) fn profile(fault: Fault) -> Profile {
    let none = Profile::default();
    match fault {
        Fault::LosesOneInAThousand => none.duplicates().reorders().delays().changes_options(SendOptions::all()),
        Fault::Reorders | Fault::MixesTasksUp => none.drops().duplicates().delays(),
        Fault::Duplicates => none.drops().reorders().delays(),
        Fault::Dawdles => none.reorders().duplicates(),
        Fault::LeavesBits | Fault::ClearsBits => none.drops().duplicates().reorders().delays(),
        Fault::HidesAdditions => none.swallows_members(),
        Fault::ClaimsSuccess => none.duplicates().reorders(),
        Fault::Leaks => none.duplicates().reorders().changes_options(SendOptions::all()),
        _ => none,
    }
}

/// The bit that switches the layer on.
const BIT: SendOptions = SendOptions::from_bits_retain(0x200);

#[derive(Debug)]
pub(crate) struct Broken {
    fault: Fault,
    count: AtomicU64,
    events: Mutex<Vec<MemberEvent>>,
    swapped: Mutex<Option<Inbound>>,
    late: Mutex<Vec<Inbound>>,
    kept: Mutex<Vec<ChannelMessage>>,
    hoard: Mutex<Option<tokio::sync::mpsc::UnboundedSender<Outbound>>>,
    stopped: AtomicBool,
    busy: AtomicBool,
    link: Mutex<Option<Link>>,
}

impl Broken {
    pub(crate) fn layer(fault: Fault) -> Layer {
        let layer = Self {
            fault,
            count: AtomicU64::new(0),
            events: Mutex::default(),
            swapped: Mutex::default(),
            late: Mutex::default(),
            kept: Mutex::default(),
            hoard: Mutex::default(),
            stopped: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            link: Mutex::default(),
        };
        layer.into_layer()
    }

    fn every(&self, number: u64) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) % number == number - 1
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn link(&self) -> Link {
        self.link.lock().unwrap().clone().unwrap()
    }

    fn env(&self) -> tribes_core::Env {
        self.link().env().clone()
    }
}

#[async_trait]
impl ChannelInterceptor for Broken {
    fn name(&self) -> &'static str {
        if self.is(Fault::Shouts) { "Broken" } else { "broken" }
    }

    fn interest(&self) -> Interest {
        Interest::all_hooks() | Interest::SEES_ALL
    }

    fn trigger(&self) -> SendOptions {
        BIT
    }

    async fn start(&self, link: Link) -> Result<(), BoxError> {
        if self.is(Fault::DiesOnStop) && self.stopped.load(Ordering::Relaxed) {
            return Err("it was stopped once".into());
        }
        self.stopped.store(false, Ordering::Relaxed);
        if self.is(Fault::Hoards) {
            let (queue, mut queued) = tokio::sync::mpsc::unbounded_channel();
            let below = link.clone();
            link.spawn(async move {
                while let Some(out) = queued.recv().await {
                    let _ = below.send(out).await;
                }
            });
            *self.hoard.lock().unwrap() = Some(queue);
        }
        *self.link.lock().unwrap() = Some(link);
        Ok(())
    }

    async fn stop(&self, _: Time) {
        self.stopped.store(true, Ordering::Relaxed);
        if self.is(Fault::DeadlocksOnStop) {
            std::future::pending::<()>().await;
        }
        *self.hoard.lock().unwrap() = None;
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        match self.fault {
            Fault::LosesOneInAThousand if self.every(1000) => {
                for destination in out.to {
                    destination.completion.deliver(Delivery::Acknowledged);
                }
                return Ok(());
            }
            Fault::LeaksCompletions if self.every(3) => {
                std::mem::forget(out);
                return Ok(());
            }
            Fault::ActsOnAnyFlag => out.message.body.push_trailer("!"),
            Fault::ChangesBodies if out.len() > 1000 => out.message.body.push_trailer("?"),
            Fault::LeavesBits => out.message.options |= SendOptions::from_bits_retain(0x2000_0000),
            Fault::ClearsBits => out.message.options -= SendOptions::from_bits_retain(0x8000),
            Fault::Dawdles => self.env().sleep(Duration::from_millis(1)).await,
            Fault::Renames if self.every(4) => out.message.id = MessageId::from_array([7; 16]),
            Fault::PanicsOnEmpty => assert!(!out.is_empty(), "empty"),
            Fault::ClaimsSuccess => {
                let copies =
                    Outbound::new(out.message, &out.to.iter().map(|to| to.member().clone()).collect::<Vec<_>>());
                for destination in out.to {
                    destination.completion.deliver(Delivery::Handled);
                }
                return next.send(copies.0).await;
            }
            Fault::BlamesEverybody => {
                let all: Vec<_> = out.to.iter().map(|to| to.member().clone()).collect();
                let (copy, pending) = Outbound::new(out.message.clone(), &all);
                next.send(copy).await?;
                self.link().spawn(async move {
                    let failed = !pending.await.faults.is_empty();
                    for destination in out.to {
                        let kind = FaultKind::AckTimeout(Duration::from_secs(1));
                        destination.completion.resolve(if failed { Err(kind) } else { Ok(Delivery::Handled) });
                    }
                });
                return Ok(());
            }
            Fault::BlamesAnother => {
                let all: Vec<_> = out.to.iter().map(|to| to.member().clone()).collect();
                let (copy, pending) = Outbound::new(out.message.clone(), &all);
                next.send(copy).await?;
                self.link().spawn(async move {
                    let faults = pending.await.faults;
                    let mut blamed: Vec<_> = faults.into_iter().map(|fault| Some(fault.kind)).collect();
                    blamed.resize(out.to.len(), None);
                    for (destination, fault) in out.to.into_iter().zip(blamed) {
                        destination.completion.resolve(fault.map_or(Ok(Delivery::Handled), Err));
                    }
                });
                return Ok(());
            }
            Fault::Hoards => {
                let hoard = self.hoard.lock().unwrap().clone();
                return hoard.ok_or(SendError::Stopped)?.send(out).map_err(|_gone| SendError::Stopped);
            }
            Fault::StaysBusy => {
                // Let go of only where nobody drops the call.
                let busy = self.busy.swap(true, Ordering::AcqRel);
                let result = if busy { Err(SendError::Full) } else { next.send(out).await };
                if !busy {
                    self.busy.store(false, Ordering::Release);
                }
                return result;
            }
            Fault::ThrowsDice => {
                let dice = RandomState::new().hash_one(0) % 5;
                self.env().sleep(Duration::from_millis(dice)).await;
            }
            Fault::Leaks => self.kept.lock().unwrap().push(out.message.clone()),
            _ => {}
        }
        next.send(out).await
    }

    async fn receive(&self, mut msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        match self.fault {
            Fault::LeaksReceipts if self.every(3) => {
                std::mem::forget(std::mem::take(&mut msg.receipt));
                return Ok(());
            }
            Fault::KeepsWhatComesLate if self.stopped.load(Ordering::Relaxed) => {
                self.late.lock().unwrap().push(msg);
                return Ok(());
            }
            Fault::ActsOnAnyFlag => drop(msg.message.body.split_trailer(1)),
            Fault::PanicsOnGarbage => {
                let first = msg.message.body.to_bytes().first().copied().unwrap_or_default();
                assert!(first != 0xF0, "a length cannot be that large");
            }
            Fault::BelievesLengths => {
                let end = msg
                    .message
                    .body
                    .tail(4)
                    .map_or(0, |end| end.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)));
                let memory: Vec<u8> = Vec::with_capacity(end);
                assert!(memory.is_empty());
            }
            Fault::Duplicates if self.every(7) => {
                let twin = Inbound::new(msg.message.clone(), Receipt::none(), Lease::none(), msg.route);
                next.receive(msg).await?;
                return next.receive(twin).await;
            }
            Fault::Reorders | Fault::MixesTasksUp => {
                // Holds one message back until the next one has passed.
                if self.is(Fault::MixesTasksUp) && !msg.message.body.to_bytes().contains(&b'.') {
                    return next.receive(msg).await;
                }
                msg.receipt.park();
                let earlier = self.swapped.lock().unwrap().take();
                let Some(earlier) = earlier else {
                    *self.swapped.lock().unwrap() = Some(msg);
                    return Ok(());
                };
                next.receive(msg).await?;
                return next.receive(earlier).await;
            }
            Fault::DropsLeases => drop(std::mem::take(&mut msg.lease)),
            Fault::HidesRefusals => msg.receipt.park(),
            Fault::StuckAfterPanic => {
                if self.busy.swap(true, Ordering::AcqRel) {
                    return Err(ReceiveError::Stopped);
                }
                let result = next.receive(msg).await;
                self.busy.store(matches!(result, Err(ReceiveError::Panicked { .. })), Ordering::Release);
                return result;
            }
            Fault::Leaks => self.kept.lock().unwrap().push(msg.message.clone()),
            _ => {}
        }
        next.receive(msg).await
    }

    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        match (self.fault, &event) {
            (Fault::SwallowsRemovals, MemberEvent::Removed(..)) => return,
            (Fault::HidesAdditions, MemberEvent::Added(..)) if self.every(2) => return,
            (Fault::ReordersEvents, _) => {
                let mut kept = std::mem::take(&mut *self.events.lock().unwrap());
                kept.push(event);
                if kept.len() < 2 {
                    *self.events.lock().unwrap() = kept;
                    return;
                }
                for event in kept.into_iter().rev() {
                    next.member_event(event).await;
                }
                return;
            }
            (Fault::RemembersMembers, _) => self.events.lock().unwrap().push(event.clone()),
            _ => {}
        }
        next.member_event(event).await;
    }

    async fn heartbeat(&self, _: Time, _: Next<'_>) {
        assert!(!self.is(Fault::WearsOut) || !self.every(100), "worn out");
    }
}

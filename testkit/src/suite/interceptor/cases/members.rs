//! Membership events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tribes_core::member::{Departure, Suspicion};
use tribes_core::{
    Cx, EventVerdict, Interest, IntoLayer as _, Member, MemberEvent, MemberId, ProbeResult, SyncInterceptor,
};

use super::super::bench::Bench;
use super::super::pair::End;
use super::super::{Deliberate, Subject};
use super::{Verdict, simulate};
use crate::member;

pub(super) fn member_events(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let watcher = Watcher::default();
        let end = End::start(bench, 4000, vec![watcher.clone().into_layer(), bench.layer()]).await?;
        let raised = raise(bench, &end).await;
        let seen = || watcher.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !bench.is(Deliberate::SWALLOWS_MEMBERS) {
            let same = || seen().iter().map(kind).eq(raised.iter().map(kind));
            let otherwise = || {
                let (raised, seen) = (short(&raised), short(&seen()));
                format!("raised below: {raised}; seen above: {seen}")
            };
            bench.until(same, otherwise).await?;
        }
        // Nothing comes of itself later.
        bench.world.sleep(Duration::from_secs(60)).await;
        match population(&seen()) {
            Ok(0) => Ok(()),
            Ok(left) => Err(format!("{left} members were removed below, but are still there above")),
            Err(error) => Err(format!("{error}; seen above: {}", short(&seen()))),
        }
    })
}

/// Stands above and sees what comes: the channel itself evens out what makes no sense.
#[derive(Clone, Debug, Default)]
struct Watcher(Arc<Mutex<Vec<MemberEvent>>>);

impl SyncInterceptor for Watcher {
    fn name(&self) -> &'static str {
        "conformance.watcher"
    }
    fn interest(&self) -> Interest {
        Interest::MEMBERS
    }
    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        EventVerdict::Pass
    }
}

/// Members come, change, are suspected and go, as the seed says; in the end all are gone.
async fn raise(bench: &Bench, end: &End) -> Vec<MemberEvent> {
    let mut there: BTreeMap<u16, Arc<Member>> = BTreeMap::new();
    let mut raised = Vec::new();
    let local = end.channel.local();
    for step in 0..40_u16 {
        let number = 1 + u16::try_from(bench.below(5)).unwrap_or_default();
        let event = match there.get(&number).cloned() {
            None if step >= 30 => continue,
            None => {
                // Each has the domain of the channel, a new member most times.
                let added = Arc::new(member(number).as_ref().clone().with_domain(local.domain().clone()));
                there.insert(number, Arc::clone(&added));
                MemberEvent::Added(added)
            }
            Some(known) => match bench.below(if step >= 30 { 1 } else { 4 }) {
                0 => {
                    there.remove(&number);
                    gone(end, &known);
                    let why = bench.pick(&[Departure::Shutdown, Departure::Expired, Departure::Failed]);
                    MemberEvent::Removed(known, why)
                }
                1 => MemberEvent::Suspected(known, Suspicion::Silent),
                _ => {
                    let changed = Arc::new(known.as_ref().clone().with_payload(format!("change {step}")));
                    there.insert(number, Arc::clone(&changed));
                    MemberEvent::Updated(changed)
                }
            },
        };
        if let MemberEvent::Added(member) = &event {
            end.below.answer_probe(member, ProbeResult::Answered);
        }
        end.below.raise(event.clone());
        raised.push(event);
        bench.world.sleep(Duration::from_millis(10)).await;
    }
    for (_, known) in there {
        gone(end, &known);
        let event = MemberEvent::Removed(known, Departure::Shutdown);
        end.below.raise(event.clone());
        raised.push(event);
        bench.world.sleep(Duration::from_millis(10)).await;
    }
    raised
}

/// Whoever asks finds that it is gone.
fn gone(end: &End, member: &Arc<Member>) {
    end.below.answer_probe(member, ProbeResult::Refused);
    end.below.set_connected(member, false);
}

/// An event without what a layer may know better, such as why a member left.
fn kind(event: &MemberEvent) -> (&'static str, &Arc<Member>) {
    let kind = match event {
        MemberEvent::Added(_) => "added",
        MemberEvent::Updated(_) => "updated",
        MemberEvent::Suspected(..) => "suspected",
        MemberEvent::Removed(..) => "removed",
        _ => "another",
    };
    (kind, event.member())
}

fn short(events: &[MemberEvent]) -> String {
    let one = |event| {
        let (kind, member) = kind(event);
        format!("{kind} {}", member.port())
    };
    events.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whether each member is added before anything else is said of it, once, and not spoken of after it was removed.
pub(in super::super::super) fn consistent(events: &[MemberEvent]) -> Verdict {
    population(events).map(drop)
}

/// As [`consistent`], with how many are left in the end.
fn population(events: &[MemberEvent]) -> Result<usize, String> {
    let mut there: BTreeMap<MemberId, bool> = BTreeMap::new();
    for event in events {
        let (kind, member) = kind(event);
        let known = there.entry(member.id()).or_default();
        match (kind, *known) {
            ("added", true) => return Err(format!("{member} was added twice")),
            ("added", false) => *known = true,
            ("removed", true) => *known = false,
            (_, true) => {}
            (kind, false) => return Err(format!("{member} was {kind}, but was not there")),
        }
    }
    Ok(there.values().filter(|there| **there).count())
}

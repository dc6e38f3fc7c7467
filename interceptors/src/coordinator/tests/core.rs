//! One core, step by step.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Departure, Member, MemberEvent, Time};

use super::super::CoordinatorConfig;
use super::super::core::{Core, Send};
use super::super::election::{Election, Kind};
use super::super::view_id::{ViewId, next_term};
use crate::testing::{member as java, member_of_ours as ours};

use MemberEvent::{Added, Removed};

const TIMEOUT: Duration = CoordinatorConfig::TIMEOUT;
const PATIENCE: Duration = CoordinatorConfig::PATIENCE;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// A core of `local` that sees `others`, and what it sent so far.
fn core(local: &Arc<Member>, others: &[Arc<Member>]) -> Core {
    let mut core = Core::new(CoordinatorConfig::default());
    core.start(Arc::clone(local), 0, at(0));
    others.iter().for_each(|other| core.event(&Added(Arc::clone(other)), at(0)));
    core
}

fn sends(core: &mut Core) -> Vec<Send> {
    std::iter::from_fn(|| core.next_send()).collect()
}

/// Only the last of what was sent.
fn last(core: &mut Core) -> Send {
    sends(core).pop().unwrap()
}

fn message(kind: Kind, id: ViewId, source: &Arc<Member>, members: &[Arc<Member>]) -> Election {
    let (leader, source) = (Arc::clone(&members[0]), Arc::clone(source));
    Election { kind, id, leader, source, members: members.to_vec() }
}

const JAVAS: ViewId = ViewId::from_bytes(*b"java's view id..");

#[test]
fn alone_it_leads() {
    let mut core = core(&ours(5), &[]);
    let leadership = core.leadership();
    assert_eq!((leadership.coordinator, leadership.is_local), (Some(ours(5)), true));
    assert_eq!(leadership.term, Some(next_term(0, &ours(5))));
    assert!(sends(&mut core).is_empty());
    assert_eq!(core.deadline(), Time::NEVER);
}

#[test]
fn the_token_goes_round_and_all_are_told() {
    let mut core = core(&ours(1), &[ours(2)]);
    let token = last(&mut core);
    assert_eq!((token.to, token.election.kind), (ours(2), Kind::Request));
    assert_eq!(core.leadership().view.len(), 1, "not agreed on yet");
    core.received(&ours(2), (*token.election).clone(), at(10));
    let view = last(&mut core);
    assert_eq!((&view.to, view.election.kind, view.election.id), (&ours(2), Kind::Confirmation, token.election.id));
    assert_eq!(core.leadership().view.to_vec(), [ours(1), ours(2)]);
    assert_eq!(core.deadline(), Time::NEVER);
    // The same token again, late, means nothing any more.
    core.received(&ours(2), (*token.election).clone(), at(20));
    assert!(sends(&mut core).is_empty());
}

#[test]
fn a_lost_token_is_sent_again_and_in_the_end_done_without() {
    let mut core = core(&ours(1), &[ours(2)]);
    let first = last(&mut core);
    for round in 1..4 {
        assert_eq!(core.deadline(), at(0) + TIMEOUT * round);
        core.tick(core.deadline());
        assert_eq!(*last(&mut core).election, *first.election);
    }
    core.tick(core.deadline());
    assert_eq!(last(&mut core).election.kind, Kind::Confirmation);
    assert_eq!(core.leadership().view.len(), 2);
    assert_eq!(core.deadline(), Time::NEVER);
}

#[test]
fn members_that_cannot_be_reached_are_skipped() {
    let mut core = core(&ours(1), &[]);
    for number in [2, 3, 4] {
        core.event(&Added(ours(number)), at(0));
    }
    core.tick(core.deadline());
    let token = last(&mut core);
    assert_eq!((&token.to, token.election.members.len()), (&ours(2), 4));
    core.done(token.ticket, false, at(5));
    let next = last(&mut core);
    assert_eq!((&next.to, &next.election), (&ours(3), &token.election));
    // Gone altogether: nobody waits for the timeout.
    core.event(&Removed(ours(3), Departure::Failed), at(6));
    assert_eq!(last(&mut core).to, ours(2));
}

#[test]
fn a_view_that_does_not_arrive_is_sent_again_a_few_times() {
    let mut core = core(&ours(1), &[java(2)]);
    let token = last(&mut core);
    core.received(&java(2), (*token.election).clone(), at(0));
    let mut tries = 0;
    while let Some(send) = sends(&mut core).pop() {
        assert_eq!(send.election.kind, Kind::Confirmation);
        tries += 1;
        core.done(send.ticket, false, core.deadline().min(at(600_000)));
        let due = core.deadline();
        if due == Time::NEVER {
            break;
        }
        core.tick(due);
    }
    assert_eq!(tries, 5);
    assert_eq!(core.deadline(), Time::NEVER);
}

#[test]
fn a_view_is_sent_to_one_of_ours_until_it_has_it_or_is_gone() {
    let mut core = core(&ours(1), &[ours(2)]);
    let token = last(&mut core);
    core.received(&ours(2), (*token.election).clone(), at(0));
    let (mut now, mut waits) = (at(0), Vec::new());
    for _ in 0..8 {
        let send = last(&mut core);
        assert_eq!(send.election.kind, Kind::Confirmation);
        core.done(send.ticket, false, now);
        waits.push((core.deadline() - now).as_secs());
        now = core.deadline();
        core.tick(now);
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 32, 32, 32]);
    let send = last(&mut core);
    core.event(&Removed(ours(2), Departure::Failed), now);
    core.done(send.ticket, false, now);
    assert_eq!(core.deadline(), Time::NEVER);
}

#[test]
fn javas_token_is_passed_on_with_whom_this_member_knows() {
    let mut core = core(&ours(2), &[java(1), ours(3), java(4)]);
    sends(&mut core);
    core.received(&java(1), message(Kind::Request, JAVAS, &java(1), &[java(1), ours(2), java(4)]), at(0));
    let passed = last(&mut core);
    assert_eq!((&passed.to, passed.election.id, &passed.election.source), (&ours(3), JAVAS, &java(1)));
    assert_eq!(passed.election.members, [java(1), ours(2), ours(3), java(4)]);
    // As far as its source, and no further.
    core.done(passed.ticket, false, at(1));
    let passed = last(&mut core);
    assert_eq!(passed.to, java(4));
    core.done(passed.ticket, false, at(2));
    let passed = last(&mut core);
    assert_eq!(passed.to, java(1));
    core.done(passed.ticket, false, at(3));
    assert!(sends(&mut core).is_empty());
    assert_eq!(core.counts().lost, 1);
}

#[test]
fn a_token_circles_a_few_times_only() {
    let mut core = core(&ours(2), &[java(1)]);
    let token = message(Kind::Request, JAVAS, &java(1), &[java(1), ours(2)]);
    (0..1000).for_each(|_| core.received(&java(1), token.clone(), at(0)));
    assert_eq!(sends(&mut core).len(), 32);
}

#[test]
fn what_comes_before_the_news_of_its_source_is_kept_for_a_while() {
    for (wait, passed) in [(PATIENCE / 2, 1), (PATIENCE * 2, 0)] {
        let mut core = core(&ours(2), &[]);
        core.received(&java(1), message(Kind::Request, JAVAS, &java(1), &[java(1), ours(2)]), at(0));
        assert!(sends(&mut core).is_empty());
        core.event(&Added(java(1)), at(0) + wait);
        assert_eq!(sends(&mut core).len(), passed, "{wait:?}");
    }
    let mut core = core(&ours(2), &[]);
    core.received(&java(1), message(Kind::Confirmation, JAVAS, &java(1), &[java(1), ours(2)]), at(0));
    assert_eq!(core.leadership().coordinator, Some(ours(2)));
    core.event(&Added(java(1)), at(10));
    assert_eq!((core.leadership().coordinator, core.leadership().term), (Some(java(1)), None));
}

#[test]
fn views_of_past_terms_and_of_others_are_refused() {
    let mut core = core(&ours(2), &[ours(1), ours(3)]);
    let everybody = [ours(1), ours(2), ours(3)];
    let view = |term, source: &Arc<Member>, members: &[Arc<Member>]| {
        message(Kind::Confirmation, ViewId::new(term, source), source, members)
    };
    let (past, later) = (next_term(1 << 20, &ours(1)), next_term(1 << 30, &ours(1)));
    // Not by its leader, by somebody else in its name, not about this member.
    core.received(&ours(3), view(later, &ours(3), &everybody), at(0));
    core.received(&ours(3), view(later, &ours(1), &everybody), at(0));
    core.received(&ours(1), view(later, &ours(1), &[ours(1), ours(3)]), at(0));
    assert_eq!(core.leadership().view.len(), 1);
    core.received(&ours(1), view(later, &ours(1), &everybody), at(0));
    assert_eq!(core.leadership().term, Some(later));
    // The view before, which comes late.
    core.received(&ours(1), view(past, &ours(1), &[ours(1), ours(2)]), at(0));
    assert_eq!((core.leadership().term, core.leadership().view.len()), (Some(later), 3));
    assert_eq!(core.counts().stale, 4);
}

#[test]
fn a_coordinator_that_is_gone_is_none() {
    let mut core = core(&ours(2), &[java(1), ours(3)]);
    let members = [java(1), ours(2), ours(3)];
    core.received(&java(1), message(Kind::Confirmation, JAVAS, &java(1), &members), at(0));
    assert_eq!(core.leadership().coordinator, Some(java(1)));
    sends(&mut core);
    core.event(&Removed(java(1), Departure::Failed), at(1));
    assert_eq!((core.leadership().coordinator, core.leadership().view.len()), (None, 3));
    let token = last(&mut core);
    core.received(&ours(3), (*token.election).clone(), at(2));
    assert!(core.leadership().is_local);
}

#[test]
fn who_misses_a_view_asks_ever_more_rarely() {
    let mut core = core(&ours(2), &[ours(1)]);
    sends(&mut core);
    let mut last_time = at(0);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let due = core.deadline();
        core.tick(due);
        let question = last(&mut core);
        assert_eq!((&question.to, question.election.kind), (&ours(1), Kind::Request));
        waits.push(due - last_time);
        last_time = due;
    }
    assert_eq!(waits, [5, 5, 10, 20, 40, 60, 60, 60].map(Duration::from_secs));
}

#[test]
fn who_leads_answers_with_its_view() {
    let mut core = core(&ours(1), &[ours(2)]);
    let token = last(&mut core);
    core.received(&ours(2), (*token.election).clone(), at(0));
    let view = last(&mut core).election;
    let question = |term| message(Kind::Request, ViewId::new(term, &ours(2)), &ours(2), &[ours(1), ours(2)]);
    core.received(&ours(2), question(0), at(1));
    assert_eq!(last(&mut core).election, view);
    // Java forces an election after 15 s, and waits for the answer.
    core.received(&ours(2), message(Kind::Request, JAVAS, &ours(2), &[ours(1), ours(2)]), at(2));
    assert_eq!(last(&mut core).election, view);
    // Of a later term there must be a new view.
    let later = next_term(1 << 40, &ours(2));
    core.received(&ours(2), question(later), at(3));
    let token = last(&mut core);
    assert_eq!(token.election.id.term(), Some(next_term(later, &ours(1))));
}

#[test]
fn java_that_is_stuck_is_told_by_the_first_of_ours() {
    let members = [java(1), ours(2), ours(3)];
    let mut second = core(&ours(3), &[java(1), ours(2)]);
    sends(&mut second);
    let mut first = core(&ours(2), &[java(1), ours(3)]);
    sends(&mut first);
    assert_eq!(first.deadline(), at(0) + PATIENCE * 4);
    first.tick(first.deadline());
    let told = sends(&mut first);
    assert_eq!(told.iter().map(|send| &send.to).collect::<Vec<_>>(), [&java(1), &ours(3)]);
    let election = &told[0].election;
    assert_eq!((election.kind, &election.leader, &election.source), (Kind::Confirmation, &java(1), &ours(2)));
    assert_eq!(election.members, members);
    assert_eq!(first.leadership().coordinator, Some(java(1)));
    // The others of ours take it over; who missed it asks, not Java.
    second.tick(second.deadline());
    let question = last(&mut second);
    assert_eq!(question.to, ours(2));
    first.received(&ours(3), (*question.election).clone(), at(60_000));
    let answer = last(&mut first);
    second.received(&ours(2), (*answer.election).clone(), at(60_000));
    assert_eq!(second.leadership(), first.leadership());
    assert_eq!((first.deadline(), second.deadline()), (Time::NEVER, Time::NEVER));
}

#[test]
fn who_steps_in_for_java_learns_of_later_terms() {
    let members = [java(1), ours(2), ours(3)];
    let mut first = core(&ours(2), &[java(1), ours(3)]);
    // Started later, by a clock that is ahead: alone it has led under a term that is later than all of the first's.
    let mut late = Core::new(CoordinatorConfig::default());
    late.start(ours(3), 60_000, at(0));
    let alone = late.leadership().term.unwrap();
    for other in [java(1), ours(2)] {
        late.event(&Added(other), at(0));
    }
    sends(&mut first);
    sends(&mut late);
    let mut now = first.deadline();
    first.tick(now);
    let told = last(&mut first);
    assert_eq!(told.to, ours(3));
    late.received(&ours(2), (*told.election).clone(), now);
    assert_eq!(late.leadership().term, Some(alone), "it is of a past term");
    // It asks, and is told of a view that it can agree to; Java, too.
    let mut rounds = 0;
    while late.deadline() < Time::NEVER {
        now = late.deadline();
        late.tick(now);
        let question = last(&mut late);
        assert_eq!(question.to, ours(2));
        first.received(&ours(3), (*question.election).clone(), now);
        let told = sends(&mut first);
        assert_eq!(told.iter().map(|send| &send.to).collect::<Vec<_>>(), [&java(1), &ours(3)]);
        late.received(&ours(2), (*told[1].election).clone(), now);
        rounds += 1;
        assert!(rounds < 3, "it asks for ever");
    }
    assert_eq!(late.leadership(), first.leadership());
    assert!(late.leadership().term.unwrap() > alone && *late.leadership().view == members);
    assert_eq!(first.deadline(), Time::NEVER);
}

#[test]
fn without_a_quorum_nobody_leads() {
    let mut core = Core::new(CoordinatorConfig::default().with_quorum(2));
    core.start(ours(1), 0, at(0));
    let leadership = core.leadership();
    assert_eq!((leadership.coordinator, leadership.term, leadership.view.len()), (None, None, 1));
    core.event(&Added(ours(2)), at(0));
    let token = last(&mut core);
    core.received(&ours(2), (*token.election).clone(), at(1));
    assert!(core.leadership().is_local);
}

#[test]
fn floods_are_bounded() {
    let mut core = core(&ours(2), &[java(1)]);
    sends(&mut core);
    for number in 0..10_000_u32 {
        let mut id = *b"java's view id..";
        id[..4].copy_from_slice(&number.to_be_bytes());
        let id = ViewId::from_bytes(id);
        core.received(&java(1), message(Kind::Request, id, &java(1), &[java(1), ours(2)]), at(0));
        let stranger = java(u16::try_from(number % 1000 + 10).unwrap());
        core.received(&stranger, message(Kind::Request, id, &stranger, &[ours(2), Arc::clone(&stranger)]), at(0));
    }
    assert_eq!(sends(&mut core).len(), 64);
    assert_eq!(core.counts().lost, 10_000 - 64);
}

#[test]
fn a_stopped_one_knows_nothing_and_goes_on_with_later_terms() {
    let mut core = core(&ours(1), &[ours(2)]);
    let before = core.leadership().term.unwrap();
    let under_way = last(&mut core);
    core.stop();
    assert_eq!((core.leadership().coordinator, core.deadline()), (None, Time::NEVER));
    core.received(&ours(2), (*under_way.election).clone(), at(1));
    core.start(ours(1), 0, at(2));
    core.done(under_way.ticket, false, at(3));
    assert!(sends(&mut core).is_empty());
    assert!(core.leadership().term.unwrap() > before);
}

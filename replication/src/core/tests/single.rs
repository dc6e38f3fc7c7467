//! One replica, and messages made by hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::world::member;
use crate::context::{Context, Seen};
use crate::core::{Action, Core, Need, NoDiffs, Now, Tuning};
use crate::message::{Envelope, Hello, Message, Payload, Write};
use crate::store::{Chunk, GROUPS, Keeping, Sibling};
use crate::version::{Dot, Incarnation, Version};

const WALL: u64 = 1_767_225_600_000;
const SECOND: Duration = Duration::from_secs(1);

struct Single {
    core: Core,
    now: Now,
}

impl Single {
    fn new(tuning: Tuning) -> Self {
        let now = Now { time: Time::from_millis(1_000_000), wall_ms: WALL };
        Self { core: Core::new(Incarnation::new(1), Keeping::Latest, tuning, Arc::new(NoDiffs), now), now }
    }

    /// With so many peers, numbered from 2, and ready.
    fn with_peers(tuning: Tuning, count: usize) -> (Self, Vec<Arc<Member>>) {
        let mut single = Self::new(tuning);
        let peers: Vec<_> = (2..2 + count).map(|number| member(number, 0)).collect();
        for (number, peer) in (2..).zip(&peers) {
            single.core.member_added(peer, single.now);
            single.hears(peer, number, Message::Hello(hello(Keeping::Latest)));
        }
        single.passes(SECOND * 11);
        single.sent();
        (single, peers)
    }

    fn hears(&mut self, from: &Arc<Member>, incarnation: u64, message: Message) {
        let envelope = Envelope { from: Incarnation::new(incarnation), to: Some(Incarnation::new(1)), message };
        self.core.received(from, envelope, self.now);
    }

    fn passes(&mut self, time: Duration) {
        self.now.time = self.now.time + time;
        self.now.wall_ms += u64::try_from(time.as_millis()).unwrap();
        self.core.tick(self.now);
    }

    fn sent(&mut self) -> Vec<(Vec<Arc<Member>>, Message)> {
        let actions = self.core.actions(false);
        let sent = actions.into_iter().filter_map(|action| match action {
            Action::Send { to, envelope } => Some((to, envelope.message)),
            _ => None,
        });
        sent.collect()
    }

    /// Answers what it asks `peer`, who holds `entries` in each bucket asked for, which all differ.
    fn answer(&mut self, peer: &Arc<Member>, incarnation: u64, seen: &Context, entries: &[(Box<[u8]>, Vec<Sibling>)]) {
        loop {
            let asked: Vec<_> = self.sent().into_iter().filter(|(to, _)| to.contains(peer)).collect();
            if asked.is_empty() {
                return;
            }
            for (_, question) in asked {
                let digests = if entries.is_empty() { 0 } else { 77 };
                let answer = match question {
                    Message::Ask { round, level } => {
                        Message::Digests { round, level, seen: seen.clone(), digests: vec![digests; GROUPS] }
                    }
                    Message::Pull { round, bucket, after, .. } => {
                        let here =
                            |(key, _): &&(Box<[u8]>, _)| crate::store::bucket_of(crate::store::hash(key)) == bucket;
                        let entries = entries.iter().filter(here).cloned().collect();
                        Message::Chunk {
                            round,
                            bucket,
                            after,
                            seen: seen.clone(),
                            chunk: Chunk { entries, ..Chunk::default() },
                        }
                    }
                    _ => continue,
                };
                self.hears(peer, incarnation, answer);
            }
        }
    }
}

fn hello(keeping: Keeping) -> Hello {
    Hello { ready: true, reply: false, written: 0, time: WALL << 16, keeping, away: Vec::new() }
}

/// What was said to a member before it opened its map is answered by the channel that it has none; and that answer may come after
/// the member has said that it has one now.
#[test]
fn an_answer_that_a_greeting_crossed_is_old_news() {
    let (mut single, peers) = Single::with_peers(Tuning::default(), 1);
    let peer = &peers[0];
    let asked_at = single.now.time;
    single.passes(Duration::from_millis(5));
    single.hears(peer, 2, Message::Hello(hello(Keeping::Latest)));
    single.passes(Duration::from_millis(5));
    single.sent();
    single.core.has_no_map(peer, asked_at, single.now);
    assert_eq!(single.core.peer_states().len(), 1, "it has said since that it is here");
    let sent = single.sent();
    let greets =
        |(to, message): &(Vec<Arc<Member>>, Message)| to.contains(peer) && matches!(message, Message::Hello(_));
    assert!(sent.iter().any(greets), "should it be gone again, it is to say so: {sent:?}");
    // That was said later, and so is the answer.
    single.core.has_no_map(peer, single.now.time, single.now);
    assert_eq!(single.core.peer_states().len(), 0);
}

#[test]
fn writes_that_wait_for_company_travel_in_one_message() {
    let (mut single, peers) = Single::with_peers(Tuning::default(), 2);
    for number in 0..3_u8 {
        single.core.put(&[number], Arc::from([number]), None, None, single.now).unwrap();
        let sends = |action: &Action| matches!(action, Action::Send { .. });
        assert!(!single.core.actions(true).iter().any(sends), "it waits");
        assert!(single.core.has_unsent());
    }
    let sent = single.sent();
    let [(to, Message::Write { writes, .. })] = &sent[..] else { panic!("one message: {sent:?}") };
    assert_eq!((to.len(), writes.len(), single.core.has_unsent()), (peers.len(), 3, false));
    // Beyond what a message takes they do not wait.
    let value: Arc<[u8]> = vec![7; 40 << 10].into();
    for number in 0..3_u8 {
        single.core.put(&[number], Arc::clone(&value), None, None, single.now).unwrap();
    }
    let waiting = single.core.actions(true);
    assert_eq!(waiting.iter().filter(|action| matches!(action, Action::Send { .. })).count(), 2);
}

fn done(core: &mut Core) -> Vec<(u64, bool)> {
    let done = core.actions(false).into_iter().filter_map(|action| match action {
        Action::Done { op, report } => Some((op, report.met)),
        _ => None,
    });
    done.collect()
}

/// An operation goes by the number of its write.
#[test]
fn operations_are_told_apart_by_their_writes() {
    let (mut single, peers) = Single::with_peers(Tuning::default(), 1);
    let now = single.now;
    for counter in 1..=6 {
        let wanted = Some((Need::Copies(1), SECOND * 50));
        let written = single.core.put(b"key", b"value"[..].into(), None, wanted, now).unwrap();
        assert_eq!((written.version.dot.counter, written.op), (counter, Some(counter)));
    }
    single.core.forget_op(4);
    let mut acked = |upto, beyond: &[(u64, u64)]| {
        single.hears(&peers[0], 2, Message::Ack { seen: Seen::new(upto, beyond.to_vec()) });
        done(&mut single.core)
    };
    assert_eq!(acked(1, &[(3, 4)]), [(1, true), (3, true)]);
    assert_eq!(acked(1, &[(3, 4)]), []);
    // It comes late, and says less than is known.
    assert_eq!(acked(0, &[]), []);
    assert_eq!(acked(5, &[]), [(2, true), (5, true)]);
    single.passes(SECOND * 60);
    assert_eq!(done(&mut single.core), [(6, false)]);
}

/// What comes by comparing is within the same bounds as what comes as a write, and what is refused is not seen.
#[test]
fn a_round_keeps_to_the_bounds() {
    let (mut single, peers) = Single::with_peers(Tuning { max_value: 100, max_bytes: 200, ..Tuning::default() }, 1);
    let writer = |number| Dot { node: Incarnation::new(number), counter: 1 };
    let mut seen = Context::default();
    let mut entries = Vec::new();
    for (number, len) in [(10u64, 101), (11, 100), (12, 100), (13, 100), (14, 100), (15, 100)] {
        seen.add(writer(number));
        let version = Version { time: WALL << 16, dot: writer(number) };
        let value = Some(Arc::from(vec![0; len]));
        entries.push((Box::from(&number.to_be_bytes()[..]), vec![Sibling { version, past: Box::default(), value }]));
    }
    // A removal is no burden.
    seen.add(writer(16));
    let version = Version { time: WALL << 16, dot: writer(16) };
    entries.push((Box::from(&b"removed"[..]), vec![Sibling { version, past: Box::default(), value: None }]));
    single.hears(&peers[0], 2, Message::Offer { written: 0, compare: true });
    single.passes(SECOND * 2);
    single.answer(&peers[0], 2, &seen, &entries);
    let held: BTreeSet<u64> = single
        .core
        .store
        .iter()
        .flat_map(|(_, entry)| entry.siblings())
        .map(|one| one.version.dot.node.get())
        .collect();
    let counted: BTreeSet<u64> = (10..17).filter(|number| single.core.store.seen.contains(writer(*number))).collect();
    assert_eq!(held, counted);
    assert!(!held.contains(&10) && held.contains(&16), "{held:?}");
    let census = single.core.store.census();
    assert_eq!((census.live, census.bytes), (3, 331), "{held:?}");
    assert_eq!(single.core.counts.refused, 3);
    // What takes no more room than what it replaces is taken, though there is no room for more.
    let key = |number: u64| Box::from(&number.to_be_bytes()[..]);
    let kept = *held.iter().find(|number| (11..16).contains(*number)).unwrap();
    let write = |counter, key| Write {
        key,
        version: Version { time: (WALL + 1) << 16, dot: Dot { node: Incarnation::new(2), counter } },
        past: Box::default(),
        payload: Payload::Value(Arc::from(vec![1; 100])),
    };
    single.hears(&peers[0], 2, Message::Write { writes: vec![write(1, key(kept)), write(2, key(99))], ack: false });
    assert_eq!(single.core.store.census().bytes, 331);
    assert_eq!((single.core.counts.received, single.core.counts.refused), (1, 4));
}

/// Two that do not answer, with room for one round.
#[test]
fn who_never_answers_does_not_starve_the_others() {
    let (mut single, peers) = Single::with_peers(Tuning { rounds: 1, ..Tuning::default() }, 3);
    let mut compared = 0;
    let mut asked = [0; 2];
    for _ in 0..1200 {
        single.passes(SECOND / 10);
        for (to, message) in single.sent() {
            let Message::Ask { round, level } = message else { continue };
            if let Some(dead) = peers[..2].iter().position(|peer| to.contains(peer)) {
                asked[dead] += 1;
            } else {
                compared += 1;
                let digests = single.core.store.groups().to_vec();
                single.hears(&peers[2], 4, Message::Digests { round, level, seen: Context::default(), digests });
            }
        }
        let now = single.now.time;
        single.core.wish(&peers[2], now, true);
    }
    assert!(compared > 400, "compared {compared} times in two minutes");
    assert!(asked.iter().all(|times| (18..60).contains(times)), "asked {asked:?} times");
}

/// There is always somebody to compare with, and room for one round.
#[test]
fn all_get_their_turn() {
    let (mut single, peers) = Single::with_peers(Tuning { rounds: 1, ..Tuning::default() }, 4);
    let mut asked = [0; 4];
    for _ in 0..200 {
        let now = single.now.time;
        peers.iter().for_each(|peer| single.core.wish(peer, now, true));
        single.passes(SECOND / 10);
        for (to, message) in single.sent() {
            let Message::Ask { round, level } = message else { continue };
            let peer = peers.iter().position(|peer| to.contains(peer)).unwrap();
            asked[peer] += 1;
            let digests = single.core.store.groups().to_vec();
            let answer = Message::Digests { round, level, seen: Context::default(), digests };
            single.hears(&peers[peer], 2 + peer as u64, answer);
        }
    }
    assert!(asked.iter().all(|times| *times >= 40), "asked {asked:?} times");
}

/// Its map is none of this kind: nothing of it is waited for.
#[test]
fn who_keeps_conflicts_in_another_way_is_not_waited_for() {
    let mut single = Single::new(Tuning::default());
    let other = member(2, 0);
    single.core.member_added(&other, single.now);
    single.hears(&other, 2, Message::Hello(hello(Keeping::Concurrent)));
    single.passes(SECOND * 2);
    assert!(single.core.is_ready());
    let wanted = Some((Need::All, SECOND));
    let now = single.now;
    let op = single.core.put(b"key", b"value"[..].into(), None, wanted, now).unwrap().op.unwrap();
    assert_eq!(done(&mut single.core), [(op, true)]);
}

/// Two tell each other that somebody is away; it ends all the same.
#[test]
fn nobody_is_away_for_ever_by_hearsay() {
    let tuning = || Tuning { removals: (SECOND, SECOND * 100), ..Tuning::default() };
    let (mut one, ones) = Single::with_peers(tuning(), 2);
    let (mut two, twos) = Single::with_peers(tuning(), 1);
    one.core.member_removed(&ones[1], false, one.now);
    let now = one.now;
    one.core.put(b"key", b"value"[..].into(), None, None, now).unwrap();
    one.core.remove(b"key", None, now).unwrap();
    let pass_on = |from: &mut Single, to: &mut Single, peer: &Arc<Member>| {
        let message = from.core.own_hello(false, from.now.time);
        let Message::Hello(hello) = &message else { panic!("a hello") };
        let away = hello.away.len();
        to.hears(peer, 2, message);
        away
    };
    for second in 0..300 {
        // It is a while until they talk.
        if second >= 50 {
            let told = pass_on(&mut one, &mut two, &twos[0]) + pass_on(&mut two, &mut one, &ones[0]);
            assert_eq!(told, if second < 100 { 2 } else { 0 }, "after {second} s");
        }
        one.passes(SECOND);
        two.passes(SECOND);
        one.answer(&ones[0], 2, &Context::default(), &[]);
        two.answer(&twos[0], 2, &Context::default(), &[]);
    }
    assert!(one.core.store.get(b"key").is_none(), "the removal is remembered for ever");
}

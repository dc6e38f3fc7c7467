#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::context::Context;
use crate::core::tests::world::member;
use crate::core::{Need, NoDiffs};
use crate::message::Hello;

const SECOND: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_millis(100);
const HERE: Notice = Notice::Here { reply: false, leaving: false };

/// One member, the others being what the test says.
struct Place {
    me: Arc<Member>,
    shards: Shards,
    now: Now,
}

impl Place {
    fn new(number: usize, copies: usize) -> Self {
        let me = member(number, 1);
        let tuning = Tuning { group_size: Some(copies), ..Tuning::default() };
        let rules = Rules {
            keeping: Keeping::Latest,
            tuning,
            diffs: Arc::new(NoDiffs),
            copies,
            fetches: 4,
            fetch_rate: 1000,
            settle: SETTLE,
        };
        let now = Now { time: Time::from_millis(1_000_000), wall_ms: 1_767_225_600_000 };
        let seed = xxhash_rust::xxh3::xxh3_64(me.id().as_bytes());
        Self { shards: Shards::new(me.id(), seed, rules, now), me, now }
    }

    /// One that waited for others in vain, and holds all.
    fn alone(copies: usize) -> Self {
        let mut place = Self::new(0, copies);
        place.pass(SECOND);
        place.out();
        place
    }

    fn pass(&mut self, time: Duration) {
        self.now.time = self.now.time + time;
        self.shards.tick(self.now);
    }

    fn out(&mut self) -> Vec<Out> {
        self.shards.actions(self.now).into()
    }

    /// These are there and have the map.
    fn meets(&mut self, others: &[&Arc<Member>]) {
        for other in others {
            self.shards.member_added(other, self.now);
            self.hears(other, HERE);
        }
        self.pass(SETTLE);
    }

    fn hears(&mut self, from: &Arc<Member>, notice: Notice) {
        let notice = Notice::decode(&notice.encode()).unwrap();
        self.shards.received(from, notice, self.now);
    }

    fn holds(&self) -> usize {
        self.shards.all().iter().filter(|shard| shard.core.is_some()).count()
    }

    fn has(&self, shard: usize) -> bool {
        self.shards.look(shard).is_some()
    }

    /// A grant of what the replica of `shard` has seen by now.
    fn grant(&self, shard: usize) -> Notice {
        let core = self.shards.look(shard).unwrap();
        Notice::Granted { shard, asker: core.me(), number: core.store.seen.turn() }
    }

    fn puts(&mut self, shard: usize, key: &[u8], need: Option<Need>) -> u64 {
        let (wanted, now) = (need.map(|need| (need, SECOND)), self.now);
        let made = self.shards.core(shard).unwrap().put(key, Arc::from(*b"value"), None, wanted, now).unwrap();
        made.version.dot.counter
    }
}

/// The shards that exactly these of `all` are to hold.
fn shards_of(holders: &[&Arc<Member>], all: &[&Arc<Member>]) -> Vec<usize> {
    let placed = |shard| {
        let members = all.iter().map(|member| (member.id(), *member));
        crate::lazy::placement::holders(shard, members, holders.len())
    };
    (0..SHARDS).filter(|shard| placed(*shard).iter().all(|member| holders.contains(member))).collect()
}

fn notices<'a>(out: &'a [Out], to: &'a Arc<Member>) -> impl Iterator<Item = &'a Notice> {
    out.iter().filter_map(move |out| match out {
        Out::Notice { to: found, notice } | Out::Greet { to: found, notice } if found == to => Some(notice),
        _ => None,
    })
}

fn count(out: &[Out], wanted: fn(&Out) -> bool) -> usize {
    out.iter().filter(|out| wanted(out)).count()
}

#[test]
fn who_finds_nobody_holds_all_after_a_while() {
    let mut place = Place::new(0, 2);
    place.pass(SECOND / 2);
    assert_eq!(place.holds(), 0, "somebody may come");
    place.pass(SECOND / 2);
    assert_eq!(place.holds(), SHARDS);
    let (ready, later) = (place.out(), place.out());
    assert_eq!((count(&ready, |out| matches!(out, Out::Ready)), later.len()), (1, 0));
}

#[test]
fn nothing_is_taken_before_those_that_are_there_have_answered() {
    let (mut place, other) = (Place::new(0, 1), member(1, 1));
    place.shards.member_added(&other, place.now);
    place.pass(5 * SECOND);
    assert_eq!(place.holds(), 0);
    // What it was asked later it answered later, as far as is known.
    place.shards.has_not(&other, place.now.time, place.now);
    place.pass(SETTLE);
    assert_eq!(place.holds(), SHARDS);
}

#[test]
fn a_few_shards_are_fetched_at_once_and_not_too_fast() {
    let (mut place, other) = (Place::new(0, 1), member(1, 1));
    place.meets(&[&other]);
    let is_fetching = |place: &Place| place.shards.all().iter().filter(|shard| shard.core.is_some()).count();
    for _ in 0..10 {
        place.pass(SECOND / 10);
        assert_eq!(is_fetching(&place), 4, "the other says nothing of what it holds");
    }
    // It holds nothing after all: there is nothing to wait for.
    let fetched: Vec<usize> = (0..SHARDS).filter(|shard| place.shards.all()[*shard].core.is_some()).collect();
    fetched.iter().for_each(|shard| place.hears(&other, Notice::NotHeld { shard: *shard }));
    // But for one of 2000 bytes, at 1000 bytes a second.
    place.shards.fetched(2000, place.now);
    place.pass(SECOND);
    assert_eq!(place.holds(), 4);
    assert!(fetched.iter().all(|shard| place.has(*shard)));
    assert_eq!(place.shards.next_wake().min(place.now.time + SECOND), place.now.time + SECOND);
    place.pass(SECOND);
    assert_eq!(place.holds(), 8);
}

#[test]
fn a_shard_is_let_go_when_each_of_its_holders_has_granted_it() {
    let (one, two, three) = (member(1, 1), member(2, 1), member(3, 1));
    let mut place = Place::alone(2);
    let all = [&Arc::clone(&place.me), &one, &two, &three];
    let shard = shards_of(&[&one, &two], &all)[0];
    place.meets(&[&one, &two, &three]);
    let out = place.out();
    let asks = |to| notices(&out, to).any(|notice| matches!(notice, Notice::Release { shard: of, .. } if *of == shard));
    assert!(asks(&one) && asks(&two) && !asks(&three));
    place.hears(&one, place.grant(shard));
    place.hears(&one, place.grant(shard));
    place.hears(&three, place.grant(shard));
    place.pass(SECOND);
    assert!(place.has(shard), "it is not the third's to grant");
    place.hears(&two, place.grant(shard));
    assert!(!place.has(shard) && place.shards.counts.released == 1);
    assert!(!place.shards.route(shard).here);
}

#[test]
fn a_grant_is_for_one_replica_and_what_it_had_seen() {
    let one = member(1, 1);
    let mut place = Place::alone(1);
    let shard = shards_of(&[&one], &[&Arc::clone(&place.me), &one])[0];
    place.meets(&[&one]);
    let early = place.grant(shard);
    place.puts(shard, b"key", None);
    place.hears(&one, early);
    assert!(place.has(shard), "of what was written since, nobody else knows");
    let Notice::Granted { number, .. } = place.grant(shard) else { unreachable!() };
    place.hears(&one, Notice::Granted { shard, asker: Incarnation::new(1), number });
    assert!(place.has(shard), "that was for another");
    place.hears(&one, place.grant(shard));
    assert!(!place.has(shard));
    // Nothing is here that it could be for.
    place.hears(&one, Notice::Granted { shard, asker: Incarnation::new(1), number });
    assert_eq!(place.shards.counts.released, 1);
}

#[test]
fn what_is_to_be_held_is_not_let_go_whoever_grants_it() {
    let one = member(1, 1);
    let mut place = Place::alone(1);
    let shard = shards_of(&[&Arc::clone(&place.me)], &[&Arc::clone(&place.me), &one])[0];
    place.meets(&[&one]);
    place.hears(&one, place.grant(shard));
    place.pass(SECOND);
    assert!(place.has(shard));
    // Nor later, when it would be.
    assert!(place.shards.all()[shard].granted.is_empty());
}

#[test]
fn grants_are_void_when_others_are_to_hold_the_shard() {
    let (one, two, three) = (member(1, 1), member(2, 1), member(3, 1));
    let mut place = Place::alone(2);
    let me = Arc::clone(&place.me);
    let later = shards_of(&[&one, &three], &[&me, &one, &three]);
    let shards = shards_of(&[&one, &two], &[&me, &one, &two, &three]);
    let shard = *shards.iter().find(|shard| later.contains(shard)).unwrap();
    place.meets(&[&one, &two, &three]);
    place.hears(&one, place.grant(shard));
    place.shards.member_removed(&two, false, place.now);
    place.pass(SETTLE);
    place.hears(&three, place.grant(shard));
    assert!(place.has(shard), "the first may have let it go since, to the second");
    place.hears(&one, place.grant(shard));
    assert!(!place.has(shard));
}

#[test]
fn who_is_gone_or_was_never_there_is_not_believed() {
    let (one, two) = (member(1, 1), member(2, 1));
    let mut place = Place::alone(1);
    let shard = shards_of(&[&one], &[&Arc::clone(&place.me), &one])[0];
    place.meets(&[&one]);
    place.shards.member_removed(&one, false, place.now);
    // On its way when it died; it is not known yet who is to hold the shard instead.
    place.hears(&one, place.grant(shard));
    assert!(place.has(shard));
    place.out();
    let hello = Hello { ready: true, reply: true, written: 5, time: 0, keeping: Keeping::Latest, away: Vec::new() };
    for stranger in [&one, &two] {
        let envelope = Envelope { from: Incarnation::new(7), to: None, message: Message::Hello(hello.clone()) };
        place.hears(stranger, HERE);
        place.hears(stranger, Notice::Replica { shard, envelope });
        let asker = Incarnation::new(7);
        place.hears(stranger, Notice::Release { shard, asker, number: 1, seen: Context::default() });
    }
    assert_eq!(place.out().len(), 0);
    place.pass(SETTLE);
    assert!((0..SHARDS).all(|shard| place.shards.route(shard).holders == [None]));
    assert!(place.shards.look(shard).unwrap().peer_states().is_empty());
}

#[test]
fn a_shard_is_granted_by_who_holds_it_and_has_all_of_it() {
    let one = member(1, 1);
    let mut place = Place::alone(1);
    let me = Arc::clone(&place.me);
    let (own, others) = (shards_of(&[&me], &[&me, &one])[0], shards_of(&[&one], &[&me, &one])[0]);
    place.meets(&[&one]);
    let asker = Incarnation::new(7);
    let asked = |place: &mut Place, shard, seen: &Context| {
        place.out();
        place.hears(&one, Notice::Release { shard, asker, number: 9, seen: seen.clone() });
        let out = place.out();
        let granted = Notice::Granted { shard, asker, number: 9 };
        notices(&out, &one).any(|notice| *notice == granted)
    };
    let mut seen = Context::default();
    assert!(asked(&mut place, own, &seen));
    assert!(!asked(&mut place, others, &seen), "it is to let that go itself");
    seen.add(crate::version::Dot { node: asker, counter: 1 });
    assert!(!asked(&mut place, own, &seen), "it has not all of it");
    place.shards.leave(place.now);
    assert!(!asked(&mut place, own, &Context::default()), "it holds nothing for long");
}

#[test]
fn a_shard_stays_while_somebody_waits_for_a_write() {
    let one = member(1, 1);
    let mut place = Place::alone(1);
    let shard = shards_of(&[&one], &[&Arc::clone(&place.me), &one])[0];
    place.meets(&[&one]);
    let op = place.puts(shard, b"key", Some(Need::All));
    place.hears(&one, place.grant(shard));
    place.pass(SECOND / 2);
    assert!(place.has(shard));
    place.shards.core(shard).unwrap().forget_op(op);
    place.pass(Duration::ZERO);
    assert!(!place.has(shard), "nobody does any more");
}

#[test]
fn who_leaves_stays_until_others_have_what_it_holds() {
    let one = member(1, 1);
    let mut place = Place::alone(1);
    place.puts(0, b"key", None);
    place.shards.leave(place.now);
    place.pass(60 * SECOND);
    let released = |out: &[Out]| count(out, |out| matches!(out, Out::Released));
    assert_eq!(released(&place.out()), 0, "there is nobody to have it");
    place.meets(&[&one]);
    assert!(place.shards.all().iter().all(|shard| shard.rank.is_none() && shard.holders == [Arc::clone(&one)]));
    place.pass(SECOND);
    let out = place.out();
    assert!(notices(&out, &one).any(|notice| *notice == Notice::Here { reply: false, leaving: true }));
    for shard in 0..SHARDS {
        assert_eq!(released(&place.out()), 0, "{} are here", SHARDS - shard);
        place.hears(&one, place.grant(shard));
    }
    assert_eq!((released(&place.out()), place.holds()), (1, 0));
    place.shards.leave(place.now);
    place.pass(60 * SECOND);
    assert_eq!((released(&place.out()), place.holds()), (0, 0), "it is said once, and nothing is taken again");
}

#[test]
fn who_leaves_with_nothing_is_done_at_once() {
    let mut place = Place::alone(1);
    place.shards.leave(place.now);
    assert_eq!(count(&place.out(), |out| matches!(out, Out::Released)), 1);
}

#[test]
fn what_is_not_held_is_denied() {
    let one = member(1, 1);
    let mut place = Place::new(0, 1);
    place.meets(&[&one]);
    place.out();
    let envelope =
        Envelope { from: Incarnation::new(7), to: None, message: Message::Offer { written: 3, compare: false } };
    let shard = shards_of(&[&one], &[&Arc::clone(&place.me), &one])[0];
    place.hears(&one, Notice::Replica { shard, envelope });
    let out = place.out();
    assert!(notices(&out, &one).eq([&Notice::NotHeld { shard }]));
}

#[test]
fn an_answer_older_than_what_was_said_does_not_count() {
    let one = member(1, 1);
    let mut place = Place::alone(1);
    let asked = place.now.time;
    place.pass(SECOND);
    place.meets(&[&one]);
    place.shards.has_not(&one, asked, place.now);
    place.pass(SETTLE);
    let to_one = |place: &Place| (0..SHARDS).any(|shard| place.shards.route(shard).holders == [Some(Arc::clone(&one))]);
    assert!(to_one(&place), "it has opened the map since it was asked");
    place.hears(&one, Notice::Bye);
    place.pass(SETTLE);
    assert!(!to_one(&place));
}

#[test]
fn who_closes_says_so_and_hears_no_more() {
    let one = member(1, 1);
    let mut place = Place::alone(1);
    place.meets(&[&one]);
    place.out();
    place.shards.close(place.now);
    let out = place.out();
    assert!(notices(&out, &one).any(|notice| *notice == Notice::Bye));
    place.hears(&one, Notice::Here { reply: true, leaving: false });
    place.pass(60 * SECOND);
    assert_eq!((place.out().len(), place.shards.next_wake()), (0, Time::NEVER));
}

/// Carries messages between members until none is left, and says how many shards were fetched at once at most.
fn carry(places: &mut [Place]) -> usize {
    let mut most = 0;
    loop {
        let mut carried = Vec::new();
        for place in places.iter_mut() {
            let from = Arc::clone(&place.me);
            for out in place.out() {
                let (to, notice) = match out {
                    Out::Replica { shard, to, envelope } => (to, Notice::Replica { shard, envelope }),
                    Out::Notice { to, notice } | Out::Greet { to, notice } => (vec![to], notice),
                    Out::Of { .. } | Out::Ready | Out::Released => continue,
                };
                carried.extend(to.into_iter().map(|to| (Arc::clone(&from), to, notice.clone())));
            }
            most =
                most.max(place.shards.all().iter().filter(|s| s.core.as_ref().is_some_and(|c| !c.is_ready())).count());
        }
        if carried.is_empty() {
            return most;
        }
        for (from, to, notice) in carried {
            let place = places.iter_mut().find(|place| place.me == to).unwrap();
            place.hears(&from, notice);
        }
    }
}

#[test]
fn shards_move_to_who_comes_and_back_from_who_leaves() {
    let mut places = vec![Place::alone(1), Place::new(1, 1)];
    for shard in 0..SHARDS {
        places[0].puts(shard, format!("key {shard}").as_bytes(), None);
    }
    let (one, two) = (Arc::clone(&places[0].me), Arc::clone(&places[1].me));
    places[1].now = places[0].now;
    let now = places[0].now;
    places[0].shards.member_added(&two, now);
    places[1].shards.member_added(&one, now);
    let mut most = 0;
    let mut pass = |places: &mut [Place], seconds: u32| {
        for _ in 0..10 * seconds {
            places.iter_mut().for_each(|place| place.pass(SECOND / 10));
            most = most.max(carry(places));
        }
    };
    pass(&mut places, 20);
    let (held, theirs) = (places[0].holds(), shards_of(&[&two], &[&one, &two]));
    assert_eq!((held, places[1].holds()), (SHARDS - theirs.len(), theirs.len()));
    let key = |shard: usize| format!("key {shard}").into_bytes();
    assert!(theirs.iter().all(|shard| places[1].shards.look(*shard).unwrap().store.get(&key(*shard)).is_some()));
    let now = places[1].now;
    places[1].shards.leave(now);
    pass(&mut places, 20);
    assert_eq!((places[0].holds(), places[1].holds()), (SHARDS, 0));
    assert!((0..SHARDS).all(|shard| places[0].shards.look(shard).unwrap().store.get(&key(shard)).is_some()));
    assert_eq!(most, 4);
}

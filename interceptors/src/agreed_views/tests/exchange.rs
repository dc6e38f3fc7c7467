//! Cores that exchange messages, without channels and without a clock: what is said to whom is for the test to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Body, Departure, Member, MemberEvent, Time};

use super::scenario::config;
use crate::agreed_views::core::{Core, Defect, LeaseAction, MAX_CHAIN};
use crate::agreed_views::quorum::configured;
use crate::agreed_views::wire::{EPOCH_LIMIT, Kind, Message};
use crate::agreed_views::{AgreedViewsConfig, LeaseGrant, LeaseRequest, Quorum, Standing, ViewEvent};
use crate::testing::member_of_ours;

const STEP: Duration = Duration::from_millis(10);
/// Where the clocks stand.
const WALL: u64 = 1_700_000_000_000;

/// Long enough for everything else to happen meanwhile.
fn leased() -> AgreedViewsConfig {
    config(Quorum::None, 0).with_heartbeat(Duration::from_millis(200), Duration::from_secs(2))
}

struct Net {
    quorum: Quorum,
    members: usize,
    defect: Option<Defect>,
    cores: BTreeMap<u16, Core>,
    lives: u64,
    /// From whom nothing reaches whom.
    cut: BTreeSet<(u16, u16)>,
    now: Time,
    store: Option<Store>,
    /// Nobody hears what was agreed on.
    installs_are_lost: bool,
}

/// A lease that everybody reaches.
#[derive(Default)]
struct Store {
    holder: Option<u64>,
    until: Time,
    token: u64,
}

/// It is cut off like a member.
const STORE: u16 = 0;
const LEASE: Duration = Duration::from_secs(10);

impl Store {
    fn acquire(&mut self, request: &LeaseRequest, now: Time) -> Option<LeaseGrant> {
        if self.holder != Some(request.incarnation) {
            if self.holder.is_some() && now < self.until {
                return None;
            }
            self.holder = Some(request.incarnation);
            self.token += 1;
        }
        self.until = now + LEASE;
        Some(LeaseGrant::new(LEASE).with_token(self.token))
    }

    fn release(&mut self, request: &LeaseRequest) {
        if self.holder == Some(request.incarnation) {
            self.holder = None;
        }
    }
}

impl Net {
    fn new(quorum: Quorum, members: usize) -> Self {
        let now = Time::from_millis(1000);
        Self {
            quorum,
            members,
            defect: None,
            cores: BTreeMap::new(),
            lives: 0,
            cut: BTreeSet::new(),
            now,
            store: None,
            installs_are_lost: false,
        }
    }

    /// A process starts while its wall clock says that. All who are there are announced to each other.
    fn start(&mut self, number: u16, wall: u64) {
        let config = if self.store.is_some() { leased() } else { config(self.quorum, self.members) };
        let policy = configured(&config);
        let mut core = Core::new(config, policy, self.store.is_some());
        if let Some(defect) = self.defect {
            core.break_it(defect);
        }
        self.lives += 1;
        core.start(member_of_ours(number), self.lives, wall, self.now);
        for (other, known) in &mut self.cores {
            core.event(&MemberEvent::Added(member_of_ours(*other)), self.now);
            known.event(&MemberEvent::Added(member_of_ours(number)), self.now);
        }
        self.cores.insert(number, core);
        self.pump();
    }

    /// A process is no more, and membership says so.
    fn end(&mut self, number: u16, why: Departure) {
        self.cores.remove(&number);
        for core in self.cores.values_mut() {
            core.event(&MemberEvent::Removed(member_of_ours(number), why), self.now);
        }
    }

    /// A process leaves on purpose.
    fn leave(&mut self, number: u16) {
        let told = self.cores.get_mut(&number).unwrap().stop(self.now);
        for (to, message) in told {
            self.deliver(number, &to, &message);
        }
        self.end(number, Departure::Shutdown);
    }

    fn cut(&mut self, from: u16, to: u16) {
        self.cut.insert((from, to));
    }

    fn deliver(&mut self, from: u16, to: &Member, message: &Message) {
        let sender = member_of_ours(from);
        let open = |number: &u16| *member_of_ours(*number) == *to && !self.cut.contains(&(from, *number));
        let Some(number) = self.cores.keys().copied().find(open) else { return };
        // As it comes over the wire, if it does.
        let Ok(message) = Message::decode(&Body::new(message.encode())) else { return };
        let is_lost = self.installs_are_lost && matches!(message.kind, Kind::Install(_));
        if !is_lost {
            self.cores.get_mut(&number).unwrap().received(&sender, message, self.now);
        }
    }

    /// All that is to be sent is, and comes at once.
    fn pump(&mut self) {
        let numbers: Vec<_> = self.cores.keys().copied().collect();
        // Far more than there can be.
        for _ in 0..1000 {
            let mut quiet = true;
            for number in &numbers {
                while let Some((to, message)) = self.cores.get_mut(number).and_then(|core| core.next_send(self.now)) {
                    quiet = false;
                    self.cores.get_mut(number).unwrap().sent(&to);
                    self.deliver(*number, &to, &message);
                }
            }
            quiet &= !self.ask_the_store();
            if quiet {
                return;
            }
        }
        panic!("they do not stop talking");
    }

    /// Whether anybody wanted something of it.
    fn ask_the_store(&mut self) -> bool {
        let Some(store) = &mut self.store else { return false };
        let mut asked = false;
        for (number, core) in &mut self.cores {
            while let Some(action) = core.lease_action() {
                asked = true;
                match action {
                    LeaseAction::Acquire(request) => {
                        let reached = !self.cut.contains(&(*number, STORE));
                        let grant = reached.then(|| store.acquire(&request, self.now)).flatten();
                        core.lease_answered(&request, grant, self.now);
                    }
                    LeaseAction::Release(request) => store.release(&request),
                }
            }
        }
        asked
    }

    /// Two that write although the one with the later view is without the other, or under different tokens.
    fn two_sides(&self) -> Option<String> {
        let writes = |(number, core): (&u16, &Core)| Some((*number, core.may_write(self.now)?, core.standing().view?));
        let writing: Vec<_> = self.cores.iter().filter_map(writes).collect();
        writing.iter().flat_map(|one| writing.iter().map(move |other| (one, other))).find_map(|(one, other)| {
            let is_without = one.2.id >= other.2.id && !one.2.members.contains(&member_of_ours(other.0));
            (one.1 != other.1 || is_without).then(|| format!("{one:?} and {other:?} at {:?}", self.now))
        })
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            for core in self.cores.values_mut().filter(|core| core.deadline() <= self.now) {
                core.tick(self.now);
            }
            self.pump();
        }
    }

    fn standing(&self, number: u16) -> Standing {
        self.cores[&number].standing()
    }

    /// Whether these, and nobody else, are in one view.
    fn agree(&self, numbers: &[u16]) -> bool {
        let members: Vec<Arc<Member>> = numbers.iter().map(|number| member_of_ours(*number)).collect();
        let first = self.standing(numbers[0]).view;
        first.as_ref().is_some_and(|view| *view.members == *members)
            && numbers.iter().all(|number| self.standing(*number).view == first)
    }
}

#[test]
fn a_vote_that_was_handed_over_is_handed_on() {
    let mut net = Net::new(Quorum::Static, 5);
    (1..=5).for_each(|number| net.start(number, WALL));
    net.pass(Duration::from_secs(5));
    assert!(net.agree(&[1, 2, 3, 4, 5]) && net.standing(3).may_write);
    // The first gives its vote to the second, which leaves before there is another view; then two die.
    net.leave(1);
    net.leave(2);
    net.end(4, Departure::Failed);
    net.end(5, Departure::Failed);
    net.pass(Duration::from_secs(5));
    assert!(net.agree(&[3]));
    assert!(net.standing(3).may_write, "it has three votes of five: {:?}", net.standing(3));
}

#[test]
fn a_vote_that_was_handed_on_counts_once() {
    let mut net = Net::new(Quorum::Static, 5);
    (1..=5).for_each(|number| net.start(number, WALL));
    net.pass(Duration::from_secs(5));
    // Another has given its vote to no one.
    net.end(1, Departure::Failed);
    net.leave(2);
    net.end(4, Departure::Failed);
    net.end(5, Departure::Failed);
    net.pass(Duration::from_secs(10));
    assert!(net.agree(&[3]) && !net.standing(3).may_write, "two votes of five");
}

/// Of three one is restarted, with a clock that is behind. Who wrote with it is out of reach, and the third had not been let in.
fn token_after_a_restart(defect: Option<Defect>) -> (u64, u64) {
    let mut net = Net::new(Quorum::Static, 3);
    net.defect = defect;
    // The third hears the second, and is not heard by it.
    [(1, 3), (3, 1), (3, 2)].into_iter().for_each(|(from, to)| net.cut(from, to));
    net.start(1, WALL + 3_600_000);
    net.start(2, WALL);
    net.start(3, WALL);
    net.pass(Duration::from_secs(5));
    let before = net.standing(2).token.expect("two of three write");
    assert!(net.agree(&[1, 2]));
    net.end(1, Departure::Failed);
    net.end(2, Departure::Failed);
    net.cut.clear();
    net.start(1, WALL);
    net.pass(Duration::from_secs(10));
    assert!(net.agree(&[1, 3]));
    (before, net.standing(3).token.expect("two of three write"))
}

#[test]
fn a_token_grows_though_who_had_the_last_one_is_gone_and_the_clock_is_behind() {
    let (before, after) = token_after_a_restart(None);
    assert!(after > before, "{after} after {before}");
    let (before, after) = token_after_a_restart(Some(Defect::ViewsUnseen));
    assert!(after < before, "{after} after {before}: then this test shows nothing");
}

/// Somebody whose epochs are as high as can be, or as high as others take for possible.
#[test]
fn no_epoch_stops_a_group_for_ever() {
    for wall in [EPOCH_LIMIT - 4, EPOCH_LIMIT - 2, EPOCH_LIMIT / 2, (1 << 52) + WALL + 1000, (1 << 52) + WALL - 2] {
        for number in [1, 9] {
            let mut net = Net::new(Quorum::Static, 3);
            (2..=4).for_each(|number| net.start(number, WALL));
            net.start(number, wall);
            net.pass(Duration::from_secs(5));
            net.end(number, Departure::Failed);
            net.pass(Duration::from_secs(10));
            assert!(net.agree(&[2, 3, 4]) && net.standing(4).may_write, "{number} from {wall}: {:?}", net.standing(4));
            net.end(2, Departure::Failed);
            net.pass(Duration::from_secs(5));
            assert!(net.agree(&[3, 4]) && net.standing(4).may_write, "{number} from {wall}: {:?}", net.standing(4));
            net.start(2, WALL);
            net.pass(Duration::from_secs(5));
            assert!(net.agree(&[2, 3, 4]) && net.standing(2).may_write, "{number} from {wall}: {:?}", net.standing(2));
        }
    }
}

/// Which way a member that writes on a lease is left behind.
#[derive(Clone, Copy, Debug)]
enum How {
    /// Its leader, which has the lease, goes over to another.
    Merge,
    /// Its leader goes on without it.
    Without,
    /// Its leader leaves.
    Leave,
}

/// The last of three is cut off while it may write, and the others go on. How long it takes until they write again, or who writes
/// beside whom.
fn left_behind(how: How, defect: Option<Defect>) -> Result<Duration, String> {
    let mut net = Net::new(Quorum::None, 0);
    (net.store, net.defect) = (Some(Store::default()), defect);
    // One that would lead, and is not met yet.
    if matches!(how, How::Merge) {
        (2..=4).flat_map(|number| [(1, number), (number, 1)]).for_each(|(from, to)| net.cut(from, to));
        net.start(1, WALL);
        net.cut(1, STORE);
    }
    (2..=4).for_each(|number| net.start(number, WALL));
    net.pass(Duration::from_secs(5));
    assert!(net.agree(&[2, 3, 4]) && (2..=4).all(|number| net.cores[&number].may_write(net.now).is_some()));
    net.cut.clear();
    (0..=3).flat_map(|number| [(4, number), (number, 4)]).for_each(|(from, to)| net.cut(from, to));
    let rest: &[u16] = match how {
        How::Merge => &[1, 2, 3],
        How::Without => {
            // Membership is quicker.
            for number in [2, 3] {
                let gone = MemberEvent::Removed(member_of_ours(4), Departure::Failed);
                net.cores.get_mut(&number).unwrap().event(&gone, net.now);
            }
            &[2, 3]
        }
        How::Leave => {
            net.leave(2);
            &[3]
        }
    };
    let begin = net.now;
    loop {
        net.pass(STEP);
        if let Some(sides) = net.two_sides() {
            return Err(sides);
        }
        if net.agree(rest) && rest.iter().all(|number| net.cores[number].may_write(net.now).is_some()) {
            assert!(net.cores[&4].may_write(net.now).is_none());
            return Ok(net.now - begin);
        }
        assert!(net.now < begin + 3 * LEASE, "{how:?}: nobody writes any more");
    }
}

#[test]
fn a_lease_is_kept_while_others_may_write_on_it() {
    let grace = leased().grace();
    for (how, limit) in [(How::Merge, grace * 2), (How::Without, grace * 2), (How::Leave, LEASE * 3 / 2)] {
        let took = left_behind(how, None).unwrap();
        assert!(took <= limit, "{how:?}: {took:?}");
    }
    for how in [How::Merge, How::Without] {
        assert!(left_behind(how, Some(Defect::LeaseReleasedEarly)).is_err(), "{how:?}: then this test shows nothing");
    }
}

/// Nobody waits for those who have heard of it.
#[test]
fn a_lease_goes_over_at_once_if_all_know() {
    let mut net = Net::new(Quorum::None, 0);
    net.store = Some(Store::default());
    (2..=4).for_each(|number| net.start(number, WALL));
    net.pass(Duration::from_secs(5));
    net.start(1, WALL);
    let begin = net.now;
    while !(1..=4).all(|number| net.cores[&number].may_write(net.now).is_some()) {
        net.pass(STEP);
        assert_eq!(net.two_sides(), None);
        assert!(net.now < begin + Duration::from_millis(700), "{:?}", net.standing(1));
    }
}

/// It takes a leader whose members promise, and never hear what came of it.
#[test]
fn a_group_with_too_many_unconfirmed_views_says_so_and_can_be_told_to_forget() {
    let mut net = Net::new(Quorum::Dynamic, 3);
    net.installs_are_lost = true;
    (1..=3).for_each(|number| net.start(number, WALL));
    let mut told = 0;
    for _ in 0..1000 {
        net.pass(Duration::from_millis(100));
        while let Some(event) = net.cores.get_mut(&1).unwrap().next_event() {
            told += usize::from(matches!(event, ViewEvent::TooManyUnconfirmed { views: MAX_CHAIN, .. }));
        }
    }
    assert!(told > 0, "{:?}", net.cores[&1]);
    net.installs_are_lost = false;
    net.pass(Duration::from_secs(30));
    assert!(net.agree(&[1, 2, 3]) && !net.standing(1).may_write);
    net.cores.get_mut(&2).unwrap().forget(net.now);
    net.pass(Duration::from_secs(10));
    assert!((1..=3).all(|number| net.standing(number).may_write), "{:?}", net.standing(1));
}

//! Members without I/O: what they tell comes in any order that a seed decides, members die, and applications fail.

use super::*;
use crate::digest::Algorithm;
use crate::manifest::Content;
use crate::transfer::{Action as Transfer, Opened, Tuning};

const ROLLING: Activation = Activation::AllStagedThenRolling { max_unavailable: 1 };

fn id(number: usize) -> MemberId {
    MemberId::from_bytes([u8::try_from(number).unwrap() + 1; 16])
}

fn name() -> ArtefactName {
    "plugin.wasm".parse().unwrap()
}

fn manifest(time: u64) -> Manifest {
    let hash = Algorithm::Sha256.digest(&time.to_be_bytes());
    let content = Content { size: 5, algorithm: Algorithm::Sha256, hash, chunk: 1024, list: hash };
    Manifest { version: Version { time, node: 9 }, name: name().to_string(), content: Some(content), signed: None }
}

fn record(time: u64) -> Record {
    (1..=time).fold(None, |known, time| Some(Record::followed_by(known.as_ref(), manifest(time), 3, None))).unwrap()
}

fn replica(me: usize, activation: Activation) -> Replica {
    let config = Config {
        farm: "test".into(),
        me: id(me),
        trust: Trust::Cluster,
        limits: Limits::default(),
        activation,
        receives: true,
        seed: me as u64,
    };
    Replica::new(config, Tuning { parallel_peers: 1, idle_timeout: Duration::from_secs(300), seed: 0 })
}

enum Event {
    Record(usize, u64),
    Told { to: usize, from: usize, number: u64, status: Option<Status> },
    Opened(usize, crate::digest::Digest),
    Judged(usize, Manifest),
    Activated(usize, Manifest, bool),
    Removed(usize),
    Dies(usize),
}

struct Member {
    replica: Replica,
    /// The last number that it took of each other member.
    taken: BTreeMap<usize, u64>,
    activating: bool,
    fails: bool,
    rejects: bool,
    alive: bool,
}

impl Member {
    fn of(replica: Replica) -> Self {
        Self { replica, taken: BTreeMap::new(), activating: false, fails: false, rejects: false, alive: true }
    }
}

struct World {
    members: Vec<Member>,
    events: Vec<Event>,
    rng: fastrand::Rng,
    told: u64,
    /// Whom a partition has set apart, and what it holds back.
    apart: BTreeSet<usize>,
    held: Vec<Event>,
    /// How many activated at the same time at most.
    most: usize,
}

impl World {
    /// `count` members with version 1 live.
    fn new(seed: u64, count: usize, activation: Activation) -> Self {
        let (rng, apart) = (fastrand::Rng::with_seed(seed), BTreeSet::new());
        let mut world =
            Self { members: Vec::new(), events: Vec::new(), rng, told: 0, apart, held: Vec::new(), most: 0 };
        for me in 0..count {
            world.add(me, activation, Some(1));
        }
        world.run();
        world
    }

    fn add(&mut self, me: usize, activation: Activation, live: Option<u64>) {
        let mut replica = replica(me, activation);
        if let Some(time) = live {
            replica.restore(record(time), Some(manifest(time)), None);
        }
        self.members.push(Member::of(replica));
        self.see_each_other();
        if live.is_some() {
            self.members[me].replica.loaded(Time::ZERO);
        }
        self.perform(me);
    }

    /// One more, that hears what all others told; with `live`, it had that before. The record is that of version 2.
    fn join(&mut self, me: usize, activation: Activation, live: Option<u64>, fails: bool) {
        self.add(me, activation, live);
        self.members[me].fails = fails;
        for from in (0..me).filter(|from| self.members[*from].alive) {
            let status = self.members[from].replica.status_of(id(from), &name()).cloned();
            self.events.push(Event::Told { to: me, from, number: self.told, status });
        }
        self.run();
        self.events.push(Event::Record(me, 2));
        self.run();
        self.members[me].replica.loaded(Time::ZERO);
        self.perform(me);
        self.run();
    }

    fn see_each_other(&mut self) {
        let alive: BTreeSet<usize> = (0..self.members.len()).filter(|at| self.members[*at].alive).collect();
        for at in alive.clone() {
            let near = |other: &&usize| **other != at && self.apart.contains(other) == self.apart.contains(&at);
            let others: BTreeSet<_> = alive.iter().filter(near).map(|other| id(*other)).collect();
            self.members[at].replica.members(&others, others.clone(), Time::ZERO);
            self.perform(at);
        }
    }

    fn perform(&mut self, at: usize) {
        for action in self.members[at].replica.take_actions() {
            match action {
                Action::Transfer(Transfer::Open(content)) => self.events.push(Event::Opened(at, content.hash)),
                Action::Judge(_, manifest) => self.events.push(Event::Judged(at, *manifest)),
                Action::Activate { manifest, back, .. } => {
                    self.members[at].activating = true;
                    self.events.push(Event::Activated(at, *manifest, back));
                }
                Action::Remove(_) => self.events.push(Event::Removed(at)),
                Action::Tell(_, status) => {
                    self.told += 1;
                    for to in (0..self.members.len()).filter(|to| *to != at) {
                        let (number, status) = (self.told, status.clone());
                        self.events.push(Event::Told { to, from: at, number, status });
                    }
                }
                _ => {}
            }
        }
        let activating = self.members.iter().filter(|member| member.alive && member.activating).count();
        self.most = self.most.max(activating);
    }

    /// Lets happen what is to happen, in any order.
    fn run(&mut self) {
        for _ in 0..100_000 {
            if self.events.is_empty() {
                return;
            }
            let event = self.events.swap_remove(self.rng.usize(0..self.events.len()));
            self.happens(event);
        }
        panic!("it goes on for ever");
    }

    /// A partition between these and the others; or none any more.
    fn set_apart(&mut self, apart: &[usize]) {
        self.apart = apart.iter().copied().collect();
        self.events.append(&mut self.held);
        self.see_each_other();
    }

    fn happens(&mut self, event: Event) {
        let now = Time::ZERO;
        if let Event::Told { to, from, .. } = &event
            && self.apart.contains(to) != self.apart.contains(from)
        {
            self.held.push(event);
            return;
        }
        let at = match event {
            Event::Record(at, time) => {
                self.members[at].replica.record_changed(name().as_str(), Some(record(time)), now, 0);
                at
            }
            Event::Told { to, from, number, status } => {
                let taken = self.members[to].taken.entry(from).or_default();
                // The map keeps what is later.
                if number > *taken {
                    *taken = number;
                    self.members[to].replica.told(id(from), &name(), status, now);
                }
                to
            }
            Event::Opened(at, hash) => {
                self.members[at].replica.opened(&hash, Ok(Opened::Whole), now);
                at
            }
            Event::Judged(at, manifest) => {
                let verdict = if self.members[at].rejects { Err("no".to_owned()) } else { Ok(()) };
                self.members[at].replica.judged(&name(), &manifest, verdict, now);
                at
            }
            Event::Activated(at, manifest, back) => {
                let member = &mut self.members[at];
                member.activating = false;
                let fails = member.fails && !back && manifest.version.time > 1;
                let before = || member.replica.artefact(&name()).and_then(|artefact| artefact.live.clone());
                let live = if fails { before() } else { Some(manifest.clone()) };
                let ended = Activated { live, failed: fails.then(|| "ill".to_owned()), ill: false };
                member.replica.activated(&name(), &manifest, ended, now);
                at
            }
            Event::Removed(at) => {
                self.members[at].replica.removed(&name(), Ok(()), now);
                at
            }
            Event::Dies(at) => {
                self.members[at].alive = false;
                self.members[at].activating = false;
                self.events
                    .retain(|event| !matches!(event, Event::Activated(who, ..) | Event::Opened(who, _) if *who == at));
                self.see_each_other();
                at
            }
        };
        if self.members[at].alive {
            self.perform(at);
        }
    }

    fn publish(&mut self, time: u64) {
        (0..self.members.len()).for_each(|at| self.events.push(Event::Record(at, time)));
    }

    /// Which version is live at those that are alive.
    fn live(&self) -> Vec<Option<u64>> {
        let alive = self.members.iter().filter(|member| member.alive);
        let live = |member: &Member| Some(member.replica.artefact(&name())?.live.as_ref()?.version.time);
        alive.map(live).collect()
    }

    fn why(&self, at: usize) -> Option<StopReason> {
        Some(self.members[at].replica.artefact(&name())?.stopped.clone()?.why)
    }
}

#[test]
fn a_version_rolls_out_one_after_another() {
    for seed in 0..100 {
        for (activation, most) in [(ROLLING, 1), (Activation::AllStagedThenRolling { max_unavailable: 2 }, 2)] {
            let mut world = World::new(seed, 5, activation);
            world.publish(2);
            world.run();
            assert_eq!(world.live(), [Some(2); 5], "seed {seed}");
            assert!(world.most <= most, "seed {seed}: {} at the same time", world.most);
        }
    }
}

#[test]
fn a_failing_member_takes_all_back() {
    for seed in 0..200 {
        for activation in [ROLLING, Activation::AllStaged] {
            let mut world = World::new(seed, 4, activation);
            let ill = world.rng.usize(0..4);
            world.members[ill].fails = true;
            world.publish(2);
            world.run();
            assert_eq!(world.live(), [Some(1); 4], "seed {seed}");
            assert_eq!(world.why(ill), Some(StopReason::Failed("ill".into())));
            assert!((0..4).all(|at| at == ill || world.why(at) == Some(StopReason::Followed)), "seed {seed}");
            // A later version is another matter.
            world.members[ill].fails = false;
            world.publish(3);
            world.run();
            assert_eq!(world.live(), [Some(3); 4], "seed {seed}");
        }
    }
}

#[test]
fn what_one_rejects_is_live_nowhere() {
    for seed in 0..100 {
        let mut world = World::new(seed, 4, ROLLING);
        world.members[2].rejects = true;
        world.most = 0;
        world.publish(2);
        world.run();
        assert_eq!((world.live(), world.most), (vec![Some(1); 4], 0), "seed {seed}");
        assert_eq!(world.why(2), Some(StopReason::Rejected("no".into())));
    }
}

#[test]
fn what_was_rejected_or_never_looked_at_does_not_go_live_instead() {
    for seed in 0..100 {
        for activation in [Activation::Immediate, Activation::AllStaged, ROLLING] {
            // One after the other, and so fast that the one before may not have been looked at.
            for slowly in [true, false] {
                let mut world = World::new(seed, 3, activation);
                world.members[1].rejects = true;
                for version in 2..=4 {
                    world.publish(version);
                    if slowly {
                        world.run();
                    }
                }
                world.run();
                let alone = activation == Activation::Immediate;
                let others = if alone { 4 } else { 1 };
                assert_eq!(world.live(), [Some(others), Some(1), Some(others)], "seed {seed} {activation:?} {slowly}");
            }
        }
    }
}

#[test]
fn what_is_live_stays_if_nothing_else_is_to_be_had() {
    let mut replica = replica(0, Activation::Immediate);
    replica.restore(record(1), Some(manifest(1)), None);
    replica.loaded(Time::ZERO);
    // Who publishes keeps no earlier versions.
    let alone = Record { current: manifest(2), earlier: vec![] };
    replica.record_changed(name().as_str(), Some(alone), Time::ZERO, 0);
    replica.opened(&manifest(2).content.unwrap().hash, Ok(Opened::Whole), Time::ZERO);
    replica.judged(&name(), &manifest(2), Err("no".into()), Time::ZERO);
    let actions = replica.take_actions();
    assert!(!actions.contains(&Action::Remove(name())), "{actions:?}");
    assert_eq!(replica.artefact(&name()).unwrap().live, Some(manifest(1)));
}

#[test]
fn what_cannot_be_taken_away_is_not_told_as_gone() {
    let mut replica = replica(0, Activation::Immediate);
    replica.restore(record(1), Some(manifest(1)), None);
    replica.loaded(Time::ZERO);
    let removal = Manifest { content: None, ..manifest(2) };
    let removal = Record::followed_by(Some(&record(1)), removal, 3, None);
    replica.record_changed(name().as_str(), Some(removal), Time::ZERO, 0);
    assert!(replica.take_actions().contains(&Action::Remove(name())));
    replica.removed(&name(), Err("no permission".into()), Time::ZERO);
    assert_eq!(replica.status_of(id(0), &name()).unwrap().stage, Stage::Activating);
    // It is tried again.
    assert_eq!(replica.next_wake(Time::ZERO), Time::ZERO + AGAIN);
    replica.take_actions();
    replica.tick(Time::ZERO + AGAIN);
    assert!(replica.take_actions().contains(&Action::Remove(name())));
    replica.removed(&name(), Ok(()), Time::ZERO + AGAIN);
    assert_eq!(replica.status_of(id(0), &name()).unwrap().stage, Stage::Active);
}

/// What has the name is what is said to have it, and going back is tried until it succeeds.
#[test]
fn going_back_is_tried_until_it_succeeds() {
    let mut replica = replica(0, Activation::Immediate);
    replica.restore(record(1), Some(manifest(1)), None);
    replica.loaded(Time::ZERO);
    replica.record_changed(name().as_str(), Some(record(2)), Time::ZERO, 0);
    let opened = |replica: &mut Replica, time: u64| {
        replica.opened(&manifest(time).content.unwrap().hash, Ok(Opened::Whole), Time::ZERO);
    };
    opened(&mut replica, 2);
    replica.judged(&name(), &manifest(2), Ok(()), Time::ZERO);
    // Neither the one nor the other.
    let ended = |time, failed: bool, ill| Activated {
        live: Some(manifest(time)),
        failed: failed.then(|| "disk".to_owned()),
        ill,
    };
    replica.activated(&name(), &manifest(2), ended(2, true, false), Time::ZERO);
    let live = |replica: &Replica| replica.artefact(&name()).unwrap().live.clone();
    assert_eq!(live(&replica), Some(manifest(2)));
    replica.take_actions();
    opened(&mut replica, 1);
    let mut now = Time::ZERO;
    for (time, ill) in [(2, false), (1, true)] {
        let actions = replica.take_actions();
        let back = |action: &Action| matches!(action, Action::Activate { back: true, manifest: of, .. } if **of == manifest(1));
        assert!(actions.iter().any(back), "{actions:?}");
        replica.activated(&name(), &manifest(1), ended(time, true, ill), now);
        assert_eq!(live(&replica), Some(manifest(time)));
        let status = replica.status_of(id(0), &name()).unwrap();
        assert_eq!((status.version.time, status.stage), (1, Stage::Staged));
        replica.take_actions();
        assert_eq!(replica.next_wake(now), now + AGAIN);
        now = now + AGAIN;
        replica.tick(now);
    }
    replica.activated(&name(), &manifest(1), ended(1, false, false), now);
    assert_eq!(replica.status_of(id(0), &name()).unwrap().stage, Stage::Active);
    assert_eq!(replica.next_wake(now), Time::NEVER);
}

#[test]
fn a_version_that_is_not_to_be_believed_leads_nobody_astray() {
    let mut replica = replica(0, Activation::Immediate);
    let far = Manifest { version: Version { time: (1 << 63) - 1, node: 1 }, name: "../x".into(), ..manifest(1) };
    replica.record_changed("../x", Some(Record { current: far, earlier: vec![] }), Time::ZERO, 0);
    assert!(replica.next_version(1000, 9).time < 1 << 40);
}

#[test]
fn alone_each_decides_for_itself() {
    let mut world = World::new(1, 3, Activation::Immediate);
    world.members[0].rejects = true;
    world.members[1].fails = true;
    world.publish(2);
    world.run();
    assert_eq!(world.live(), [Some(1), Some(1), Some(2)]);
}

/// Whoever dies, and whenever: the others come to the end, or all go back if it was ill.
#[test]
fn a_death_does_not_hold_up_a_roll_out() {
    for seed in 0..300 {
        let mut world = World::new(seed, 5, ROLLING);
        let dies = world.rng.usize(0..5);
        world.members[dies].fails = world.rng.bool();
        world.publish(2);
        for _ in 0..world.rng.usize(0..120) {
            if world.events.is_empty() {
                break;
            }
            let event = world.events.swap_remove(world.rng.usize(0..world.events.len()));
            world.happens(event);
        }
        world.events.push(Event::Dies(dies));
        world.run();
        let live = world.live();
        assert!(live == [Some(2); 4] || live == [Some(1); 4], "seed {seed}: {live:?}");
        assert!(world.members[dies].fails || live == [Some(2); 4], "seed {seed}: {live:?}");
    }
}

/// Who was away, also with a failure of its own from there, does without the version alone; so does whoever else comes later, and who
/// was there is not led astray.
#[test]
fn who_returns_and_fails_takes_nobody_back() {
    for seed in 0..200 {
        for activation in [ROLLING, Activation::AllStaged] {
            for knows in [false, true] {
                let mut world = World::new(seed, 4, activation);
                world.set_apart(&[3]);
                world.members[3].fails = true;
                (0..3 + usize::from(knows)).for_each(|at| world.events.push(Event::Record(at, 2)));
                world.run();
                let why = |world: &World| world.why(3).map(|why| matches!(why, StopReason::Unfit(_)));
                assert_eq!(world.live(), [Some(2), Some(2), Some(2), Some(1)], "seed {seed}");
                assert_eq!(why(&world), knows.then_some(false));
                world.set_apart(&[]);
                world.events.push(Event::Record(3, 2));
                world.run();
                assert_eq!(world.live(), [Some(2), Some(2), Some(2), Some(1)], "seed {seed} {activation:?} {knows}");
                assert_eq!(why(&world), Some(!knows));
                for at in 0..4 {
                    assert_eq!(world.members[at].replica.unfit(&name()), None, "{at}");
                    assert!(!world.members[at].replica.is_to_follow(id(0), &name()), "{at}");
                }
                // Some are started anew one after another, and one that was never there comes.
                for (at, live) in [(4, Some(2)), (5, Some(2)), (6, None)] {
                    world.join(at, activation, live, false);
                }
                (0..2).for_each(|at| world.events.push(Event::Dies(at)));
                world.run();
                assert_eq!(world.live(), [Some(2), Some(1), Some(2), Some(2), Some(2)], "seed {seed} {activation:?}");
                // What fails on one that was there when it began is for all.
                world.members[3].fails = false;
                world.members[4].fails = true;
                world.publish(3);
                world.run();
                let live = world.live();
                assert!(live.iter().all(|live| live.is_some_and(|time| time < 3)), "seed {seed}: {live:?}");
            }
        }
    }
}

/// However a group is split and heals while it rolls out: who is well comes to have the version, or all that began with one that is
/// ill go back; and a later version goes everywhere.
#[test]
fn partitions_hold_up_nobody() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let rolling = Activation::AllStagedThenRolling { max_unavailable: 2 };
        for activation in [Activation::AllStaged, ROLLING, rolling] {
            let mut world = World::new(seed, 5, activation);
            let ill = Some(world.rng.usize(0..10)).filter(|ill| *ill < 5);
            if let Some(ill) = ill {
                world.members[ill].fails = true;
            }
            world.publish(2);
            for _ in 0..world.rng.usize(1..6) {
                for _ in 0..world.rng.usize(0..40) {
                    if !world.events.is_empty() {
                        let event = world.events.swap_remove(world.rng.usize(0..world.events.len()));
                        world.happens(event);
                    }
                }
                let apart: Vec<usize> = (0..5).filter(|_| world.rng.bool()).collect();
                world.set_apart(&apart);
            }
            world.set_apart(&[]);
            world.run();
            let live: Vec<_> = world.live().into_iter().map(Option::unwrap).collect();
            match ill {
                None => assert_eq!(live, [2; 5], "seed {seed} {activation:?}"),
                Some(ill) => assert_eq!(live[ill], 1, "seed {seed} {activation:?}"),
            }
            outcomes.insert(live.iter().sum::<u64>());
            world.members.iter_mut().for_each(|member| member.fails = false);
            world.publish(3);
            world.run();
            assert_eq!(world.live(), [Some(3); 5], "seed {seed} {activation:?}");
        }
    }
    assert!(outcomes.contains(&5) && outcomes.contains(&9) && outcomes.contains(&10), "{outcomes:?}");
}

/// All are started anew after one had stopped: nobody takes what was stopped, and nobody goes back who has it.
#[test]
fn after_restarts_what_is_live_stays_and_what_was_stopped_does_not_come() {
    for live in [1, 2] {
        let mut world = World::new(1, 0, ROLLING);
        for me in 0..3 {
            let mut replica = replica(me, ROLLING);
            let stop = Stop { version: manifest(2).version, why: StopReason::Failed("ill".into()) };
            let (live, stopped) = if me == 2 { (1, Some(stop)) } else { (live, None) };
            replica.restore(record(2), Some(manifest(live)), stopped);
            world.members.push(Member::of(replica));
        }
        world.see_each_other();
        for me in 0..3 {
            world.members[me].replica.loaded(Time::ZERO);
            world.perform(me);
        }
        world.run();
        assert_eq!(world.live(), [Some(live), Some(live), Some(1)]);
    }
}

/// Somebody who joins gets what the others have, and if it fails over that, it is its own affair.
#[test]
fn who_joins_holds_up_nobody() {
    for (ill, expected) in [(false, Some(2)), (true, Some(1))] {
        let mut world = World::new(3, 3, ROLLING);
        world.publish(2);
        world.run();
        world.join(3, ROLLING, None, ill);
        assert_eq!(world.live(), [Some(2), Some(2), Some(2), expected], "{ill}");
        assert!(world.members[3].replica.is_ready());
        assert_eq!(matches!(world.why(3), Some(StopReason::Unfit(_))), ill);
    }
}

#[test]
fn a_removal_needs_nobody_s_consent() {
    let mut world = World::new(5, 3, ROLLING);
    let removed = Manifest { content: None, ..manifest(2) };
    for at in 0..3 {
        let record = Record::followed_by(Some(&record(1)), removed.clone(), 3, None);
        world.members[at].replica.record_changed(name().as_str(), Some(record), Time::ZERO, 0);
        world.perform(at);
    }
    world.run();
    assert_eq!(world.live(), [None; 3]);
    // Long after, it is forgotten.
    world.members[0].replica.tick(Time::ZERO + REMEMBER);
    let actions = world.members[0].replica.take_actions();
    assert!(actions.contains(&Action::Forget(name())), "{actions:?}");
}

#[test]
fn what_is_not_to_be_believed_is_refused_and_mended() {
    let mut replica = replica(0, Activation::Immediate);
    let change = |replica: &mut Replica, key: &str, record: Option<Record>| {
        replica.record_changed(key, record, Time::ZERO, 0);
        replica.take_actions()
    };
    let escape = Record { current: Manifest { name: "../../x".into(), ..manifest(1) }, earlier: vec![] };
    let actions = change(&mut replica, "../../x", Some(escape));
    assert_eq!(actions, [Action::Refuse("../../x".into(), Refused::Name)]);
    let huge = Content { size: 3 << 30, chunk: 8 << 20, ..manifest(1).content.unwrap() };
    let huge = Record { current: Manifest { content: Some(huge), ..manifest(1) }, earlier: vec![] };
    let refused = Action::Refuse(name().to_string(), Refused::TooLarge);
    assert_eq!(change(&mut replica, name().as_str(), Some(huge.clone())), [refused]);
    assert_eq!(replica.next_wake(Time::ZERO), Time::NEVER);
    // Over what is good, it is put right again; so is what is older, or gone.
    change(&mut replica, name().as_str(), Some(record(2)));
    for worse in [Some(huge), Some(record(1)), None] {
        change(&mut replica, name().as_str(), worse);
        let wake = replica.next_wake(Time::ZERO);
        assert!(wake >= Time::ZERO + MEND && wake <= Time::ZERO + 2 * MEND, "{wake:?}");
        replica.tick(wake);
        assert!(replica.take_actions().contains(&Action::Mend(name())));
        assert_eq!(replica.artefact(&name()).unwrap().record, record(2));
    }
    // Unless somebody else did.
    change(&mut replica, name().as_str(), None);
    change(&mut replica, name().as_str(), Some(record(2)));
    assert_eq!(replica.next_wake(Time::ZERO), Time::NEVER);
}

#[test]
fn there_is_a_limit_to_all_together() {
    let mut replica = replica(0, Activation::Immediate);
    replica.config.limits = Limits::default().with_artefacts(2).with_total(12);
    let mut take = |name: &str, size: u64| {
        let content = Content { size, ..manifest(1).content.unwrap() };
        let current = Manifest { name: name.into(), content: Some(content), ..manifest(1) };
        replica.record_changed(name, Some(Record { current, earlier: vec![] }), Time::ZERO, 0);
        replica.take_actions().into_iter().find_map(|action| match action {
            Action::Refuse(_, why) => Some(why),
            _ => None,
        })
    };
    assert_eq!(take("a", 5), None);
    assert_eq!(take("b", 8), Some(Refused::Total));
    assert_eq!(take("b", 7), None);
    assert_eq!(take("c", 0), Some(Refused::TooMany));
}

/// What was refused for want of room is looked at again when there is some.
#[test]
fn a_refusal_for_want_of_room_is_not_for_ever() {
    let mut replica = replica(0, Activation::Immediate);
    replica.config.limits = Limits::default().with_artefacts(2).with_total(12);
    let mut take = |name: &str, time: u64, size: Option<u64>| {
        let content = size.map(|size| Content { size, ..manifest(1).content.unwrap() });
        let current = Manifest { name: name.into(), content, ..manifest(time) };
        replica.record_changed(name, Some(Record { current, earlier: vec![] }), Time::ZERO, 0);
        let again = |action: &Action| matches!(action, Action::Again);
        replica.take_actions().iter().any(again)
    };
    assert!(!take("a", 1, Some(8)) && !take("b", 1, Some(8)));
    assert!(!take("a", 2, Some(9)), "no room");
    assert!(take("a", 3, Some(4)), "there is some");
    assert!(!take("b", 1, Some(8)) && !take("a", 4, Some(3)), "nothing is refused any more");
    assert!(!take("c", 1, Some(0)));
    assert!(take("a", 5, None));
}

/// The clock of who removes it is weeks behind, or far ahead: that decides nothing, and neither does a restart.
#[test]
fn a_removal_is_as_old_as_it_is_known() {
    let week = u64::try_from(REMEMBER.as_millis()).unwrap();
    for (wall_ms, loaded) in [(0, true), (9 * week, true), (9 * week, false)] {
        let mut replica = replica(0, Activation::Immediate);
        if loaded {
            replica.loaded(Time::ZERO);
        }
        let removal = Record { current: Manifest { content: None, ..manifest(2) }, earlier: vec![] };
        let forgets = |replica: &mut Replica, now: Time| {
            replica.tick(now);
            replica.take_actions().contains(&Action::Forget(name()))
        };
        replica.record_changed(name().as_str(), Some(removal.clone()), Time::ZERO, wall_ms);
        let age = if loaded { Duration::ZERO } else { REMEMBER / 2 };
        assert!(!forgets(&mut replica, Time::ZERO + (REMEMBER - age - Duration::from_secs(1))), "{wall_ms} {loaded}");
        assert!(forgets(&mut replica, Time::ZERO + (REMEMBER - age)), "{wall_ms} {loaded}");
        replica.restore(removal, None, None);
        replica.was_removed(&name(), REMEMBER / 4, Time::ZERO);
        assert_eq!(replica.artefact(&name()).unwrap().removed_for(Time::ZERO), Some(REMEMBER / 4));
        assert!(!forgets(&mut replica, Time::ZERO + REMEMBER / 2));
        assert!(forgets(&mut replica, Time::ZERO + REMEMBER));
    }
}

/// A group forgets when most of the time has passed with this member, and not before.
#[test]
fn a_removal_that_is_forgotten_too_early_is_put_back() {
    let mut replica = replica(0, Activation::Immediate);
    replica.loaded(Time::ZERO);
    let removal = Record { current: Manifest { content: None, ..manifest(2) }, earlier: vec![] };
    replica.record_changed(name().as_str(), Some(removal), Time::ZERO, 1 << 60);
    let early = Time::ZERO + (REMEMBER / 2 - Duration::from_secs(10));
    replica.record_changed(name().as_str(), None, early, 1 << 60);
    replica.tick(early + 2 * MEND);
    assert!(replica.take_actions().contains(&Action::Mend(name())));
    replica.record_changed(name().as_str(), None, Time::ZERO + REMEMBER / 2, 0);
    assert!(replica.take_actions().contains(&Action::Forget(name())));
}

#[test]
fn progress_is_told_now_and_then() {
    let mut replica = replica(0, Activation::Immediate);
    let mut large = manifest(1);
    let content = large.content.as_mut().unwrap();
    content.size = 4096;
    let (content, list) = (*content, [content.hash; 4]);
    let peer = BTreeSet::from([id(5)]);
    replica.members(&peer, BTreeSet::new(), Time::ZERO);
    replica.record_changed(name().as_str(), Some(Record { current: large, earlier: vec![] }), Time::ZERO, 0);
    replica.opened(&content.hash, Ok(Opened::Part(list.into(), vec![false; 4])), Time::ZERO);
    let told = |replica: &mut Replica, index, ms| {
        replica.pulled(&content.hash, id(5), index, Ok(()), Time::from_millis(ms));
        let tell = |action| match action {
            Action::Tell(_, Some(status)) => Some(status.stage),
            _ => None,
        };
        replica.take_actions().into_iter().filter_map(tell).collect::<Vec<_>>()
    };
    told(&mut replica, 9, 0);
    assert_eq!(told(&mut replica, 0, 1), []);
    assert_eq!(told(&mut replica, 1, 600), [Stage::Fetching { done: 2048 }]);
    assert_eq!(told(&mut replica, 2, 700), []);
}

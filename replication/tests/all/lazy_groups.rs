//! Whole groups of channels with a lazy map each, on the simulated network, under every fault that it has: in the end each key
//! is with its holders and nobody else, all of them hold the same, and nothing is lost that all holders had acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stderr, reason = "the figures are part of what they show")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::Channel;
use tribes_replication::{Dot, Incarnation, LazyReplicatedMap, MapError, Version};
use tribes_testkit::checkers::AcknowledgedWritesKept;
use tribes_testkit::net::{LinkConfig, Node};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Run, Simulation, World};

/// How many seeds are run unless the environment says otherwise, as the gate does.
const SEEDS: u64 = 20;
/// In which time all are to be equal after the last fault.
const BOUND: Duration = Duration::from_secs(40);

/// How many members can be lost at once, and nothing with them.
const BACKUPS: usize = 1;

type Map = LazyReplicatedMap<String, u64>;
type Log = Arc<Mutex<Vec<Event>>>;

/// What was done to a key, in the order in which it was begun and came to its end.
enum Event {
    /// A put, or a removal.
    Begun { key: String, value: Option<u64>, attempt: u64 },
    /// Made; acknowledged by all holders, or not. If it took long another holder may have made it, too, whose version is not
    /// known: then it is a write in conflict with what others wrote in between.
    Made { attempt: u64, version: Version, acknowledged: bool, twice: bool },
    /// There was nothing to do.
    Nothing { attempt: u64 },
}

/// A place in the group, and the process that lives there, if one does.
struct Place {
    node: Node,
    process: Option<(Channel, Map)>,
    frozen: bool,
    /// It is leaving, and nobody has taken over yet what it holds.
    leaving: bool,
}

struct Group {
    world: World,
    rng: fastrand::Rng,
    places: Vec<Place>,
    log: Log,
    split: bool,
    next: u64,
}

impl Group {
    async fn new(world: World, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x1A_2700);
        let size = if rng.u8(0..20) == 0 { rng.usize(10..=20) } else { rng.usize(3..=7) };
        let places =
            (0..size).map(|_| Place { node: world.node(), process: None, frozen: false, leaving: false }).collect();
        let mut group = Self { world, rng, places, log: Log::default(), split: false, next: 0 };
        for place in 0..size {
            group.start(place).await;
        }
        group
    }

    async fn start(&mut self, place: usize) {
        let place = &mut self.places[place];
        let env = place.node.sim_env();
        let skew = self.rng.i64(-600_000..600_000) * i64::from(self.rng.bool());
        let channel = place.node.join(Channel::builder()).build().unwrap();
        env.step_wall_clock(skew);
        channel.start().await.unwrap();
        let map = Map::builder("faults").backups(BACKUPS).open(&channel).unwrap();
        place.process = Some((channel, map));
        (place.frozen, place.leaving) = (false, false);
    }

    fn map(&self, place: usize) -> Option<&Map> {
        self.places[place].process.as_ref().map(|(_, map)| map)
    }

    fn up(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|place| self.map(*place).is_some()).collect()
    }

    /// Somebody writes something; how it ends is noted when it does.
    fn write(&mut self) {
        let place = self.rng.usize(0..self.places.len());
        let Some(map) = self.map(place).cloned() else { return };
        self.next += 1;
        let (key, attempt) = (format!("key {}", self.rng.u8(0..60)), self.next);
        let value = (self.rng.u8(0..5) > 0).then_some(attempt);
        let log = Arc::clone(&self.log);
        log.lock().unwrap().push(Event::Begun { key: key.clone(), value, attempt });
        let env = self.places[place].node.env();
        let begun = env.now();
        env.clone().spawn(async move {
            let made = match value {
                Some(value) => map.put(&key, &value).await.map(Some),
                None => map.remove(&key).await,
            };
            // As long as one holder has to answer.
            let twice = env.now() - begun >= Duration::from_secs(1);
            let event = match made {
                Ok(Some(made)) => Event::Made { attempt, version: made.version, acknowledged: true, twice },
                Ok(None) => Event::Nothing { attempt },
                Err(MapError::NotAcknowledged { version, .. }) => {
                    Event::Made { attempt, version, acknowledged: false, twice }
                }
                Err(_) => return,
            };
            log.lock().unwrap().push(event);
        });
    }

    /// The checker of what was done, with what is there in the end. Of an attempt that nobody answered, or that was made twice,
    /// the version is not known but for what is there in the end.
    fn kept(&self, finally: &BTreeMap<String, (u64, Version)>) -> AcknowledgedWritesKept<String, Version> {
        let log = self.log.lock().unwrap();
        let mut made = BTreeMap::new();
        let mut nothing = Vec::new();
        for event in log.iter() {
            match event {
                Event::Made { attempt, version, twice, .. } => {
                    made.insert(*attempt, (*version, *twice));
                }
                Event::Nothing { attempt } => nothing.push(*attempt),
                Event::Begun { .. } => {}
            }
        }
        let unknown = Version { time: u64::MAX, dot: Dot { node: Incarnation::new(0), counter: 0 } };
        let (mut kept, mut keys) = (AcknowledgedWritesKept::default(), BTreeMap::new());
        for event in log.iter() {
            match event {
                Event::Begun { key, value, attempt } => {
                    keys.insert(*attempt, key.clone());
                    let last = finally.get(key).filter(|(last, _)| *value == Some(*last)).map(|(_, version)| *version);
                    let version = made.get(attempt).map(|(version, _)| *version);
                    if value.is_none() && made.get(attempt).is_some_and(|(_, twice)| *twice) {
                        kept.wrote(key.clone(), unknown, true);
                    }
                    if let Some(version) = version.or(last) {
                        kept.wrote(key.clone(), version, value.is_none());
                    } else if value.is_none() && !nothing.contains(attempt) {
                        kept.wrote(key.clone(), unknown, true);
                    }
                    if let Some(last) = last.filter(|last| version.is_some_and(|version| version != *last)) {
                        kept.wrote(key.clone(), last, false);
                    }
                }
                Event::Made { attempt, version, acknowledged: true, .. } => kept.acknowledged(&keys[attempt], *version),
                Event::Made { .. } | Event::Nothing { .. } => {}
            }
        }
        finally.iter().for_each(|(key, (_, version))| kept.finally(key.clone(), *version));
        kept
    }

    /// Whether each key is with those that are to hold it, as all of them see it, and with nobody else, alike; what is there.
    async fn placed(&self) -> Result<BTreeMap<String, (u64, Version)>, String> {
        let mut found = BTreeMap::<String, BTreeMap<usize, (u64, Version)>>::new();
        let others = self.up().len() - 1;
        for place in self.up() {
            let (channel, map) = self.places[place].process.as_ref().unwrap();
            let stats = map.stats();
            if self.places[place].leaving || !map.is_ready() || stats.fetching > 0 || stats.surplus.shards > 0 {
                return Err(format!("member {place} has not settled: {stats:?}"));
            }
            if channel.view().len() != others {
                return Err(format!("member {place} sees {} others of {others}", channel.view().len()));
            }
            for (key, value) in map.held() {
                // It is here: nobody is asked.
                let version = map.version(&key).await.map_err(|error| error.to_string())?;
                found.entry(key).or_default().insert(place, (value, version.unwrap()));
            }
        }
        let copies = (BACKUPS + 1).min(self.up().len());
        let mut finally = BTreeMap::new();
        for (key, holders) in found {
            let mut values: Vec<_> = holders.values().copied().collect();
            values.dedup();
            if holders.len() != copies || values.len() != 1 {
                return Err(format!("{key} is at {holders:?}, and {copies} are to hold it"));
            }
            finally.insert(key, values[0]);
        }
        Ok(finally)
    }

    async fn fault(&mut self) {
        let size = self.places.len();
        let (one, other) = (self.rng.usize(0..size), self.rng.usize(0..size));
        match self.rng.u8(0..14) {
            0..=2 => {
                let sides: Vec<bool> = (0..size).map(|_| self.rng.bool()).collect();
                let side = |wanted: bool| -> Vec<&Node> {
                    self.places.iter().zip(&sides).filter(|(_, side)| **side == wanted).map(|(p, _)| &p.node).collect()
                };
                self.world.net().partition(&[&side(true), &side(false)]);
                self.split = true;
            }
            3 if one != other => {
                self.world.net().cut_one_way(&self.places[one].node, &self.places[other].node);
                self.split = true;
            }
            4..=6 => {
                self.world.net().heal();
                self.split = false;
            }
            7 if self.places[one].process.is_some() => {
                let place = &mut self.places[one];
                place.frozen = !place.frozen;
                if place.frozen { place.node.freeze() } else { place.node.thaw() }
            }
            8..=10 => {
                // What was acknowledged is with all holders; that so many die as there are backups must not lose it. That
                // holds for the next one when it has been replaced.
                let calm = !self.split && self.places.iter().all(|place| !place.frozen && !place.leaving);
                let settled = calm && self.placed().await.is_ok();
                if settled && self.up().len() > 2 && self.places[one].process.is_some() {
                    let place = &mut self.places[one];
                    place.process = None;
                    if self.rng.bool() { place.node.crash() } else { place.node.power_off() }
                }
            }
            11 if !self.places[one].frozen && self.up().len() > 2 => {
                if let Some((_, map)) = &self.places[one].process {
                    // If it cannot hand over what it holds because of what else is wrong, it stays until the end.
                    let left = map.leave(Duration::from_secs(30)).await.is_ok();
                    self.places[one].leaving = !left;
                    if left {
                        self.places[one].process = None;
                        self.places[one].node.crash();
                    }
                }
            }
            _ => {
                if self.places[one].process.is_none() {
                    self.start(one).await;
                }
            }
        }
    }

    /// Everybody is there and can reach everybody.
    async fn mend(&mut self) -> Result<(), String> {
        self.world.note("the last fault is over");
        self.world.net().heal();
        self.world.net().set_links(LinkConfig::default());
        for place in 0..self.places.len() {
            if self.places[place].frozen {
                self.places[place].node.thaw();
            }
        }
        for place in 0..self.places.len() {
            if self.places[place].leaving {
                let map = self.map(place).unwrap();
                map.leave(BOUND).await.map_err(|error| format!("member {place}: {error}"))?;
                self.places[place].process = None;
                self.places[place].node.crash();
            }
            if self.places[place].process.is_none() {
                self.start(place).await;
            }
        }
        Ok(())
    }
}

/// What a run came to.
struct Found {
    acknowledged: usize,
    equal_after: Duration,
}

fn run(seed: u64, traced: bool) -> Run<Result<Found, String>> {
    let simulation = Simulation::new(seed).quiet();
    let simulation = if traced { simulation } else { simulation.untraced() };
    simulation.run(async |world| {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x11_4E7);
        let links = LinkConfig::default()
            .with_loss(rng.choice([0.0, 0.0, 0.05, 0.2]).unwrap())
            .with_duplicate(rng.choice([0.0, 0.1]).unwrap())
            .with_reorder(rng.choice([0.0, 0.3]).unwrap(), Duration::from_millis(100));
        world.net().set_links(links);
        let mut group = Group::new(world.clone(), seed).await;
        for _ in 0..rng.u32(20..60) {
            for _ in 0..rng.u8(0..5) {
                group.write();
            }
            world.sleep(Duration::from_millis(rng.u64(0..900))).await;
            if rng.u8(0..3) == 0 {
                group.fault().await;
            }
        }
        // What is under way ends; the longest takes 15 s.
        group.mend().await?;
        let mended = world.env().now();
        world.sleep(Duration::from_secs(20)).await;
        let finally = loop {
            match group.placed().await {
                Ok(finally) => break finally,
                Err(why) if world.env().now() - mended > BOUND => {
                    return Err(format!("not as it is to be {BOUND:?} after the last fault: {why}"));
                }
                Err(_) => world.sleep(Duration::from_millis(250)).await,
            }
        };
        let equal_after = world.env().now() - mended;
        let acknowledged = group.kept(&finally).check().map_err(|found| found.to_string())?;
        Ok(Found { acknowledged, equal_after })
    })
}

#[test]
fn all_is_where_it_is_to_be_and_nothing_acknowledged_is_lost() {
    let (mut acknowledged, mut longest, mut count) = (0, Duration::ZERO, 0);
    let command = "cargo test -p tribes-replication --test all \
        lazy_groups::all_is_where_it_is_to_be_and_nothing_acknowledged_is_lost";
    Seeds::from_env_or(SEEDS).run(command, |seed| match run(seed, false).value {
        Ok(found) => {
            acknowledged += found.acknowledged;
            longest = longest.max(found.equal_after);
            count += 1;
        }
        Err(violation) => panic!("seed {seed}: {violation}"),
    });
    eprintln!("{count} groups, {acknowledged} acknowledged writes, all settled within {longest:?} of the last fault");
    assert!(acknowledged > 0);
}

/// What was found once: a primary that had been frozen carried out a removal that was given up long since (25); a removal of
/// which it is not known whether it was made counted as none (18).
#[test]
fn what_was_found_stays_mended() {
    for seed in [18, 25] {
        if let Err(violation) = run(seed, false).value {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [2, 5] {
        let (one, two) = (run(seed, true), run(seed, true));
        assert!(one.trace.len() > 1000);
        assert_eq!(one.trace.join("\n"), two.trace.join("\n"), "seed {seed}");
    }
}

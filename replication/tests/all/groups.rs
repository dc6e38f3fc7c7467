//! Whole groups of channels with a map each, on the simulated network, under every fault that it has: in the end all maps
//! hold the same, and nothing is lost that a majority had acknowledged.
//!
//! The same faults on the replica alone, without channels, run under many more seeds: `src/core/tests/faults.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stderr, reason = "the figures are part of what they show")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::Channel;
use tribes_replication::{Durability, ReplicatedMap, Version};
use tribes_testkit::checkers::{AcknowledgedWritesKept, ReplicasEqual};
use tribes_testkit::net::{LinkConfig, Node};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Run, Simulation, World};

/// How many seeds are run unless the environment says otherwise, as the gate does.
const SEEDS: u64 = 20;
/// In which time all are to be equal after the last fault.
const BOUND: Duration = Duration::from_secs(40);

type Map = ReplicatedMap<String, u64>;
type Kept = Arc<Mutex<AcknowledgedWritesKept<String, Version>>>;

/// A place in the group, and the process that lives there, if one does.
struct Place {
    node: Node,
    process: Option<(Channel, Map)>,
    frozen: bool,
}

struct Group {
    world: World,
    rng: fastrand::Rng,
    places: Vec<Place>,
    kept: Kept,
    split: bool,
    next: u64,
}

impl Group {
    async fn new(world: World, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x96_0095);
        let size = if rng.u8(0..20) == 0 { rng.usize(10..=50) } else { rng.usize(3..=7) };
        let places = (0..size).map(|_| Place { node: world.node(), process: None, frozen: false }).collect();
        let mut group = Self { world, rng, places, kept: Kept::default(), split: false, next: 0 };
        for place in 0..size {
            group.start(place).await;
        }
        group
    }

    async fn start(&mut self, place: usize) {
        let size = self.places.len();
        let place = &mut self.places[place];
        let env = place.node.sim_env();
        let skew = self.rng.i64(-600_000..600_000) * i64::from(self.rng.bool());
        let channel = place.node.join(Channel::builder()).build().unwrap();
        env.step_wall_clock(skew);
        channel.start().await.unwrap();
        let map = Map::builder("faults").group_size(size).open(&channel).unwrap();
        place.process = Some((channel, map));
        place.frozen = false;
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
        let (key, value) = (format!("key {}", self.rng.u8(0..30)), self.next);
        let removal = self.rng.u8(0..5) == 0;
        let kept = Arc::clone(&self.kept);
        let durability = Durability::majority(Duration::from_secs(5));
        let writing = if removal {
            map.begin_remove(&key, durability).unwrap()
        } else {
            Some(map.begin_put(&key, &value, durability).unwrap())
        };
        let Some(writing) = writing else { return };
        kept.lock().unwrap().wrote(key.clone(), writing.version(), removal);
        self.places[place].node.env().spawn(async move {
            if let Ok(written) = writing.await {
                kept.lock().unwrap().acknowledged(&key, written.version);
            }
        });
    }

    fn equal(&self) -> Result<usize, tribes_testkit::checkers::Violations> {
        let mut equal = ReplicasEqual::default();
        for place in self.up() {
            let map = self.map(place).unwrap();
            let entries = map.snapshot().into_iter().map(|(key, value)| {
                let version = map.version(&key);
                (key, (value, version))
            });
            equal.holds(format!("member {place}"), entries);
        }
        equal.check()
    }

    fn is_ready(&self) -> bool {
        self.up().into_iter().all(|place| self.map(place).unwrap().is_ready())
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
                // What was acknowledged is with a majority; that a minority dies must not lose it. That holds for the next one
                // when all have it again.
                let up = self.up();
                let settled = !self.split && self.is_ready() && self.equal().is_ok();
                if settled && up.len() > size / 2 + 1 && self.places[one].process.is_some() {
                    let place = &mut self.places[one];
                    place.process = None;
                    if self.rng.bool() { place.node.crash() } else { place.node.power_off() }
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
    async fn mend(&mut self) {
        self.world.note("the last fault is over");
        self.world.net().heal();
        self.world.net().set_links(LinkConfig::default());
        for place in 0..self.places.len() {
            if self.places[place].process.is_none() {
                self.start(place).await;
            } else if self.places[place].frozen {
                self.places[place].node.thaw();
            }
        }
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
        // What is under way ends.
        group.mend().await;
        let mended = world.env().now();
        world.sleep(Duration::from_secs(6)).await;
        let equal = world.until(BOUND, || group.is_ready() && group.equal().is_ok()).await;
        let equal_after = world.env().now() - mended;
        if !equal {
            let found = group.equal().err().map_or_else(|| "not ready".to_owned(), |found| found.to_string());
            return Err(format!("not equal {BOUND:?} after the last fault: {found}"));
        }
        let mut kept = group.kept.lock().unwrap().clone();
        let map = group.map(0).unwrap();
        let finally: BTreeMap<String, Version> =
            map.iter().filter_map(|(key, _)| map.version(&key).map(|version| (key, version))).collect();
        finally.into_iter().for_each(|(key, version)| kept.finally(key, version));
        let acknowledged = kept.check().map_err(|found| found.to_string())?;
        Ok(Found { acknowledged, equal_after })
    })
}

#[test]
fn all_become_equal_and_nothing_acknowledged_is_lost() {
    let (mut acknowledged, mut longest, mut count) = (0, Duration::ZERO, 0);
    let command =
        "cargo test -p tribes-replication --test all groups::all_become_equal_and_nothing_acknowledged_is_lost";
    Seeds::from_env_or(SEEDS).run(command, |seed| match run(seed, false).value {
        Ok(found) => {
            acknowledged += found.acknowledged;
            longest = longest.max(found.equal_after);
            count += 1;
        }
        Err(violation) => panic!("seed {seed}: {violation}"),
    });
    eprintln!("{count} groups, {acknowledged} acknowledged writes, all equal within {longest:?} of the last fault");
    assert!(acknowledged > 0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [2, 5] {
        let (one, two) = (run(seed, true), run(seed, true));
        assert!(one.trace.len() > 1000);
        assert_eq!(one.trace.join("\n"), two.trace.join("\n"), "seed {seed}");
    }
}

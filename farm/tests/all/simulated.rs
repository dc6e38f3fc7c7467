//! Whole groups on the simulated network, with real files: under loss, repetition, reordering, partitions and crashes in
//! mid-transfer nothing that was not published is ever live, and in the end all have the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribes_core::Channel;
use tribes_core::rpc::{Reply, RpcChannel};
use tribes_farm::{Activated, Activation, Farm, Refused, Trust};
use tribes_replication::{Conflicts, ReplicatedMap};
use tribes_testkit::net::{LinkConfig, Node};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{Simulation, World};

use crate::common::{Folders, bytes};

/// How many seeds are run unless the environment says otherwise.
const SEEDS: u64 = 12;
/// In which time all are to be equal after the last fault: calls that were lost on the way take 10 s to end.
const BOUND: Duration = Duration::from_secs(180);

/// A place in the group, its folders, and the process that lives there, if one does.
struct Place {
    node: Node,
    folders: Folders,
    process: Option<(Channel, Farm)>,
}

struct Group {
    world: World,
    rng: fastrand::Rng,
    activation: Activation,
    places: Vec<Place>,
    /// All contents that were ever published under a name.
    published: BTreeMap<String, BTreeSet<Vec<u8>>>,
    crashes: usize,
}

impl Group {
    async fn new(world: World, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xFA_2137);
        let rolling = Activation::AllStagedThenRolling { max_unavailable: 1 };
        let activation = rng.choice([Activation::Immediate, Activation::AllStaged, rolling]).unwrap();
        let place = |_| Place { node: world.node(), folders: Folders::new(), process: None };
        let places: Vec<_> = (0..rng.usize(3..=5)).map(place).collect();
        let (count, published) = (places.len(), BTreeMap::new());
        let mut group = Self { world, rng, activation, places, published, crashes: 0 };
        for place in 0..count {
            group.start(place).await;
        }
        group
    }

    async fn start(&mut self, at: usize) {
        let place = &mut self.places[at];
        let channel = place.node.join(Channel::builder()).build().unwrap();
        channel.start().await.unwrap();
        // Until what the process before was about has ended, the folders are in use.
        for _ in 0..1000 {
            let builder = place.folders.farm(&channel).activation(self.activation);
            if let Ok(farm) = builder.start().await {
                place.process = Some((channel, farm));
                return;
            }
            self.world.sleep(Duration::from_millis(1)).await;
        }
        panic!("the folders stay in use");
    }

    fn farm(&self, at: usize) -> Option<&Farm> {
        self.places[at].process.as_ref().map(|(_, farm)| farm)
    }

    fn farms(&self) -> impl Iterator<Item = (&Folders, &Farm)> {
        self.places.iter().filter_map(|place| Some((&place.folders, &place.process.as_ref()?.1)))
    }

    async fn publish(&mut self) {
        let (at, number) = (self.rng.usize(0..self.places.len()), self.rng.u8(0..4));
        let name = format!("dir{}/file{number}", number % 2);
        let Some(farm) = self.farm(at).cloned() else { return };
        if self.rng.u8(0..6) == 0 {
            let _unknown = farm.remove(&name).await;
            return;
        }
        let size = self.rng.choice([0, 1, 10_240, 20_480, 30_000, 300_000]).unwrap();
        let content = bytes(size, self.rng.u64(..));
        self.published.entry(name.clone()).or_default().insert(content.clone());
        farm.publish_bytes(&name, content).await.unwrap();
    }

    async fn fault(&mut self) {
        let at = self.rng.usize(0..self.places.len());
        match self.rng.u8(0..8) {
            0 => {
                let sides: Vec<bool> = self.places.iter().map(|_| self.rng.bool()).collect();
                let side = |wanted: bool| -> Vec<&Node> {
                    self.places.iter().zip(&sides).filter(|(_, side)| **side == wanted).map(|(p, _)| &p.node).collect()
                };
                self.world.net().partition(&[&side(true), &side(false)]);
            }
            1 | 2 => self.world.net().heal(),
            3 | 4 if self.places[at].process.is_some() => {
                self.places[at].process = None;
                self.places[at].node.crash();
                self.crashes += 1;
            }
            _ if self.places[at].process.is_none() => self.start(at).await,
            _ => {}
        }
    }

    /// Nothing is live that was not published under that name, or only a part of it.
    fn check_live(&self) {
        for place in &self.places {
            for (name, contents) in &self.published {
                let live = place.folders.read(name);
                assert!(live.is_none_or(|live| contents.contains(&live)), "{name} is live, and was never published so");
            }
        }
    }

    /// All have the same versions, live.
    fn is_equal(&self) -> bool {
        let of = |(folders, farm): (&Folders, &Farm)| {
            let state = |status: tribes_farm::ArtefactStatus| {
                let is_live = status.size.is_none() && status.live.is_none() || status.live == Some(status.version);
                let content = folders.read(status.name.as_str());
                is_live.then_some((status.name, status.version, content))
            };
            farm.status().into_iter().map(state).collect::<Option<Vec<_>>>()
        };
        let states: Vec<_> = self.farms().map(of).collect();
        states[0].is_some() && states.iter().all(|state| *state == states[0])
    }
}

fn run(seed: u64) -> (usize, usize) {
    let run = Simulation::new(seed).quiet().untraced().run(async |world| {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x11_4E7);
        let links = LinkConfig::default()
            .with_loss(rng.choice([0.0, 0.0, 0.02, 0.1]).unwrap())
            .with_duplicate(rng.choice([0.0, 0.1]).unwrap())
            .with_reorder(rng.choice([0.0, 0.3]).unwrap(), Duration::from_millis(50));
        world.net().set_links(links);
        let mut group = Group::new(world.clone(), seed).await;
        for _ in 0..rng.u32(15..40) {
            if rng.bool() {
                group.publish().await;
            }
            world.sleep(Duration::from_millis(rng.u64(0..400))).await;
            if rng.u8(0..3) == 0 {
                group.fault().await;
            }
            group.check_live();
        }
        world.net().heal();
        world.net().set_links(LinkConfig::default());
        for at in 0..group.places.len() {
            if group.farm(at).is_none() {
                group.start(at).await;
            }
        }
        let equal = world.until(BOUND, || group.farms().all(|(_, farm)| farm.is_ready()) && group.is_equal()).await;
        group.check_live();
        let status: Vec<_> = group.farms().map(|(_, farm)| farm.status()).collect();
        assert!(equal, "seed {seed}: not equal {BOUND:?} after the last fault: {status:#?}");
        (status[0].len(), group.crashes)
    });
    run.value
}

#[test]
fn all_come_to_have_the_same_and_nothing_else_is_ever_live() {
    let (mut artefacts, mut crashes) = (0, 0);
    Seeds::from_env_or(SEEDS).run("cargo test -p tribes-farm --test all simulated", |seed| {
        let (found, crashed) = run(seed);
        artefacts += found;
        crashes += crashed;
    });
    assert!(artefacts > 0 && (crashes > 0 || std::env::var_os("TRIBES_SEED").is_some()), "{artefacts} {crashes}");
}

/// What a member that means ill says: the shape of a record, with whatever in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    current: Claim,
    earlier: Vec<Claim>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Claim {
    version: When,
    name: String,
    content: Option<What>,
    signed: Option<()>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct When {
    time: u64,
    node: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct What {
    size: u64,
    algorithm: String,
    hash: Hash,
    chunk: u32,
    list: Hash,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Hash(Vec<u8>);

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

fn claim(name: &str, size: u64, chunk: u32) -> Said {
    let hash = Hash(vec![7; 32]);
    let content = What { size, algorithm: "Sha256".into(), hash: hash.clone(), chunk, list: hash };
    let current = Claim { version: When { time: 5, node: 5 }, name: name.into(), content: Some(content), signed: None };
    Said { current, earlier: vec![] }
}

/// Row 25, and numbers that cannot be: whatever a member says is refused, counted, and harms nothing.
#[test]
fn what_a_hostile_member_says_is_refused() {
    Simulation::new(25).quiet().run(async |world| {
        let (one, hostile) =
            (world.join(Channel::builder()).build().unwrap(), world.join(Channel::builder()).build().unwrap());
        one.start().await.unwrap();
        hostile.start().await.unwrap();
        let folders = Folders::new();
        let farm = folders.farm(&one).start().await.unwrap();
        let map: ReplicatedMap<String, Said> =
            ReplicatedMap::builder("farm:test").conflicts(Conflicts::keep_all()).open(&hostile).unwrap();
        map.ready().await;
        farm.ready().await;
        for (key, said) in [
            ("../../x", claim("../../x", 5, 1024)),
            ("/etc/passwd", claim("/etc/passwd", 5, 1024)),
            ("a\\b", claim("a\\b", 5, 1024)),
            ("nul.txt", claim("nul.txt", 5, 1024)),
            ("other", claim("name", 5, 1024)),
            ("zero", claim("zero", 5, 0)),
            ("many", claim("many", u64::MAX, 1024)),
            ("large", claim("large", 3 << 30, 8 << 20)),
            ("wide", claim("wide", 5, u32::MAX)),
        ] {
            map.put(key, &said).await.unwrap();
        }
        let expected = BTreeMap::from([(Refused::Name, 5), (Refused::Malformed, 3), (Refused::TooLarge, 1)]);
        let refused = farm.changed(|farm| farm.stats().refused == expected);
        if tokio::time::timeout(Duration::from_secs(60), refused).await.is_err() {
            panic!("{:?}", farm.stats().refused);
        }
        assert_eq!(farm.status(), []);
        assert!(!folders.of("x").exists() && std::fs::read_dir(folders.of("live")).unwrap().next().is_none());
        // And what is right still goes.
        let good = farm.publish_bytes("good", "x").await.unwrap();
        good.wait(Activated::Everywhere).await.unwrap();
    });
}

/// What a member tells of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    receives: bool,
    status: Option<()>,
}

/// Row 24: a member that answers with other bytes than it was asked for. They never get a name; what is missing comes from somebody
/// else.
#[test]
fn a_corrupting_member_costs_time_only() {
    Seeds::from_env_or(3).run("cargo test -p tribes-farm --test all corrupting", |seed| {
        Simulation::new(seed).quiet().run(async |world| {
            let channels: Vec<Channel> = (0..3).map(|_| world.join(Channel::builder()).build().unwrap()).collect();
            for channel in &channels {
                channel.start().await.unwrap();
            }
            let corrupting = &channels[2];
            let _rpc = RpcChannel::builder("farm:test")
                .handler(|request| {
                    // What looks like an answer, of some length.
                    let len = request.bytes().len() * 97 % 10_241;
                    std::future::ready(Ok(Reply::from([vec![1], vec![9; len]].concat())))
                })
                .open(corrupting)
                .unwrap();
            let told: ReplicatedMap<String, Told> =
                ReplicatedMap::builder("farm:test:members").open(corrupting).unwrap();
            let told_of_itself = Told { receives: false, status: None };
            told.put(&corrupting.local().id().to_string(), &told_of_itself).await.unwrap();
            let (one, two) = (Folders::new(), Folders::new());
            let publisher = one.farm(&channels[0]).start().await.unwrap();
            publisher.ready().await;
            let content = bytes(500_000, seed);
            publisher.publish_bytes("model", content.clone()).await.unwrap();
            let farm = two.farm(&channels[1]).start().await.unwrap();
            let ready = tokio::time::timeout(Duration::from_secs(120), farm.ready()).await;
            assert!(ready.is_ok(), "{:#?}", farm.status());
            assert!(two.read("model") == Some(content));
            let stats = farm.stats().artefacts[&"model".parse().unwrap()];
            assert!(stats.verify_failures > 0 && stats.chunks == 49, "{stats:?}");
        });
    });
}

/// Rows 21 to 23 without real time, and that a farm has to be told whom to trust.
#[test]
fn who_comes_later_gets_all_before_it_is_ready() {
    Simulation::new(23).quiet().run(async |world| {
        let channel = world.join(Channel::builder()).build().unwrap();
        channel.start().await.unwrap();
        let one = Folders::new();
        let builder = Farm::builder(&channel, "test").staging(one.of("staging")).live(one.of("live"));
        assert!(builder.start().await.unwrap_err().to_string().contains("whom to trust"));
        assert!(one.farm(&channel).trust(Trust::ed25519([])).start().await.is_err());
        let farm = one.farm(&channel).start().await.unwrap();
        farm.ready().await;
        let contents: Vec<_> = (0..40usize).map(|number| bytes(number * 1_024, number as u64)).collect();
        for (number, content) in contents.iter().enumerate() {
            farm.publish_bytes(format!("{number}"), content.clone()).await.unwrap();
        }
        farm.publish_bytes("gone", "x").await.unwrap();
        farm.remove("gone").await.unwrap();
        let later = world.join(Channel::builder()).build().unwrap();
        later.start().await.unwrap();
        let two = Folders::new();
        let joined = two.farm(&later).start().await.unwrap();
        joined.ready().await;
        for (number, content) in contents.iter().enumerate() {
            assert!(two.read(&format!("{number}")).as_ref() == Some(content), "{number}");
        }
        assert!(!two.live("gone").exists());
        let again = two.farm(&later).start().await.unwrap_err();
        assert!(again.to_string().contains("folders"), "{again}");
    });
}

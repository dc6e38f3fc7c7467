//! Replicated maps over real sockets: whatever is written at once, cut off, dies or joins, all replicas become equal and
//! nothing is missing.

#![allow(clippy::disallowed_methods, reason = "real time and tasks")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{PATIENCE, Proxy, Roster, group, node, via, within};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tribes::Channel;
use tribes::replication::{Durability, MapBuilder, ReplicatedMap, Version};
use tribes_testkit::checkers::{AcknowledgedWritesKept, ReplicasEqual, Violations};

const KEYS: u64 = 500;
const ROUNDS: u64 = 6;
/// For writes that are waited for: only a hang takes so long.
const LONG: Duration = Duration::from_secs(30);

type Map = ReplicatedMap<String, u64>;

fn key(number: u64) -> String {
    format!("key {number:03}")
}

/// The map on each channel, opened at the same time.
async fn open(channels: &[Channel], set_up: impl Fn(MapBuilder<String, u64>) -> MapBuilder<String, u64>) -> Vec<Map> {
    let maps: Vec<Map> =
        channels.iter().map(|channel| set_up(ReplicatedMap::builder("test")).open(channel).unwrap()).collect();
    for map in &maps {
        within("the map to be ready", map.ready()).await;
    }
    maps
}

/// What a replica holds, with the version of each value.
fn contents(map: &Map) -> Vec<(String, (u64, Version))> {
    map.snapshot()
        .into_iter()
        .filter_map(|(key, value)| map.version(&key).map(|version| (key, (value, version))))
        .collect()
}

fn compare(maps: &[Map]) -> Result<usize, Violations> {
    let mut equal = ReplicasEqual::default();
    for (number, map) in maps.iter().enumerate() {
        equal.holds(format!("replica {number}"), contents(map));
    }
    equal.check()
}

/// Waits until all replicas hold the same, and `enough`; fails with what differs.
async fn become_equal(maps: &[Map], enough: impl Fn() -> bool) {
    let changed = Arc::new(Notify::new());
    let _handles: Vec<_> = maps
        .iter()
        .map(|map| {
            let changed = Arc::clone(&changed);
            map.on_change(move |_| changed.notify_one())
        })
        .collect();
    let equal = async {
        while compare(maps).is_err() || !enough() {
            changed.notified().await;
        }
    };
    if tokio::time::timeout(PATIENCE, equal).await.is_err() {
        let stats: Vec<_> = maps.iter().map(ReplicatedMap::stats).collect();
        panic!("after {PATIENCE:?} the replicas are not as they should be: {:#?}\n{stats:#?}", compare(maps));
    }
}

/// Writes of one author each, whose values are numbered: so each is known before it is made.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<AcknowledgedWritesKept<String, u64>>>);

impl Record {
    /// Puts, and notes it. Returns whether the durability was met.
    async fn put(&self, map: &Map, key: &str, value: u64, durability: Durability) -> bool {
        self.0.lock().unwrap().wrote(key.to_owned(), value, false);
        let met = map.put_with(key, &value, durability).await.is_ok();
        if met {
            self.0.lock().unwrap().acknowledged(&key.to_owned(), value);
        }
        met
    }

    /// Checks it against what is there in the end. Returns how many writes were acknowledged.
    fn check(&self, map: &Map) -> usize {
        let mut kept = self.0.lock().unwrap().clone();
        for (key, value) in map.snapshot() {
            kept.finally(key, value);
        }
        kept.check().unwrap_or_else(|violations| panic!("{violations}"))
    }
}

async fn one_writes(set_up: impl Fn(MapBuilder<String, u64>) -> MapBuilder<String, u64>) {
    let channels = group(3).await;
    let maps = open(&channels, set_up).await;
    for round in 0..ROUNDS {
        for number in 0..KEYS {
            maps[0].put(&key(number), &(round * KEYS + number)).await.unwrap();
        }
    }
    let last = |map: &Map| (0..KEYS).all(|number| map.get(&key(number)) == Some((ROUNDS - 1) * KEYS + number));
    become_equal(&maps, || maps.iter().all(last)).await;
    assert_eq!(compare(&maps).unwrap() as u64, maps.len() as u64 * KEYS);
}

/// Tribes loses two of these keys (T1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_overwrites_with_defaults_is_all_there() {
    one_writes(|builder| builder).await;
}

/// Tribes, told not to wait, loses some 180 of them (T1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_overwrites_without_waiting_is_all_there() {
    one_writes(|builder| builder.durability(Durability::Local)).await;
}

/// Puts and removes the same keys as others do. Returns each write: its key, its version, whether it was a removal.
async fn compete(map: Map, author: u64) -> Vec<(String, Version, bool)> {
    let mut writes = Vec::new();
    for round in 0..ROUNDS {
        for number in 0..KEYS {
            // Each in another order, and each removes other keys.
            let key = key((number * 7 + author * 100) % KEYS);
            if (number + round + author).is_multiple_of(11) {
                let removed = map.remove(&key).await.unwrap();
                writes.extend(removed.map(|written| (key, written.version, true)));
            } else {
                let written = map.put(&key, &(author << 32 | round << 16 | number)).await.unwrap();
                writes.push((key, written.version, false));
            }
        }
    }
    writes
}

async fn three_write(durability: Durability) {
    let channels = group(3).await;
    let maps = open(&channels, |builder| builder.durability(durability)).await;
    let mut writers = JoinSet::new();
    for (author, map) in maps.iter().enumerate() {
        writers.spawn(compete(map.clone(), author as u64));
    }
    let mut writes: Vec<(String, Version, bool)> = Vec::new();
    while let Some(written) = within("the writers", writers.join_next()).await {
        writes.extend(written.unwrap());
    }
    // All are noted before any counts as acknowledged: so only a later version may take the place of another, and what each
    // key has in the end must be the latest of all.
    let mut kept = AcknowledgedWritesKept::default();
    writes.iter().for_each(|(key, version, removal)| kept.wrote(key.clone(), *version, *removal));
    writes.iter().for_each(|(key, version, _)| kept.acknowledged(key, *version));
    let latest = || {
        let mut kept = kept.clone();
        contents(&maps[0]).into_iter().for_each(|(key, (_, version))| kept.finally(key, version));
        kept.check()
    };
    become_equal(&maps, || latest().is_ok()).await;
    assert_eq!(latest(), Ok(writes.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_three_overwrite_at_once_is_all_there() {
    three_write(Durability::Queued).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_three_overwrite_at_once_without_waiting_is_all_there() {
    three_write(Durability::Local).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_three_overwrite_at_once_acknowledged_is_all_there() {
    three_write(Durability::majority(LONG)).await;
}

/// Two members that reach each other through proxies, both of which are cut again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing() {
    let (one, one_roster) = node().await;
    let (two, two_roster) = node().await;
    let proxies = [Proxy::to(two.local().addr().unwrap()).await, Proxy::to(one.local().addr().unwrap()).await];
    one_roster.add(&via(&two.local(), proxies[0].addr));
    two_roster.add(&via(&one.local(), proxies[1].addr));
    for channel in [&one, &two] {
        within("the other", channel.view_when(|view| view.len() == 1)).await;
    }
    let maps = open(&[one, two], |builder| builder).await;
    let record = Record::default();
    let mut writers = JoinSet::new();
    for (author, map) in maps.iter().cloned().enumerate() {
        let record = record.clone();
        writers.spawn(async move {
            for number in 0..2000u64 {
                let key = format!("{author} {}", number % 50);
                // Most are not waited for, so that something is on its way when the cut comes.
                let durability = if number % 10 == 0 { Durability::copies(1, LONG) } else { Durability::Queued };
                record.put(&map, &key, number, durability).await;
            }
        });
    }
    // A cut for each part of the writes that has arrived.
    let cutter = {
        let (map, mut next) = (maps[1].clone(), 100);
        tokio::spawn(async move {
            let mut cuts = 0;
            loop {
                map.changed(|map| map.stats().received >= next).await;
                next = map.stats().received + 100;
                proxies.iter().for_each(Proxy::cut);
                cuts += 1;
                if cuts == 10 {
                    return proxies;
                }
            }
        })
    };
    while let Some(written) = within("the writers", writers.join_next()).await {
        written.unwrap();
    }
    // The proxies live as long as the members.
    let _proxies = within("ten cuts", cutter).await.unwrap();
    let last =
        |map: &Map| (0..100).all(|part| map.get(&format!("{} {}", part / 50, part % 50)) == Some(1950 + part % 50));
    become_equal(&maps, || maps.iter().all(last)).await;
    // Whether or not a write that was only queued counts as acknowledged: it is there.
    assert!(record.check(&maps[0]) >= 400);
}

/// Writes numbered values to its own keys until told to stop, each acknowledged by a majority. Returns how many were.
async fn keep_writing(
    author: &'static str,
    map: Map,
    record: Record,
    stop: Arc<Mutex<bool>>,
    progress: Arc<Notify>,
) -> u64 {
    let mut met = 0;
    for number in 0.. {
        if *stop.lock().unwrap() {
            break;
        }
        let key = format!("{author} {}", number % 40);
        met += u64::from(record.put(&map, &key, number, Durability::majority(LONG)).await);
        progress.notify_one();
    }
    met
}

/// A runtime that is shut down in the middle of its work, as a process that is killed: what it has not written to a socket is
/// gone, and its sockets are closed.
struct Doomed {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    roster: Roster,
}

impl Doomed {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (told, node_made) = std::sync::mpsc::channel();
        runtime.spawn(async move { told.send(node().await) });
        let (channel, roster) = node_made.recv().unwrap();
        Self { runtime, channel, roster }
    }

    async fn open(&self) -> Map {
        let (told, opened) = oneshot::channel();
        let channel = self.channel.clone();
        self.runtime.spawn(async move {
            let map = ReplicatedMap::builder("test").group_size(4).open(&channel).unwrap();
            map.ready().await;
            told.send(map).unwrap();
        });
        within("its map", opened).await.unwrap()
    }

    /// Returns its channel, which must not be dropped before the test ends: that would say good-bye.
    fn die(self) -> Channel {
        self.runtime.shutdown_background();
        self.channel
    }
}

async fn wait_for(progress: &Notify, writes: usize) {
    for _ in 0..writes {
        within("writes", progress.notified()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dies_and_one_joins_in_the_middle_of_writes() {
    let doomed = Doomed::start();
    let mut nodes = vec![node().await, node().await, node().await];
    let everybody: Vec<_> =
        nodes.iter().map(|(channel, _)| channel).chain([&doomed.channel]).map(Channel::local).collect();
    for (channel, roster) in
        nodes.iter().map(|(channel, roster)| (channel, roster)).chain([(&doomed.channel, &doomed.roster)])
    {
        everybody.iter().filter(|member| **member != channel.local()).for_each(|member| roster.add(member));
    }
    for (channel, _) in &nodes {
        within("everybody to see everybody", channel.view_when(|view| view.len() == 3)).await;
    }
    let mut channels: Vec<_> = nodes.iter().map(|(channel, _)| channel.clone()).collect();
    let (mut maps, doomed_map) = tokio::join!(open(&channels, |builder| builder.group_size(4)), doomed.open());

    let (record, stop, progress) = (Record::default(), Arc::new(Mutex::new(false)), Arc::new(Notify::new()));
    let write =
        |author, map: &Map| keep_writing(author, map.clone(), record.clone(), Arc::clone(&stop), Arc::clone(&progress));
    let writers = [tokio::spawn(write("one", &maps[0])), tokio::spawn(write("two", &maps[1]))];
    doomed.runtime.spawn(write("doomed", &doomed_map));
    wait_for(&progress, 200).await;
    within("the doomed one's writes", maps[2].changed(|map| map.contains_key("doomed 39"))).await;

    let dead = doomed.channel.local();
    let _channel = doomed.die();
    within("its death to be noticed", channels[2].view_when(|view| !view.members().contains(&dead))).await;
    wait_for(&progress, 200).await;

    let (late, late_roster) = node().await;
    for (channel, roster) in &nodes {
        roster.add(&late.local());
        late_roster.add(&channel.local());
    }
    let late_maps = open(std::slice::from_ref(&late), |builder| builder.group_size(4)).await;
    channels.push(late.clone());
    nodes.push((late, late_roster));
    maps.extend(late_maps);
    wait_for(&progress, 200).await;

    *stop.lock().unwrap() = true;
    let mut met = 0;
    for writer in writers {
        met += within("a writer", writer).await.unwrap();
    }
    become_equal(&maps, || true).await;
    let acknowledged = record.check(&maps[3]);
    assert!(met > 0 && acknowledged as u64 > met, "{met} of {acknowledged}");
    // A good-bye of the dead one would be an error of this test.
    std::mem::forget(doomed_map);
}

/// What the builder has, the guide explains.
#[test]
fn every_setting_is_in_the_guide() {
    let (source, guide) = (include_str!("../../replication/src/map/builder.rs"), include_str!("../../guides/maps.md"));
    let settings: Vec<_> = source
        .split("\n    pub ")
        .skip(1)
        .filter_map(|function| function.trim_start_matches("const ").strip_prefix("fn ")?.split_once("(mut self"))
        .map(|(name, _)| name)
        .collect();
    assert!(settings.len() >= 9, "{settings:?}");
    for setting in settings {
        assert!(guide.contains(&format!("\n| `{setting}` |")), "{setting} is not in the table of settings");
    }
}

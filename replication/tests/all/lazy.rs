//! Maps of which each key is held by a few members, on the simulated network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use tribes_core::Channel;
use tribes_replication::{Conflicts, Durability, LazyMapBuilder, LazyReplicatedMap, MapError};
use tribes_testkit::net::Node;
use tribes_testkit::{Simulation, World};

const SECOND: Duration = Duration::from_secs(1);
const MANY: u32 = 400;

type Map = LazyReplicatedMap<u32, u32>;

/// A member with its map.
struct Place {
    node: Node,
    channel: Channel,
    map: Map,
}

fn simulate(scenario: impl AsyncFnOnce(World)) {
    Simulation::new(1).run(scenario);
}

async fn join(world: &World, set_up: impl Fn(LazyMapBuilder<u32, u32>) -> LazyMapBuilder<u32, u32>) -> Place {
    let node = world.node();
    let channel = node.join(Channel::builder()).build().unwrap();
    channel.start().await.unwrap();
    let map = set_up(Map::builder("test")).open(&channel).unwrap();
    Place { node, channel, map }
}

async fn group(
    world: &World,
    count: usize,
    set_up: impl Fn(LazyMapBuilder<u32, u32>) -> LazyMapBuilder<u32, u32>,
) -> Vec<Place> {
    let mut places = Vec::new();
    for _ in 0..count {
        places.push(join(world, &set_up).await);
    }
    for place in &places {
        place.channel.view_when(|view| view.len() == count - 1).await;
        place.map.ready().await;
    }
    places
}

/// Each key is held by so many of them, as each of them says, and by no other.
fn is_placed(places: &[&Place], copies: usize, keys: usize) -> bool {
    let mut held = BTreeMap::<u32, Vec<_>>::new();
    for place in places {
        place.map.held().into_iter().for_each(|(key, _)| held.entry(key).or_default().push(place.channel.local().id()));
    }
    let as_agreed = |key: &u32, by: &Vec<_>| {
        places.iter().all(|place| {
            let holders: Vec<_> = place.map.holders(key).unwrap().iter().map(|member| member.id()).collect();
            holders.len() == copies && holders.iter().all(|id| by.contains(id))
        })
    };
    held.len() == keys && held.iter().all(|(key, by)| by.len() == copies && as_agreed(key, by))
}

async fn settled(world: &World, places: &[&Place], copies: usize, keys: usize) {
    let deadline = world.env().now() + Duration::from_secs(60);
    let mut settled = false;
    while !settled && world.env().now() < deadline {
        world.sleep(Duration::from_millis(100)).await;
        settled = is_placed(places, copies, keys);
    }
    let figures: Vec<_> = places.iter().map(|place| place.map.stats()).collect();
    assert!(settled, "{figures:#?}");
}

async fn fill(places: &[Place]) {
    for key in 0..MANY {
        places[key as usize % places.len()].map.put(&key, &(key * 10)).await.unwrap();
    }
}

async fn has_all(place: &Place) {
    for key in 0..MANY {
        assert_eq!(place.map.get(&key).await.unwrap(), Some(key * 10), "{key}");
    }
    let mut all = place.map.snapshot().await.unwrap();
    all.sort_unstable();
    assert_eq!(all, (0..MANY).map(|key| (key, key * 10)).collect::<Vec<_>>());
}

#[test]
fn each_key_is_held_by_a_few_and_read_by_all() {
    simulate(async |world| {
        let places = group(&world, 5, |builder| builder.backups(1)).await;
        fill(&places).await;
        let all: Vec<_> = places.iter().collect();
        // At once: a write that waits for all holders is where it is to be.
        assert!(is_placed(&all, 2, MANY as usize));
        for place in &places {
            has_all(place).await;
        }
        let stats: Vec<_> = places.iter().map(|place| place.map.stats()).collect();
        assert_eq!(stats.iter().map(|stats| stats.primary.entries).sum::<usize>(), MANY as usize);
        assert_eq!(stats.iter().map(|stats| stats.backup.entries).sum::<usize>(), MANY as usize);
        assert!(stats.iter().all(|stats| stats.surplus.shards == 0 && stats.fetching == 0 && stats.primary.shards > 5));
    });
}

#[test]
fn what_is_removed_is_gone_for_all() {
    simulate(async |world| {
        let places = group(&world, 4, |builder| builder).await;
        let written = places[0].map.put(&1, &1).await.unwrap();
        assert!(!written.members.is_empty() || places[0].map.holders(&1).unwrap().len() < 2);
        for place in &places {
            assert!(place.map.contains_key(&1).await.unwrap());
            assert_eq!(place.map.version(&1).await.unwrap(), Some(written.version));
        }
        assert!(places[1].map.remove(&1).await.unwrap().is_some());
        for place in &places {
            assert_eq!(place.map.get(&1).await.unwrap(), None);
            assert!(place.map.remove(&1).await.unwrap().is_none());
        }
    });
}

#[test]
fn when_a_member_dies_its_backups_take_over_and_get_backups() {
    simulate(async |world| {
        let mut places = group(&world, 4, |builder| builder.backups(1)).await;
        fill(&places).await;
        let dead = places.remove(1);
        dead.node.crash();
        // Nobody waits until it is known to be dead.
        let begun = world.env().now();
        has_all(&places[0]).await;
        assert!(world.env().now() - begun < Duration::from_secs(120));
        let all: Vec<_> = places.iter().collect();
        settled(&world, &all, 2, MANY as usize).await;
        // So the next may die, too.
        let dead = places.remove(0);
        dead.node.crash();
        let all: Vec<_> = places.iter().collect();
        settled(&world, &all, 2, MANY as usize).await;
        has_all(&places[1]).await;
    });
}

#[test]
fn who_comes_takes_its_share_over_and_the_others_let_it_go() {
    simulate(async |world| {
        let mut places = group(&world, 2, |builder| builder.backups(1)).await;
        fill(&places).await;
        for count in 3..=5 {
            places.push(join(&world, |builder| builder.backups(1)).await);
            let all: Vec<_> = places.iter().collect();
            settled(&world, &all, 2, MANY as usize).await;
            has_all(&places[count - 1]).await;
        }
        let released: u64 = places.iter().map(|place| place.map.stats().shards_released).sum();
        assert!(released > 32, "{released}");
    });
}

#[test]
fn who_leaves_hands_over_what_only_it_holds() {
    simulate(async |world| {
        let mut places = group(&world, 4, |builder| builder.backups(0)).await;
        fill(&places).await;
        for _ in 0..3 {
            let leaver = places.remove(0);
            leaver.map.leave(Duration::from_secs(30)).await.unwrap();
            assert!(matches!(leaver.map.get(&1).await, Err(MapError::Closed)));
            leaver.node.crash();
            let all: Vec<_> = places.iter().collect();
            settled(&world, &all, 1, MANY as usize).await;
            has_all(&places[0]).await;
        }
        let error = places[0].map.leave(SECOND).await.unwrap_err();
        assert!(matches!(error, MapError::NotHandedOver { entries } if entries == MANY as usize), "{error}");
        has_all(&places[0]).await;
    });
}

#[test]
fn updates_of_all_members_count() {
    simulate(async |world| {
        let places = group(&world, 4, |builder| builder.backups(2)).await;
        let tasks: Vec<_> = places
            .iter()
            .map(|place| {
                let map = place.map.clone();
                async move {
                    for _ in 0..25 {
                        map.update(&7, |count| Some(count.unwrap_or(0) + 1)).await.unwrap().unwrap();
                    }
                }
            })
            .collect();
        let mut tasks = tasks.into_iter();
        let [one, two, three, four] = std::array::from_fn(|_| tasks.next().unwrap());
        tokio::join!(one, two, three, four);
        for place in &places {
            assert_eq!(place.map.get(&7).await.unwrap(), Some(100));
        }
    });
}

#[test]
fn a_frozen_primary_holds_up_one_question_a_second_and_no_more() {
    simulate(async |world| {
        let places = group(&world, 4, |builder| builder.backups(1)).await;
        fill(&places).await;
        let asker = &places[0];
        let me = asker.channel.local().id();
        // A key that others hold.
        let key = (0..MANY).find(|key| asker.map.holders(key).unwrap().iter().all(|holder| holder.id() != me)).unwrap();
        let primary = asker.map.holders(&key).unwrap()[0].id();
        places.iter().find(|place| place.channel.local().id() == primary).unwrap().node.freeze();
        let begun = world.env().now();
        assert_eq!(asker.map.get(&key).await.unwrap(), Some(key * 10));
        asker.map.put_with(&key, &1, Durability::Local).await.unwrap();
        assert_eq!(asker.map.get(&key).await.unwrap(), Some(1));
        assert!(world.env().now() - begun < Duration::from_secs(5));
    });
}

#[test]
fn both_sides_of_a_split_group_go_on_and_agree_afterwards() {
    simulate(async |world| {
        let places = group(&world, 5, |builder| builder.backups(1).conflicts(Conflicts::max())).await;
        fill(&places).await;
        let (left, right) = places.split_at(2);
        let side = |places: &[Place]| places.iter().map(|place| place.node.clone()).collect::<Vec<_>>();
        let (one, other) = (side(left), side(right));
        world.net().partition(&[&one.iter().collect::<Vec<_>>(), &other.iter().collect::<Vec<_>>()]);
        for (count, side) in [(2, left), (3, right)] {
            for place in side {
                place.channel.view_when(|view| view.len() == count - 1).await;
            }
        }
        for key in 0..50 {
            left[0].map.put(&key, &(100_000 + key)).await.unwrap();
            right[0].map.put(&(25 + key), &(200_000 + key)).await.unwrap();
        }
        world.net().heal();
        for place in &places {
            place.channel.view_when(|view| view.len() == 4).await;
        }
        let all: Vec<_> = places.iter().collect();
        settled(&world, &all, 2, MANY as usize).await;
        world.sleep(Duration::from_secs(12)).await;
        for place in &places {
            for key in 0..MANY {
                let wanted = match key {
                    0..25 => 100_000 + key,
                    25..75 => 200_000 + key - 25,
                    _ => key * 10,
                };
                assert_eq!(place.map.get(&key).await.unwrap(), Some(wanted), "{key}");
            }
        }
    });
}

#[test]
fn new_backups_come_no_faster_than_allowed() {
    simulate(async |world| {
        // A thousandth of what there is, in a second.
        let places = group(&world, 2, |builder| builder.backups(0)).await;
        fill(&places).await;
        let bytes: usize = places.iter().map(|place| place.map.stats().primary.bytes).sum();
        let begun = world.env().now();
        let late = join(&world, |builder| builder.backups(0).fetch_limits(1, bytes as u64 / 100)).await;
        late.map.ready().await;
        let took = world.env().now() - begun;
        let share = late.map.stats().bytes_taken as f64 / bytes as f64;
        // The last shard is not waited for.
        assert!(
            share > 0.1 && took.as_secs_f64() > 80.0 * share && took.as_secs_f64() < 120.0 * share + 5.0,
            "{took:?}, {share}"
        );
        has_all(&late).await;
    });
}

#[test]
fn what_nobody_has_fetched_yet_is_asked_of_who_held_it() {
    simulate(async |world| {
        let places = group(&world, 2, |builder| builder.backups(0)).await;
        fill(&places).await;
        // A byte a second: after its first shard it takes none for a long time.
        let late = join(&world, |builder| builder.backups(0).fetch_limits(1, 1)).await;
        let knows = world.until(10 * SECOND, || places[0].map.stats().surplus.shards > 5).await;
        assert!(knows && late.map.stats().fetching > 5);
        for place in [&places[0], &places[1], &late] {
            has_all(place).await;
        }
        late.map.put(&7, &1).await.unwrap();
        assert_eq!(places[0].map.get(&7).await.unwrap(), Some(1));
    });
}

#[test]
fn what_was_fetched_is_kept_for_a_while_if_wanted() {
    simulate(async |world| {
        let places = group(&world, 3, |builder| builder.backups(0).cache(5 * SECOND, 1 << 20)).await;
        fill(&places).await;
        let (asker, other) = (&places[0], &places[1]);
        let held: Vec<u32> = asker.map.held().into_iter().map(|(key, _)| key).collect();
        let key = (0..MANY).find(|key| !held.contains(key)).unwrap();
        assert_eq!(asker.map.get(&key).await.unwrap(), Some(key * 10));
        assert_eq!(asker.map.stats().cached, 1);
        other.map.put(&key, &1).await.unwrap();
        assert_eq!(asker.map.get(&key).await.unwrap(), Some(key * 10), "as it was");
        world.sleep(6 * SECOND).await;
        assert_eq!(asker.map.get(&key).await.unwrap(), Some(1));
        asker.map.put(&key, &2).await.unwrap();
        assert_eq!(asker.map.get(&key).await.unwrap(), Some(2), "its own writes it sees at once");
    });
}

#[test]
fn holders_hear_of_changes() {
    simulate(async |world| {
        let places = group(&world, 3, |builder| builder.backups(0)).await;
        let mut streams: Vec<_> = places.iter().map(|place| place.map.changes()).collect();
        places[0].map.put(&1, &5).await.unwrap();
        let holder = places[0].map.holders(&1).unwrap()[0].id();
        let at = places.iter().position(|place| place.channel.local().id() == holder).unwrap();
        let change = streams[at].next().await.unwrap().unwrap();
        assert_eq!((change.key, change.old, change.new), (1, None, Some(5)));
    });
}

#[test]
fn what_is_too_large_is_refused_wherever_it_is_made() {
    simulate(async |world| {
        let places = group(&world, 3, |builder| builder.backups(0).max_value(1)).await;
        for key in 0..20 {
            let error = places[0].map.put(&key, &1_000_000).await.unwrap_err();
            assert!(matches!(error, MapError::ValueTooLarge { limit: 1, .. }), "{error}");
            places[0].map.put(&key, &1).await.unwrap();
        }
    });
}

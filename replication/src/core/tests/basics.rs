//! What a review found, each as it was found.

use std::sync::Arc;
use std::time::Duration;

use super::world::{Told, World};
use crate::core::{Need, Tuning};
use crate::store::Keeping;

const SECOND: Duration = Duration::from_secs(1);

fn pair(skew_ms: i64) -> World {
    let mut world = World::new(1, Tuning { group_size: Some(2), ..Tuning::default() }, Keeping::Latest);
    for skew in [0, skew_ms] {
        let node = world.add(skew);
        world.start(node, false);
    }
    world.run(SECOND * 15);
    world
}

/// What is refused is not seen: otherwise it counts as acknowledged, and its author drops it as gone.
#[test]
fn what_a_fast_clock_wrote_is_not_acknowledged_away() {
    let mut world = pair(2 * 3_600_000);
    let written = world.at(1, |core, now| {
        core.put(b"key", b"value"[..].into(), None, Some((Need::Copies(1), SECOND * 50)), now).unwrap()
    });
    world.run(SECOND * 120);
    let has = |node: usize| world.nodes[node].core.as_ref().unwrap().store.get(b"key").is_some();
    let met = |told: &Told| matches!(told, Told::Done { op, report, .. } if Some(*op) == written.op && report.met);
    assert!(has(1), "its author has dropped it");
    assert!(!has(0) && !world.told.iter().any(met), "refused and acknowledged");
}

/// Between a write and its sending, a queue may fill: whoever waits for the queueing hears of it.
#[test]
fn a_write_that_skips_a_peer_is_queued_for_the_others() {
    let mut world = pair(0);
    let other = Arc::clone(&world.nodes[1].member);
    let done = world.at(0, |core, now| {
        let wanted = Some((Need::Queued, SECOND * 60));
        core.put(b"a", b"1"[..].into(), None, wanted, now).unwrap();
        core.unsent(&other, now);
        core.put(b"b", b"2"[..].into(), None, wanted, now).unwrap().op
    });
    assert!(world.told.iter().any(|told| matches!(told, Told::Done { op, .. } if Some(*op) == done)));
}

/// A copy that is gone with its member counts no more.
#[test]
fn who_left_has_nothing() {
    let mut world = World::new(1, Tuning { group_size: Some(5), ..Tuning::default() }, Keeping::Latest);
    for _ in 0..2 {
        let node = world.add(0);
        world.start(node, false);
    }
    world.run(SECOND * 15);
    world.at(0, |core, now| {
        core.put(b"key", b"value"[..].into(), None, Some((Need::Copies(2), SECOND * 40)), now).unwrap();
    });
    world.run(SECOND / 2);
    world.crash(1);
    world.run(SECOND * 5);
    world.start(1, false);
    world.run(SECOND * 60);
    let outcomes: Vec<bool> = world
        .told
        .iter()
        .filter_map(|told| if let Told::Done { report, .. } = told { Some(report.met) } else { None })
        .collect();
    assert_eq!(outcomes, [false]);
}

/// Records of removals are bounded by the keys that are removed.
#[test]
fn a_key_that_comes_and_goes_leaves_one_record() {
    let mut world = pair(0);
    for _ in 0..5_000 {
        world.at(0, |core, now| {
            core.put(b"key", b"value"[..].into(), None, None, now).unwrap();
            core.remove(b"key", None, now).unwrap();
        });
    }
    assert!(world.nodes[0].core.as_ref().unwrap().store.remembered_removals() < 2_000);
}

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::version::{Incarnation, Version};

const fn dot(node: u64, counter: u64) -> Dot {
    Dot { node: Incarnation::new(node), counter }
}

fn sibling(time: u64, dot: Dot, past: &[Dot], value: Option<&[u8]>) -> Sibling {
    Sibling { version: Version { time, dot }, past: past.into(), value: value.map(Arc::from) }
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn values(store: &Store, key: &[u8]) -> Vec<Vec<u8>> {
    store.get(key).into_iter().flat_map(Entry::values).map(|value| value.to_vec()).collect()
}

/// There may be a million of them.
#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry>() <= 48, "{} bytes", size_of::<Entry>());
}

/// Writes of three authors, who know of nobody else's: key, time, value.
fn writes() -> impl Strategy<Value = Vec<(Vec<u8>, Sibling)>> {
    vec((0..3u64, 0..8u8, 0..50u64, any::<bool>()), 0..40).prop_map(|drawn| {
        let mut counters = [0; 3];
        let numbered = drawn.into_iter().map(|(node, key, time, live)| {
            let counter = &mut counters[usize::try_from(node).unwrap()];
            *counter += 1;
            (vec![key], sibling(time, dot(node + 1, *counter), &[], live.then_some(&[key][..])))
        });
        numbered.collect()
    })
}

fn filled(keeping: Keeping, writes: &[(Vec<u8>, Sibling)]) -> Store {
    let mut store = Store::new(keeping);
    for (key, sibling) in writes {
        store.write(key, sibling.clone(), at(1));
    }
    store
}

fn contents(store: &Store) -> Vec<(Vec<u8>, Vec<Sibling>)> {
    store.iter().map(|(key, entry)| (key.to_vec(), entry.clone().into_siblings())).collect()
}

proptest! {
    /// Equal contents have equal digests, whatever the order in which they came, and how often.
    #[test]
    fn the_order_of_writes_does_not_matter(writes in writes(), order in any::<u64>(), concurrent: bool) {
        let keeping = if concurrent { Keeping::Concurrent } else { Keeping::Latest };
        let one = filled(keeping, &writes);
        let mut shuffled: Vec<_> = writes.iter().chain(&writes).cloned().collect();
        fastrand::Rng::with_seed(order).shuffle(&mut shuffled);
        let other = filled(keeping, &shuffled);
        prop_assert_eq!(contents(&one), contents(&other));
        prop_assert_eq!(one.groups(), other.groups());
        for group in 0..64 {
            prop_assert_eq!(one.group(group), other.group(group));
        }
        prop_assert_eq!(one.census(), other.census());
        // The digest of a group is that of its buckets.
        for (group, digest) in (0..).zip(one.groups()) {
            prop_assert_eq!(one.group(group).into_iter().fold(0, |all, bucket| all ^ bucket), *digest);
        }
    }

    /// What is forgotten leaves nothing behind, neither in digests nor in the census.
    #[test]
    fn what_is_forgotten_leaves_no_trace(writes in writes(), concurrent: bool) {
        let keeping = if concurrent { Keeping::Concurrent } else { Keeping::Latest };
        let mut all = filled(keeping, &writes);
        all.forget_removals(at(2), at(2));
        let live: Vec<_> = contents(&all)
            .into_iter()
            .flat_map(|(key, siblings)| siblings.into_iter().map(move |sibling| (key.clone(), sibling)))
            .collect();
        prop_assert!(live.iter().all(|(_, sibling)| sibling.is_live()));
        let only = filled(keeping, &live);
        prop_assert_eq!(all.groups(), only.groups());
        prop_assert_eq!(all.census(), only.census());
        prop_assert_eq!(all.census().removed, 0);
        prop_assert_eq!(all.oldest_removal(), None);
    }
}

proptest! {
    /// What is put in place of the only write there is, and what is worked out from all of them, come to the same.
    #[test]
    fn the_usual_write_comes_to_the_same(
        drawn in vec((0..3u64, 0..3u8, 0..50u64, any::<bool>(), any::<bool>()), 0..40),
        concurrent: bool,
    ) {
        let keeping = if concurrent { Keeping::Concurrent } else { Keeping::Latest };
        let (mut store, mut slowly) = (Store::new(keeping), Store::new(keeping));
        let mut counters = [0; 3];
        for (second, (node, key, time, live, has_seen)) in (1..).zip(drawn) {
            let counter = &mut counters[usize::try_from(node).unwrap()];
            *counter += 1;
            let past = slowly.get(&[key]).filter(|_| has_seen).map(|entry| entry.past(keeping)).unwrap_or_default();
            let write = sibling(time, dot(node + 1, *counter), &past, live.then_some(&[key, live.into()][..]));
            slowly.seen.add(write.version.dot);
            let wanted = slowly.change(&[key], at(second), |mut held, keeping, _| {
                held.push(write.clone());
                entry::reduce(held, keeping)
            });
            prop_assert_eq!(store.write(&[key], write, at(second)), wanted);
        }
        prop_assert_eq!(contents(&store), contents(&slowly));
        prop_assert_eq!(store.groups(), slowly.groups());
        prop_assert_eq!(store.census(), slowly.census());
        store.forget_removals(at(99), at(99));
        slowly.forget_removals(at(99), at(99));
        prop_assert_eq!(contents(&store), contents(&slowly));
        prop_assert_eq!(store.census(), slowly.census());
    }
}

#[test]
fn a_difference_shows_in_the_digests_of_its_bucket_and_group() {
    let mut store = Store::new(Keeping::Latest);
    store.write(b"a", sibling(1, dot(1, 1), &[], Some(b"x")), at(1));
    let bucket = usize::from(bucket_of(hash(b"a")));
    let different: Vec<_> = (0..GROUPS).filter(|group| store.groups()[*group] != 0).collect();
    assert_eq!(different, [bucket / BUCKETS_PER_GROUP]);
    let group = store.group(u16::try_from(bucket / BUCKETS_PER_GROUP).unwrap());
    assert_ne!(group[bucket % BUCKETS_PER_GROUP], 0);
    assert_eq!(group.iter().filter(|digest| **digest != 0).count(), 1);
}

#[test]
fn removals_are_forgotten_when_their_time_has_come() {
    let mut store = Store::new(Keeping::Latest);
    for (second, key) in (1..).zip([b"a", b"b"]) {
        store.write(key, sibling(second, dot(1, second), &[], None), at(second));
    }
    assert_eq!(store.oldest_removal(), Some(at(1)));
    store.forget_removals(at(2), at(9));
    assert!(store.get(b"a").is_none() && store.get(b"b").is_some());
    assert_eq!((store.oldest_removal(), store.census().removed), (Some(at(2)), 1));
    // Overwritten, and then forgotten: the value stays.
    store.write(b"b", sibling(3, dot(1, 3), &[], Some(b"x")), at(3));
    store.forget_removals(at(9), at(9));
    assert_eq!(values(&store, b"b"), [b"x"]);
}

#[test]
fn what_a_peer_has_dropped_is_dropped_here_and_no_more() {
    let mut store = Store::new(Keeping::Concurrent);
    store.write(b"a", sibling(1, dot(1, 1), &[], Some(b"x")), at(1));
    store.write(b"a", sibling(2, dot(2, 1), &[], Some(b"y")), at(1));
    let key = hash(b"a");
    assert_eq!(store.gone(key, &[dot(3, 7)], at(1)), None);
    assert_eq!(store.gone(hash(b"b"), &[dot(1, 1)], at(1)), None);
    let (found, changed) = store.gone(key, &[dot(1, 1)], at(1)).unwrap();
    assert_eq!((&*found, changed.before.len(), changed.after.len()), (&b"a"[..], 2, 1));
    store.gone(key, &[dot(2, 1)], at(1)).unwrap();
    assert!(store.get(b"a").is_none());
    assert_eq!((store.groups(), store.census()), (&[0; GROUPS], Census::default()));
    // It is seen all the same: who comes with it brings no news.
    assert_eq!(store.merge(b"a", vec![sibling(2, dot(2, 1), &[], Some(b"y"))], &Context::default(), at(1)), None);
    assert!(store.get(b"a").is_none());
}

/// What a removal had seen stays away, also when it comes after it, beside a value that the removal had not seen.
#[test]
fn a_removal_stands_beside_values_that_it_has_not_seen() {
    let mut store = Store::new(Keeping::Concurrent);
    store.write(b"a", sibling(5, dot(1, 1), &[], Some(b"unseen")), at(1));
    store.write(b"a", sibling(4, dot(2, 2), &[dot(2, 1)], None), at(1));
    let late = store.write(b"a", sibling(3, dot(2, 1), &[], Some(b"removed")), at(1));
    assert_eq!(late, None, "it is back");
    let entry = store.get(b"a").unwrap();
    assert_eq!(values(&store, b"a"), [b"unseen"]);
    assert!(entry.is_live() && entry.is_removed_by(dot(2, 2)) && !entry.is_removed_by(dot(1, 1)));
    assert_eq!(entry.latest_value().map(|latest| latest.version.dot), Some(dot(1, 1)));
    assert_eq!(store.census(), Census { live: 1, removed: 0, bytes: 7, in_conflict: 0 });
    // Who asks for it gets both, and who has both gets nothing.
    let bucket = bucket_of(hash(b"a"));
    let have = store.listing(bucket);
    assert_eq!(have[0].dots, [dot(2, 2), dot(1, 1)]);
    assert_eq!(store.compare(bucket, None, &have, 1000), Chunk::default());
    let one = Have { key_hash: have[0].key_hash, dots: vec![dot(1, 1)] };
    assert_eq!(store.compare(bucket, None, &[one], 1000).entries[0].1.len(), 2);
    // It is forgotten by itself.
    assert_eq!(store.oldest_removal(), Some(at(1)));
    store.forget_removals(at(2), at(2));
    assert_eq!((values(&store, b"a"), store.get(b"a").unwrap().len()), (vec![b"unseen".to_vec()], 1));
}

/// Also of the key that is written anew each time.
#[test]
fn records_of_removals_beside_values_are_bounded() {
    let mut store = Store::new(Keeping::Concurrent);
    store.write(b"a", sibling(1, dot(9, 1), &[], Some(b"x")), at(1));
    for counter in 1..5_000 {
        let past = [dot(1, counter - 1)];
        store.write(b"a", sibling(counter, dot(1, counter), &past, None), at(1));
    }
    assert!(store.remembered_removals() <= PRUNE + 2, "{}", store.remembered_removals());
    assert_eq!((store.get(b"a").unwrap().len(), store.oldest_removal()), (2, Some(at(1))));
}

/// A map that is beyond its bound, because that was greater when it was saved, is not stuck.
#[test]
fn what_takes_no_more_room_always_fits() {
    let mut store = Store::new(Keeping::Latest);
    store.write(b"a", sibling(1, dot(1, 1), &[], Some(&[0; 100])), at(1));
    let fits = |key: &[u8], value: Option<&[u8]>| {
        let mut bytes = store.census().bytes;
        store.fits(key, &[sibling(2, dot(1, 2), &[], value)], &mut bytes, 1000, 10)
    };
    assert!(fits(b"a", Some(&[0; 100])) && fits(b"a", None) && fits(b"b", None));
    assert!(!fits(b"a", Some(&[0; 101])) && !fits(b"b", Some(&[0; 1])));
}

/// With more writers than a write can name, those are named that are still there.
#[test]
fn what_is_held_is_the_last_to_be_forgotten() {
    let mut store = Store::new(Keeping::Concurrent);
    let many: Vec<Dot> = (100..132).map(|node| dot(node, 1)).collect();
    store.write(b"a", sibling(1, dot(1, 1), &[], Some(b"x")), at(1));
    store.write(b"a", sibling(2, dot(2, 1), &many, Some(b"y")), at(1));
    let past = store.get(b"a").unwrap().past(Keeping::Concurrent);
    assert!(past.contains(&dot(1, 1)) && past.contains(&dot(2, 1)), "{past:?}");
    store.write(b"a", sibling(3, dot(3, 1), &past, None), at(1));
    assert!(values(&store, b"a").is_empty());
}

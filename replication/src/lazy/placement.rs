//! Who holds what: rendezvous hashing (Thaler and Ravishankar, 1998).
//!
//! Keys fall into shards, and each member has a score for each shard; the members with the highest scores hold it. All
//! members that know of the same members agree, without talking, and when one comes or goes only what it holds moves.

use tribes_core::MemberId;

use crate::store::hash;

/// Into so many shards the keys of a map fall. The same on all members.
pub(crate) const SHARDS: usize = 64;

/// The shard of `key`: the last six bits of its hash. The first twelve are those of the bucket in the shard.
pub(crate) fn shard_of(key: &[u8]) -> usize {
    usize::try_from(hash(key) % SHARDS as u64).unwrap_or_default()
}

/// The first `copies` of `members` to hold `shard`, the primary first.
pub(crate) fn holders<M>(shard: usize, members: impl Iterator<Item = (MemberId, M)>, copies: usize) -> Vec<M> {
    let score = |id: &MemberId| xxhash_rust::xxh3::xxh3_64_with_seed(id.as_bytes(), shard as u64);
    let mut scored: Vec<_> = members.map(|(id, member)| (score(&id), id, member)).collect();
    scored.sort_by(|(one, one_id, _), (other, other_id, _)| (other, other_id).cmp(&(one, one_id)));
    scored.truncate(copies);
    scored.into_iter().map(|(_, _, member)| member).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(count: u8, salt: u8) -> Vec<MemberId> {
        let id = |number: u8| xxhash_rust::xxh3::xxh3_128(&[salt, number]).to_be_bytes();
        (0..count).map(|number| MemberId::from_bytes(id(number))).collect()
    }

    fn placed(shard: usize, ids: &[MemberId], copies: usize) -> Vec<MemberId> {
        holders(shard, ids.iter().map(|id| (*id, *id)), copies)
    }

    proptest! {
        #[test]
        fn a_member_that_goes_moves_only_what_it_held(count in 2u8..30, salt: u8, gone: prop::sample::Index, copies in 1usize..4) {
            let all = ids(count, salt);
            let gone = all[gone.index(all.len())];
            let left: Vec<MemberId> = all.iter().copied().filter(|id| *id != gone).collect();
            for shard in 0..SHARDS {
                let (before, after) = (placed(shard, &all, copies), placed(shard, &left, copies));
                prop_assert_eq!(before.len(), copies.min(all.len()));
                // The others stay in their order: a backup is promoted, and the new one is the last.
                let stay: Vec<_> = before.iter().filter(|id| **id != gone).collect();
                prop_assert_eq!(&after.iter().take(stay.len()).collect::<Vec<_>>(), &stay);
            }
        }
    }

    #[test]
    fn shares_are_about_equal_and_the_order_of_members_is_no_matter() {
        let all = ids(8, 3);
        let mut shares = std::collections::BTreeMap::<MemberId, usize>::new();
        for shard in 0..SHARDS {
            let found = placed(shard, &all, 2);
            found.iter().for_each(|id| *shares.entry(*id).or_default() += 1);
            let mut turned = all.clone();
            turned.rotate_left(shard % 8);
            assert_eq!(placed(shard, &turned, 2), found);
        }
        // 128 in all, 16 each on average.
        assert!(shares.len() == 8 && shares.values().all(|share| (6..=30).contains(share)), "{shares:?}");
    }

    #[test]
    fn keys_spread_over_the_shards() {
        let mut counts = [0usize; SHARDS];
        (0..64_000u32).for_each(|key| counts[shard_of(&key.to_be_bytes())] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}

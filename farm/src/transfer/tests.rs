use super::*;
use crate::digest::Algorithm;
use crate::manifest::list_digest;

const CHUNK: u32 = 1024;

fn peer(number: u8) -> MemberId {
    MemberId::from_bytes([number; 16])
}

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// A content of so many bytes, and the hashes of its chunks. `salt` tells contents apart.
fn content(size: u64, salt: u8) -> (Content, Arc<[Digest]>) {
    let chunks = u8::try_from(size.div_ceil(u64::from(CHUNK))).unwrap();
    let list: Vec<Digest> = (0..chunks).map(|at| Algorithm::Sha256.digest(&[salt, at])).collect();
    let hash = Algorithm::Sha256.digest(&[salt]);
    let algorithm = Algorithm::Sha256;
    (Content { size, algorithm, hash, chunk: CHUNK, list: list_digest(algorithm, &list) }, list.into())
}

fn transfers(peers: &[u8]) -> Transfers {
    let tuning = Tuning { parallel_peers: 2, idle_timeout: Duration::from_secs(300), seed: 0 };
    let mut transfers = Transfers::new(tuning);
    transfers.members(&peers.iter().map(|number| peer(*number)).collect(), at(0));
    transfers
}

/// The chunks that are asked for, and of whom.
fn asked(actions: &[Action]) -> Vec<(u32, MemberId)> {
    let chunk = |action: &Action| match action {
        Action::AskChunk { index, peer, .. } => Some((*index, *peer)),
        _ => None,
    };
    actions.iter().filter_map(chunk).collect()
}

/// Wanted, opened with nothing there, and listed by the peer that is asked.
fn pulling(transfers: &mut Transfers, content: Content, list: &Arc<[Digest]>) -> Vec<Action> {
    transfers.want(content, at(0));
    assert_eq!(transfers.take_actions(), [Action::Open(content)]);
    transfers.opened(&content.hash, Ok(Opened::Nothing), at(0));
    let actions = transfers.take_actions();
    let [Action::AskList { peer, .. }] = actions[..] else { panic!("{actions:?}") };
    transfers.listed(&content.hash, peer, Ok(Arc::clone(list)), at(0));
    transfers.take_actions()
}

#[test]
fn a_content_comes_chunk_by_chunk_from_several_and_is_verified() {
    let mut transfers = transfers(&[1, 2, 3]);
    let (content, list) = content(10 * 1024, 1);
    let mut open = asked(&pulling(&mut transfers, content, &list));
    let whom: BTreeSet<_> = open.iter().map(|(_, peer)| *peer).collect();
    assert_eq!((whom.len(), open.len()), (2, 2 * PER_PEER), "no more members and requests than allowed: {open:?}");
    let mut came = BTreeSet::new();
    while let Some((index, peer)) = open.pop() {
        assert!(came.insert(index), "each once");
        transfers.pulled(&content.hash, peer, index, Ok(()), at(1));
        let actions = transfers.take_actions();
        open.extend(asked(&actions));
        if open.is_empty() {
            assert_eq!(actions, [Action::Finish(content)]);
        }
    }
    assert_eq!(came.len(), 10);
    transfers.finished(&content.hash, Ok(()), at(2));
    assert_eq!(transfers.take_actions(), [Action::Done(content.hash)]);
    assert!(!transfers.is_wanted(&content.hash) && transfers.next_wake(at(2)) == Time::NEVER);
}

#[test]
fn what_is_there_is_not_asked_for_again() {
    let mut transfers = transfers(&[1]);
    let (content, list) = content(4 * 1024, 1);
    transfers.want(content, at(0));
    transfers.opened(&content.hash, Ok(Opened::Part(list, vec![true, false, true, true])), at(0));
    assert_eq!(asked(&transfers.take_actions()), [(1, peer(1))]);
    assert_eq!(transfers.bytes_here(&content.hash), Some(3 * 1024));
}

#[test]
fn a_content_without_chunks_or_already_whole_needs_nobody() {
    let mut transfers = transfers(&[]);
    let (empty, _) = content(0, 1);
    transfers.want(empty, at(0));
    transfers.opened(&empty.hash, Ok(Opened::Part(Arc::from([]), vec![])), at(0));
    let (whole, _) = content(5, 2);
    transfers.want(whole, at(0));
    transfers.opened(&whole.hash, Ok(Opened::Whole), at(0));
    let expected = [Action::Open(empty), Action::Finish(empty), Action::Open(whole), Action::Done(whole.hash)];
    assert_eq!(transfers.take_actions(), expected);
}

/// Row 24: what is corrupt is fetched again, from somebody else if there is anybody.
#[test]
fn a_corrupt_chunk_is_asked_of_another() {
    let mut transfers = transfers(&[1, 2]);
    let (content, list) = content(1024, 1);
    let first = asked(&pulling(&mut transfers, content, &list))[0];
    transfers.pulled(&content.hash, first.1, 0, Err(Fault::Corrupt), at(1));
    let second = asked(&transfers.take_actions())[0];
    assert_ne!(first.1, second.1);
    transfers.pulled(&content.hash, second.1, 0, Err(Fault::Corrupt), at(2));
    assert_eq!(transfers.take_actions(), []);
    // Both are asked again after a while, and not before.
    let wake = transfers.next_wake(at(2));
    assert!(wake > at(100) && wake < at(2_000), "{wake:?}");
    transfers.tick(at(5_000));
    assert_eq!(asked(&transfers.take_actions()).len(), 1);
}

#[test]
fn who_does_not_have_it_or_does_not_answer_is_left_alone_for_a_while() {
    let mut transfers = transfers(&[1]);
    let (content, list) = content(1024, 1);
    pulling(&mut transfers, content, &list);
    transfers.pulled(&content.hash, peer(1), 0, Err(Fault::Absent), at(1));
    assert_eq!(transfers.take_actions(), []);
    assert_eq!(transfers.next_wake(at(1)), at(1) + ABSENT);
    transfers.tick(at(1) + ABSENT);
    assert_eq!(asked(&transfers.take_actions()), [(0, peer(1))]);
    transfers.pulled(&content.hash, peer(1), 0, Err(Fault::Unreachable), at(2000));
    assert_eq!(transfers.take_actions(), []);
    // Somebody else who comes is asked at once.
    transfers.members(&[peer(1), peer(2)].into(), at(2001));
    assert_eq!(asked(&transfers.take_actions()), [(0, peer(2))]);
}

#[test]
fn a_member_that_leaves_is_replaced_when_its_request_ends() {
    let mut transfers = transfers(&[1]);
    let (content, list) = content(1024, 1);
    pulling(&mut transfers, content, &list);
    transfers.members(&[peer(2)].into(), at(1));
    transfers.pulled(&content.hash, peer(1), 0, Err(Fault::Unreachable), at(2));
    assert_eq!(asked(&transfers.take_actions()), [(0, peer(2))]);
}

#[test]
fn answers_to_nobody_and_twice_are_passed_over() {
    let mut transfers = transfers(&[1]);
    let (content, list) = content(2048, 1);
    pulling(&mut transfers, content, &list);
    transfers.pulled(&content.hash, peer(1), 0, Ok(()), at(1));
    transfers.pulled(&content.hash, peer(1), 0, Ok(()), at(1));
    transfers.pulled(&content.hash, peer(9), 1, Ok(()), at(1));
    transfers.pulled(&list[0], peer(1), 1, Ok(()), at(1));
    transfers.finished(&content.hash, Ok(()), at(1));
    assert_eq!(transfers.take_actions(), []);
    transfers.forget(&content.hash, at(2));
    assert_eq!(transfers.take_actions(), [Action::Leave(content.hash)]);
    transfers.pulled(&content.hash, peer(1), 1, Ok(()), at(2));
    assert_eq!(transfers.take_actions(), []);
}

#[test]
fn what_does_not_come_is_told_once_and_tried_on() {
    let mut transfers = transfers(&[]);
    let (content, _) = content(2048, 1);
    transfers.want(content, at(0));
    transfers.opened(&content.hash, Ok(Opened::Nothing), at(0));
    transfers.take_actions();
    assert_eq!(transfers.next_wake(at(0)), at(300_000));
    transfers.tick(at(299_999));
    assert_eq!(transfers.take_actions(), []);
    transfers.tick(at(300_000));
    transfers.tick(at(900_000));
    let actions = transfers.take_actions();
    assert!(matches!(actions[..], [Action::Stalled(hash, _)] if hash == content.hash), "{actions:?}");
    transfers.members(&[peer(1)].into(), at(900_001));
    assert_eq!(transfers.take_actions(), [Action::AskList { peer: peer(1), content }]);
}

#[test]
fn a_disk_that_refuses_is_tried_again_later() {
    let mut transfers = transfers(&[1]);
    let (content, list) = content(1024, 1);
    pulling(&mut transfers, content, &list);
    transfers.pulled(&content.hash, peer(1), 0, Err(Fault::Disk("full".into())), at(1));
    assert_eq!(transfers.take_actions(), [Action::Stalled(content.hash, "full".into())]);
    transfers.tick(at(1) + DISK);
    assert_eq!(transfers.take_actions(), [Action::Open(content)]);
    transfers.opened(&content.hash, Ok(Opened::Part(list, vec![true])), at(11_000));
    transfers.finished(&content.hash, Err(Fault::Corrupt), at(11_001));
    let actions = transfers.take_actions();
    assert!(matches!(&actions[..], [Action::Finish(_), Action::Stalled(..)]), "{actions:?}");
}

#[test]
fn so_many_at_a_time_in_their_order_and_who_stalls_holds_up_nobody() {
    let mut transfers = transfers(&[]);
    let all: Vec<Content> = (0..10).map(|salt| content(1024, salt).0).collect();
    all.iter().for_each(|content| transfers.want(*content, at(0)));
    let opened = |actions: Vec<Action>| actions.iter().filter(|action| matches!(action, Action::Open(_))).count();
    assert_eq!(opened(transfers.take_actions()), ACTIVE);
    for content in &all[..ACTIVE] {
        transfers.opened(&content.hash, Ok(Opened::Nothing), at(0));
    }
    assert_eq!(opened(transfers.take_actions()), 0);
    transfers.tick(at(300_000));
    assert_eq!(opened(transfers.take_actions()), ACTIVE);
}

/// However much has stalled, few of it are tried at a time, in turns, and what is new does not wait for that.
#[test]
fn what_has_stalled_takes_turns() {
    let mut transfers = transfers(&[]);
    let all: Vec<Content> = (0..200).map(|salt| content(1024, salt).0).collect();
    all.iter().for_each(|content| transfers.want(*content, at(0)));
    let (mut now, mut tried, mut told) = (0, BTreeMap::<Digest, usize>::new(), 0);
    let mut begin = |transfers: &mut Transfers, now: u64| {
        loop {
            let actions = transfers.take_actions();
            let opened = actions.iter().filter_map(|action| match action {
                Action::Open(content) => Some(content.hash),
                _ => None,
            });
            let opened: Vec<_> = opened.collect();
            told += actions.iter().filter(|action| matches!(action, Action::Stalled(..))).count();
            if opened.is_empty() {
                return (tried.clone(), told);
            }
            for hash in opened {
                *tried.entry(hash).or_default() += 1;
                transfers.opened(&hash, Ok(Opened::Nothing), at(now));
            }
        }
    };
    // Four at a time each have their five minutes; then the turns of those that stalled.
    for _ in 0..120 {
        begin(&mut transfers, now);
        let wake = transfers.next_wake(at(now));
        assert!(wake > at(now) && wake < Time::NEVER, "{wake:?}");
        now = wake.as_nanos().div_ceil(1_000_000);
        transfers.tick(at(now));
        assert!(transfers.begun.len() <= STALLED + ACTIVE, "{}", transfers.begun.len());
    }
    let (tried, told) = begin(&mut transfers, now);
    assert_eq!((tried.len(), told), (200, 200), "all, and each told of once");
    assert!(tried.values().all(|times| *times >= 2), "{tried:?}");
    // Somebody who has all comes: it is all there at once.
    let new = content(1024, 255).0;
    transfers.want(new, at(now));
    assert!(transfers.take_actions().contains(&Action::Open(new)));
    transfers.opened(&new.hash, Ok(Opened::Whole), at(now));
    for _ in 0..100 {
        let begun: Vec<_> = transfers.begun.iter().map(|(_, hash)| *hash).collect();
        begun.iter().for_each(|hash| transfers.done(hash));
        transfers.tick(at(now));
        let opened = transfers.take_actions();
        for action in opened {
            if let Action::Open(content) = action {
                transfers.opened(&content.hash, Ok(Opened::Whole), at(now));
            }
        }
    }
    assert_eq!(transfers.all(), []);
}

/// Whatever the answers are, in whatever order: never more under way than allowed, each chunk kept once, and in the end all.
#[test]
fn under_any_answers_all_comes() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut transfers = transfers(&[1, 2, 3]);
        let contents: Vec<_> = (0..3).map(|salt| content(rng.u64(1..40) * 1024, salt)).collect();
        let (mut under_way, mut now, mut done) = (Vec::new(), 0, 0);
        contents.iter().for_each(|(content, _)| transfers.want(*content, at(0)));
        for step in 0..20_000 {
            under_way.extend(transfers.take_actions());
            let mut per_peer = BTreeMap::<MemberId, usize>::new();
            for action in &under_way {
                if let Action::AskChunk { peer, .. } | Action::AskList { peer, .. } = action {
                    *per_peer.entry(*peer).or_default() += 1;
                }
            }
            assert!(per_peer.values().all(|count| *count <= PER_PEER), "seed {seed}: {per_peer:?}");
            if under_way.is_empty() {
                if done == contents.len() {
                    break;
                }
                let wake = transfers.next_wake(at(now));
                assert_ne!(wake, Time::NEVER, "seed {seed}: nothing under way, and nothing to wait for");
                now = wake.as_nanos().div_ceil(1_000_000);
                transfers.tick(at(now));
                continue;
            }
            assert!(step < 19_999, "seed {seed}: it goes on for ever");
            let mut chance = || match rng.u8(0..10) {
                0 => Err(Fault::Absent),
                1 => Err(Fault::Unreachable),
                2 => Err(Fault::Corrupt),
                _ => Ok(()),
            };
            let outcome = chance();
            let action = under_way.swap_remove(rng.usize(0..under_way.len()));
            now += rng.u64(0..3);
            match action {
                Action::Open(content) => transfers.opened(&content.hash, Ok(Opened::Nothing), at(now)),
                Action::AskList { peer, content } => {
                    let list = contents.iter().find(|(other, _)| *other == content).unwrap();
                    transfers.listed(&content.hash, peer, outcome.map(|()| Arc::clone(&list.1)), at(now));
                }
                Action::AskChunk { peer, content, index, .. } => {
                    transfers.pulled(&content.hash, peer, index, outcome, at(now))
                }
                Action::Finish(content) => transfers.finished(&content.hash, Ok(()), at(now)),
                Action::Done(_) => done += 1,
                Action::Stalled(..) | Action::Leave(_) => {}
            }
        }
        assert_eq!(done, contents.len(), "seed {seed}");
    }
}

/// Opened or listed while it was being forgotten: what was begun then is left as well.
#[test]
fn what_is_begun_too_late_is_left() {
    let (content, list) = content(3000, 1);
    let opened =
        |transfers: &mut Transfers| transfers.opened(&content.hash, Ok(Opened::Part(list.clone(), vec![])), at(1));
    let listed = |transfers: &mut Transfers| transfers.listed(&content.hash, peer(1), Ok(list.clone()), at(1));
    for late in [&opened as &dyn Fn(&mut Transfers), &listed] {
        let mut transfers = transfers(&[1]);
        transfers.want(content, at(0));
        transfers.forget(&content.hash, at(0));
        transfers.take_actions();
        late(&mut transfers);
        assert_eq!(transfers.take_actions(), [Action::Leave(content.hash)]);
    }
}

/// Somebody said of the same hash what cannot be had.
#[test]
fn what_is_said_last_of_a_hash_is_fetched() {
    let (content, _) = content(3000, 1);
    let mut transfers = transfers(&[1]);
    let wrong = Content { chunk: 2048, ..content };
    transfers.want(wrong, at(0));
    assert_eq!(transfers.take_actions(), [Action::Open(wrong)]);
    transfers.want(content, at(1));
    assert_eq!(transfers.take_actions(), [Action::Leave(content.hash), Action::Open(content)]);
    transfers.want(content, at(2));
    assert_eq!(transfers.take_actions(), []);
}

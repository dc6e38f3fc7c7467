//! Many groups under many seeds, in which members die at any point and frames are lost, doubled and overtaken: those who are left
//! do the same, and keep nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tribes_core::{FaultKind, Outcome, SendOptions};
use tribes_testkit::net::LinkConfig;
use tribes_testkit::{World, simulate};

use super::group::{SECOND, group, quick};
use crate::two_phase_commit::TwoPhaseCommit;

/// What happens to a group.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    links: LinkConfig,
    /// So many of five die, at any time.
    deaths: usize,
}

/// What a run saw, so that a run in which nothing happened is noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    committed: u64,
    aborted: u64,
    settled: u64,
}

async fn run(world: World, seed: u64, trouble: Trouble) -> Seen {
    let mut rng = fastrand::Rng::with_seed(seed);
    let peers = group(&world, (0..5).map(|_| TwoPhaseCommit::new(quick()))).await;
    // One that began just now could not say what it never voted for.
    world.sleep(3 * SECOND).await;
    world.net().set_links(trouble.links);
    let mut dead = BTreeSet::new();
    let mut deaths: Vec<u64> = (0..trouble.deaths).map(|_| rng.u64(0..60)).collect();
    deaths.sort_unstable();
    let (mut to_of, mut pending) = (BTreeMap::new(), Vec::new());
    for step in 0..60_u64 {
        for from in 0..peers.len() {
            if dead.contains(&from) || rng.u8(..) > 160 {
                continue;
            }
            let to: Vec<usize> = (0..peers.len()).filter(|to| *to != from && rng.u8(..) > 60).collect();
            if to.is_empty() {
                continue;
            }
            let text = format!("{from} {step}");
            let members: Vec<_> = to.iter().map(|to| peers[*to].channel.local()).collect();
            let options = *rng.choice(&[SendOptions::NONE, SendOptions::ACK]).unwrap();
            if let Ok(sent) = peers[from].channel.send_with(members, text.clone(), options).await {
                pending.push((text.clone(), from, sent));
                to_of.insert(text, to);
            }
        }
        while deaths.first() == Some(&step) {
            deaths.remove(0);
            // At any point between the frames of this step.
            world.sleep(Duration::from_micros(rng.u64(0..8000))).await;
            let victim = rng.usize(..peers.len());
            if dead.insert(victim) {
                peers[victim].node.crash();
            }
        }
        world.sleep(Duration::from_millis(rng.u64(1..10))).await;
    }
    // The network is as good as new; what was lost before stays lost.
    world.sleep(10 * SECOND).await;
    world.net().set_links(LinkConfig::default());
    world.sleep(30 * SECOND).await;
    let heard: Vec<Vec<String>> = peers.iter().map(|peer| peer.heard.texts()).collect();
    for (text, to) in &to_of {
        let alive = to.iter().filter(|to| !dead.contains(*to));
        let got: Vec<usize> = alive.clone().map(|to| heard[*to].iter().filter(|one| *one == text).count()).collect();
        let all_or_none = got.iter().all(|count| *count == 1) || got.iter().all(|count| *count == 0);
        assert!(all_or_none, "seed {seed}: message {text:?} to {to:?} came {got:?} times, dead are {dead:?}");
    }
    for (text, from, sent) in pending.into_iter().filter(|(_, from, _)| !dead.contains(from)) {
        let outcome: Outcome = world.env().until(world.env().now() + SECOND, sent).await.expect("an outcome");
        let to = to_of[&text].iter().filter(|to| !dead.contains(*to));
        let given_up =
            |fault: &tribes_core::Fault| matches!(fault.kind, FaultKind::Dropped { by: "two-phase-commit", .. });
        for to in to {
            let got = heard[*to].contains(&text);
            assert!(got || !outcome.is_complete(), "seed {seed}: {from} believes that {to} has {text:?}");
            let nobody = outcome.faults.iter().any(given_up);
            assert!(!got || !nobody, "seed {seed}: {from} believes that nobody has {text:?}, but {to} has");
        }
    }
    let mut seen = Seen::default();
    for (at, peer) in peers.iter().enumerate().filter(|(at, _)| !dead.contains(at)) {
        let gauges = &peer.channel.stats().layers[0].gauges;
        assert!(peer.is_empty(), "seed {seed}: member {at} keeps something: {gauges:?}");
        assert_eq!(peer.gauge("guessed_messages"), 0, "seed {seed}: member {at} had to guess: {gauges:?}");
        assert_eq!(peer.channel.stats().budget_used, 0, "seed {seed}");
        seen.committed += peer.gauge("committed_messages");
        seen.aborted += peer.gauge("aborted_messages");
        seen.settled += peer.gauge("settled_messages");
    }
    seen
}

fn seeds(count: u64, trouble: Trouble) -> Seen {
    let mut sum = Seen::default();
    for seed in 0..count {
        let seen = simulate(seed, async |world| run(world, seed, trouble).await).value;
        sum.committed += seen.committed;
        sum.aborted += seen.aborted;
        sum.settled += seen.settled;
    }
    sum
}

#[test]
fn members_die_at_any_point() {
    for deaths in 1..=3 {
        let seen = seeds(8, Trouble { links: LinkConfig::default(), deaths });
        assert!(seen.committed > 200 && seen.aborted > 20 && seen.settled > 0, "{deaths} deaths: {seen:?}");
    }
}

#[test]
fn frames_are_doubled_and_overtaken() {
    let links = LinkConfig::default().with_duplicate(0.2).with_reorder(0.3, Duration::from_millis(30));
    let seen = seeds(6, Trouble { links, deaths: 0 });
    assert!(seen.committed > 200, "{seen:?}");
    let seen = seeds(6, Trouble { links, deaths: 2 });
    assert!(seen.committed > 200 && seen.settled > 0, "{seen:?}");
}

#[test]
fn frames_are_lost() {
    let links = LinkConfig::default().with_loss(0.05).with_duplicate(0.1).with_reorder(0.2, Duration::from_millis(30));
    let seen = seeds(6, Trouble { links, deaths: 0 });
    assert!(seen.committed > 200 && seen.aborted > 20, "{seen:?}");
    let seen = seeds(6, Trouble { links, deaths: 1 });
    assert!(seen.committed > 200 && seen.aborted > 20, "{seen:?}");
}

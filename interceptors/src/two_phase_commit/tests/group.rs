//! Groups of our own nodes, simulated.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::wire::ExtensionKind;
use tribes_core::{Channel, FaultKind, Handled, IntoLayer as _, Outcome, SendOptions};
use tribes_testkit::net::Node;
use tribes_testkit::{Layered, Reaction, RecordingListener, World, simulate};

use crate::two_phase_commit::frame::Frame;
use crate::two_phase_commit::{TwoPhaseCommit, TwoPhaseCommitConfig, Vote};

pub(super) const SECOND: Duration = Duration::from_secs(1);
const SYNC: SendOptions = SendOptions::SYNC_ACK;

/// A member of a simulated group.
pub(super) struct Peer {
    pub(super) node: Node,
    pub(super) channel: Channel,
    pub(super) heard: RecordingListener,
}

impl Peer {
    pub(super) fn gauge(&self, name: &str) -> u64 {
        let gauges = &self.channel.stats().layers[0].gauges;
        gauges.iter().find(|gauge| gauge.name == name).unwrap_or_else(|| panic!("no gauge {name}")).value
    }

    /// Whether nothing is kept any more.
    pub(super) fn is_empty(&self) -> bool {
        ["open_messages", "parked_messages", "held_bytes", "doubtful_messages"].iter().all(|name| self.gauge(name) == 0)
    }

    /// Sends to the `others` and waits for the outcome.
    async fn send(&self, others: &[Self], body: impl Into<bytes::Bytes>, options: SendOptions) -> Outcome {
        let to: Vec<_> = others.iter().map(|peer| peer.channel.local()).collect();
        self.channel.send_with(to, body.into(), options).await.unwrap().await
    }
}

pub(super) fn quick() -> TwoPhaseCommitConfig {
    TwoPhaseCommitConfig::default().with_timeout(SECOND).with_expire(20 * SECOND)
}

/// A group in which everybody sees everybody.
pub(super) async fn group(world: &World, layers: impl IntoIterator<Item = TwoPhaseCommit>) -> Vec<Peer> {
    let mut peers = Vec::new();
    for layer in layers {
        let node = world.node();
        let channel = node.join(Channel::builder()).interceptor(layer.into_layer()).build().unwrap();
        let heard = RecordingListener::new();
        channel.listen(heard.clone()).forever();
        channel.start().await.unwrap();
        peers.push(Peer { node, channel, heard });
    }
    let all = || peers.iter().all(|peer| peer.channel.view().len() + 1 == peers.len());
    assert!(world.until(5 * SECOND, all).await);
    peers
}

fn four() -> impl Iterator<Item = TwoPhaseCommit> {
    (0..4).map(|_| TwoPhaseCommit::new(quick()))
}

#[test]
fn all_get_what_all_vote_for_and_the_outcome_is_that_of_the_listeners() {
    simulate(1, async |world| {
        let peers = group(&world, four()).await;
        let (sender, others) = peers.split_first().unwrap();
        for (number, options) in [SendOptions::NONE, SendOptions::ACK, SYNC].into_iter().enumerate() {
            assert!(sender.send(others, format!("{number}"), options).await.is_complete());
        }
        others[1].heard.react_next(Reaction::Fail("its words"));
        others[2].heard.react_next(Reaction::Decline);
        let outcome = sender.send(others, "3", SYNC).await;
        let [fault] = outcome.faults.as_slice() else { panic!("{outcome:?}") };
        assert_eq!(*fault.member, *others[1].channel.local());
        assert!(matches!(&fault.kind, FaultKind::RemoteFailure(_)), "{fault}");
        assert_eq!(outcome.no_taker, [others[2].channel.local()]);
        world.sleep(SECOND).await;
        for (at, peer) in others.iter().enumerate() {
            // One that declines has not got it.
            assert_eq!(peer.heard.texts(), ["0", "1", "2", "3"][..if at == 2 { 3 } else { 4 }]);
            let options: Vec<_> = peer.heard.received().iter().map(|one| one.message.options()).collect();
            assert_eq!(options[0], SendOptions::BYTE_MESSAGE);
            assert_eq!(options[2], SYNC | SendOptions::BYTE_MESSAGE);
            assert!(peer.is_empty());
        }
        assert!(sender.is_empty());
    });
}

#[test]
fn nobody_gets_what_one_votes_against() {
    simulate(2, async |world| {
        let picky = || {
            TwoPhaseCommit::new(quick()).with_voter(|message| match message.body.len() {
                3 => Vote::No("three bytes".to_owned()),
                _ => Vote::Yes,
            })
        };
        let peers = group(&world, four().take(3).chain([picky()])).await;
        let (sender, others) = peers.split_first().unwrap();
        for options in [SendOptions::NONE, SYNC] {
            let outcome = sender.send(others, "bad", options).await;
            assert_eq!(outcome.faults.len(), 3);
            for peer in others {
                let fault = outcome.fault_of(&peer.channel.local()).unwrap();
                match fault {
                    FaultKind::RemoteFailure(Some(why)) => assert!(why.ends_with("three bytes"), "{why}"),
                    FaultKind::Dropped { by, .. } => assert_eq!(*by, "two-phase-commit"),
                    other => panic!("{other:?}"),
                }
            }
            assert!(sender.send(others, "good", options).await.is_complete());
        }
        world.sleep(SECOND).await;
        assert!(others.iter().all(|peer| peer.heard.texts() == ["good", "good"]));
        assert!(peers.iter().all(Peer::is_empty));
        assert_eq!((others[2].gauge("votes_against"), others[0].gauge("aborted_messages")), (2, 2));
    });
}

#[test]
fn nobody_gets_what_one_is_too_dead_or_too_slow_to_vote_for() {
    simulate(3, async |world| {
        let peers = group(&world, four()).await;
        let (sender, others) = peers.split_first().unwrap();
        others[1].node.freeze();
        let start = world.env().now();
        let outcome = sender.send(others, "to a frozen one", SYNC).await;
        assert_eq!(outcome.fault_of(&others[1].channel.local()), Some(&FaultKind::AckTimeout(SECOND)));
        assert_eq!((world.env().now() - start, outcome.faults.len()), (SECOND, 3));
        others[1].node.thaw();
        world.sleep(5 * SECOND).await;
        others[1].node.crash();
        let outcome = sender.send(others, "to a dead one", SYNC).await;
        assert_eq!(outcome.faults.len(), 3);
        let dead = outcome.fault_of(&others[1].channel.local()).unwrap();
        assert!(!matches!(dead, FaultKind::Dropped { .. }), "{dead:?}");
        // The others go on.
        let two = [&others[0], &others[2]].map(|peer| peer.channel.local());
        sender.channel.send(&two[..], "to the living", SYNC).await.unwrap();
        world.sleep(5 * SECOND).await;
        for peer in [&others[0], &others[2]] {
            assert_eq!(peer.heard.texts(), ["to the living"]);
            assert!(peer.is_empty());
        }
    });
}

#[test]
fn what_waits_for_a_vote_keeps_its_place_and_nobody_elses() {
    simulate(4, async |world| {
        let peers = group(&world, four()).await;
        let (sender, others) = peers.split_first().unwrap();
        let [one, two, three] = [0, 1, 2].map(|at: usize| others[at].channel.local());
        others[0].node.freeze();
        let channel = &sender.channel;
        let slow = channel.send_with(vec![one, Arc::clone(&two)], "first", SYNC).await.unwrap();
        let behind = channel.send_with(&two, "second", SYNC).await.unwrap();
        channel.send(&three, "aside", SYNC).await.unwrap();
        assert_eq!((others[1].heard.count(), others[2].heard.texts()), (0, vec!["aside".to_owned()]));
        world.sleep(SECOND / 2).await;
        others[0].node.thaw();
        assert!(slow.await.is_complete() && behind.await.is_complete());
        assert_eq!(others[1].heard.texts(), ["first", "second"]);
        // What is given up keeps it no longer than its time.
        others[0].node.freeze();
        let lost = channel.send_with(vec![others[0].channel.local(), Arc::clone(&two)], "lost", SYNC).await.unwrap();
        let behind = channel.send_with(&two, "third", SYNC).await.unwrap();
        assert!(!lost.await.is_complete());
        assert!(behind.await.is_complete());
        assert_eq!(others[1].heard.texts(), ["first", "second", "third"]);
    });
}

#[test]
fn what_a_stop_finds_undecided_is_given_up() {
    simulate(5, async |world| {
        let peers = group(&world, four()).await;
        let (sender, others) = peers.split_first().unwrap();
        others[1].node.freeze();
        let to: Vec<_> = others.iter().map(|peer| peer.channel.local()).collect();
        let pending = sender.channel.send_with(to, "never", SendOptions::NONE).await.unwrap();
        sender.channel.stop().await;
        let outcome = pending.await;
        assert_eq!(outcome.faults.len(), 3);
        others[1].node.thaw();
        world.sleep(30 * SECOND).await;
        for peer in &peers {
            assert_eq!(peer.heard.count(), 0);
            assert!(peer.is_empty());
        }
    });
}

#[tokio::test]
async fn what_is_not_of_this_layer_is_refused_in_words_that_help() {
    let stack = Layered::builder().layer(TwoPhaseCommit::default().into_layer()).members(2).start().await;
    let (one, other) = (&stack.members[0], &stack.members[1]);
    let why = async |message| match stack.below.inject(message).await.handled().await {
        Handled::Failed(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(stack.below.message(one, "plain", SYNC)).await.contains("says nothing of two phases"));
    let with = |entry: Vec<u8>| {
        let mut message = stack.below.message(one, "body", SYNC);
        message.add_extension(ExtensionKind::TWO_PHASE_COMMIT, entry).unwrap();
        message
    };
    for garbage in [vec![], vec![9], vec![2, 7], vec![1, 0, 0, 0, 0, 1, 5]] {
        assert!(why(with(garbage)).await.contains("malformed"));
    }
    // Whatever it says, it is answered, and little is kept.
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..1000 {
        let mut entry: Vec<u8> = (0..rng.usize(..60)).map(|_| rng.u8(..)).collect();
        entry.insert(0, rng.u8(..8));
        let from = &stack.members[round % 2];
        let message = tribes_core::ChannelMessage { sender: Arc::clone(from), ..with(entry) };
        let _ = stack.below.inject(message).await.handled().await;
    }
    let held = stack.channel.stats().layers[0].gauges.iter().find(|gauge| gauge.name == "held_bytes").unwrap().value;
    assert!(held <= 1000 * 2048 && stack.above.count() == 0);
    // A decision over what is not here, and one by somebody who has no say in it.
    let key = crate::two_phase_commit::frame::Key { coordinator: one.id(), id: [9; 16] };
    let commit = Frame::Decide(crate::two_phase_commit::frame::Decision::Commit, key);
    assert!(why(with(commit.encode())).await.contains("not here"));
    let parties = vec![stack.channel.local().id()];
    let prepare = Frame::Prepare { added_ack: true, vote: SECOND, parties };
    let message = with(prepare.encode());
    let key = crate::two_phase_commit::frame::Key::new(one.id(), &message.id).unwrap();
    assert_eq!(stack.below.inject(message).await.handled().await, Handled::Accepted);
    let commit = Frame::Decide(crate::two_phase_commit::frame::Decision::Commit, key).encode();
    let stranger = tribes_core::ChannelMessage { sender: Arc::clone(other), ..with(commit.clone()) };
    assert!(why(stranger).await.contains("not here"));
    assert_eq!(stack.above.count(), 0);
    for _ in 0..2 {
        assert_eq!(stack.below.inject(with(commit.clone())).await.handled().await, Handled::Accepted);
    }
    assert_eq!(stack.above.texts(), ["body"]);
    let error = stack.channel.send(one, "x", SendOptions::MULTICAST).await.unwrap_err();
    assert!(format!("{error:?}").contains("multicast"), "{error:?}");
}

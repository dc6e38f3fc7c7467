use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BudgetConfig, Cx, Departure, FaultKind, Interest, Member, MemberEvent, Outbound, OverloadPolicy, Pending,
    SendError, SendOptions, SyncInterceptor, Verdict,
};

use super::core::Queue;
use super::{MessageDispatch, MessageDispatchConfig};
use crate::testing::{World, fault_of, member, settle};

#[path = "tests_passing.rs"]
mod passing;

const ASYNC: SendOptions = SendOptions::ASYNCHRONOUS;
const DISPLACED: FaultKind = FaultKind::Dropped { by: "message-dispatch", reason: "displaced by a newer message" };

/// A world whose members have room for two messages of `SIZE` bytes each.
async fn narrow(policy: impl Into<Option<OverloadPolicy>>) -> World {
    let layer = MessageDispatch::new(MessageDispatchConfig::default().with_policy(policy));
    let budget = BudgetConfig::with_total(100 << 10).with_per_member(2 << 10);
    World::start(|builder| builder.interceptor(layer).budget(budget)).await
}

/// With the overhead of 256 just half of the room of a member in [`narrow`].
const SIZE: usize = 768;

fn body(text: &str, size: usize) -> Bytes {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(size.max(bytes.len()), b'.');
    bytes.into()
}

/// The first letters of what the wire took for `port`.
fn taken(world: &World, port: i32) -> String {
    world.wire.bodies(port).iter().map(|body| char::from(body[0])).collect()
}

async fn send(world: &World, to: &[Arc<Member>], text: &str, options: SendOptions) -> Pending {
    world.channel.send_with(to, body(text, SIZE), options).await.unwrap()
}

mod queue {
    use super::*;

    #[test]
    fn it_is_busy_until_the_last_was_handed_over() {
        let mut queue = Queue::default();
        assert!(!queue.is_busy());
        assert_eq!([queue.push('a', 10, true), queue.push('b', 20, false)], [None, None]);
        assert_eq!((queue.depth(), queue.displaceable_bytes()), ((2, 30), 10));
        assert_eq!(queue.next(), Some('a'));
        assert_eq!((queue.depth(), queue.displaceable_bytes()), ((1, 20), 0));
        assert_eq!(queue.next(), Some('b'));
        // In hand: a synchronous message must still queue up.
        assert!(queue.is_busy() && !queue.close_if_idle());
        assert_eq!(queue.next(), None);
        assert!(!queue.is_busy() && queue.close_if_idle());
        assert_eq!(queue.push('c', 1, true), Some('c'));
    }

    #[test]
    fn only_what_is_asynchronous_is_displaced() {
        let mut queue = Queue::default();
        for (item, displaceable) in [('a', false), ('b', true), ('c', false), ('d', true)] {
            assert_eq!(queue.push(item, 1, displaceable), None);
        }
        assert_eq!([queue.displace(), queue.displace(), queue.displace()], [Some('b'), Some('d'), None]);
        assert_eq!([queue.next(), queue.next(), queue.next()], [Some('a'), Some('c'), None]);
    }

    #[test]
    fn closed_it_gives_back_what_waits_and_keeps_what_is_in_hand() {
        let mut queue = Queue::default();
        for item in 0..3 {
            assert_eq!(queue.push(item, 1, true), None);
        }
        assert_eq!(queue.next(), Some(0));
        assert_eq!(queue.close(), [1, 2]);
        assert_eq!((queue.depth(), queue.displaceable_bytes()), ((0, 0), 0));
        assert!(queue.is_busy());
        assert_eq!(queue.next(), None);
        assert!(!queue.is_busy());
    }
}

#[test]
fn options_from_text() {
    let mut config = MessageDispatchConfig::default();
    for (text, policy) in [
        ("fail", Some(OverloadPolicy::Fail)),
        ("drop-oldest", Some(OverloadPolicy::DropOldest)),
        ("wait:50ms", Some(OverloadPolicy::Wait(Duration::from_millis(50)))),
        ("channel", None),
    ] {
        config.set("policy", text).unwrap();
        assert_eq!(config.policy, policy);
    }
    for wrong in ["wait", "wait:", "wait:5", "wait:0s", "block", ""] {
        assert!(config.set("policy", wrong).unwrap_err().to_string().contains("wait:200ms"), "{wrong}");
    }
    assert!(config.set("size", "1").unwrap_err().to_string().ends_with("(known: policy)"));
}

#[tokio::test(start_paused = true)]
async fn a_synchronous_message_goes_behind_queued_asynchronous_ones() {
    let world = World::start(|builder| builder.interceptor(MessageDispatch::default())).await;
    world.wire.block(1);
    let both = [member(1), member(2)];
    let first = send(&world, &both, "a", ASYNC).await;
    settle().await;
    // One is in hand-over, one is queued.
    let second = send(&world, &both, "b", ASYNC).await;
    settle().await;
    let last = send(&world, &both, "c", SendOptions::ACK).await;
    settle().await;
    assert_eq!((taken(&world, 1).as_str(), taken(&world, 2).as_str()), ("", "abc"));
    assert_eq!(world.gauge("queued_messages"), 2);
    world.wire.unblock(1);
    for pending in [first, second, last] {
        assert!(pending.await.is_complete());
    }
    assert_eq!(taken(&world, 1), "abc");
    settle().await;
    // The last one went straight to the second member.
    assert_eq!((world.gauge("queued_messages"), world.gauge("queued_bytes"), world.gauge("sent")), (0, 0, 5));
    assert_eq!(world.channel.stats().budget_used, 0);
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the test is about which task it is")]
async fn with_nothing_queued_a_synchronous_message_changes_no_task() {
    let world = World::start(|builder| builder.interceptor(MessageDispatch::default())).await;
    let me = tokio::spawn(async move {
        send(&world, &[member(1)], "a", ASYNC).await.await;
        settle().await;
        assert!(send(&world, &[member(1), member(2)], "b", SendOptions::ACK).await.await.is_complete());
        let taken = world.wire.taken.lock().unwrap().clone();
        let me = tokio::task::try_id();
        assert_eq!(taken.iter().map(|taken| taken.by == me).collect::<Vec<_>>(), [false, true, true]);
    });
    me.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn policy_fail_refuses_the_newest() {
    let world = narrow(OverloadPolicy::Fail).await;
    world.wire.block(1);
    let (a, b) = (send(&world, &[member(1)], "a", ASYNC).await, send(&world, &[member(1)], "b", ASYNC).await);
    let start = Instant::now();
    let c = send(&world, &[member(1), member(2)], "c", ASYNC).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    world.wire.unblock(1);
    let c = c.await;
    assert_eq!((c.faults.len(), fault_of(&c.faults, 1)), (1, Some(FaultKind::QueueFull)));
    assert!(a.await.is_complete() && b.await.is_complete());
    assert_eq!((taken(&world, 1).as_str(), taken(&world, 2).as_str()), ("ab", "c"));
    assert_eq!(world.gauge("failed_queue_full"), 1);
}

#[tokio::test(start_paused = true)]
async fn policy_drop_oldest_makes_room_among_asynchronous_messages() {
    let world = narrow(OverloadPolicy::DropOldest).await;
    let to = [member(1)];
    world.wire.block(1);
    let a = send(&world, &to, "a", ASYNC).await;
    settle().await;
    // "a" is in hand; "b" waits, until "c" takes its place.
    let b = send(&world, &to, "b", ASYNC).await;
    let c = send(&world, &to, "c", ASYNC).await;
    assert_eq!(b.await.faults[0].kind, DISPLACED);
    // A synchronous message displaces too, but is not displaced.
    let d = send(&world, &to, "d", SendOptions::ACK).await;
    assert_eq!(c.await.faults[0].kind, DISPLACED);
    let e = send(&world, &to, "e", ASYNC).await;
    assert_eq!(e.await.faults[0].kind, FaultKind::QueueFull);
    world.wire.unblock(1);
    assert!(a.await.is_complete() && d.await.is_complete());
    assert_eq!(taken(&world, 1), "ad");
    assert_eq!((world.gauge("displaced"), world.gauge("failed_dropped"), world.gauge("failed_queue_full")), (2, 2, 1));
    assert_eq!(world.channel.stats().budget_used, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_displaced_in_vain() {
    let world = narrow(OverloadPolicy::DropOldest).await;
    let to = [member(1)];
    world.wire.block(1);
    let _in_hand = send(&world, &to, "a", ASYNC).await;
    settle().await;
    let queued = send(&world, &to, "b", ASYNC).await;
    // More than "b" leaves.
    let large = world.channel.send_with(&to[..], body("c", 1500), ASYNC).await.unwrap();
    assert_eq!(large.await.faults[0].kind, FaultKind::QueueFull);
    world.wire.unblock(1);
    assert!(queued.await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn policy_wait_waits_once_per_stalled_member_and_delays_no_other() {
    let world = narrow(None).await;
    let all = [member(1), member(2), member(3)];
    world.wire.block(1);
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for text in ["a", "b", "c", "d", "e"] {
        // Those with room get it while this send still waits for the first member.
        let sending = send(&world, &all, text, ASYNC);
        tokio::pin!(sending);
        let pending = tokio::select! {
            biased;
            pending = &mut sending => pending,
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                assert_eq!((text, taken(&world, 2).as_str(), taken(&world, 3).as_str()), ("c", "abc", "abc"));
                sending.await
            }
        };
        outcomes.push(pending);
        settle().await;
    }
    // Only "c" waited.
    assert_eq!(start.elapsed().as_millis(), 200);
    assert_eq!((taken(&world, 2).as_str(), taken(&world, 3).as_str()), ("abcde", "abcde"));
    world.wire.unblock(1);
    for (at, pending) in outcomes.into_iter().enumerate() {
        let outcome = pending.await;
        assert_eq!(outcome.faults.len(), usize::from(at >= 2));
        assert_eq!(fault_of(&outcome.faults, 1), (at >= 2).then_some(FaultKind::QueueFull));
    }
    // Drained: it is served, and would be waited for, again.
    assert!(send(&world, &all, "f", ASYNC).await.await.is_complete());
    assert_eq!(taken(&world, 1), "abf");
}

#[tokio::test(start_paused = true)]
async fn room_found_while_waiting_is_used_in_order() {
    let world = narrow(None).await;
    let to = [member(1)];
    world.wire.block(1);
    send(&world, &to, "a", ASYNC).await.on_complete(drop);
    settle().await;
    // Two sends of one task wait, although for the second there is room.
    let large = world.channel.send_with(&to[..], body("c", 1500), ASYNC);
    let small = world.channel.send_with(&to[..], body("d", 1), ASYNC);
    let freed = async {
        settle().await;
        // Nor does one overtake that may not wait.
        let hasty = world.channel.try_send(&to[..], "e", ASYNC).unwrap().await;
        assert_eq!(hasty.faults[0].kind, FaultKind::QueueFull);
        assert_eq!(world.gauge("queued_messages"), 0);
        world.wire.unblock(1);
    };
    let (large, small, ()) = tokio::join!(biased; large, small, freed);
    assert!(large.unwrap().await.is_complete() && small.unwrap().await.is_complete());
    // Nobody waits any more.
    assert!(world.channel.try_send(&to[..], "f", ASYNC).unwrap().await.is_complete());
    assert_eq!(taken(&world, 1), "acdf");
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_while_it_waits_leaves_no_trace() {
    let world = narrow(OverloadPolicy::Wait(Duration::from_secs(60))).await;
    let to = [member(1), member(2)];
    world.wire.block(1);
    send(&world, &to, "a", ASYNC).await.on_complete(drop);
    send(&world, &to, "b", ASYNC).await.on_complete(drop);
    let given_up = tokio::time::timeout(Duration::from_secs(1), send(&world, &to, "c", ASYNC)).await;
    assert!(given_up.is_err());
    world.wire.unblock(1);
    assert!(send(&world, &to, "d", ASYNC).await.await.is_complete());
    // As documented: not sent to the member that had not accepted it.
    assert_eq!((taken(&world, 1).as_str(), taken(&world, 2).as_str()), ("abd", "abcd"));
    assert_eq!(world.channel.stats().budget_used, 0);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_may_not_wait_does_not() {
    let world = narrow(None).await;
    world.wire.block(1);
    send(&world, &[member(1)], "a", ASYNC).await.on_complete(drop);
    send(&world, &[member(1)], "b", ASYNC).await.on_complete(drop);
    let start = Instant::now();
    assert!(matches!(world.channel.try_send(member(1), body("c", SIZE), ASYNC), Err(SendError::Full)));
    world.wire.unblock(1);
    settle().await;
    world.wire.block(1);
    send(&world, &[member(1)], "e", ASYNC).await.on_complete(drop);
    // The channel's own look at the budget does not count the overhead: here the queue itself must say no.
    let tight = world.channel.try_send(member(1), body("f", 1000), ASYNC).unwrap();
    assert_eq!(tight.await.faults[0].kind, FaultKind::QueueFull);
    assert_eq!(start.elapsed(), Duration::ZERO);
    // An accepted one waits for nothing either.
    let fits = world.channel.try_send(member(1), body("g", SIZE), ASYNC).unwrap();
    world.wire.unblock(1);
    assert!(fits.await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_for_a_member_that_leaves_fails() {
    let world = narrow(None).await;
    let to = [member(1)];
    world.wire.block(1);
    let a = send(&world, &to, "a", ASYNC).await;
    settle().await;
    let b = send(&world, &to, "b", ASYNC).await;
    let waiting = send(&world, &to, "c", ASYNC);
    let leaving = async {
        settle().await;
        world.below.raise(MemberEvent::Removed(member(1), Departure::Failed));
        settle().await;
    };
    let (c, ()) = tokio::join!(biased; waiting, leaving);
    assert_eq!(b.await.faults[0].kind, FaultKind::Left);
    assert_eq!(c.await.faults[0].kind, FaultKind::Left);
    // What was in hand is the transport's business.
    world.wire.unblock(1);
    assert!(a.await.is_complete());
    settle().await;
    assert_eq!((world.gauge("queues"), world.gauge("failed_left")), (0, 2));
    // It may be sent to all the same.
    assert!(send(&world, &to, "d", ASYNC).await.await.is_complete());
    assert_eq!(taken(&world, 1), "ad");
}

#[tokio::test(start_paused = true)]
async fn stop_drains_and_reports_the_rest() {
    let world = narrow(None).await;
    let to = [member(1), member(2)];
    world.wire.block(1);
    let a = send(&world, &to, "a", ASYNC).await;
    settle().await;
    let b = send(&world, &to, "b", ASYNC).await;
    // The first member comes back within the drain time of 5 s, the second send does not find it soon enough.
    let come_back = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        world.wire.unblock(1);
    };
    let start = Instant::now();
    tokio::join!(biased; world.channel.stop(), come_back);
    assert_eq!(start.elapsed().as_secs(), 4);
    assert!(a.await.is_complete() && b.await.is_complete());
    assert_eq!(taken(&world, 1), "ab");

    // Started again it works as before; this time nobody comes back.
    world.channel.start().await.unwrap();
    world.wire.block(1);
    let c = send(&world, &to, "c", ASYNC).await;
    settle().await;
    let d = send(&world, &to, "d", ASYNC).await;
    let start = Instant::now();
    world.channel.stop().await;
    assert_eq!(start.elapsed().as_secs(), 5);
    let d = d.await;
    assert_eq!((d.faults.len(), fault_of(&d.faults, 1)), (1, Some(FaultKind::Stopped)));
    // The one in hand was given up with its task.
    assert!(matches!(fault_of(&c.await.faults, 1), Some(FaultKind::Dropped { .. })));
    assert_eq!(taken(&world, 2), "abcd");
    assert_eq!((world.gauge("queued_messages"), world.gauge("queues"), world.gauge("failed_stopped")), (0, 0, 1));
    assert_eq!(world.channel.stats().budget_used, 0);
}

/// Refuses bodies that begin with `x`.
#[derive(Debug)]
struct Refuses;

impl SyncInterceptor for Refuses {
    fn name(&self) -> &'static str {
        "refuses"
    }
    fn interest(&self) -> Interest {
        Interest::SEND
    }
    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        if out.message.body.to_bytes().starts_with(b"x") { Verdict::Refuse("an x".into()) } else { Verdict::Pass }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_below_refuses_is_not_lost_silently() {
    let world = World::start(|builder| builder.interceptor(MessageDispatch::default()).interceptor(Refuses)).await;
    let to = [member(1), member(2)];
    let (x, y) = (send(&world, &to, "x", ASYNC).await, send(&world, &to, "y", ASYNC).await);
    let x = x.await;
    assert_eq!(x.faults.len(), 2);
    assert!(matches!(x.faults[0].kind, FaultKind::Dropped { .. }));
    assert!(y.await.is_complete());
    settle().await;
    assert_eq!((world.gauge("refused"), world.gauge("failed_dropped"), world.gauge("sent")), (2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_fails_fails_alone() {
    let world = World::start(|builder| builder.interceptor(MessageDispatch::default())).await;
    world.wire.faults.lock().unwrap().insert(2, FaultKind::Connect("refused".to_owned()));
    let outcome = send(&world, &[member(1), member(2), member(3)], "a", ASYNC).await.await;
    assert_eq!((outcome.delivered(), outcome.faults[0].member.port()), (2, 2));
    assert_eq!(world.gauge("failed_connect"), 1);
}

#[tokio::test(start_paused = true)]
async fn lanes_without_use_are_given_up() {
    let world = World::start(|builder| builder.interceptor(MessageDispatch::default())).await;
    for text in ["a", "b"] {
        send(&world, &[member(1), member(2)], text, ASYNC).await.await;
        settle().await;
        world.wire.block(2);
        send(&world, &[member(2)], "x", ASYNC).await.on_complete(drop);
        for queues in [2, 2, 1] {
            assert_eq!(world.gauge("queues"), queues);
            world.channel.heartbeat().await;
            settle().await;
        }
        world.wire.unblock(2);
        settle().await;
    }
    assert_eq!((taken(&world, 1).as_str(), taken(&world, 2).as_str()), ("ab", "axbx"));
}

/// What a task sends, of which options, to each of three members, and what the wire saw.
async fn storm(seed: u64, messages: u32) {
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let layer = MessageDispatch::new(
        MessageDispatchConfig::default().with_policy(OverloadPolicy::Wait(Duration::from_secs(3600))),
    );
    let budget = BudgetConfig::with_total(4 << 20);
    let world = World::start(|builder| builder.interceptor(layer).budget(budget)).await;
    *world.wire.jitter.lock().unwrap() = Some(rng.fork());
    let members = [member(1), member(2), member(3)];
    let done = Arc::new(std::sync::atomic::AtomicU32::new(0));
    for number in 0..messages {
        let options = match rng.u8(..16) {
            0 => SendOptions::ACK,
            1 => ASYNC | SendOptions::ACK,
            _ => ASYNC,
        };
        let body = Bytes::copy_from_slice(&number.to_be_bytes());
        let pending = world.channel.send_with(&members[..], body, options).await.unwrap();
        let done = Arc::clone(&done);
        pending.on_complete(move |outcome| {
            assert!(outcome.is_complete(), "seed {seed}: {outcome:?}");
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
    }
    world.channel.stop().await;
    assert_eq!(done.load(std::sync::atomic::Ordering::Relaxed), messages, "seed {seed}");
    for port in 1..=3 {
        let taken = world.wire.bodies(port);
        assert_eq!(taken.len(), messages as usize, "seed {seed}");
        for (number, body) in (0..messages).zip(taken) {
            assert_eq!(body, number.to_be_bytes()[..], "seed {seed}, member {port}");
        }
    }
    assert_eq!(world.channel.stats().budget_used, 0);
}

#[tokio::test(start_paused = true)]
async fn each_of_100_000_messages_arrives_once_and_in_order() {
    storm(fastrand::u64(..), 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn order_holds_on_several_threads() {
    storm(fastrand::u64(..), 30_000).await;
}

/// The futures of a send stay small: they are boxed once for each message.
#[test]
fn hooks_are_small() {
    fn size<F: Future>(_: &F) -> usize {
        size_of::<F>()
    }
    let lanes = Arc::new(super::lanes::Lanes::new(None));
    let (out, _pending) = Outbound::new(
        tribes_core::ChannelMessage {
            options: ASYNC,
            timestamp_ms: 0,
            id: tribes_core::MessageId::from_array([0; 16]),
            sender: member(9),
            body: tribes_core::Body::default(),
        },
        &[],
    );
    let future = lanes.queue(out);
    assert!(size(&future) < 2048, "{}", size(&future));
}

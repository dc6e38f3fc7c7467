//! The short way: the transport below accepts at once whatever has room, so nothing is queued in the layer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use async_trait::async_trait;
use tribes_core::message::ChannelMessage;
use tribes_core::{
    BoxError, Channel, ChannelReceiver, ChannelSender, Delivery, Destination, Endpoint, Link, MembershipService,
    ProbeResult, Time,
};

use super::*;
use crate::testing::Below;

const KIB: usize = 1 << 10;

/// A transport with a queue for each member, which accepts what has room and asks for room itself where there is none.
#[derive(Debug, Default)]
struct Prompt {
    link: OnceLock<Link>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By port; a member without an entry takes messages at once.
    blocked: BTreeMap<i32, VecDeque<(u8, Destination)>>,
    /// By port: the first letters of what the members took.
    taken: BTreeMap<i32, String>,
    stopped: bool,
}

impl Prompt {
    fn block(&self, port: i32) {
        self.state.lock().unwrap().blocked.entry(port).or_default();
    }

    /// Takes `count` queued messages.
    fn take(&self, port: i32, count: usize) {
        for _ in 0..count {
            let next = self.state.lock().unwrap().blocked.get_mut(&port).and_then(VecDeque::pop_front);
            let (letter, destination) = next.expect("a queued message");
            self.state.lock().unwrap().taken.entry(port).or_default().push(char::from(letter));
            drop(destination.reservation);
            destination.completion.deliver(Delivery::Acknowledged);
        }
    }

    fn unblock(&self, port: i32) {
        let queued = self.queued(port);
        self.take(port, queued);
        self.state.lock().unwrap().blocked.remove(&port);
    }

    fn queued(&self, port: i32) -> usize {
        self.state.lock().unwrap().blocked.get(&port).map_or(0, VecDeque::len)
    }

    fn fail(&self, port: Option<i32>, kind: &FaultKind) {
        let mut state = self.state.lock().unwrap();
        let chosen = state.blocked.iter_mut().filter(|(known, _)| port.is_none_or(|port| port == **known));
        let failed: Vec<_> = chosen.flat_map(|(_, queue)| queue.drain(..)).collect();
        drop(state);
        for (_, destination) in failed {
            drop(destination.reservation);
            destination.completion.fail(kind.clone());
        }
    }

    fn accept(&self, letter: u8, destination: Destination) {
        let port = destination.member().port();
        let mut state = self.state.lock().unwrap();
        if state.stopped {
            drop(state);
            return destination.completion.fail(FaultKind::Stopped);
        }
        if let Some(queue) = state.blocked.get_mut(&port) {
            return queue.push_back((letter, destination));
        }
        state.taken.entry(port).or_default().push(char::from(letter));
        drop(state);
        drop(destination.reservation);
        destination.completion.deliver(Delivery::Acknowledged);
    }
}

#[derive(Debug)]
struct PromptSender(Arc<Prompt>);

#[async_trait]
impl ChannelSender for PromptSender {
    async fn start(&self, _: Arc<Member>, up: Link) -> Result<(), BoxError> {
        let _ = self.0.link.set(up);
        Ok(())
    }

    async fn stop(&self, _: Time) {
        self.0.state.lock().unwrap().stopped = true;
        self.0.fail(None, &FaultKind::Stopped);
    }

    fn is_prompt(&self) -> bool {
        true
    }

    fn send_now(&self, mut out: Outbound) -> Result<Option<Outbound>, SendError> {
        let letter = out.message.body.to_bytes()[0];
        let link = self.0.link.get().unwrap();
        let bytes = out.len() + 256;
        for mut destination in std::mem::take(&mut out.to) {
            if destination.reservation.is_none() {
                destination.reservation = link.budget().try_admit(destination.member(), bytes);
            }
            match destination.reservation {
                Some(_) => self.0.accept(letter, destination),
                None => out.to.push(destination),
            }
        }
        Ok((!out.to.is_empty()).then_some(out))
    }

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        let letter = out.message.body.to_bytes()[0];
        let link = self.0.link.get().unwrap();
        let bytes = out.len() + 256;
        for mut destination in out.to {
            if out.may_wait && destination.reservation.is_none() {
                destination.reservation = link.budget().admit(destination.member(), bytes).await;
            }
            match destination.reservation {
                Some(_) => self.0.accept(letter, destination),
                None => destination.completion.fail(FaultKind::QueueFull),
            }
        }
        Ok(())
    }

    async fn probe(&self, _: &Arc<Member>, _: Option<ChannelMessage>, _: Time) -> ProbeResult {
        ProbeResult::Unreachable
    }

    fn member_event(&self, event: &MemberEvent) {
        if let MemberEvent::Removed(member, _) = event {
            self.0.fail(Some(member.port()), &FaultKind::Left);
        }
    }
}

#[derive(Debug)]
struct NoReceiver;

#[async_trait]
impl ChannelReceiver for NoReceiver {
    async fn start(&self, _: Link) -> Result<Endpoint, BoxError> {
        Ok(Endpoint::new([127, 0, 0, 1].into(), 65_535))
    }
    async fn stop(&self, _: Time) {}
}

/// A channel with the layer over such a transport, whose members have room for `room` bytes each.
struct Passing {
    channel: Channel,
    wire: Arc<Prompt>,
    below: Arc<Below>,
}

impl Passing {
    async fn start(policy: impl Into<Option<OverloadPolicy>>, room: usize) -> Self {
        Self::over(policy, room, None).await
    }

    async fn over(policy: impl Into<Option<OverloadPolicy>>, room: usize, under: Option<Under>) -> Self {
        let (wire, below) = (Arc::new(Prompt::default()), Arc::new(Below::default()));
        let mut builder = Channel::builder()
            .sender(PromptSender(Arc::clone(&wire)))
            .receiver(NoReceiver)
            .membership_shared(Arc::clone(&below) as Arc<dyn MembershipService>)
            .heartbeat(None)
            .budget(BudgetConfig::with_total(1 << 20).with_per_member(room))
            .interceptor(MessageDispatch::new(MessageDispatchConfig::default().with_policy(policy)));
        if let Some(under) = under {
            builder = builder.interceptor(under);
        }
        let channel = builder.build().unwrap();
        channel.start().await.unwrap();
        Self { channel, wire, below }
    }

    async fn send(&self, to: &[Arc<Member>], text: &str, options: SendOptions) -> Pending {
        self.channel.send_with(to, body(text, SIZE), options).await.unwrap()
    }

    fn taken(&self, port: i32) -> String {
        self.wire.state.lock().unwrap().taken.get(&port).cloned().unwrap_or_default()
    }

    fn gauge(&self, name: &str) -> u64 {
        let stats = self.channel.stats();
        stats.layers[0].gauges.iter().find(|gauge| gauge.name == name).unwrap().value
    }

    fn budget_used(&self) -> usize {
        self.channel.stats().budget_used
    }
}

const LONG: OverloadPolicy = OverloadPolicy::Wait(Duration::from_secs(60));

/// With the channel's policy the transport looks for room, with one of its own the layer does.
const WAITS: [Option<OverloadPolicy>; 2] = [None, Some(OverloadPolicy::Wait(Duration::from_millis(200)))];

#[tokio::test(start_paused = true)]
async fn messages_of_all_options_keep_their_order_and_nothing_is_queued_here() {
    for policy in WAITS {
        let world = Passing::start(policy, 64 * KIB).await;
        world.wire.block(1);
        let both = [member(1), member(2)];
        let mut outcomes = Vec::new();
        for (text, options) in [("a", ASYNC), ("b", SendOptions::ACK), ("c", ASYNC), ("d", SendOptions::NONE)] {
            outcomes.push(world.send(&both, text, options).await);
        }
        assert_eq!((world.wire.queued(1), world.taken(2).as_str()), (4, "abcd"));
        assert_eq!((world.gauge("queues"), world.gauge("queued_messages")), (0, 0));
        world.wire.unblock(1);
        for outcome in outcomes {
            assert!(outcome.await.is_complete());
        }
        assert_eq!((world.taken(1).as_str(), world.budget_used()), ("abcd", 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_member_is_waited_for_once_and_delays_no_other() {
    for policy in WAITS {
        let world = Passing::start(policy, 2 * KIB).await;
        let all = [member(1), member(2)];
        world.wire.block(1);
        let start = Instant::now();
        let mut outcomes = Vec::new();
        for text in ["a", "b", "c", "d", "e"] {
            let sending = world.send(&all, text, ASYNC);
            tokio::pin!(sending);
            tokio::select! {
                biased;
                pending = &mut sending => outcomes.push(pending),
                () = tokio::time::sleep(Duration::from_millis(1)) => {
                    // The other has it while this one is waited for.
                    assert_eq!((text, world.taken(2).as_str()), ("c", "abc"));
                    outcomes.push(sending.await);
                }
            }
        }
        assert_eq!((start.elapsed().as_millis(), world.taken(2).as_str()), (200, "abcde"));
        world.wire.unblock(1);
        for (at, pending) in outcomes.into_iter().enumerate() {
            let outcome = pending.await;
            assert_eq!(fault_of(&outcome.faults, 1), (at >= 2).then_some(FaultKind::QueueFull));
            assert_eq!(fault_of(&outcome.faults, 2), None);
        }
        // Drained: it is served again.
        assert!(world.send(&all, "f", ASYNC).await.await.is_complete());
        assert_eq!((world.taken(1).as_str(), world.budget_used()), ("abf", 0));
        assert_eq!(world.gauge("failed_queue_full"), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn policy_fail_refuses_the_newest_at_once() {
    let world = Passing::start(OverloadPolicy::Fail, 2 * KIB).await;
    world.wire.block(1);
    let start = Instant::now();
    let both = [member(1), member(2)];
    let (a, b) = (world.send(&both, "a", ASYNC).await, world.send(&both, "b", ASYNC).await);
    let c = world.send(&both, "c", ASYNC).await.await;
    assert_eq!((c.faults.len(), fault_of(&c.faults, 1)), (1, Some(FaultKind::QueueFull)));
    world.wire.unblock(1);
    assert!(a.await.is_complete() && b.await.is_complete());
    assert_eq!((world.taken(1).as_str(), world.taken(2).as_str()), ("ab", "abc"));
    assert_eq!((start.elapsed(), world.budget_used()), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_are_dropped_here_even_so() {
    let world = Passing::start(OverloadPolicy::DropOldest, 2 * KIB).await;
    // The transport accepts all that has room: nothing stays here that could be displaced.
    world.wire.block(1);
    for text in ["a", "b"] {
        world.send(&[member(1)], text, ASYNC).await.on_complete(drop);
        settle().await;
    }
    let c = world.send(&[member(1)], "c", ASYNC).await.await;
    assert_eq!(c.faults[0].kind, FaultKind::QueueFull);
    assert_eq!((world.gauge("queues"), world.gauge("displaced")), (1, 0));
    world.wire.unblock(1);
    assert_eq!((world.taken(1).as_str(), world.budget_used()), ("ab", 0));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_wait_neither_waits_nor_overtakes() {
    let world = Passing::start(LONG, 2 * KIB).await;
    let to = [member(1)];
    world.wire.block(1);
    for text in ["a", "b"] {
        world.send(&to, text, ASYNC).await.on_complete(drop);
    }
    let start = Instant::now();
    assert!(matches!(world.channel.try_send(&to[..], body("x", SIZE), ASYNC), Err(SendError::Full)));
    // One that needs all room waits. There is room for a small one now, which is not for one that comes later.
    let large = world.channel.send_with(&to[..], body("c", 1700), ASYNC);
    let hasty = async {
        settle().await;
        world.wire.take(1, 1);
        let hasty = world.channel.try_send(&to[..], "y", ASYNC).unwrap().await;
        assert_eq!(hasty.faults[0].kind, FaultKind::QueueFull);
        world.wire.take(1, 1);
    };
    let (large, ()) = tokio::join!(biased; large, hasty);
    world.wire.take(1, 1);
    assert!(large.unwrap().await.is_complete());
    // Nobody waits any more.
    let last = world.channel.try_send(&to[..], "d", ASYNC).unwrap();
    world.wire.unblock(1);
    assert!(last.await.is_complete());
    assert_eq!((world.taken(1).as_str(), world.budget_used()), ("abcd", 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the test is about several tasks")]
async fn several_tasks_wait_in_the_order_in_which_they_came() {
    let world = Arc::new(Passing::start(LONG, 2 * KIB).await);
    world.wire.block(1);
    for text in ["a", "b"] {
        world.send(&[member(1)], text, ASYNC).await.on_complete(drop);
    }
    let mut tasks = Vec::new();
    // Sizes differ: a later small one would fit earlier.
    for (text, size) in [("c", SIZE), ("d", 1), ("e", 1500), ("f", 1), ("g", SIZE), ("h", 1)] {
        let world = Arc::clone(&world);
        tasks.push(tokio::spawn(async move {
            world.channel.send_with(vec![member(1), member(2)], body(text, size), ASYNC).await.unwrap().await
        }));
        settle().await;
    }
    assert_eq!(world.taken(2), "cdefgh");
    while tasks.iter().any(|task| !task.is_finished()) {
        let queued = world.wire.queued(1);
        assert!(queued > 0, "everybody waits for nothing");
        world.wire.take(1, 1);
        settle().await;
    }
    for task in tasks {
        assert!(task.await.unwrap().is_complete());
    }
    assert_eq!((world.taken(1).as_str(), world.budget_used()), ("abcdefgh", 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_member_that_leaves_hears_of_it() {
    for policy in [LONG, OverloadPolicy::Wait(Duration::from_secs(1))] {
        let world = Passing::start(policy, 2 * KIB).await;
        let to = [member(1)];
        world.below.raise(MemberEvent::Added(member(1)));
        settle().await;
        world.wire.block(1);
        let (a, b) = (world.send(&to, "a", ASYNC).await, world.send(&to, "b", ASYNC).await);
        let start = Instant::now();
        let leaving = async {
            settle().await;
            world.below.raise(MemberEvent::Removed(member(1), Departure::Failed));
        };
        let (c, ()) = tokio::join!(biased; world.send(&to, "c", ASYNC), leaving);
        for pending in [a, b, c] {
            assert_eq!(pending.await.faults[0].kind, FaultKind::Left);
        }
        assert_eq!((start.elapsed(), world.budget_used(), world.gauge("queues")), (Duration::ZERO, 0, 0));
        // It may be sent to all the same.
        world.wire.unblock(1);
        assert!(world.send(&to, "d", ASYNC).await.await.is_complete());
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_a_stop() {
    for policy in [Some(LONG), None] {
        let world = Passing::start(policy, 2 * KIB).await;
        let to = [member(1)];
        world.wire.block(1);
        let (a, b) = (world.send(&to, "a", ASYNC).await, world.send(&to, "b", ASYNC).await);
        let start = Instant::now();
        let stop = async {
            settle().await;
            world.channel.stop().await;
        };
        let sending = world.channel.send_with(&to[..], body("c", SIZE), ASYNC);
        let (c, ()) = tokio::join!(biased; sending, stop);
        for pending in [a, b] {
            assert_eq!(pending.await.faults[0].kind, FaultKind::Stopped);
        }
        match c {
            Ok(pending) => assert_eq!(pending.await.faults[0].kind, FaultKind::Stopped),
            Err(error) => assert!(matches!(error, SendError::Stopped), "{error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!((world.budget_used(), world.gauge("queues")), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_while_it_waits_leaves_nothing_behind() {
    let world = Passing::start(LONG, 2 * KIB).await;
    let to = [member(1), member(2)];
    world.wire.block(1);
    for text in ["a", "b"] {
        world.send(&to, text, ASYNC).await.on_complete(drop);
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), world.send(&to, "c", ASYNC)).await.is_err());
    world.wire.unblock(1);
    assert!(world.channel.try_send(&to[..], body("d", SIZE), ASYNC).unwrap().await.is_complete());
    assert_eq!((world.taken(1).as_str(), world.taken(2).as_str()), ("abd", "abcd"));
    assert_eq!(world.budget_used(), 0);
}

/// A layer below.
#[derive(Debug, Default)]
struct Under {
    /// Sees messages without destinations.
    empty: Arc<AtomicUsize>,
    /// Makes two of one.
    splits: bool,
}

impl SyncInterceptor for Under {
    fn name(&self) -> &'static str {
        "under"
    }
    fn interest(&self) -> Interest {
        Interest::SEND
    }
    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        self.empty.fetch_add(usize::from(out.to.is_empty()), Ordering::Relaxed);
        if !self.splits {
            return Verdict::Pass;
        }
        let whole = out.message.body.to_bytes();
        let (one, other) = whole.split_at(whole.len() / 2);
        let parts = [Bytes::copy_from_slice(one), Bytes::copy_from_slice(other)].map(tribes_core::Body::new);
        let out = std::mem::replace(out, Outbound::new(out.message.clone(), &[]).0);
        Verdict::Many(out.split(parts))
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_left_without_destinations_ends_here() {
    let under = Under::default();
    let empty = Arc::clone(&under.empty);
    let world = Passing::over(OverloadPolicy::Fail, 2 * KIB, Some(under)).await;
    world.wire.block(1);
    for text in ["a", "b", "c"] {
        world.send(&[member(1)], text, ASYNC).await.on_complete(drop);
    }
    assert_eq!(empty.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_a_message_that_has_its_room_wait_for_none() {
    let world = Passing::over(OverloadPolicy::Fail, 2 * KIB, Some(Under { splits: true, ..Under::default() })).await;
    world.wire.block(1);
    let start = Instant::now();
    // With what it costs beside its body just all that there is.
    let pending = world.channel.send_with(member(1), body("a", 2 * KIB - 256), ASYNC).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    world.wire.unblock(1);
    assert!(pending.await.is_complete());
    assert_eq!(world.budget_used(), 0);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the test is about several tasks")]
async fn a_sender_in_a_loop_lets_others_have_the_thread() {
    for policy in [Some(OverloadPolicy::Fail), None] {
        let world = Passing::start(policy, 2 * KIB).await;
        world.wire.block(1);
        let ran = Arc::new(AtomicBool::new(false));
        let mut other = None;
        for number in 0..10_000 {
            let _ = world.channel.send(member(1), body("a", SIZE), ASYNC).await;
            if number == 10 {
                let ran = Arc::clone(&ran);
                other = Some(tokio::spawn(async move { ran.store(true, Ordering::Relaxed) }));
            }
        }
        assert!(ran.load(Ordering::Relaxed), "{policy:?}");
        other.unwrap().await.unwrap();
    }
}

/// What a member frees counts, not what others leave of it.
#[tokio::test(start_paused = true)]
async fn a_member_that_keeps_up_has_not_stalled_when_others_take_what_it_frees() {
    let world = Passing::start(None, 32 * KIB).await;
    world.wire.block(1);
    let others = || while world.channel.try_send(member(1), body("x", SIZE), ASYNC).is_ok() {};
    others();
    let moves = async {
        // All of its bound in each 100 ms.
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_millis(3)).await;
            world.wire.take(1, 1);
            others();
        }
    };
    let sends = async {
        for _ in 0..3 {
            drop(world.send(&[member(1)], "y", ASYNC).await);
        }
        let budget = world.wire.link.get().unwrap().budget();
        assert!(!budget.is_stalled(&member(1)));
    };
    tokio::join!(biased; sends, moves);
}

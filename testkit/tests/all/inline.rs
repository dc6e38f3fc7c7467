//! Messages that are handled where they were read, and what happens when a listener waits or takes long.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by a panic"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tribes_core::error::FaultKind;
use tribes_core::{
    Batch, BoxError, Channel, ChannelListener, Cx, Handled, Inbound, Lease, ListenerHandle, Member, Message, Receipt,
    Route, SendOptions, SyncInterceptor, Verdict, async_trait,
};
use tribes_testkit::{Recorder, member};

/// A started channel whose receiver is in the hands of the test.
struct World {
    channel: Channel,
    below: Recorder,
    answers: mpsc::UnboundedReceiver<(String, Handled)>,
    answer: mpsc::UnboundedSender<(String, Handled)>,
}

impl World {
    async fn start() -> Self {
        let below = Recorder::new();
        let channel = below.install(Channel::builder()).drain(Duration::from_millis(200)).build().unwrap();
        channel.start().await.unwrap();
        let (answer, answers) = mpsc::unbounded_channel();
        Self { channel, below, answers, answer }
    }

    fn message(&self, from: u16, body: impl Into<Bytes>) -> Inbound {
        let body = body.into();
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut message = self.below.message(&member(from), body, SendOptions::SYNC_ACK);
        message.body.lend();
        let answer = self.answer.clone();
        let receipt = Receipt::new(move |handled| drop(answer.send((text, handled))));
        Inbound::new(message, receipt, Lease::none(), Route::Stream).inline()
    }

    /// Has messages come that were read at once.
    async fn receive(&self, from: u16, bodies: &[&'static str]) {
        let mut batch: Vec<_> = bodies.iter().map(|body| self.message(from, *body)).collect();
        assert_eq!(self.below.link().unwrap().receive_batch(&mut batch).await, 0);
        assert!(batch.is_empty());
    }

    fn answered(&mut self) -> Vec<(String, Handled)> {
        std::iter::from_fn(|| self.answers.try_recv().ok()).collect()
    }
}

/// Records, and does what the body says: `wait…` waits for the gate, `yield…` lets others run, `fail…` fails, `panic…`
/// panics, `block…` blocks its thread.
#[derive(Clone)]
struct Obedient {
    seen: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
    /// Whose messages are being handled.
    busy: Arc<Mutex<BTreeSet<Arc<Member>>>>,
    batches: Option<Arc<AtomicUsize>>,
}

impl Obedient {
    fn new() -> Self {
        Self { seen: Arc::default(), gate: Arc::new(Semaphore::new(0)), busy: Arc::default(), batches: None }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl ChannelListener for Obedient {
    fn accepts(&self, message: &Message, _: &Member) -> bool {
        !message.bytes().starts_with(b"untaken")
    }
    async fn message_received(&self, message: Message, from: &Arc<Member>) -> Result<(), BoxError> {
        assert!(self.busy.lock().unwrap().insert(Arc::clone(from)), "one at a time");
        let text = String::from_utf8_lossy(message.bytes()).into_owned();
        let body = message.bytes();
        if body.starts_with(b"wait") {
            self.gate.acquire().await.unwrap().forget();
        } else if body.starts_with(b"yield") {
            tokio::task::yield_now().await;
        } else if body.starts_with(b"block") {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.seen.lock().unwrap().push(text);
        self.busy.lock().unwrap().remove(from);
        assert!(!body.starts_with(b"panic"), "as told");
        if body.starts_with(b"fail") { Err("told to fail".into()) } else { Ok(()) }
    }
    fn takes_batches(&self) -> bool {
        self.batches.is_some()
    }
    async fn batch_received(&self, batch: &mut Batch<'_>, from: &Arc<Member>) {
        self.batches.as_ref().unwrap().fetch_add(1, Ordering::Relaxed);
        for (at, message) in batch.messages().iter().enumerate() {
            if let Err(error) = self.message_received(message.clone(), from).await {
                batch.fail(at, error);
            }
        }
    }
}

fn listen(world: &World) -> (Obedient, ListenerHandle) {
    let listener = Obedient::new();
    let handle = world.channel.listen(listener.clone());
    (listener, handle)
}

fn texts(answers: &[(String, Handled)]) -> Vec<&str> {
    answers.iter().map(|(text, _)| text.as_str()).collect()
}

#[tokio::test]
async fn what_does_not_wait_is_handled_at_once_and_where_it_lies() {
    let mut world = World::start().await;
    let place = Arc::new(Mutex::new(0));
    let _handle = world.channel.on_message({
        let place = Arc::clone(&place);
        move |message, _| {
            *place.lock().unwrap() = message.bytes().as_ptr().addr();
            async { Ok(()) }
        }
    });
    let buffer = Bytes::from(vec![7; 1000]);
    let mut batch = vec![world.message(1, buffer.slice(100..200))];
    world.below.link().unwrap().receive_batch(&mut batch).await;
    // No other task has run: this test's only thread was never given up.
    assert_eq!(world.answered().len(), 1);
    assert_eq!(*place.lock().unwrap(), buffer.as_ptr().addr() + 100);
    assert!(buffer.is_unique());
    assert_eq!(world.channel.stats().listener_queue, 0);
}

#[tokio::test]
async fn what_waits_goes_to_a_task_and_what_follows_is_queued_behind_it_as_a_copy() {
    let mut world = World::start().await;
    let (listener, _handle) = listen(&world);
    let buffer = Bytes::from(b"one|wait|next|more".to_vec());
    let mut batch: Vec<_> = [0..3, 4..8, 9..13].into_iter().map(|at| world.message(1, buffer.slice(at))).collect();
    world.below.link().unwrap().receive_batch(&mut batch).await;
    assert_eq!(listener.seen(), ["one"]);
    let mut batch = vec![world.message(1, buffer.slice(14..))];
    world.below.link().unwrap().receive_batch(&mut batch).await;
    assert_eq!(world.channel.stats().listener_queue, 3);
    // Others are not held up.
    world.receive(2, &["other"]).await;
    assert_eq!(texts(&world.answered()), ["one", "other"]);
    listener.gate.add_permits(1);
    let mut texts = Vec::new();
    while texts.len() < 3 {
        texts.push(world.answers.recv().await.unwrap().0);
    }
    assert_eq!(texts, ["wait", "next", "more"]);
    assert!(buffer.is_unique());
    tokio::task::yield_now().await;
    // The task is done: the next one is handled here again.
    world.receive(1, &["again"]).await;
    assert_eq!(listener.seen(), ["one", "other", "wait", "next", "more", "again"]);
    assert_eq!(world.channel.stats().listener_queue, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn order_holds_over_several_connections_whoever_handles() {
    const EACH: usize = 3000;
    let world = Arc::new(World::start().await);
    let (listener, _handle) = listen(&world);
    let connections = (0..3).map(|connection| {
        let world = Arc::clone(&world);
        async move {
            let mut number = 0;
            while number < EACH {
                let size = 1 + number % 7;
                let body = |number| {
                    let what = if number % 50 == 7 { "yield" } else { "go" };
                    format!("{what} {connection} {number:05}")
                };
                let mut batch: Vec<_> = (number..number + size).map(|number| world.message(1, body(number))).collect();
                number += size;
                assert_eq!(world.below.link().unwrap().receive_batch(&mut batch).await, 0);
                if number % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            number
        }
    });
    let tasks: Vec<_> = connections.map(tokio::spawn).collect();
    let mut sent = 0;
    for task in tasks {
        sent += task.await.unwrap();
    }
    while listener.seen.lock().unwrap().len() < sent {
        tokio::task::yield_now().await;
    }
    let seen = listener.seen();
    for connection in 0..3 {
        let numbers: Vec<_> = seen
            .iter()
            .filter(|text| text.contains(&format!(" {connection} ")))
            .map(|text| &text[text.len() - 5..])
            .collect();
        assert!(numbers.is_sorted(), "connection {connection}");
    }
    assert_eq!(seen.len(), sent);
}

#[tokio::test]
async fn a_sync_send_to_the_sender_would_deadlock_before_and_after_the_move() {
    let mut world = World::start().await;
    let (weak, gate) = (world.channel.downgrade(), Arc::new(Semaphore::new(0)));
    let (results, mut seen) = mpsc::unbounded_channel();
    let _handle = world.channel.on_message({
        let gate = Arc::clone(&gate);
        move |_, from| {
            let (weak, gate, results) = (weak.clone(), Arc::clone(&gate), results.clone());
            async move {
                for _ in 0..2 {
                    let channel = weak.upgrade().unwrap();
                    let error = channel.send(&from, "back", SendOptions::SYNC_ACK).await.unwrap_err();
                    results.send(error.faults()[0].kind.clone()).unwrap();
                    gate.acquire().await.unwrap().forget();
                }
                Ok(())
            }
        }
    });
    world.receive(1, &["there"]).await;
    // At once, where it was read.
    assert_eq!(seen.try_recv().unwrap(), FaultKind::WouldDeadlock);
    gate.add_permits(2);
    assert_eq!(seen.recv().await.unwrap(), FaultKind::WouldDeadlock);
    assert_eq!(world.answers.recv().await.unwrap().1, Handled::Accepted);
}

#[tokio::test]
async fn a_listener_that_blocks_its_thread_gets_a_task_of_its_own_for_a_while() {
    let world = World::start().await;
    let (listener, _handle) = listen(&world);
    for _ in 0..3 {
        world.receive(1, &["block"]).await;
    }
    assert_eq!(listener.seen().len(), 3);
    // Others have a lane of their own.
    world.receive(1, &["quick"]).await;
    world.receive(2, &["other"]).await;
    assert_eq!(listener.seen().last().unwrap(), "other");
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(listener.seen().last().unwrap(), "quick");
    world.receive(1, &["here again"]).await;
    assert_eq!(listener.seen().last().unwrap(), "here again");
    // In the middle of what was read at once, too.
    world.receive(3, &["block", "block", "block", "block", "block", "last"]).await;
    assert_ne!(listener.seen().last().unwrap(), "last");
    while listener.seen().last().unwrap() != "last" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_panic_and_an_error_concern_their_message_only() {
    let mut world = World::start().await;
    let (_, _handle) = listen(&world);
    world.receive(1, &["a", "panic", "b", "fail", "untaken", "c"]).await;
    let failed = |text: &str| Handled::Failed(text.to_owned());
    let expected = [
        ("a", Handled::Accepted),
        ("panic", failed("panicked: as told")),
        ("b", Handled::Accepted),
        ("fail", failed("told to fail")),
        ("untaken", Handled::NoTaker),
        ("c", Handled::Accepted),
    ];
    // Printing the panic takes so long that the rest may be left to a task.
    for (text, handled) in expected {
        assert_eq!(world.answers.recv().await.unwrap(), (text.to_owned(), handled));
    }
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_message() {
    let mut world = World::start().await;
    let batches = Arc::new(AtomicUsize::new(0));
    let listener = Obedient { batches: Some(Arc::clone(&batches)), ..Obedient::new() };
    let _handle = world.channel.listen(listener.clone());
    world.receive(1, &["a", "fail", "untaken", "b", "c"]).await;
    let results: Vec<_> = world.answered().into_iter().map(|(_, handled)| handled).collect();
    let fail = Handled::Failed("told to fail".to_owned());
    assert_eq!(results, [Handled::Accepted, fail, Handled::NoTaker, Handled::Accepted, Handled::Accepted]);
    // What is not wanted ends a batch.
    assert_eq!(batches.load(Ordering::Relaxed), 2);
    // Waiting works, and a panic fails those that have no result yet, though not a listener before it.
    let first = listen(&world);
    world.receive(2, &["a", "wait", "panic", "b"]).await;
    assert_eq!(world.channel.stats().listener_queue, 4);
    listener.gate.add_permits(1);
    let mut results = Vec::new();
    while results.len() < 4 {
        results.push(world.answers.recv().await.unwrap().1);
    }
    assert!(results.iter().all(|result| *result == Handled::Failed("panicked: as told".to_owned())), "{results:?}");
    assert!(first.0.seen().is_empty());
    assert_eq!(world.channel.stats().listener_queue, 0);
}

#[tokio::test]
async fn a_stop_answers_for_what_is_never_done() {
    let mut world = World::start().await;
    let (listener, _handle) = listen(&world);
    world.receive(1, &["wait", "behind"]).await;
    world.receive(2, &["done"]).await;
    world.channel.stop().await;
    let answers = world.answered();
    assert_eq!(answers[0], ("done".to_owned(), Handled::Accepted));
    assert_eq!(answers.len(), 3);
    assert!(answers[1..].iter().all(|(_, handled)| matches!(handled, Handled::Failed(_))), "{answers:?}");
    assert_eq!(listener.seen(), ["done"]);
    assert_eq!(world.channel.stats().listener_queue, 0);
    let mut late = vec![world.message(1, "late")];
    assert_eq!(world.below.link().unwrap().receive_batch(&mut late).await, 1);
    assert_eq!(world.answered().len(), 1);
    // The lanes are new ones then.
    listener.busy.lock().unwrap().clear();
    world.channel.start().await.unwrap();
    world.receive(1, &["again"]).await;
    assert_eq!(listener.seen(), ["done", "again"]);
}

#[tokio::test]
async fn a_channel_that_is_dropped_leaves_nothing_behind() {
    let world = World::start().await;
    let alive = Arc::new(());
    world
        .channel
        .on_message({
            let alive = Arc::clone(&alive);
            move |_, _| {
                let _alive = &alive;
                async { Ok(()) }
            }
        })
        .forever();
    world.receive(1, &["a"]).await;
    world.receive(2, &["b"]).await;
    let weak = world.channel.downgrade();
    drop(world);
    assert!(weak.upgrade().is_none());
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// A layer that does what the body says, if that names it: `drop`, `refuse`, `double` or `panic`.
#[derive(Debug)]
struct Judge(&'static str);

impl SyncInterceptor for Judge {
    fn name(&self) -> &'static str {
        self.0
    }
    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        let body = String::from_utf8(msg.message.body.to_bytes().to_vec()).unwrap();
        match body.strip_prefix(self.0).map(str::trim) {
            Some("drop") => Verdict::Drop("as told"),
            Some("refuse") => Verdict::Refuse("as told".into()),
            Some("panic") => panic!("as told"),
            Some("double") => {
                let receipt = std::mem::replace(&mut msg.receipt, Receipt::none());
                let part = || Inbound::new(msg.message.clone(), Receipt::none(), Lease::none(), Route::Stream);
                let mut last = part();
                last.receipt = receipt;
                Verdict::Many(vec![part(), last])
            }
            _ => Verdict::Pass,
        }
    }
}

#[tokio::test]
async fn a_layer_may_end_or_split_a_message_in_the_midst_of_a_batch() {
    let below = Recorder::new();
    let channel = below.install(Channel::builder().interceptor(Judge("upper")).interceptor(Judge("lower")));
    let channel = channel.build().unwrap();
    channel.start().await.unwrap();
    let (answer, answers) = mpsc::unbounded_channel();
    let mut world = World { channel, below, answers, answer };
    let (listener, _handle) = listen(&world);
    let bodies = [
        "a",
        "lower drop",
        "upper refuse",
        "b",
        "upper double",
        "lower double",
        "c",
        "lower panic",
        "lower refuse",
        "upper drop",
        "d",
    ];
    let mut batch: Vec<_> = bodies.iter().map(|body| world.message(1, *body)).collect();
    assert_eq!(world.below.link().unwrap().receive_batch(&mut batch).await, 3);
    assert!(batch.is_empty());
    for _ in bodies {
        let (body, handled) =
            tokio::time::timeout(Duration::from_secs(10), world.answers.recv()).await.unwrap().unwrap();
        let failed = body.contains("refuse") || body.contains("panic");
        assert_eq!(matches!(handled, Handled::Failed(_)), failed, "{body}: {handled:?}");
    }
    assert_eq!(listener.seen(), ["a", "b", "upper double", "upper double", "lower double", "lower double", "c", "d"]);
    // Each layer saw each message once that came to it.
    let layers = world.channel.stats().layers;
    let entered: Vec<_> = layers.iter().map(|layer| (layer.name, layer.up.messages)).collect();
    assert_eq!(entered, [("upper", 9), ("lower", 11)]);
    world.channel.stop().await;
}

/// Sees many at once; panics at `panic`, having told where it is.
#[derive(Debug)]
struct AtOnce(Arc<Mutex<Vec<usize>>>);

impl SyncInterceptor for AtOnce {
    fn name(&self) -> &'static str {
        "at-once"
    }
    fn receive_batch(&self, batch: &mut [Inbound], cx: &mut Cx<'_>) -> (usize, Verdict<Inbound>) {
        self.0.lock().unwrap().push(batch.len());
        for (index, msg) in batch.iter().enumerate() {
            cx.at(index);
            assert!(msg.message.body.to_bytes() != "panic", "as told");
        }
        (batch.len(), Verdict::Pass)
    }
}

#[tokio::test]
async fn a_layer_may_take_a_batch_at_once() {
    let below = Recorder::new();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let channel = below.install(Channel::builder().interceptor(AtOnce(Arc::clone(&calls)))).build().unwrap();
    channel.start().await.unwrap();
    let (answer, answers) = mpsc::unbounded_channel();
    let mut world = World { channel, below, answers, answer };
    let (listener, _handle) = listen(&world);
    let mut batch: Vec<_> = ["a", "b", "panic", "c"].iter().map(|body| world.message(1, *body)).collect();
    assert_eq!(world.below.link().unwrap().receive_batch(&mut batch).await, 1);
    assert_eq!(listener.seen(), ["a", "b", "c"]);
    assert_eq!(*calls.lock().unwrap(), [4, 1]);
    let failed: Vec<_> = world.answered().into_iter().filter(|(_, handled)| *handled != Handled::Accepted).collect();
    assert!(matches!(&failed[..], [(body, Handled::Failed(_))] if body == "panic"), "{failed:?}");
    assert_eq!(world.channel.stats().layers[0].up.messages, 4);
    world.channel.stop().await;
}

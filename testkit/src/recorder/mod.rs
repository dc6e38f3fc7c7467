//! A mock of everything below the stack.

mod answer;
mod io;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tribes_core::budget::Reservation;
use tribes_core::error::FaultKind;
use tribes_core::member::{Departure, Suspicion};
use tribes_core::{
    Body, ChannelBuilder, ChannelMessage, Completion, Handled, Inbound, Lease, Link, Member, MemberEvent, ProbeResult,
    Receipt, ReceiveError, Route, SendOptions, Services, WeakChannel,
};

pub use answer::Answer;
pub(crate) use answer::asked;
pub use io::{RecorderMembership, RecorderReceiver, RecorderSender};

use crate::wait::Changes;

/// Everything below the stack, as a mock: records what is sent, resolves it as told, and injects messages and membership
/// events from below. Cheap to clone; all clones are the same recorder.
///
/// A channel takes its three parts by [`install`](Self::install). One recorder serves one channel, however often that is
/// started.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tribes_core::{Channel, SendOptions};
/// use tribes_testkit::{Recorder, member};
///
/// let below = Recorder::new();
/// let channel = below.install(Channel::builder()).build()?;
/// channel.start().await?;
/// channel.send(&member(1), "hello", SendOptions::ACK).await?;
/// assert_eq!(below.sent()[0].text(), "hello");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    addr: SocketAddr,
    state: Mutex<State>,
    changes: Changes,
}

#[derive(Default)]
struct State {
    sent: Vec<Sent>,
    calls: Vec<Call>,
    held: Vec<Held>,
    next: VecDeque<Answer>,
    by_member: BTreeMap<Arc<Member>, Answer>,
    otherwise: Answer,
    probes: BTreeMap<Arc<Member>, ProbeResult>,
    connected: BTreeSet<Arc<Member>>,
    failing: BTreeSet<&'static str>,
    link: Option<Link>,
    channel: WeakChannel,
    local: Option<Arc<Member>>,
    /// Numbers the messages made here, so that their ids do not depend on chance.
    made: u64,
}

/// A destination that waits to be resolved.
struct Held {
    completion: Completion,
    options: SendOptions,
    reservation: Option<Reservation>,
}

/// A message that left the stack.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sent {
    /// The message as the lowest layer left it.
    pub message: ChannelMessage,
    /// Where it was to go; empty for a multicast.
    pub to: Vec<Arc<Member>>,
    /// Whether a queue could have made its sender wait.
    pub may_wait: bool,
    /// Whether it went to the membership service as a multicast.
    pub multicast: bool,
}

impl Sent {
    /// Its body as text, for assertions; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body.to_bytes()).into_owned()
    }
}

/// What the channel asked of one of the recorder's parts, apart from messages and probes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// The sender was started.
    SenderStarted,
    /// The sender was stopped.
    SenderStopped,
    /// The receiver was started.
    ReceiverStarted,
    /// The receiver was stopped.
    ReceiverStopped,
    /// Halves of the membership service were started.
    MembershipStarted(Services),
    /// Halves of the membership service were stopped.
    MembershipStopped(Services),
    /// The membership service was told of a changed local member.
    LocalUpdated(Arc<Member>),
    /// The sender was told of a membership event.
    MemberEvent(MemberEvent),
    /// The membership service was told of a suspicion.
    Suspected(Arc<Member>, Suspicion),
    /// The sender's heartbeat.
    Heartbeat,
    /// A member was probed.
    Probed(Arc<Member>),
}

/// A message that was injected: how it went up, and the answer to its sender.
#[derive(Debug)]
#[must_use = "call `handled` to wait for the answer to the sender"]
pub struct Answered {
    /// What the layers said when it went up; a message that has reached the listener queue counts as accepted here.
    pub passed: Result<(), ReceiveError>,
    answer: oneshot::Receiver<Handled>,
}

impl Answered {
    /// Waits for the answer to the sender. Panics when none comes, which means that a layer keeps the receipt.
    pub async fn handled(self) -> Handled {
        match tokio::time::timeout(crate::wait::PATIENCE, self.answer).await {
            Ok(Ok(handled)) => handled,
            Ok(Err(_)) => panic!("the receipt went away without an answer"),
            Err(_) => panic!("no answer to the sender within {:?}: a layer keeps the receipt", crate::wait::PATIENCE),
        }
    }

    /// The answer, if there is one by now.
    pub fn try_handled(&mut self) -> Option<Handled> {
        self.answer.try_recv().ok()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder whose channel says that it listens at 127.0.0.1:4000, where nothing does.
    #[must_use]
    pub fn new() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 4000)))
    }

    /// A recorder whose channel says that it listens at `addr`.
    #[must_use]
    pub fn at(addr: SocketAddr) -> Self {
        Self(Arc::new(Shared { addr, state: Mutex::default(), changes: Changes::default() }))
    }

    /// Gives `builder` the recorder as sender, receiver and membership service.
    pub fn install(&self, builder: ChannelBuilder) -> ChannelBuilder {
        builder.sender(self.sender()).receiver(self.receiver()).membership(self.membership())
    }

    /// The recorder as a sender alone.
    #[must_use]
    pub fn sender(&self) -> RecorderSender {
        RecorderSender(self.clone())
    }

    /// The recorder as a receiver alone.
    #[must_use]
    pub fn receiver(&self) -> RecorderReceiver {
        RecorderReceiver(self.clone())
    }

    /// The recorder as a membership service alone.
    #[must_use]
    pub fn membership(&self) -> RecorderMembership {
        RecorderMembership(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells those who wait.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.0.changes.tell();
        result
    }
}

/// # What is sent
impl Recorder {
    /// All messages that left the stack so far, in order.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// All messages since the last call, or the beginning.
    #[must_use]
    pub fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.lock().sent)
    }

    /// Waits until `count` messages have left the stack, and returns all that have. Panics if they do not come.
    pub async fn wait_sent(&self, count: usize) -> Vec<Sent> {
        let look = || Some(self.sent()).filter(|sent| sent.len() >= count);
        self.0
            .changes
            .until(look, || format!("{count} messages to leave the stack; there are {}", self.sent().len()))
            .await
    }

    /// What the channel asked of the three parts so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Waits until `wanted` holds for one of the calls, and returns the first such. Panics if none comes.
    pub async fn wait_call(&self, wanted: impl Fn(&Call) -> bool) -> Call {
        let look = || self.lock().calls.iter().find(|call| wanted(call)).cloned();
        self.0.changes.until(look, || format!("a certain call; there were {:?}", self.calls())).await
    }

    /// Forgets what was sent, called and set for members so far. What is held stays.
    pub fn forget(&self) {
        let mut state = self.lock();
        let past = (std::mem::take(&mut state.sent), std::mem::take(&mut state.calls));
        let set = (std::mem::take(&mut state.by_member), std::mem::take(&mut state.probes));
        let connected = std::mem::take(&mut state.connected);
        drop(state);
        drop((past, set, connected));
    }

    /// From now on, destinations without an answer of their own get this one. At first [`Answer::Deliver`].
    pub fn answer(&self, answer: Answer) {
        self.lock().otherwise = answer;
    }

    /// From now on, `member` gets this answer.
    pub fn answer_member(&self, member: &Arc<Member>, answer: Answer) {
        self.lock().by_member.insert(Arc::clone(member), answer);
    }

    /// The next message gets this answer for all its destinations, before any other; calls queue up.
    pub fn answer_next(&self, answer: Answer) {
        self.lock().next.push_back(answer);
    }

    /// How many destinations are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Waits until `count` destinations are held. Panics if they are not.
    pub async fn wait_held(&self, count: usize) {
        let look = || (self.held() >= count).then_some(());
        self.0.changes.until(look, || format!("{count} held destinations; there are {}", self.held())).await;
    }

    /// Delivers everything held, oldest first; how many.
    pub fn release(&self) -> usize {
        self.release_held(usize::MAX, None)
    }

    /// Delivers the `count` oldest held destinations; how many there were.
    pub fn release_oldest(&self, count: usize) -> usize {
        self.release_held(count, None)
    }

    /// Fails everything held; how many.
    pub fn fail_held(&self, kind: &FaultKind) -> usize {
        self.release_held(usize::MAX, Some(kind))
    }

    fn release_held(&self, count: usize, fault: Option<&FaultKind>) -> usize {
        let released: Vec<Held> = self.change(|state| {
            let count = count.min(state.held.len());
            state.held.drain(..count).collect()
        });
        // Resolved without the lock: a completion runs code of others.
        let count = released.len();
        for held in released {
            held.resolve(fault.cloned());
        }
        count
    }

    /// From now on, a probe of `member` finds this. Otherwise [`ProbeResult::Answered`].
    pub fn answer_probe(&self, member: &Arc<Member>, result: ProbeResult) {
        self.lock().probes.insert(Arc::clone(member), result);
    }

    /// Says whether there is a connection to `member`. At first there is none.
    pub fn set_connected(&self, member: &Arc<Member>, connected: bool) {
        let mut state = self.lock();
        if connected {
            state.connected.insert(Arc::clone(member));
        } else {
            state.connected.remove(member);
        }
    }

    /// Makes the next starts of `part` (`sender`, `receiver` or `membership`) fail, or succeed again.
    pub fn fail_start(&self, part: &'static str, fail: bool) {
        let mut state = self.lock();
        if fail {
            state.failing.insert(part);
        } else {
            state.failing.remove(part);
        }
    }
}

/// # What comes from below
impl Recorder {
    /// The place below the last layer; `None` before the first start.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        self.lock().link.clone()
    }

    /// The channel that the membership service was given; gone before the first start.
    #[must_use]
    pub fn channel(&self) -> WeakChannel {
        self.lock().channel.clone()
    }

    /// A message as it comes from `from`: a byte message with these further options and an id of its own.
    #[must_use]
    pub fn message(&self, from: &Arc<Member>, body: impl Into<Body>, options: SendOptions) -> ChannelMessage {
        let number = {
            let mut state = self.lock();
            state.made += 1;
            state.made
        };
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        ChannelMessage {
            options: options | SendOptions::BYTE_MESSAGE,
            timestamp_ms: 0,
            id: tribes_core::MessageId::from_array(id),
            sender: Arc::clone(from),
            body: body.into(),
        }
    }

    /// Has a message come from `from`, and waits for the answer to it. Panics before the first start, and when no answer
    /// comes.
    pub async fn receive(&self, from: &Arc<Member>, body: impl Into<Body>, options: SendOptions) -> Handled {
        self.inject(self.message(from, body, options)).await.handled().await
    }

    /// Has `message` come from below; returns when the layers let go of it. Panics before the first start.
    pub async fn inject(&self, message: ChannelMessage) -> Answered {
        let (sender, answer) = oneshot::channel();
        // Nobody may be listening any more.
        let receipt = Receipt::new(move |handled| drop(sender.send(handled)));
        let passed = self.started().receive(Inbound::new(message, receipt, Lease::none(), Route::Other)).await;
        Answered { passed, answer }
    }

    /// Raises a membership event. Panics before the first start.
    pub fn raise(&self, event: MemberEvent) {
        self.started().member_event(event);
    }

    /// Raises [`MemberEvent::Added`] for each.
    pub fn add<'a>(&self, members: impl IntoIterator<Item = &'a Arc<Member>>) {
        for member in members {
            self.raise(MemberEvent::Added(Arc::clone(member)));
        }
    }

    /// Raises [`MemberEvent::Removed`].
    pub fn remove(&self, member: &Arc<Member>, why: Departure) {
        self.raise(MemberEvent::Removed(Arc::clone(member), why));
    }

    /// Reports a suspicion, as a transport does. Panics before the first start.
    pub fn suspect(&self, member: &Arc<Member>, why: Suspicion) {
        self.started().suspect(member, why);
    }

    fn started(&self) -> Link {
        match self.link() {
            Some(link) => link,
            None => panic!("start the channel before something comes from below"),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Recorder")
            .field("sent", &state.sent.len())
            .field("held", &state.held.len())
            .finish_non_exhaustive()
    }
}

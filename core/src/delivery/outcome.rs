//! The result of one application message, for each of its destinations.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use crate::error::{Fault, FaultKind, SendError};
use crate::pipeline::catch_now;
use crate::{Member, MessageId, SendOptions};

/// How a message reached a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Delivery {
    /// The operating system took it.
    Sent,
    /// The member acknowledged its receipt.
    Acknowledged,
    /// The member's listener returned without an error.
    Handled,
    /// The member got it, and no listener there accepted it (only our own nodes can tell).
    NoTaker,
}

/// What became of one application message, for all its destinations. Reported once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The message.
    pub id: MessageId,
    /// The options it was sent with.
    pub options: SendOptions,
    /// How many destinations there were.
    pub attempted: usize,
    /// The destinations that failed, and why.
    pub faults: Vec<Fault>,
    /// The destinations where nobody accepted it.
    pub no_taker: Vec<Arc<Member>>,
}

impl Outcome {
    /// Whether every destination got it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many destinations got it.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.attempted - self.faults.len()
    }

    /// The fault of `member`, if it failed.
    #[must_use]
    pub fn fault_of(&self, member: &Member) -> Option<&FaultKind> {
        self.faults.iter().find(|fault| *fault.member == *member).map(|fault| &fault.kind)
    }

    /// `Ok` if every destination got it.
    ///
    /// # Errors
    /// [`SendError::Faulty`] names each that did not.
    pub fn into_result(self) -> Result<Self, SendError> {
        if self.faults.is_empty() {
            Ok(self)
        } else {
            Err(SendError::Faulty { attempted: self.attempted, faults: self.faults })
        }
    }
}

/// Told of outcomes, before the one who waits for them.
pub(crate) trait OutcomeObserver: Send + Sync {
    fn outcome(&self, outcome: &Outcome);
}

/// Who is told, and of what.
pub(crate) struct Observer {
    /// Weak: what waits in a layer or the transport must not keep the channel alive that owns these.
    pub(crate) to: Weak<dyn OutcomeObserver>,
    /// Of every outcome, or of those with a fault.
    pub(crate) every: bool,
}

/// Who a message goes to and who is told of its outcome. Shared by messages to the same members: the whole group, mostly.
pub(crate) struct Audience {
    members: Arc<[Arc<Member>]>,
    observer: Option<Observer>,
}

impl Audience {
    pub(crate) fn new(members: Arc<[Arc<Member>]>, observer: Option<Observer>) -> Arc<Self> {
        Arc::new(Self { members, observer })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Counts down the destinations of one message.
pub(super) struct Tracker {
    id: MessageId,
    options: SendOptions,
    audience: Arc<Audience>,
    open: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    no_taker: Vec<Arc<Member>>,
    done: bool,
    interest: Interest,
}

/// Who waits for the outcome.
#[derive(Default)]
enum Interest {
    #[default]
    Nobody,
    Task(Waker),
    /// Nobody waits; faults are logged.
    Log,
    Callback(Box<dyn FnOnce(Outcome) + Send>),
}

impl Tracker {
    pub(super) fn new(id: MessageId, options: SendOptions, audience: Arc<Audience>) -> Arc<Self> {
        let open = AtomicUsize::new(audience.members.len());
        let tracker = Arc::new(Self { id, options, audience, open, state: Mutex::default() });
        if tracker.audience.is_empty() {
            // A multicast has no destinations of its own: accepted is all that can be known.
            tracker.finish();
        }
        tracker
    }

    pub(super) fn len(&self) -> usize {
        self.audience.members.len()
    }

    #[allow(clippy::indexing_slicing, reason = "completions are made for the members that there are")]
    pub(super) fn member(&self, index: usize) -> &Arc<Member> {
        &self.audience.members[index]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn resolve(&self, index: usize, result: Result<Delivery, FaultKind>) {
        match result {
            Ok(Delivery::NoTaker) => self.lock().no_taker.push(Arc::clone(self.member(index))),
            Ok(_) => {}
            Err(kind) => self.lock().faults.push(Fault::new(Arc::clone(self.member(index)), kind)),
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish();
        }
    }

    /// The outcome; faults and takers leave the state.
    fn outcome(&self, state: &mut State) -> Outcome {
        Outcome {
            id: self.id.clone(),
            options: self.options,
            attempted: self.audience.members.len(),
            faults: std::mem::take(&mut state.faults),
            no_taker: std::mem::take(&mut state.no_taker),
        }
    }

    fn finish(&self) {
        let mut state = self.lock();
        state.faults.sort_by(|a, b| a.member.cmp(&b.member));
        let observer = self.audience.observer.as_ref();
        if let Some(observer) = observer.filter(|observer| observer.every || !state.faults.is_empty()) {
            let outcome = self.outcome(&mut state);
            // Nobody is called with the lock held.
            drop(state);
            if let Some(observer) = observer.to.upgrade() {
                observer.outcome(&outcome);
            }
            state = self.lock();
            (state.faults, state.no_taker) = (outcome.faults, outcome.no_taker);
        }
        state.done = true;
        match std::mem::take(&mut state.interest) {
            Interest::Callback(callback) => {
                let outcome = self.outcome(&mut state);
                drop(state);
                // It runs on the task that carries messages to the member: its panic must not end that.
                if let Err(panic) = catch_now(|| callback(outcome)) {
                    tracing::error!(id = %self.id, panic, "the callback of an outcome panicked");
                }
            }
            Interest::Task(waker) => {
                drop(state);
                waker.wake();
            }
            Interest::Log => {
                let faults = std::mem::take(&mut state.faults);
                drop(state);
                self.log(&faults);
            }
            Interest::Nobody => {}
        }
    }

    fn log(&self, faults: &[Fault]) {
        if let Some(first) = faults.first() {
            tracing::debug!(id = %self.id, failed = faults.len(), %first, "an asynchronous message did not reach everyone");
        }
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("id", &self.id)
            .field("open", &self.open.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// An accepted message whose outcome is not known yet: a future of its [`Outcome`].
///
/// The message is on its way, in order, whether this is awaited, dropped or turned into a callback. Cancel safe.
#[derive(Debug)]
#[must_use = "dropping it gives up the outcome; the message is sent all the same"]
pub struct Pending {
    tracker: Arc<Tracker>,
}

impl Pending {
    pub(super) const fn new(tracker: Arc<Tracker>) -> Self {
        Self { tracker }
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.tracker.id
    }

    /// Has `callback` called once with the outcome, on whichever task completes it (or here, if it is known already). It
    /// must not block.
    pub fn on_complete(self, callback: impl FnOnce(Outcome) + Send + 'static) {
        let mut state = self.tracker.lock();
        if state.done {
            let outcome = self.tracker.outcome(&mut state);
            drop(state);
            callback(outcome);
        } else {
            state.interest = Interest::Callback(Box::new(callback));
        }
    }

    /// Has faults logged; nobody waits for the outcome.
    pub(crate) fn log_faults(self) {
        let mut state = self.tracker.lock();
        if state.done {
            let faults = std::mem::take(&mut state.faults);
            drop(state);
            self.tracker.log(&faults);
        } else {
            state.interest = Interest::Log;
        }
    }
}

impl Future for Pending {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.tracker.lock();
        if state.done {
            return Poll::Ready(self.tracker.outcome(&mut state));
        }
        match &mut state.interest {
            Interest::Task(waker) => waker.clone_from(cx.waker()),
            interest => *interest = Interest::Task(cx.waker().clone()),
        }
        Poll::Pending
    }
}

//! The shell around the network's core: one task lets time pass and performs what follows from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tribes_core::budget::Reservation;
use tribes_core::error::FaultKind;
use tribes_core::{
    ChannelMessage, Completion, EnvProvider, Handled, Inbound, Lease, Link, ProbeResult, Receipt, Route, Time,
};

use super::config::NetConfig;
use super::core::{Action, Core, NodeId, Place, ProbeId, SendId};
use crate::SimEnv;

pub(super) struct Shared {
    pub(super) seed: u64,
    pub(super) env: SimEnv,
    state: Mutex<State>,
    /// Told when the core may have something to do.
    wake: Arc<Notify>,
}

pub(super) struct State {
    pub(super) core: Core,
    processes: BTreeMap<NodeId, Process>,
    driven: bool,
}

/// What belongs to the process at a node, besides the core's part.
pub(super) struct Process {
    place: Place,
    env: SimEnv,
    link: Option<Link>,
    used: bool,
    /// What has no result yet.
    open: BTreeMap<SendId, (Completion, Option<Reservation>)>,
    probes: BTreeMap<ProbeId, oneshot::Sender<ProbeResult>>,
    /// One queue for each sender: they are taken in side by side.
    inboxes: BTreeMap<NodeId, mpsc::UnboundedSender<Arrived>>,
    memory: Arc<Semaphore>,
}

impl Process {
    /// Ends it: its tasks stop, and who waited for its messages hears of that. Call it without the lock.
    pub(super) fn end(self) {
        self.env.kill();
        for (completion, reservation) in self.open.into_values() {
            drop(reservation);
            completion.fail(FaultKind::Stopped);
        }
    }
}

/// A message that came for a receiver.
struct Arrived {
    message: ChannelMessage,
    route: Route,
    /// The sender knew only the address.
    as_tribes: bool,
    send: Option<SendId>,
}

impl Shared {
    pub(super) fn new(env: SimEnv, seed: u64, config: NetConfig) -> Self {
        let state = State { core: Core::new(seed, config), processes: BTreeMap::new(), driven: false };
        Self { seed, env, state: Mutex::new(state), wake: Arc::default() }
    }

    pub(super) fn now(&self) -> Time {
        self.env.now()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and has the driver look.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.wake.notify_one();
        result
    }

    /// Starts the driver, once.
    pub(super) fn drive(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.lock().driven, true) {
            let (shared, wake) = (Arc::downgrade(self), Arc::clone(&self.wake));
            self.env.spawn(Box::pin(drive(shared, wake)));
        }
    }

    fn perform(self: &Arc<Self>, action: Action) {
        match action {
            Action::Deliver { to, from, message, route, as_tribes, send } => {
                self.deliver(to, from, Arrived { message, route, as_tribes, send })
            }
            Action::Resolve { at, send, result } => {
                let open = self.lock().process(at).and_then(|process| process.open.remove(&send));
                if let Some((completion, reservation)) = open {
                    drop(reservation);
                    completion.resolve(result);
                }
            }
            Action::Probed { at, probe, result } => {
                let waiting = self.lock().process(at).and_then(|process| process.probes.remove(&probe));
                if let Some(waiting) = waiting {
                    // Who asked may have given up.
                    let _ = waiting.send(result);
                }
            }
            Action::Event { at, event } => {
                let link = self.lock().link(at);
                if let Some(link) = link {
                    link.member_event(event);
                }
            }
            Action::Suspect { at, member, why } => {
                let link = self.lock().link(at);
                if let Some(link) = link {
                    link.suspect(&member, why);
                }
            }
            Action::Departed { at, member } => {
                let link = self.lock().link(at);
                if let Some(link) = link {
                    link.departed(&member);
                }
            }
        }
    }

    fn deliver(self: &Arc<Self>, to: Place, from: NodeId, arrived: Arrived) {
        let mut state = self.lock();
        let Some(process) = state.process(to) else { return };
        let arrived = match process.inboxes.get(&from) {
            None => arrived,
            Some(inbox) => match inbox.send(arrived) {
                Ok(()) => return,
                // Its task ended when the channel was stopped.
                Err(mpsc::error::SendError(arrived)) => arrived,
            },
        };
        let Some(link) = process.link.clone() else { return };
        let (inbox, queue) = mpsc::unbounded_channel();
        let intake =
            Intake { shared: Arc::downgrade(self), to, from, link: link.clone(), memory: Arc::clone(&process.memory) };
        // Its queue is open: it is right here.
        let _ = inbox.send(arrived);
        process.inboxes.insert(from, inbox);
        drop(state);
        link.spawn(intake.run(queue));
    }
}

/// Lets time pass until the network is gone.
async fn drive(shared: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        let (deadline, env) = {
            let Some(shared) = shared.upgrade() else { return };
            loop {
                let actions = {
                    let mut state = shared.lock();
                    let now = shared.now();
                    state.core.advance(now);
                    state.core.take_actions()
                };
                if actions.is_empty() {
                    break;
                }
                // Without the lock: what is called here may send again.
                for action in actions {
                    shared.perform(action);
                }
            }
            let deadline = shared.lock().core.next_event();
            (deadline.unwrap_or(Time::NEVER), shared.env.clone())
        };
        tokio::select! {
            biased;
            () = wake.notified() => {}
            () = env.sleep_until(deadline) => {}
        }
    }
}

/// Takes the messages of one sender into one receiver, one after another.
struct Intake {
    shared: Weak<Shared>,
    to: Place,
    from: NodeId,
    link: Link,
    memory: Arc<Semaphore>,
}

impl Intake {
    async fn run(self, mut queue: mpsc::UnboundedReceiver<Arrived>) {
        while let Some(Arrived { message, route, as_tribes, send }) = queue.recv().await {
            let Some(lease) = self.lease(message.body.len()).await else { return };
            let receipt = match send {
                None => Receipt::none(),
                Some(send) => {
                    let Some(shared) = self.shared.upgrade() else { return };
                    let (to, from, now) = (self.to, self.from, shared.now());
                    shared.change(|state| state.core.taken(now, to, from, send));
                    let shared = Weak::clone(&self.shared);
                    Receipt::new(move |handled: Handled| {
                        if let Some(shared) = shared.upgrade() {
                            let now = shared.now();
                            shared.change(|state| state.core.handled(now, to, from, send, handled));
                        }
                    })
                }
            };
            let inbound = Inbound::new(message, receipt, lease, route);
            // An error has been counted by the pipeline, and its receipt has answered.
            let _ = self.link.receive(if as_tribes { inbound.as_tribes() } else { inbound }).await;
        }
    }

    /// Room in the receiver's memory; a message larger than that gets all of it.
    async fn lease(&self, bytes: usize) -> Option<Lease> {
        let shared = self.shared.upgrade()?;
        let all = shared.lock().core.config.receiver_memory;
        drop(shared);
        let permits = u32::try_from(bytes.clamp(1, all.max(1))).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.memory).acquire_many_owned(permits).await.ok()?;
        Some(Lease::new(vec![permit]))
    }
}

impl State {
    fn process(&mut self, place: Place) -> Option<&mut Process> {
        self.processes.get_mut(&place.node).filter(|process| process.place == place)
    }

    /// A new process begins at a node; the one before, to be ended.
    pub(super) fn move_in(&mut self, place: Place, env: SimEnv) -> Option<Process> {
        let memory = self.core.config.receiver_memory.max(1);
        let process = Process {
            place,
            env,
            link: None,
            used: false,
            open: BTreeMap::new(),
            probes: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
        };
        self.processes.insert(place.node, process)
    }

    /// The process at a node, to be ended.
    pub(super) fn move_out(&mut self, node: NodeId) -> Option<Process> {
        self.processes.remove(&node)
    }

    pub(super) fn is_used(&self, node: NodeId) -> bool {
        self.processes.get(&node).is_some_and(|process| process.used)
    }

    pub(super) fn mark_used(&mut self, node: NodeId) {
        if let Some(process) = self.processes.get_mut(&node) {
            process.used = true;
        }
    }

    pub(super) fn env(&self, node: NodeId) -> Option<SimEnv> {
        self.processes.get(&node).map(|process| process.env.clone())
    }

    pub(super) fn link(&mut self, place: Place) -> Option<Link> {
        self.process(place)?.link.clone()
    }

    pub(super) fn set_link(&mut self, place: Place, link: Link) {
        if let Some(process) = self.process(place) {
            process.link = Some(link);
        }
    }

    /// Keeps what is to be resolved. Gives it back if the process is gone.
    pub(super) fn open(
        &mut self,
        place: Place,
        send: SendId,
        completion: Completion,
        reservation: Option<Reservation>,
    ) -> Option<Completion> {
        match self.process(place) {
            None => Some(completion),
            Some(process) => {
                process.open.insert(send, (completion, reservation));
                None
            }
        }
    }

    pub(super) fn open_sends(&mut self, place: Place) -> usize {
        self.process(place).map_or(0, |process| process.open.len())
    }

    pub(super) fn await_probe(&mut self, place: Place, probe: ProbeId) -> oneshot::Receiver<ProbeResult> {
        let (sender, receiver) = oneshot::channel();
        if let Some(process) = self.process(place) {
            process.probes.insert(probe, sender);
        }
        receiver
    }

    /// No more messages come in at `place`; those that did are still handled.
    pub(super) fn close_inboxes(&mut self, place: Place) {
        if let Some(process) = self.process(place) {
            process.inboxes.clear();
        }
    }
}

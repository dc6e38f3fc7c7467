//! All destinations, each with its chances, its line, and the task that serves it while something waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tribes_core::{Destination, Env, FaultKind, Link, Member, Outbound, Time};

use super::ChaosConfig;
use super::core::{Dice, Fate, Line, Place, Step};

/// Destinations without anything waiting are forgotten when there are more than this.
const MAX_LANES: usize = 4096;

/// What waits for its time.
#[derive(Debug)]
pub(super) enum Item {
    /// A message to one destination, and whether a copy follows it.
    Send { single: Outbound, twice: bool },
    /// A lost message whose acknowledgement is awaited until `due`.
    Lost { destination: Destination, due: Time, fault: FaultKind },
}

impl Item {
    fn fail(self, kind: FaultKind) {
        match self {
            Self::Send { single, .. } => single.fail(&kind),
            Self::Lost { destination, .. } => destination.completion.fail(kind),
        }
    }
}

/// One destination.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<LaneState>,
    wake: Notify,
}

#[derive(Debug)]
struct LaneState {
    dice: Dice,
    line: Line<Item>,
}

/// What a message to one destination meets.
#[derive(Debug)]
pub(super) enum Way {
    Lost,
    Direct { twice: bool },
    Held { at: Time, place: Place, twice: bool },
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws what becomes of the next message.
    pub(super) fn meet(&self, odds: &ChaosConfig, now: Time) -> Way {
        let mut state = self.lock();
        let Fate { lost, twice, aside, delay } = state.dice.throw(odds);
        match (aside, delay) {
            _ if lost => Way::Lost,
            (Some(hold), _) => Way::Held { at: now + hold, place: Place::Aside, twice },
            (None, Some(delay)) => Way::Held { at: now + delay, place: Place::Line, twice },
            (None, None) if state.line.is_busy() => Way::Held { at: now, place: Place::Line, twice },
            (None, None) => Way::Direct { twice },
        }
    }
}

/// All destinations.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
    /// Told when a lane has nothing left.
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while the channel does not run.
    seed: Option<u64>,
    made: u64,
    lanes: BTreeMap<Arc<Member>, Arc<Lane>>,
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Lane>> {
        self.lock().lanes.values().cloned().collect()
    }

    /// Starts anew under `seed`.
    pub(super) fn open(&self, seed: u64) {
        *self.lock() = State { seed: Some(seed), ..State::default() };
    }

    /// The lane of `member`, made if there is none; `None` if the channel does not run.
    pub(super) fn lane(&self, member: &Arc<Member>) -> Option<Arc<Lane>> {
        let mut state = self.lock();
        let seed = state.seed?;
        if let Some(lane) = state.lanes.get(member) {
            return Some(Arc::clone(lane));
        }
        if state.lanes.len() >= MAX_LANES {
            // Whoever has one in hand keeps it: it is merely not found again.
            state.lanes.retain(|_, lane| lane.lock().line.is_served());
        }
        state.made += 1;
        let dice = Dice::new(seed, state.made);
        let lane = Arc::new(Lane { state: Mutex::new(LaneState { dice, line: Line::default() }), wake: Notify::new() });
        state.lanes.insert(Arc::clone(member), Arc::clone(&lane));
        Some(lane)
    }

    /// Has `item` wait in `lane`.
    pub(super) fn push(self: &Arc<Self>, link: &Link, lane: &Arc<Lane>, item: Item, at: Time, place: Place) {
        let begin = lane.lock().line.push(item, at, place);
        if begin {
            let server = Server { lanes: Arc::clone(self), lane: Arc::clone(lane), link: link.clone(), ended: false };
            link.spawn(server.run());
        } else {
            lane.wake.notify_one();
        }
    }

    /// Fails what waits for `member`, who has left.
    pub(super) fn left(&self, member: &Arc<Member>) {
        let lane = self.lock().lanes.remove(member);
        if let Some(lane) = lane {
            let items = lane.lock().line.drain();
            lane.wake.notify_one();
            items.into_iter().for_each(|item| item.fail(FaultKind::Left));
        }
    }

    /// Sends all that waits, without further delay; what is left at the deadline fails.
    pub(super) async fn drain(&self, env: &Env, deadline: Time) {
        let lanes = self.all();
        for lane in &lanes {
            lane.lock().line.hurry();
            lane.wake.notify_one();
        }
        let drained = async {
            loop {
                let idle = self.idle.notified();
                tokio::pin!(idle);
                idle.as_mut().enable();
                if !lanes.iter().any(|lane| lane.lock().line.is_served()) {
                    return;
                }
                idle.await;
            }
        };
        env.until(deadline, drained).await;
        self.lock().seed = None;
        for lane in self.all() {
            let items = lane.lock().line.drain();
            items.into_iter().for_each(|item| item.fail(FaultKind::Stopped));
        }
    }

    /// How many messages wait.
    pub(super) fn held(&self) -> usize {
        self.all().iter().map(|lane| lane.lock().line.len()).sum()
    }
}

/// The task of one lane, as long as something waits in it.
struct Server {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
    link: Link,
    /// Another may serve by now.
    ended: bool,
}

impl Server {
    async fn run(mut self) {
        let env = self.link.env().clone();
        loop {
            let step = self.lane.lock().line.next(env.now());
            match step {
                Step::Done => {
                    self.ended = true;
                    return;
                }
                Step::Wait(at) => tokio::select! {
                    biased;
                    () = self.lane.wake.notified() => {}
                    () = env.sleep_until(at) => {}
                },
                Step::Do(Item::Lost { destination, due, fault }) => {
                    // Before its time only if the channel stops.
                    let fault = if env.now() < due { FaultKind::Stopped } else { fault };
                    destination.completion.fail(fault);
                }
                Step::Do(Item::Send { single, twice }) => {
                    let copy = twice.then(|| copy_of(&single)).flatten();
                    if let Err(error) = self.link.send(single).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "a delayed message was refused");
                    }
                    if let Some(copy) = copy {
                        let _ = self.link.send(copy).await;
                    }
                }
            }
        }
    }
}

impl Drop for Server {
    /// However the task ended, nothing is left in a lane that nobody serves.
    fn drop(&mut self) {
        if !self.ended {
            let items = self.lane.lock().line.abandon();
            items.into_iter().for_each(|item| item.fail(FaultKind::Stopped));
        }
        self.lanes.idle.notify_waiters();
    }
}

/// The same message to the same member once more; nobody waits for its outcome.
pub(super) fn copy_of(single: &Outbound) -> Option<Outbound> {
    let members: Vec<_> = single.members().cloned().collect();
    let (mut copy, _outcome) = Outbound::new(single.message.clone(), &members);
    copy.may_wait = single.may_wait;
    (!members.is_empty()).then_some(copy)
}

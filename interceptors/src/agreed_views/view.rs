//! What members agree on, and what the application is told of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tribes_core::{Member, MemberId};

/// Names an agreed view. No two views have the same; those that one member installs grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ViewId {
    /// The number of the view. It grows at each member, not by one each time: begun near the wall clock's milliseconds, it goes
    /// on growing when a whole group is started anew, as far as clocks can be trusted for that and for that alone.
    pub epoch: u64,
    /// Who proposed the view: its leader.
    pub coordinator: MemberId,
    /// Tells the process that proposed it from earlier ones with the same configured id.
    pub incarnation: u64,
}

impl fmt::Display for ViewId {
    /// The number, and the first bytes of the coordinator's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.coordinator.as_bytes();
        write!(f, "{}@{a:02x}{b:02x}{c:02x}{d:02x}", self.epoch)
    }
}

/// One member of a view, as the quorum policies see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Seat {
    /// The member.
    pub member: Arc<Member>,
    /// Tells its process from earlier ones with the same configured id.
    pub incarnation: u64,
    /// What it weighs, as the coordinator had it from the policy.
    pub weight: u32,
    /// The number of the first view that this process was in: the lower, the older.
    pub since: u64,
    /// Whether this process has been in a view that was allowed to write: it knows what that knew.
    pub remembers: bool,
}

impl Seat {
    /// A seat of this member that weighs 1 and remembers nothing.
    #[must_use]
    pub const fn new(member: Arc<Member>, incarnation: u64) -> Self {
        Self { member, incarnation, weight: 1, since: 0, remembers: false }
    }

    /// Whether both are the same process.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation && self.member == other.member
    }
}

/// Two seats are the same if their processes are.
impl PartialEq for Seat {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for Seat {}

/// A view that all of its members have promised to install, and that this one has installed. It is the same at each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgreedView {
    /// Names it.
    pub id: ViewId,
    /// Who is in it, the local member always, in absolute order (see [`Member`]).
    pub members: Arc<[Arc<Member>]>,
    /// Tells the process of each of them, in the same order, from earlier ones with the same configured id.
    pub incarnations: Arc<[u64]>,
    /// The one of them that leads, which proposed it.
    pub leader: Arc<Member>,
    /// Whether this side may write as far as its members go. It does so only while enough of them are in touch, see
    /// [`Standing::may_write`].
    pub primary: bool,
    /// The fencing token of this leadership, if [`primary`](Self::primary): the same as long as the leader is, greater than all
    /// earlier ones whenever it changes.
    pub token: u64,
    /// How long this side waits before it writes, so that members that are missing have stopped.
    pub wait: Duration,
}

/// A part of the group that had its own view before it met the others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Side {
    /// The view that they come from.
    pub view: ViewId,
    /// Those of the new view who come from it.
    pub members: Vec<Arc<Member>>,
}

/// Something that happened to the views of this member, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewEvent {
    /// A view was installed.
    ViewInstalled {
        /// The view.
        view: Arc<AgreedView>,
        /// Who was not in this member's view before.
        joined: Vec<Arc<Member>>,
        /// Who was, and left on purpose.
        left: Vec<Arc<Member>>,
        /// Who was, and vanished: dead, frozen, or on another side.
        missing: Vec<Arc<Member>>,
    },
    /// Members of the view vanished without a good-bye: they died, are frozen, or the network is cut. Told once for each member
    /// and view, before a view without them is agreed on; a member that comes back before that stays in the view.
    PartitionSuspected {
        /// The view.
        view: ViewId,
        /// Who of it vanished.
        missing: Vec<Arc<Member>>,
    },
    /// The view that was just installed brings sides together that had views of their own.
    Merged {
        /// The view.
        view: Arc<AgreedView>,
        /// Where its members come from: two sides at least, by their views. Who has had no view before is in none of them.
        sides: Vec<Side>,
    },
    /// This side may write from now on, with this token.
    MayWrite {
        /// The view.
        view: ViewId,
        /// The fencing token.
        token: u64,
    },
    /// This side must not write any more.
    MustStop {
        /// The view that it wrote under.
        view: ViewId,
        /// Why.
        why: StopReason,
    },
    /// Too many views came one after another that might have written and of which it is not known whether they did, as members fell
    /// out of touch each time before enough had heard of it. No further view may write until somebody who knows that no other side is
    /// left calls [`AgreedViews::forget`](super::AgreedViews::forget), or all of them are restarted.
    TooManyUnconfirmed {
        /// The view that may not write for this reason.
        view: ViewId,
        /// How many came before it.
        views: usize,
    },
    /// The reader was too slow: so many events are lost to it. [`AgreedViews::standing`](super::AgreedViews::standing) says what
    /// holds now.
    Missed {
        /// How many.
        events: u64,
    },
}

/// Why a side must stop writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// Too many members of the view are out of touch.
    OutOfTouch,
    /// Another member is about to lead.
    Handover,
    /// The view that was installed may not write.
    NoQuorum,
    /// The view that was installed waits until members that are missing must have stopped, or until enough have it.
    NotYet,
    /// The external lease has run out or was refused.
    LeaseLost,
    /// The channel stops.
    Stopped,
}

impl StopReason {
    /// As one word: `out-of-touch`, `handover`, `no-quorum`, `not-yet`, `lease-lost`, `stopped`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutOfTouch => "out-of-touch",
            Self::Handover => "handover",
            Self::NoQuorum => "no-quorum",
            Self::NotYet => "not-yet",
            Self::LeaseLost => "lease-lost",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What holds at this member. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The view that was installed last; `None` before the first one, and while the channel is stopped.
    pub view: Option<Arc<AgreedView>>,
    /// Whether this side may write. It may have ended by the time that it is looked at: ask
    /// [`AgreedViews::may_write`](super::AgreedViews::may_write), which looks at the clock, before each thing that must not be
    /// done twice, and hand on the token.
    pub may_write: bool,
    /// Whether the local member leads the view *and* this side may write: it is the one leader of all that obey the policy.
    pub is_leader: bool,
    /// The fencing token, while this side may write.
    pub token: Option<u64>,
}

/// The way of events to their readers: how many are kept for a slow one.
const KEPT: usize = 256;

/// What is told, to as many readers as there are.
#[derive(Debug)]
pub(super) struct Publisher {
    events: broadcast::Sender<ViewEvent>,
    standing: watch::Sender<Standing>,
}

impl Default for Publisher {
    fn default() -> Self {
        Self { events: broadcast::Sender::new(KEPT), standing: watch::Sender::default() }
    }
}

impl Publisher {
    pub(super) fn event(&self, event: ViewEvent) {
        // Fails if nobody listens.
        let _ = self.events.send(event);
    }

    pub(super) fn standing(&self, standing: Standing) {
        self.standing.send_if_modified(|told| {
            let news = *told != standing;
            if news {
                *told = standing;
            }
            news
        });
    }

    pub(super) fn current(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> ViewEvents {
        ViewEvents(self.events.subscribe())
    }

    pub(super) fn watch(&self) -> StandingChanges {
        StandingChanges(self.standing.subscribe())
    }
}

/// The events of an [`AgreedViews`](super::AgreedViews) from the time on when it was asked for them. At most 256 wait for a slow
/// reader; of those that are lost, [`ViewEvent::Missed`] tells.
#[derive(Debug)]
pub struct ViewEvents(broadcast::Receiver<ViewEvent>);

impl ViewEvents {
    /// The next event; `None` when the layer is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<ViewEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(ViewEvent::Missed { events }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// An event that waits; `None` if there is none at present.
    pub fn try_next(&mut self) -> Option<ViewEvent> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(events)) => Some(ViewEvent::Missed { events }),
            Err(_) => None,
        }
    }
}

/// The changes of the [`Standing`] of an [`AgreedViews`](super::AgreedViews). Only the latest counts: who looks rarely misses
/// what was in between.
#[derive(Clone, Debug)]
pub struct StandingChanges(watch::Receiver<Standing>);

impl StandingChanges {
    /// What holds now, which then counts as seen.
    pub fn current(&mut self) -> Standing {
        self.0.borrow_and_update().clone()
    }

    /// The next one that has not been seen; `None` when the layer is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Standing> {
        self.0.changed().await.ok()?;
        Some(self.current())
    }

    /// The first one, the present one included, that `wanted` accepts; `None` when the layer is gone. Cancel safe.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&Standing) -> bool) -> Option<Standing> {
        self.0.wait_for(wanted).await.ok().map(|standing| standing.clone())
    }
}

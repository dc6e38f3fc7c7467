//! What connections share: over the receiver's life, and from one start to the next stop.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{mpsc, watch};
use tribes_core::{Env, Link, Member, Time};

use super::ReceiverConfig;
use super::census::{Census, Standing};
use super::counters::Counters;
use super::room::TotalRoom;
use super::sessions::Sessions;
use super::signal::{Order, Signal};
use super::violation::LogLimit;
use crate::stream::Acceptor;

/// What outlasts stop and start.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: ReceiverConfig,
    pub(super) acceptor: Arc<dyn Acceptor>,
    pub(super) counters: Arc<Counters>,
    pub(super) log_limit: Arc<LogLimit>,
    pub(super) sessions: Arc<Sessions>,
    census: Mutex<Census<Arc<Signal>>>,
}

impl Shared {
    pub(super) fn new(config: ReceiverConfig, acceptor: Arc<dyn Acceptor>) -> Self {
        Self {
            counters: Arc::default(),
            log_limit: Arc::default(),
            sessions: Arc::new(Sessions::new(config.session_keep, config.max_sessions)),
            census: Mutex::new(Census::new(config.max_connections, config.max_unidentified)),
            config,
            acceptor,
        }
    }

    pub(super) fn census(&self) -> MutexGuard<'_, Census<Arc<Signal>>> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connection `no` said to be of `member`.
    pub(super) fn name(&self, no: u64, signal: &Signal, member: &Arc<Member>, hello: bool) -> Standing {
        // The lock is held for both: an event about the member must not come between.
        let mut census = self.census();
        let standing = census.named(no, member, hello);
        if standing == Standing::Identified {
            signal.set_identified(true);
        }
        standing
    }

    pub(super) fn member_added(&self, member: &Arc<Member>) {
        let mut census = self.census();
        census.added(member).iter().for_each(|signal| signal.set_identified(true));
    }

    pub(super) fn member_removed(&self, member: &Member) {
        let mut census = self.census();
        census.removed(member).iter().for_each(|signal| signal.set_identified(false));
    }
}

/// What lives from a start to its stop.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) total: Arc<TotalRoom>,
    /// The local member, once the channel has made it known: before that nothing is accepted.
    local: watch::Sender<Option<Arc<Member>>>,
    stop: Signal,
    stop_deadline: OnceLock<Time>,
    ended: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
}

/// Held by each task; `stop` returns when all are dropped.
pub(super) type Alive = mpsc::Sender<Infallible>;

impl Running {
    pub(super) fn new(shared: Arc<Shared>, link: Link) -> (Arc<Self>, Alive) {
        let (alive, ended) = mpsc::channel(1);
        let running = Self {
            total: Arc::new(TotalRoom::new(shared.config.total_bytes)),
            shared,
            link,
            local: watch::Sender::new(None),
            stop: Signal::default(),
            stop_deadline: OnceLock::new(),
            ended: tokio::sync::Mutex::new(ended),
        };
        (Arc::new(running), alive)
    }

    pub(super) const fn env(&self) -> &Env {
        self.link.env()
    }

    pub(super) fn local(&self) -> Option<Arc<Member>> {
        self.local.borrow().clone()
    }

    pub(super) fn update_local(&self, local: Arc<Member>) {
        self.local.send_replace(Some(local));
    }

    /// Waits until messages may go up; false if the receiver is stopped before. Cancel safe.
    pub(super) async fn opened(&self) -> bool {
        let mut local = self.local.subscribe();
        tokio::select! {
            biased;
            () = self.stopped() => false,
            opened = local.wait_for(Option::is_some) => opened.is_ok(),
        }
    }

    /// Waits for the stop. Cancel safe.
    pub(super) async fn stopped(&self) {
        self.stop.at_least(Order::Stop).await;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.order() >= Order::Stop
    }

    /// When everything ends at the latest, once there is a stop.
    pub(super) fn stop_deadline(&self) -> Time {
        self.stop_deadline.get().copied().unwrap_or(Time::NEVER)
    }

    /// Tells all tasks to come to an end by `deadline`.
    pub(super) fn stop(&self, deadline: Time) {
        let _ = self.stop_deadline.set(deadline);
        self.stop.give(Order::Stop);
        let connections = self.shared.census().handles();
        connections.iter().for_each(|signal| signal.give(Order::Stop));
    }

    /// Waits until all tasks have ended. Cancel safe.
    pub(super) async fn ended(&self) {
        // Nothing is ever sent: it returns when all senders are gone.
        let _ = self.ended.lock().await.recv().await;
    }
}

//! Performs what the core decides.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tribes_core::{BoxFuture, Env, Link, Member, Outbound, SendOptions, Time};

use super::core::{Core, LeaseAction};
use super::quorum::Lease;
use super::view::Publisher;
use super::wire::Message;
use super::{AgreedViewsConfig, LeaseRequest, NAME, QuorumPolicy, ViewEvent};

/// The layer's inside.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) config: AgreedViewsConfig,
    pub(super) policy: Arc<dyn QuorumPolicy>,
    pub(super) lease: Option<Arc<dyn Lease>>,
    pub(super) published: Publisher,
    core: Mutex<Core>,
    /// There is something to send, or another deadline.
    wake: Notify,
    /// Something is to be asked of the lease.
    wake_lease: Notify,
    /// The clock, once the channel has been started.
    env: OnceLock<Env>,
    link: Mutex<Option<Link>>,
}

impl Shell {
    pub(super) fn new(config: AgreedViewsConfig, policy: Arc<dyn QuorumPolicy>, lease: Option<Arc<dyn Lease>>) -> Self {
        let core = Mutex::new(Core::new(config.clone(), Arc::clone(&policy), lease.is_some()));
        Self {
            config,
            policy,
            lease,
            published: Publisher::default(),
            core,
            wake: Notify::new(),
            wake_lease: Notify::new(),
            env: OnceLock::new(),
            link: Mutex::default(),
        }
    }

    /// The channel has started.
    pub(super) fn start(self: &Arc<Self>, link: &Link, local: Arc<Member>) {
        let env = link.env();
        let _ = self.env.set(env.clone());
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
        // No clock that is set says more; what one says that is not is no reason to be out of reach of the others.
        let wall_ms = u64::try_from(env.wall_ms()).unwrap_or_default().min(1 << 43);
        // The later process has the greater number, and no two have the same.
        let incarnation = wall_ms << 20 | (env.random() & 0xF_FFFF);
        if !local.id().is_ours() {
            tracing::warn!(%local, "its configured id does not mark this member as one of ours: it is part of no agreed view");
        }
        self.with_core(|core, now| core.start(local, incarnation, wall_ms, now));
        link.spawn(Arc::clone(self).work(link.clone()));
        if let Some(lease) = self.lease.clone() {
            link.spawn(Arc::clone(self).keep_lease(lease, env.clone()));
        }
    }

    /// The channel stops: those that stay are told, as far as that goes without waiting.
    pub(super) fn stop(&self) {
        let told = self.with_core(Core::stop);
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(link) = link else { return };
        for (member, message) in told {
            let Some(mut sending) = send(&link, &member, &message) else { return };
            let _ = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// The time on the channel's clock; that of its beginning before the first start.
    pub(super) fn now(&self) -> Time {
        self.env.get().map_or(Time::ZERO, Env::now)
    }

    /// Lets the core decide something, and tells what has come of it, in the order in which it was decided.
    pub(super) fn with_core<T>(&self, decide: impl FnOnce(&mut Core, Time) -> T) -> T {
        let now = self.now();
        let mut core = self.lock();
        let result = decide(&mut core, now);
        // Those who are told only note it down: they are woken, not called.
        let mut told = Vec::new();
        while let Some(event) = core.next_event() {
            told.push(event.clone());
            self.published.event(event);
        }
        self.published.standing(core.standing());
        drop(core);
        self.wake.notify_one();
        self.wake_lease.notify_one();
        told.iter().for_each(log);
        result
    }

    /// Sends what is to be sent and keeps the time, as long as the channel runs.
    async fn work(self: Arc<Self>, link: Link) {
        loop {
            let now = self.now();
            let (due, next) = {
                let mut core = self.lock();
                (core.deadline(), core.next_send(now))
            };
            if due <= now {
                self.with_core(Core::tick);
            }
            match next {
                Some((member, message)) => self.transmit(&link, member, &message).await,
                None if due <= now => {}
                None => tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = link.env().sleep_until(due) => {}
                },
            }
        }
    }

    /// Sends a message. What is not accepted at once is waited for aside, for one timeout, so that it delays no other.
    async fn transmit(self: &Arc<Self>, link: &Link, member: Arc<Member>, message: &Message) {
        let Some(mut sending) = send(link, &member, message) else { return };
        let done = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_ready())).await;
        if done {
            return self.lock().sent(&member);
        }
        let (shell, env) = (Arc::clone(self), link.env().clone());
        let limit = env.now() + self.config.timeout;
        link.spawn(async move {
            let _ = env.until(limit, sending).await;
            shell.lock().sent(&member);
            shell.wake.notify_one();
        });
    }

    /// Does what the core wants of the lease, one thing after another.
    async fn keep_lease(self: Arc<Self>, lease: Arc<dyn Lease>, env: Env) {
        loop {
            let action = self.lock().lease_action();
            let limit = env.now() + self.config.timeout;
            match action {
                None => self.wake_lease.notified().await,
                Some(LeaseAction::Acquire(request)) => {
                    let grant = match env.until(limit, lease.acquire(&request)).await {
                        Some(Ok(grant)) => grant,
                        Some(Err(error)) => {
                            tracing::warn!(%error, "the external lease cannot be asked");
                            None
                        }
                        None => None,
                    };
                    self.with_core(|core, now| core.lease_answered(&request, grant, now));
                }
                Some(LeaseAction::Release(request)) => release(&*lease, &request, &env, limit).await,
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn release(lease: &dyn Lease, request: &LeaseRequest, env: &Env, limit: Time) {
    let _ = env.until(limit, lease.release(request)).await;
}

/// The sending of a message, which the layers below may take their time to accept.
fn send(link: &Link, member: &Arc<Member>, message: &Message) -> Option<BoxFuture> {
    let message = link.message(message.encode(), SendOptions::NONE)?;
    let (mut out, _pending) = Outbound::new(message, std::slice::from_ref(member));
    // It is said again later anyway.
    out.may_wait = false;
    let (link, member) = (link.clone(), Arc::clone(member));
    Some(Box::pin(async move {
        if let Err(error) = link.send(out).await {
            tracing::debug!(layer = NAME, %member, %error, "a layer below refused a message");
        }
    }))
}

fn log(event: &ViewEvent) {
    match event {
        ViewEvent::ViewInstalled { view, .. } => {
            let (id, members, leader) = (view.id, view.members.len(), view.leader.id());
            tracing::info!(%id, members, %leader, primary = view.primary, "a view was agreed on");
        }
        ViewEvent::PartitionSuspected { view, missing } => {
            tracing::warn!(%view, missing = missing.len(), "members vanished without a good-bye");
        }
        ViewEvent::Merged { view, sides } => tracing::info!(view = %view.id, sides = sides.len(), "sides have merged"),
        ViewEvent::MayWrite { view, token } => tracing::info!(%view, token, "this side may write"),
        ViewEvent::MustStop { view, why } => tracing::info!(%view, %why, "this side must not write any more"),
        ViewEvent::TooManyUnconfirmed { view, views } => {
            tracing::warn!(%view, views, "too many views came before any was confirmed: no further one may write until told to forget");
        }
        ViewEvent::Missed { .. } => {}
    }
}

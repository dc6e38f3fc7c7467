//! Starting and stopping, in whole and in parts.
//!
//! Start: receiver binds → the local member is known → sender → layers, bottom first → the receiver takes messages in →
//! membership. Stop is the reverse, with a drain: membership says good-bye → layers, top first → sender → receiver →
//! listener queues → tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::{Channel, Inner};
use crate::error::{SendError, StartError};
use crate::member::{MemberId, View};
use crate::pipeline::catch;
use crate::transport::{Endpoint, MembershipContext};
use crate::{Member, Services, Time};

/// What the builder settled once.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) heartbeat: Option<Duration>,
    pub(super) drain: Duration,
    /// Fixed by the user, or fresh at each start.
    pub(super) id: Option<MemberId>,
    pub(super) domain: Bytes,
    pub(super) payload: Bytes,
}

/// What only one start or stop at a time may touch.
#[derive(Debug)]
pub(super) struct State {
    services: Services,
    /// How many layers run, counted from the bottom: what did not start must not be stopped.
    layers: usize,
    heartbeat: Option<crate::env::TaskHandle>,
    /// A stop of everything has begun and not ended: it was dropped on the way.
    ending: bool,
}

impl Default for State {
    /// Nothing runs.
    fn default() -> Self {
        Self { services: Services::empty(), layers: 0, heartbeat: None, ending: false }
    }
}

/// Whether messages are accepted; read on every send.
#[derive(Debug, Default)]
pub(super) struct Running(AtomicU8);

/// Time beyond the deadline of a stop for tasks to end.
const GRACE: Duration = Duration::from_secs(1);

const ACCEPTING: u8 = 1;
const STOPPED: u8 = 2;

impl Running {
    /// Whether a message may be sent now.
    pub(super) fn check(&self) -> Result<(), SendError> {
        match self.0.load(Ordering::Acquire) {
            ACCEPTING => Ok(()),
            STOPPED => Err(SendError::Stopped),
            _ => Err(SendError::NotStarted),
        }
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Release);
    }
}

impl Channel {
    /// Starts the channel: binds, announces itself and listens for others. Returns as soon as that is done, without waiting
    /// for members to appear. Starting what is running does nothing.
    ///
    /// # Errors
    /// If a part cannot start; those started before it are stopped again.
    ///
    /// # Cancel safety
    /// Not cancel safe: call [`stop`](Self::stop) after dropping it.
    pub async fn start(&self) -> Result<(), StartError> {
        self.start_services(Services::all()).await
    }

    /// Starts, then waits until at least `members` others are in the group, for at most `limit`.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`StartError::TooFewMembers`], with the channel running.
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_and_wait(&self, members: usize, limit: Duration) -> Result<Arc<View>, StartError> {
        self.start().await?;
        let env = self.0.stack.env.clone();
        let enough = self.view_when(|view| view.len() >= members);
        env.until(env.now() + limit, enough).await.ok_or_else(|| StartError::TooFewMembers {
            seen: self.view().len(),
            wanted: members,
            waited: limit,
        })
    }

    /// Starts those of `services` that are not running; the others are left alone (Tribes restarted them, T20).
    ///
    /// # Errors
    /// As [`start`](Self::start); membership needs the receiver to run, or to be started with it.
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_services(&self, services: Services) -> Result<(), StartError> {
        let mut state = self.0.lifecycle.lock().await;
        if state.ending {
            self.0.stop_running(&mut state, Services::all()).await;
        }
        let before = state.services;
        let result = self.0.start_missing(&mut state, services).await;
        if result.is_err() {
            let started = state.services.difference(before);
            self.0.stop_running(&mut state, started).await;
        }
        result
    }

    /// Leaves the group and stops: what is queued is sent within the drain time (5 s by default), or fails; peers are told.
    /// Stopping what does not run does nothing. The channel can be started again, as a new member.
    ///
    /// Listeners that have not returned by then are cancelled, so a listener that calls this is cancelled in the call: have
    /// another task do it.
    ///
    /// # Cancel safety
    /// Not cancel safe: call it again after dropping it, and it ends what was begun.
    pub async fn stop(&self) {
        self.stop_services(Services::all()).await;
    }

    /// Stops those of `services` that run; the others keep working, heartbeat included (in Tribes they did not, T21).
    ///
    /// # Cancel safety
    /// As [`stop`](Self::stop).
    pub async fn stop_services(&self, services: Services) {
        let mut state = self.0.lifecycle.lock().await;
        self.0.stop_running(&mut state, services).await;
    }

    /// The services that run now; waits for a start or stop under way. Cancel safe.
    pub async fn services(&self) -> Services {
        self.0.lifecycle.lock().await.services
    }

    /// Visits every layer, the sender and the membership service once, as the channel does every 5 s unless
    /// [`ChannelBuilder::heartbeat`](super::ChannelBuilder::heartbeat) switched that off.
    pub async fn heartbeat(&self) {
        self.0.beat_once().await;
    }

    /// Announces another payload.
    pub fn set_payload(&self, payload: impl Into<Bytes>) {
        let payload = payload.into();
        self.0.change_local(|member| member.with_payload(payload.clone()));
    }

    /// Announces another domain.
    pub fn set_domain(&self, domain: impl Into<Bytes>) {
        let domain = domain.into();
        self.0.change_local(|member| member.with_domain(domain.clone()));
    }
}

impl Inner {
    fn change_local(&self, change: impl Fn(Member) -> Member) {
        self.stack.local.rcu(|local| change(local.as_ref().clone()));
        self.announce_local();
    }

    fn announce_local(&self) {
        let local = self.stack.local.load_full();
        self.stack.receiver.update_local(Arc::clone(&local));
        self.stack.sender.update_local(Arc::clone(&local));
        self.stack.membership.update_local(local);
    }

    async fn start_missing(self: &Arc<Self>, state: &mut State, services: Services) -> Result<(), StartError> {
        let wanted = services.difference(state.services);
        if wanted.is_empty() {
            return Ok(());
        }
        if wanted.intersects(Services::MEMBERSHIP) && !(state.services | wanted).contains(Services::RECEIVER) {
            return Err(StartError::NoReceiver);
        }
        let first = state.services.is_empty();
        if first {
            self.new_incarnation().map_err(StartError::NoRandomness)?;
            self.layers_started.send_replace(false);
            self.carry_events();
            self.queues.open();
            self.endpoints.set_open(true);
        }
        let bottom = self.stack.bottom();
        if wanted.contains(Services::RECEIVER) {
            let started = self.stack.receiver.start(self.stack.link(bottom));
            let endpoint = starting(state, Services::RECEIVER, started).await.map_err(part("receiver"))?;
            self.adopt(&endpoint);
        }
        let local = self.stack.local.load_full();
        if wanted.contains(Services::SENDER) {
            let started = self.stack.sender.start(Arc::clone(&local), self.stack.link(bottom));
            starting(state, Services::SENDER, started).await.map_err(part("sender"))?;
        }
        if first {
            for (place, layer) in self.stack.layers().rev() {
                let started = catch(Box::pin(layer.start(self.stack.link(place)))).await;
                started
                    .unwrap_or_else(|panic| Err(format!("it panicked: {panic}").into()))
                    .map_err(part(layer.name()))?;
                state.layers += 1;
            }
            self.layers_started.send_replace(true);
            state.heartbeat = self.settings.heartbeat.map(|every| self.beat(every));
        }
        if wanted.contains(Services::SENDER) {
            self.running.set(ACCEPTING);
        }
        // From here on messages come in.
        if wanted.contains(Services::RECEIVER) {
            self.announce_local();
        }
        let membership = wanted & Services::MEMBERSHIP;
        if !membership.is_empty() {
            let context = MembershipContext::new(local, self.stack.link(bottom), Channel(Arc::clone(self)).downgrade());
            let started = self.stack.membership.start(membership, context);
            starting(state, membership, started).await.map_err(part("membership"))?;
        }
        Ok(())
    }

    /// A restarted channel is a new member: what was meant for the old one must not reach it.
    fn new_incarnation(&self) -> std::io::Result<()> {
        let id = match self.settings.id {
            Some(id) => id,
            None => MemberId::generate(&self.stack.env)?,
        };
        self.stack.local.rcu(|local| local.as_ref().clone().with_id(id).with_command(Bytes::new()));
        Ok(())
    }

    fn adopt(&self, endpoint: &Endpoint) {
        self.stack.local.rcu(|local| {
            let Settings { domain, payload, .. } = &self.settings;
            // A payload set before the start stays.
            let payload = if local.payload().is_empty() { payload } else { local.payload() };
            let domain = if local.domain().is_empty() { domain } else { local.domain() };
            Member::new(local.id(), (endpoint.host, endpoint.port).into())
                .with_udp_port(endpoint.udp_port.map_or(-1, i32::from))
                .with_secure_port(endpoint.secure_port.map_or(-1, i32::from))
                .with_domain(domain.clone())
                .with_payload(payload.clone())
        });
    }

    fn beat(self: &Arc<Self>, every: Duration) -> crate::env::TaskHandle {
        let channel = Arc::downgrade(self);
        let env = self.stack.env.clone();
        self.stack.env.spawn(async move {
            loop {
                env.sleep(every).await;
                let Some(channel) = channel.upgrade() else { return };
                channel.beat_once().await;
            }
        })
    }

    async fn beat_once(&self) {
        let now = self.stack.env.now();
        self.stack.heartbeat(now).await;
        // Senders that were quiet for a minute give their queue and task back.
        self.queues.close_idle(Time::from_nanos(now.as_nanos().saturating_sub(60_000_000_000)));
    }

    async fn stop_running(self: &Arc<Self>, state: &mut State, services: Services) {
        let stopping = services & state.services;
        let last = (!stopping.is_empty() && stopping == state.services) || state.ending;
        state.ending = last;
        let deadline = self.stack.env.now() + self.settings.drain;
        // A start that failed, or was dropped, holds up no event any more.
        self.layers_started.send_replace(true);
        let membership = stopping & Services::MEMBERSHIP;
        if !membership.is_empty() {
            let stop = self.stack.membership.stop(membership);
            if self.stack.env.until(deadline + GRACE, stop).await.is_none() {
                tracing::error!("the membership service did not stop in time and is given up");
            }
            state.services -= membership;
        }
        if stopping.contains(Services::SENDER) {
            self.running.set(STOPPED);
        }
        if last {
            // Each is counted off when it has stopped, so that a stop that is dropped can be taken up.
            let not_started = self.stack.bottom() - state.layers;
            for (_, layer) in self.stack.layers().skip(not_started) {
                // Whatever it leaves undone, the rest is to be closed.
                match self.stack.env.until(deadline + GRACE, catch(Box::pin(layer.stop(deadline)))).await {
                    Some(Ok(())) => {}
                    Some(Err(panic)) => tracing::error!(layer = layer.name(), panic, "layer panicked in its stop"),
                    None => tracing::error!(layer = layer.name(), "layer did not stop by its deadline and is given up"),
                }
                state.layers -= 1;
            }
        }
        if stopping.contains(Services::SENDER) {
            self.stack.sender.stop(deadline).await;
            state.services -= Services::SENDER;
        }
        if stopping.contains(Services::RECEIVER) {
            self.stack.receiver.stop(deadline).await;
            state.services -= Services::RECEIVER;
        }
        if membership.contains(Services::MEMBERSHIP_RX) || last {
            // Whoever starts again is not to find the old group; a layer that looks into an event is not waited for. Layers that
            // run on hear of it.
            let _ = self.stack.env.until(deadline, self.stack.raise_stopped(last)).await;
        }
        if last {
            // A service that failed to start leaves nothing behind either.
            state.heartbeat.take().inspect(crate::env::TaskHandle::abort);
            let _ = self.stack.env.until(deadline, self.queues.drained()).await;
            self.queues.close();
            self.endpoints.set_open(false);
            self.stack.end_tasks(deadline + GRACE).await;
            state.ending = false;
        }
    }
}

/// Starts `services`, which count as running from the first moment: should the call be dropped, the next stop is to stop what
/// was begun.
async fn starting<T>(
    state: &mut State,
    services: Services,
    start: impl Future<Output = Result<T, crate::BoxError>>,
) -> Result<T, crate::BoxError> {
    state.services |= services;
    let result = start.await;
    if result.is_err() {
        state.services -= services;
    }
    result
}

fn part(part: &'static str) -> impl Fn(crate::BoxError) -> StartError {
    move |source| StartError::Part { part, source }
}

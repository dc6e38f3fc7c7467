//! The task that owns the [`Core`] and speaks through the channel.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tribes_core::member::SHUTDOWN_COMMAND;
use tribes_core::wire::java::{JavaMessage, MemberMessage, MemberMessageKind as Kind, RpcBody};
use tribes_core::{Channel, Link, Member, MembershipContext, SendError, SendOptions, Time, WeakChannel};

use super::core::{Action, Core, Said};
use super::counters::Counters;
use super::{Resolve, StaticConfig, StaticPeer};
use crate::limiter::Limiter;
use crate::timer::Timer;

/// What Java sends calls with; replies have no options at all.
const CALL_OPTIONS: SendOptions = SendOptions::ASYNCHRONOUS;
/// How long the stop message may take to leave.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);
/// How long a message may wait to be accepted before it counts as not sent.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// Replies that may be on their way out at the same time.
const REPLIES: usize = 256;
/// One log line of a kind in so long.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// What the hooks tell the driver.
#[derive(Debug)]
pub(super) enum Notice {
    /// A call.
    Request {
        id: Bytes,
        said: Said,
    },
    /// A reply.
    Reply {
        id: Bytes,
        said: Said,
    },
    /// A message outside of RPC: a stop.
    Said(Said),
    /// A reply that there is nobody to reply.
    NoSuchMembership(Arc<Member>),
    Suspected(Arc<Member>),
    Departed(Arc<Member>),
    HeardOf(Arc<Member>),
}

/// What the driver listens to.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) stopped: oneshot::Receiver<()>,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) local: watch::Receiver<Arc<Member>>,
    pub(super) peers: watch::Receiver<Vec<StaticPeer>>,
}

/// What a task of the driver has come to.
#[derive(Debug)]
enum Report {
    Resolved { name: String, addrs: Option<Vec<SocketAddr>> },
    Called { call: u64, to: Arc<Member>, reached: bool },
}

pub(super) struct Driver {
    config: StaticConfig,
    membership_id: Bytes,
    resolver: Arc<dyn Resolve>,
    counters: Arc<Counters>,
    link: Link,
    channel: WeakChannel,
    core: Core,
    local: Arc<Member>,
    since: Time,
    /// First half of all call ids of this run.
    run_id: u64,
    queues: Queues,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// To whom a call is being sent.
    busy: BTreeSet<Arc<Member>>,
    replies: Arc<Semaphore>,
    log: Limiter,
}

enum Event {
    Stopped(bool),
    Notice(Notice),
    Local,
    Peers,
    Report(Report),
    Timer,
}

impl Driver {
    pub(super) fn new(
        config: StaticConfig,
        membership_id: Bytes,
        resolver: Arc<dyn Resolve>,
        counters: Arc<Counters>,
        context: MembershipContext,
        queues: Queues,
    ) -> Self {
        let MembershipContext { local, link, channel, .. } = context;
        Self {
            core: Core::new(config.clone(), Arc::clone(&local), Arc::clone(&counters)),
            since: link.env().now(),
            run_id: link.env().random(),
            config,
            membership_id,
            resolver,
            counters,
            link,
            channel,
            local,
            queues,
            reports: mpsc::channel(64),
            busy: BTreeSet::new(),
            replies: Arc::new(Semaphore::new(REPLIES)),
            log: Limiter::new(LOG_PERIOD),
        }
    }

    /// Runs until stopped, or until the service is gone.
    pub(super) async fn run(mut self) {
        let env = self.link.env().clone();
        let mut timer = Timer::new(env.clone());
        let mut out = Vec::new();
        self.core.start(env.now(), &mut out);
        loop {
            self.act(&mut out).await;
            let event = self.next_event(timer.until(self.core.deadline())).await;
            let now = env.now();
            match event {
                Event::Stopped(in_order) => {
                    if in_order {
                        self.core.stop(&mut out);
                        self.act(&mut out).await;
                    }
                    return;
                }
                Event::Notice(notice) => self.notice(notice, now, &mut out),
                Event::Local => {
                    self.local = Arc::clone(&self.queues.local.borrow_and_update());
                    self.core.set_local(Arc::clone(&self.local), now, &mut out);
                }
                Event::Peers => {
                    let peers = self.queues.peers.borrow_and_update().clone();
                    self.core.set_peers(peers, now, &mut out);
                }
                Event::Report(Report::Resolved { name, addrs }) => {
                    if addrs.is_none() {
                        self.counters.unresolved.add();
                    }
                    self.core.resolved(&name, addrs.unwrap_or_default(), now, &mut out);
                }
                Event::Report(Report::Called { call, to, reached }) => {
                    self.busy.remove(&to);
                    if !reached {
                        self.core.unreachable(call);
                    }
                }
                Event::Timer => self.core.tick(now, &mut out),
            }
        }
    }

    async fn next_event(&mut self, timer: impl Future<Output = ()>) -> Event {
        let queues = &mut self.queues;
        tokio::select! {
            biased;
            stopped = &mut queues.stopped => Event::Stopped(stopped.is_ok()),
            () = timer => Event::Timer,
            Some(notice) = queues.notices.recv() => Event::Notice(notice),
            Some(report) = self.reports.1.recv() => Event::Report(report),
            Ok(()) = queues.local.changed() => Event::Local,
            Ok(()) = queues.peers.changed() => Event::Peers,
        }
    }

    fn notice(&mut self, notice: Notice, now: Time, out: &mut Vec<Action>) {
        match notice {
            Notice::Request { id, said } => self.core.request(said, id, now, out),
            Notice::Reply { id, said } => self.core.reply(self.call_of(&id), said, now, out),
            Notice::Said(said) if said.kind == Kind::Stop => self.core.stopped(&said, now, out),
            Notice::Said(_) => {}
            Notice::NoSuchMembership(sender) => {
                self.counters.no_such_membership.add();
                if let Some(held_back) = self.log.pass(now) {
                    let name = String::from_utf8_lossy(&self.membership_id);
                    tracing::warn!(member = %sender, %name, held_back, "a peer runs no static membership of this name");
                }
            }
            Notice::Suspected(member) => self.core.suspected(&member, now, out),
            Notice::Departed(member) => self.core.departed(&member, now, out),
            Notice::HeardOf(member) => self.core.heard_of(&member, now, out),
        }
    }

    /// Does what the core asked for.
    async fn act(&mut self, out: &mut Vec<Action>) {
        for action in out.drain(..) {
            match action {
                Action::Raise(event) => self.link.member_event(event),
                Action::Resolve { addr } => self.resolve(addr),
                Action::Call { call, kind, to, connect_first } => self.call(call, kind, to, connect_first),
                Action::Reply { to, kind, id } => self.reply(to, kind, id),
                Action::Farewell { to } => self.farewell(to).await,
            }
        }
    }

    fn resolve(&self, name: String) {
        let (resolver, reports) = (Arc::clone(&self.resolver), self.reports.0.clone());
        self.link.spawn(async move {
            let addrs = resolver
                .resolve(&name)
                .await
                .inspect_err(|error| tracing::debug!(peer = name, %error, "could not resolve a static peer"));
            // Gone only when the driver is.
            let _ = reports.send(Report::Resolved { name, addrs: addrs.ok() }).await;
        });
    }

    fn call(&mut self, call: u64, kind: Kind, to: Arc<Member>, connect_first: bool) {
        if !self.busy.insert(Arc::clone(&to)) {
            // The last call has not even been sent: that member is stuck, and another message would not help.
            return self.core.unreachable(call);
        }
        self.counters.calls_sent.add();
        let mut id = BytesMut::with_capacity(16);
        id.put_u64(self.run_id);
        id.put_u64(call);
        let body = self.rpc(false, id.freeze(), kind);
        let (link, channel, reports) = (self.link.clone(), self.channel.clone(), self.reports.0.clone());
        let limit = self.config.connect_timeout;
        self.link.spawn(async move {
            let listening = !connect_first || link.probe(&to, None, limit).await.is_alive();
            let reached = listening && send(&link, &channel, vec![Arc::clone(&to)], body, CALL_OPTIONS).await.is_ok();
            // Gone only when the driver is.
            let _ = reports.send(Report::Called { call, to, reached }).await;
        });
    }

    fn reply(&self, to: Arc<Member>, kind: Kind, id: Bytes) {
        let Ok(permit) = Arc::clone(&self.replies).try_acquire_owned() else {
            return self.counters.notices_dropped.add();
        };
        self.counters.replies_sent.add();
        let body = self.rpc(true, id, kind);
        let (link, channel) = (self.link.clone(), self.channel.clone());
        self.link.spawn(async move {
            // A reply that is lost is followed by the next call.
            let _ = send(&link, &channel, vec![to], body, SendOptions::NONE).await;
            drop(permit);
        });
    }

    async fn farewell(&self, to: Vec<Arc<Member>>) {
        let member = self.local_now().with_command(SHUTDOWN_COMMAND);
        let body = JavaMessage::Member(self.message(Kind::Stop, member)).encode(self.config.member_class_version);
        // Waits until it has left: what follows takes the members out of the group, and with them what is queued. Who does
        // not get it notices by its connection, or by the silence.
        let Some(channel) = self.channel.upgrade() else { return };
        let env = self.link.env();
        let farewell = async {
            if let Ok(pending) = channel.send_opaque(to, body, CALL_OPTIONS).await {
                pending.await;
            }
        };
        let _ = env.until(env.now() + FAREWELL_LIMIT, farewell).await;
    }

    fn rpc(&self, reply: bool, id: Bytes, kind: Kind) -> Bytes {
        let body = RpcBody::Member(self.message(kind, self.local_now()));
        let message = JavaMessage::Rpc { reply, id, rpc_id: self.membership_id.clone(), body };
        message.encode(self.config.member_class_version)
    }

    fn message(&self, kind: Kind, member: Member) -> MemberMessage {
        MemberMessage { kind, member, membership_id: self.membership_id.clone() }
    }

    fn local_now(&self) -> Member {
        let alive = (self.link.env().now() - self.since).as_millis();
        self.local.as_ref().clone().with_alive_ms(i64::try_from(alive).unwrap_or(i64::MAX))
    }

    /// The number of the call with this id, if it is one of this run.
    fn call_of(&self, id: &[u8]) -> Option<u64> {
        let (run_id, call) = id.split_first_chunk::<8>()?;
        let call = u64::from_be_bytes(call.try_into().ok()?);
        (u64::from_be_bytes(*run_id) == self.run_id).then_some(call)
    }
}

/// Sends a Java object from the top of the stack; done when it is accepted.
async fn send(
    link: &Link,
    channel: &WeakChannel,
    to: Vec<Arc<Member>>,
    body: Bytes,
    options: SendOptions,
) -> Result<(), SendError> {
    let channel: Channel = channel.upgrade().ok_or(SendError::Stopped)?;
    let env = link.env();
    let sent = env.until(env.now() + SEND_LIMIT, channel.send_opaque(to, body, options)).await;
    // Faults are the failure detector's business; here only answers count.
    sent.ok_or(SendError::Full)??.on_complete(drop);
    Ok(())
}

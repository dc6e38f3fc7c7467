//! The task that owns the sockets and the [`Core`].

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tribes_core::member::SHUTDOWN_COMMAND;
use tribes_core::wire::{self, MEMBER_BEGIN};
use tribes_core::{Link, Member, ProbeResult, Services, Suspicion, Time};

use super::core::{Action, Core, Heard};
use super::data::{self, Inbox};
use super::recovery::{Recovery, Step};
use super::{McastConfig, Shared, limits, socket};
use crate::limiter::Limiter;
use crate::timer::Timer;

/// Datagrams taken at one go before the driver looks at anything else.
const BATCH: usize = 64;
/// Pause between the copies of a good-bye, so that one full queue does not swallow all.
const COPY_PAUSE: Duration = Duration::from_millis(3);
/// One log line of a kind in so long.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// What the service asks of the driver, and waits for.
#[derive(Debug)]
pub(super) enum Command {
    /// Start halves; their sockets come along.
    Start { services: Services, local: Arc<Member>, listener: Option<UdpSocket>, speaker: Option<UdpSocket> },
    /// Stop halves. The driver ends when none is left.
    Stop { services: Services },
}

/// What the transport tells membership.
#[derive(Debug)]
pub(super) enum Notice {
    Suspected(Arc<Member>, Suspicion),
    Departed(Arc<Member>),
    HeardOf(Arc<Member>),
}

/// What the driver listens to besides the socket.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) commands: mpsc::Receiver<(Command, oneshot::Sender<()>)>,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) local: watch::Receiver<Arc<Member>>,
}

pub(super) struct Driver {
    config: McastConfig,
    link: Link,
    shared: Arc<Shared>,
    core: Core,
    local: Arc<Member>,
    queues: Queues,
    /// By which running probes report.
    probe_reports: mpsc::Sender<(u64, ProbeResult)>,
    probed: mpsc::Receiver<(u64, ProbeResult)>,
    listener: Option<UdpSocket>,
    inbox: Option<Inbox>,
    buffer: Box<[u8]>,
    actions: Vec<Action>,
    receive_errors: Recovery,
    send_errors: Recovery,
    /// The listener is left alone until then.
    paused: Option<Time>,
    /// New sockets are made then.
    remake: Option<Time>,
    malformed_log: Limiter,
    error_log: Limiter,
}

/// What woke the driver.
enum Event {
    Command(Option<(Command, oneshot::Sender<()>)>),
    Notice(Notice),
    Local,
    Probed(u64, ProbeResult),
    Timer,
    Received(io::Result<(usize, SocketAddr)>),
}

impl Driver {
    pub(super) fn new(
        config: McastConfig,
        link: Link,
        shared: Arc<Shared>,
        local: Arc<Member>,
        queues: Queues,
    ) -> Self {
        let limit = config.recovery.then_some(config.recovery_counter);
        let (probe_reports, probed) = mpsc::channel(64);
        Self {
            core: Core::new(config.clone(), Arc::clone(&local), Arc::clone(&shared.counters)),
            config,
            link,
            shared,
            local,
            queues,
            probe_reports,
            probed,
            listener: None,
            inbox: None,
            buffer: vec![0; 1 << 16].into_boxed_slice(),
            actions: Vec::new(),
            receive_errors: Recovery::new(limit),
            send_errors: Recovery::new(limit),
            paused: None,
            remake: None,
            malformed_log: Limiter::new(LOG_PERIOD),
            error_log: Limiter::new(LOG_PERIOD),
        }
    }

    /// Runs until all halves are stopped, or the service is gone.
    pub(super) async fn run(mut self) {
        let env = self.link.env().clone();
        let mut timer = Timer::new(env.clone());
        loop {
            let deadline = self.core.deadline().min(self.own_deadline());
            let event = self.next_event(timer.until(deadline)).await;
            let now = env.now();
            match event {
                Event::Command(None) => break,
                Event::Command(Some((command, done))) => {
                    let goes_on = self.command(command, now).await;
                    let _ = done.send(());
                    if !goes_on {
                        break;
                    }
                    continue;
                }
                Event::Notice(Notice::Suspected(member, why)) => {
                    self.core.suspected(&member, why, now, &mut self.actions);
                }
                Event::Notice(Notice::Departed(member)) => self.core.departed(&member, now, &mut self.actions),
                Event::Notice(Notice::HeardOf(member)) => self.core.heard_of(&member, now, &mut self.actions),
                Event::Local => {
                    let local = Arc::clone(&self.queues.local.borrow_and_update());
                    self.new_local(local, now);
                }
                Event::Probed(ticket, result) => self.core.probed(ticket, result, now, &mut self.actions),
                Event::Timer => self.timer(now),
                Event::Received(Ok((len, from))) => self.received(len, from, now),
                Event::Received(Err(error)) => self.receive_failed(&error, now),
            }
            self.act(now).await;
        }
        self.shared.set_speaker(None);
    }

    async fn next_event(&mut self, timer: impl Future<Output = ()>) -> Event {
        let listener = self.listener.as_ref().filter(|_| self.paused.is_none());
        let receive = async {
            match listener {
                Some(listener) => listener.recv_from(&mut self.buffer).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = self.queues.commands.recv() => Event::Command(command),
            () = timer => Event::Timer,
            Some(notice) = self.queues.notices.recv() => Event::Notice(notice),
            Some((ticket, result)) = self.probed.recv() => Event::Probed(ticket, result),
            Ok(()) = self.queues.local.changed() => Event::Local,
            received = receive => Event::Received(received),
        }
    }

    fn own_deadline(&self) -> Time {
        self.paused.into_iter().chain(self.remake).min().unwrap_or(Time::NEVER)
    }

    async fn command(&mut self, command: Command, now: Time) -> bool {
        match command {
            Command::Start { services, local, listener, speaker } => {
                // What was changed while this was on its way counts.
                let local = self.link.local().unwrap_or(local);
                if services.contains(Services::MEMBERSHIP_RX) {
                    self.listener = listener;
                    self.inbox = Some(Inbox::open(&self.link));
                }
                if services.contains(Services::MEMBERSHIP_TX) {
                    self.shared.set_speaker(speaker.map(Arc::new));
                }
                self.local = Arc::clone(&local);
                self.core.start(services, local, now, &mut self.actions);
            }
            Command::Stop { services } => self.core.stop(services, now, &mut self.actions),
        }
        self.act(now).await;
        let left = self.core.services();
        if !left.contains(Services::MEMBERSHIP_RX) {
            self.listener = None;
            self.inbox = None;
            self.paused = None;
        }
        if !left.contains(Services::MEMBERSHIP_TX) {
            self.shared.set_speaker(None);
        }
        if left.is_empty() {
            // Closed before the answer, which is how the service sees that the driver ends.
            self.queues.commands.close();
        }
        !left.is_empty()
    }

    fn new_local(&mut self, local: Arc<Member>, now: Time) {
        if let Err(error) = wire::check_member_len(&local, &limits()) {
            // Peers keep seeing the last record that fits: better than not seeing this member at all.
            tracing::warn!(%error, "the local member does not fit into a datagram and is not announced as it is now");
            return;
        }
        self.local = Arc::clone(&local);
        self.core.set_local(local, now, &mut self.actions);
    }

    fn timer(&mut self, now: Time) {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        if self.remake.is_some_and(|at| at <= now) {
            self.remake_sockets(now);
        }
        self.core.tick(now, &mut self.actions);
    }

    /// Handles the datagram in the buffer, and those that wait behind it.
    fn received(&mut self, len: usize, from: SocketAddr, now: Time) {
        self.receive_errors.good();
        self.datagram(len, from.ip(), now);
        for _ in 1..BATCH {
            let Some(listener) = &self.listener else { return };
            match listener.try_recv_from(&mut self.buffer) {
                Ok((len, from)) => self.datagram(len, from.ip(), now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.receive_failed(&error, now),
            }
        }
    }

    fn datagram(&mut self, len: usize, source: IpAddr, now: Time) {
        let datagram = self.buffer.get(..len).unwrap_or_default();
        let damage = if datagram.starts_with(MEMBER_BEGIN) {
            wire::decode_member(datagram, &limits())
                .map(|member| {
                    let connected = member.is_leaving() && self.link.is_connected(&member);
                    self.core.heard(Heard { member, source, connected }, now, &mut self.actions);
                })
                .err()
        } else {
            data::decode(datagram, limits()).map(|messages| self.messages(messages, source)).err()
        };
        if let Some(error) = damage {
            self.shared.counters.malformed.add();
            if let Some(held_back) = self.malformed_log.pass(now) {
                tracing::warn!(%source, len, held_back, %error, "ignored a malformed multicast datagram");
            }
        }
    }

    fn messages(&self, messages: Vec<tribes_core::ChannelMessage>, source: IpAddr) {
        let Some(inbox) = &self.inbox else { return };
        let counters = &self.shared.counters;
        for message in messages {
            if message.sender == self.local || !self.core.admits_source(&message.sender, source) {
                continue;
            }
            counters.messages_received.add();
            if !inbox.push(message) {
                counters.messages_dropped.add();
            }
        }
    }

    /// Does what the core asked for.
    async fn act(&mut self, now: Time) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Raise(event) => self.link.member_event(event),
                Action::Probe { ticket, member, limit } => {
                    let (link, probed) = (self.link.clone(), self.probe_reports.clone());
                    self.link.spawn(async move {
                        let result = link.probe(&member, None, limit).await;
                        // Gone only when the driver is.
                        let _ = probed.send((ticket, result)).await;
                    });
                }
                Action::Announce { alive_ms } => self.announce(alive_ms, now).await,
                Action::Goodbye { alive_ms, copies } => self.goodbye(alive_ms, copies).await,
            }
        }
    }

    async fn announce(&mut self, alive_ms: i64, now: Time) {
        let Some(speaker) = self.shared.speaker() else { return };
        let mut datagram = BytesMut::new();
        wire::encode_member_alive(&self.local, alive_ms, &mut datagram);
        match speaker.send_to(&datagram, socket::target(&self.config)).await {
            Ok(_) => {
                self.send_errors.good();
                self.shared.counters.heartbeats_sent.add();
            }
            Err(error) => {
                // The next heartbeat is the next attempt: no pause is needed here.
                let step = self.send_errors.bad();
                self.socket_failed("send to", &error, step, now);
            }
        }
    }

    async fn goodbye(&self, alive_ms: i64, copies: usize) {
        let Some(speaker) = self.shared.speaker() else { return };
        let leaving = self.local.as_ref().clone().with_command(SHUTDOWN_COMMAND);
        let mut datagram = BytesMut::new();
        wire::encode_member_alive(&leaving, alive_ms, &mut datagram);
        for copy in 0..copies {
            if copy > 0 {
                self.link.env().sleep(COPY_PAUSE).await;
            }
            // If it is lost, peers notice by their connections, or by the silence.
            let _ = speaker.send_to(&datagram, socket::target(&self.config)).await;
        }
    }

    fn receive_failed(&mut self, error: &io::Error, now: Time) {
        let step = self.receive_errors.bad();
        if let Step::Pause(pause) = step {
            self.paused = Some(now + pause);
        }
        self.socket_failed("receive from", error, step, now);
    }

    fn socket_failed(&mut self, what: &str, error: &io::Error, step: Step, now: Time) {
        self.shared.counters.socket_errors.add();
        if let Some(held_back) = self.error_log.pass(now) {
            let McastConfig { group, port, .. } = &self.config;
            tracing::warn!(%group, port, %error, held_back, "could not {what} the multicast group");
        }
        if step == Step::Remake && self.remake.is_none() {
            self.listener = None;
            self.paused = None;
            self.core.deaf();
            self.remake = Some(now);
        }
    }

    /// Makes new sockets for the halves that run; announces no departure, for nobody has left.
    fn remake_sockets(&mut self, now: Time) {
        let services = self.core.services();
        let listener = services.contains(Services::MEMBERSHIP_RX).then(|| socket::listen(&self.config)).transpose();
        let speaker = services.contains(Services::MEMBERSHIP_TX).then(|| socket::speak(&self.config)).transpose();
        match (listener, speaker) {
            (Ok(listener), Ok(speaker)) => {
                self.listener = listener;
                self.shared.set_speaker(speaker.map(Arc::new));
                self.remake = None;
                self.shared.counters.recoveries.add();
                tracing::info!("multicast membership has recovered");
                self.core.hearing(now, &mut self.actions);
            }
            (Err(error), _) | (_, Err(error)) => {
                self.remake = Some(now + self.config.recovery_sleep);
                self.shared.counters.socket_errors.add();
                if let Some(held_back) = self.error_log.pass(now) {
                    tracing::warn!(%error, held_back, "multicast membership could not recover yet");
                }
            }
        }
    }
}

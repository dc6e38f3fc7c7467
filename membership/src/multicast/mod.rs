//! Multicast membership (Tribes: `McastService`): each member sends a heartbeat to a multicast group twice a second;
//! whoever was not heard from for three seconds is gone.
//!
//! Wire-compatible with Java's, and stricter about what is believed:
//!
//! - a newcomer counts once it has answered a probe at the address it claims: forged heartbeats add nobody;
//! - old heartbeats, replayed, keep nobody alive and revive nobody;
//! - a good-bye of a member with which a connection is open is verified: forged ones remove nobody;
//! - a newcomer's first heartbeat is answered at once: a join takes milliseconds;
//! - silence is measured by a monotonic clock (T39), and not while this channel's own socket is broken.
//!
//! It also carries messages to all members at once, in one datagram each.

mod config;
mod core;
mod counters;
mod data;
mod driver;
mod loopback;
mod recovery;
mod socket;
#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tribes_core::error::Unsupported;
use tribes_core::registry::Configure;
use tribes_core::settings::{SettingFault, Settings as _};
use tribes_core::wire::{self, Limits, WireError};
use tribes_core::{
    AckMode, BoxError, Delivery, FaultKind, Gauge, Member, MembershipContext, MembershipService, Outbound, SendError,
    Services, Suspicion, TaskHandle,
};

pub use self::config::McastConfig;
use self::counters::Counters;
use self::driver::{Command, Driver, Notice};
pub use self::loopback::loops_back;

/// The largest datagram that IPv4 carries.
const MAX_DATAGRAM: usize = 65_507;
/// Notices of the transport that may wait for the driver.
const NOTICES: usize = 4096;

/// Membership by multicast heartbeats; see the [crate's documentation](crate) and [`McastConfig`].
///
/// Its two halves start and stop independently: [`Services::MEMBERSHIP_RX`] hears others, [`Services::MEMBERSHIP_TX`]
/// announces this member and is needed for [`broadcast`](MembershipService::broadcast).
#[derive(Debug)]
pub struct McastMembership {
    config: McastConfig,
    running: tokio::sync::Mutex<Option<Running>>,
    shared: Arc<Shared>,
    notices: Mutex<Option<Ends>>,
}

/// The driver task and the way to it.
#[derive(Debug)]
struct Running {
    services: Services,
    commands: mpsc::Sender<(Command, oneshot::Sender<()>)>,
    task: TaskHandle,
}

/// What the synchronous hooks tell the driver by.
#[derive(Clone, Debug)]
struct Ends {
    notices: mpsc::Sender<Notice>,
    local: watch::Sender<Arc<Member>>,
}

/// What the driver and the service both use.
#[derive(Debug, Default)]
struct Shared {
    counters: Arc<Counters>,
    /// While the announcing half runs.
    speaker: Mutex<Option<Arc<UdpSocket>>>,
}

impl Shared {
    fn speaker(&self) -> Option<Arc<UdpSocket>> {
        self.speaker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_speaker(&self, socket: Option<Arc<UdpSocket>>) {
        *self.speaker.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

impl McastMembership {
    /// A service with this configuration, not yet started.
    ///
    /// # Errors
    /// If a setting is out of its bounds.
    pub fn new(config: McastConfig) -> Result<Self, SettingFault> {
        config.validate()?;
        Ok(Self { config, running: tokio::sync::Mutex::default(), shared: Arc::default(), notices: Mutex::default() })
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &McastConfig {
        &self.config
    }

    fn ends(&self) -> Option<Ends> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn notify(&self, notice: Notice) {
        if let Some(ends) = self.ends()
            && let Err(mpsc::error::TrySendError::Full(_)) = ends.notices.try_send(notice)
        {
            self.shared.counters.notices_dropped.add();
        }
    }

    fn target(&self) -> SocketAddrV4 {
        socket::target(&self.config)
    }

    /// The driver, started if it does not run.
    fn ensure_running<'a>(&self, slot: &'a mut Option<Running>, context: &MembershipContext) -> &'a mut Running {
        // One whose commands are closed has ended, together with its stack.
        slot.take_if(|running| running.commands.is_closed());
        slot.get_or_insert_with(|| self.run(context))
    }

    fn run(&self, context: &MembershipContext) -> Running {
        let (commands, command_queue) = mpsc::channel(1);
        let (notices, notice_queue) = mpsc::channel(NOTICES);
        let (local, local_changes) = watch::channel(Arc::clone(&context.local));
        let driver = Driver::new(
            self.config.clone(),
            context.link.clone(),
            Arc::clone(&self.shared),
            Arc::clone(&context.local),
            driver::Queues { commands: command_queue, notices: notice_queue, local: local_changes },
        );
        let task = context.link.env().spawn(driver.run());
        *self.notices.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ends { notices, local });
        Running { services: Services::empty(), commands, task }
    }
}

impl Configure for McastMembership {
    const NAME: &'static str = "multicast";
    const HELP: &'static str = "finds members by heartbeats to a multicast group";
    type Config = McastConfig;
    fn configure(config: McastConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config)?)
    }
}

tribes_core::register_membership!(McastMembership);

#[async_trait]
impl MembershipService for McastMembership {
    fn name(&self) -> &'static str {
        "multicast"
    }

    /// Opens the sockets and begins; waits for nothing else.
    ///
    /// # Errors
    /// If a socket cannot be opened or joined to the group, or the local member does not fit into a datagram.
    async fn start(&self, services: Services, context: MembershipContext) -> Result<(), BoxError> {
        let mut slot = self.running.lock().await;
        wire::check_member_len(&context.local, &limits())?;
        let running = slot.as_ref().filter(|running| !running.commands.is_closed());
        let services = services.difference(running.map_or(Services::empty(), |running| running.services));
        // Opened here, so that the caller hears of what is wrong.
        let listener = services.contains(Services::MEMBERSHIP_RX).then(|| socket::listen(&self.config)).transpose();
        let listener = listener.map_err(|source| self.failed("listen to", source))?;
        let speaker = services.contains(Services::MEMBERSHIP_TX).then(|| socket::speak(&self.config)).transpose();
        let speaker = speaker.map_err(|source| self.failed("send to", source))?;
        let running = self.ensure_running(&mut slot, &context);
        running.services |= services;
        running.call(Command::Start { services, local: context.local, listener, speaker }).await;
        Ok(())
    }

    async fn stop(&self, services: Services) {
        let mut slot = self.running.lock().await;
        let Some(running) = slot.as_mut() else { return };
        running.services -= services;
        let ended = running.call(Command::Stop { services }).await;
        if ended {
            running.task.ended().await;
            *slot = None;
            *self.notices.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn update_local(&self, local: Arc<Member>) {
        if let Some(ends) = self.ends() {
            ends.local.send_replace(local);
        }
    }

    /// Sends `out` in one datagram. There is no acknowledgement: a message that asks for one is refused (in Tribes the
    /// request is ignored, T17). Destinations, if there are any, complete when the operating system has taken it.
    async fn broadcast(&self, out: Outbound) -> Result<(), SendError> {
        if out.ack_mode() != AckMode::None {
            let why = "a multicast is never acknowledged: send it without the ack option, or without multicast";
            return Err(SendError::Unsupported(Unsupported::Other(why)));
        }
        let size = match wire::check_frame_len(&out.message, &limits()) {
            Ok(size) | Err(WireError::BeyondLimit { found: size, .. }) => size,
            Err(error) => return Err(SendError::Layer { layer: self.name(), source: error.into() }),
        };
        if size > MAX_DATAGRAM {
            return Err(SendError::Unsupported(Unsupported::DatagramSize { size, max: MAX_DATAGRAM }));
        }
        let speaker = self.shared.speaker().ok_or(SendError::NotStarted)?;
        let frame = data::encode(&out.message);
        match speaker.send_to(&frame, self.target()).await {
            Ok(_) => {
                self.shared.counters.messages_sent.add();
                out.to.into_iter().for_each(|to| to.completion.deliver(Delivery::Sent));
                Ok(())
            }
            Err(error) => {
                self.shared.counters.socket_errors.add();
                out.fail(&FaultKind::Disconnected(error.to_string()));
                Err(SendError::Layer { layer: self.name(), source: error.into() })
            }
        }
    }

    fn suspected(&self, member: &Arc<Member>, why: Suspicion) {
        self.notify(Notice::Suspected(Arc::clone(member), why));
    }

    fn departed(&self, member: &Arc<Member>) {
        self.notify(Notice::Departed(Arc::clone(member)));
    }

    fn heard_of(&self, member: &Arc<Member>) {
        self.notify(Notice::HeardOf(Arc::clone(member)));
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.shared.counters.gauges()
    }
}

impl McastMembership {
    fn failed(&self, what: &'static str, source: std::io::Error) -> BoxError {
        let McastConfig { group, port, bind, .. } = &self.config;
        let interface = bind.map_or_else(|| "the default interface".to_owned(), |bind| format!("interface {bind}"));
        Box::new(SocketError { text: format!("cannot {what} multicast group {group}:{port} on {interface}"), source })
    }
}

impl Running {
    /// Has the driver do `command`; whether the driver ends with it.
    async fn call(&self, command: Command) -> bool {
        let (done, wait) = oneshot::channel();
        if self.commands.send((command, done)).await.is_err() {
            return true;
        }
        let _ = wait.await;
        self.commands.is_closed()
    }
}

/// A socket that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct SocketError {
    text: String,
    source: std::io::Error,
}

/// What a datagram can hold bounds everything.
fn limits() -> Limits {
    Limits::default().with_max_member(MAX_DATAGRAM).with_max_frame(MAX_DATAGRAM - wire::FRAME_OVERHEAD)
}

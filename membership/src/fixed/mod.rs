//! Static membership (Tribes: `StaticMembershipService` with its `StaticMembershipProvider`): a list of addresses instead
//! of multicast.
//!
//! Members call each other through the channel itself, once a second: a *start* to an address where nobody is known yet,
//! a *ping* to each member, answered by a reply; and a *stop* to all at the end. The messages are Java's, so Java nodes
//! take part; between our own nodes it is the same exchange.
//!
//! Better than there: names are resolved anew for each attempt and peers tried side by side; the local member is
//! recognised by its address, whatever its spelling, and need not be listed (T38); a lost answer removes nobody (T33); a
//! stopped and restarted channel is a new member (T35); the list can change at run time.

mod config;
mod core;
mod counters;
mod driver;
mod resolve;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tribes_core::registry::Configure;
use tribes_core::settings::{SettingFault, Settings as _};
use tribes_core::wire::Limits;
use tribes_core::wire::java::{JavaMessage, RpcBody};
use tribes_core::{
    BoxError, ChannelMessage, Gauge, Member, MembershipContext, MembershipService, SendOptions, Services, Suspicion,
    TaskHandle,
};

use self::core::Said;
use self::counters::Counters;
use self::driver::{Driver, Notice, Queues};
pub use config::{StaticConfig, StaticPeer};
pub use resolve::{Resolve, SystemResolver};

/// Notices and messages that may wait for the driver.
const NOTICES: usize = 4096;
/// The longest message of the exchange: a member encoding and the template around it.
const MAX_MESSAGE: usize = Limits::DEFAULT_MAX_MEMBER + 4096;

/// Membership by a list of addresses; see [`StaticConfig`].
///
/// The exchange runs while both halves, [`Services::MEMBERSHIP_RX`] and [`Services::MEMBERSHIP_TX`], are started. To
/// change the list at run time, keep the service and give the builder a clone of its `Arc`:
///
/// ```
/// use std::sync::Arc;
/// use tribes_core::Channel;
/// use tribes_membership::{StaticConfig, StaticMembership};
///
/// let peers = Arc::new(StaticMembership::new(StaticConfig::default())?);
/// let builder = Channel::builder().membership_shared(peers.clone());
/// peers.add("127.0.0.1:4001".parse()?);
/// # let _ = builder;
/// # Ok::<(), tribes_core::settings::SettingFault>(())
/// ```
#[derive(Debug)]
pub struct StaticMembership {
    config: StaticConfig,
    resolver: Arc<dyn Resolve>,
    peers: watch::Sender<Vec<StaticPeer>>,
    running: tokio::sync::Mutex<Running>,
    ends: Mutex<Option<Ends>>,
    counters: Arc<Counters>,
}

/// What is started.
#[derive(Debug)]
struct Running {
    services: Services,
    /// While both halves are.
    driver: Option<(oneshot::Sender<()>, TaskHandle)>,
}

/// What the synchronous hooks tell the driver by.
#[derive(Clone, Debug)]
struct Ends {
    membership_id: Bytes,
    notices: mpsc::Sender<Notice>,
    local: watch::Sender<Arc<Member>>,
}

impl StaticMembership {
    /// A service with this configuration, not yet started.
    ///
    /// # Errors
    /// If a setting is out of its bounds.
    pub fn new(config: StaticConfig) -> Result<Self, SettingFault> {
        config.validate()?;
        Ok(Self {
            peers: watch::Sender::new(config.peers.clone()),
            config,
            resolver: Arc::new(SystemResolver),
            running: tokio::sync::Mutex::new(Running { services: Services::empty(), driver: None }),
            ends: Mutex::default(),
            counters: Arc::default(),
        })
    }

    /// With this resolver instead of the operating system's.
    #[must_use]
    pub fn with_resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Its configuration; the list in it is the one it began with.
    #[must_use]
    pub const fn config(&self) -> &StaticConfig {
        &self.config
    }

    /// The list as it is now.
    #[must_use]
    pub fn peers(&self) -> Vec<StaticPeer> {
        self.peers.borrow().clone()
    }

    /// Adds a peer and looks for it at once. One with the same address is replaced.
    pub fn add(&self, peer: StaticPeer) {
        self.peers.send_modify(|peers| {
            peers.retain(|known| known.addr() != peer.addr());
            peers.push(peer);
        });
    }

    /// Takes the peer with this address, as it was written, off the list; whether it was there. Its member is told, leaves
    /// the group as [`Departure::Excluded`](tribes_core::Departure::Excluded), and may not join again by itself.
    pub fn remove(&self, addr: &str) -> bool {
        self.peers.send_if_modified(|peers| {
            let before = peers.len();
            peers.retain(|known| known.addr() != addr);
            peers.len() < before
        })
    }

    /// Replaces the whole list. Members in both lists stay as they are.
    pub fn set(&self, peers: impl IntoIterator<Item = StaticPeer>) {
        self.peers.send_replace(peers.into_iter().collect());
    }

    fn lock_ends(&self) -> std::sync::MutexGuard<'_, Option<Ends>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, notice: Notice) {
        let Some(notices) = self.lock_ends().as_ref().map(|ends| ends.notices.clone()) else { return };
        // A driver that has ended wants to know nothing any more.
        if let Err(mpsc::error::TrySendError::Full(_)) = notices.try_send(notice) {
            self.counters.notices_dropped.add();
        }
    }

    /// Tribes: `StaticMembershipService.getMembershipName`, in ISO-8859-1.
    fn membership_id(&self, context: &MembershipContext) -> Bytes {
        let name = self.config.membership_name.clone().unwrap_or_else(|| {
            let channel = context.channel.upgrade();
            let name = channel.as_ref().and_then(|channel| channel.name()).unwrap_or("null");
            format!("{name}-StaticMembership")
        });
        name.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect()
    }

    fn run(&self, context: MembershipContext) -> (oneshot::Sender<()>, TaskHandle) {
        let (notices, notice_queue) = mpsc::channel(NOTICES);
        let (local, local_changes) = watch::channel(Arc::clone(&context.local));
        let (stop, stopped) = oneshot::channel();
        let membership_id = self.membership_id(&context);
        *self.lock_ends() = Some(Ends { membership_id: membership_id.clone(), notices, local });
        let queues = Queues { stopped, notices: notice_queue, local: local_changes, peers: self.peers.subscribe() };
        let env = context.link.env().clone();
        let driver = Driver::new(
            self.config.clone().with_peers(self.peers()),
            membership_id,
            Arc::clone(&self.resolver),
            Arc::clone(&self.counters),
            context,
            queues,
        );
        (stop, env.spawn(driver.run()))
    }
}

impl Configure for StaticMembership {
    const NAME: &'static str = "static";
    const HELP: &'static str = "finds members at the addresses of a list";
    type Config = StaticConfig;
    fn configure(config: StaticConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config)?)
    }
}

tribes_core::register_membership!(StaticMembership);

#[async_trait]
impl MembershipService for StaticMembership {
    fn name(&self) -> &'static str {
        "static"
    }

    /// Begins the exchange when both halves are started; waits for nobody.
    async fn start(&self, services: Services, context: MembershipContext) -> Result<(), BoxError> {
        let mut running = self.running.lock().await;
        running.services |= services & Services::MEMBERSHIP;
        let ended = running.driver.as_ref().is_none_or(|(stop, _)| stop.is_closed());
        if running.services == Services::MEMBERSHIP && ended {
            running.driver = Some(self.run(context));
        }
        Ok(())
    }

    async fn stop(&self, services: Services) {
        let mut running = self.running.lock().await;
        running.services -= services;
        if running.services != Services::MEMBERSHIP
            && let Some((stop, mut task)) = running.driver.take()
        {
            // Gone already if the channel is.
            let _ = stop.send(());
            task.ended().await;
        }
    }

    fn update_local(&self, local: Arc<Member>) {
        if let Some(ends) = self.lock_ends().as_ref() {
            ends.local.send_replace(local);
        }
    }

    fn suspected(&self, member: &Arc<Member>, _why: Suspicion) {
        self.notify(Notice::Suspected(Arc::clone(member)));
    }

    fn departed(&self, member: &Arc<Member>) {
        self.notify(Notice::Departed(Arc::clone(member)));
    }

    fn heard_of(&self, member: &Arc<Member>) {
        self.notify(Notice::HeardOf(Arc::clone(member)));
    }

    fn intercept(&self, message: &ChannelMessage) -> bool {
        if message.options.contains(SendOptions::BYTE_MESSAGE) || message.body.len() > MAX_MESSAGE {
            return false;
        }
        let Some(membership_id) = self.lock_ends().as_ref().map(|ends| ends.membership_id.clone()) else {
            return false;
        };
        let Some(decoded) = JavaMessage::decode(&message.body.to_bytes(), &Limits::default()) else { return false };
        let sender = || Arc::clone(&message.sender);
        let notice = match decoded {
            JavaMessage::Rpc { rpc_id, reply, id, body: RpcBody::Member(inner) } if rpc_id == membership_id => {
                let said = Said { kind: inner.kind, member: inner.member, sender: sender() };
                if reply { Notice::Reply { id, said } } else { Notice::Request { id, said } }
            }
            // A callback that had nothing to say.
            JavaMessage::Rpc { rpc_id, .. } if rpc_id == membership_id => return true,
            JavaMessage::Member(inner) if inner.membership_id == membership_id => {
                Notice::Said(Said { kind: inner.kind, member: inner.member, sender: sender() })
            }
            JavaMessage::NoRpcChannel { rpc_id, .. } if rpc_id == membership_id => Notice::NoSuchMembership(sender()),
            _ => return false,
        };
        self.notify(notice);
        true
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.counters.gauges()
    }
}

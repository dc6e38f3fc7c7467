//! A channel with Tomcat's defaults.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::error::BuildFault;
use tribes_core::{
    BudgetConfig, BuildError, Channel, ChannelBuilder, Env, IntoLayer, MemberId, MembershipService, SendOptions,
};
use tribes_interceptors::{MessageDispatch, TcpFailureDetector};
use tribes_membership::{McastConfig, McastMembership, StaticConfig, StaticMembership, StaticPeer};
use tribes_transports::receiver::{ReceiverConfig, TcpReceiver};
use tribes_transports::sender::{PooledParallelSender, SenderConfig};

/// A channel that begins with the defaults of Tomcat's cluster; see [`GroupBuilder`].
///
/// For one that begins with nothing, and takes senders, receivers and membership services of any kind, see
/// [`Channel::builder`].
pub fn channel() -> GroupBuilder {
    GroupBuilder::new()
}

/// Puts a [`Channel`] together that begins with the defaults of Tomcat's cluster:
///
/// | part | default |
/// |---|---|
/// | receiver | [`TcpReceiver`] at 127.0.0.1, the first free port of 4000 to 4099 |
/// | sender | [`PooledParallelSender`] |
/// | membership | [`McastMembership`] in the group 228.0.0.4:45564, on the interface of the receiver |
/// | interceptors | [`MessageDispatch`], then [`TcpFailureDetector`] |
/// | [send options](Self::send_options) | [`SendOptions::ACK`] |
///
/// ```
/// use tribes::prelude::*;
///
/// let channel = tribes::channel().bind("127.0.0.1:0").multicast("228.0.0.4:45565").domain("blue").build()?;
/// assert_eq!(channel.send_options(), SendOptions::ACK);
/// # Ok::<(), tribes::BuildError>(())
/// ```
///
/// # Interceptors
/// Adding one replaces the defaults, as in Tribes: the stack is then what you add, the first nearest to the application.
/// To keep the defaults, say where they stand:
///
/// ```
/// # #[cfg(feature = "throughput")] {
/// use tribes::interceptors::Throughput;
///
/// let channel = tribes::channel().interceptor(Throughput::default()).default_interceptors().build()?;
/// let names: Vec<_> = channel.stats().layers.iter().map(|layer| layer.name).collect();
/// assert_eq!(names, ["throughput", "message-dispatch", "tcp-failure-detector"]);
/// # }
/// # Ok::<(), tribes::BuildError>(())
/// ```
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct GroupBuilder {
    channel: ChannelBuilder,
    receiver: ReceiverConfig,
    sender: SenderConfig,
    membership: Membership,
    /// Whether the stack was left to us.
    default_layers: bool,
}

#[derive(Debug)]
enum Membership {
    Mcast(McastConfig),
    Static(StaticConfig),
    /// Already given to the channel's builder.
    Given,
}

impl GroupBuilder {
    fn new() -> Self {
        Self {
            channel: Channel::builder(),
            receiver: ReceiverConfig::default(),
            sender: SenderConfig::default(),
            membership: Membership::Mcast(McastConfig::default()),
            default_layers: true,
        }
    }

    /// Where to listen: an IP address and a port, as text or as a [`SocketAddr`]. Default `127.0.0.1:4000`.
    ///
    /// If the port is taken, the next ones are tried (100 ports by default, see [`auto_bind`](Self::auto_bind)); port 0 is
    /// any free one. With another address than a loopback one the channel is open to the network: a warning is logged
    /// unless the traffic is [protected](ReceiverConfig::protected).
    pub fn bind(mut self, addr: impl Display) -> Self {
        let text = addr.to_string();
        match text.parse::<SocketAddr>() {
            Ok(addr) => self.receiver = self.receiver.with_bind(addr.ip()).with_port(addr.port()),
            Err(_) => self = self.malformed("bind", text, "an IP address and a port such as 127.0.0.1:4000"),
        }
        self
    }

    /// How many ports to try, from that of [`bind`](Self::bind) upward; default 100, at least 1.
    pub fn auto_bind(mut self, ports: u16) -> Self {
        self.receiver = self.receiver.with_auto_bind(ports);
        self
    }

    /// Takes messages sent with [`SendOptions::UDP`] on this port or the next free one; 0 is any. Default: none are taken.
    pub fn udp_port(mut self, port: u16) -> Self {
        self.receiver = self.receiver.with_udp_port(Some(port));
        self
    }

    /// Everything about the receiver; replaces what [`bind`](Self::bind) and its kin have set.
    pub fn receiver(mut self, config: ReceiverConfig) -> Self {
        self.receiver = config;
        self
    }

    /// Everything about the sender.
    pub fn sender(mut self, config: SenderConfig) -> Self {
        self.sender = config;
        self
    }

    /// Finds members by heartbeats to this multicast group, an IPv4 address and a port, as text or as a [`SocketAddrV4`].
    /// Group and port are the group's identity: whoever shares them is in it. Default `228.0.0.4:45564`.
    ///
    /// Of this, [`peers`](Self::peers) and [`membership`](Self::membership) the last call counts.
    pub fn multicast(mut self, group: impl Display) -> Self {
        let text = group.to_string();
        match text.parse::<SocketAddrV4>() {
            Ok(group) => {
                let config = McastConfig::default().with_group(*group.ip()).with_port(group.port());
                self.membership = Membership::Mcast(config);
            }
            Err(_) => self = self.malformed("multicast", text, "an IPv4 address and a port such as 228.0.0.4:45564"),
        }
        self
    }

    /// Multicast membership as in `config`. Where that says loopback, the default, the interface is that of
    /// [`bind`](Self::bind).
    pub fn multicast_config(mut self, config: McastConfig) -> Self {
        self.membership = Membership::Mcast(config);
        self
    }

    /// Knows these members instead of looking for them: `HOST:PORT`, or `HOST:PORT@ID` for one with a fixed id. They count
    /// as members once they answer. The own address may be among them.
    ///
    /// ```
    /// let channel = tribes::channel().peers(["127.0.0.1:4001", "node3.example.org:4000"]).build()?;
    /// # Ok::<(), tribes::BuildError>(())
    /// ```
    pub fn peers<T: Display>(mut self, peers: impl IntoIterator<Item = T>) -> Self {
        let mut config = StaticConfig::default();
        for peer in peers {
            match peer.to_string().parse::<StaticPeer>() {
                Ok(peer) => config.peers.push(peer),
                Err(error) => {
                    self.channel = refused(self.channel, "membership service", &error);
                }
            }
        }
        self.membership = Membership::Static(config);
        self
    }

    /// Static membership as in `config`.
    pub fn peers_config(mut self, config: StaticConfig) -> Self {
        self.membership = Membership::Static(config);
        self
    }

    /// Another membership service.
    pub fn membership(mut self, membership: impl MembershipService) -> Self {
        self.channel = self.channel.membership(membership);
        self.membership = Membership::Given;
        self
    }

    /// As [`membership`](Self::membership) for a service that is shared, to change it at run time:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tribes::membership::{StaticConfig, StaticMembership};
    ///
    /// let peers = Arc::new(StaticMembership::new(StaticConfig::default())?);
    /// let channel = tribes::channel().membership_shared(peers.clone()).build()?;
    /// peers.add("127.0.0.1:4001".parse()?);
    /// # Ok::<(), tribes::BoxError>(())
    /// ```
    pub fn membership_shared(mut self, membership: std::sync::Arc<dyn MembershipService>) -> Self {
        self.channel = self.channel.membership_shared(membership);
        self.membership = Membership::Given;
        self
    }

    /// Adds an interceptor below those added before. The first one takes the place of the defaults; see
    /// [Interceptors](Self#interceptors).
    pub fn interceptor<Form>(mut self, layer: impl IntoLayer<Form>) -> Self {
        self.channel = self.channel.interceptor(layer);
        self.default_layers = false;
        self
    }

    /// Adds the default interceptors, [`MessageDispatch`] and [`TcpFailureDetector`], below those added before.
    pub fn default_interceptors(self) -> Self {
        self.interceptor(MessageDispatch::default()).interceptor(TcpFailureDetector::default())
    }

    /// Starts with no interceptor. Without [`MessageDispatch`] the option `async` does nothing; without
    /// [`TcpFailureDetector`] membership is believed as it is.
    pub fn no_default_interceptors(mut self) -> Self {
        self.default_layers = false;
        self
    }

    /// A name, part of what static membership calls its group. Default none, as in Tribes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.channel = self.channel.name(name);
        self
    }

    /// A fixed member id; default a fresh one at each start. A fixed id without our mark makes peers treat this member as a
    /// Java one.
    pub fn id(mut self, id: MemberId) -> Self {
        self.channel = self.channel.id(id);
        self
    }

    /// The domain, a logical sub-cluster, that the member announces; default empty.
    pub fn domain(mut self, domain: impl Into<Bytes>) -> Self {
        self.channel = self.channel.domain(domain);
        self
    }

    /// The payload that the member announces: whatever the application wants others to know of it. Default empty.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.channel = self.channel.payload(payload);
        self
    }

    /// What [`Channel::send_options`] returns, for applications that leave the choice to configuration. Default
    /// [`SendOptions::ACK`].
    pub fn send_options(mut self, options: SendOptions) -> Self {
        self.channel = self.channel.send_options(options);
        self
    }

    /// Bounds of what may wait for members; default 32 MiB, a quarter of it for one member.
    pub fn budget(mut self, budget: BudgetConfig) -> Self {
        self.channel = self.channel.budget(budget);
        self
    }

    /// Makes it an error that two interceptors are switched by a common bit; by default that is a warning.
    pub fn option_check(mut self, check: bool) -> Self {
        self.channel = self.channel.option_check(check);
        self
    }

    /// Whether a stack against the advice of its interceptors is a fault; default yes. With `false` that is a warning, for a
    /// group that runs such a stack already.
    pub fn order_check(mut self, check: bool) -> Self {
        self.channel = self.channel.order_check(check);
        self
    }

    /// Whether the pipeline counts and times messages for [`Channel::stats`]; default yes.
    pub fn telemetry(mut self, telemetry: bool) -> Self {
        self.channel = self.channel.telemetry(telemetry);
        self
    }

    /// How often the channel visits every interceptor; default 5 s, `None` for only by [`Channel::heartbeat`].
    pub fn heartbeat(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.channel = self.channel.heartbeat(every);
        self
    }

    /// How long [`Channel::stop`] lets queues drain; default 5 s.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.channel = self.channel.drain(limit);
        self
    }

    /// The surroundings: clocks, chance, tasks; default the real ones.
    pub fn env(mut self, env: Env) -> Self {
        self.channel = self.channel.env(env);
        self
    }

    /// The channel, not yet started. Needs no runtime.
    ///
    /// # Errors
    /// Lists everything that is wrong.
    pub fn build(self) -> Result<Channel, BuildError> {
        let Self { mut channel, receiver, sender, membership, default_layers } = self;
        if default_layers {
            channel = channel.interceptor(MessageDispatch::default()).interceptor(TcpFailureDetector::default());
        }
        let interface = receiver.bind;
        channel = match TcpReceiver::new(receiver) {
            Ok(receiver) => channel.receiver(receiver),
            Err(error) => refused(channel, "receiver", &error),
        };
        channel = channel.sender(PooledParallelSender::new(sender));
        let membership = match membership {
            Membership::Given => return channel.build(),
            Membership::Mcast(config) => McastMembership::new(on_interface(config, interface)).map(Either::Mcast),
            Membership::Static(config) => StaticMembership::new(config).map(Either::Static),
        };
        match membership {
            Ok(Either::Mcast(membership)) => channel.membership(membership),
            Ok(Either::Static(membership)) => channel.membership(membership),
            Err(error) => refused(channel, "membership service", &error),
        }
        .build()
    }

    fn malformed(mut self, setting: &'static str, value: String, bounds: &'static str) -> Self {
        self.channel = self.channel.fault(BuildFault::OutOfBounds { setting, value: format!("{value:?}"), bounds });
        self
    }
}

enum Either {
    Mcast(McastMembership),
    Static(StaticMembership),
}

/// Multicast goes where the receiver listens: on its interface, or where the system chooses if it listens everywhere.
fn on_interface(config: McastConfig, interface: IpAddr) -> McastConfig {
    match interface {
        _ if config.bind != Some(Ipv4Addr::LOCALHOST) => config,
        IpAddr::V4(ip) if !ip.is_unspecified() => config.with_bind(ip),
        IpAddr::V6(ip) if ip.is_loopback() => config,
        _ => config.with_bind(None),
    }
}

fn refused(channel: ChannelBuilder, part: &'static str, why: &impl Display) -> ChannelBuilder {
    channel.fault(BuildFault::Part { part, reason: why.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(channel: &Channel) -> Vec<&'static str> {
        channel.stats().layers.iter().map(|layer| layer.name).collect()
    }

    #[test]
    fn the_defaults_are_tomcats() {
        let channel = channel().build().unwrap();
        assert_eq!(layers(&channel), ["message-dispatch", "tcp-failure-detector"]);
        assert_eq!((channel.send_options(), channel.name()), (SendOptions::ACK, None));
    }

    #[test]
    fn any_interceptor_replaces_the_defaults() {
        assert_eq!(
            layers(&channel().interceptor(TcpFailureDetector::default()).build().unwrap()),
            ["tcp-failure-detector"]
        );
        assert!(layers(&channel().no_default_interceptors().build().unwrap()).is_empty());
        let both = channel().no_default_interceptors().default_interceptors().build().unwrap();
        assert_eq!(layers(&both), ["message-dispatch", "tcp-failure-detector"]);
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let error =
            channel().bind("localhost").multicast("[::1]:1").auto_bind(0).peers(["nowhere"]).build().unwrap_err();
        let text = error.to_string();
        for part in ["bind is \"localhost\"", "multicast is \"[::1]:1\"", "nowhere", "auto_bind"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(channel().multicast("127.0.0.1:45564").build().unwrap_err().to_string().contains("membership service"));
    }

    #[test]
    fn addresses_may_be_text_or_not() {
        let addr: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let group: SocketAddrV4 = "228.0.0.4:1".parse().unwrap();
        channel().bind(addr).multicast(group).build().unwrap();
        channel().bind(addr.to_string()).multicast(group.to_string()).build().unwrap();
        let peer: SocketAddr = "127.0.0.1:4001".parse().unwrap();
        channel().bind("[::1]:0").peers([peer]).build().unwrap();
    }

    #[test]
    fn multicast_follows_the_receiver() {
        let bound = |interface: &str| on_interface(McastConfig::default(), interface.parse().unwrap()).bind;
        assert_eq!(bound("127.0.0.1"), Some([127, 0, 0, 1].into()));
        assert_eq!(bound("192.0.2.7"), Some([192, 0, 2, 7].into()));
        assert_eq!(bound("0.0.0.0"), None);
        assert_eq!(bound("::1"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(bound("::"), None);
        let elsewhere = McastConfig::default().with_bind(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(on_interface(elsewhere.clone(), Ipv4Addr::UNSPECIFIED.into()), elsewhere);
    }
}

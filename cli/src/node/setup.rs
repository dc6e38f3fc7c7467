//! From the options to a channel.

use std::sync::Arc;

use tribes::interceptors::agreed_views::ViewEvents;
use tribes::interceptors::{
    AgreedViews, AgreedViewsConfig, Coordinator, CoordinatorConfig, LeadershipChanges, SimpleCoordinator,
    SimpleCoordinatorConfig,
};
use tribes::membership::{McastConfig, StaticConfig};
use tribes::registry::Registry;
use tribes::settings::Settings as _;
use tribes::transports::ReceiverConfig;
use tribes::{BoxError, Channel, GroupBuilder};

use super::args::{InterceptorArg, NodeArgs};

/// What layers of a channel tell of its group.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Who leads it.
    pub(super) leadership: Option<LeadershipChanges>,
    /// The views that its members agree on.
    pub(super) views: Option<ViewEvents>,
}

/// The channel that the options describe, not yet started, and what layers of it tell of its group.
pub(super) fn channel(args: NodeArgs) -> Result<(Channel, Told), BoxError> {
    if let Some(file) = args.config {
        return Ok((Channel::from_config(file)?, Told::default()));
    }
    let addr = args.bind.resolve().map_err(|error| format!("cannot resolve {}: {error}", args.bind.host))?;
    let receiver = ReceiverConfig::default().with_bind(addr.ip()).with_port(addr.port());
    let receiver = receiver.with_auto_bind(args.auto_bind).with_udp_port(args.udp);
    let mut builder = tribes::channel().receiver(receiver).domain(args.domain).payload(args.payload.0);
    builder = if args.peer.is_empty() {
        let mut config = McastConfig::default().with_frequency(args.mcast_frequency).with_drop_time(args.mcast_drop);
        if let Some(group) = args.mcast {
            config = config.with_group(*group.ip()).with_port(group.port());
        }
        builder.multicast_config(config)
    } else {
        builder.peers_config(StaticConfig::default().with_peers(args.peer))
    };
    if let Some(id) = args.id {
        builder = builder.id(id);
    }
    if let Some(name) = args.name {
        builder = builder.name(name);
    }
    if args.no_default_interceptors {
        builder = builder.no_default_interceptors();
    }
    let mut told = Told::default();
    for layer in args.interceptor {
        builder = add(builder, &layer, &mut told)?;
    }
    Ok((builder.build()?, told))
}

/// Adds a layer, and keeps hold of what it tells.
fn add(builder: GroupBuilder, layer: &InterceptorArg, told: &mut Told) -> Result<GroupBuilder, BoxError> {
    let settings = || layer.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    /// Makes a coordinator and subscribes to it.
    macro_rules! coordinator {
        ($layer:ty, $config:ty) => {{
            let mut config = <$config>::default();
            settings().try_for_each(|(key, value)| config.set(key, value))?;
            let made = Arc::new(<$layer>::new(config));
            told.leadership = Some(made.changes());
            builder.interceptor(made)
        }};
    }
    Ok(match layer.name.as_str() {
        "coordinator" => coordinator!(Coordinator, CoordinatorConfig),
        "simple-coordinator" => coordinator!(SimpleCoordinator, SimpleCoordinatorConfig),
        "agreed-views" => {
            let mut config = AgreedViewsConfig::default();
            settings().try_for_each(|(key, value)| config.set(key, value))?;
            let made = Arc::new(AgreedViews::new(config));
            told.views = Some(made.events());
            builder.interceptor(made)
        }
        _ => builder.interceptor(Registry::interceptor(&layer.name, settings())?),
    })
}

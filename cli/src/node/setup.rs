//! From the options to a channel.

use tribes::membership::{McastConfig, StaticConfig};
use tribes::registry::Registry;
use tribes::transports::ReceiverConfig;
use tribes::{BoxError, Channel};

use super::args::NodeArgs;

/// The channel that the options describe, not yet started.
pub(super) fn channel(args: NodeArgs) -> Result<Channel, BoxError> {
    if let Some(file) = args.config {
        return Ok(Channel::from_config(file)?);
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
    for layer in args.interceptor {
        let settings = layer.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        builder = builder.interceptor(Registry::interceptor(&layer.name, settings)?);
    }
    Ok(builder.build()?)
}

//! A channel of what a configuration says.

use std::net::IpAddr;

use super::fault::{self, ConfigError, ConfigFault};
use super::{ChannelConfig, Config, Entry, Part};
use crate::error::BuildFault;
use crate::registry::{PartKind, Registry, RegistryError};
use crate::settings::{SettingFault, Settings as _};
use crate::{Channel, ChannelBuilder, Layer};

pub(super) fn channel(config: &Config) -> Result<Channel, ConfigError> {
    let (builder, mut faults) = assemble(config);
    if faults.is_empty() {
        return builder.build().map_err(|error| {
            let faults = error.faults().iter().map(|one| fault::of_build(&config.source, one));
            ConfigError::unless_empty(&config.source, faults.collect()).err().unwrap_or_else(|| unreachable(config))
        });
    }
    // What is missing was made impossible by a fault that is known already.
    let stack = builder.faults().into_iter().filter(|one| !matches!(one, BuildFault::Missing { .. }));
    faults.extend(stack.map(|one| fault::of_build(&config.source, &one)));
    ConfigError::unless_empty(&config.source, faults).and_then(|()| Err(unreachable(config)))
}

pub(super) fn builder(config: &Config) -> Result<ChannelBuilder, ConfigError> {
    let (builder, faults) = assemble(config);
    ConfigError::unless_empty(&config.source, faults).map(|()| builder)
}

/// A build error without a fault does not exist; should it, this is said.
fn unreachable(config: &Config) -> ConfigError {
    ConfigError::one(ConfigFault::new(&config.source, "", "the channel cannot be built"))
}

/// A builder with all parts that can be made, and what is wrong with the others.
fn assemble(config: &Config) -> (ChannelBuilder, Vec<ConfigFault>) {
    let mut faults = Vec::new();
    let mut builder = Channel::builder();
    let pairs = config.channel.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    match ChannelConfig::from_pairs(pairs) {
        Ok(channel) => builder = channel.apply(builder),
        Err(wrong) => faults.extend(wrong.iter().map(|one| said(&config.channel, &config.source, "[channel]", one))),
    }
    for part in &config.interceptors {
        match layer(config, part) {
            Ok(layer) => builder = builder.interceptor(layer),
            Err(wrong) => faults.extend(wrong),
        }
    }
    match Registry::receiver(&config.receiver.name, config.receiver.pairs()) {
        Ok(receiver) => builder = builder.receiver_shared(receiver),
        Err(error) => faults.extend(of_part(config, &config.receiver, error)),
    }
    match Registry::sender(&config.sender.name, config.sender.pairs()) {
        Ok(sender) => builder = builder.sender_shared(sender),
        Err(error) => faults.extend(of_part(config, &config.sender, error)),
    }
    let interface = interface(config);
    let mut pairs = config.membership.pairs();
    pairs.extend(interface.as_deref().map(|bind| ("bind", bind)));
    match Registry::membership(&config.membership.name, pairs) {
        Ok(membership) => builder = builder.membership_shared(membership),
        Err(error) => faults.extend(of_part(config, &config.membership, error)),
    }
    (builder, faults)
}

pub(super) fn layers(config: &Config) -> Result<Vec<Layer>, ConfigError> {
    let mut faults = Vec::new();
    let made =
        config.interceptors.iter().filter_map(|part| layer(config, part).map_err(|wrong| faults.extend(wrong)).ok());
    let layers = made.collect();
    ConfigError::unless_empty(&config.source, faults).map(|()| layers)
}

fn layer(config: &Config, part: &Part) -> Result<Layer, Vec<ConfigFault>> {
    let layer = Registry::interceptor(&part.name, part.pairs()).map_err(|error| of_part(config, part, error))?;
    if layer.name() == part.name {
        return Ok(layer);
    }
    let message = format!("its layer calls itself {:?}: a mistake in the crate that has it", layer.name());
    Err(vec![ConfigFault::new(&part.origin, part.place(), message)])
}

/// The interface for the membership service, if it has such a setting and none was made: that of the receiver.
pub(super) fn interface(config: &Config) -> Option<String> {
    let membership = Registry::find(PartKind::Membership, &config.membership.name).ok()?;
    let takes_one = membership.settings().iter().any(|info| info.key == "bind");
    if config.membership.has("bind") || !takes_one {
        return None;
    }
    let bind = config.receiver.entries.iter().find(|entry| entry.key == "bind")?;
    match bind.value.parse().ok()? {
        IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip.to_string()),
        IpAddr::V6(ip) if ip.is_loopback() => None,
        _ => Some("any".to_owned()),
    }
}

fn of_part(config: &Config, part: &Part, error: RegistryError) -> Vec<ConfigFault> {
    let place = part.place();
    match error {
        RegistryError::Settings { faults, .. } => {
            let origin = if part.origin == super::Origin::Default { &config.source } else { &part.origin };
            faults.iter().map(|one| said(&part.entries, origin, &place, one)).collect()
        }
        other => vec![ConfigFault::new(&part.origin, format!("[{}]", part.kind.section()), other)],
    }
}

/// A fault, and where its key was set.
fn said(entries: &[Entry], section: &super::Origin, place: &str, fault: &SettingFault) -> ConfigFault {
    let entry = entries.iter().find(|entry| entry.key == fault.key);
    ConfigFault::new(entry.map_or(section, |entry| &entry.origin), place, fault)
}

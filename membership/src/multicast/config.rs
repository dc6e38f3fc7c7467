//! What can be set about multicast membership.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::ConfigError;
use crate::error::check;

/// Configuration of [`McastMembership`](crate::McastMembership). The defaults are Tribes', except that it is bound to the
/// loopback interface until told otherwise.
///
/// Group and port are the cluster's identity: channels that share them are one group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct McastConfig {
    /// The multicast group (Tribes: `address`). Default 228.0.0.4. IPv4 only.
    pub group: Ipv4Addr,
    /// The group's UDP port (`port`), not 0. Default 45564.
    pub port: u16,
    /// The address of the interface to use (`bind`); `None` for the system's choice. Default 127.0.0.1: members on this
    /// machine only. The socket listens on the group's address, so datagrams to other groups on the same port are not
    /// even seen; with `None` it listens on all addresses.
    pub bind: Option<Ipv4Addr>,
    /// Interval of heartbeats (`frequency`). Default 500 ms; 10 ms to 1 h.
    pub frequency: Duration,
    /// A member that was not heard from for so long has expired (`dropTime`). Default 3 s; at least twice
    /// [`frequency`](Self::frequency).
    pub drop_time: Duration,
    /// How many routers a datagram may pass (`ttl`); `None` for the system's default, which is 1: this network only.
    pub ttl: Option<u8>,
    /// Whether members on the same machine hear each other (the opposite of `localLoopbackDisabled`). Default true.
    pub loopback: bool,
    /// Whether to refuse a heartbeat or message whose member claims another address than the one it came from. Default
    /// false, since machines with several addresses do so in good faith; such are always counted.
    pub strict_source: bool,
    /// Whether to make new sockets after [`recovery_counter`](Self::recovery_counter) errors in a row
    /// (`recoveryEnabled`). Default true.
    pub recovery: bool,
    /// So many socket errors in a row start a recovery (`recoveryCounter`). Default 10; at least 1.
    pub recovery_counter: u32,
    /// Pause between attempts to recover (`recoverySleepTime`). Default 5 s; more than zero.
    pub recovery_sleep: Duration,
    /// So many members at most; further ones are ignored and counted. Default 4,096; at least 1.
    pub max_members: usize,
    /// How long a newcomer may take to answer the probe that verifies it. Default 1 s; more than zero.
    pub probe_timeout: Duration,
}

impl McastConfig {
    /// The default of [`group`](Self::group).
    pub const DEFAULT_GROUP: Ipv4Addr = Ipv4Addr::new(228, 0, 0, 4);
    /// The default of [`port`](Self::port).
    pub const DEFAULT_PORT: u16 = 45564;

    /// With this group.
    #[must_use]
    pub const fn with_group(mut self, group: Ipv4Addr) -> Self {
        self.group = group;
        self
    }

    /// With this port.
    #[must_use]
    pub const fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// On the interface with this address; `None` for the system's choice.
    #[must_use]
    pub fn with_bind(mut self, bind: impl Into<Option<Ipv4Addr>>) -> Self {
        self.bind = bind.into();
        self
    }

    /// With this interval of heartbeats.
    #[must_use]
    pub const fn with_frequency(mut self, frequency: Duration) -> Self {
        self.frequency = frequency;
        self
    }

    /// With this drop time.
    #[must_use]
    pub const fn with_drop_time(mut self, drop_time: Duration) -> Self {
        self.drop_time = drop_time;
        self
    }

    /// With this time to live.
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Option<u8>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Whether members on the same machine hear each other.
    #[must_use]
    pub const fn with_loopback(mut self, loopback: bool) -> Self {
        self.loopback = loopback;
        self
    }

    /// Whether a claimed address must be that of the datagram.
    #[must_use]
    pub const fn with_strict_source(mut self, strict: bool) -> Self {
        self.strict_source = strict;
        self
    }

    /// Whether to recover from socket errors.
    #[must_use]
    pub const fn with_recovery(mut self, recovery: bool) -> Self {
        self.recovery = recovery;
        self
    }

    /// After so many errors in a row.
    #[must_use]
    pub const fn with_recovery_counter(mut self, errors: u32) -> Self {
        self.recovery_counter = errors;
        self
    }

    /// With this pause between attempts to recover.
    #[must_use]
    pub const fn with_recovery_sleep(mut self, pause: Duration) -> Self {
        self.recovery_sleep = pause;
        self
    }

    /// With at most so many members.
    #[must_use]
    pub const fn with_max_members(mut self, members: usize) -> Self {
        self.max_members = members;
        self
    }

    /// With this limit for a newcomer's answer.
    #[must_use]
    pub const fn with_probe_timeout(mut self, limit: Duration) -> Self {
        self.probe_timeout = limit;
        self
    }

    /// Checks all bounds.
    ///
    /// # Errors
    /// The first setting that is out of its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { group, port, frequency, drop_time, .. } = self;
        check(group.is_multicast(), "group", group, "an IPv4 multicast address, 224.0.0.0 to 239.255.255.255")?;
        check(*port > 0, "port", port, "1 to 65535, the same on all members")?;
        let bind_ok = self.bind.is_none_or(|bind| !bind.is_multicast() && !bind.is_broadcast());
        check(
            bind_ok,
            "bind",
            self.bind.map_or_else(String::new, |bind| bind.to_string()),
            "the address of an interface",
        )?;
        let interval = Duration::from_millis(10)..=Duration::from_secs(3600);
        check(interval.contains(frequency), "frequency", format!("{frequency:?}"), "10 ms to 1 h")?;
        let drop_ok = *drop_time >= *frequency * 2;
        check(drop_ok, "drop_time", format!("{drop_time:?}"), "at least twice the frequency")?;
        check(self.recovery_counter > 0, "recovery_counter", self.recovery_counter, "at least 1")?;
        check(!self.recovery_sleep.is_zero(), "recovery_sleep", "0s", "more than zero")?;
        check(self.max_members > 0, "max_members", self.max_members, "at least 1")?;
        check(!self.probe_timeout.is_zero(), "probe_timeout", "0s", "more than zero")
    }
}

impl Default for McastConfig {
    fn default() -> Self {
        Self {
            group: Self::DEFAULT_GROUP,
            port: Self::DEFAULT_PORT,
            bind: Some(Ipv4Addr::LOCALHOST),
            frequency: Duration::from_millis(500),
            drop_time: Duration::from_secs(3),
            ttl: None,
            loopback: true,
            strict_source: false,
            recovery: true,
            recovery_counter: 10,
            recovery_sleep: Duration::from_secs(5),
            max_members: 4096,
            probe_timeout: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_tribes_and_bounds_are_named() {
        let config = McastConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!((config.group.to_string().as_str(), config.port), ("228.0.0.4", 45564));
        for (wrong, setting) in [
            (config.clone().with_group(Ipv4Addr::LOCALHOST), "group"),
            (config.clone().with_port(0), "port"),
            (config.clone().with_bind(Ipv4Addr::new(228, 0, 0, 4)), "bind"),
            (config.clone().with_frequency(Duration::ZERO), "frequency"),
            (config.clone().with_drop_time(Duration::from_millis(999)), "drop_time"),
            (config.clone().with_recovery_counter(0), "recovery_counter"),
            (config.clone().with_recovery_sleep(Duration::ZERO), "recovery_sleep"),
            (config.clone().with_max_members(0), "max_members"),
            (config.with_probe_timeout(Duration::ZERO), "probe_timeout"),
        ] {
            let Err(ConfigError::OutOfBounds { setting: found, .. }) = wrong.validate() else { panic!("{setting}") };
            assert_eq!(found, setting);
        }
    }
}

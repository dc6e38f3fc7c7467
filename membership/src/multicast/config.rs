//! What can be set about multicast membership.

use std::net::Ipv4Addr;
use std::time::Duration;

use tribes_core::settings::{SettingFault, custom, duration, flag, number, optional};

use crate::bounds::{DAY, HOUR, MS_10, SHORTEST};

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

tribes_core::settings! { McastConfig {
    group: custom("an IPv4 multicast address, 224.0.0.0 to 239.255.255.255", group, Ipv4Addr::to_string),
        "The multicast group's address; with the port it is the identity of the group of members.";
    port: number(1..=65_535), "The multicast group's UDP port.";
    bind: optional("any", custom("the IPv4 address of an interface", interface, Ipv4Addr::to_string)),
        "The address of the interface to use; any is the system's choice.";
    frequency: duration(MS_10..=HOUR), "The interval of heartbeats.";
    drop_time: duration(MS_10..=DAY), "A member that was not heard from for so long has expired; at least twice frequency.";
    ttl: optional("system", number(0..=255)), "How many routers a datagram may pass; the system's default is 1, this network only.";
    loopback: flag(), "Whether members on the same machine hear each other.";
    strict_source: flag(), "Whether a member that claims another address than the one it sends from is refused.";
    recovery: flag(), "Whether new sockets are made after recovery_counter errors in a row.";
    recovery_counter: number(1..=u64::from(u32::MAX)), "So many socket errors in a row start a recovery.";
    recovery_sleep: duration(SHORTEST..=DAY), "The pause between attempts to recover.";
    max_members: number(1..=1 << 24), "The most members there may be; further ones are ignored, and counted.";
    probe_timeout: duration(SHORTEST..=DAY), "How long a newcomer may take to answer the probe that verifies it.";
} check(|config| {
    if config.drop_time < config.frequency * 2 {
        return Err(SettingFault::together("drop_time", "it must be at least twice frequency"));
    }
    Ok(())
}) }

fn group(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().filter(Ipv4Addr::is_multicast)
}

fn interface(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().filter(|address: &Ipv4Addr| !address.is_multicast() && !address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use tribes_core::settings::Settings as _;

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
            assert_eq!(wrong.validate().unwrap_err().key, setting);
        }
    }

    #[test]
    fn settings_from_text() {
        let settings = [("group", "239.1.2.3"), ("port", "5000"), ("bind", "any"), ("ttl", "3"), ("drop_time", "2s")];
        let config = McastConfig::from_pairs(settings).unwrap();
        let expected = McastConfig::default().with_group(Ipv4Addr::new(239, 1, 2, 3)).with_port(5000);
        assert_eq!(config, expected.with_bind(None).with_ttl(3).with_drop_time(Duration::from_secs(2)));
        let wrong = [("group", "10.0.0.1"), ("port", "0"), ("bind", "::1"), ("ttl", "256")];
        let faults = McastConfig::from_pairs(wrong).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.key.as_str()).collect::<Vec<_>>(), ["group", "port", "bind", "ttl"]);
        let fault = McastConfig::from_pairs([("frequency", "2s")]).unwrap_err().remove(0);
        assert_eq!(fault.to_string(), "drop_time: it must be at least twice frequency");
    }
}

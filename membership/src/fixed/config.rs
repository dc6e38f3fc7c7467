//! What can be set about static membership.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tribes_core::MemberId;
use tribes_core::settings::{SettingFault, custom, duration, flag, list, number, optional, parsed, text};
use tribes_core::wire::java::MEMBER_CLASS_VERSION;

use crate::bounds::{DAY, HOUR, MS_10, SHORTEST};

const PEER_TEXT: &str = "HOST:PORT or HOST:PORT@ID with 32 hexadecimal digits";

fn no_peer(text: &str, why: &str) -> SettingFault {
    SettingFault::invalid("peers", text, format!("{PEER_TEXT}: {why}"))
}

/// One address of the list, `HOST:PORT` or `HOST:PORT@ID`.
///
/// ```
/// use tribes_membership::StaticPeer;
/// let peer: StaticPeer = "node-2.example:4000".parse()?;
/// assert_eq!(peer.addr(), "node-2.example:4000");
/// assert!("[::1]:4000@0102030405060708090a0b0c0d0e0f10".parse::<StaticPeer>()?.id().is_some());
/// assert!("node-2.example".parse::<StaticPeer>().is_err());
/// # Ok::<(), tribes_core::settings::SettingFault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StaticPeer {
    addr: String,
    id: Option<MemberId>,
}

impl StaticPeer {
    /// The peer at `addr`, `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets.
    ///
    /// # Errors
    /// If host or port is missing, or the port is not 1 to 65535.
    pub fn new(addr: impl Into<String>) -> Result<Self, SettingFault> {
        let addr = addr.into();
        let fault = |why| Err(no_peer(&addr, why));
        let Some((host, port)) = addr.rsplit_once(':') else { return fault("the port is missing") };
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return fault("the port is not 1 to 65535");
        }
        let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return fault("the host is missing or has blanks");
        }
        if host.contains(':') && !bracketed {
            return fault("an IPv6 address needs brackets");
        }
        Ok(Self { addr, id: None })
    }

    /// Accepts this member id only, and no other process at that address.
    #[must_use]
    pub const fn with_id(mut self, id: MemberId) -> Self {
        self.id = Some(id);
        self
    }

    /// `HOST:PORT`. A name is resolved anew for each attempt to reach it.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The member id it must have, if one was given.
    #[must_use]
    pub const fn id(&self) -> Option<MemberId> {
        self.id
    }
}

impl FromStr for StaticPeer {
    type Err = SettingFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let Some((addr, id)) = text.split_once('@') else { return Self::new(text) };
        let id = id.parse().map_err(|_no_id| no_peer(text, "the id is not 32 hexadecimal digits"))?;
        Ok(Self::new(addr)?.with_id(id))
    }
}

impl fmt::Display for StaticPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)?;
        self.id.map_or(Ok(()), |id| write!(f, "@{id}"))
    }
}

/// Configuration of [`StaticMembership`](crate::StaticMembership).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaticConfig {
    /// The members to look for. The local member may be among them, under any name: it is recognised and passed by.
    /// Default none: a channel that only waits for others.
    pub peers: Vec<StaticPeer>,
    /// Interval of pings, and of attempts to reach those who are not there (`pingInterval`). Default 1 s; 10 ms to 1 h.
    pub ping_interval: Duration,
    /// A member that answered nothing for so long has expired (`expirationTime`). Default 5 s; at least three times
    /// [`ping_interval`](Self::ping_interval), so that a lost answer or two remove nobody (T33).
    pub expiration: Duration,
    /// How long the connection to a peer that is not there yet may take (`connectTimeout`). Default 500 ms; more than
    /// zero. Peers are tried side by side.
    pub connect_timeout: Duration,
    /// Whether a process that is not in the list may join by calling this one, as in Tribes. It must answer a call to the
    /// address it claims. Default true.
    pub accept_unlisted: bool,
    /// So many members at most; further ones are ignored and counted. Default 4,096; at least 1.
    pub max_members: usize,
    /// Names the group; members of another name ignore each other. Default `<channel name>-StaticMembership` as in
    /// Tribes, where a channel without a name is called `null`.
    pub membership_name: Option<String>,
    /// The class version of `MemberImpl` that Java peers have; see
    /// [`MEMBER_CLASS_VERSION`](tribes_core::wire::java::MEMBER_CLASS_VERSION), which is the default. Without Java peers
    /// it does not matter.
    pub member_class_version: [u8; 8],
}

impl StaticConfig {
    /// With these peers.
    #[must_use]
    pub fn with_peers(mut self, peers: impl IntoIterator<Item = StaticPeer>) -> Self {
        self.peers = peers.into_iter().collect();
        self
    }

    /// With this interval of pings.
    #[must_use]
    pub const fn with_ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// With this expiration.
    #[must_use]
    pub const fn with_expiration(mut self, expiration: Duration) -> Self {
        self.expiration = expiration;
        self
    }

    /// With this limit for connecting.
    #[must_use]
    pub const fn with_connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Whether unlisted members may join.
    #[must_use]
    pub const fn with_accept_unlisted(mut self, accept: bool) -> Self {
        self.accept_unlisted = accept;
        self
    }

    /// With at most so many members.
    #[must_use]
    pub const fn with_max_members(mut self, members: usize) -> Self {
        self.max_members = members;
        self
    }

    /// With this name of the group.
    #[must_use]
    pub fn with_membership_name(mut self, name: impl Into<String>) -> Self {
        self.membership_name = Some(name.into());
        self
    }

    /// With this class version of the Java peers' `MemberImpl`.
    #[must_use]
    pub const fn with_member_class_version(mut self, version: [u8; 8]) -> Self {
        self.member_class_version = version;
        self
    }
}

impl Default for StaticConfig {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            ping_interval: Duration::from_secs(1),
            expiration: Duration::from_secs(5),
            connect_timeout: Duration::from_millis(500),
            accept_unlisted: true,
            max_members: 4096,
            membership_name: None,
            member_class_version: MEMBER_CLASS_VERSION,
        }
    }
}

tribes_core::settings! { StaticConfig {
    peers: list(0..=65_536, parsed(PEER_TEXT)), "The members to look for; the local member may be among them.";
    ping_interval: duration(MS_10..=HOUR), "The interval of pings, and of attempts to reach those who are not there.";
    expiration: duration(MS_10..=DAY), "A member that answered nothing for so long has expired; at least three times ping_interval.";
    connect_timeout: duration(SHORTEST..=DAY), "How long the connection to a peer that is not there yet may take.";
    accept_unlisted: flag(), "Whether a process that is not in the list may join by calling this one.";
    max_members: number(1..=1 << 24), "The most members there may be; further ones are ignored, and counted.";
    membership_name: optional("(channel)", text()),
        "Members of another name ignore each other; (channel) makes it of the channel's name, as Tribes does.";
    member_class_version: custom("16 hexadecimal digits, or a whole number of 64 bits", version, show_version),
        "The class version of MemberImpl that Java peers have.";
} check(|config| {
    if config.expiration < config.ping_interval * 3 {
        return Err(SettingFault::together("expiration", "it must be at least three times ping_interval"));
    }
    Ok(())
}) }

/// A class version as hexadecimal digits, after `0x` or not, or as Java's sources have it: a signed number.
fn version(text: &str) -> Option<[u8; 8]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex {
        return u64::from_str_radix(digits, 16).ok().map(u64::to_be_bytes);
    }
    text.trim_end_matches('L').parse().ok().map(i64::to_be_bytes)
}

fn show_version(version: &[u8; 8]) -> String {
    format!("0x{:016x}", u64::from_be_bytes(*version))
}

#[cfg(test)]
mod tests {
    use tribes_core::settings::Settings as _;

    use super::*;

    #[test]
    fn peers_as_text() {
        for text in ["a:1", "127.0.0.1:4000", "[::1]:65535", "node:4000@0102030405060708090a0b0c0d0e0f10"] {
            assert_eq!(text.parse::<StaticPeer>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("node", "port is missing"),
            ("node:0", "1 to 65535"),
            ("node:65536", "1 to 65535"),
            (":4000", "host"),
            ("no de:4000", "blanks"),
            ("::1:4000", "brackets"),
            ("node:4000@01", "hexadecimal"),
        ] {
            let error = text.parse::<StaticPeer>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn one_missed_answer_must_not_be_enough() {
        let config = StaticConfig::default();
        assert_eq!(config.validate(), Ok(()));
        let error = config.with_ping_interval(Duration::from_secs(5)).validate().unwrap_err();
        assert!(error.to_string().contains("expiration"), "{error}");
    }
    #[test]
    fn settings_from_text() {
        let pairs = [("peers", "a:1+[::1]:2"), ("membership_name", "x"), ("member_class_version", "-2")];
        let config = StaticConfig::from_pairs(pairs).unwrap();
        let expected = StaticConfig::default().with_peers(["a:1", "[::1]:2"].map(|peer| peer.parse().unwrap()));
        assert_eq!(config, expected.with_membership_name("x").with_member_class_version((-2_i64).to_be_bytes()));
        for text in ["0102030405060708", "0x0102030405060708", "72623859790382856", "72623859790382856L"] {
            assert_eq!(version(text), Some([1, 2, 3, 4, 5, 6, 7, 8]), "{text}");
        }
        for wrong in ["", "0x", "01020304050607", "99999999999999999999", "x"] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
        let wrong = [("peers", "a:1+b"), ("max_members", "0"), ("member_class_version", "x"), ("membership_name", "")];
        assert_eq!(StaticConfig::from_pairs(wrong).unwrap_err().len(), 4);
    }
}

//! Options of [`StaticMembers`](super::StaticMembers).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tribes_core::settings::{SettingFault, duration, list, options, parsed};
use tribes_core::{MemberId, SendOptions};

const MEMBER_TEXT: &str = "HOST:PORT or HOST:PORT@ID with 32 hexadecimal digits";

/// One fixed member, `HOST:PORT` or `HOST:PORT@ID` (Tribes: `StaticMember`).
///
/// ```
/// use tribes_interceptors::StaticMember;
/// let member: StaticMember = "[::1]:4000@0102030405060708090a0b0c0d0e0f10".parse()?;
/// assert!(member.id().is_some());
/// assert!("node-2.example:4000".parse::<StaticMember>()?.id().is_none());
/// assert!("node-2.example".parse::<StaticMember>().is_err());
/// # Ok::<(), tribes_core::settings::SettingFault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StaticMember {
    addr: String,
    id: Option<MemberId>,
}

impl StaticMember {
    /// The member at `addr`, `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets. A name is resolved once,
    /// or until it can be; of its addresses the first IPv4 one counts.
    ///
    /// # Errors
    /// If host or port is missing, or the port is not 1 to 65535.
    pub fn new(addr: impl Into<String>) -> Result<Self, SettingFault> {
        let addr = addr.into();
        let good = addr.rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && addr.parse::<SocketAddr>().is_ok();
            let name = !host.is_empty() && !host.contains(['[', ']', ':', '@']) && !host.contains(char::is_whitespace);
            (bracketed || name) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if good { Ok(Self { addr, id: None }) } else { Err(SettingFault::invalid("members", addr, MEMBER_TEXT)) }
    }

    /// Only a process with this id is the member. Without it, whichever process says that it has the address.
    #[must_use]
    pub const fn with_id(mut self, id: MemberId) -> Self {
        self.id = Some(id);
        self
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The id it must have, if one was given.
    #[must_use]
    pub const fn id(&self) -> Option<MemberId> {
        self.id
    }
}

impl FromStr for StaticMember {
    type Err = SettingFault;

    fn from_str(text: &str) -> Result<Self, SettingFault> {
        let text = text.trim();
        let Some((addr, id)) = text.split_once('@') else { return Self::new(text) };
        let id = id.parse().map_err(|_not_an_id| SettingFault::invalid("members", text, MEMBER_TEXT))?;
        Ok(Self::new(addr)?.with_id(id))
    }
}

impl fmt::Display for StaticMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)?;
        self.id.map_or(Ok(()), |id| write!(f, "@{id}"))
    }
}

/// Options of [`StaticMembers`](super::StaticMembers).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaticMembersConfig {
    /// The members, at most [`MAX_MEMBERS`](Self::MAX_MEMBERS). One that is the local member is passed by, so that all may
    /// have the same list; so is one with the address of another before it. Default none.
    pub members: Vec<StaticMember>,
    /// How often a member that said good-bye is looked for, and a name that could not be resolved tried again; 10 ms to 1 h.
    /// Default [`RETRY_INTERVAL`](Self::RETRY_INTERVAL).
    pub retry_interval: Duration,
    /// Option bits that notices carry (Tribes: `optionFlag`). Notices are recognised whatever options they have. Default
    /// none.
    pub trigger: SendOptions,
}

impl StaticMembersConfig {
    /// The most members there may be, 4,096.
    pub const MAX_MEMBERS: usize = 4096;
    /// The default of [`retry_interval`](Self::retry_interval), 5 s.
    pub const RETRY_INTERVAL: Duration = Duration::from_secs(5);

    /// With these members.
    #[must_use]
    pub fn with_members(mut self, members: impl IntoIterator<Item = StaticMember>) -> Self {
        self.members = members.into_iter().collect();
        self
    }

    /// With this pause between attempts.
    #[must_use]
    pub const fn with_retry_interval(mut self, interval: Duration) -> Self {
        self.retry_interval = interval;
        self
    }

    /// With these option bits.
    #[must_use]
    pub const fn with_trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }
}

impl Default for StaticMembersConfig {
    fn default() -> Self {
        Self { members: Vec::new(), retry_interval: Self::RETRY_INTERVAL, trigger: SendOptions::empty() }
    }
}

tribes_core::settings! { StaticMembersConfig {
    members: list(0..=StaticMembersConfig::MAX_MEMBERS, parsed(MEMBER_TEXT)),
        "The fixed members; the local member may be among them.";
    retry_interval: duration(Duration::from_millis(10)..=Duration::from_secs(3600)),
        "How often a member that left, or a name that could not be resolved, is tried again.";
    trigger: options(), "Option bits that the notices between these members carry.";
} }

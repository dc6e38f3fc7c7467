//! Options of [`StaticMembers`](super::StaticMembers).

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use tribes_core::{MemberId, SendOptions};

use super::NAME;
use crate::ConfigError;
use crate::config::duration;

/// One fixed member, `HOST:PORT` or `HOST:PORT@ID` (Tribes: `StaticMember`).
///
/// ```
/// use tribes_interceptors::StaticMember;
/// let member: StaticMember = "[::1]:4000@0102030405060708090a0b0c0d0e0f10".parse()?;
/// assert!(member.id().is_some());
/// assert!("node-2.example:4000".parse::<StaticMember>()?.id().is_none());
/// assert!("node-2.example".parse::<StaticMember>().is_err());
/// # Ok::<(), tribes_interceptors::ConfigError>(())
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
    pub fn new(addr: impl Into<String>) -> Result<Self, ConfigError> {
        let addr = addr.into();
        let good = addr.rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && addr.parse::<SocketAddr>().is_ok();
            let name = !host.is_empty() && !host.contains(['[', ']', ':', '@']) && !host.contains(char::is_whitespace);
            (bracketed || name) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if good { Ok(Self { addr, id: None }) } else { Err(invalid("members", &addr, MEMBERS_TEXT)) }
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
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        let Some((addr, id)) = text.split_once('@') else { return Self::new(text) };
        Ok(Self::new(addr)?.with_id(id.parse().map_err(|_not_an_id| invalid("members", text, MEMBERS_TEXT))?))
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

    const KEYS: &'static [&'static str] = &["members", "retry_interval", "trigger"];

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

    /// Sets an option from text: its name in snake_case; `members` as `HOST:PORT[@ID]`, joined by `+`; `retry_interval` as in
    /// `250ms`, `1s`, `5m`; `trigger` as an integer or names of options.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "members" => {
                let members: Vec<StaticMember> = value.split('+').map(str::parse).collect::<Result<_, _>>()?;
                if members.len() > Self::MAX_MEMBERS {
                    return Err(invalid("members", &format!("{} members", members.len()), COUNT_TEXT));
                }
                self.members = members;
            }
            "retry_interval" => {
                let interval = duration(value).filter(|interval| INTERVALS.contains(interval));
                self.retry_interval = interval.ok_or_else(|| invalid("retry_interval", value, INTERVALS_TEXT))?;
            }
            "trigger" => {
                let expected = "an integer, or names of send options joined by commas";
                self.trigger = value.parse().map_err(|_unknown_option| invalid("trigger", value, expected))?;
            }
            _ => {
                let (key, known) = (key.to_owned(), Self::KEYS);
                return Err(ConfigError::UnknownKey { interceptor: NAME, key, known });
            }
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !INTERVALS.contains(&self.retry_interval) {
            return Err(invalid("retry_interval", &format!("{:?}", self.retry_interval), INTERVALS_TEXT));
        }
        if self.members.len() > Self::MAX_MEMBERS {
            return Err(invalid("members", &format!("{} members", self.members.len()), COUNT_TEXT));
        }
        Ok(())
    }
}

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const INTERVALS_TEXT: &str = "a duration from 10ms to 1h";
const MEMBERS_TEXT: &str = "HOST:PORT or HOST:PORT@ID with 32 hexadecimal digits, several joined by +";
const COUNT_TEXT: &str = "at most 4096 members";

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for StaticMembersConfig {
    fn default() -> Self {
        Self { members: Vec::new(), retry_interval: Self::RETRY_INTERVAL, trigger: SendOptions::empty() }
    }
}

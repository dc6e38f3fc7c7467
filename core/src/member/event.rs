//! What happens to members.

use std::fmt;
use std::sync::Arc;

use super::Member;

/// Something that happened to a member of the group. Events travel from the network up the stack, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// A member is there.
    Added(Arc<Member>),
    /// A member's payload, domain or ports changed; the record is the new one.
    Updated(Arc<Member>),
    /// Something speaks against a member; it is still in the group and is being checked.
    Suspected(Arc<Member>, Suspicion),
    /// A member is gone.
    Removed(Arc<Member>, Departure),
}

impl MemberEvent {
    /// The member that this is about.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        match self {
            Self::Added(member) | Self::Updated(member) | Self::Suspected(member, _) | Self::Removed(member, _) => {
                member
            }
        }
    }
}

/// Why a member is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suspicion {
    /// It closed the connection that we held to it.
    ConnectionClosed,
    /// A message to it could not be sent or was not acknowledged in time.
    SendFailed,
    /// Its heartbeats, or its answers to ours, stopped.
    Silent,
    /// It said good-bye, but its connection is still open.
    GoodbyeUnconfirmed,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionClosed => "it closed its connection",
            Self::SendFailed => "a send to it failed",
            Self::Silent => "it went silent",
            Self::GoodbyeUnconfirmed => "it said good-bye but is still connected",
        })
    }
}

/// How a member left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Departure {
    /// On purpose: it said so.
    Shutdown,
    /// It died, froze or became unreachable, and a probe confirmed it.
    Failed,
    /// Its heartbeats stopped; nothing confirmed it (there is no failure detector in the stack).
    Expired,
    /// The configuration or a filter took it out of the group.
    Excluded,
    /// This channel stopped listening for members.
    Stopped,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Excluded => "excluded",
            Self::Stopped => "stopped",
        })
    }
}

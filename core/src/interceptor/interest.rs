//! What a layer declares about itself.

use bitflags::bitflags;

bitflags! {
    /// The hooks that a layer uses. The pipeline skips a layer on the hooks that it does not name.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Interest: u8 {
        /// Messages on their way down.
        const SEND = 1;
        /// Messages on their way up.
        const RECEIVE = 2;
        /// Membership events.
        const MEMBERS = 4;
        /// The channel's heartbeat.
        const HEARTBEAT = 8;
        /// Outcomes of application messages.
        const OUTCOME = 16;
        /// The layer is called for every message, whatever its trigger, and asks `matches()` of its context. Tribes' wire
        /// needs that of layers that change messages their trigger does not match.
        const SEES_ALL = 32;
        /// Outcomes, but only of messages that failed for at least one member: those who need no more spare every other
        /// message the call.
        const FAULTS = 64;
    }
}

impl Interest {
    /// Every hook, with the trigger applied by the pipeline.
    #[must_use]
    pub const fn all_hooks() -> Self {
        Self::SEND.union(Self::RECEIVE).union(Self::MEMBERS).union(Self::HEARTBEAT).union(Self::OUTCOME)
    }
}

/// What a layer does to the bytes that travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WireEffect {
    /// Nothing.
    #[default]
    None,
    /// What Tribes' own interceptor of the same job does: understood by Java members.
    Tribes,
    /// Something of our own, which Java members cannot read. Towards them the pipeline passes this layer by and counts it, and
    /// towards everybody if this member has a configured id without our mark.
    Ours,
}

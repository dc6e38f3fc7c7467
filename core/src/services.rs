//! The parts of a channel that can be started and stopped one by one.

use bitflags::bitflags;

bitflags! {
    /// The four services of a channel (Tribes: `Channel.SND_RX_SEQ` and its siblings).
    ///
    /// [`Channel::start_services`](crate::Channel::start_services) starts what is not yet running and leaves the rest
    /// alone; [`Channel::stop_services`](crate::Channel::stop_services) stops only what it names. Bits outside these
    /// four cannot be formed, so Tribes' `start(0xFFF0)` does not compile.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Services: u8 {
        /// The receiver: listening sockets (`SND_RX_SEQ`, 1). Started first, for its port goes into the local member.
        const RECEIVER = 1;
        /// The sender (`SND_TX_SEQ`, 2).
        const SENDER = 2;
        /// Hearing of others (`MBR_RX_SEQ`, 4).
        const MEMBERSHIP_RX = 4;
        /// Announcing oneself (`MBR_TX_SEQ`, 8).
        const MEMBERSHIP_TX = 8;
        /// Both halves of membership.
        const MEMBERSHIP = 12;
    }
}

impl Services {
    /// The order in which services start; they stop in the reverse order.
    pub const START_ORDER: [Self; 4] = [Self::RECEIVER, Self::SENDER, Self::MEMBERSHIP_RX, Self::MEMBERSHIP_TX];
}

impl Default for Services {
    /// All four.
    fn default() -> Self {
        Self::all()
    }
}

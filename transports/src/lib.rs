//! What carries messages between the members of a group: TCP and UDP, in both directions.
//!
//! | module | what |
//! |---|---|
//! | [`receiver`] | [`TcpReceiver`]: takes messages in over TCP and UDP |
//! | [`sender`] | [`PooledParallelSender`]: one connection to each member |
//! | [`stream`] | the seam at which TLS slips in |
//! | [`socket`] | socket options, for both |
//!
//! Between two nodes of this project a connection begins with a hello and is resumed after a break: nothing is lost, doubled
//! or put out of order. Towards Java Tribes it is what Tribes expects. Which of the two it is, the first bytes say.
//!
//! Configurations name the receiver `tcp` and the sender `pooled-parallel`; see
//! [`Registry`](tribes_core::registry::Registry).

pub mod receiver;
pub mod sender;
pub mod socket;
pub mod stream;
#[cfg(test)]
mod testing;
mod udp;

/// Synchronized messages that one of ours has under way to another at most: so many results are remembered for a connection that
/// broke before they arrived, and a sender that keeps to it loses none.
const MAX_SYNCHRONIZED: usize = 4096;

pub use receiver::{ReceiverConfig, TcpReceiver};
pub use sender::{PooledParallelSender, SenderConfig};
pub use socket::SocketOptions;

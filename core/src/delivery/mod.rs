//! A message on its way, and what becomes of it.
//!
//! Downward a layer hands on an [`Outbound`]: the message and its destinations, each with a [`Completion`] that must be
//! resolved exactly once. Upward it hands on an [`Inbound`], whose [`Receipt`] answers the sender. Both resolve
//! themselves when they are dropped, so no message can end without an outcome.

mod inbound;
mod lease;
mod outbound;
mod outcome;
mod receipt;

pub use inbound::{Handled, Inbound, Route};
pub use lease::{Lease, LeasePool};
pub use outbound::{Completion, Destination, Outbound};
pub(crate) use outcome::{Audience, Observer, OutcomeObserver};
pub use outcome::{Delivery, Outcome, Pending};
pub use receipt::{Receipt, ReceiptSink};

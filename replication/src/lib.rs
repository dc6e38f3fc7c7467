//! Replicated maps for `tribes`.

mod clock;
mod context;
mod core;
mod message;
mod store;
mod version;

pub use version::{Dot, Incarnation, Version};

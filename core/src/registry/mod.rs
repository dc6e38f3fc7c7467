//! The parts that a configuration can name: interceptors, membership services, senders and receivers of every crate that is
//! linked into the program.
//!
//! A crate registers a part in three steps: a configuration with [`settings!`](crate::settings!), [`Configure`] for the part, and
//! one line:
//!
//! ```
//! use tribes_core::registry::{Configure, Registry};
//! use tribes_core::{BoxError, Cx, Outbound, SyncInterceptor, Verdict};
//!
//! /// Lets only messages of up to so many bytes pass.
//! #[derive(Debug)]
//! pub struct Ceiling {
//!     bytes: usize,
//! }
//!
//! #[derive(Clone, Debug)]
//! pub struct CeilingConfig {
//!     pub bytes: usize,
//! }
//!
//! impl Default for CeilingConfig {
//!     fn default() -> Self {
//!         Self { bytes: 1 << 20 }
//!     }
//! }
//!
//! tribes_core::settings! { CeilingConfig {
//!     bytes: tribes_core::settings::size(1..=1 << 30), "The longest body that may pass.";
//! } }
//!
//! impl Configure for Ceiling {
//!     const NAME: &'static str = "ceiling";
//!     const HELP: &'static str = "refuses long messages";
//!     type Config = CeilingConfig;
//!     fn configure(config: CeilingConfig) -> Result<Self, BoxError> {
//!         Ok(Self { bytes: config.bytes })
//!     }
//! }
//!
//! impl SyncInterceptor for Ceiling {
//!     fn name(&self) -> &'static str {
//!         Self::NAME
//!     }
//!     fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
//!         if out.len() > self.bytes { Verdict::Drop("too long") } else { Verdict::Pass }
//!     }
//! }
//!
//! tribes_core::register_interceptor!(Ceiling);
//!
//! # fn main() {
//! let layer = Registry::interceptor("ceiling", [("bytes", "64KiB")]).unwrap();
//! assert_eq!(layer.name(), "ceiling");
//! # }
//! ```
//!
//! A program that never names anything of a plugin crate does not link it; `use the_crate as _;` in its `main.rs` does.

mod error;
mod registration;

use std::sync::Arc;

#[doc(hidden)]
pub use inventory;

pub use error::{RegistryError, UnknownPart};
pub use registration::{Configure, PartKind, Registration};

#[doc(hidden)]
pub use registration::{Make, configured};

use crate::interceptor::Layer;
use crate::transport::{ChannelReceiver, ChannelSender, MembershipService};

/// What is linked into this program. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Registry;

impl Registry {
    /// All parts of a kind, by name.
    #[must_use]
    pub fn list(kind: PartKind) -> Vec<&'static Registration> {
        let mut found: Vec<_> = inventory::iter::<Registration>().filter(|part| part.kind() == kind).collect();
        found.sort_by_key(|part| (part.name, part.crate_name));
        found
    }

    /// The part of this kind and name.
    ///
    /// # Errors
    /// There is none, with those that there are; or several crates have one of this name.
    pub fn find(kind: PartKind, name: &str) -> Result<&'static Registration, RegistryError> {
        let all = Self::list(kind);
        let mut found = all.iter().filter(|part| part.name == name);
        match (found.next(), found.next()) {
            (Some(part), None) => Ok(part),
            (Some(one), Some(other)) => {
                Err(RegistryError::Ambiguous { kind, name: one.name, crates: [one.crate_name, other.crate_name] })
            }
            (None, _) => {
                let known = all.iter().map(|part| part.name).collect();
                Err(UnknownPart { kind, name: name.to_owned(), known }.into())
            }
        }
    }

    /// The interceptor of this name, with these settings over its defaults.
    ///
    /// # Errors
    /// It is not known, or everything that is wrong with its settings.
    pub fn interceptor<'a>(
        name: &str,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Layer, RegistryError> {
        let part = Self::find(PartKind::Interceptor, name)?;
        let settings: Vec<_> = settings.into_iter().collect();
        part.interceptor(&settings)
    }

    /// The membership service of this name, with these settings over its defaults.
    ///
    /// # Errors
    /// As [`interceptor`](Self::interceptor).
    pub fn membership<'a>(
        name: &str,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Arc<dyn MembershipService>, RegistryError> {
        let part = Self::find(PartKind::Membership, name)?;
        let settings: Vec<_> = settings.into_iter().collect();
        part.membership(&settings)
    }

    /// The sender of this name, with these settings over its defaults.
    ///
    /// # Errors
    /// As [`interceptor`](Self::interceptor).
    pub fn sender<'a>(
        name: &str,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Arc<dyn ChannelSender>, RegistryError> {
        let part = Self::find(PartKind::Sender, name)?;
        let settings: Vec<_> = settings.into_iter().collect();
        part.sender(&settings)
    }

    /// The receiver of this name, with these settings over its defaults.
    ///
    /// # Errors
    /// As [`interceptor`](Self::interceptor).
    pub fn receiver<'a>(
        name: &str,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Arc<dyn ChannelReceiver>, RegistryError> {
        let part = Self::find(PartKind::Receiver, name)?;
        let settings: Vec<_> = settings.into_iter().collect();
        part.receiver(&settings)
    }
}

/// Registers an interceptor, which implements [`Configure`](crate::registry::Configure) and one of the two forms, so that
/// configurations can name it. Crate and version are those of the crate that says this.
#[macro_export]
macro_rules! register_interceptor {
    ($part:ty) => {
        $crate::registry::inventory::submit! {
            $crate::registry::Registration::new::<$part>(
                $crate::registry::Make::Interceptor(|settings| {
                    ::core::result::Result::Ok($crate::IntoLayer::into_layer($crate::registry::configured::<$part>(settings)?))
                }),
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
            )
        }
    };
}

/// As [`register_interceptor!`](crate::register_interceptor!), for a [`MembershipService`](crate::MembershipService).
#[macro_export]
macro_rules! register_membership {
    ($part:ty) => {
        $crate::register_part!(Membership, $part);
    };
}

/// As [`register_interceptor!`](crate::register_interceptor!), for a [`ChannelSender`](crate::ChannelSender).
#[macro_export]
macro_rules! register_sender {
    ($part:ty) => {
        $crate::register_part!(Sender, $part);
    };
}

/// As [`register_interceptor!`](crate::register_interceptor!), for a [`ChannelReceiver`](crate::ChannelReceiver).
#[macro_export]
macro_rules! register_receiver {
    ($part:ty) => {
        $crate::register_part!(Receiver, $part);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! register_part {
    ($kind:ident, $part:ty) => {
        $crate::registry::inventory::submit! {
            $crate::registry::Registration::new::<$part>(
                $crate::registry::Make::$kind(|settings| {
                    ::core::result::Result::Ok(::std::sync::Arc::new($crate::registry::configured::<$part>(settings)?))
                }),
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
            )
        }
    };
}

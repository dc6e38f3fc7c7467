//! What is known of a part that a configuration can name.

use std::fmt;
use std::sync::Arc;

use super::RegistryError;
use crate::BoxError;
use crate::interceptor::Layer;
use crate::settings::{SettingFault, SettingInfo, Settings};
use crate::transport::{ChannelReceiver, ChannelSender, MembershipService};

/// A part of a channel that can be made from a configuration.
pub trait Configure: Sized {
    /// Its name in configurations, in kebab-case; for an interceptor the same as that of the layer.
    const NAME: &'static str;
    /// What it does, in one line, as in "compresses bodies".
    const HELP: &'static str;
    /// What can be set; `()` for nothing.
    type Config: Settings;

    /// The part. The settings are each within bounds, and go together as far as [`Settings::check`] knows.
    ///
    /// # Errors
    /// What makes it impossible all the same; a [`SettingFault`] if it is about one setting.
    fn configure(config: Self::Config) -> Result<Self, BoxError>;
}

/// The kinds of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    /// A layer of the stack.
    Interceptor,
    /// What finds the members.
    Membership,
    /// What sends.
    Sender,
    /// What receives.
    Receiver,
}

impl PartKind {
    /// Its section in a configuration: `interceptor`, `membership`, `sender`, `receiver`.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::Interceptor => "interceptor",
            Self::Membership => "membership",
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Membership => "membership service",
            other => other.section(),
        })
    }
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

type Maker<T> = fn(Pairs<'_>) -> Result<T, Vec<SettingFault>>;

/// How a part is made.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Make {
    Interceptor(Maker<Layer>),
    Membership(Maker<Arc<dyn MembershipService>>),
    Sender(Maker<Arc<dyn ChannelSender>>),
    Receiver(Maker<Arc<dyn ChannelReceiver>>),
}

/// A part that configurations can name; made by [`register_interceptor!`](crate::register_interceptor!) and its kin.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// The crate that has it.
    pub crate_name: &'static str,
    /// That crate's version.
    pub version: &'static str,
    settings: fn() -> Vec<SettingInfo>,
    make: Make,
}

inventory::collect!(Registration);

impl Registration {
    #[doc(hidden)]
    #[must_use]
    pub const fn new<T: Configure>(make: Make, crate_name: &'static str, version: &'static str) -> Self {
        Self { name: T::NAME, help: T::HELP, crate_name, version, settings: <T::Config as Settings>::describe, make }
    }

    /// What kind of part it is.
    #[must_use]
    pub const fn kind(&self) -> PartKind {
        match self.make {
            Make::Interceptor(_) => PartKind::Interceptor,
            Make::Membership(_) => PartKind::Membership,
            Make::Sender(_) => PartKind::Sender,
            Make::Receiver(_) => PartKind::Receiver,
        }
    }

    /// What can be set.
    #[must_use]
    pub fn settings(&self) -> Vec<SettingInfo> {
        (self.settings)()
    }

    /// The layer with these settings; only for an interceptor.
    pub(super) fn interceptor(&self, settings: Pairs<'_>) -> Result<Layer, RegistryError> {
        let Make::Interceptor(make) = self.make else { return Err(self.other(PartKind::Interceptor)) };
        make(settings).map_err(|faults| self.faulty(faults))
    }

    pub(super) fn membership(&self, settings: Pairs<'_>) -> Result<Arc<dyn MembershipService>, RegistryError> {
        let Make::Membership(make) = self.make else { return Err(self.other(PartKind::Membership)) };
        make(settings).map_err(|faults| self.faulty(faults))
    }

    pub(super) fn sender(&self, settings: Pairs<'_>) -> Result<Arc<dyn ChannelSender>, RegistryError> {
        let Make::Sender(make) = self.make else { return Err(self.other(PartKind::Sender)) };
        make(settings).map_err(|faults| self.faulty(faults))
    }

    pub(super) fn receiver(&self, settings: Pairs<'_>) -> Result<Arc<dyn ChannelReceiver>, RegistryError> {
        let Make::Receiver(make) = self.make else { return Err(self.other(PartKind::Receiver)) };
        make(settings).map_err(|faults| self.faulty(faults))
    }

    const fn faulty(&self, faults: Vec<SettingFault>) -> RegistryError {
        RegistryError::Settings { name: self.name, faults }
    }

    fn other(&self, kind: PartKind) -> RegistryError {
        super::UnknownPart { kind, name: self.name.to_owned(), known: Vec::new() }.into()
    }
}

/// The part with these settings over its defaults.
#[doc(hidden)]
pub fn configured<T: Configure>(settings: Pairs<'_>) -> Result<T, Vec<SettingFault>> {
    let config = T::Config::from_pairs(settings.iter().copied())?;
    T::configure(config).map_err(|error| match error.downcast() {
        Ok(fault) => vec![*fault],
        Err(error) => vec![SettingFault::together("type", error.to_string())],
    })
}

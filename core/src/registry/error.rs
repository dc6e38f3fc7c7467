//! Why there is no such part.

use std::fmt;

use super::PartKind;
use crate::settings::{SettingFault, nearest};

/// A part cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is none of this name.
    #[error(transparent)]
    Unknown(#[from] UnknownPart),
    /// Two crates have one of this name.
    #[error("there are two {kind}s {name:?}, of the crates {} and {}: link only one of them", crates[0], crates[1])]
    Ambiguous {
        /// Of which kind.
        kind: PartKind,
        /// The name.
        name: &'static str,
        /// Two of the crates that have it.
        crates: [&'static str; 2],
    },
    /// Its settings cannot be.
    #[error("{name}: {}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings {
        /// The part.
        name: &'static str,
        /// All that is wrong.
        faults: Vec<SettingFault>,
    },
}

/// There is no part of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPart {
    /// What was looked for.
    pub kind: PartKind,
    /// Its name.
    pub name: String,
    /// The names that there are.
    pub known: Vec<&'static str>,
}

impl UnknownPart {
    /// The name that was probably meant.
    #[must_use]
    pub fn nearest(&self) -> Option<&'static str> {
        nearest(&self.name, self.known.iter().copied())
    }
}

impl fmt::Display for UnknownPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {} {:?}", self.kind, self.name)?;
        if let Some(nearest) = self.nearest() {
            write!(f, "; did you mean {nearest:?}?")?;
        }
        write!(
            f,
            " (linked into this program: {}; one of another crate needs `use that_crate as _;` in main.rs, one of tribes its \
             feature)",
            if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") }
        )
    }
}

impl std::error::Error for UnknownPart {}

//! What can be wrong with a configuration.

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting out of its bounds.
    #[error("{setting} is {value}, but must be {bounds}")]
    OutOfBounds {
        /// The setting.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        bounds: &'static str,
    },
    /// A text that names no static peer.
    #[error("{text:?} is no static peer: {why}; write HOST:PORT or HOST:PORT@ID with 32 hexadecimal digits")]
    Peer {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// `Ok` if `holds`, otherwise the fault of `setting`.
pub(crate) fn check(
    holds: bool,
    setting: &'static str,
    value: impl ToString,
    bounds: &'static str,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::OutOfBounds { setting, value: value.to_string(), bounds }) }
}

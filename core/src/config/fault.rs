//! What is wrong with a configuration, and where it was said.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::BuildFault;

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In a file.
    File {
        /// Its name.
        name: Arc<str>,
        /// The line, from 1; 0 for the file as a whole.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// By an environment variable.
    Env(String),
}

impl Origin {
    /// A place in a text, by its offset in bytes.
    pub(super) fn at(name: &Arc<str>, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self::File { name: Arc::clone(name), line, column }
    }
}

impl Origin {
    /// The line, for the order in which faults are shown; what has none comes last.
    const fn line(&self) -> usize {
        match self {
            Self::File { line, .. } if *line > 0 => *line,
            _ => usize::MAX,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line: 0, .. } => f.write_str(name),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFault {
    /// Where it was said.
    pub origin: Origin,
    /// The section, as in `[receiver]` or `[[interceptor]] gzip`; empty for the whole.
    pub place: String,
    /// What is wrong, with what would be right.
    pub message: String,
}

impl ConfigFault {
    pub(super) fn new(origin: &Origin, place: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { origin: origin.clone(), place: place.into(), message: message.to_string() }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration from which no channel can be made. Displayed, it lists each fault on a line of its own; so it does for debugging,
/// since that is what a `main` that returns it prints.
#[derive(Clone)]
pub struct ConfigError {
    source: Origin,
    faults: Vec<ConfigFault>,
}

impl ConfigError {
    pub(super) fn one(fault: ConfigFault) -> Self {
        Self { source: fault.origin.clone(), faults: vec![fault] }
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let origin = Origin::File { name: path.display().to_string().into(), line: 0, column: 0 };
        Self::one(ConfigFault::new(&origin, "", format!("cannot be read: {error}")))
    }

    /// `Ok` if there is no fault.
    pub(super) fn unless_empty(source: &Origin, mut faults: Vec<ConfigFault>) -> Result<(), Self> {
        faults.sort_by_key(|fault| fault.origin.line());
        if faults.is_empty() { Ok(()) } else { Err(Self { source: source.clone(), faults }) }
    }

    /// Everything that is wrong.
    #[must_use]
    pub fn faults(&self) -> &[ConfigFault] {
        &self.faults
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [fault] = self.faults.as_slice() {
            return fault.fmt(f);
        }
        match &self.source {
            Origin::Default => write!(f, "the configuration has {} faults:", self.faults.len())?,
            source => write!(f, "{source} has {} faults:", self.faults.len())?,
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with the stack as a whole was not said in one place.
pub(super) fn of_build(source: &Origin, fault: &BuildFault) -> ConfigFault {
    ConfigFault::new(source, "", fault)
}

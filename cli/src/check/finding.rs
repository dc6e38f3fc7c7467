//! What a check found.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Fine,
    Warning,
    Fault,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was looked at.
    what: &'static str,
    /// What was seen.
    seen: String,
    /// What to do about it; empty if nothing is to be done.
    fix: String,
}

impl Finding {
    pub(super) fn fine(what: &'static str, seen: impl Into<String>) -> Self {
        Self { level: Level::Fine, what, seen: seen.into(), fix: String::new() }
    }

    pub(super) fn warning(what: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, what, seen: seen.into(), fix: fix.into() }
    }

    pub(super) fn fault(what: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Fault, what, seen: seen.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Fine => "ok",
            Level::Warning => "warning",
            Level::Fault => "FAULT",
        };
        write!(f, "{level:<8}{:<12}{}", self.what, self.seen)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}

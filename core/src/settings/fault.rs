//! What is wrong with a setting.

use std::fmt;

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// The key that was given; the one to change where several do not go together.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// There is no such key.
    Unknown {
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// The value is out of bounds, or none of this kind.
    Invalid {
        /// What was given; `(hidden)` for a secret.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// Settings do not go together: the reason, and what to do.
    Together(String),
    /// Given twice.
    Twice,
}

impl SettingFault {
    /// A value that cannot be.
    #[must_use]
    pub fn invalid(key: &str, value: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: Problem::Invalid { value: value.into(), expected: expected.into() } }
    }

    /// Settings that do not go together; `key` is the one to change.
    #[must_use]
    pub fn together(key: &str, reason: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: Problem::Together(reason.into()) }
    }

    /// The known key that was probably meant, if there was no such key.
    #[must_use]
    pub fn nearest(&self) -> Option<&'static str> {
        match &self.problem {
            Problem::Unknown { known } => nearest(&self.key, known.iter().copied()),
            _ => None,
        }
    }
}

impl fmt::Display for SettingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.problem {
            Problem::Unknown { known } => {
                write!(f, "there is no key {key:?}")?;
                if let Some(nearest) = self.nearest() {
                    write!(f, "; did you mean {nearest:?}?")?;
                }
                if known.is_empty() {
                    write!(f, "; there is nothing to set")
                } else {
                    write!(f, " (known: {})", known.join(", "))
                }
            }
            Problem::Invalid { value, expected } => write!(f, "{key} is {value:?}, but must be {expected}"),
            Problem::Together(reason) => write!(f, "{key}: {reason}"),
            Problem::Twice => write!(f, "{key} is given twice"),
        }
    }
}

impl std::error::Error for SettingFault {}

/// The one of `known` that is most like `text`, if any is alike: at most a third of the letters differ.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (distance(&text, &name.replace('-', "_")), name))
        .filter(|(distance, name)| *distance * 3 <= name.len().max(text.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters to insert, remove, replace or swap with the next (Damerau's distance, in its restricted form).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    let (mut before, mut above): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = at(&above, j) + usize::from(from != to);
            let mut best = replaced.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    at(&above, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_what_was_meant() {
        let known = ["max_size", "min_size", "expire", "trigger"];
        assert_eq!(nearest("maxsize", known), Some("max_size"));
        assert_eq!(nearest("expires", known), Some("expire"));
        assert_eq!(nearest("triger", known), Some("trigger"));
        assert_eq!(nearest("MIN-SIZE", known), Some("min_size"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!((distance("abcd", "acbd"), distance("", "abc"), distance("abc", "abc")), (1, 3, 0));
    }
}

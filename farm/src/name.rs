//! What artefacts may be called: names that mean the same file, inside of the folder, on every system.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest name, in bytes.
const MAX_NAME: usize = 512;
/// The longest part between slashes, in bytes: what file systems take.
const MAX_PART: usize = 255;
/// Names that are devices on Windows, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The name of an artefact: a relative path with `/` between its parts.
///
/// It is the same file on every system, and never outside of the folder: no part is empty, `.` or `..`, ends in a dot or a blank, or
/// is a device of Windows (`CON`, `nul.txt`, `COM1`…); there are no control characters and none of `\ : * ? " < > |`. At most
/// 512 bytes, 255 a part. Sender and receivers check it.
///
/// ```
/// use tribes_farm::ArtefactName;
/// assert!("rules/eu/vat.json".parse::<ArtefactName>().is_ok());
/// assert!("../../x".parse::<ArtefactName>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtefactName(Box<str>);

/// Why a text is no [`ArtefactName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no name of an artefact: {why}")]
pub struct NameError {
    name: String,
    why: &'static str,
}

impl ArtefactName {
    /// The name of the file at `path`, relative to its folder.
    ///
    /// # Errors
    /// If that is no name, or not UTF-8.
    pub fn from_relative_path(path: &Path) -> Result<Self, NameError> {
        let part = |part: std::path::Component<'_>| match part {
            std::path::Component::Normal(part) => part.to_str().map(str::to_owned),
            _ => None,
        };
        let parts: Option<Vec<String>> = path.components().map(part).collect();
        match parts {
            Some(parts) => parts.join("/").parse(),
            None => {
                Err(NameError { name: path.to_string_lossy().into_owned(), why: "it is no relative path in UTF-8" })
            }
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a path, relative to a folder.
    #[must_use]
    pub fn to_path(&self) -> PathBuf {
        self.parts().collect()
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether one of the two would have to be a folder for the other to be a file in it.
    pub(crate) fn is_in_the_way_of(&self, other: &Self) -> bool {
        let inside = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        inside(&self.0, &other.0) || inside(&other.0, &self.0)
    }
}

impl FromStr for ArtefactName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match fault(text) {
            None => Ok(Self(text.into())),
            // What a peer sent is shown, so it is cut.
            Some(why) => Err(NameError { name: text.chars().take(MAX_PART).collect(), why }),
        }
    }
}

fn fault(text: &str) -> Option<&'static str> {
    if text.len() > MAX_NAME {
        return Some("it is longer than 512 bytes");
    }
    text.split('/').find_map(part_fault)
}

fn part_fault(part: &str) -> Option<&'static str> {
    if part.is_empty() {
        return Some("a part of it is empty; it is to be a relative path");
    }
    if part.len() > MAX_PART {
        return Some("a part of it is longer than 255 bytes");
    }
    if part == "." || part == ".." {
        return Some("it has a part that leads elsewhere");
    }
    if part.ends_with(['.', ' ']) {
        return Some("a part of it ends in a dot or a blank, which Windows takes away");
    }
    if part.contains(|c: char| c.is_control() || "\\:*?\"<>|".contains(c)) {
        return Some(r#"it has a control character, or one of \ : * ? " < > |"#);
    }
    is_device(part).then_some("a part of it is a device on Windows")
}

fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = ["com", "lpt"].iter().any(|port| {
        let digit = stem.strip_prefix(port).unwrap_or_default();
        matches!(digit, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
    });
    numbered || DEVICES.contains(&stem.as_str())
}

impl fmt::Display for ArtefactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for ArtefactName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_paths_are_names() {
        for name in
            ["a", "rules.json", "a/b/c.wasm", "käthe", ".hidden", "..a", "a..b", "con1", "com", "nulls.txt", "a b"]
        {
            let parsed: ArtefactName = name.parse().unwrap();
            assert_eq!(parsed.as_str(), name);
            assert_eq!(ArtefactName::from_relative_path(&parsed.to_path()).unwrap(), parsed);
        }
        assert!("x".repeat(255).parse::<ArtefactName>().is_ok());
    }

    /// Row 25 of the list of what Tomcat gets wrong, and its kin.
    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for name in [
            "",
            "/",
            "/etc/passwd",
            "../../x",
            "..",
            ".",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "c:x",
            "c:\\x",
            "a\\b",
            "\\\\h\\s",
            "a\0",
            "a\nb",
            "CON",
            "con",
            "nul.txt",
            "dir/AUX",
            "Com1",
            "lpt9.log",
            "COM¹",
            "conin$",
            "con .txt",
            "a.",
            "a ",
            "a./b",
            "a*",
            "a?",
            "a|b",
            "<a>",
            "\"",
            "a\u{85}b",
            &"x".repeat(256),
            &"x/".repeat(300),
        ] {
            assert!(name.parse::<ArtefactName>().is_err(), "{name:?}");
        }
        for path in ["/a", "../a", "a/../b"] {
            assert!(ArtefactName::from_relative_path(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_is_no_folder() {
        let name = |text: &str| text.parse::<ArtefactName>().unwrap();
        assert!(name("a").is_in_the_way_of(&name("a/b")) && name("a/b").is_in_the_way_of(&name("a")));
        assert!(!name("a").is_in_the_way_of(&name("ab")) && !name("a").is_in_the_way_of(&name("a")));
    }

    proptest::proptest! {
        /// Whatever is a name stays inside of the folder that it is joined to.
        #[test]
        fn names_stay_inside(text in "[a-z./\\\\: ]{0,12}") {
            if let Ok(name) = text.parse::<ArtefactName>() {
                let path = Path::new("root").join(name.to_path());
                proptest::prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
                proptest::prop_assert!(path.starts_with("root") && path.components().count() > 1);
            }
        }
    }
}

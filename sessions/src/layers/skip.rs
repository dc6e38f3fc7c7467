//! Requests that have nothing to do with sessions.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Uri};
use percent_encoding::percent_decode_str;
use regex_lite::Regex;

/// The endings of what [`Skip::static_assets`] takes for files.
const ASSETS: [&str; 18] = [
    "avif", "css", "gif", "htm", "html", "ico", "jpeg", "jpg", "js", "map", "mjs", "png", "svg", "ttf", "txt", "wasm",
    "webp", "woff2",
];

type OfParts = dyn Fn(&Parts) -> bool + Send + Sync;
type OfLine = dyn Fn(&Method, &Uri) -> bool + Send + Sync;

#[derive(Clone)]
enum Rule {
    /// A request is taken to pieces for it.
    Parts(Arc<OfParts>),
    /// It is looked at as it is.
    Line(Arc<OfLine>),
}

/// Which requests the [`ReplicationLayer`](crate::ReplicationLayer) lets pass by: they neither count as a use of their session nor
/// wait for writes (Tomcat: `filter` of the `ReplicationValve`). What they write is replicated all the same.
#[derive(Clone)]
pub struct Skip(Option<Rule>);

impl fmt::Debug for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Skip(some)" } else { "Skip(none)" })
    }
}

/// The text is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no regular expression: {why}")]
pub struct SkipError {
    pattern: String,
    why: String,
}

impl Skip {
    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Those for which `skip` says so.
    pub fn when(skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Rule::Parts(Arc::new(skip))))
    }

    /// Those whose path, decoded, matches as a whole. Several patterns are one with `|`, as in Tomcat since 6; semicolons, as in
    /// old files, are not taken.
    ///
    /// # Errors
    /// If it is no regular expression.
    pub fn regex(pattern: &str) -> Result<Self, SkipError> {
        let error = |why: String| SkipError { pattern: pattern.to_owned(), why };
        if pattern.contains(';') {
            return Err(error("a semicolon separates nothing, and no path has one: write `|`".to_owned()));
        }
        let regex = Regex::new(&format!("^(?:{pattern})$")).map_err(|fault| error(fault.to_string()))?;
        let matches =
            move |uri: &Uri| percent_decode_str(uri.path()).decode_utf8().is_ok_and(|path| regex.is_match(&path));
        Ok(Self(Some(Rule::Line(Arc::new(move |_, uri| matches(uri))))))
    }

    /// `GET` and `HEAD` of paths that end like images, scripts, style sheets, fonts and pages without a program.
    #[must_use]
    pub fn static_assets() -> Self {
        Self(Some(Rule::Line(Arc::new(|method, uri| {
            let is_read = [Method::GET, Method::HEAD].contains(method);
            let ending = uri.path().rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
            is_read && ending.is_some_and(|ending| ASSETS.contains(&ending.as_str()))
        }))))
    }

    /// The request, and whether it passes by.
    pub(super) fn matches<B>(&self, request: Request<B>) -> (Request<B>, bool) {
        match &self.0 {
            None => (request, false),
            Some(Rule::Line(rule)) => {
                let matches = rule(request.method(), request.uri());
                (request, matches)
            }
            Some(Rule::Parts(rule)) => {
                let (parts, body) = request.into_parts();
                let matches = rule(&parts);
                (Request::from_parts(parts, body), matches)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn matches(skip: &Skip, method: Method, uri: &str) -> bool {
        let (request, matches) = skip.matches(Request::builder().method(&method).uri(uri).body(()).unwrap());
        assert_eq!((request.method(), request.uri().to_string()), (&method, uri.to_owned()));
        matches
    }

    #[test]
    fn a_pattern_is_for_the_whole_path() {
        let skip = Skip::regex(r".*\.gif|/a b/.*").unwrap();
        for (path, wanted) in
            [("/x.gif", true), ("/x.gif2", false), ("/a%20b/c", true), ("/x.gif?y=1", true), ("/x?y=1.gif", false)]
        {
            assert_eq!(matches(&skip, Method::GET, path), wanted, "{path}");
        }
        assert!(Skip::regex("(").is_err());
        assert!(Skip::regex(r".*\.gif;.*\.js").unwrap_err().to_string().contains('|'));
    }

    #[test]
    fn static_assets_are_read_only() {
        let skip = Skip::static_assets();
        assert!(matches(&skip, Method::GET, "/logo.PNG") && matches(&skip, Method::HEAD, "/a.b/x.js"));
        assert!(!matches(&skip, Method::POST, "/logo.png") && !matches(&skip, Method::GET, "/png"));
        assert!(!matches(&Skip::none(), Method::GET, "/logo.png"));
        let skip = Skip::when(|parts| parts.headers.is_empty() && parts.uri.path() == "/x");
        assert!(matches(&skip, Method::GET, "/x") && !matches(&skip, Method::GET, "/y"));
    }
}

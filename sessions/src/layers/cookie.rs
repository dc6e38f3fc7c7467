//! Cookies, as far as a layer that hangs something on a session's id has to know them.

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};

use crate::stamp::Stamp;

/// What hangs on the value of a cookie: `value[~version][.route]`. Neither ids nor base64, of which signed and private cookies
/// consist, contain a dot or a tilde. The route stays last: `mod_jk` and `mod_proxy_balancer` take all that follows the dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suffixes {
    pub(super) version: Option<Stamp>,
    pub(super) route: Option<String>,
}

/// The value without what hangs on it, and that.
pub(super) fn split(value: &str) -> (&str, Suffixes) {
    let (rest, route) = match value.split_once('.') {
        Some((rest, route)) => (rest, Some(route)),
        None => (value, None),
    };
    let (rest, version) = match rest.split_once('~') {
        Some((rest, version)) => (rest, read_version(version)),
        None => (rest, None),
    };
    (rest, Suffixes { version, route: route.filter(|route| is_route(route)).map(str::to_owned) })
}

/// The value with what is to hang on it.
pub(super) fn join(value: &str, suffixes: &Suffixes) -> String {
    let mut joined = value.to_owned();
    if let Some(version) = suffixes.version {
        joined.push('~');
        joined.push_str(&write_version(version));
    }
    if let Some(route) = &suffixes.route {
        joined.push('.');
        joined.push_str(route);
    }
    joined
}

/// Whether this can be the name of a node: letters, digits, `-` and `_`.
pub(super) fn is_route(route: &str) -> bool {
    (1..=64).contains(&route.len()) && route.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// A version in characters of six bits: its time, a dash of its writer.
fn write_version(version: Stamp) -> String {
    let digits = |number: u64| {
        let digits = (0..11).rev().map(|place| (number >> (6 * place)) & 63);
        let mut digits =
            digits.filter_map(|digit| DIGITS.get(usize::try_from(digit).ok()?)).map(|digit| char::from(*digit));
        let first = digits.find(|digit| *digit != '0').unwrap_or('0');
        std::iter::once(first).chain(digits).collect::<String>()
    };
    format!("{}!{}", digits(version.time()), digits(version.node()))
}

fn read_version(text: &str) -> Option<Stamp> {
    let number = |text: &str| {
        text.bytes().try_fold(0_u64, |number, byte| {
            let digit = DIGITS.iter().position(|digit| *digit == byte)?;
            number.checked_mul(64)?.checked_add(digit as u64)
        })
    };
    let (time, node) = text.split_once('!')?;
    Some(Stamp(number(time).filter(|_| !time.is_empty())?, number(node)?))
}

/// The last cookie of this name, which is the one that session layers take, as it came; and whether there are others of
/// another value.
pub(super) fn find(headers: &HeaderMap, name: &str) -> Option<(String, bool)> {
    let values = headers.get_all(COOKIE).iter().filter_map(text);
    let found: Vec<&str> = values.flat_map(pairs).filter(|(found, _)| *found == name).map(|(_, value)| value).collect();
    let last = *found.last()?;
    Some((last.to_owned(), found.iter().any(|value| *value != last)))
}

/// Changes the values of all cookies of this name in a request; those are left out for which there is none.
pub(super) fn rewrite(headers: &mut HeaderMap, name: &str, change: impl Fn(&str) -> Option<String>) {
    let values: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for value in values {
        let changed = text(&value).filter(|text| pairs(text).any(|(found, _)| found == name)).and_then(|text| {
            let pairs = text.split(';').filter_map(|pair| match pair.trim().split_once('=') {
                Some((found, value)) if found.trim() == name => {
                    change(value.trim()).map(|value| format!("{name}={value}"))
                }
                _ => Some(pair.trim().to_owned()),
            });
            HeaderValue::from_bytes(pairs.collect::<Vec<_>>().join("; ").as_bytes()).ok()
        });
        let changed = changed.unwrap_or(value);
        if !changed.is_empty() {
            headers.append(COOKIE, changed);
        }
    }
}

/// Browsers send other than ASCII, too.
fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|pair| pair.trim().split_once('=')).map(|(name, value)| (name.trim(), value.trim()))
}

/// Changes the values of the cookies of this name that a response sets; whether it sets or removes one.
pub(super) fn rewrite_set(headers: &mut HeaderMap, name: &str, change: impl Fn(&str) -> String) -> bool {
    let values: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    let is_named = |value: &HeaderValue| {
        let pair = text(value).and_then(|text| text.split(';').next()).and_then(|pair| pair.split_once('='));
        pair.is_some_and(|(found, _)| found.trim() == name)
    };
    if !values.iter().any(is_named) {
        return false;
    }
    headers.remove(SET_COOKIE);
    for value in values {
        let changed = text(&value).filter(|text| is_named(&value) && !is_removal(text)).and_then(|text| {
            let (pair, attributes) = text.split_once(';').map_or((text, None), |(pair, rest)| (pair, Some(rest)));
            let (_, held) = pair.split_once('=')?;
            let attributes = attributes.map(|attributes| format!(";{attributes}")).unwrap_or_default();
            HeaderValue::from_bytes(format!("{name}={}{attributes}", change(held.trim())).as_bytes()).ok()
        });
        headers.append(SET_COOKIE, changed.unwrap_or(value));
    }
    true
}

/// Whether a cookie is to be removed by its being set.
fn is_removal(cookie: &str) -> bool {
    let mut parts = cookie.split(';').map(str::trim);
    let is_empty = parts.next().and_then(|pair| pair.split_once('=')).is_none_or(|(_, value)| value.trim().is_empty());
    let ends_at_once = |attribute: &str| {
        let Some((name, value)) = attribute.split_once('=') else { return false };
        name.trim().eq_ignore_ascii_case("max-age") && value.trim().parse::<i64>().is_ok_and(|seconds| seconds <= 0)
    };
    is_empty || parts.any(ends_at_once)
}

/// Sets a cookie.
pub(super) fn set(headers: &mut HeaderMap, name: &str, value: &str, attributes: &str, max_age: Option<Duration>) {
    let mut cookie = format!("{name}={value}");
    if !attributes.is_empty() {
        cookie.push_str("; ");
        cookie.push_str(attributes);
    }
    if let Some(max_age) = max_age {
        cookie.push_str(&format!("; Max-Age={}", max_age.as_secs()));
    }
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.append(SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_hangs_on_a_value_comes_off_as_it_was_put_on() {
        let version = Stamp(u64::MAX, 7);
        for (version, route) in
            [(None, None), (Some(version), None), (None, Some("node-A")), (Some(Stamp(0, 0)), Some("b"))]
        {
            let suffixes = Suffixes { version, route: route.map(str::to_owned) };
            let joined = join("AbC-_9=", &suffixes);
            assert_eq!(split(&joined), ("AbC-_9=", suffixes), "{joined}");
        }
        assert_eq!(split("id.a.b"), ("id", Suffixes::default()), "no route has a dot");
        assert_eq!(split("id~???.a").1, Suffixes { version: None, route: Some("a".into()) });
        assert_eq!(split("id~!").1, Suffixes::default());
        let now = Stamp(1_780_000_000_000 << 16, 0xFFFF_FFFF_FFFF_FFFF);
        assert!(write_version(now).len() <= 22, "{}", write_version(now));
        assert_eq!(read_version("zzzzzzzzzzzz!1"), None, "more than 64 bits");
    }

    #[test]
    fn cookies_of_requests_are_rewritten_by_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; id=x.nodeA;theme=id=y"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(find(&headers, "id"), Some(("x.nodeA".into(), false)));
        rewrite(&mut headers, "id", |value| Some(split(value).0.to_owned()));
        let all: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(all, ["a=1; id=x; theme=id=y", "b=2"]);
        assert_eq!(find(&headers, "i"), None);
        // Of several, the session layer takes the last.
        headers.append(COOKIE, HeaderValue::from_bytes("name=\u{e9}; id=z.nodeB".as_bytes()).unwrap());
        assert_eq!(find(&headers, "id"), Some(("z.nodeB".into(), true)));
        rewrite(&mut headers, "id", |value| Some(split(value).0.to_owned()));
        assert_eq!(find(&headers, "id"), Some(("z".into(), true)));
        rewrite(&mut headers, "id", |_| None);
        rewrite(&mut headers, "b", |_| None);
        let all: Vec<_> = headers.get_all(COOKIE).iter().map(|value| text(value).unwrap()).collect();
        assert_eq!(all, ["a=1; theme=id=y", "name=\u{e9}"]);
    }

    #[test]
    fn cookies_of_responses_keep_their_attributes_and_removals_stay() {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("id=x; HttpOnly; Path=/"));
        headers.append(SET_COOKIE, HeaderValue::from_static("other=1"));
        assert!(rewrite_set(&mut headers, "id", |value| format!("{value}.a")));
        let all = |headers: &HeaderMap| {
            headers.get_all(SET_COOKIE).iter().map(|it| it.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(all(&headers), ["id=x.a; HttpOnly; Path=/", "other=1"]);
        let mut removal = HeaderMap::new();
        removal.append(SET_COOKIE, HeaderValue::from_static("id=; Max-Age=0; Path=/"));
        assert!(rewrite_set(&mut removal, "id", |value| format!("{value}.a")), "it is set, in a way");
        assert_eq!(all(&removal), ["id=; Max-Age=0; Path=/"]);
        assert!(!rewrite_set(&mut removal, "x", str::to_owned));
        set(&mut removal, "r", "b", "Path=/", Some(Duration::from_secs(60)));
        assert_eq!(all(&removal)[1], "r=b; Path=/; Max-Age=60");
    }
}

//! Cookies, as far as a layer that hangs something on a session's id has to know them.

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

use crate::stamp::Stamp;

/// What hangs on the value of a cookie: `value[~version][.route]`. Neither ids nor base64, of which signed and private cookies
/// consist, contain a dot or a tilde. The route stays last: `mod_jk` and `mod_proxy_balancer` take all that follows the dot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Suffixes<'a> {
    pub(super) version: Option<Stamp>,
    pub(super) route: Option<&'a str>,
}

/// The value without what hangs on it, and that.
pub(super) fn split(value: &str) -> (&str, Suffixes<'_>) {
    let (rest, route) = match value.split_once('.') {
        Some((rest, route)) => (rest, Some(route)),
        None => (value, None),
    };
    let (rest, version) = match rest.split_once('~') {
        Some((rest, version)) => (rest, read_version(version)),
        None => (rest, None),
    };
    (rest, Suffixes { version, route: route.filter(|route| is_route(route)) })
}

/// The value with what is to hang on it.
pub(super) fn join(value: &str, suffixes: Suffixes<'_>) -> String {
    let mut joined = String::with_capacity(value.len() + suffixes.len());
    joined.push_str(value);
    suffixes.hang_on(&mut joined);
    joined
}

impl Suffixes<'_> {
    /// So long it is at most.
    fn len(&self) -> usize {
        self.version.map_or(0, |_| 1 + 2 * DIGITS_OF_64 + 1) + self.route.map_or(0, |route| 1 + route.len())
    }

    fn hang_on(&self, value: &mut String) {
        if let Some(version) = self.version {
            value.push('~');
            write_version(value, version);
        }
        if let Some(route) = self.route {
            value.push('.');
            value.push_str(route);
        }
    }
}

/// Whether this can be the name of a node: letters, digits, `-` and `_`.
pub(super) fn is_route(route: &str) -> bool {
    (1..=64).contains(&route.len()) && route.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// A number of 64 bits in characters of six.
const DIGITS_OF_64: usize = 11;

/// A version in characters of six bits: its time, a dash of its writer.
fn write_version(text: &mut String, version: Stamp) {
    for (mark, number) in [("", version.time()), ("!", version.node())] {
        text.push_str(mark);
        let places = (u64::BITS - number.leading_zeros()).div_ceil(6).max(1);
        let digits = (0..places).rev().map(|place| (number >> (6 * place)) & 63);
        text.extend(
            digits.filter_map(|digit| DIGITS.get(usize::try_from(digit).ok()?)).map(|digit| char::from(*digit)),
        );
    }
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
pub(super) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<(&'a str, bool)> {
    if let Some(only) = only(headers, name) {
        return Some((only, false));
    }
    let values = headers.get_all(COOKIE).iter().filter_map(text);
    let mut found = values.flat_map(pairs).filter(|(found, _)| *found == name).map(|(_, value)| value);
    let first = found.next()?;
    // Not all alike: then some are not as the last.
    Some(found.fold((first, false), |(last, others), value| (value, others || value != last)))
}

/// The value of the cookie of this name, if a request has no other, as most have.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(COOKIE).iter();
    let (only, None) = (values.next()?, values.next()) else { return None };
    let value = only.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    let is_all = value.iter().all(|byte| *byte != b';' && byte.is_ascii_graphic());
    std::str::from_utf8(value).ok().filter(|_| is_all)
}

/// Changes the values of all cookies of this name in a request; those are left out for which there is none.
pub(super) fn rewrite(headers: &mut HeaderMap, name: &str, change: impl Fn(&str) -> Option<&str>) {
    if let Some(changed) = only(headers, name).and_then(&change) {
        if let Ok(changed) = HeaderValue::try_from([name, "=", changed].concat())
            && let Some(value) = headers.get_mut(COOKIE)
        {
            *value = changed;
        }
        return;
    }
    let changed = |value: &HeaderValue| {
        let text = text(value).filter(|text| pairs(text).any(|(found, _)| found == name))?;
        let mut rewritten = String::with_capacity(text.len());
        for pair in text.split(';').map(str::trim) {
            let (before, between) = (rewritten.len(), if rewritten.is_empty() { "" } else { "; " });
            rewritten.push_str(between);
            match pair.split_once('=').filter(|(found, _)| found.trim() == name) {
                Some((_, value)) => match change(value.trim()) {
                    Some(value) => [name, "=", value].iter().for_each(|part| rewritten.push_str(part)),
                    None => rewritten.truncate(before),
                },
                None => rewritten.push_str(pair),
            }
        }
        HeaderValue::try_from(rewritten).ok()
    };
    each(headers, &COOKIE, changed);
}

/// Puts what `change` makes of a header's values, if anything, in their place; those that are empty then are left out.
fn each(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&HeaderValue) -> Option<HeaderValue>) {
    let mut values = headers.get_all(name).iter();
    let (Some(first), rest) = (values.next(), values.next()) else { return };
    if rest.is_none() {
        // As it mostly is: the one is changed where it is.
        match change(first) {
            None => {}
            Some(changed) if changed.is_empty() => drop(headers.remove(name)),
            Some(changed) => {
                if let Some(value) = headers.get_mut(name) {
                    *value = changed;
                }
            }
        }
        return;
    }
    let values: Vec<HeaderValue> =
        headers.get_all(name).iter().map(|value| change(value).unwrap_or_else(|| value.clone())).collect();
    headers.remove(name);
    for value in values.into_iter().filter(|value| !value.is_empty()) {
        headers.append(name, value);
    }
}

/// Browsers send other than ASCII, too.
fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|pair| pair.trim().split_once('=')).map(|(name, value)| (name.trim(), value.trim()))
}

/// Whether a cookie that is set has this name.
fn is_named(value: &HeaderValue, name: &str) -> bool {
    let pair = text(value).and_then(|text| text.split(';').next()).and_then(|pair| pair.split_once('='));
    pair.is_some_and(|(found, _)| found.trim() == name)
}

/// Takes removals of the cookie of this name off a response.
pub(super) fn keep(headers: &mut HeaderMap, name: &str) {
    // One without a value is left out.
    each(headers, &SET_COOKIE, |value| {
        let is_removal = is_named(value, name) && text(value).is_some_and(is_removal);
        is_removal.then(|| HeaderValue::from_static(""))
    });
}

/// Changes the values of the cookies of this name that a response sets; whether it sets or removes one.
pub(super) fn rewrite_set(headers: &mut HeaderMap, name: &str, change: impl Fn(&str) -> String) -> bool {
    let is_named = |value: &HeaderValue| is_named(value, name);
    if !headers.get_all(SET_COOKIE).iter().any(is_named) {
        return false;
    }
    each(headers, &SET_COOKIE, |value| {
        let text = text(value).filter(|text| is_named(value) && !is_removal(text))?;
        let (pair, attributes) = text.split_at(text.find(';').unwrap_or(text.len()));
        let held = change(pair.split_once('=')?.1.trim());
        HeaderValue::try_from([name, "=", &held, attributes].concat()).ok()
    });
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
    set_joined(headers, name, (value, Suffixes::default()), attributes, max_age);
}

/// Sets a cookie whose value has something to hang on it.
pub(super) fn set_joined(
    headers: &mut HeaderMap,
    name: &str,
    (value, suffixes): (&str, Suffixes<'_>),
    attributes: &str,
    max_age: Option<Duration>,
) {
    const MAX_AGE: &str = "; Max-Age=";
    let parts = name.len() + 1 + value.len() + suffixes.len() + 2 + attributes.len();
    let mut cookie = String::with_capacity(parts + max_age.map_or(0, |_| MAX_AGE.len() + 20));
    cookie.extend([name, "=", value]);
    suffixes.hang_on(&mut cookie);
    if !attributes.is_empty() {
        cookie.extend(["; ", attributes]);
    }
    if let Some(max_age) = max_age {
        cookie.push_str(MAX_AGE);
        cookie.push_str(&max_age.as_secs().to_string());
    }
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
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
            let suffixes = Suffixes { version, route };
            let joined = join("AbC-_9=", suffixes);
            assert_eq!(split(&joined), ("AbC-_9=", suffixes), "{joined}");
        }
        assert_eq!(split("id.a.b"), ("id", Suffixes::default()), "no route has a dot");
        assert_eq!(split("id~???.a").1, Suffixes { version: None, route: Some("a") });
        assert_eq!(split("id~!").1, Suffixes::default());
        let now = Stamp(1_780_000_000_000 << 16, 0xFFFF_FFFF_FFFF_FFFF);
        let mut text = String::new();
        write_version(&mut text, now);
        assert!(text.len() <= 22, "{text}");
        assert_eq!(read_version("zzzzzzzzzzzz!1"), None, "more than 64 bits");
    }

    #[test]
    fn cookies_of_requests_are_rewritten_by_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; id=x.nodeA;theme=id=y"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(find(&headers, "id"), Some(("x.nodeA", false)));
        rewrite(&mut headers, "id", |value| Some(split(value).0));
        let all: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(all, ["a=1; id=x; theme=id=y", "b=2"]);
        assert_eq!(find(&headers, "i"), None);
        // Of several, the session layer takes the last.
        headers.append(COOKIE, HeaderValue::from_bytes("name=\u{e9}; id=z.nodeB".as_bytes()).unwrap());
        assert_eq!(find(&headers, "id"), Some(("z.nodeB", true)));
        rewrite(&mut headers, "id", |value| Some(split(value).0));
        assert_eq!(find(&headers, "id"), Some(("z", true)));
        rewrite(&mut headers, "id", |_| None);
        rewrite(&mut headers, "b", |_| None);
        let all: Vec<_> = headers.get_all(COOKIE).iter().map(|value| text(value).unwrap()).collect();
        assert_eq!(all, ["a=1; theme=id=y", "name=\u{e9}"]);
    }

    #[test]
    fn the_only_cookie_of_a_request_is_as_any_other() {
        let with = |cookie: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))]);
        for (cookie, is_only) in [
            ("id=x.a", true),
            ("id=", true),
            (" id=x.a", false),
            ("id=x.a ", false),
            ("id=x.a;", false),
            ("idx=x.a", false),
        ] {
            assert_eq!(only(&with(cookie), "id").is_some(), is_only, "{cookie:?}");
        }
        for cookie in ["id=x.a", " id = x.a", "id=x.a;"] {
            let mut headers = with(cookie);
            assert_eq!(find(&headers, "id"), Some(("x.a", false)), "{cookie:?}");
            rewrite(&mut headers, "id", |value| Some(split(value).0));
            assert_eq!(find(&headers, "id"), Some(("x", false)), "{cookie:?}");
            rewrite(&mut headers, "id", |_| None);
            assert_eq!(find(&headers, "id"), None, "{cookie:?}");
        }
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

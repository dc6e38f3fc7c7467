//! The kinds of values that settings have: how they are written, and what their bounds are.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::units::{format_duration, format_size, parse_duration, parse_size};
use crate::SendOptions;

/// How values of a setting are written, read and bounded.
pub trait Kind {
    /// The values.
    type Value;

    /// Reads one; `None` if it is none of this kind or out of bounds.
    fn parse(&self, text: &str) -> Option<Self::Value>;

    /// Writes one so that [`parse`](Self::parse) reads it.
    fn show(&self, value: &Self::Value) -> String;

    /// Whether a value that was set in code is within the bounds.
    fn allows(&self, value: &Self::Value) -> bool {
        self.parse(&self.show(value)).is_some()
    }

    /// What values look like, for help, errors and schemas.
    fn shape(&self) -> Shape;
}

/// What the values of a setting look like.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A number with a fraction.
    Fraction {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// A duration such as `250ms`.
    Duration {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A size in bytes such as `64KiB`.
    Size {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// Send options: names joined by commas, or an integer.
    Options,
    /// One of these words.
    Choice(Vec<&'static str>),
    /// Any text of this form.
    Text {
        /// The form, as in "must be …".
        expected: &'static str,
    },
    /// Several of these, as an array, or in one text joined by `+`.
    List(Box<Self>),
    /// This word for "none", or a value.
    Or(&'static str, Box<Self>),
}

impl Shape {
    /// Whether an array can be meant.
    #[cfg(feature = "config")]
    pub(crate) fn is_list(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Or(_, inner) => inner.is_list(),
            _ => false,
        }
    }
}

impl Display for Shape {
    /// As in "must be …".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("true or false"),
            Self::Number { min, max: u64::MAX } => write!(f, "a whole number, at least {min}"),
            Self::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Fraction { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Duration { min, max } => {
                write!(f, "a duration from {} to {}, such as 250ms", format_duration(*min), format_duration(*max))
            }
            Self::Size { min, max: u64::MAX } => write!(f, "a size, at least {}, such as 64KiB", format_size(*min)),
            Self::Size { min, max } => {
                write!(f, "a size from {} to {}, such as 64KiB", format_size(*min), format_size(*max))
            }
            Self::Options => f.write_str("names of send options joined by commas, such as ack,sync, or an integer"),
            Self::Choice(words) => f.write_str(&words.join(" or ")),
            Self::Text { expected } => f.write_str(expected),
            Self::List(inner) => write!(f, "a list, or a text joined by +, each {inner}"),
            Self::Or(word, inner) => write!(f, "{word}, or {inner}"),
        }
    }
}

/// Whole numbers that can be settings.
pub trait Whole: Copy + TryFrom<u64> + TryInto<u64> {}
impl Whole for u8 {}
impl Whole for u16 {}
impl Whole for u32 {}
impl Whole for u64 {}
impl Whole for usize {}

/// See [`flag`].
#[derive(Clone, Copy, Debug)]
pub struct Flag;

/// `true` or `false`.
#[must_use]
pub const fn flag() -> Flag {
    Flag
}

impl Kind for Flag {
    type Value = bool;
    fn parse(&self, text: &str) -> Option<bool> {
        text.trim().parse().ok()
    }
    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
    fn shape(&self) -> Shape {
        Shape::Flag
    }
}

/// See [`number`] and [`size`].
#[derive(Clone, Debug)]
pub struct Number<T> {
    bounds: RangeInclusive<u64>,
    bytes: bool,
    value: PhantomData<T>,
}

/// A whole number within these bounds.
#[must_use]
pub const fn number<T: Whole>(bounds: RangeInclusive<u64>) -> Number<T> {
    Number { bounds, bytes: false, value: PhantomData }
}

/// A size in bytes within these bounds: `1000`, `64KiB`.
#[must_use]
pub const fn size<T: Whole>(bounds: RangeInclusive<u64>) -> Number<T> {
    Number { bounds, bytes: true, value: PhantomData }
}

impl<T: Whole> Kind for Number<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Option<T> {
        let number = if self.bytes { parse_size(text) } else { text.trim().parse().ok() };
        T::try_from(number.filter(|number| self.bounds.contains(number))?).ok()
    }
    fn show(&self, value: &T) -> String {
        let number = (*value).try_into().unwrap_or(u64::MAX);
        if self.bytes { format_size(number) } else { number.to_string() }
    }
    fn shape(&self) -> Shape {
        let (min, max) = (*self.bounds.start(), *self.bounds.end());
        if self.bytes { Shape::Size { min, max } } else { Shape::Number { min, max } }
    }
}

/// See [`fraction`].
#[derive(Clone, Debug)]
pub struct Fraction(RangeInclusive<f64>);

/// A number with a fraction within these bounds: `0.05`, or `5%`.
#[must_use]
pub const fn fraction(bounds: RangeInclusive<f64>) -> Fraction {
    Fraction(bounds)
}

impl Kind for Fraction {
    type Value = f64;
    fn parse(&self, text: &str) -> Option<f64> {
        let number: f64 = match text.trim().strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().ok()? / 100.0,
            None => text.trim().parse().ok()?,
        };
        self.0.contains(&number).then_some(number)
    }
    fn show(&self, value: &f64) -> String {
        value.to_string()
    }
    fn shape(&self) -> Shape {
        Shape::Fraction { min: *self.0.start(), max: *self.0.end() }
    }
}

/// See [`duration`].
#[derive(Clone, Debug)]
pub struct Span(RangeInclusive<Duration>);

/// A duration within these bounds: `250ms`, `3s`, `5m`.
#[must_use]
pub const fn duration(bounds: RangeInclusive<Duration>) -> Span {
    Span(bounds)
}

impl Kind for Span {
    type Value = Duration;
    fn parse(&self, text: &str) -> Option<Duration> {
        parse_duration(text).filter(|duration| self.0.contains(duration))
    }
    fn show(&self, value: &Duration) -> String {
        format_duration(*value)
    }
    fn allows(&self, value: &Duration) -> bool {
        self.0.contains(value)
    }
    fn shape(&self) -> Shape {
        Shape::Duration { min: *self.0.start(), max: *self.0.end() }
    }
}

/// See [`options`].
#[derive(Clone, Copy, Debug)]
pub struct Options;

/// Send options: names joined by commas, or an integer.
#[must_use]
pub const fn options() -> Options {
    Options
}

impl Kind for Options {
    type Value = SendOptions;
    fn parse(&self, text: &str) -> Option<SendOptions> {
        text.parse().ok()
    }
    fn show(&self, value: &SendOptions) -> String {
        value.to_string().replace(' ', "")
    }
    fn shape(&self) -> Shape {
        Shape::Options
    }
}

/// See [`choice`].
#[derive(Clone, Copy, Debug)]
pub struct Choice<T: 'static>(&'static [(&'static str, T)]);

/// One of these words, each for a value.
#[must_use]
pub const fn choice<T: Copy + PartialEq>(words: &'static [(&'static str, T)]) -> Choice<T> {
    Choice(words)
}

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| *word == text.trim()).map(|(_, value)| *value)
    }
    fn show(&self, value: &T) -> String {
        self.0.iter().find(|(_, known)| known == value).map_or_else(String::new, |(word, _)| (*word).to_owned())
    }
    fn shape(&self) -> Shape {
        Shape::Choice(self.0.iter().map(|(word, _)| *word).collect())
    }
}

/// See [`parsed`].
#[derive(Clone, Copy, Debug)]
pub struct Parsed<T> {
    expected: &'static str,
    value: PhantomData<T>,
}

/// Whatever the type itself reads and writes; `expected` says what that looks like, as in "must be …".
#[must_use]
pub const fn parsed<T: FromStr + Display>(expected: &'static str) -> Parsed<T> {
    Parsed { expected, value: PhantomData }
}

/// An IP address.
#[must_use]
pub const fn address() -> Parsed<IpAddr> {
    parsed("an IP address")
}

/// Any text that is not empty.
#[must_use]
pub const fn text() -> Text {
    Text("a text that is not empty")
}

impl<T: FromStr + Display> Kind for Parsed<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Option<T> {
        text.trim().parse().ok()
    }
    fn show(&self, value: &T) -> String {
        value.to_string()
    }
    fn shape(&self) -> Shape {
        Shape::Text { expected: self.expected }
    }
}

/// See [`text`].
#[derive(Clone, Copy, Debug)]
pub struct Text(&'static str);

impl Kind for Text {
    type Value = String;
    fn parse(&self, text: &str) -> Option<String> {
        (!text.is_empty()).then(|| text.to_owned())
    }
    fn show(&self, value: &String) -> String {
        value.clone()
    }
    fn shape(&self) -> Shape {
        Shape::Text { expected: self.0 }
    }
}

/// See [`custom`].
#[derive(Clone, Copy, Debug)]
pub struct Custom<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
    show: fn(&T) -> String,
}

/// Read and written by these functions; `expected` says what it looks like, as in "must be …".
#[must_use]
pub const fn custom<T>(expected: &'static str, parse: fn(&str) -> Option<T>, show: fn(&T) -> String) -> Custom<T> {
    Custom { expected, parse, show }
}

impl<T> Kind for Custom<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Option<T> {
        (self.parse)(text.trim())
    }
    fn show(&self, value: &T) -> String {
        (self.show)(value)
    }
    fn shape(&self) -> Shape {
        Shape::Text { expected: self.expected }
    }
}

/// The path of a file.
#[must_use]
pub const fn path() -> Custom<PathBuf> {
    custom(
        "the path of a file",
        |text| (!text.is_empty()).then(|| PathBuf::from(text)),
        |path| path.display().to_string(),
    )
}

/// See [`list`].
#[derive(Clone, Debug)]
pub struct List<K> {
    kind: K,
    count: RangeInclusive<usize>,
}

/// Several values, as many as these bounds say: an array, or one text joined by `+`.
#[must_use]
pub const fn list<K: Kind>(count: RangeInclusive<usize>, kind: K) -> List<K> {
    List { kind, count }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;
    fn parse(&self, text: &str) -> Option<Self::Value> {
        let values: Option<Vec<_>> = match text.trim() {
            "" => Some(Vec::new()),
            text => text.split('+').map(|part| self.kind.parse(part.trim())).collect(),
        };
        values.filter(|values| self.count.contains(&values.len()))
    }
    fn show(&self, value: &Self::Value) -> String {
        value.iter().map(|value| self.kind.show(value)).collect::<Vec<_>>().join("+")
    }
    fn allows(&self, value: &Self::Value) -> bool {
        self.count.contains(&value.len()) && value.iter().all(|value| self.kind.allows(value))
    }
    fn shape(&self) -> Shape {
        Shape::List(Box::new(self.kind.shape()))
    }
}

/// See [`optional`].
#[derive(Clone, Copy, Debug)]
pub struct Or<K> {
    none: &'static str,
    kind: K,
}

/// A value, or this word for `None`.
#[must_use]
pub const fn optional<K: Kind>(none: &'static str, kind: K) -> Or<K> {
    Or { none, kind }
}

impl<K: Kind> Kind for Or<K> {
    type Value = Option<K::Value>;
    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.trim() == self.none { Some(None) } else { self.kind.parse(text).map(Some) }
    }
    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| self.none.to_owned(), |value| self.kind.show(value))
    }
    fn allows(&self, value: &Self::Value) -> bool {
        value.as_ref().is_none_or(|value| self.kind.allows(value))
    }
    fn shape(&self) -> Shape {
        Shape::Or(self.none, Box::new(self.kind.shape()))
    }
}

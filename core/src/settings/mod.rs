//! What can be set about a part of a channel, declared once, for all who read or write it: the configuration file, the
//! command line, `tribes check`, the JSON schema, and code.
//!
//! A part's configuration is a plain struct with public fields. [`settings!`](crate::settings!) says for each field that has a key
//! how it is written, within which bounds, and what it is for:
//!
//! ```
//! use std::time::Duration;
//! use tribes_core::settings::{Settings, duration, number};
//!
//! #[derive(Clone, Debug)]
//! pub struct ThrottleConfig {
//!     pub pause: Duration,
//!     pub burst: usize,
//! }
//!
//! impl Default for ThrottleConfig {
//!     fn default() -> Self {
//!         Self { pause: Duration::from_millis(10), burst: 16 }
//!     }
//! }
//!
//! tribes_core::settings! { ThrottleConfig {
//!     pause: duration(Duration::from_millis(1)..=Duration::from_secs(60)), "Time between two bursts.";
//!     burst: number(1..=1000), "Messages in a burst.";
//! } }
//!
//! let mut config = ThrottleConfig::default();
//! config.set("pause", "250ms")?;
//! assert_eq!(config.pause, Duration::from_millis(250));
//! let error = config.set("burst", "0").unwrap_err();
//! assert_eq!(error.to_string(), r#"burst is "0", but must be a whole number from 1 to 1000"#);
//! assert!(config.set("brust", "1").unwrap_err().to_string().contains(r#"did you mean "burst"?"#));
//! # Ok::<(), tribes_core::settings::SettingFault>(())
//! ```

mod fault;
mod kind;
mod units;

pub(crate) use fault::nearest;
pub use fault::{Problem, SettingFault};
pub use kind::{
    Choice, Custom, Flag, Fraction, Kind, List, Number, Options, Or, Parsed, Shape, Span, Text, Whole, address, choice,
    custom, duration, flag, fraction, list, number, optional, options, parsed, path, size, text,
};
pub use units::{format_duration, format_size, parse_duration, parse_size};

/// A configuration whose fields can be set by key and text. Implemented by [`settings!`](crate::settings!).
pub trait Settings: Clone + Default + Send + Sync + 'static {
    /// The keys, in the order in which they are shown.
    fn table() -> &'static [Setting<Self>];

    /// What settings ask of each other; each is within its own bounds by then.
    ///
    /// # Errors
    /// [`SettingFault::together`] with the key to change.
    fn check(&self) -> Result<(), SettingFault> {
        Ok(())
    }

    /// Sets what has this key from text.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    fn set(&mut self, key: &str, value: &str) -> Result<(), SettingFault> {
        let Some(setting) = Self::table().iter().find(|setting| setting.key == key) else {
            let known = Self::table().iter().map(|setting| setting.key).collect();
            // A secret may have come into the place of a key.
            return Err(SettingFault { key: Self::shown(key), problem: Problem::Unknown { known } });
        };
        (setting.set)(self, value).ok_or_else(|| {
            let shown = if setting.secret { "(hidden)".to_owned() } else { Self::shown(value) };
            SettingFault::invalid(key, shown, (setting.shape)().to_string())
        })
    }

    /// A key or value as errors may show it: next to a secret setting, what looks like a secret itself is hidden, for it may
    /// have come into the wrong place.
    #[doc(hidden)]
    fn shown(text: &str) -> String {
        let runs = text.as_bytes().split(|byte| !byte.is_ascii_hexdigit());
        let looks_like_one = runs.map(<[u8]>::len).max().is_some_and(|digits| digits >= 16);
        let hides = looks_like_one && Self::table().iter().any(|setting| setting.secret);
        if hides { "(hidden)".to_owned() } else { text.to_owned() }
    }

    /// The defaults with these settings.
    ///
    /// # Errors
    /// Everything that is wrong.
    fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Vec<SettingFault>> {
        let mut config = Self::default();
        let mut faults = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for (key, value) in pairs {
            if !seen.insert(key) {
                faults.push(SettingFault { key: key.to_owned(), problem: Problem::Twice });
            } else if let Err(fault) = config.set(key, value) {
                faults.push(fault);
            }
        }
        if faults.is_empty() { config.validate().map_err(|fault| vec![fault]).map(|()| config) } else { Err(faults) }
    }

    /// Checks what was set in code: all bounds, and what settings ask of each other.
    ///
    /// # Errors
    /// The first setting that cannot be.
    fn validate(&self) -> Result<(), SettingFault> {
        for setting in Self::table() {
            if !(setting.allows)(self) {
                let shown = if setting.secret { "(hidden)".to_owned() } else { (setting.get)(self) };
                return Err(SettingFault::invalid(setting.key, shown, (setting.shape)().to_string()));
            }
        }
        self.check()
    }

    /// What can be set, without the type.
    fn describe() -> Vec<SettingInfo> {
        let defaults = Self::default();
        let info = |setting: &Setting<Self>| SettingInfo {
            key: setting.key,
            help: setting.help,
            shape: (setting.shape)(),
            default: (setting.get)(&defaults),
            secret: setting.secret,
        };
        Self::table().iter().map(info).collect()
    }
}

/// No settings at all.
impl Settings for () {
    fn table() -> &'static [Setting<Self>] {
        &[]
    }
}

/// One key of a configuration `C`; made by [`settings!`](crate::settings!).
#[derive(Clone, Copy, Debug)]
pub struct Setting<C> {
    /// The key, in snake_case.
    pub key: &'static str,
    /// What it is for, in a sentence.
    pub help: &'static str,
    /// Never shown: not in errors, not by `tribes check`.
    pub secret: bool,
    #[doc(hidden)]
    pub shape: fn() -> Shape,
    #[doc(hidden)]
    pub set: fn(&mut C, &str) -> Option<()>,
    #[doc(hidden)]
    pub get: fn(&C) -> String,
    #[doc(hidden)]
    pub allows: fn(&C) -> bool,
}

/// What there is to know of a setting.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SettingInfo {
    /// The key, in snake_case.
    pub key: &'static str,
    /// What it is for, in a sentence.
    pub help: &'static str,
    /// What values look like.
    pub shape: Shape,
    /// The default, as it would be written; empty for an empty list.
    pub default: String,
    /// Never shown.
    pub secret: bool,
}

/// Declares the [`Settings`] of a configuration: for each field its [kind](Kind), and a sentence of help. The key is the field's
/// name; `key "name"` after the field gives another, which the field of a field (`limits.max_frame key "max_frame"`) needs.
/// What is no field of its own has two functions in its place, which get and put the value: `"name" via(get, put): …`, with
/// `fn(&Config) -> Value` and `fn(&mut Config, Value)`. `secret` before either hides the values. After the fields,
/// `check(|config| …)` may say what settings ask of each other.
///
/// ```
/// use tribes_core::settings::{SettingFault, Settings, flag, size};
///
/// #[derive(Clone, Debug, Default)]
/// struct CacheConfig {
///     size: usize,
///     spill: bool,
/// }
///
/// tribes_core::settings! { CacheConfig {
///     size: size(0..=1 << 30), "Bytes kept.";
///     spill: flag(), "Whether what is too much goes to disk.";
/// } check(|config| {
///     if config.spill && config.size == 0 {
///         return Err(SettingFault::together("spill", "there is nothing to spill while size is 0"));
///     }
///     Ok(())
/// }) }
///
/// assert!(CacheConfig::from_pairs([("spill", "true")]).is_err());
/// assert_eq!(CacheConfig::from_pairs([("spill", "true"), ("size", "1KiB")]).unwrap().size, 1024);
/// ```
#[macro_export]
macro_rules! settings {
    ($config:ty { $($body:tt)* } $(check($check:expr))?) => {
        impl $crate::settings::Settings for $config {
            fn table() -> &'static [$crate::settings::Setting<Self>] {
                const TABLE: &[$crate::settings::Setting<$config>] = $crate::settings!(@rows [$config] [] $($body)*);
                TABLE
            }
            $(fn check(&self) -> ::core::result::Result<(), $crate::settings::SettingFault> {
                let check: fn(&Self) -> ::core::result::Result<(), $crate::settings::SettingFault> = $check;
                check(self)
            })?
        }
    };
    (@rows [$config:ty] [$($done:expr,)*]) => { &[$($done,)*] };
    (@rows [$config:ty] [$($done:expr,)*] secret $field:ident $(. $inner:ident)* $(key $key:literal)? : $kind:expr, $help:literal; $($rest:tt)*) => {
        $crate::settings!(@rows [$config] [$($done,)* $crate::settings!(@row [$config] [$field $(. $inner)*] [$($key)?] $kind, $help, true),] $($rest)*)
    };
    (@rows [$config:ty] [$($done:expr,)*] $field:ident $(. $inner:ident)* $(key $key:literal)? : $kind:expr, $help:literal; $($rest:tt)*) => {
        $crate::settings!(@rows [$config] [$($done,)* $crate::settings!(@row [$config] [$field $(. $inner)*] [$($key)?] $kind, $help, false),] $($rest)*)
    };
    (@rows [$config:ty] [$($done:expr,)*] secret $key:literal via($get:expr, $put:expr) : $kind:expr, $help:literal; $($rest:tt)*) => {
        $crate::settings!(@rows [$config] [$($done,)* $crate::settings!(@via [$config] $key, $get, $put, $kind, $help, true),] $($rest)*)
    };
    (@rows [$config:ty] [$($done:expr,)*] $key:literal via($get:expr, $put:expr) : $kind:expr, $help:literal; $($rest:tt)*) => {
        $crate::settings!(@rows [$config] [$($done,)* $crate::settings!(@via [$config] $key, $get, $put, $kind, $help, false),] $($rest)*)
    };
    (@via [$config:ty] $key:literal, $get:expr, $put:expr, $kind:expr, $help:literal, $secret:literal) => {
        $crate::settings::Setting {
            key: $key,
            help: $help,
            secret: $secret,
            shape: || $crate::settings::shape_via(&$kind, $get),
            set: |config: &mut $config, text: &str| {
                $put(config, $crate::settings::Kind::parse(&$kind, text)?);
                ::core::option::Option::Some(())
            },
            get: |config: &$config| $crate::settings::Kind::show(&$kind, &$get(config)),
            allows: |config: &$config| $crate::settings::Kind::allows(&$kind, &$get(config)),
        }
    };
    (@row [$config:ty] [$($field:tt)+] [$($key:literal)?] $kind:expr, $help:literal, $secret:literal) => {
        $crate::settings::Setting {
            key: $crate::settings!(@key [$($field)+] $($key)?),
            help: $help,
            secret: $secret,
            shape: || $crate::settings::shape_of(&$kind, |config: &$config| &config.$($field)+),
            set: |config: &mut $config, text: &str| {
                config.$($field)+ = $crate::settings::Kind::parse(&$kind, text)?;
                ::core::option::Option::Some(())
            },
            get: |config: &$config| $crate::settings::Kind::show(&$kind, &config.$($field)+),
            allows: |config: &$config| $crate::settings::Kind::allows(&$kind, &config.$($field)+),
        }
    };
    (@key [$field:ident]) => { stringify!($field) };
    (@key [$($field:tt)+] $key:literal) => { $key };
}

/// The shape of a kind; the field tells which type a number has.
#[doc(hidden)]
pub fn shape_of<C, K: Kind>(kind: &K, _field: fn(&C) -> &K::Value) -> Shape {
    kind.shape()
}

#[doc(hidden)]
pub fn shape_via<C, K: Kind>(kind: &K, _get: fn(&C) -> K::Value) -> Shape {
    kind.shape()
}

#[cfg(test)]
mod tests;

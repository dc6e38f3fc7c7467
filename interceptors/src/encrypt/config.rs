//! Options of [`Encrypt`](super::Encrypt).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::NAME;
use super::algorithm::Algorithm;
use super::key::{Key, KeyError, KeySource, MAX_KEYS, shown};
use crate::ConfigError;
use crate::config::duration;

/// Which format is sealed, and hence who can be in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Tribes' own: everybody, Java included. Nothing but the body is protected.
    #[default]
    Tribes,
    /// Ours: vouches for envelope and destinations, too, and refuses replays without a clock. Only our own nodes read it; what
    /// becomes of Java members says [`TowardsJava`].
    Authenticated,
}

/// What becomes of messages to and from Java members in [`Mode::Authenticated`]. They are never sent in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TowardsJava {
    /// A message fails for them, and theirs are refused.
    #[default]
    Refuse,
    /// As in [`Mode::Tribes`], with the same keys. Whoever can change bytes on the way can then pass off what one of our nodes
    /// sent to a Java member as sent by a Java member to any of ours.
    Tribes,
}

/// What stands inside of Tribes' sealed bodies. Nothing on the wire tells the two apart: all members need the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Layout {
    /// A time, then the body: Tribes from 9.0.119, 10.1.56 and 11.0.23 on.
    #[default]
    Current,
    /// The body alone: Tribes before that. Replays are not noticed.
    BeforeTimestamps,
}

/// Options of [`Encrypt`](super::Encrypt).
///
/// | key | default | bounds | Tribes |
/// |---|---|---|---|
/// | `key` | none | 32, 48 or 64 hexadecimal digits; several joined by `+` | `encryptionKey` |
/// | `key_file` | none | a file of at most 64 KiB with one key a line | |
/// | `key_env` | none | the name of an environment variable | |
/// | `mode` | `tribes` | `tribes`, `authenticated` | |
/// | `towards_java` | `refuse` | `refuse`, `tribes`; only in authenticated mode | |
/// | `algorithm` | `AES/GCM/NoPadding` | see [`Algorithm`] | `encryptionAlgorithm` |
/// | `legacy` | `false` | `true` allows algorithms without authentication | |
/// | `layout` | `current` | `current`, `before-10.1.56` | |
/// | `replay_window_time` | `10s` | 1 ms to 24 h, or `off` | `replayWindowTime` |
/// | `replay_window_message_count` | 65,536 | 1 to 1,048,576 | `replayWindowMessageCount`, 8,192 |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncryptConfig {
    /// Where the keys come from, in this order; together 1 to [`MAX_KEYS`]. The very first seals, any of them opens. Default:
    /// none, with which no channel is built; but see [`Encrypt::set_keys`](super::Encrypt::set_keys).
    pub keys: Vec<KeySource>,
    /// Which format is sealed. Default [`Mode::Tribes`].
    pub mode: Mode,
    /// What becomes of Java members in authenticated mode. Default [`TowardsJava::Refuse`].
    pub towards_java: TowardsJava,
    /// How bodies are encrypted. Default [`Algorithm::Gcm`]; authenticated mode has no other.
    pub algorithm: Algorithm,
    /// Allows the algorithms without authentication. Default `false`.
    pub legacy: bool,
    /// What stands inside. Default [`Layout::Current`].
    pub layout: Layout,
    /// How far a sender's clock may be from ours, both ways, in Tribes' format; `None`: replays are not looked for. Default
    /// [`EncryptConfig::REPLAY_WINDOW_TIME`].
    pub replay_window_time: Option<Duration>,
    /// How many messages are remembered within that time. When more come, what is older than the forgotten ones is refused.
    /// Takes up to 50 bytes each. Default [`EncryptConfig::REPLAY_WINDOW_MESSAGE_COUNT`].
    pub replay_window_message_count: usize,
}

const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
const COUNTS: RangeInclusive<usize> = 1..=1_048_576;
const EXPECTED_TIME: &str = "a duration from 1ms to 24h, or off";
const EXPECTED_COUNT: &str = "a number from 1 to 1048576";

impl EncryptConfig {
    /// The default of [`replay_window_time`](Self::replay_window_time), as in Tribes.
    pub const REPLAY_WINDOW_TIME: Duration = Duration::from_secs(10);
    /// The default of [`replay_window_message_count`](Self::replay_window_message_count). Tribes' 8,192 refuse honest messages
    /// from about 800 a second on (T15).
    pub const REPLAY_WINDOW_MESSAGE_COUNT: usize = 65_536;

    const KEYS: &'static [&'static str] = &[
        "algorithm",
        "key",
        "key_env",
        "key_file",
        "layout",
        "legacy",
        "mode",
        "replay_window_message_count",
        "replay_window_time",
        "towards_java",
    ];

    /// With these keys: the first seals, any of them opens.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.keys = vec![KeySource::Inline(keys.into_iter().collect())];
        self
    }

    /// With keys from here, after those that there are.
    #[must_use]
    pub fn with_source(mut self, source: KeySource) -> Self {
        self.keys.push(source);
        self
    }

    /// With this mode.
    #[must_use]
    pub const fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// With this way to treat Java members in authenticated mode.
    #[must_use]
    pub const fn with_towards_java(mut self, towards_java: TowardsJava) -> Self {
        self.towards_java = towards_java;
        self
    }

    /// With this algorithm; those without authentication need [`with_legacy`](Self::with_legacy), too.
    #[must_use]
    pub const fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// With or without leave to use an algorithm without authentication.
    #[must_use]
    pub const fn with_legacy(mut self, legacy: bool) -> Self {
        self.legacy = legacy;
        self
    }

    /// With this layout.
    #[must_use]
    pub const fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With this replay window; `None` for none.
    #[must_use]
    pub const fn with_replay_window_time(mut self, time: Option<Duration>) -> Self {
        self.replay_window_time = time;
        self
    }

    /// With so many messages remembered in the replay window.
    #[must_use]
    pub const fn with_replay_window_message_count(mut self, count: usize) -> Self {
        self.replay_window_message_count = count;
        self
    }

    /// Sets an option from text; the keys are in the table above. `key`, `key_file` and `key_env` each replace what they set
    /// before, and stand in the order in which they were first set.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged. The error never shows a key, even one in the wrong place.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: shown(key), known: Self::KEYS });
        };
        let text = value.trim();
        let invalid = |expected| invalid(key, value, expected);
        match key {
            "key" => {
                let keys = Key::several_from_hex(text).map_err(|_not_shown| {
                    hidden("hexadecimal digits of a key of 128, 192 or 256 bits, or of several joined by +")
                })?;
                self.replace(KeySource::Inline(keys));
            }
            "key_file" | "key_env" if text.is_empty() => return Err(invalid("a name")),
            "key_file" => self.replace(KeySource::File(text.into())),
            "key_env" => self.replace(KeySource::Env(text.to_owned())),
            "mode" => {
                self.mode = match text {
                    "tribes" => Mode::Tribes,
                    "authenticated" => Mode::Authenticated,
                    _ => return Err(invalid("tribes or authenticated")),
                }
            }
            "towards_java" => {
                self.towards_java = match text {
                    "refuse" => TowardsJava::Refuse,
                    "tribes" => TowardsJava::Tribes,
                    _ => return Err(invalid("refuse or tribes")),
                }
            }
            "algorithm" => {
                self.algorithm = Algorithm::from_name(text).ok_or_else(|| invalid(Algorithm::EXPECTED))?;
            }
            "legacy" => self.legacy = text.parse().map_err(|_not_a_bool| invalid("true or false"))?,
            "layout" => {
                self.layout = match text {
                    "current" => Layout::Current,
                    "before-10.1.56" => Layout::BeforeTimestamps,
                    _ => return Err(invalid("current or before-10.1.56")),
                }
            }
            "replay_window_time" if text == "off" => self.replay_window_time = None,
            "replay_window_time" => {
                let time = duration(text).filter(|time| TIMES.contains(time));
                self.replay_window_time = Some(time.ok_or_else(|| invalid(EXPECTED_TIME))?);
            }
            _ => {
                let count = text.parse().ok().filter(|count| COUNTS.contains(count));
                self.replay_window_message_count = count.ok_or_else(|| invalid(EXPECTED_COUNT))?;
            }
        }
        Ok(())
    }

    /// Puts `source` in the place of the one of its kind, or at the end.
    fn replace(&mut self, source: KeySource) {
        let kind = std::mem::discriminant(&source);
        match self.keys.iter_mut().find(|known| std::mem::discriminant(*known) == kind) {
            Some(known) => *known = source,
            None => self.keys.push(source),
        }
    }

    /// Checks what the type system does not, and what options ask of each other.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.algorithm.is_legacy() && !self.legacy {
            let expected = "AES/GCM/NoPadding, or have legacy = true beside it: nothing vouches for what it encrypts";
            return Err(invalid("algorithm", self.algorithm.name(), expected));
        }
        if self.algorithm.is_legacy() && self.mode == Mode::Authenticated {
            return Err(invalid("algorithm", self.algorithm.name(), "AES/GCM/NoPadding in authenticated mode"));
        }
        if let Some(time) = self.replay_window_time.filter(|time| !TIMES.contains(time)) {
            return Err(invalid("replay_window_time", &format!("{time:?}"), EXPECTED_TIME));
        }
        if !COUNTS.contains(&self.replay_window_message_count) {
            let count = self.replay_window_message_count.to_string();
            return Err(invalid("replay_window_message_count", &count, EXPECTED_COUNT));
        }
        Ok(())
    }

    /// Checks the keys as far as they stand in the configuration itself.
    pub(super) fn check_inline_keys(&self) -> Result<(), KeyError> {
        if self.keys.iter().all(|source| matches!(source, KeySource::Inline(_))) {
            self.load_keys().map(drop)
        } else {
            Ok(())
        }
    }

    /// All keys, in order.
    pub(super) fn load_keys(&self) -> Result<Vec<Key>, KeyError> {
        let mut keys = Vec::with_capacity(MAX_KEYS);
        for source in &self.keys {
            keys.append(&mut source.load()?);
        }
        self.check_keys(&keys)?;
        Ok(keys)
    }

    /// Whether these keys, the first of them the one that seals, go with the other options.
    pub(super) fn check_keys(&self, keys: &[Key]) -> Result<(), KeyError> {
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        if keys.len() > MAX_KEYS {
            return Err(KeyError::TooMany { count: keys.len() });
        }
        // One wrong key in 256 seems to fit: the padding looks right by chance.
        let is_told_by_time = self.layout == Layout::Current && self.replay_window_time.is_some();
        if keys.len() > 1 && self.algorithm.is_legacy() && !is_told_by_time {
            return Err(KeyError::Ambiguous { algorithm: self.algorithm.name() });
        }
        Ok(())
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: shown(value), expected }
}

/// An error about a key, which is not shown.
fn hidden(expected: &'static str) -> ConfigError {
    invalid("key", "(hidden)", expected)
}

impl Default for EncryptConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            mode: Mode::default(),
            towards_java: TowardsJava::default(),
            algorithm: Algorithm::default(),
            legacy: false,
            layout: Layout::default(),
            replay_window_time: Some(Self::REPLAY_WINDOW_TIME),
            replay_window_message_count: Self::REPLAY_WINDOW_MESSAGE_COUNT,
        }
    }
}

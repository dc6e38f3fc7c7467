//! Options of [`Encrypt`](super::Encrypt).

use std::path::PathBuf;
use std::time::Duration;

use tribes_core::settings::{Kind, SettingFault, Shape, choice, custom, duration, flag, number, optional, path};

use super::algorithm::Algorithm;
use super::key::{Key, KeyError, KeySource, MAX_KEYS};

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
/// Set from text, `key`, `key_file` and `key_env` each replace what they set before, and stand in the order in which they
/// were first set. No error shows a key.
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

impl EncryptConfig {
    /// The default of [`replay_window_time`](Self::replay_window_time), as in Tribes.
    pub const REPLAY_WINDOW_TIME: Duration = Duration::from_secs(10);
    /// The default of [`replay_window_message_count`](Self::replay_window_message_count). Tribes' 8,192 refuse honest messages
    /// from about 800 a second on (T15).
    pub const REPLAY_WINDOW_MESSAGE_COUNT: usize = 65_536;

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

    fn inline(&self) -> Option<Vec<Key>> {
        self.keys.iter().find_map(|source| if let KeySource::Inline(keys) = source { Some(keys.clone()) } else { None })
    }

    fn set_inline(&mut self, keys: Option<Vec<Key>>) {
        self.replace(|source| matches!(source, KeySource::Inline(_)), keys.map(KeySource::Inline));
    }

    fn file(&self) -> Option<PathBuf> {
        self.keys.iter().find_map(|source| if let KeySource::File(path) = source { Some(path.clone()) } else { None })
    }

    fn set_file(&mut self, path: Option<PathBuf>) {
        self.replace(|source| matches!(source, KeySource::File(_)), path.map(KeySource::File));
    }

    fn env(&self) -> Option<String> {
        self.keys.iter().find_map(|source| if let KeySource::Env(name) = source { Some(name.clone()) } else { None })
    }

    fn set_env(&mut self, name: Option<String>) {
        self.replace(|source| matches!(source, KeySource::Env(_)), name.map(KeySource::Env));
    }

    /// Puts `source` in the place of the first of its kind, or at the end; `None` takes that one away.
    fn replace(&mut self, is_of_its_kind: fn(&KeySource) -> bool, source: Option<KeySource>) {
        match (self.keys.iter().position(is_of_its_kind), source) {
            (Some(place), source) => drop(self.keys.splice(place..=place, source)),
            (None, source) => self.keys.extend(source),
        }
    }

    /// Checks the keys as far as they stand in the configuration itself.
    pub(super) fn check_inline_keys(&self) -> Result<(), KeyError> {
        if self.keys.iter().all(|source| matches!(source, KeySource::Inline(_))) {
            self.load_keys().map(drop)
        } else {
            Ok(())
        }
    }

    /// All keys, in order, with those of files and variables as they are now: what [`Encrypt`](super::Encrypt) does at its
    /// start. For a look beforehand.
    ///
    /// # Errors
    /// A key is missing or wrong, or they do not go with the other options.
    pub fn load_keys(&self) -> Result<Vec<Key>, KeyError> {
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

/// Keys as text; they are never shown again.
struct Inline;

impl Kind for Inline {
    type Value = Option<Vec<Key>>;
    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.trim() == "none" { Some(None) } else { Key::several_from_hex(text).ok().map(Some) }
    }
    fn show(&self, value: &Self::Value) -> String {
        if value.is_some() { "(hidden)".to_owned() } else { "none".to_owned() }
    }
    fn allows(&self, _: &Self::Value) -> bool {
        true
    }
    fn shape(&self) -> Shape {
        let expected = "hexadecimal digits of a key of 128, 192 or 256 bits";
        Shape::Or("none", Box::new(Shape::List(Box::new(Shape::Text { expected }))))
    }
}

fn name(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

const DAY: Duration = Duration::from_secs(24 * 3600);

tribes_core::settings! { EncryptConfig {
    secret "key" via(EncryptConfig::inline, EncryptConfig::set_inline): Inline,
        "Keys in hexadecimal digits, joined by +: the first seals, any of them opens.";
    "key_file" via(EncryptConfig::file, EncryptConfig::set_file): optional("none", path()),
        "A file with one key a line, for more keys or instead of key.";
    "key_env" via(EncryptConfig::env, EncryptConfig::set_env):
        optional("none", custom("the name of an environment variable", name, String::clone)),
        "An environment variable that holds keys as key does.";
    mode: choice(&[("tribes", Mode::Tribes), ("authenticated", Mode::Authenticated)]),
        "Which format is sealed: that of Tribes, or ours, which also protects envelopes and refuses replays.";
    towards_java: choice(&[("refuse", TowardsJava::Refuse), ("tribes", TowardsJava::Tribes)]),
        "What becomes of messages to and from Java members in authenticated mode.";
    algorithm: custom(Algorithm::EXPECTED, Algorithm::from_name, |algorithm| algorithm.name().to_owned()),
        "How bodies are encrypted, by Tribes' names.";
    legacy: flag(), "Allows the algorithms without authentication.";
    layout: choice(&[("current", Layout::Current), ("before-10.1.56", Layout::BeforeTimestamps)]),
        "What stands inside of sealed bodies, by the version of Tribes; the same on all members.";
    replay_window_time: optional("off", duration(Duration::from_millis(1)..=DAY)),
        "How far a sender's clock may be from ours, both ways; off does not look for replays.";
    replay_window_message_count: number(1..=1_048_576),
        "How many messages are remembered within replay_window_time, 50 bytes each.";
} check(|config| {
    if config.algorithm.is_legacy() && !config.legacy {
        let reason = format!(
            "nothing vouches for what {} encrypts: use AES/GCM/NoPadding, or have legacy = true beside it",
            config.algorithm
        );
        return Err(SettingFault::together("algorithm", reason));
    }
    if config.algorithm.is_legacy() && config.mode == Mode::Authenticated {
        return Err(SettingFault::together("algorithm", "authenticated mode has AES/GCM/NoPadding only"));
    }
    Ok(())
}) }

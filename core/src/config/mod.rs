//! Channels from configuration: `tribes.toml`, environment variables, and Tomcat's `server.xml`.
//!
//! ```toml
//! [channel]
//! name = "orders"
//! send_options = "ack"
//!
//! [receiver]                  # `type = "tcp"` is the default
//! bind = "10.0.0.7"
//! port = 4000
//!
//! [membership]
//! type = "static"
//! peers = ["10.0.0.8:4000", "10.0.0.9:4000"]
//!
//! [sender]
//! timeout = "3s"
//!
//! [[interceptor]]             # application first
//! type = "message-dispatch"
//!
//! [[interceptor]]
//! type = "gzip"
//! min_size = "1KiB"
//! ```
//!
//! Everything may be left out: an empty file means the defaults of Tomcat's cluster. Without any `[[interceptor]]` the stack is
//! `message-dispatch`, `tcp-failure-detector`, unless `[channel]` says `default_interceptors = false`. Which types there are, and what
//! each can be told, say [`Registry`] and `tribes check`; a JSON schema comes from [`Config::json_schema`].
//!
//! - Durations are written as `"250ms"`, `"3s"`, `"5m"`, sizes as `"64KiB"` or a number of bytes.
//! - `[membership]` listens on the interface to which the receiver is bound, unless it has a `bind` of its own.
//! - Unknown keys and wrong values are errors; all of them are reported at once, each with file, line, key, the nearest
//!   known key and the bounds.
//!
//! # Environment
//! `TRIBES__RECEIVER__PORT=4001` takes the place of `port` in `[receiver]`; `TRIBES__INTERCEPTOR__GZIP__MIN_SIZE=1KiB` that of `min_size`
//! of the interceptor `gzip`, which must be in the stack. A hyphen or a dot in a name is `_` there. A variable that begins with
//! `TRIBES__` and names nothing is an error, too.

mod build;
mod channel;
mod env;
mod fault;
mod print;
mod schema;
pub mod server_xml;
mod toml_file;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

pub use channel::ChannelConfig;
pub use fault::{ConfigError, ConfigFault, Origin};
pub use server_xml::Note;

use crate::Channel;
use crate::registry::{PartKind, Registry};
use crate::settings::Settings as _;

/// What a configuration says, before anything is made of it. See the [module](self).
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) source: Origin,
    pub(super) channel: Vec<Entry>,
    pub(super) receiver: Part,
    pub(super) sender: Part,
    pub(super) membership: Part,
    pub(super) interceptors: Vec<Part>,
    /// The interceptors were listed, if only as none; otherwise `default_interceptors` decides.
    pub(super) is_stack_given: bool,
}

/// A setting, and where it was said.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Without the value: it may be a secret, which only the part knows, if it is linked at all.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A part by its type, and its settings.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) kind: PartKind,
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) entries: Vec<Entry>,
}

impl Part {
    fn new(kind: PartKind, name: &str) -> Self {
        Self { kind, name: name.to_owned(), origin: Origin::Default, entries: Vec::new() }
    }

    /// How the part is called in faults.
    fn place(&self) -> String {
        match self.kind {
            PartKind::Interceptor => format!("[[interceptor]] {}", self.name),
            kind => format!("[{}]", kind.section()),
        }
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }
}

impl Default for Config {
    /// The defaults of Tomcat's cluster.
    fn default() -> Self {
        Self {
            source: Origin::Default,
            channel: Vec::new(),
            receiver: Part::new(PartKind::Receiver, "tcp"),
            sender: Part::new(PartKind::Sender, "pooled-parallel"),
            membership: Part::new(PartKind::Membership, "multicast"),
            interceptors: default_stack(),
            is_stack_given: false,
        }
    }
}

/// The stack of Tomcat's cluster.
pub(super) fn default_stack() -> Vec<Part> {
    ["message-dispatch", "tcp-failure-detector"].map(|name| Part::new(PartKind::Interceptor, name)).to_vec()
}

impl Config {
    /// Reads a file of TOML, or a `server.xml` if its name ends with `.xml`, and then the environment of the process. What in a
    /// `server.xml` has no equivalent is logged as a warning.
    ///
    /// # Errors
    /// The file cannot be read, or everything in it that cannot be understood. Whether parts and settings exist is seen by
    /// [`builder`](Self::builder).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml")) {
            let (config, notes) = Self::read_server_xml(path)?;
            log(&notes);
            return Ok(config);
        }
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        let (config, mut faults) = toml_file::parse(&text, &path.display().to_string());
        let config = config.override_by(std::env::vars_os().filter_map(env::as_text), &mut faults);
        ConfigError::unless_empty(&config.source, faults).map(|()| config)
    }

    /// Understands TOML; `name` stands for the file in errors. The environment is not looked at.
    ///
    /// # Errors
    /// Everything that cannot be understood.
    pub fn from_toml(text: &str, name: &str) -> Result<Self, ConfigError> {
        let (config, faults) = toml_file::parse(text, name);
        ConfigError::unless_empty(&config.source, faults).map(|()| config)
    }

    /// With these environment variables over what was read; those that do not begin with `TRIBES__` are passed by.
    ///
    /// # Errors
    /// Every variable that names nothing.
    pub fn with_env(self, vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let config = self.override_by(vars, &mut faults);
        ConfigError::unless_empty(&config.source, faults).map(|()| config)
    }

    /// Reads the `<Cluster>` or `<Channel>` of a Tomcat `server.xml`, with Tomcat's defaults; then the environment of the process.
    /// The notes name every attribute that has no equivalent here.
    ///
    /// # Errors
    /// The file cannot be read, is no XML, or has no such element, or names a part that there is none of here.
    pub fn read_server_xml(path: impl AsRef<Path>) -> Result<(Self, Vec<Note>), ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        let (config, notes) = Self::from_server_xml(&text, &path.display().to_string())?;
        let config = config.with_env(std::env::vars_os().filter_map(env::as_text))?;
        Ok((config, notes))
    }

    /// As [`read_server_xml`](Self::read_server_xml), from text; `name` stands for the file in errors. The environment is not looked
    /// at.
    ///
    /// # Errors
    /// As there.
    pub fn from_server_xml(text: &str, name: &str) -> Result<(Self, Vec<Note>), ConfigError> {
        server_xml::read(text, name)
    }

    /// Every setting that an attribute of Tomcat may become: the kind of part, its type and the key. For the test that they
    /// exist.
    #[doc(hidden)]
    #[must_use]
    pub fn tomcat_settings() -> Vec<(PartKind, &'static str, &'static str)> {
        server_xml::settings()
    }

    /// A channel as configured, not yet started.
    ///
    /// # Errors
    /// Everything that is wrong, with where it was said.
    pub fn channel(&self) -> Result<Channel, ConfigError> {
        build::channel(self)
    }

    /// As [`channel`](Self::channel), to add to it what no file can say.
    ///
    /// # Errors
    /// Every part and setting that is wrong; what is wrong with the stack as a whole is reported by the builder.
    pub fn builder(&self) -> Result<crate::ChannelBuilder, ConfigError> {
        build::builder(self)
    }

    /// The names of the interceptors, application first.
    #[must_use]
    pub fn interceptors(&self) -> Vec<&str> {
        self.interceptors.iter().map(|part| part.name.as_str()).collect()
    }

    /// What was set for a key of a section (`channel`, `receiver`, `sender`, `membership`, or an interceptor's name), or its
    /// default; secrets, too. `None` if there is no such part or key.
    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<String> {
        let default = |infos: Vec<crate::settings::SettingInfo>| {
            infos.into_iter().find(|info| info.key == key).map(|info| info.default)
        };
        let set = |entries: &[Entry]| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone());
        if section == "channel" {
            return set(&self.channel).or_else(|| default(ChannelConfig::describe()));
        }
        let part = match section {
            "receiver" => &self.receiver,
            "sender" => &self.sender,
            "membership" => &self.membership,
            name => self.interceptors.iter().find(|part| part.name == name)?,
        };
        if key == "type" {
            return Some(part.name.clone());
        }
        set(&part.entries).or_else(|| default(Registry::find(part.kind, &part.name).ok()?.settings()))
    }

    /// As [`get`](Self::get), with what a part takes over from another: the interface of the membership service.
    #[must_use]
    pub fn effective(&self, section: &str, key: &str) -> Option<String> {
        let taken_over = if (section, key) == ("membership", "bind") { build::interface(self) } else { None };
        taken_over.or_else(|| self.get(section, key))
    }

    /// The interceptors as layers, application first.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn layers(&self) -> Result<Vec<crate::Layer>, ConfigError> {
        build::layers(self)
    }

    /// What it says, as a `tribes.toml`: the settings that differ from the defaults. Secrets are not shown.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }

    /// A JSON schema (draft 2020-12) of `tribes.toml`, with everything that is linked into this program.
    #[must_use]
    pub fn json_schema() -> String {
        schema::json_schema()
    }
}

impl Channel {
    /// A channel as `tribes.toml` says, or a `server.xml` if the name ends with `.xml`, and over it the environment of the process; not yet
    /// started. See [`config`](self).
    ///
    /// # Errors
    /// Everything that is wrong, with file, line and key.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), tribes_core::BoxError> {
    /// let channel = tribes_core::Channel::from_config("tribes.toml")?;
    /// channel.start().await?;
    /// # Ok(()) }
    /// ```
    pub fn from_config(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Config::read(path)?.channel()
    }

    /// A channel as the `<Cluster>` or `<Channel>` of a Tomcat `server.xml` says. What has no equivalent is logged as a
    /// warning; [`Config::read_server_xml`] returns it.
    ///
    /// # Errors
    /// Everything that is wrong, with file, line and attribute.
    pub fn from_server_xml(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (config, notes) = Config::read_server_xml(path)?;
        log(&notes);
        config.channel()
    }
}

/// Says what a `server.xml` has that makes a difference and is not there here.
fn log(notes: &[Note]) {
    for note in notes.iter().filter(|note| note.matters) {
        tracing::warn!("{note}");
    }
}

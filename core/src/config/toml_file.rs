//! `tribes.toml`: which settings it makes, and where each stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigFault, Origin};
use super::{ChannelConfig, Config, Entry, Part, default_stack};
use crate::registry::{PartKind, Registry};
use crate::settings::{SettingInfo, Settings as _, nearest};

const SECTIONS: [&str; 5] = ["channel", "interceptor", "membership", "receiver", "sender"];

/// What the text says as far as it can be understood, and everything that cannot.
pub(super) fn parse(text: &str, name: &str) -> (Config, Vec<ConfigFault>) {
    let name: Arc<str> = name.into();
    let mut reader = Reader { name: Arc::clone(&name), text, faults: Vec::new() };
    let source = Origin::File { name, line: 0, column: 0 };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or_else(|| source.clone(), |span| reader.at(span.start));
        reader.faults.push(ConfigFault::new(&at, "", format!("no TOML: {}", error.message())));
    }
    // What is no TOML would only seem to be unknown.
    let config = if reader.faults.is_empty() { reader.config(table.get_ref()) } else { Config::default() };
    (Config { source, ..config }, reader.faults)
}

struct Reader<'a> {
    name: Arc<str>,
    text: &'a str,
    faults: Vec<ConfigFault>,
}

impl Reader<'_> {
    fn at(&self, offset: usize) -> Origin {
        Origin::at(&self.name, self.text, offset)
    }

    fn config(&mut self, table: &DeTable<'_>) -> Config {
        let mut config = Config::default();
        let mut stack = None;
        for (key, value) in table {
            let origin = self.at(key.span().start);
            let section = key.get_ref().as_ref();
            let place = format!("[{section}]");
            match (section, value.get_ref()) {
                ("channel", DeValue::Table(table)) => {
                    config.channel = self.entries(table, &place, false).0;
                    self.only_lists_as_arrays(&ChannelConfig::describe(), table, &place);
                }
                ("receiver", DeValue::Table(table)) => self.part(&mut config.receiver, table, &origin, &place),
                ("sender", DeValue::Table(table)) => self.part(&mut config.sender, table, &origin, &place),
                ("membership", DeValue::Table(table)) => self.part(&mut config.membership, table, &origin, &place),
                ("interceptor", DeValue::Array(array)) => {
                    let layers = array.iter().filter_map(|layer| self.layer(layer));
                    stack = Some(layers.collect::<Vec<_>>());
                }
                ("interceptor", _) => self.fault(&origin, "", "must be a list of tables: write [[interceptor]]"),
                (section, _) if SECTIONS.contains(&section) => {
                    self.fault(&origin, "", format!("{section} must be a table: write [{section}]"));
                }
                (section, _) => {
                    let hint =
                        nearest(section, SECTIONS).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                    let known = SECTIONS.join(", ");
                    self.fault(&origin, "", format!("there is no section {section:?}{hint} (known: {known})"));
                }
            }
        }
        let wants_defaults =
            !config.channel.iter().any(|entry| entry.key == "default_interceptors" && entry.value == "false");
        config.is_stack_given = stack.is_some();
        config.interceptors = match stack {
            Some(stack) => stack,
            None if wants_defaults => default_stack(),
            None => Vec::new(),
        };
        config
    }

    fn part(&mut self, part: &mut Part, table: &DeTable<'_>, origin: &Origin, place: &str) {
        part.origin = origin.clone();
        let (entries, name) = self.entries(table, place, true);
        part.entries = entries;
        if let Some((name, origin)) = name {
            (part.name, part.origin) = (name, origin);
        }
        self.only_arrays_of_part(part, table, place);
    }

    fn layer(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Part> {
        let origin = self.at(value.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            self.fault(&origin, "[[interceptor]]", "must be a table");
            return None;
        };
        let (entries, name) = self.entries(table, "[[interceptor]]", true);
        let Some((name, origin)) = name else {
            self.fault(&origin, "[[interceptor]]", "which one? Write type = \"…\"");
            return None;
        };
        let part = Part { kind: PartKind::Interceptor, name, origin, entries };
        self.only_arrays_of_part(&part, table, &part.place());
        Some(part)
    }

    /// An array is a text joined by `+` from here on: where no list is meant, it would pass for such a text.
    fn only_lists_as_arrays(&mut self, settings: &[SettingInfo], table: &DeTable<'_>, place: &str) {
        for (key, value) in table {
            let info = settings.iter().find(|info| info.key == key.get_ref().as_ref());
            if let (DeValue::Array(_), Some(info)) = (value.get_ref(), info)
                && !info.shape.is_list()
            {
                let origin = self.at(key.span().start);
                self.fault(&origin, place, format!("{} must be {}, and is a list", info.key, info.shape));
            }
        }
    }

    fn only_arrays_of_part(&mut self, part: &Part, table: &DeTable<'_>, place: &str) {
        // Of a part that is not there, that is said.
        if let Ok(registration) = Registry::find(part.kind, &part.name) {
            self.only_lists_as_arrays(&registration.settings(), table, place);
        }
    }

    /// The settings of a section in the order of the file, and its type.
    fn entries(&mut self, table: &DeTable<'_>, place: &str, typed: bool) -> (Vec<Entry>, Option<(String, Origin)>) {
        let mut entries = BTreeMap::new();
        let mut name = None;
        for (key, value) in table {
            let origin = self.at(key.span().start);
            let key_text = key.get_ref().as_ref();
            match scalar(value.get_ref()) {
                Ok(text) if typed && key_text == "type" => name = Some((text, origin)),
                Ok(value) => {
                    entries.insert(key.span().start, Entry { key: key_text.to_owned(), value, origin });
                }
                Err(problem) => self.fault(&origin, place, format!("{key_text} {problem}")),
            }
        }
        (entries.into_values().collect(), name)
    }

    fn fault(&mut self, origin: &Origin, place: &str, message: impl std::fmt::Display) {
        self.faults.push(ConfigFault::new(origin, place, message));
    }
}

/// A value as text, in the spelling of settings.
fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            parsed.map(|number| number.to_string()).map_err(|_too_large| "is no number of at most 64 bits")
        }
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::Array(_) => Err("must not have a list in a list"),
                item => scalar(item).and_then(|text| {
                    if text.contains('+') { Err("must not have a + inside of an item") } else { Ok(text) }
                }),
            });
            texts.collect::<Result<Vec<_>, _>>().map(|texts| texts.join("+"))
        }
        DeValue::Datetime(_) => Err("must not be a date"),
        DeValue::Table(_) => Err("must not be a table"),
    }
}

//! Environment variables over what a file says.

use std::ffi::OsString;

use super::fault::{ConfigFault, Origin};
use super::{Config, Entry, Part, default_stack};

const PREFIX: &str = "TRIBES__";
const SHAPE: &str = "write TRIBES__CHANNEL__KEY, TRIBES__RECEIVER__KEY, TRIBES__SENDER__KEY, TRIBES__MEMBERSHIP__KEY or TRIBES__INTERCEPTOR__NAME__KEY";

/// Variables that are no text are not ours, unless their names say so: then the value is shown as it can be.
pub(super) fn as_text((name, value): (OsString, OsString)) -> Option<(String, String)> {
    let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
    Some((name, value.to_string_lossy().into_owned()))
}

impl Config {
    pub(super) fn override_by(
        mut self,
        vars: impl IntoIterator<Item = (String, String)>,
        faults: &mut Vec<ConfigFault>,
    ) -> Self {
        let mut vars: Vec<_> = vars.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        vars.sort();
        // First of all: other variables are about the interceptors that it lets be there.
        let decides = |name: &str| name.eq_ignore_ascii_case("TRIBES__CHANNEL__DEFAULT_INTERCEPTORS");
        if let Some((_, value)) = vars.iter().rfind(|(name, _)| decides(name) && !self.is_stack_given) {
            match value.trim() {
                "true" => self.interceptors = default_stack(),
                "false" => self.interceptors.clear(),
                // The channel will say what is wrong with it.
                _ => {}
            }
        }
        for (name, value) in vars {
            let origin = Origin::Env(name.clone());
            let lower = name.strip_prefix(PREFIX).unwrap_or(&name).to_ascii_lowercase();
            let parts: Vec<&str> = lower.split("__").collect();
            let entries = match parts.as_slice() {
                ["channel", key] if *key != "type" => Ok((&mut self.channel, *key)),
                ["receiver", key] => Ok(in_part(&mut self.receiver, key, &value, &origin)),
                ["sender", key] => Ok(in_part(&mut self.sender, key, &value, &origin)),
                ["membership", key] => Ok(in_part(&mut self.membership, key, &value, &origin)),
                ["interceptor", layer, key] if *key != "type" => {
                    let names = self.interceptors().join(", ");
                    let layer_of = |part: &&mut Part| part.name.replace(['-', '.'], "_") == *layer;
                    let found = self.interceptors.iter_mut().find(layer_of).map(|part| (&mut part.entries, *key));
                    found.ok_or_else(|| {
                        format!("there is no interceptor {:?} in the stack ({names})", layer.replace('_', "-"))
                    })
                }
                _ => Err(format!("names nothing; {SHAPE}")),
            };
            match entries {
                Ok((_, "type")) => {}
                Ok((entries, key)) => set(entries, key, value, origin),
                Err(message) => faults.push(ConfigFault::new(&origin, "", message)),
            }
        }
        self
    }
}

/// Where a setting of `part` goes; its type is taken at once.
fn in_part<'a>(part: &'a mut Part, key: &'a str, value: &str, origin: &Origin) -> (&'a mut Vec<Entry>, &'a str) {
    if key == "type" {
        (part.name, part.origin) = (value.to_owned(), origin.clone());
    }
    (&mut part.entries, key)
}

fn set(entries: &mut Vec<Entry>, key: &str, value: String, origin: Origin) {
    match entries.iter_mut().find(|entry| entry.key == key) {
        Some(entry) => (entry.value, entry.origin) = (value, origin),
        None => entries.push(Entry { key: key.to_owned(), value, origin }),
    }
}

//! What a configuration can name.

use std::io::{self, Write};

use tribes::config::ChannelConfig;
use tribes::registry::{PartKind, Registration, Registry};
use tribes::settings::{SettingInfo, Settings as _};

const KINDS: [PartKind; 4] = [PartKind::Receiver, PartKind::Sender, PartKind::Membership, PartKind::Interceptor];

/// Lists the parts called `name`, or all if it is empty; whether there were any.
pub(super) fn list(out: &mut impl Write, name: &str) -> io::Result<bool> {
    if name.is_empty() || name == "channel" {
        writeln!(out, "[channel]")?;
        settings(out, &ChannelConfig::describe())?;
    }
    let mut found = name.is_empty() || name == "channel";
    for kind in KINDS {
        for part in Registry::list(kind).into_iter().filter(|part| name.is_empty() || part.name == name) {
            found = true;
            print(out, part)?;
        }
    }
    if !found {
        let known = KINDS.into_iter().flat_map(Registry::list).map(|part| part.name);
        writeln!(out, "there is no part {name:?}; there are {}", known.collect::<Vec<_>>().join(", "))?;
    }
    Ok(found)
}

fn print(out: &mut impl Write, part: &Registration) -> io::Result<()> {
    let heading = match part.kind() {
        PartKind::Interceptor => "[[interceptor]]".to_owned(),
        kind => format!("[{}]", kind.section()),
    };
    writeln!(out, "\n{heading} type = {:?}  {} ({} {})", part.name, part.help, part.crate_name, part.version)?;
    settings(out, &part.settings())
}

fn settings(out: &mut impl Write, infos: &[SettingInfo]) -> io::Result<()> {
    for info in infos {
        let default = if info.default.is_empty() { String::new() } else { format!(" Default {}.", info.default) };
        writeln!(out, "  {:<28} {} {}{default}", info.key, info.help, capital(&format!("{}.", info.shape)))?;
    }
    Ok(())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

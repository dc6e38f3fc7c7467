//! The stack as a picture.

use std::io::{self, Write};

use tribes::config::Config;
use tribes::{SendOptions, WireEffect};

/// Draws the stack: each layer with its flag and what it does to the message, and the parts below.
pub(super) fn draw(out: &mut impl Write, config: &Config) -> io::Result<()> {
    let layers = config.layers().unwrap_or_default();
    let width = layers.iter().map(|layer| layer.name().len()).max().unwrap_or_default().max("interceptors".len());
    writeln!(out, "  application")?;
    writeln!(out, "      │ send   ▲ receive, member events")?;
    for (number, layer) in layers.iter().enumerate() {
        let flag = flag(layer.trigger());
        let effect = match layer.wire() {
            WireEffect::None => "leaves bytes as they are",
            WireEffect::Tribes => "changes bytes as Tribes does",
            WireEffect::Ours => "adds bytes between our own nodes",
            _ => "",
        };
        writeln!(out, "  {:>3} ▼      {:<width$}  {flag:<22} {effect}", number + 1, layer.name())?;
    }
    if layers.is_empty() {
        writeln!(out, "      ▼      (no interceptors)")?;
    }
    writeln!(out, "  ────────────")?;
    for (section, keys) in
        [("sender", &["timeout"][..]), ("receiver", &["bind", "port"]), ("membership", &["group", "port", "peers"])]
    {
        let name = config.get(section, "type").unwrap_or_default();
        let values = keys.iter().filter_map(|key| Some(format!("{key} {}", config.get(section, key)?)));
        writeln!(out, "  {section:<11} {name}  {}", values.collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}

fn flag(trigger: SendOptions) -> String {
    if trigger.is_empty() { "every message".to_owned() } else { format!("flag {:#x}", trigger.bits()) }
}

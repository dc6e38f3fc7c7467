//! A JSON schema of `tribes.toml`, for editors.

use serde_json::{Map, Value, json};

use super::ChannelConfig;
use crate::registry::{PartKind, Registration, Registry};
use crate::settings::{SettingInfo, Settings as _, Shape};

pub(super) fn json_schema() -> String {
    let part = |kind, default: Option<&str>| {
        let all: Vec<_> = Registry::list(kind).into_iter().map(|part| of_part(part, default)).collect();
        json!({ "oneOf": all })
    };
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tribes.toml",
        "description": "A channel of tribes: what it announces, how it sends and receives, how it finds its members, and its interceptors.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "channel": table(&ChannelConfig::describe(), None, "The channel itself."),
            "receiver": part(PartKind::Receiver, Some("tcp")),
            "sender": part(PartKind::Sender, Some("pooled-parallel")),
            "membership": part(PartKind::Membership, Some("multicast")),
            "interceptor": {
                "description": "The stack, application first.",
                "type": "array",
                "items": part(PartKind::Interceptor, None),
            },
        },
    });
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn of_part(part: &Registration, default: Option<&str>) -> Value {
    table(&part.settings(), Some((part.name, default == Some(part.name))), part.help)
}

/// A table with these settings; of a part, also its type, which may be left out for the default one.
fn table(infos: &[SettingInfo], part: Option<(&str, bool)>, help: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some((name, is_default)) = part {
        properties.insert("type".to_owned(), json!({ "const": name }));
        if !is_default {
            required.push("type");
        }
    }
    for info in infos {
        let mut schema = of_shape(&info.shape);
        schema.insert("description".to_owned(), json!(info.help));
        if !info.secret && !info.default.is_empty() {
            schema.insert("default".to_owned(), typed(&info.default, &info.shape));
        }
        properties.insert(info.key.to_owned(), Value::Object(schema));
    }
    json!({
        "description": help,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn of_shape(shape: &Shape) -> Map<String, Value> {
    let schema = match shape {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Number { min, max: u64::MAX } => json!({ "type": "integer", "minimum": min }),
        Shape::Number { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Fraction { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Shape::Duration { .. } => json!({ "type": "string", "pattern": "^[0-9]+ ?(us|ms|s|m|h)$" }),
        Shape::Size { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB|TiB)?$" },
        ] }),
        Shape::Options => json!({ "type": ["string", "integer"] }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::List(inner) => json!({ "anyOf": [{ "type": "array", "items": of_shape(inner) }, { "type": "string" }] }),
        Shape::Or(word, inner) => json!({ "anyOf": [{ "const": word }, of_shape(inner)] }),
        Shape::Text { .. } => json!({ "type": "string" }),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// A default, in the type that the file would have.
fn typed(text: &str, shape: &Shape) -> Value {
    match shape {
        Shape::Flag => text.parse::<bool>().map_or_else(|_| json!(text), |flag| json!(flag)),
        Shape::Number { .. } => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
        Shape::Fraction { .. } => text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number)),
        Shape::Or(word, inner) if text != *word => typed(text, inner),
        _ => json!(text),
    }
}

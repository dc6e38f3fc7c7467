//! Each layer can be named, and says what can be set.
#![cfg(feature = "_any")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use tribes_core::registry::{PartKind, Registry};
use tribes_interceptors as _;

/// What some cannot do without.
fn needed(name: &str) -> Vec<(&'static str, &'static str)> {
    match name {
        "encrypt" => vec![("key", "000102030405060708090a0b0c0d0e0f")],
        "rate-limit" => vec![("messages_per_s", "1000")],
        _ => vec![],
    }
}

#[test]
fn every_name_makes_the_layer_of_that_name() {
    let parts = Registry::list(PartKind::Interceptor);
    assert!(!parts.is_empty());
    for part in parts {
        let layer = Registry::interceptor(part.name, needed(part.name)).unwrap();
        assert_eq!((layer.name(), part.crate_name), (part.name, "tribes-interceptors"));
    }
}

#[test]
fn errors_list_what_is_known() {
    let parts = Registry::list(PartKind::Interceptor);
    let unknown = Registry::interceptor("gzipp", []).unwrap_err().to_string();
    for part in parts {
        assert!(unknown.contains(part.name), "{unknown}");
        let text = Registry::interceptor(part.name, [("colour", "red")]).unwrap_err().to_string();
        assert!(text.starts_with(part.name) && text.contains("there is no key \"colour\""), "{text}");
        for setting in part.settings() {
            assert!(text.contains(setting.key), "{text}");
        }
    }
}

#[test]
fn every_default_can_be_written_and_every_help_is_a_sentence() {
    for part in Registry::list(PartKind::Interceptor) {
        assert!(!part.help.is_empty() && !part.help.ends_with('.'), "{}: {}", part.name, part.help);
        for info in part.settings() {
            let mut settings = needed(part.name);
            settings.retain(|(key, _)| *key != info.key);
            settings.push((info.key, &info.default));
            let made = Registry::interceptor(part.name, settings).map_err(|error| error.to_string());
            let needs_another = needed(part.name).iter().any(|(key, _)| *key == info.key);
            assert_eq!(made.is_err(), needs_another, "{}.{} = {}: {made:?}", part.name, info.key, info.default);
            assert!(info.help.ends_with('.'), "{}.{}: {}", part.name, info.key, info.help);
        }
    }
}

//! Everything that this package has can be named in a configuration; so can what a program adds with nothing but `tribes`.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use tribes::registry::{Configure, PartKind, Registry};
use tribes::settings::{SettingFault, Settings, number};
use tribes::{BoxError, Cx, Outbound, SyncInterceptor, Verdict};

fn names(kind: PartKind) -> Vec<&'static str> {
    Registry::list(kind).iter().map(|part| part.name).collect()
}

#[test]
fn all_parts_are_listed() {
    assert_eq!(names(PartKind::Membership), ["multicast", "static"]);
    assert_eq!(names(PartKind::Receiver), ["tcp"]);
    assert_eq!(names(PartKind::Sender), ["pooled-parallel"]);
    let layers = names(PartKind::Interceptor);
    for (name, is_there) in [
        ("agreed-views", cfg!(feature = "agreed-views")),
        ("audit", cfg!(feature = "audit")),
        ("chaos", cfg!(feature = "chaos")),
        ("dedup", cfg!(feature = "dedup")),
        ("domain-filter", cfg!(feature = "domain-filter")),
        ("encrypt", cfg!(feature = "encrypt")),
        ("fragmentation", cfg!(feature = "fragmentation")),
        ("gzip", cfg!(feature = "gzip")),
        ("message-dispatch", true),
        ("order", cfg!(feature = "order")),
        ("rate-limit", cfg!(feature = "rate-limit")),
        ("static-members", cfg!(feature = "static-members")),
        ("tcp-failure-detector", true),
        ("tcp-ping", cfg!(feature = "tcp-ping")),
        ("throughput", cfg!(feature = "throughput")),
        ("trace", cfg!(feature = "trace")),
    ] {
        // Another package's test in the same build may ask for more features than this one.
        assert!(!is_there || layers.contains(&name), "{name} is not among {layers:?}");
    }
}

#[test]
fn every_default_of_the_transport_can_be_written() {
    for kind in [PartKind::Membership, PartKind::Receiver, PartKind::Sender] {
        for part in Registry::list(kind) {
            for info in part.settings() {
                let settings = [(info.key, info.default.as_str())];
                let made = match kind {
                    PartKind::Membership => Registry::membership(part.name, settings).map(drop),
                    PartKind::Receiver => Registry::receiver(part.name, settings).map(drop),
                    _ => Registry::sender(part.name, settings).map(drop),
                };
                assert_eq!(made, Ok(()), "{}.{} = {}", part.name, info.key, info.default);
                assert!(info.help.ends_with('.'), "{}.{}: {}", part.name, info.key, info.help);
            }
        }
    }
}

#[test]
fn faults_name_part_key_value_and_bounds() {
    let error = Registry::membership("multicast", [("port", "0"), ("ttl", "x")]).unwrap_err().to_string();
    assert_eq!(
        error,
        r#"multicast: port is "0", but must be a whole number from 1 to 65535; ttl is "x", but must be system, or a whole number from 0 to 255"#
    );
    let error = Registry::receiver("tcp", [("bnid", "::1")]).unwrap_err().to_string();
    assert!(error.starts_with(r#"tcp: there is no key "bnid"; did you mean "bind"?"#), "{error}");
    let error = Registry::sender("pooled", []).unwrap_err().to_string();
    assert!(error.contains("pooled-parallel"), "{error}");
}

/// Lets no message of more than so many words pass.
#[derive(Debug)]
struct Terse(TerseConfig);

#[derive(Clone, Debug)]
struct TerseConfig {
    words: usize,
    even: bool,
}

impl Default for TerseConfig {
    fn default() -> Self {
        Self { words: 8, even: false }
    }
}

tribes::settings! { TerseConfig {
    words: number(1..=100), "The most words that a message may have.";
    even: tribes::settings::flag(), "Whether only even numbers will do.";
} check(|config| {
    if config.even && config.words % 2 == 1 {
        return Err(SettingFault::together("words", "it is odd: set even to false"));
    }
    Ok(())
}) }

impl Configure for Terse {
    const NAME: &'static str = "terse";
    const HELP: &'static str = "refuses long messages";
    type Config = TerseConfig;
    fn configure(config: TerseConfig) -> Result<Self, BoxError> {
        Ok(Self(config))
    }
}

impl SyncInterceptor for Terse {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        if out.len() > self.0.words * 8 { Verdict::Drop("too long") } else { Verdict::Pass }
    }
}

tribes::register_interceptor!(Terse);

#[test]
fn a_part_of_this_program_is_listed_too() {
    let part = Registry::find(PartKind::Interceptor, "terse").unwrap();
    assert_eq!((part.crate_name, part.help), ("tribes", "refuses long messages"));
    assert_eq!(Registry::interceptor("terse", [("words", "7")]).unwrap().name(), "terse");
    let error = Registry::interceptor("terse", [("words", "7"), ("even", "true")]).unwrap_err().to_string();
    assert_eq!(error, "terse: words: it is odd: set even to false");
    assert_eq!(TerseConfig::default().validate(), Ok(()));
}

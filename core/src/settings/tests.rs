//! Every kind of value, in both directions, and every fault.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::SendOptions;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Colour {
    Red,
    Blue,
}

#[derive(Clone, Debug, PartialEq)]
struct Inner {
    depth: u16,
}

#[derive(Clone, Debug, PartialEq)]
struct Everything {
    on: bool,
    count: usize,
    bytes: u32,
    share: f64,
    pause: Duration,
    limit: Option<Duration>,
    trigger: SendOptions,
    colour: Colour,
    host: IpAddr,
    names: Vec<String>,
    password: String,
    inner: Inner,
    tags: Vec<(char, u32)>,
}

impl Everything {
    fn tag(&self, name: char) -> Option<u32> {
        self.tags.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }
    fn set_tag(&mut self, name: char, number: Option<u32>) {
        self.tags.retain(|(known, _)| *known != name);
        self.tags.extend(number.map(|number| (name, number)));
    }
}

impl Default for Everything {
    fn default() -> Self {
        Self {
            on: false,
            count: 1,
            bytes: 1024,
            share: 0.5,
            pause: Duration::from_secs(1),
            limit: None,
            trigger: SendOptions::empty(),
            colour: Colour::Red,
            host: IpAddr::from([127, 0, 0, 1]),
            names: Vec::new(),
            password: "geheim".to_owned(),
            inner: Inner { depth: 3 },
            tags: Vec::new(),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

crate::settings! { Everything {
    on: flag(), "Whether.";
    count: number(1..=10), "How many.";
    bytes: size(1..=1 << 20), "How large.";
    share: fraction(0.0..=1.0), "Which part.";
    pause: duration(Duration::ZERO..=MINUTE), "How long.";
    limit: optional("off", duration(Duration::from_millis(1)..=MINUTE)), "How long at most.";
    trigger: options(), "Which bits.";
    colour: choice(&[("red", Colour::Red), ("blue", Colour::Blue)]), "Which colour.";
    host: address(), "Where.";
    names: list(0..=2, text()), "Who.";
    secret password: text(), "What nobody may see.";
    inner.depth key "depth": number(0..=9), "How deep.";
    "tag_a" via(|config: &Everything| config.tag('a'), |config: &mut Everything, tag| config.set_tag('a', tag)):
        optional("none", number(0..=9)), "One tag.";
    secret "tag_b" via(|config: &Everything| config.tag('b'), |config: &mut Everything, tag| config.set_tag('b', tag)):
        optional("none", number(0..=9)), "Another, which nobody may see.";
} check(|config| {
    if config.on && config.count == 1 {
        return Err(SettingFault::together("on", "one alone cannot be on: set count to 2 or more"));
    }
    Ok(())
}) }

#[test]
fn every_kind_is_read_and_shown() {
    let pairs = [
        ("on", "true", "true"),
        ("count", " 7 ", "7"),
        ("bytes", "2048", "2KiB"),
        ("share", "25%", "0.25"),
        ("pause", "60000ms", "1m"),
        ("limit", "off", "off"),
        ("trigger", "sync, ack", "sync,use_ack"),
        ("colour", "blue", "blue"),
        ("host", "::1", "::1"),
        ("names", "a+b", "a+b"),
        ("password", "p w", "p w"),
        ("depth", "9", "9"),
        ("tag_a", "7", "7"),
        ("tag_b", "none", "none"),
    ];
    let config = Everything::from_pairs(pairs.map(|(key, value, _)| (key, value))).unwrap();
    assert_eq!((config.count, config.bytes, config.inner.depth), (7, 2048, 9));
    assert_eq!((config.share, config.tags.as_slice()), (0.25, &[('a', 7)][..]));
    assert_eq!((config.colour, config.trigger), (Colour::Blue, SendOptions::SYNC_ACK));
    for (setting, (key, _, shown)) in Everything::table().iter().zip(pairs) {
        assert_eq!((setting.key, (setting.get)(&config).as_str()), (key, shown));
    }
    // What is shown can be read, for the defaults as well.
    for info in Everything::describe() {
        let mut again = config.clone();
        again.set(info.key, &info.default).unwrap();
    }
    let mut defaults = config;
    Everything::describe().iter().for_each(|info| defaults.set(info.key, &info.default).unwrap());
    assert_eq!(defaults, Everything::default());
}

#[test]
fn all_faults_are_found_and_nothing_is_changed() {
    let wrong = [
        ("on", "yes", "true or false"),
        ("count", "11", "a whole number from 1 to 10"),
        ("bytes", "2MiB", "a size from 1 to 1MiB, such as 64KiB"),
        ("share", "1.5", "a number from 0 to 1"),
        ("pause", "61s", "a duration from 0s to 1m, such as 250ms"),
        ("limit", "0s", "off, or a duration from 1ms to 1m, such as 250ms"),
        ("trigger", "colour", "names of send options joined by commas, such as ack,sync, or an integer"),
        ("colour", "green", "red or blue"),
        ("host", "localhost", "an IP address"),
        ("names", "a+b+c", "a list, or a text joined by +, each a text that is not empty"),
        ("password", "", "a text that is not empty"),
        ("depth", "-1", "a whole number from 0 to 9"),
        ("tag_a", "10", "none, or a whole number from 0 to 9"),
        ("tag_b", "10", "none, or a whole number from 0 to 9"),
    ];
    let faults = Everything::from_pairs(wrong.map(|(key, value, _)| (key, value))).unwrap_err();
    assert_eq!(faults.len(), wrong.len());
    for (fault, (key, value, expected)) in faults.iter().zip(wrong) {
        let shown = if ["password", "tag_b"].contains(&key) { "(hidden)" } else { value };
        assert_eq!(*fault, SettingFault::invalid(key, shown, expected));
        let mut config = Everything::default();
        config.set(key, value).unwrap_err();
        assert_eq!(config, Everything::default());
    }
}

#[test]
fn what_was_set_in_code_is_checked_too() {
    assert_eq!(Everything::default().validate(), Ok(()));
    let many = Everything { count: 11, ..Everything::default() };
    assert_eq!(many.validate().unwrap_err().key, "count");
    let long = Everything { limit: Some(Duration::from_nanos(1)), ..Everything::default() };
    assert_eq!(long.validate().unwrap_err().key, "limit");
    let alone = Everything { on: true, ..Everything::default() };
    assert_eq!(alone.validate().unwrap_err().to_string(), "on: one alone cannot be on: set count to 2 or more");
    let tagged = Everything { tags: vec![('a', 10)], ..Everything::default() };
    assert_eq!(tagged.validate().unwrap_err().key, "tag_a");
    let crowd = Everything { names: vec!["a".to_owned(); 3], ..Everything::default() };
    assert_eq!(crowd.validate().unwrap_err().key, "names");
    let hidden = Everything { password: String::new(), ..Everything::default() };
    assert!(hidden.validate().unwrap_err().to_string().contains("(hidden)"));
}

#[test]
fn keys_must_be_known_and_given_once() {
    let faults = Everything::from_pairs([("cuont", "1"), ("count", "2"), ("count", "3")]).unwrap_err();
    assert!(faults[0].to_string().starts_with(r#"there is no key "cuont"; did you mean "count"? (known: on, count, "#));
    assert_eq!(faults[1].to_string(), "count is given twice");
    assert_eq!(
        <()>::from_pairs([("a", "b")]).unwrap_err()[0].to_string(),
        r#"there is no key "a"; there is nothing to set"#
    );
}

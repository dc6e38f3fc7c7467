//! Configurations with the real parts: what a file says becomes a channel, and what is wrong is said with its place.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::time::Duration;

use tribes::config::Config;
use tribes::registry::{PartKind, Registry};
use tribes::{Channel, SendOptions, To};

/// Tomcat's own example.
const FIRST: &str = include_str!("../config/server-first.xml");
/// The same for a second member of the machine, with a third interceptor.
const SECOND: &str = include_str!("../config/server-second.xml");

fn toml(text: &str) -> Config {
    Config::from_toml(text, "tribes.toml").unwrap()
}

fn faults(text: &str) -> Vec<String> {
    let error = toml(text).channel().map(|channel| format!("{channel:?}")).unwrap_err();
    error.faults().iter().map(ToString::to_string).collect()
}

fn layers(channel: &Channel) -> Vec<&'static str> {
    channel.stats().layers.iter().map(|layer| layer.name).collect()
}

#[test]
fn an_empty_file_is_the_facades_default() {
    let channel = toml("").channel().unwrap();
    let builder = tribes::channel().build().unwrap();
    assert_eq!(layers(&channel), layers(&builder));
    assert_eq!((channel.send_options(), channel.name()), (builder.send_options(), None));
}

#[test]
fn every_fault_has_its_place_its_key_and_what_would_be_right() {
    let text = r#"[channel]
heartbeat = "5"

[receiver]
prot = 4000
bind = "localhost"

[membership]
type = "multicst"

[sender]
timeout = "0s"

[[interceptor]]
type = "gzip"
level = 99
min_sise = 1

[[interceptor]]
type = "no-such"
"#;
    let found = faults(text);
    let expected: [(&str, &[&str]); 8] = [
        ("tribes.toml:2:1: [channel]: heartbeat is \"5\", but must be ", &["off, or a duration from 1ms to 24h"]),
        ("tribes.toml:5:1: [receiver]: there is no key \"prot\"", &["did you mean \"port\"?"]),
        ("tribes.toml:6:1: [receiver]: bind is \"localhost\", but must be ", &["IP address"]),
        (
            "tribes.toml:9:1: [membership]: there is no membership service \"multicst\"",
            &["did you mean \"multicast\"?"],
        ),
        ("tribes.toml:12:1: [sender]: timeout is \"0s\", but must be ", &["from 1"]),
        ("tribes.toml:16:1: [[interceptor]] gzip: level is \"99\"", &["a whole number from 1 to 9"]),
        (
            "tribes.toml:17:1: [[interceptor]] gzip: there is no key \"min_sise\"",
            &["did you mean \"min_size\"?", "known: "],
        ),
        ("tribes.toml:20:1: [interceptor]: there is no interceptor \"no-such\"", &["gzip", "use that_crate as _;"]),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (fault, (start, parts)) in found.iter().zip(expected) {
        assert!(fault.starts_with(start), "{fault}\nshould start with {start}");
        parts.iter().for_each(|part| assert!(fault.contains(part), "{fault}\nshould have {part}"));
    }
}

#[test]
fn a_stack_that_cannot_be_is_a_fault_of_the_file() {
    let found = faults("[[interceptor]]\ntype = \"gzip\"\n[[interceptor]]\ntype = \"gzip\"\nlevel = 0\n");
    assert!(found[0].starts_with("tribes.toml:5:1: [[interceptor]] gzip: level is"), "{found:?}");
    let found = faults("[[interceptor]]\ntype = \"gzip\"\n[[interceptor]]\ntype = \"gzip\"\n");
    assert!(found[0].starts_with("tribes.toml: ") && found[0].contains("gzip"), "{found:?}");
}

#[test]
fn every_setting_that_a_tomcat_attribute_becomes_exists() {
    let settings = Config::tomcat_settings();
    assert!(settings.len() > 40);
    for (kind, name, key) in settings {
        let part = Registry::find(kind, name).unwrap();
        assert!(part.settings().iter().any(|info| info.key == key), "{name} has no {key}");
    }
}

#[test]
fn the_schema_in_the_repository_is_that_of_the_types() {
    let committed = include_str!("../../docs/tribes.schema.json");
    assert!(
        committed == Config::json_schema(),
        "docs/tribes.schema.json is stale: cargo run -p tribes-cli -- check --schema > docs/tribes.schema.json"
    );
    let schema: serde_json::Value = serde_json::from_str(committed).unwrap();
    let interceptors = schema["properties"]["interceptor"]["items"]["oneOf"].as_array().unwrap();
    assert_eq!(interceptors.len(), Registry::list(PartKind::Interceptor).len());
    let gzip = interceptors.iter().find(|layer| layer["properties"]["type"]["const"] == "gzip").unwrap();
    assert_eq!(gzip["properties"]["level"]["maximum"], 9);
}

#[test]
fn every_default_can_be_written_down_and_read() {
    for kind in [PartKind::Interceptor, PartKind::Membership, PartKind::Sender, PartKind::Receiver] {
        for part in Registry::list(kind) {
            assert!(!part.help.is_empty() && part.help.len() < 120, "{}: {}", part.name, part.help);
            for info in part.settings() {
                assert!(info.help.ends_with('.') && info.help.len() < 200, "{} {}: {}", part.name, info.key, info.help);
                let alone = [(info.key, info.default.as_str())];
                let is_bad = match kind {
                    PartKind::Interceptor => Registry::interceptor(part.name, alone).err(),
                    PartKind::Membership => Registry::membership(part.name, alone).err(),
                    PartKind::Sender => Registry::sender(part.name, alone).err(),
                    PartKind::Receiver => Registry::receiver(part.name, alone).err(),
                };
                // What a part needs beside it may be missing; the value itself is right.
                let text = is_bad.map_or_else(String::new, |error| error.to_string());
                assert!(!text.contains(&format!("{} is {:?}", info.key, info.default)), "{text}");
            }
        }
    }
}

#[test]
fn arrays_stand_for_lists_only() {
    let text = "[receiver]\nport = [4001]\n[[interceptor]]\ntype = \"static-members\"\nmembers = [\"127.0.0.1:4001\"]\n\
                [[interceptor]]\ntype = \"gzip\"\nlevel = [9]\n[[interceptor]]\ntype = \"encrypt\"\nkey = \
                [\"e9e1b0c95b56f85489d29c1b2f843af1c629c47e5d274a8009c405ce9d14bdce\"]\n";
    let error = Config::from_toml(text, "tribes.toml").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("[receiver]: port must be ") && text.contains("[[interceptor]] gzip: level must be "),
        "{text}"
    );
    assert_eq!(error.faults().len(), 2, "{text}");
}

/// Each part's page shows all its settings, at their defaults where there is one that makes a channel.
#[test]
fn every_block_of_the_guide_loads() {
    const CHOSEN: [(&str, &str); 2] = [("encrypt", "key"), ("rate-limit", "messages_per_s")];
    let guide = include_str!("../../guides/interceptors.md");
    let blocks: Vec<_> = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    for block in &blocks {
        toml(block).channel().unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
    for part in Registry::list(PartKind::Interceptor) {
        let block = blocks.iter().find(|block| toml(block).interceptors() == [part.name]);
        let block = block.unwrap_or_else(|| panic!("the guide has no block for {}", part.name));
        let page = guide.split(&format!("\n## {}\n", part.name)).nth(1).unwrap().split("\n## ").next().unwrap();
        assert!(page.contains("**Cost.** "), "the page of {} has no measured cost", part.name);
        let config = toml(block);
        for info in part.settings() {
            assert!(block.contains(&format!("\n{} = ", info.key)), "{} {} is not in the guide", part.name, info.key);
            if !CHOSEN.contains(&(part.name, info.key)) {
                assert_eq!(config.get(part.name, info.key), Some(info.default), "{} {}", part.name, info.key);
            }
        }
    }
}

#[test]
fn tomcats_files_mean_what_they_say() {
    let (first, notes) = Config::from_server_xml(FIRST, "server.xml").unwrap();
    assert_eq!(first.interceptors(), ["tcp-failure-detector", "message-dispatch"]);
    let ignored: Vec<_> = notes.iter().map(|note| (note.attribute.as_str(), note.matters)).collect();
    assert_eq!(ignored, [("selectorTimeout", false), ("maxThreads", false)]);
    assert_eq!(first.channel().unwrap().send_options(), SendOptions::from_bits_retain(8));

    let (second, _) = Config::from_server_xml(SECOND, "server.xml").unwrap();
    assert_eq!(second.interceptors(), ["tcp-failure-detector", "message-dispatch", "throughput"]);
    assert_eq!(second.channel().unwrap().send_options(), SendOptions::SYNC_ACK);
    // The TOML says the same.
    for config in [first, second] {
        let again = Config::from_toml(&config.to_toml(), "again.toml").unwrap();
        assert_eq!(again.to_toml(), config.to_toml());
        for (section, key) in [("membership", "drop_time"), ("receiver", "port"), ("channel", "send_options")] {
            assert_eq!(again.get(section, key), config.get(section, key));
        }
        again.channel().unwrap();
    }
}

/// On loopback and a group of their own, so that they meet nobody; all else is from the files.
#[tokio::test]
async fn tomcats_files_run_as_a_group() {
    let port = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let member = |text: &str| {
        let alone = [("RECEIVER__BIND", "127.0.0.1".to_owned()), ("MEMBERSHIP__PORT", port.to_string())];
        let alone = alone.map(|(name, value)| (format!("TRIBES__{name}"), value));
        let (config, _) = Config::from_server_xml(text, "server.xml").unwrap();
        config.with_env(alone).unwrap().channel().unwrap()
    };
    let (first, second) = (member(FIRST), member(SECOND));
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    first
        .on_message(move |message, _| {
            let heard = heard.clone();
            let body = message.bytes().clone();
            async move {
                heard.send(body)?;
                Ok(())
            }
        })
        .forever();
    first.start().await.unwrap();
    second.start_and_wait(1, Duration::from_secs(20)).await.unwrap();
    second.send(To::All, "by the second file", second.send_options()).await.unwrap();
    assert_eq!(hears.recv().await.unwrap(), "by the second file");
    first.stop().await;
    second.stop().await;
}

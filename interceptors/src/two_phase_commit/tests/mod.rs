mod group;
mod seeded;
mod settling;
mod stopping;
mod tribes;

use std::time::Duration;

use tribes_core::SendOptions;
use tribes_core::settings::Settings as _;

use super::TwoPhaseCommitConfig;

#[test]
fn options_from_text() {
    let mut config = TwoPhaseCommitConfig::default();
    for (key, value) in [("trigger", "512"), ("timeout", "250ms"), ("expire", "5s"), ("max_memory", "4MiB")] {
        config.set(key, value).unwrap();
    }
    let expected = TwoPhaseCommitConfig::default().with_trigger(SendOptions::from_bits_retain(0x200));
    let expected = expected.with_timeout(Duration::from_millis(250)).with_expire(Duration::from_secs(5));
    assert_eq!(config, expected.with_max_memory(4 << 20));
    for (key, value) in [
        ("trigger", "fast"),
        ("timeout", "9ms"),
        ("timeout", "2h"),
        ("expire", "0s"),
        ("expire", "25h"),
        ("max_memory", "0"),
        ("max_memory", "17GiB"),
    ] {
        assert!(config.set(key, value).unwrap_err().to_string().contains(key), "{key}={value}");
    }
    assert!(config.set("deepclone", "true").unwrap_err().to_string().ends_with("timeout, expire, max_memory)"));
    assert!(config.validate().is_ok());
    assert!(config.with_expire(config.timeout).validate().is_err());
    assert!(config.with_timeout(Duration::ZERO).validate().is_err());
    assert!(config.with_max_memory(0).validate().is_err());
}

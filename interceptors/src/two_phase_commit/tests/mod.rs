mod group;
mod seeded;
mod settling;
mod tribes;

use std::time::Duration;

use tribes_core::settings::Settings as _;
use tribes_core::{IntoLayer as _, SendOptions};
use tribes_testkit::suite::InterceptorSuite;

use super::{TwoPhaseCommit, TwoPhaseCommitConfig};

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
    assert!(config.set("deepclone", "true").unwrap_err().to_string().ends_with("timeout, expire, max_memory"));
    assert!(config.validate().is_ok());
    assert!(config.with_expire(config.timeout).validate().is_err());
    assert!(config.with_timeout(Duration::ZERO).validate().is_err());
    assert!(config.with_max_memory(0).validate().is_err());
}

/// `outcomes` wants the living member to get what the dead one cannot: the opposite of what this layer is for. `garbage` ends with
/// a peer that hears no votes. See [`group`] for what is said of both instead.
#[test]
fn it_passes_the_suite() {
    for seed in 0..3 {
        let suite = InterceptorSuite::new().seed(seed).skip("outcomes").skip("garbage");
        suite.run(|| TwoPhaseCommit::default().into_layer()).assert_passed();
    }
    // With a trigger, those without it overtake the others, which `concurrency` sends in turn.
    let trigger = TwoPhaseCommitConfig::default().with_trigger(SendOptions::from_bits_retain(0x200));
    let suite = InterceptorSuite::new().skip("outcomes").skip("garbage").skip("concurrency");
    suite.run(|| TwoPhaseCommit::new(trigger).into_layer()).assert_passed();
}

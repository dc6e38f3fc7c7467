//! | file | what |
//! |---|---|
//! | `core` | one sender's stream, case by case and against what Java did |
//! | `properties` | the same under every permutation, duplication and loss |
//! | `layer` | the layer in a channel: bytes, answers, events, the timer |
//! | `group` | groups over a network that loses, doubles and reorders; the conformance suite |
//! | `stacks` | above layers that change bytes |

mod core;
mod group;
mod layer;
mod properties;
#[cfg(all(feature = "fragmentation", feature = "gzip"))]
mod stacks;

use std::time::Duration;
use tribes_core::settings::Settings as _;

use super::core::Bounds;
use super::{Order, OrderConfig};

const BOUNDS: Bounds = Bounds { expire: Duration::from_secs(3), max_queue: 8192, forward_expired: true };

#[test]
fn options_from_text() {
    let mut config = OrderConfig::default();
    assert_eq!((config.expire, config.max_queue, config.forward_expired), (Duration::from_secs(3), 8192, true));
    for (key, value) in [
        ("expire", "250ms"),
        ("max_queue", "100"),
        ("max_bytes", "1MiB"),
        ("forward_expired", "false"),
        ("max_outsiders", "64"),
        ("trigger", "0x200"),
    ] {
        config.set(key, value).unwrap();
    }
    let expected = OrderConfig::default()
        .with_expire(Duration::from_millis(250))
        .with_max_queue(100)
        .with_max_bytes(1 << 20)
        .with_forward_expired(false)
        .with_max_outsiders(64)
        .with_trigger(tribes_core::SendOptions::from_bits_retain(0x200));
    assert_eq!(config, expected);
    for (key, value) in [
        ("expire", "0s"),
        ("expire", "2h"),
        ("expire", "soon"),
        ("max_queue", "0"),
        ("max_queue", "2000000"),
        ("max_bytes", "1KiB"),
        ("max_outsiders", "1"),
        ("forward_expired", "yes"),
        ("trigger", "loud"),
    ] {
        let error = config.set(key, value).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("must be"), "{error}");
    }
    assert_eq!(config, expected);
    assert!(config.set("expiry", "1s").unwrap_err().to_string().contains("known: trigger, expire"));
}

#[test]
fn options_out_of_bounds_are_refused() {
    use tribes_core::ChannelInterceptor as _;
    let layer = Order::new(OrderConfig::default().with_max_queue(0));
    let error = layer.check_config().unwrap_err();
    assert!(error.to_string().contains("max_queue"), "{error}");
}

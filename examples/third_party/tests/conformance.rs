//! What every interceptor has to do, and what this one promises beside it.

use acme_checksum::{Checksum, ChecksumConfig};
use tribes::registry::{Configure, Registry};
use tribes::{IntoLayer, SendOptions};
use tribes_testkit::suite::Profile;

tribes_testkit::conformance!(Checksum::default, Profile::default());

// Once more with short bodies going without.
tribes_testkit::conformance!(
    short_ones_without,
    || Checksum::configure(ChecksumConfig { min_size: 100 }).expect("every size will do"),
    Profile::default()
);

#[test]
fn a_configuration_finds_it() {
    let layer = Registry::interceptor("acme.checksum", [("min_size", "1KiB")]).expect("it is registered");
    assert_eq!(layer.name(), "acme.checksum");
    let error = Registry::interceptor("acme.checksum", [("min_sise", "1KiB")]).expect_err("there is no such key");
    assert!(error.to_string().contains("did you mean \"min_size\"?"), "{error}");
}

// `stack` has the layer in a started channel; what is below it is seen and answered by the test.
#[tokio::test]
async fn what_was_damaged_is_refused() {
    let stack = tribes_testkit::stack([Checksum::default().into_layer()]).await;
    let peer = &stack.members[0];
    stack.channel.send(peer, "hello", SendOptions::ACK).await.expect("it goes out");
    let mut message = stack.below.take_sent().remove(0).message;
    message.sender = peer.clone(); // as if the peer had sent it
    let mut bytes = message.body.to_bytes().to_vec();
    bytes[0] ^= 1;
    let damaged = tribes::ChannelMessage { body: bytes.into(), ..message.clone() };
    assert!(stack.below.inject(damaged).await.passed.is_err());
    stack.below.inject(message).await.handled().await;
    assert_eq!(stack.above.texts(), ["hello"]);
}

//! What every interceptor has to do, and what this one promises beside it.

use acme_checksum::{Checksum, ChecksumConfig};
use tribes::registry::{Configure, Registry};
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

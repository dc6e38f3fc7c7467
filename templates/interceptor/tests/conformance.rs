//! What every interceptor has to do, and what this one promises beside it.

use tribes::registry::Registry;
use tribes_testkit::suite::Profile;
use {{crate_name}}::{{layer | upper_camel_case}};

tribes_testkit::conformance!({{layer | upper_camel_case}}::default, Profile::default());

#[test]
fn a_configuration_finds_it() {
    let layer = Registry::interceptor("{{vendor}}.{{layer}}", [("max_size", "1KiB")]).expect("it is registered");
    assert_eq!(layer.name(), "{{vendor}}.{{layer}}");
    let error = Registry::interceptor("{{vendor}}.{{layer}}", [("max_sise", "1KiB")]).expect_err("no such key");
    assert!(error.to_string().contains("did you mean \"max_size\"?"), "{error}");
}

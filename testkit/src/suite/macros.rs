//! The macros that make a test of each case.

/// Makes a module with one test for each case of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! __suite_tests {
    (($module:ident, $run:ident, $subject:tt) $($name:ident $demand:literal;)*) => {
        mod $module {
            #[allow(unused_imports, reason = "what the expressions name")]
            use super::*;

            $(
                #[doc = $demand]
                #[test]
                fn $name() {
                    let site = $crate::suite::TestSite { package: env!("CARGO_PKG_NAME"), module: module_path!() };
                    $crate::suite::$run(stringify!($name), site, $subject);
                }
            )*
        }
    };
}

/// Holds an interceptor to what every interceptor has to do: makes a module with one `#[test]` for each case of the suite,
/// so that `cargo test` says which failed.
///
/// The first argument is the factory, anything that is `Fn() -> impl IntoLayer + Send + Sync + 'static`; each case makes as
/// many layers as it needs. The second is the [`Profile`](crate::suite::Profile): what the layer does on purpose. What it
/// does not declare is tested. This is a whole `tests/conformance.rs`:
///
/// ```
/// # use tribes_core::SyncInterceptor;
/// # #[derive(Debug)] struct Checksum;
/// # impl SyncInterceptor for Checksum { fn name(&self) -> &'static str { "acme.checksum" } }
/// # impl Checksum { fn factory() -> impl Fn() -> Checksum { || Checksum } }
/// // use acme_checksum::Checksum;
/// use tribes_testkit::suite::Profile;
///
/// tribes_testkit::conformance!(Checksum::factory(), Profile::default());
/// ```
///
/// The module is called `conformance`, or as an identifier before the factory says:
/// `conformance!(narrow, || MyLayer::new(1), Profile::default())`.
///
/// See [`suite`](crate::suite) for the cases, and for the environment variables that set the seeds and have reports written.
#[macro_export]
macro_rules! conformance {
    ($module:ident, $factory:expr, $profile:expr $(,)?) => {
        $crate::__interceptor_cases! { [$crate::__suite_tests!] ($module, __interceptor_test, ($factory, $profile)) }
    };
    ($factory:expr, $profile:expr $(,)?) => {
        $crate::conformance!(conformance, $factory, $profile);
    };
}

/// Holds a [`ChannelSender`](tribes_core::ChannelSender) to what every sender has to do: one `#[test]` for each case.
///
/// The first argument makes the sender, the second a receiver that understands it; both are given the
/// [`Site`](crate::suite::Site) where they will live. The third is the [`IoProfile`](crate::suite::IoProfile). An identifier
/// in front names the module, which is otherwise called `sender`.
///
/// ```
/// use tribes_testkit::suite::{IoProfile, Site};
///
/// tribes_testkit::sender_suite!(
///     |site: &Site| site.node().sender(),
///     |site: &Site| site.node().receiver(),
///     IoProfile::simulated()
/// );
/// ```
#[macro_export]
macro_rules! sender_suite {
    ($module:ident, $sender:expr, $receiver:expr, $profile:expr $(,)?) => {
        $crate::__sender_cases! { [$crate::__suite_tests!] ($module, __sender_test, ($sender, $receiver, $profile)) }
    };
    ($sender:expr, $receiver:expr, $profile:expr $(,)?) => {
        $crate::sender_suite!(sender, $sender, $receiver, $profile);
    };
}

/// Holds a [`ChannelReceiver`](tribes_core::ChannelReceiver) to what every receiver has to do: one `#[test]` for each case.
///
/// The first argument makes the receiver, the second a sender that speaks to it; otherwise as
/// [`sender_suite!`](crate::sender_suite). The module is called `receiver` unless an identifier in front names it.
#[macro_export]
macro_rules! receiver_suite {
    ($module:ident, $receiver:expr, $sender:expr, $profile:expr $(,)?) => {
        $crate::__receiver_cases! { [$crate::__suite_tests!] ($module, __receiver_test, ($receiver, $sender, $profile)) }
    };
    ($receiver:expr, $sender:expr, $profile:expr $(,)?) => {
        $crate::receiver_suite!(receiver, $receiver, $sender, $profile);
    };
}

/// Holds a [`MembershipService`](tribes_core::MembershipService) to what every one has to do: one `#[test]` for each case.
///
/// The first argument makes the service, the second the sender and the third the receiver of the same channel, as some
/// services send through it; otherwise as [`sender_suite!`](crate::sender_suite). The module is called `membership` unless an
/// identifier in front names it.
#[macro_export]
macro_rules! membership_suite {
    ($module:ident, $service:expr, $sender:expr, $receiver:expr, $profile:expr $(,)?) => {
        $crate::__membership_cases! {
            [$crate::__suite_tests!] ($module, __membership_test, ($service, $sender, $receiver, $profile))
        }
    };
    ($service:expr, $sender:expr, $receiver:expr, $profile:expr $(,)?) => {
        $crate::membership_suite!(membership, $service, $sender, $receiver, $profile);
    };
}

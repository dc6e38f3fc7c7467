//! The order of the layers: what each one demands and advises, both ways; what is known to work is built; and whoever follows
//! the fixes comes to a stack that is built.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use tribes_core::error::BuildFault;
use tribes_core::registry::{PartKind, Registry};
use tribes_core::{BuildError, Channel, IntoLayer, Layer};
use tribes_interceptors::encrypt::Key;
use tribes_interceptors::{
    AgreedViews, Audit, AuditConfig, Chaos, Compress, Coordinator, Dedup, DomainFilter, Encrypt, EncryptConfig,
    Fragmentation, Gzip, MessageDispatch, Order, RateLimit, RateLimitConfig, SimpleCoordinator, StaticMembers,
    TcpFailureDetector, TcpPing, Throughput, Trace, TwoPhaseCommit,
};
use tribes_testkit::Recorder;

/// All layers, in the order in which they stand well together.
const ALL: [&str; 20] = [
    "audit",
    "throughput",
    "trace",
    "two-phase-commit",
    "rate-limit",
    "message-dispatch",
    "coordinator",
    "simple-coordinator",
    "agreed-views",
    "dedup",
    "order",
    "compress",
    "gzip",
    "fragmentation",
    "encrypt",
    "chaos",
    "tcp-ping",
    "tcp-failure-detector",
    "static-members",
    "domain-filter",
];

/// Who belongs above whom: by a demand.
const BINDING: &[(&str, &str)] = &[
    ("agreed-views", "domain-filter"),
    ("agreed-views", "static-members"),
    ("agreed-views", "tcp-failure-detector"),
    ("compress", "static-members"),
    ("compress", "tcp-failure-detector"),
    ("coordinator", "domain-filter"),
    ("coordinator", "static-members"),
    ("coordinator", "tcp-failure-detector"),
    ("dedup", "fragmentation"),
    ("encrypt", "static-members"),
    ("encrypt", "tcp-failure-detector"),
    ("fragmentation", "static-members"),
    ("fragmentation", "tcp-failure-detector"),
    ("gzip", "static-members"),
    ("gzip", "tcp-failure-detector"),
    ("order", "static-members"),
    ("order", "tcp-failure-detector"),
    ("simple-coordinator", "domain-filter"),
    ("simple-coordinator", "static-members"),
    ("simple-coordinator", "tcp-failure-detector"),
    ("static-members", "domain-filter"),
    ("tcp-failure-detector", "static-members"),
    ("tcp-ping", "static-members"),
    ("trace", "message-dispatch"),
    ("trace", "static-members"),
    ("trace", "tcp-failure-detector"),
    ("two-phase-commit", "chaos"),
    ("two-phase-commit", "compress"),
    ("two-phase-commit", "encrypt"),
    ("two-phase-commit", "fragmentation"),
    ("two-phase-commit", "gzip"),
    ("two-phase-commit", "message-dispatch"),
    ("two-phase-commit", "order"),
    ("two-phase-commit", "rate-limit"),
    ("two-phase-commit", "static-members"),
    ("two-phase-commit", "tcp-failure-detector"),
];

/// By advice.
const ADVISED: &[(&str, &str)] = &[
    ("agreed-views", "encrypt"),
    ("compress", "encrypt"),
    ("compress", "fragmentation"),
    ("compress", "gzip"),
    ("fragmentation", "encrypt"),
    ("gzip", "encrypt"),
    ("gzip", "fragmentation"),
    ("message-dispatch", "encrypt"),
    ("message-dispatch", "order"),
    ("order", "encrypt"),
    ("order", "fragmentation"),
    ("tcp-failure-detector", "domain-filter"),
    ("tcp-ping", "domain-filter"),
    ("tcp-ping", "tcp-failure-detector"),
    ("trace", "encrypt"),
];

fn layer(name: &str) -> Layer {
    match name {
        "audit" => Audit::new(AuditConfig::default().with_path("never-opened.jsonl")).into_layer(),
        "throughput" => Throughput::default().into_layer(),
        "trace" => Trace::default().into_layer(),
        "rate-limit" => RateLimit::new(RateLimitConfig::default().with_messages_per_s(1000)).into_layer(),
        "message-dispatch" => MessageDispatch::default().into_layer(),
        "agreed-views" => AgreedViews::default().into_layer(),
        "dedup" => Dedup::default().into_layer(),
        "order" => Order::default().into_layer(),
        "two-phase-commit" => TwoPhaseCommit::default().into_layer(),
        "coordinator" => Coordinator::default().into_layer(),
        "simple-coordinator" => SimpleCoordinator::default().into_layer(),
        "compress" => Compress::default().into_layer(),
        "gzip" => Gzip::default().into_layer(),
        "fragmentation" => Fragmentation::default().into_layer(),
        "encrypt" => {
            Encrypt::new(EncryptConfig::default().with_keys([Key::from_bytes(&[1; 16]).unwrap()])).into_layer()
        }
        "chaos" => Chaos::default().into_layer(),
        "tcp-ping" => TcpPing::default().into_layer(),
        "tcp-failure-detector" => TcpFailureDetector::default().into_layer(),
        "static-members" => StaticMembers::default().into_layer(),
        "domain-filter" => DomainFilter::default().into_layer(),
        name => panic!("{name}"),
    }
}

fn build(stack: &[&str], order_check: bool) -> Result<Channel, BuildError> {
    let builder = Recorder::new().install(Channel::builder()).order_check(order_check);
    stack.iter().fold(builder, |builder, name| builder.interceptor(layer(name))).build()
}

/// Who has to go above whom.
fn moves(error: &BuildError) -> Vec<(&'static str, &'static str)> {
    let moves = error.faults().iter().map(|fault| match fault {
        BuildFault::Misplaced { upper, lower, .. } => {
            let text = fault.to_string();
            assert!(text.contains(&format!("move {upper} directly above {lower}")), "{text}");
            assert!(text.contains(&format!("layer {upper} stands below layer {lower}")), "{text}");
            (*upper, *lower)
        }
        fault => panic!("{fault}"),
    });
    moves.collect()
}

/// A new layer has its place here, too.
#[test]
fn all_layers_are_listed() {
    let linked = Registry::list(PartKind::Interceptor).iter().map(|part| part.name).collect::<BTreeSet<_>>();
    assert_eq!(linked, BTreeSet::from(ALL));
}

#[test]
fn every_pair_is_built_or_names_the_rule_that_it_breaks() {
    let (mut binding, mut advised) = (BTreeSet::new(), BTreeSet::new());
    for lower in ALL {
        for upper in ALL.into_iter().filter(|upper| *upper != lower) {
            let stack = [lower, upper];
            let Err(error) = build(&stack, true) else { continue };
            assert_eq!(moves(&error), [(upper, lower)], "{stack:?}");
            build(&[upper, lower], true).unwrap();
            let lenient = build(&stack, false);
            match lenient {
                Ok(_) => advised.insert((upper, lower)),
                Err(error) => {
                    assert_eq!(moves(&error), [(upper, lower)], "{stack:?}");
                    binding.insert((upper, lower))
                }
            };
        }
    }
    assert_eq!(Vec::from_iter(binding), BINDING);
    assert_eq!(Vec::from_iter(advised), ADVISED);
}

#[test]
fn what_is_known_to_work_is_built() {
    for stack in [
        // Tomcat's default, and the two in its documentation.
        &["message-dispatch", "tcp-failure-detector"][..],
        &["tcp-failure-detector", "message-dispatch"],
        &["tcp-failure-detector", "message-dispatch", "throughput"],
        &["order", "gzip"],
        &["order", "fragmentation", "encrypt"],
        &["gzip", "fragmentation"],
        &["message-dispatch", "encrypt", "tcp-failure-detector"],
        &["message-dispatch", "order", "fragmentation", "encrypt", "tcp-failure-detector"],
        // What Tribes recommends for members at fixed addresses.
        &["throughput", "message-dispatch", "order", "encrypt", "tcp-ping", "tcp-failure-detector", "static-members"],
        &["message-dispatch", "tcp-failure-detector", "static-members", "domain-filter"],
        &ALL,
    ] {
        build(stack, true).unwrap();
    }
    // The order of Tribes' demos, which such a group must be able to keep.
    let demo = [
        "throughput",
        "gzip",
        "fragmentation",
        "order",
        "message-dispatch",
        "tcp-failure-detector",
        "static-members",
        "domain-filter",
    ];
    assert_eq!(moves(&build(&demo, true).unwrap_err()), [("message-dispatch", "order"), ("order", "fragmentation")]);
    build(&demo, false).unwrap();
}

#[test]
fn all_faults_are_reported_at_once() {
    let recorder = Recorder::new();
    let builder = ["tcp-failure-detector", "encrypt", "order", "order"]
        .iter()
        .fold(recorder.install(Channel::builder()), |builder, name| builder.interceptor(layer(name)));
    let error = builder.interceptor(RateLimit::new(RateLimitConfig::default())).build().unwrap_err();
    let text = error.to_string();
    for part in [
        "layer order stands in the stack twice",
        "move encrypt directly above tcp-failure-detector",
        "move order directly above tcp-failure-detector",
        "move order directly above encrypt",
        "the rate-limit refuses its configuration",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(error.faults().len(), 5, "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whoever_follows_the_fixes_comes_to_a_stack_that_is_built(
        stack in Just(ALL.to_vec()).prop_shuffle(),
        order_check: bool,
        seed: u64,
    ) {
        let mut stack = stack;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut tries = 0;
        while let Err(error) = build(&stack, order_check) {
            tries += 1;
            prop_assert!(tries < 200, "{stack:?}");
            let moves = moves(&error);
            let (upper, lower) = moves[rng.usize(..moves.len())];
            let from = stack.iter().position(|name| *name == upper).unwrap();
            stack.remove(from);
            let to = stack.iter().position(|name| *name == lower).unwrap();
            prop_assert!(to < from);
            stack.insert(to, upper);
        }
    }
}

//! What a group of Java and Rust members must do, as scenarios that run on any combination of the two.
//!
//! A scenario takes the implementation of each side; [`ways!`] makes a test of each combination. `java_to_java` runs are
//! the self-check of the harness and the Java peer: what fails there is not our node's fault.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::time::Duration;

use tribes_interop::{Event, Failure, Impl, Node, Scenario, Spec};

mod coordinator;
mod death;
mod encrypt;
mod fixed;
mod membership;
mod messages;
mod mixed;
mod order;
mod order_layer;
mod ours;
mod pieces;
mod probes;
mod rpc;
mod stacks;
mod two_phase;

/// Time for what takes milliseconds when all is well, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(15);
/// Heartbeats come faster than by default where the time does not matter: a Java node starts after four of them.
const FREQUENCY: Duration = Duration::from_millis(200);

/// Makes a module named after the scenario, with one test for each way.
macro_rules! ways {
    ($scenario:ident: $($way:ident),+ $(,)?) => {
        mod $scenario {
            $($crate::ways!(@ $way $scenario);)+
        }
    };
    (@ rust_to_java $scenario:ident) => { $crate::ways!(@@ rust_to_java $scenario Rust Java); };
    (@ java_to_rust $scenario:ident) => { $crate::ways!(@@ java_to_rust $scenario Java Rust); };
    (@ java_to_java $scenario:ident) => { $crate::ways!(@@ java_to_java $scenario Java Java); };
    (@ rust_to_rust $scenario:ident) => { $crate::ways!(@@ rust_to_rust $scenario Rust Rust); };
    (@@ $way:ident $scenario:ident $from:ident $to:ident) => {
        #[test]
        fn $way() -> Result<(), tribes_interop::Failure> {
            let name = concat!(stringify!($scenario), "::", stringify!($way));
            super::$scenario(name, tribes_interop::Impl::$from, tribes_interop::Impl::$to)
        }
    };
}
use ways;

/// Starts two nodes of one multicast group together and waits until each sees the other.
fn pair(scenario: &Scenario, from: &Spec, to: &Spec) -> Result<(Node, Node), Failure> {
    let group = scenario.group()?;
    let mut a = scenario.spawn("from", &from.clone().multicast(&group))?;
    let mut b = scenario.spawn("to", &to.clone().multicast(&group))?;
    let (a_id, b_id) = (a.local()?.id, b.local()?.id);
    a.wait_member_added(&b_id, SOON)?;
    b.wait_member_added(&a_id, SOON)?;
    Ok((a, b))
}

/// Starts these nodes in one multicast group and waits until all see each other.
fn group(scenario: &Scenario, specs: &[Spec]) -> Result<Vec<Node>, Failure> {
    let group = scenario.group()?;
    let nodes = (1_u8..)
        .zip(specs)
        .map(|(number, spec)| scenario.spawn(&format!("node {number}"), &spec.clone().multicast(&group)));
    let mut nodes = nodes.collect::<Result<Vec<_>, Failure>>()?;
    let ids = nodes.iter_mut().map(|node| Ok(node.local()?.id)).collect::<Result<Vec<_>, Failure>>()?;
    for (node, own) in nodes.iter_mut().zip(&ids) {
        for id in ids.iter().filter(|id| *id != own) {
            node.wait_member_added(id, SOON)?;
        }
    }
    Ok(nodes)
}

/// Sends a body to all of `to` at once; each gets it whole, as the next message that comes to it.
fn reaches(from: &mut Node, to: &mut [Node], options: &str, payload: &str, what: &str) -> Result<(), Failure> {
    let marks: Vec<_> = to.iter_mut().map(Node::mark).collect();
    let ids = to.iter_mut().map(|node| Ok(node.local()?.id)).collect::<Result<Vec<_>, Failure>>()?;
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let sent = from.send_to(&ids, options, payload)?;
    assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{what}, {options}");
    for (node, mark) in to.iter_mut().zip(marks) {
        let (_, message) = node.wait_since(mark, &format!("{what}, {options}"), SOON, |event| match event {
            Event::Message(message) => Some(message.clone()),
            _ => None,
        })?;
        assert_eq!(message.sha256, sent.sha256, "{what}, {options}: {} bytes came", message.len);
    }
    Ok(())
}

/// A figure that a layer of one of our nodes keeps.
fn gauge(node: &mut Node, layer: &str, name: &str) -> Result<u64, Failure> {
    node.ask("stats", |event| match event {
        Event::Other(json) if json["event"] == "stats" => json["layers"]
            .as_array()?
            .iter()
            .find(|entry| entry["name"] == layer)
            .and_then(|entry| entry["gauges"][name].as_u64()),
        _ => None,
    })
}

/// A node with quick heartbeats and otherwise the defaults.
fn quick(implementation: Impl) -> Spec {
    Spec::new(implementation).frequency(FREQUENCY)
}

/// Whether an event tells of this member's coming or going.
fn concerns(event: &Event, id: &str) -> bool {
    match event {
        Event::MemberAdded(member) | Event::MemberRemoved(member, _) => member.id == id,
        _ => false,
    }
}

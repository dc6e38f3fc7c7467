//! Who leads a group of both kinds: all members say the same.
//!
//! Where members go, one of ours is left: Java members alone do not always agree again. One that lost an election to a better
//! one keeps what it suggested for good, and abandons all later elections as "already running" (seen here with three of them);
//! and one that is told in an election of a member that is just leaving adds it again, and waits for it for ever.

use std::time::Duration;

use tribes_interop::Impl::{Java, Rust};
use tribes_interop::{Event, Failure, Impl, Node, Scenario, Spec, run};

use super::quick;

/// Java's own waits: a member that is not the first gives an election 15 s, and looks at its view each 5 s.
const AGREED: Duration = Duration::from_secs(60);
const DROP_TIME: Duration = Duration::from_secs(1);

/// A node on the `port` with the layer above Tomcat's detector.
fn spec(kind: Impl, port: u16, layer: &str, group: &str) -> Spec {
    quick(kind)
        .drop_time(DROP_TIME)
        .with("--bind", &format!("127.0.0.1:{port}"))
        .with("--auto-bind", "1")
        .with("--interceptor", layer)
        .with("--interceptor", "tcp-failure-detector")
        .multicast(group)
}

/// Nodes of these kinds; the first has the lowest port, and so on: it should lead.
fn group(scenario: &Scenario, kinds: &[Impl], layer: &str) -> Result<Vec<(String, Node)>, Failure> {
    let group = scenario.group()?;
    let mut ports = kinds.iter().map(|_| scenario.tcp_port()).collect::<Result<Vec<_>, _>>()?;
    ports.sort_unstable();
    let mut nodes = Vec::new();
    for (number, (kind, port)) in kinds.iter().zip(ports).enumerate() {
        nodes.push(scenario.spawn(&format!("node {number} ({kind:?})"), &spec(*kind, port, layer, &group))?);
    }
    nodes.into_iter().map(|mut node| Ok((node.local()?.id, node))).collect()
}

/// Waits until each of `nodes` has said that the first of them leads and that the view is all of them, and nothing else since; those of
/// `marks` after their mark.
fn agree(nodes: &mut [(String, Node)], marks: &[usize]) -> Result<(), Failure> {
    let ids: Vec<_> = nodes.iter().map(|(id, _)| id.clone()).collect();
    for (at, (own, node)) in nodes.iter_mut().enumerate() {
        let what = format!("{} to lead {ids:?}, says {own}", ids[0]);
        let mark = marks.get(at).copied().unwrap_or_default();
        node.wait_since(mark, &what, AGREED, |event| {
            let Event::Other(json) = event else { return None };
            let told = json["event"] == "coordinator" && json["id"] == ids[0].as_str();
            let view: Option<Vec<_>> = json["view"].as_array()?.iter().map(|id| id.as_str()).collect();
            (told && view? == ids).then_some(())
        })?;
    }
    for (own, node) in nodes {
        let mut last = None;
        node.count(|event| {
            if let Event::Other(json) = event
                && json["event"] == "coordinator"
            {
                last = json["id"].as_str().map(str::to_owned);
            }
            false
        });
        assert_eq!(last.as_ref(), Some(&ids[0]), "the coordinator in the end, says {own}");
    }
    Ok(())
}

/// How the first member goes.
#[derive(Clone, Copy)]
enum Exit {
    Leaves,
    IsKilled,
}

fn elections(name: &str, kinds: &[Impl], layer: &str, exits: &[Exit]) -> Result<(), Failure> {
    run(name, |scenario| {
        let mut nodes = group(scenario, kinds, layer)?;
        agree(&mut nodes, &[])?;
        for exit in exits {
            let (_, mut first) = nodes.remove(0);
            let marks: Vec<_> = nodes.iter_mut().map(|(_, node)| node.mark()).collect();
            let when = match exit {
                Exit::Leaves => first.stop()?,
                Exit::IsKilled => first.kill()?,
            };
            agree(&mut nodes, &marks)?;
            let what = format!("from the end of the coordinator until {} agree on the next", nodes.len());
            scenario.measured(&what, when.elapsed());
        }
        // Elections are no messages.
        for (id, node) in &mut nodes {
            assert_eq!(node.messages(), [], "{id}");
        }
        Ok(())
    })
}

/// One test for each order of members.
macro_rules! orders {
    ($($name:ident: $layer:literal, [$($kind:ident),+], [$($exit:ident),*];)+) => {
        $(#[test]
        fn $name() -> Result<(), Failure> {
            elections(concat!("coordinator::", stringify!($name)), &[$($kind),+], $layer, &[$(Exit::$exit),*])
        })+
    };
}

orders! {
    three_java: "coordinator", [Java, Java, Java], [];
    two_java_led_by_rust: "coordinator", [Rust, Java, Java], [];
    two_java_and_rust_led_by_rust_that_leaves: "coordinator", [Rust, Java, Java, Rust], [Leaves];
    two_java_and_rust_led_by_rust_that_is_killed: "coordinator", [Rust, Java, Java, Rust], [IsKilled];
    two_java_with_rust_between: "coordinator", [Java, Rust, Java], [IsKilled];
    two_java_with_rust_behind: "coordinator", [Java, Java, Rust], [Leaves, IsKilled];
    two_rust_led_by_java_that_leaves: "coordinator", [Java, Rust, Rust], [Leaves];
    two_rust_led_by_java_that_is_killed: "coordinator", [Java, Rust, Rust], [IsKilled];
    two_rust_with_java_between: "coordinator", [Rust, Java, Rust], [IsKilled, Leaves];
    two_rust_with_java_behind: "coordinator", [Rust, Rust, Java], [Leaves];
    three_rust: "coordinator", [Rust, Rust, Rust], [IsKilled, Leaves];
    simple_both_ways: "simple-coordinator", [Java, Rust, Java, Rust], [Leaves, IsKilled];
}

/// A newcomer that is the first of all takes over, whoever led.
fn newcomer(name: &str, old: Impl, new: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let group = scenario.group()?;
        let mut ports = [scenario.tcp_port()?, scenario.tcp_port()?];
        ports.sort_unstable();
        let mut old = scenario.spawn("old", &spec(old, ports[1], "coordinator", &group))?;
        let mut nodes = vec![(old.local()?.id, old)];
        agree(&mut nodes, &[])?;
        let mut new = scenario.spawn("new", &spec(new, ports[0], "coordinator", &group))?;
        nodes.insert(0, (new.local()?.id, new));
        agree(&mut nodes, &[])
    })
}

super::ways!(newcomer: rust_to_java, java_to_rust, rust_to_rust);

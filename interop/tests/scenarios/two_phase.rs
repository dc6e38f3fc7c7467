//! Messages in two phases, alone and above layers that change bytes: what arrives when all is well, and what when it is not.

use std::time::Duration;

use tribes_interop::{Event, Failure, Impl, Node, Scenario, Spec, run};

use super::{SOON, quick, ways};

const SIZES: [usize; 4] = [0, 1, 1000, 200_000];

/// A node with Tomcat's layers, and these between; in ours the first is above the dispatcher, which divides what goes to
/// several.
fn stack(kind: Impl, layers: &[&str]) -> Spec {
    let (first, rest) = layers.split_at(1);
    let dispatch = &["message-dispatch"][..];
    let (upper, lower) = if kind == Impl::Rust { (first, dispatch) } else { (dispatch, first) };
    let layers = upper.iter().chain(lower).chain(rest).chain(&["tcp-failure-detector"]);
    layers.fold(quick(kind), |spec, layer| spec.with("--interceptor", layer))
}

/// The sender, a receiver, and one more of each kind, which all see each other.
fn group(scenario: &Scenario, specs: Vec<Spec>) -> Result<(Node, Vec<Node>, Vec<String>), Failure> {
    let group = scenario.group()?;
    let names = ["from", "to", "also", "and"];
    let nodes = names.iter().zip(specs).map(|(name, spec)| scenario.spawn(name, &spec.multicast(&group)));
    let mut nodes = nodes.collect::<Result<Vec<_>, Failure>>()?;
    let ids = nodes.iter_mut().map(|node| Ok(node.local()?.id)).collect::<Result<Vec<_>, Failure>>()?;
    for (node, own) in nodes.iter_mut().zip(&ids) {
        for id in ids.iter().filter(|id| *id != own) {
            node.wait_member_added(id, SOON)?;
        }
    }
    let from = nodes.remove(0);
    Ok((from, nodes, ids.get(1..).unwrap_or_default().to_vec()))
}

ways!(two_phases: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn two_phases(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, &["two-phase-commit"], from, to)
}

ways!(two_phases_above_others: rust_to_java, java_to_rust, rust_to_rust);
fn two_phases_above_others(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, &["two-phase-commit", "gzip", "fragmentation,max_size=10000"], from, to)
}

/// Bodies of all sizes to one member, and to three of both kinds at once: each once, whole.
fn bodies(name: &str, layers: &[&str], from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let kinds = [from, to, Impl::Rust, Impl::Java];
        let (mut from, mut to, ids) = group(scenario, kinds.map(|kind| stack(kind, layers)).to_vec())?;
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let mut expected = [0; 3];
        for size in SIZES {
            for (count, options) in [(1, "ack,sync"), (1, "ack"), (3, "ack,sync"), (3, "async"), (3, "none")] {
                let marks: Vec<_> = to.iter_mut().map(Node::mark).collect();
                let payload = format!("size:{size}:{}", size + count);
                let sent = from.send_to(&ids[..count], options, &payload)?;
                let what = format!("{size} bytes to {count}, {options}");
                assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{what}");
                for (at, (node, mark)) in to.iter_mut().zip(marks).enumerate().take(count) {
                    let java = [from.implementation(), node.implementation()] == [Impl::Java; 2];
                    if java && options != "ack,sync" {
                        // The one may take the other's confirmation before the message, and loses both (T2, T48).
                        continue;
                    }
                    let (_, message) = node.wait_since(mark, &what, SOON, |event| match event {
                        // Between Java members an earlier one may come late.
                        Event::Message(message) if message.sha256 == sent.sha256 => Some(message.clone()),
                        _ => None,
                    })?;
                    assert_eq!((message.len, &message.sha256), (size as u64, &sent.sha256), "{what}");
                    expected[at] += 1;
                }
            }
        }
        for (node, expected) in to.iter_mut().zip(expected) {
            let java = [from.implementation(), node.implementation()] == [Impl::Java; 2];
            let got = node.messages().len();
            assert!(
                got == expected || (java && got > expected),
                "{got} instead of {expected}: some came twice, or a confirmation"
            );
        }
        Ok(())
    })
}

ways!(not_all_not_one: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// One of two destinations is frozen: the other does not get the message either.
fn not_all_not_one(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let layers = ["two-phase-commit"];
        // No failure detector: the frozen one stays in the group.
        let kinds = [from, to, to];
        let spec = |kind: Impl| quick(kind).with("--interceptor", layers[0]).with("--interceptor", "message-dispatch");
        let specs = kinds.map(|kind| spec(kind).drop_time(Duration::from_secs(60))).to_vec();
        let (mut from, mut to, ids) = group(scenario, specs)?;
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        to[1].freeze()?;
        let sent = from.send_to(&ids[..2], "ack,sync", "text:all-or-none")?;
        assert!(sent.failed > 0, "the frozen one cannot have it");
        let message = |event: &Event| matches!(event, Event::Message(_));
        to[0].stays_quiet("message that another one has not", Duration::from_secs(2), message)?;
        to[1].thaw()?;
        assert_eq!(from.send_to(&ids[..1], "ack,sync", "text:alone")?.failed, 0);
        to[0].wait_message(SOON, |message| message.len == 5)?;
        to[1].stays_quiet("message that was given up", Duration::from_secs(2), message)?;
        assert_eq!((to[0].messages().len(), to[1].messages().len()), (1, 0));
        Ok(())
    })
}

ways!(refused_in_the_second_phase: rust_to_java, java_to_rust, rust_to_rust);
/// The listener's refusal is that of the message.
fn refused_in_the_second_phase(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    const BAD: u64 = 500;
    run(name, |scenario| {
        let layers = ["two-phase-commit"];
        let to = stack(to, &layers).with("--fail-len", &BAD.to_string());
        let (mut from, mut to) = super::pair(scenario, &stack(from, &layers), &to)?;
        assert_eq!(from.send("ack,sync", &format!("size:{BAD}"), 1)?.failed, 1);
        assert_eq!(from.send("ack,sync", "size:501", 1)?.failed, 0);
        to.wait_message(SOON, |message| message.len == 501)?;
        assert_eq!(to.messages().len(), 2, "the refused message came once");
        Ok(())
    })
}

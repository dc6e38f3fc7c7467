//! The order interceptor: numbers for each destination, beside Java's.

use std::time::Duration;

use tribes_interop::{Event, Failure, Impl, Node, Scenario, Spec, run};

use super::{SOON, quick, ways};

const SIZES: [u64; 5] = [0, 1, 1000, 200_000, 5_000_000];
const LIMIT: Duration = Duration::from_secs(60);

/// A node with these interceptors, the first nearest to the application.
fn with(implementation: Impl, interceptors: &[&str]) -> Spec {
    interceptors.iter().fold(quick(implementation), |spec, name| spec.with("--interceptor", name))
}

/// The order interceptor as each spells its time.
fn order(implementation: Impl) -> &'static str {
    match implementation {
        Impl::Java => "order,expire=3000",
        Impl::Rust => "order,expire=3s",
    }
}

/// Three nodes of one group that see each other: a sender and two receivers.
fn three(scenario: &Scenario, from: &Spec, to: [&Spec; 2]) -> Result<(Node, [Node; 2]), Failure> {
    let group = scenario.group()?;
    let mut nodes = Vec::new();
    for (name, spec) in [("from", from), ("one", to[0]), ("two", to[1])] {
        nodes.push(scenario.spawn(name, &spec.clone().multicast(&group))?);
    }
    let ids: Vec<_> = nodes.iter_mut().map(|node| Ok(node.local()?.id)).collect::<Result<_, Failure>>()?;
    for (at, node) in nodes.iter_mut().enumerate() {
        for (_, id) in ids.iter().enumerate().filter(|(other, _)| *other != at) {
            node.wait_member_added(id, SOON)?;
        }
    }
    let [from, one, two] = nodes.try_into().map_err(|_nodes| Failure::new("three nodes were started".to_owned()))?;
    Ok((from, [one, two]))
}

/// Sends a body of each size under each kind of acknowledgement, to `to` alone or to all, and expects it whole.
fn bodies(from: &mut Node, to: &mut [Node], only: Option<&[&str]>) -> Result<(), Failure> {
    for options in ["ack,sync", "ack", "none"] {
        // The largest under the strictest only: a build for development encrypts slowly.
        for size in SIZES.into_iter().filter(|size| *size <= 1_000_000 || options == "ack,sync") {
            let marks: Vec<_> = to.iter_mut().map(Node::mark).collect();
            let payload = format!("size:{size}:{}", options.len());
            let sent = match only {
                Some(ids) => from.send_to(ids, options, &payload)?,
                None => from.send(options, &payload, 1)?,
            };
            assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{size} bytes, {options}");
            for (node, mark) in to.iter_mut().zip(marks) {
                let (_, message) = node.wait_since(mark, &format!("{size} bytes, {options}"), SOON, message)?;
                assert_eq!((message.len, &message.sha256), (size, &sent.sha256), "{options}");
            }
        }
    }
    Ok(())
}

fn message(event: &Event) -> Option<tribes_interop::MessageInfo> {
    match event {
        Event::Message(message) => Some(message.clone()),
        _ => None,
    }
}

ways!(order_to_one: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn order_to_one(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = super::pair(scenario, &with(from, &[order(from)]), &with(to, &[order(to)]))?;
        bodies(&mut from, std::slice::from_mut(&mut to), None)?;
        // And back, by numbers of its own.
        bodies(&mut to, std::slice::from_mut(&mut from), None)
    })
}

ways!(order_to_two: rust_to_java, java_to_rust, java_to_java);
/// To one member of the other kind alone first, so that the two have different numbers when both are sent to at once.
fn order_to_two(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let spec = with(to, &[order(to)]);
        let (mut from, mut to) = three(scenario, &with(from, &[order(from)]), [&spec, &spec])?;
        let one = to[0].local()?.id;
        bodies(&mut from, &mut to, None)?;
        bodies(&mut from, std::slice::from_mut(&mut to[0]), Some(&[one.as_str()]))?;
        bodies(&mut from, &mut to, None)?;
        for (node, count) in to.iter_mut().zip([39, 26]) {
            assert_eq!(node.messages().len(), count);
        }
        Ok(())
    })
}

ways!(order_mends_java: java_to_rust);
/// What Java's dispatcher sends over many connections in no order (T2) arrives in order, all of it.
fn order_mends_java(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    const COUNT: u64 = 5000;
    run(name, |scenario| {
        // Above the dispatcher, where messages are still in order.
        let (mut from, mut to) =
            super::pair(scenario, &with(from, &[order(from), "message-dispatch"]), &with(to, &[order(to)]))?;
        let sent = from.send("async", "size:64", COUNT)?;
        assert_eq!((sent.failed, sent.why.as_str()), (0, ""));
        let (mut due, mut wrong) = (0..COUNT, None);
        to.wait_for(&format!("{COUNT} messages"), LIMIT, |event| {
            if let Event::Message(message) = event {
                let expected = due.next();
                if message.number() != expected && wrong.is_none() {
                    wrong = Some((expected, message.number()));
                }
            }
            due.is_empty().then_some(())
        })?;
        assert_eq!(wrong, None, "(expected, received) of the first message out of order");
        Ok(())
    })
}

ways!(order_negative_ack: java_to_rust);
/// Java sends a refused message a second time; the copy is refused like the first, and the listener called once (T3).
fn order_negative_ack(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let to_spec = with(to, &[order(to)]).with("--fail-len", "77");
        let (mut from, mut to) = super::pair(scenario, &with(from, &[order(from)]), &to_spec)?;
        assert_eq!(from.send("ack,sync", "size:77", 1)?.failed, 1);
        assert_eq!(from.send("ack,sync", "size:78", 1)?.failed, 0);
        to.wait_message(SOON, |message| message.len == 78)?;
        assert_eq!(to.messages().iter().map(|message| message.len).collect::<Vec<_>>(), [77, 78]);
        Ok(())
    })
}

/// Layers that change bytes below the order interceptor (pieces are few: Java copies the whole for each of them). From Java with one destination only: it spoils the others' (T4).
fn above(name: &str, layers: &[&str], from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let stack = |kind| with(kind, &[&[order(kind)], layers].concat());
        let (mut from, mut to) = super::pair(scenario, &stack(from), &stack(to))?;
        bodies(&mut from, std::slice::from_mut(&mut to), None)
    })
}

/// The same to two members with different numbers at once.
fn above_to_two(name: &str, layers: &[&str], from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let stack = |kind| with(kind, &[&[order(kind)], layers].concat());
        let (mut from, mut to) = three(scenario, &stack(from), [&stack(to), &stack(to)])?;
        let one = to[0].local()?.id;
        bodies(&mut from, std::slice::from_mut(&mut to[0]), Some(&[one.as_str()]))?;
        bodies(&mut from, &mut to, None)
    })
}

const GZIP: &[&str] = &["gzip"];
const PIECES_ENCRYPTED: &[&str] = &["fragmentation,max_size=150000", "encrypt,key=000102030405060708090a0b0c0d0e0f"];

ways!(order_above_gzip_to_one: rust_to_java, java_to_rust);
fn order_above_gzip_to_one(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    above(name, GZIP, from, to)
}

ways!(order_above_gzip_to_two: rust_to_java, rust_to_rust);
fn order_above_gzip_to_two(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    above_to_two(name, GZIP, from, to)
}

ways!(order_above_pieces_encrypted_to_one: rust_to_java, java_to_rust);
fn order_above_pieces_encrypted_to_one(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    above(name, PIECES_ENCRYPTED, from, to)
}

ways!(order_above_pieces_encrypted_to_two: rust_to_java, rust_to_rust);
fn order_above_pieces_encrypted_to_two(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    above_to_two(name, PIECES_ENCRYPTED, from, to)
}

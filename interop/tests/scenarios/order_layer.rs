//! The order interceptor: numbers for each destination, beside Java's.

use std::slice;
use std::time::Duration;

use tribes_interop::{Event, Failure, Impl, Node, Scenario, Spec, run};

use super::{SOON, gauge, group, quick, reaches, ways};

const SIZES: [u64; 5] = [0, 1, 1000, 200_000, 5_000_000];
const ORDER: &str = "order,expire=3s";
const LIMIT: Duration = Duration::from_secs(60);

/// A node with these interceptors, the first nearest to the application.
fn with(implementation: Impl, interceptors: &[&str]) -> Spec {
    interceptors.iter().fold(quick(implementation), |spec, name| spec.with("--interceptor", name))
}

/// Three nodes of one group that see each other: a sender and two receivers.
fn three(scenario: &Scenario, from: Spec, to: &Spec) -> Result<(Node, Vec<Node>), Failure> {
    let mut nodes = group(scenario, &[from, to.clone(), to.clone()])?;
    Ok((nodes.remove(0), nodes))
}

/// Sends a body of each size under each kind of acknowledgement to all of `to` at once, and expects it whole.
fn bodies(from: &mut Node, to: &mut [Node]) -> Result<(), Failure> {
    for options in ["ack,sync", "ack", "none"] {
        // The largest under the strictest only, to save time.
        for size in SIZES.into_iter().filter(|size| *size <= 1_000_000 || options == "ack,sync") {
            let payload = format!("size:{size}:{}", options.len());
            reaches(from, to, options, &payload, &format!("{size} bytes"))?;
        }
    }
    Ok(())
}

ways!(order_to_one: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn order_to_one(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = super::pair(scenario, &with(from, &[ORDER]), &with(to, &[ORDER]))?;
        bodies(&mut from, slice::from_mut(&mut to))?;
        // And back, by numbers of its own.
        bodies(&mut to, slice::from_mut(&mut from))
    })
}

ways!(order_to_two: rust_to_java, java_to_rust, java_to_java);
/// To one member of the other kind alone first, so that the two have different numbers when both are sent to at once.
fn order_to_two(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = three(scenario, with(from, &[ORDER]), &with(to, &[ORDER]))?;
        bodies(&mut from, &mut to)?;
        bodies(&mut from, &mut to[..1])?;
        bodies(&mut from, &mut to)?;
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
        let (mut from, mut to) = super::pair(scenario, &with(from, &[ORDER, "message-dispatch"]), &with(to, &[ORDER]))?;
        let sent = from.send("async", "size:64", COUNT)?;
        assert_eq!((sent.failed, sent.why.as_str()), (0, ""));
        in_order(&mut to, COUNT)
    })
}

ways!(order_negative_ack: java_to_rust);
/// Java sends a refused message a second time; the copy is refused like the first, and the listener called once (T3).
fn order_negative_ack(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let to_spec = with(to, &[ORDER]).with("--fail-len", "77");
        let (mut from, mut to) = super::pair(scenario, &with(from, &[ORDER]), &to_spec)?;
        assert_eq!(from.send("ack,sync", "size:77", 1)?.failed, 1);
        assert_eq!(from.send("ack,sync", "size:78", 1)?.failed, 0);
        to.wait_message(SOON, |message| message.len == 78)?;
        assert_eq!(to.messages().iter().map(|message| message.len).collect::<Vec<_>>(), [77, 78]);
        Ok(())
    })
}

ways!(order_of_datagrams: rust_to_java, java_to_rust, rust_to_rust);
/// Datagrams overtake each other: Java's leave from many sockets, ours are reordered on purpose. They arrive in order, and so
/// do those of every size. (Java fails a datagram to a member to which it holds a TCP connection: nothing else is sent.)
fn order_of_datagrams(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    // So many small ones are less than what a socket holds for a receiver that is late.
    const COUNT: u64 = 100;
    run(name, |scenario| {
        let sender: &[&str] = match from {
            Impl::Java => &[ORDER, "message-dispatch"],
            Impl::Rust => &["message-dispatch", ORDER, "chaos,seed=7,reorder=30%,reorder_within=50ms"],
        };
        let from = with(from, sender).with("--udp", &scenario.udp_port()?.to_string());
        let to = with(to, &[ORDER]).with("--udp", &scenario.udp_port()?.to_string());
        let (mut from, mut to) = super::pair(scenario, &from, &to)?;
        let sent = from.send("udp,ack,async", "size:64", COUNT)?;
        assert_eq!((sent.failed, sent.why.as_str()), (0, ""));
        in_order(&mut to, COUNT)?;
        for (size, options) in [(0, "udp"), (1, "udp,ack"), (300, "udp,ack,sync"), (60_000, "udp,ack")] {
            reaches(&mut from, slice::from_mut(&mut to), options, &format!("size:{size}"), &format!("{size} bytes"))?;
        }
        let messages = to.messages();
        assert_eq!(messages.len() as u64, COUNT + 4);
        assert!(messages.iter().all(|message| message.options.is_some_and(|bits| bits & 0x20 != 0)), "all by UDP");
        // That the layer had something to do.
        if from.implementation() == Impl::Rust {
            assert!(gauge(&mut from, "chaos", "reordered")? > 0);
        }
        if to.implementation() == Impl::Rust {
            assert!(gauge(&mut to, "order", "waited")? > 0);
        }
        Ok(())
    })
}

/// Waits for `count` numbered messages, which come in order.
fn in_order(to: &mut Node, count: u64) -> Result<(), Failure> {
    let (mut due, mut wrong) = (0..count, None);
    to.wait_for(&format!("{count} messages"), LIMIT, |event| {
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
}

ways!(order_above_pieces_encrypted: rust_to_rust);
/// Layers that change bytes below it, among members of ours, to one and to two with different numbers at once. With Java
/// members: `stacks`.
fn order_above_pieces_encrypted(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    let layers = [ORDER, "gzip", "fragmentation,max_size=150000", "encrypt,key=000102030405060708090a0b0c0d0e0f"];
    run(name, |scenario| {
        let (mut from, mut to) = three(scenario, with(from, &layers), &with(to, &layers))?;
        bodies(&mut from, &mut to[..1])?;
        bodies(&mut from, &mut to)
    })
}

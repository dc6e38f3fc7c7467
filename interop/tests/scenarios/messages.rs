//! Messages: options, sizes, refusals.

use tribes_interop::{Event, Failure, Impl, Spec, hex, member_id, pattern, run};

use super::{SOON, concerns, pair, quick, ways};

/// BYTE_MESSAGE, USE_ACK, SYNCHRONIZED_ACK, UDP: what a receiver acts on. (Whether an asynchronous message still
/// says so when it arrives is the sender's affair.)
const RECEIVERS_BITS: u32 = 0x01 | 0x02 | 0x04 | 0x20;

ways!(send_options: rust_to_java, java_to_rust, java_to_java);
fn send_options(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = pair(scenario, &quick(from), &quick(to))?;
        let sender = from.local()?.id;
        let options = [("none", 0), ("ack", 2), ("ack,sync", 6), ("async", 0), ("async,ack,sync", 6), ("6", 6)];
        for (size, (names, bits)) in (100..).zip(options) {
            let body = pattern(size, 1, 0, false);
            let size = body.len() as u64;
            let sent = from.send(names, &format!("size:{size}"), 1)?;
            assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{names}");
            let (_, message) = to.wait_message(SOON, |message| message.len == size)?;
            assert_eq!(message.bytes, Some(hex(&body)), "{names}");
            assert_eq!(message.from, sender);
            assert_eq!(message.sha256, sent.sha256);
            assert_eq!(message.options.map(|seen| seen & RECEIVERS_BITS), Some(bits | 1), "{names}");
            assert_eq!(message.id.map(|id| id.len()), Some(32));
        }
        assert_eq!(to.messages().len(), options.len());
        Ok(())
    })
}

ways!(udp: rust_to_java, java_to_rust, java_to_java);
/// Java fails a datagram to a member to which it holds a TCP connection, so nothing else is sent in this scenario.
fn udp(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let from = quick(from).with("--udp", &scenario.udp_port()?.to_string());
        let to = quick(to).with("--udp", &scenario.udp_port()?.to_string());
        let (mut from, mut to) = pair(scenario, &from, &to)?;
        for (size, names) in [(0, "udp"), (1, "udp,ack"), (300, "udp,ack,sync"), (60_000, "udp,ack")] {
            let sent = from.send(names, &format!("size:{size}"), 1)?;
            assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{names}");
            let (_, message) = to.wait_message(SOON, |message| message.len == size)?;
            assert_eq!(message.sha256, sent.sha256);
            assert_eq!(message.options.map(|seen| seen & 0x20), Some(0x20));
        }
        Ok(())
    })
}

ways!(body_sizes: rust_to_java, java_to_rust, java_to_java);
fn body_sizes(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = pair(scenario, &quick(from), &quick(to))?;
        for options in ["ack,sync", "none", "async"] {
            for size in [0, 1, 300, 70_000, 20_000_000] {
                let mark = to.mark();
                // The seed tells the bodies of equal size apart.
                let sent = from.send(options, &format!("size:{size}:{}", options.len()), 1)?;
                assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{size} bytes, {options}");
                let (_, message) =
                    to.wait_since(mark, &format!("body of {size} bytes"), SOON, |event| match event {
                        Event::Message(message) => Some(message.clone()),
                        _ => None,
                    })?;
                assert_eq!((message.len, &message.sha256), (size, &sent.sha256), "{options}");
                assert_eq!(message.bytes.is_some(), size <= 256);
            }
        }
        Ok(())
    })
}

ways!(negative_ack: rust_to_java, java_to_rust, java_to_java);
/// A listener that throws refuses the message. Java sends a refused message a second time, we do not; either way the
/// sender is told, and the receiver stays a member, for it is alive.
fn negative_ack(name: &str, sender: Impl, to: Impl) -> Result<(), Failure> {
    const BAD: u64 = 77;
    run(name, |scenario| {
        let (mut from, mut to) = pair(scenario, &quick(sender), &quick(to).with("--fail-len", &BAD.to_string()))?;
        let to_id = to.local()?.id;
        let refused = from.send("ack,sync", &format!("size:{BAD}"), 1)?;
        assert_eq!(refused.failed, 1);
        assert!(refused.why.contains(&to_id), "'{}' does not name {to_id}", refused.why);

        // Whatever was sent again is there before the next message is acknowledged.
        assert_eq!(from.send("ack,sync", "size:78", 1)?.failed, 0);
        to.wait_message(SOON, |message| message.len == 78)?;
        let bad = to.messages().iter().filter(|message| message.len == BAD).count();
        assert_eq!(bad, if sender == Impl::Java { 2 } else { 1 }, "deliveries of the refused message");
        if sender == Impl::Java {
            let ids: Vec<_> = to.messages().into_iter().filter(|m| m.len == BAD).map(|m| m.id).collect();
            assert_eq!(ids[0], ids[1], "a message that is sent again keeps its id");
        }

        // Without `sync` the acknowledgement comes before the listener, who then cannot refuse any more.
        assert_eq!(from.send("ack", &format!("size:{BAD}"), 1)?.failed, 0);
        to.wait_message(SOON, |message| message.len == BAD && message.options.is_some_and(|bits| bits & 4 == 0))?;
        assert_eq!(from.count(|event| concerns(event, &to_id)), 1, "the receiver joined and stayed");
        assert_eq!(from.members()?.len(), 1);
        Ok(())
    })
}

ways!(echo: rust_to_java, java_to_rust, java_to_java);
/// The receiver answers from within its listener, over a connection of its own.
fn echo(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = pair(scenario, &quick(from), &quick(to).flag("--echo"))?;
        for size in [1, 256, 100_000] {
            let sent = from.send("ack", &format!("size:{size}:{size}"), 1)?;
            assert_eq!(sent.failed, 0);
            let (_, answer) = from.wait_message(SOON, |message| message.len == size)?;
            assert_eq!((answer.from, answer.sha256), (to.local()?.id, sent.sha256));
        }
        Ok(())
    })
}

ways!(static_messages: rust_to_java, java_to_rust, java_to_java);
/// Messages among members of a fixed list, whose ids the driver chose.
fn static_messages(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (port, id) = (scenario.tcp_port()?, member_id(from, 1));
        let (to_port, to_id) = (scenario.tcp_port()?, member_id(to, 2));
        let mut to = scenario.spawn("to", &Spec::fixed(to, (to_port, &to_id), [(port, id.as_str())]))?;
        to.local()?;
        let mut from = scenario.spawn("from", &Spec::fixed(from, (port, &id), [(to_port, to_id.as_str())]))?;
        from.wait_member_added(&to_id, SOON)?;
        to.wait_member_added(&id, SOON)?;
        for (size, options) in [(10, "none"), (11, "ack"), (12, "ack,sync"), (13, "async")] {
            let sent = from.send(options, &format!("size:{size}"), 1)?;
            assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{options}");
            let (_, message) = to.wait_message(SOON, |message| message.len == size)?;
            assert_eq!((&message.from, &message.sha256), (&id, &sent.sha256));
        }
        Ok(())
    })
}

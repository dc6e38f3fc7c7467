//! Layers of ours that Tribes does not have: a Java member notices nothing of them.

use std::time::Duration;

use tribes_interop::{Event, Failure, Impl, Spec, hex, pattern, run};

use super::{gauge, pair, quick, ways};

const COUNT: u64 = 300;
const LIMIT: Duration = Duration::from_secs(60);

fn layered(kind: Impl, audit: &std::path::Path) -> Spec {
    match kind {
        Impl::Java => quick(kind),
        Impl::Rust => quick(kind)
            .with("--interceptor", &format!("audit,path={},max_size=1MiB", audit.display()))
            .with("--interceptor", "trace")
            .with("--interceptor", "rate-limit,messages_per_s=200,burst_messages=20,policy=wait:5s")
            .with("--interceptor", "message-dispatch")
            .with("--interceptor", "agreed-views,heartbeat=100ms,silence=1s")
            .with("--interceptor", "chaos,seed=1,delay=20%,delay_max=5ms")
            .with("--interceptor", "tcp-failure-detector"),
    }
}

ways!(layers_of_ours: rust_to_java, java_to_rust, rust_to_rust);
/// Messages arrive whole, once and in order, as fast as the sender's limit lets them; what a trace adds goes to our own
/// nodes alone, and is gone when the message is delivered; the record has each message. Views are agreed on among our own nodes.
fn layers_of_ours(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let folder =
            std::env::temp_dir().join(format!("tribes-ours-{}-{}", name.replace("::", "-"), std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (sender_log, receiver_log) = (folder.join("from.jsonl"), folder.join("to.jsonl"));
        let (mut from, mut to) = pair(scenario, &layered(from, &sender_log), &layered(to, &receiver_log))?;
        let start = std::time::Instant::now();
        assert_eq!(from.send("ack,sync", "size:64:7", COUNT)?.failed, 0);
        let took = start.elapsed();
        let mut seen = 0;
        to.wait_for("all messages", LIMIT, |event| {
            seen += u64::from(matches!(event, Event::Message(_)));
            (seen == COUNT).then_some(())
        })?;
        let messages = to.messages();
        for (number, message) in (0..COUNT).zip(&messages) {
            assert_eq!(message.bytes.as_deref(), Some(hex(&pattern(64, 7, number, true)).as_str()), "message {number}");
            assert_eq!(message.options.map(|options| options & !7), Some(0));
        }
        assert_eq!(messages.len() as u64, COUNT);
        if from.implementation() == Impl::Rust {
            // All but the burst, at 200 a second.
            assert!(took >= Duration::from_millis(1350), "{took:?}");
            scenario.measured(&format!("{COUNT} messages at 200 a second"), took);
            let traced = if to.implementation() == Impl::Rust { COUNT } else { 0 };
            assert_eq!(gauge(&mut from, "trace", "begun")?, traced);
            assert!(gauge(&mut from, "chaos", "delayed")? > COUNT / 20);
        }
        if to.implementation() == Impl::Rust {
            let traced = if from.implementation() == Impl::Rust { COUNT } else { 0 };
            assert_eq!(gauge(&mut to, "trace", "received")?, traced);
        }
        let of_ours = [from.implementation(), to.implementation()].iter().filter(|kind| **kind == Impl::Rust).count();
        for node in [&mut from, &mut to] {
            if node.implementation() == Impl::Rust {
                assert_eq!(gauge(node, "agreed-views", "view_members")?, of_ours as u64);
                assert_eq!(gauge(node, "agreed-views", "members_passed_by")?, 2 - of_ours as u64);
            }
        }
        for (node, log, event) in [(&mut from, sender_log, "sent"), (&mut to, receiver_log, "received")] {
            let kind = node.implementation();
            node.stop()?;
            if kind == Impl::Rust {
                let text = std::fs::read_to_string(log).unwrap();
                let recorded = text.lines().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count();
                assert_eq!(recorded as u64, COUNT);
            }
        }
        let _ = std::fs::remove_dir_all(folder);
        Ok(())
    })
}

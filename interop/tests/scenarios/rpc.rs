//! Questions and replies between Tribes' `RpcChannel` and ours.

use serde_json::Value;
use tribes_interop::{Event, Failure, Impl, Node, Spec, run};

use crate::{group, quick, ways};

/// What a node tells of a request or an answer: form, length, digest.
type Told = (String, u64, String);

fn answering(implementation: Impl) -> Spec {
    quick(implementation).with("--rpc", "interop")
}

fn told(json: &Value) -> Told {
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    (text("form"), json["len"].as_u64().unwrap_or_default(), text("sha256"))
}

/// How long a call took in milliseconds, and the replies.
fn call(node: &mut Node, command: &str) -> Result<(u64, Vec<Told>), Failure> {
    node.ask(&format!("call {command}"), |event| match event {
        Event::Other(json) if json["event"] == "called" => {
            let replies = json["answers"].as_array()?.iter().filter(|answer| answer["answer"] == "replied");
            Some((json["ms"].as_u64()?, replies.map(told).collect()))
        }
        _ => None,
    })
}

/// What has been asked of a node so far.
fn requests(node: &mut Node) -> Vec<Told> {
    let mut requests = Vec::new();
    node.count(|event| {
        if let Event::Other(json) = event
            && json["event"] == "request"
        {
            requests.push(told(json));
        }
        false
    });
    requests
}

const BODIES: [&str; 14] = [
    "text text:hello",
    "text text:h\u{e4}\u{20ac}\u{1f600}",
    "text text:",
    "text size:40000",
    "bytes hex:",
    "bytes hex:00ff10",
    "bytes size:255",
    "bytes size:256",
    "bytes size:70000",
    "message hex:",
    "message size:251",
    "message size:1020",
    "message size:500000",
    "null hex:",
];

ways!(rpc_echo: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// A body of each form and of sizes around those at which Java's stream changes: there and back, byte by byte.
fn rpc_echo(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = crate::pair(scenario, &answering(from), &answering(to))?;
        for body in BODIES {
            for wait in ["first", "majority", "all"] {
                let asked = requests(&mut to).len();
                let (_, replies) = call(&mut from, &format!("{wait} {body} 10s"))?;
                let request = |event: &Event| matches!(event, Event::Other(json) if json["event"] == "request");
                let mut seen = 0;
                to.wait_for("the request", crate::SOON, |event| {
                    seen += usize::from(request(event));
                    (seen > asked).then_some(())
                })?;
                let requests = requests(&mut to);
                assert_eq!(replies.len(), 1, "{wait} {body}");
                assert_eq!(requests[asked..], replies, "{wait} {body}: asked once, and answered with the same");
                assert_eq!(Some(replies[0].0.as_str()), body.split(' ').next(), "{wait} {body}");
            }
        }
        let (_, replies) = call(&mut from, "all text text:null 10s")?;
        assert_eq!(replies[0].0, "null");
        Ok(())
    })
}

ways!(rpc_no_channel: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// Nobody has an RPC channel of this id: the caller does not wait for its time to be up.
fn rpc_no_channel(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = crate::pair(scenario, &answering(from), &quick(to))?;
        for wait in ["first", "majority", "all"] {
            for id in ["nobody", "interop"] {
                let (ms, replies) = call(&mut from, &format!("{wait} text text:hello 30s rpc={id}x"))?;
                assert!(replies.is_empty() && ms < 20_000, "{wait} took {ms} ms, {replies:?}");
            }
        }
        // An answer to an answer would never end.
        assert_eq!(to.messages().len() + from.messages().len(), 0);
        Ok(())
    })
}

ways!(rpc_without_a_reply: rust_to_java, java_to_rust, rust_to_rust);
/// A handler that fails: ours tells, so that nobody waits in vain; Java's says nothing (T51). The next call is answered.
fn rpc_without_a_reply(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, to) = crate::pair(scenario, &answering(from), &answering(to))?;
        let (ms, replies) = call(&mut from, "all text text:fail 3s")?;
        assert!(replies.is_empty());
        match to.implementation() {
            Impl::Rust => assert!(ms < 2500, "{ms} ms"),
            Impl::Java => assert!(ms >= 3000, "{ms} ms"),
        }
        let (_, replies) = call(&mut from, "all text text:again 10s")?;
        assert_eq!(replies.len(), 1);
        Ok(())
    })
}

ways!(rpc_in_a_mixed_group: rust_to_java, java_to_rust);
/// Two of the other kind and one of one's own: all answer, and with `none` the replies are left over.
fn rpc_in_a_mixed_group(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let specs = [answering(from), answering(to), answering(to), answering(from)];
        let mut nodes = group(scenario, &specs)?;
        let from = &mut nodes[0];
        for (wait, least) in [("first", 1), ("majority", 2), ("all", 3)] {
            for body in ["text text:hello", "bytes size:3000", "message size:3000", "null hex:"] {
                let (_, replies) = call(from, &format!("{wait} {body} 10s"))?;
                assert!((least..=3).contains(&replies.len()), "{wait}: {}", replies.len());
                assert!(replies.iter().all(|reply| *reply == replies[0]));
            }
        }
        let mark = from.mark();
        call(from, "none text text:late 10s")?;
        let mut late = 0;
        from.wait_since(mark, "three replies left over", crate::SOON, |event| {
            let json = match event {
                Event::Other(json) if json["event"] == "left_over" => json,
                _ => return None,
            };
            // Those of the calls that did not wait for all may still come.
            late += u32::from(json["len"] == 4);
            (late == 3).then_some(())
        })?;
        Ok(())
    })
}

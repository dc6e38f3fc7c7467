//! Two `tribes node` on loopback: what one does, the other tells.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::time::Duration;

use crate::common::{Node, Program, event, group, pair, text};
use serde_json::json;

#[test]
fn members_know_each_other() {
    let (mut left, mut right) = pair(&["--domain", "d"], &["--payload", "00ff"]);
    let of_right = &left.ask("members", "members")["members"];
    assert_eq!(of_right.as_array().unwrap().len(), 1);
    assert_eq!(of_right[0]["id"], json!(right.id));
    assert_eq!((&of_right[0]["host"], of_right[0]["port"].as_u64()), (&json!("127.0.0.1"), Some(right.port)));
    assert_eq!((&of_right[0]["domain"], &of_right[0]["payload"]), (&json!(""), &json!("00ff")));
    assert_eq!(right.ask("members", "members")["members"][0]["domain"], json!("64"));
}

#[test]
fn messages_arrive_under_each_option() {
    let (mut left, mut right) = pair(&[], &[]);
    for (number, (options, bits)) in
        [("none", 1), ("ack", 3), ("ack,sync", 7), ("async", 9), ("async,ack", 11), ("6", 7)].into_iter().enumerate()
    {
        let sent = left.ask(&format!("send {options} size:{number}"), "sent");
        assert_eq!((&sent["count"], &sent["failed"], &sent["why"]), (&json!(1), &json!(0), &json!("")), "{options}");
        let (_, message) = right.wait("message");
        assert_eq!(message["from"], json!(left.id));
        assert_eq!((&message["options"], &message["len"]), (&json!(bits), &json!(number)), "{options}");
        assert_eq!(message["sha256"], sent["sha256"]);
    }
    let sent = left.ask("send ack text:hello", "sent");
    assert_eq!(text(&sent, "sha256"), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(right.wait("message").1["bytes"], json!("68656c6c6f"));
    assert_eq!(left.ask("send ack size:257", "sent")["failed"], json!(0));
    assert_eq!(right.wait("message").1.get("bytes"), None);
}

#[test]
fn udp_arrives_too() {
    let (mut left, mut right) = pair(&[], &["--udp", "0"]);
    assert_eq!(left.ask("send udp text:hello", "sent")["failed"], json!(0));
    let (_, message) = right.wait("message");
    assert_eq!((&message["len"], message["options"].as_u64()), (&json!(5), Some(0x21)));
    // The other way round there is no port: the member is named.
    let sent = right.ask("send udp text:hello", "sent");
    assert_eq!(sent["failed"], json!(1));
    assert!(text(&sent, "why").contains(&left.id), "{sent}");
}

#[test]
fn many_messages_arrive_once_and_in_order() {
    const COUNT: u64 = 5_000;
    let (mut left, mut right) = pair(&[], &[]);
    for options in ["none", "ack", "ack,sync", "async", "async,ack"] {
        let sent = left.ask(&format!("send {options} size:16 {COUNT}"), "sent");
        assert_eq!((&sent["count"], &sent["failed"]), (&json!(COUNT), &json!(0)), "{options}: {sent}");
        for number in 0..COUNT {
            let bytes = text(&right.wait("message").1, "bytes");
            assert_eq!(u64::from_str_radix(&bytes[..16], 16), Ok(number), "{options}");
        }
    }
}

#[test]
fn a_failing_listener_is_named() {
    let (mut left, mut right) = pair(&[], &["--fail-len", "7"]);
    let sent = left.ask("send ack,sync size:7", "sent");
    assert_eq!(sent["failed"], json!(1));
    assert!(text(&sent, "why").contains(&right.id), "{sent}");
    assert_eq!(right.wait("message").1["len"], json!(7));
    // Under `ack` it was received, and that is all that was asked.
    assert_eq!(left.ask("send ack size:7", "sent")["failed"], json!(0));
    assert_eq!(left.ask("send ack,sync size:8", "sent")["failed"], json!(0));
}

#[test]
fn echoes_come_back_in_order() {
    let (mut left, _right) = pair(&[], &["--echo"]);
    left.program.type_line("send ack,sync size:8 100");
    let mut due = 0;
    left.program.wait("100 echoes", |line| {
        let echo = event(line, "message")?;
        assert_eq!(text(&echo, "bytes"), format!("{due:016x}"));
        due += 1;
        (due == 100).then_some(())
    });
}

#[test]
fn some_members_can_be_chosen() {
    let group = group();
    let mcast = ["--mcast", group.as_str()];
    let [mut a, mut b, mut c] = [(); 3].map(|()| Node::start(&mcast));
    for node in [&mut a, &mut b, &mut c] {
        node.wait("member_added");
        node.wait("member_added");
    }
    assert_eq!(a.ask(&format!("send ack,sync text:b to={}", b.id), "sent")["failed"], json!(0));
    assert_eq!(a.ask(&format!("send ack,sync text:both to={},{}", b.id, c.id), "sent")["failed"], json!(0));
    assert_eq!(b.wait("message").1["len"], json!(1));
    assert_eq!(b.wait("message").1["len"], json!(4));
    assert_eq!(c.wait("message").1["len"], json!(4));
    let nobody = "00".repeat(16);
    assert!(text(&a.ask(&format!("send ack text:x to={nobody}"), "error"), "error").contains(&nobody));
    // The whole group, without a `to`.
    assert_eq!(c.ask("send ack text:all", "sent")["failed"], json!(0));
    assert_eq!(a.wait("message").1["from"], json!(c.id));
    assert_eq!(b.wait("message").1["from"], json!(c.id));
}

#[test]
fn leaving_and_dying_are_told_apart() {
    let (mut left, mut right) = pair(&[], &[]);
    right.program.type_line("stop");
    assert_eq!(right.wait("stopped").1, json!({"event": "stopped"}));
    assert!(right.program.finish().success());
    let (_, removed) = left.wait("member_removed");
    assert_eq!((&removed["reason"], &removed["member"]["id"]), (&json!("shutdown"), &json!(right.id)));
    assert_eq!(left.ask("members", "members")["members"], json!([]));
    assert_eq!(left.ask("send ack text:anybody?", "sent")["failed"], json!(1));

    // Without the connection it would take the drop time, which is far more than is waited for anything here.
    let (mut left, mut right) = pair(&["--mcast-drop", "10m"], &["--mcast-drop", "10m"]);
    assert_eq!(left.ask("send ack text:hello", "sent")["failed"], json!(0));
    right.program.kill();
    let (_, removed) = left.wait("member_removed");
    assert_eq!((&removed["reason"], &removed["member"]["id"]), (&json!("failed"), &json!(right.id)));
}

#[test]
fn a_list_of_peers_instead_of_multicast() {
    let ids = ["01020304050681008054525301020301", "01020304050681008054525301020302"];
    // Whoever is listed must be known by its port, so these two are taken in advance.
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [left, right] = ports.map(|listener| listener.local_addr().unwrap().to_string());
    let mut nodes = [(&left, &right, 0), (&right, &left, 1)].map(|(own, other, at)| {
        let peer = format!("{other}@{}", ids[1 - at]);
        let program = Program::start(&["node", "--bind", own, "--auto-bind", "1", "--id", ids[at], "--peer", &peer]);
        Node { program, id: ids[at].to_owned(), port: 0 }
    });
    for node in &mut nodes {
        assert_eq!(text(&node.wait("ready").1["local"], "id"), node.id);
    }
    let [left, right] = &mut nodes;
    assert_eq!(text(&left.wait("member_added").1["member"], "id"), right.id);
    assert_eq!(text(&right.wait("member_added").1["member"], "id"), left.id);
    assert_eq!(left.ask("send ack,sync text:hello", "sent")["failed"], json!(0));
    assert_eq!(right.wait("message").1["from"], json!(left.id));
    assert!(right.program.finish().success());
    assert_eq!(left.wait("member_removed").1["reason"], json!("shutdown"));
}

#[test]
fn views_are_agreed_on_and_a_side_that_lost_the_others_stops() {
    let group = group();
    let layer = "agreed-views,heartbeat=100ms,silence=1s,timeout=500ms,quorum=static,members=3";
    let args = ["--mcast", group.as_str(), "--interceptor", layer, "--interceptor", "tcp-failure-detector"];
    let mut nodes = [(); 3].map(|()| Node::start(&args));
    let mut ids: Vec<_> = nodes.iter().map(|node| node.id.clone()).collect();
    ids.sort();
    let mut tokens = Vec::new();
    for node in &mut nodes {
        let (_, view) = node.program.wait("a view of three", |line| {
            let view = event(line, "view_installed")?;
            (view["members"].as_array()?.len() == 3).then_some(view)
        });
        let mut members: Vec<_> =
            view["members"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        // They are on one host: in the order of their ports.
        assert_eq!(view["leader"], json!(members[0]));
        members.sort();
        assert_eq!((members, &view["primary"]), (ids.clone(), &json!(true)));
    }
    for node in &mut nodes {
        // It may have been allowed to in a smaller view before.
        let seen = node.program.seen.iter().find_map(|(_, line)| event(line, "may_write"));
        let told = seen.unwrap_or_else(|| node.wait("may_write").1);
        tokens.push(told["token"].as_u64().unwrap());
    }
    let [first, second, third] = &mut nodes;
    // One leaves, and two are enough.
    third.program.type_line("stop");
    third.wait("stopped");
    let (_, view) = first.program.wait("a view of two", |line| {
        let view = event(line, "view_installed")?;
        (view["members"].as_array()?.len() == 2).then_some(view)
    });
    assert_eq!((&view["left"], &view["missing"]), (&json!([third.id]), &json!([])));
    // One dies, and one is not.
    let killed = second.program.kill();
    let (_, suspected) = first.wait("partition_suspected");
    assert_eq!(suspected["missing"], json!([second.id]));
    let stopped = first.program.seen.iter().rev().find_map(|(at, line)| Some((*at, event(line, "must_stop")?)));
    let (stopped, told) = stopped.unwrap_or_else(|| first.wait("must_stop"));
    assert!(told["why"].is_string() && stopped - killed < Duration::from_secs(2), "{told}");
    // It may have been installed before it was told to stop.
    let alone = json!([first.id]);
    let of_one = |line: &str| event(line, "view_installed").filter(|view| view["members"] == alone);
    let view = first.program.seen.iter().find_map(|(_, line)| of_one(line));
    let view = view.unwrap_or_else(|| first.program.wait("a view of one", of_one).1);
    assert_eq!(view["primary"], json!(false));
    assert_eq!(view["missing"], json!([second.id]));
}

#[test]
fn statistics_are_told_for_each_layer() {
    let (mut left, _right) =
        pair(&["--interceptor", "throughput,interval=1s", "--interceptor", "message-dispatch"], &[]);
    left.ask("send ack size:10 3", "sent");
    let stats = left.ask("stats", "stats");
    assert_eq!(stats["application"]["down"]["messages"], json!(3));
    let layers: Vec<_> = stats["layers"].as_array().unwrap().iter().map(|layer| text(layer, "name")).collect();
    assert_eq!(layers, ["throughput", "message-dispatch"]);
    assert_eq!(stats["layers"][0]["down"]["bytes"], json!(30));
    let endpoints: Vec<_> = stats["endpoints"].as_array().unwrap().iter().map(|port| text(port, "name")).collect();
    assert!(endpoints.contains(&"tribes.rpc".to_owned()), "{endpoints:?}");
    assert_eq!(stats["endpoints"][0]["down"]["messages"], json!(0));
    for part in ["sender", "receiver", "membership"] {
        assert!(stats["io"][part].is_object(), "{part}: {stats}");
    }
}

#[test]
fn wrong_commands_are_answered_and_survived() {
    let group = group();
    let mut node = Node::start(&["--mcast", &group, "--no-default-interceptors"]);
    for wrong in ["dance", "send", "send quick text:a", "send ack size:x", "send ack file:/does/not/exist"] {
        assert!(!text(&node.ask(wrong, "error"), "error").is_empty());
    }
    node.program.type_line("");
    assert_eq!(node.ask("members", "members")["members"], json!([]));
    // The end of input is a stop.
    assert!(node.program.finish().success());
    assert_eq!(node.program.seen.last().unwrap().1, r#"{"event":"stopped"}"#);
}

#[test]
fn what_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let group = group();
    for (args, code, said) in [
        (&["--bind", &bind, "--auto-bind", "1", "--mcast", &group][..], 1, "receiver"),
        (&["--interceptor", "gzipp"], 1, "gzipp"),
        (&["--mcast-frequency", "0ms"], 1, "frequency"),
        (&["--bind", "127.0.0.1"], 2, ""),
        (&["--no-such-option"], 2, ""),
    ] {
        let mut program = Program::start(&[&["node"], args].concat());
        assert_eq!(program.finish().code(), Some(code), "{args:?}");
        let lines: Vec<_> = program.seen.iter().map(|(_, line)| line.as_str()).collect();
        if code == 1 {
            assert_eq!(lines.len(), 1, "{args:?}: {lines:?}");
            let error = text(&event(lines[0], "error").unwrap(), "error");
            assert!(error.contains(said), "{error}");
        }
    }
}

#[test]
fn a_file_says_it_all() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("node.toml");
    let text = format!(
        "[receiver]\nbind = \"127.0.0.1\"\nport = 0\n[membership]\nport = {}\n[channel]\ndomain = \"d\"\n",
        group().rsplit_once(':').unwrap().1
    );
    std::fs::write(&file, text).unwrap();
    let args = ["--config", file.to_str().unwrap()];
    let (mut left, mut right) = (Node::start(&args), Node::start(&args));
    assert_eq!(left.wait("member_added").1["member"]["id"], json!(right.id));
    assert_eq!(right.wait("member_added").1["member"]["domain"], json!("64"));
}

/// Whoever does not call `tribes check` hears of it, too.
#[test]
fn what_a_server_xml_says_in_vain_is_logged() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-server.xml");
    // A stack that cannot be: it ends at once, after the file was read.
    let text = r#"<Channel><Receiver address="127.0.0.1" colour="red"/>
        <Interceptor className="a.GzipInterceptor"/><Interceptor className="a.GzipInterceptor"/></Channel>"#;
    std::fs::write(&file, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tribes"));
    let output = command.args(["node", "--config"]).arg(&file).env("RUST_LOG", "warn").output().unwrap();
    let logged = String::from_utf8(output.stderr).unwrap();
    assert!(logged.contains("<Receiver> colour: not an attribute that is known here"), "{logged}");
}

//! `tribes rpc` by script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::time::Duration;

use crate::common::{LIMIT, Node, Program, group, says, text};

#[test]
fn two_answer_one_who_asks() {
    let group = group();
    let serve = |how: &[&str]| Program::start(&[&["rpc", "serve", "--mcast", &group], how].concat());
    let mut servers = [serve(&["--exec", "tr a-z A-Z"]), serve(&[])];
    servers.iter_mut().for_each(|server| says(server, "answering at"));
    let ask = |how: &[&str]| Program::start(&[&["rpc", "ask", "--mcast", &group, "--members", "2"], how].concat());
    let mut asks = ask(&["hello"]);
    says(&mut asks, "2 of 2 replied");
    let heard: Vec<_> = asks.seen.iter().map(|(_, line)| line.clone()).collect();
    for reply in ["hello", "HELLO"] {
        assert!(heard.iter().any(|line| line.ends_with(&format!("): {reply}"))), "{heard:?}");
    }
    assert!(asks.finish().success());
    servers.iter_mut().for_each(|server| says(server, "asks: hello"));
    let mut nobody = ask(&["hello", "--id", "other", "--wait", "first"]);
    says(&mut nobody, "no RPC channel of this id");
    says(&mut nobody, "0 of 2 replied");
    assert_eq!(nobody.finish().code(), Some(1));
    for server in &mut servers {
        server.kill();
    }
}

/// A question is for the group, not for its slowest member: a process that is stopped is still a member for a while, and takes what
/// it is sent without a word.
#[cfg(unix)]
#[test]
fn a_frozen_process_slows_neither_the_first_reply_nor_a_majority() {
    let group = group();
    let mut servers: Vec<_> =
        (0..3).map(|_| Program::start(&["rpc", "serve", "--mcast", &group, "--reply", "here"])).collect();
    servers.iter_mut().for_each(|server| says(server, "answering at"));
    let mut asks = Node::start(&["--mcast", &group, "--mcast-drop", "60s", "--no-default-interceptors"]);
    let members: Vec<_> = (0..3).map(|_| asks.wait("member_added")).collect();
    assert_eq!(members.len(), 3);
    let mut ask = |wait: &str, within: &str| {
        let called = asks.ask(&format!("call {wait} text text:x {within} rpc=tribes"), "called");
        let answers = called["answers"].as_array().unwrap().iter().map(|answer| text(answer, "answer"));
        (Duration::from_millis(called["ms"].as_u64().unwrap()), answers.collect::<Vec<_>>())
    };
    let count = |answers: &[String], what: &str| answers.iter().filter(|answer| *answer == what).count();
    assert_eq!(count(&ask("all", "20s").1, "replied"), 3);
    servers[0].signal("-STOP");
    for _ in 0..5 {
        for (wait, least) in [("first", 1), ("majority", 2)] {
            let (took, answers) = ask(wait, "20s");
            assert!(count(&answers, "replied") >= least, "{wait}: {answers:?}");
            assert_eq!(count(&answers, "replied") + count(&answers, "not waited for"), 3, "{wait}: {answers:?}");
            assert!(took < LIMIT / 2, "{wait} took {took:?}");
        }
    }
    // It is asked, and silent.
    let (took, answers) = ask("all", "500ms");
    assert_eq!((count(&answers, "replied"), count(&answers, "no answer in time")), (2, 1), "{answers:?}");
    assert!(took >= Duration::from_millis(500), "{took:?}");
    servers[0].signal("-CONT");
    let (_, answers) = ask("all", "20s");
    assert_eq!(count(&answers, "replied"), 3, "{answers:?}");
}

//! `tribes rpc` by script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]
#![allow(unreachable_pub, dead_code, reason = "shared between test programs")]

mod common;

use common::{Program, group, says};

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

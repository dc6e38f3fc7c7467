//! `tribes demo`: all of it must happen.

#![allow(clippy::disallowed_methods, reason = "it watches a real process, by the real clock")]

use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn everything_happens_in_time() {
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_tribes")).arg("demo").output().unwrap();
    let (time, text) = (start.elapsed(), String::from_utf8(output.stdout).unwrap());
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(time < Duration::from_secs(20), "{time:?}");
    for part in
        ["Joins", "under ack,sync", "Round trips", "is killed", "after the kill", "A return", "tcp-failure-detector"]
    {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");
}

#[test]
fn two_at_once_do_not_meet() {
    let start = || Command::new(env!("CARGO_BIN_EXE_tribes")).arg("demo").stdout(std::process::Stdio::null()).spawn();
    let mut demos = [start().unwrap(), start().unwrap()];
    for demo in &mut demos {
        assert!(demo.wait().unwrap().success());
    }
}

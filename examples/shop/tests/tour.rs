//! The tour, as a user takes it: real processes, real HTTP, SIGKILL.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

fn tour(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_shop")).arg("tour").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("as expected") && !text.contains("FAIL"), "{text}");
    assert!((1..=9).all(|step| text.contains(&format!("\n {step}  "))), "a step is missing: {text}");
}

#[test]
fn two_nodes() {
    tour(&[]);
}

#[test]
fn three_nodes() {
    tour(&["--nodes", "3"]);
}

#[test]
fn two_nodes_with_a_copy() {
    tour(&["--copies", "1"]);
}

#[test]
fn three_nodes_with_a_copy() {
    tour(&["--nodes", "3", "--copies", "1"]);
}

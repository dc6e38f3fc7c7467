//! The tour, as a user takes it: real processes, real HTTP, SIGKILL.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

fn tour(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_shop")).arg("tour").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("as expected") && !text.contains("FAIL"), "{text}");
    assert!((1..=9).all(|step| text.contains(&format!("\n {step}  "))), "a step is missing: {text}");
    text.into_owned()
}

#[test]
fn two_nodes() {
    assert!(tour(&[]).contains("goes to the nodes directly"));
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

/// Needs nginx, and fails without it: what is not tried is not known to work.
#[test]
fn two_nodes_behind_nginx() {
    assert!(tour(&["--nginx"]).contains("comes through nginx at http://"));
}

#[test]
fn three_nodes_behind_nginx() {
    assert!(tour(&["--nodes", "3", "--nginx"]).contains("comes through nginx at http://"));
}

#[test]
fn without_nginx_it_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_shop")).args(["tour", "--nginx=/nowhere/nginx"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("there is no /nowhere/nginx here"), "{errors}");
    assert!(errors.contains("Install nginx") && errors.contains("leave --nginx out"), "{errors}");
}

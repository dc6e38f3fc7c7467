//! `shop load`, for seconds: real nodes, real nginx, SIGKILL.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shop")).arg("load").args(arguments).output().unwrap()
}

fn is_good(arguments: &[&str], kills: usize) {
    let output = load(arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("7 of 7 as expected") && !text.contains("FAIL"), "{text}");
    assert_eq!(text.matches(" killed, ready again after ").count(), kills, "{text}");
}

/// Needs nginx, and fails without it.
#[test]
fn nothing_is_lost_behind_nginx() {
    is_good(&["--users", "20", "--seconds", "12", "--kill-every", "3"], 3);
}

#[test]
fn nothing_is_lost_on_three_nodes() {
    is_good(&["--users", "20", "--seconds", "10", "--kill-every", "3", "--nodes", "3", "--direct"], 3);
}

#[test]
fn without_nginx_it_says_what_to_do() {
    let output = load(&["--nginx", "/nowhere/nginx"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("there is no /nowhere/nginx here"), "{errors}");
    assert!(errors.contains("Install nginx") && errors.contains("pass --direct"), "{errors}");
}

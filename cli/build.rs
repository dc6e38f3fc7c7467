//! Tells the program which compiler made it: a report of what it reaches says so.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(compiler).arg("--version").output().ok();
    let version = said.and_then(|said| String::from_utf8(said.stdout).ok());
    println!("cargo::rustc-env=TRIBES_RUSTC={}", version.as_deref().map_or("unknown", str::trim));
}

//! The `tribes` command.
fn main() {}

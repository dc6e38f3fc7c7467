//! The tests from outside, in one program: each more would be compiled and linked anew.

#[path = "../vectors/mod.rs"]
mod vectors;

mod wire_control;
mod wire_java;
mod wire_malformed;
mod wire_properties;
mod wire_vectors;

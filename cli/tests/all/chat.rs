//! `tribes chat` by script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use crate::common::{Program, group, says};

#[test]
fn two_people_chat() {
    let group = group();
    let [mut anna, mut bert] =
        ["anna", "bert"].map(|name| Program::start(&["chat", "--name", name, "--mcast", &group]));
    says(&mut anna, "* bert is here");
    says(&mut bert, "* anna is here");
    anna.type_line("hello everybody");
    says(&mut bert, "anna: hello everybody");
    bert.type_line("/to anna just you");
    says(&mut anna, "bert (to you alone): just you");
    anna.type_line("/who");
    says(&mut anna, "* bert (127.0.0.1:");
    anna.type_line("/to carl hello");
    says(&mut anna, "nobody called \"carl\"");
    anna.type_line("/help");
    says(&mut anna, "/quit ends");
    anna.type_line("/quit");
    says(&mut bert, "* anna left");
    assert!(anna.finish().success());
    bert.type_line("alone now");
    says(&mut bert, "* nobody is here");
    bert.kill();
}

#[test]
fn the_end_of_input_ends_it() {
    let mut alone = Program::start(&["chat", "--name", "alone", "--mcast", &group()]);
    says(&mut alone, "* you are alone");
    assert!(alone.finish().success());
    assert_eq!(Program::start(&["chat", "--name", "two words"]).finish().code(), Some(2));
}

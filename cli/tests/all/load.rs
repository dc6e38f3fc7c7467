//! `tribes load` under a driver: commands go in on standard input, figures come out as JSON.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::net::TcpListener;

use crate::common::Program;
use serde_json::{Value, json};

const PAYLOAD: usize = 200;

/// Programs with the roles of `roles`, each with all others as its peers, ready.
fn members(roles: &[&str], args: &str) -> Vec<Program> {
    // Whoever is listed must be known by its port, so all are taken in advance.
    let taken: Vec<_> = roles.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addrs: Vec<_> = taken.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    drop(taken);
    let senders = if roles.contains(&"sender") { 1 } else { roles.len() - 1 };
    let start = |(own, role): (usize, &&str)| {
        let peers: Vec<_> = (0..roles.len()).filter(|at| *at != own).map(|at| addrs[at].as_str()).collect();
        let line = format!(
            "load --role {role} --index {own} --bind {} --peers {} --senders {senders} --payload {PAYLOAD} \
             --warmup 0.05 --json {args}",
            addrs[own],
            peers.join(","),
        );
        Program::start(&line.split_whitespace().collect::<Vec<_>>())
    };
    let mut members: Vec<_> = roles.iter().enumerate().map(start).collect();
    for member in &mut members {
        let (_, line) = member.wait("READY", |line| Some(line.to_owned()));
        assert_eq!(line, "READY");
    }
    members
}

fn figures(member: &mut Program) -> Value {
    member.wait("figures", |line| Some(serde_json::from_str(line).unwrap())).1
}

/// Each has printed its two lines, and ends with its input.
fn end(members: Vec<Program>) {
    for mut member in members {
        assert!(member.finish().success());
        assert_eq!(member.seen.len(), 2, "{:#?}", member.seen);
    }
}

fn assert_received(figures: &Value, messages: u64) {
    for (key, expected) in [
        ("rx_msgs", json!(messages)),
        ("lost", json!(0)),
        ("bad", json!(0)),
        ("reordered", json!(0)),
        ("complete", json!(true)),
    ] {
        assert_eq!(figures[key], expected, "{key} of {figures}");
    }
}

#[test]
fn one_sends_and_two_receive_under_each_option() {
    const MESSAGES: u64 = 2_000;
    for options in ["none", "async", "ack", "sync-ack"] {
        let args = format!("--options {options} --messages {MESSAGES}");
        let mut all = members(&["receiver", "receiver", "sender"], &args);
        let (sender, receivers) = all.split_last_mut().unwrap();
        sender.type_line("GO");
        for (index, receiver) in receivers.iter_mut().enumerate() {
            // Told without being asked.
            let received = figures(receiver);
            assert_received(&received, MESSAGES);
            for (key, expected) in [
                ("sys", json!("tribes-rs")),
                ("role", json!("receiver")),
                ("index", json!(index)),
                ("mode", json!("flood")),
                ("options", json!(options)),
                ("payload", json!(PAYLOAD)),
            ] {
                assert_eq!(received[key], expected, "{key} of {received}");
            }
            for key in ["rx_secs", "rx_msgs_per_s", "rx_mib_per_s", "oneway_p50_us", "oneway_p99_us", "rx_cpu_s"] {
                assert!(received[key].as_f64().unwrap() > 0.0, "{key} of {received}");
            }
            assert_eq!(received.get("tx_msgs"), None);
        }
        sender.type_line("REPORT");
        let sent = figures(sender);
        assert_eq!((&sent["tx_msgs"], &sent["errors"]), (&json!(MESSAGES), &json!(0)), "{sent}");
        for key in ["tx_secs", "tx_msgs_per_s", "tx_mib_per_s", "send_p50_us", "send_p99_us", "tx_cpu_s"] {
            assert!(sent[key].as_f64().unwrap() > 0.0, "{key} of {sent}");
        }
        assert_eq!((&sent["rtt_n"], &sent["rtt_p50_us"]), (&json!(0), &json!(-1.0)));
        assert_eq!((sent.get("rx_msgs"), sent.get("last_error")), (None, None));
        end(all);
    }
}

#[test]
fn pings_are_answered_under_each_option() {
    for options in ["none", "async", "ack", "sync-ack"] {
        let args = format!("--options {options} --mode pingpong --messages 50");
        let mut all = members(&["receiver", "receiver", "sender"], &args);
        let (sender, receivers) = all.split_last_mut().unwrap();
        sender.type_line("GO");
        for receiver in receivers {
            assert_received(&figures(receiver), 0);
        }
        sender.type_line("REPORT");
        let sent = figures(sender);
        assert_eq!((&sent["tx_msgs"], &sent["rtt_n"], &sent["errors"]), (&json!(50), &json!(50), &json!(0)), "{sent}");
        assert!(sent["rtt_p50_us"].as_f64().unwrap() > 0.0, "{sent}");
        end(all);
    }
}

#[test]
fn all_send_to_all() {
    // With everything that can be set, and each member on one thread.
    let args = "--options ack --messages 300 --extra workers=2 --extra noop=2 --extra batch=0 --extra bare=1 --extra coalesce=4096 \
                --extra rcvbuf=65536 --extra budget=1000000 --extra unheard=of";
    let mut all = members(&["peer", "peer", "peer"], args);
    for peer in &mut all {
        peer.type_line("GO");
    }
    for peer in &mut all {
        let figures = figures(peer);
        assert_received(&figures, 600);
        assert_eq!((&figures["tx_msgs"], &figures["errors"]), (&json!(300), &json!(0)), "{figures}");
    }
    end(all);
}

#[test]
fn concurrent_callers_share_their_numbers() {
    let mut all = members(&["receiver", "sender"], "--options ack --messages 500 --threads 8");
    let [receiver, sender] = &mut all[..] else { panic!("two were started") };
    sender.type_line("GO");
    // Callers overtake each other, so the order is not asked for.
    let received = figures(receiver);
    assert_eq!((&received["rx_msgs"], &received["lost"]), (&json!(500), &json!(0)), "{received}");
    sender.type_line("REPORT");
    assert_eq!(figures(sender)["tx_msgs"], json!(500));
    end(all);
}

#[test]
fn a_report_ends_what_is_under_way() {
    let mut all = members(&["receiver", "sender"], "--seconds 3600");
    for member in &mut all {
        member.type_line("GO");
        member.type_line("REPORT");
    }
    for member in &mut all {
        figures(member);
    }
    end(all);
}

#[test]
fn wrong_options_end_it_at_once() {
    for wrong in ["--variant std", "--role sender", "--options sync", "--payload 23", "--extra workers=many"] {
        let line = format!("load --bind 127.0.0.1:0 {wrong}");
        let mut program = Program::start(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(program.finish().code(), Some(2), "{wrong}");
        assert_eq!(program.seen.len(), 0, "{wrong}");
    }
}

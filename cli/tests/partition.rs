//! Maps of real processes in network namespaces of their own, on a network that is cut in two and mended again.
//!
//! Needs to be root and `ip` (Debian: iproute2), therefore only run when asked for: `bash .ci/run partition`. The host's own
//! network is not touched: the switches are in a namespace, too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

mod common;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Program, says};

const NAMES: [&str; 5] = ["anna", "bert", "carl", "dora", "emil"];
/// Longer than it takes to find out that somebody is gone, or back, and that what the sides hold differs.
const PATIENCE: Duration = Duration::from_secs(60);

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("ip is there (iproute2)");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Five hosts on a switch, and a second switch that some can be plugged into.
struct Lab {
    /// The number of this process: names are the host's.
    id: u32,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { id: std::process::id() };
        let hub = lab.hub();
        ip(&format!("netns add {hub}"));
        for switch in ["left", "right"] {
            ip(&format!("-n {hub} link add {switch} type bridge"));
            ip(&format!("-n {hub} link set {switch} up"));
        }
        for host in 0..NAMES.len() {
            let name = lab.host(host);
            ip(&format!("netns add {name}"));
            ip(&format!("-n {hub} link add port{host} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {hub} link set port{host} master left up"));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} addr add 10.77.0.{}/24 dev eth0", host + 1));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} route add 224.0.0.0/4 dev eth0"));
        }
        lab
    }

    fn hub(&self) -> String {
        format!("tribes-{}-hub", self.id)
    }

    fn host(&self, host: usize) -> String {
        format!("tribes-{}-{host}", self.id)
    }

    /// The cables of these go to the second switch, all others to the first.
    fn plug(&self, right: &[usize]) {
        for host in 0..NAMES.len() {
            let switch = if right.contains(&host) { "right" } else { "left" };
            ip(&format!("-n {} link set port{host} master {switch}", self.hub()));
        }
    }

    fn map(&self, host: usize, more: &[&str]) -> Program {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host), env!("CARGO_BIN_EXE_tribes"), "map", "--as", NAMES[host]]);
        command.args(["--bind", &format!("10.77.0.{}:0", host + 1), "--members", "5", "--within", "5s"]);
        command.args(["--compare-every", "500ms"]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Program::spawn(command)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in (0..NAMES.len()).map(|host| self.host(host)).chain([self.hub()]) {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
        }
    }
}

/// What `list` says.
fn list(program: &mut Program) -> BTreeMap<String, String> {
    program.type_line("list");
    let mut entries = BTreeMap::new();
    program.wait("the end of the list", |line| {
        if line.starts_with('*') {
            return None;
        }
        match line.split_once(" = ") {
            Some((key, value)) if !key.contains(' ') => {
                entries.insert(key.to_owned(), value.to_owned());
                None
            }
            _ => (line.ends_with(" entries") || line == "1 entry").then_some(()),
        }
    });
    entries
}

/// What all hold, once they hold the same and that has all of `wanted`.
fn all_hold(programs: &mut [Program], wanted: &dyn Fn(&BTreeMap<String, String>) -> bool) -> BTreeMap<String, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut lists: Vec<_> = programs.iter_mut().map(list).collect();
        if lists.windows(2).all(|two| two[0] == two[1]) && wanted(&lists[0]) {
            return lists.swap_remove(0);
        }
        assert!(Instant::now() < deadline, "they do not become equal, or something is lost: {lists:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn put(program: &mut Program, key: &str, value: u32) {
    program.type_line(&format!("put {key} {value}"));
    says(program, &format!("put {key} = {value}"));
}

/// The network is cut between bert and carl, both sides write, and it is mended. `alone`: whether the smaller side is told that
/// its writes are made.
fn cut_and_mended(more: &[&str], alone: bool) {
    let lab = Lab::new();
    let mut programs: Vec<_> = (0..NAMES.len()).map(|host| lab.map(host, more)).collect();
    programs.iter_mut().for_each(|program| says(program, "* ready"));
    for number in 0..50 {
        put(&mut programs[number as usize % 5], &format!("before{number}"), number);
    }
    lab.plug(&[2, 3, 4]);
    // Each side finds out that the other is gone.
    let (left, right) = programs.split_at_mut(2);
    left.iter_mut()
        .for_each(|program| common::says_all(program, &["* carl is gone", "* dora is gone", "* emil is gone"]));
    right.iter_mut().for_each(|program| common::says_all(program, &["* anna is gone", "* bert is gone"]));
    for number in 0..50 {
        put(&mut right[number as usize % 3], &format!("right{number}"), number);
        if alone {
            put(&mut left[number as usize % 2], &format!("left{number}"), number);
        }
    }
    if !alone {
        // It is written, and says that it is not with a majority; that goes to standard error.
        left[0].type_line("put left0 0");
        left[0].type_line("get left0");
        says(&mut left[0], "left0 = 0");
    }
    put(&mut right[0], "both", 1);
    // Where keys are on two members each, some are on the other side only: they are not there to be removed.
    let removed = (0..50).find(|number| {
        let key = format!("before{number}");
        right[1].type_line(&format!("remove {key}"));
        let (removed, absent) = (format!("removed {key}"), format!("{key} is not there"));
        // And who has heard of it.
        let told =
            |line: &str| line.strip_prefix(&removed).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        right[1].wait(&removed, |line| (told(line) || line == absent).then(|| told(line))).1
    });
    let removed = removed.expect("most keys are on this side, too");

    lab.plug(&[]);
    let is_whole = |list: &BTreeMap<String, String>| {
        let has = |key: String, value: u32| list.get(&key).is_some_and(|found| *found == value.to_string());
        (0..50).all(|number| number == removed || has(format!("before{number}"), number))
            && (0..50).all(|number| has(format!("right{number}"), number))
            && (0..if alone { 50 } else { 1 }).all(|number| has(format!("left{number}"), number))
            && has("both".to_owned(), 1)
    };
    let list = all_hold(&mut programs, &is_whole);
    assert!(!list.contains_key(&format!("before{removed}")), "a removed key is back");
    put(&mut programs[0], "after", 3);
    all_hold(&mut programs, &|list| list.get("after").is_some_and(|value| value == "3"));
}

#[test]
#[ignore = "needs root and iproute2: bash .ci/run partition"]
fn a_map_outlives_a_real_partition() {
    cut_and_mended(&["--durability", "majority", "--group-size", "5"], false);
}

#[test]
#[ignore = "needs root and iproute2: bash .ci/run partition"]
fn a_spread_map_outlives_a_real_partition() {
    // A key that has both its holders on the other side is not there meanwhile; nothing that is written gets lost by that.
    cut_and_mended(&["--durability", "all", "--backups", "1"], true);
}

//! `tribes map` by script: processes share a map, some are killed, and what was acknowledged stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::common::{LIMIT, Program, group, says, says_all, tribes};

/// A member called `name`, told nothing yet.
fn member(group: &str, name: &str, more: &[&str]) -> Program {
    Program::start(&[&["map", "--mcast", group, "--as", name], more].concat())
}

/// What `list` says, without what is told of others.
fn list(program: &mut Program) -> BTreeMap<String, String> {
    program.type_line("list");
    let mut entries = BTreeMap::new();
    program.wait("the end of the list", |line| {
        if line.starts_with('*') {
            return None;
        }
        match line.split_once(" = ") {
            Some((key, value)) => {
                entries.insert(key.to_owned(), value.to_owned());
                None
            }
            None => (line.ends_with(" entries") || line == "1 entry").then_some(()),
        }
    });
    entries
}

#[test]
fn two_share_a_map() {
    let group = group();
    let two = ["--members", "2", "--durability", "all", "--within", "20s"];
    let mut anna = member(&group, "anna", &two);
    let mut bert = member(&group, "bert", &two);
    says_all(&mut anna, &["* bert is here", "* ready: 0 entries"]);
    says(&mut bert, "* ready: 0 entries");
    anna.type_line("put nails 12 in the box");
    says(&mut anna, "put nails = 12 in the box (copies: bert)");
    says(&mut bert, "* nails = 12 in the box");
    bert.type_line("get nails");
    says(&mut bert, "nails = 12 in the box");
    bert.type_line("put screws 3");
    says(&mut anna, "* screws = 3");
    anna.type_line("list");
    says(&mut anna, "nails = 12 in the box");
    says(&mut anna, "screws = 3");
    says(&mut anna, "2 entries");
    anna.type_line("list n");
    says(&mut anna, "1 entry");
    bert.type_line("remove nails");
    says(&mut bert, "removed nails (copies: anna)");
    says(&mut anna, "* nails is removed");
    anna.type_line("get nails");
    says(&mut anna, "nails is not there");
    anna.type_line("remove nails");
    says(&mut anna, "nails is not there");
    anna.type_line("who");
    says(&mut anna, "anna, this member: 1 entry");
    says(&mut anna, "has all that was written here");
    anna.type_line("stats");
    says(&mut anna, "removals remembered: 1");
    anna.type_line("help");
    says(&mut anna, "put KEY VALUE");
    bert.type_line("quit");
    says(&mut anna, "* bert left");
    assert!(bert.finish().success() && anna.finish().success());
}

/// Each key is with one member only, so whoever quits has to hand over what it holds.
#[test]
fn a_map_is_spread_over_its_members_and_who_quits_hands_over() {
    let group = group();
    let spread = ["--members", "3", "--backups", "0", "--durability", "all", "--within", "20s", "--quiet"];
    let names = ["anna", "bert", "carl"];
    let [mut anna, mut bert, mut carl] = names.map(|name| member(&group, name, &spread));
    for program in [&mut anna, &mut bert, &mut carl] {
        says(program, "* ready");
    }
    for number in 0..60 {
        anna.type_line(&format!("put key{number} {number}"));
    }
    says(&mut anna, "put key59 = 59");
    bert.type_line("get key7");
    says(&mut bert, "key7 = 7");
    // Who opened the map last may be heard of after the others are ready.
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut with = BTreeMap::<String, usize>::new();
        for number in 0..60 {
            carl.type_line(&format!("who key{number}"));
            let holder = |line: &str| line.split_once(" is with ").map(|(_, who)| who.to_owned());
            let (_, name) = carl.wait("who holds it", holder);
            *with.entry(name).or_default() += 1;
        }
        if names.iter().all(|name| with.get(*name).is_some_and(|count| *count > 5)) {
            break;
        }
        assert!(Instant::now() < deadline, "{with:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    for program in [&mut anna, &mut bert] {
        assert!(program.finish().success(), "{:#?}", program.seen);
    }
    assert_eq!(list(&mut carl).len(), 60);
    carl.type_line("stats");
    says(&mut carl, "primary: 60 entries in 64 shards");
    assert!(carl.finish().success());
}

/// Results on standard output, what goes wrong on standard error, and the exit code tells.
#[test]
fn a_script_sees_what_went_wrong() {
    let run = |script: &str, more: &[&str]| {
        let group = group();
        let args = [&["map", "--mcast", &group, "--as", "alone", "--quiet"], more].concat();
        let mut process = tribes(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = run("put a 1\n\nget a\nget b\nquit\nput c 3\n", &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let results: Vec<_> = out.lines().filter(|line| !line.starts_with('*')).collect();
    assert_eq!(results, ["put a = 1", "a = 1", "b is not there"]);

    let (code, out, err) = run("dance\nput a 1\nget a", &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("dance") && out.contains("\na = 1\n"), "{out}\n{err}");

    // Nobody else is there. It is written all the same, as the error says.
    let (code, out, err) = run("put a 1\nget a", &["--durability", "majority", "--group-size", "3"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.starts_with("tribes map: put a 1: the write") && out.contains("\na = 1\n"), "{out}\n{err}");

    for wrong in [["--durability", "quorum"], ["--within", "5"], ["--as", "two words"], ["--peer", "nowhere"]] {
        assert_eq!(run("", &wrong).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn what_is_kept_in_a_directory_is_there_again() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("map");
    // Of an earlier run.
    let _ = std::fs::remove_dir_all(&directory);
    let group = group();
    let start = || member(&group, "anna", &["--directory", directory.to_str().unwrap()]);
    let mut anna = start();
    says(&mut anna, "* ready: 0 entries");
    anna.type_line("put nails 12");
    says(&mut anna, "put nails = 12");
    assert!(anna.finish().success());
    let mut anna = start();
    says(&mut anna, "* ready: 1 entry");
    anna.type_line("get nails");
    says(&mut anna, "nails = 12");
}

/// The writes that it has said to be acknowledged. The values of a key are numbers that grow.
fn acknowledged(program: &Program) -> BTreeMap<String, u64> {
    let written = program.seen.iter().filter_map(|(_, line)| {
        let (key, rest) = line.strip_prefix("put ")?.split_once(" = ")?;
        let (value, _) = rest.split_once(" (copies: ")?;
        Some((key.to_owned(), value.parse().unwrap()))
    });
    written.collect()
}

/// Lists what each holds until all hold the same, or it is too late.
fn lists_of(programs: &mut [&mut Program]) -> BTreeMap<String, u64> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let lists: Vec<_> = programs.iter_mut().map(|program| list(program)).collect();
        if lists.windows(2).all(|two| two[0] == two[1]) {
            return lists[0].iter().map(|(key, value)| (key.clone(), value.parse().unwrap())).collect();
        }
        assert!(Instant::now() < deadline, "they do not become equal: {lists:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Four share a map, two of them are killed in the middle of writes, one comes back with nothing: what a majority had is with
/// everybody.
#[test]
fn what_was_acknowledged_outlives_two_that_are_killed() {
    const MANY: u64 = 3000;
    let group = group();
    let wait =
        ["--durability", "majority", "--group-size", "4", "--within", "1s", "--compare-every", "500ms", "--quiet"];
    let four = [&wait[..], &["--members", "4"]].concat();
    let [mut anna, mut bert, mut carl, mut dora] =
        ["anna", "bert", "carl", "dora"].map(|name| member(&group, name, &four));
    for program in [&mut anna, &mut bert, &mut carl, &mut dora] {
        says(program, "* ready");
    }
    // More than gets done before one of the two is killed: also if the other, who begins first, is slow.
    for number in 0..MANY / 10 {
        bert.type_line(&format!("put bert{} {number}", number % 50));
    }
    for number in 0..MANY {
        anna.type_line(&format!("put anna{} {number}", number % 50));
    }
    // Each key once and more. Of a busy machine a write may be too late to be acknowledged; then a later one is.
    says(&mut bert, "put bert49 = ");
    says(&mut anna, "put anna49 = ");
    anna.kill();
    carl.kill();
    anna.finish();
    let by_anna = acknowledged(&anna);
    assert!(by_anna.values().all(|number| *number < MANY - 1), "it was killed too late: {by_anna:?}");

    // The two that are left are no majority: their writes fail, and are made all the same.
    bert.type_line("put later 1");
    bert.type_line("get later");
    says(&mut bert, "later = 1");
    let mut anna = member(&group, "anna", &[&wait[..], &["--members", "3"]].concat());
    says(&mut anna, "* ready");
    anna.type_line("put after 2");
    says(&mut anna, "put after = 2 (copies: ");

    let mut wanted = by_anna;
    wanted.extend(acknowledged(&bert));
    wanted.extend(acknowledged(&anna));
    assert!(wanted.len() > 100 && !wanted.contains_key("later"), "{wanted:?}");
    wanted.insert("later".to_owned(), 1);
    let found = lists_of(&mut [&mut anna, &mut bert, &mut dora]);
    // A later value is right, too: of a write that was under way when its author was killed.
    let is_lost = |key: &String, number: u64| found.get(key).is_none_or(|found| *found < number);
    let lost: Vec<_> = wanted.iter().filter(|(key, number)| is_lost(key, **number)).collect();
    assert!(lost.is_empty(), "{lost:?} are lost; there are {found:?}");
}

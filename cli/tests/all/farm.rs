//! `tribes farm` by real processes: what is published arrives, also with one that is killed on the way and one that comes later.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{LIMIT, Program, group, says, tribes};

/// Folders for one test, empty.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("farm").join(test);
    // Of an earlier run.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A member that takes files, in its own folders.
fn member(group: &str, folder: &Path, name: &str, more: &[&str]) -> Program {
    let (staging, live) = (folder.join(name).join("staging"), folder.join(name).join("live"));
    let own = ["farm", "watch", "--trust-cluster", "--mcast", group, "--as", name];
    let folders = ["--staging", staging.to_str().unwrap(), "--live", live.to_str().unwrap()];
    Program::start(&[&own, &folders[..], more].concat())
}

/// Runs a subcommand to its end: whether it went well, and what it said.
fn run(group: &str, args: &[&str]) -> (bool, String) {
    let meet: &[&str] = &["--mcast", group, "--as", "visitor"];
    let within: &[&str] = if args.contains(&"--within") { &[] } else { &["--within", "20s"] };
    let trust: &[&str] = if args.contains(&"--trust-key") { &[] } else { &["--trust-cluster"] };
    let mut command = tribes(&[&["farm"], args, meet, within, trust].concat());
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    eprintln!("{args:?}: {text}");
    (output.status.success(), text)
}

#[test]
fn what_is_published_is_live_with_all_and_can_be_taken_back() {
    let (group, folder) = (group(), folder("publish"));
    let mut anna = member(&group, &folder, "anna", &[]);
    let mut bert = member(&group, &folder, "bert", &[]);
    let file = folder.join("rules.json");
    fs::write(&file, "one").unwrap();
    let (well, text) = run(&group, &["publish", file.to_str().unwrap(), "--members", "2"]);
    assert!(well && text.contains("rules.json is published"), "{text}");
    assert!(text.contains("  anna: active") && text.contains("  bert: active"), "{text}");
    says(&mut anna, "* rules.json is live: 3 bytes");
    says(&mut bert, "* rules.json is live: 3 bytes");
    let live = |name: &str| fs::read_to_string(folder.join(name).join("live/rules.json")).unwrap();
    assert_eq!((live("anna"), live("bert")), ("one".into(), "one".into()));

    fs::write(&file, "number two").unwrap();
    assert!(run(&group, &["publish", file.to_str().unwrap(), "--members", "2"]).0);
    assert_eq!(live("bert"), "number two");
    // Whoever comes later gets it before it is ready, and from those that are there: the publisher is gone.
    let mut carl = member(&group, &folder, "carl", &[]);
    says(&mut carl, "* ready: 1 file");
    assert_eq!(live("carl"), "number two");

    let (well, text) = run(&group, &["status", "--members", "3"]);
    assert!(well && text.contains("rules.json: 10 bytes") && text.contains("before: 3 bytes"), "{text}");
    let (well, text) = run(&group, &["rollback", "rules.json", "--members", "3"]);
    assert!(well && text.contains("  carl: active"), "{text}");
    for name in ["anna", "bert", "carl"] {
        assert_eq!(live(name), "one", "{name}");
    }
    let (well, text) = run(&group, &["rollback", "other.json", "--members", "3"]);
    assert!(!well && text.contains("no such artefact"), "{text}");
    let (well, text) = run(&group, &["publish", file.to_str().unwrap(), "--name", "../../x"]);
    assert!(!well && text.contains("leads elsewhere"), "{text}");
    assert!([&mut anna, &mut bert, &mut carl].iter_mut().all(|program| program.finish().success()));
}

/// A member is killed in mid-transfer. When it is back it fetches what is missing, and nothing else.
#[test]
fn who_is_killed_in_mid_transfer_goes_on_where_it_was() {
    const SIZE: u64 = 96 << 20;
    let (group, folder) = (group(), folder("killed"));
    let source = folder.join("incoming");
    fs::create_dir(&source).unwrap();
    // Written elsewhere and renamed into the folder, as is right.
    let (written, name) = (folder.join("model.tmp"), source.join("model.bin"));
    let content: Vec<u8> = (0..SIZE / 8).flat_map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect();
    fs::write(&written, &content).unwrap();
    fs::rename(&written, &name).unwrap();
    let mut anna = member(&group, &folder, "anna", &["--dir", source.to_str().unwrap(), "--settle", "50ms"]);
    says(&mut anna, "* model.bin is live");

    let mut bert = member(&group, &folder, "bert", &[]);
    let partial = folder.join("bert/staging/partial");
    let deadline = Instant::now() + LIMIT;
    let there = loop {
        let entry = fs::read_dir(&partial).ok().and_then(|mut entries| entries.next()?.ok());
        // A file of which little is written has few blocks, whatever its length is.
        let there = entry.and_then(|entry| entry.metadata().ok()).map_or(0, |metadata| metadata.blocks() * 512);
        if there > SIZE / 10 {
            break there;
        }
        assert!(Instant::now() < deadline, "nothing is fetched");
        std::thread::sleep(Duration::from_millis(1));
    };
    bert.kill();
    bert.finish();
    assert!(!folder.join("bert/live/model.bin").exists(), "it was killed too late");

    let mut bert = member(&group, &folder, "bert", &[]);
    let (_, fetched) = bert.wait("it to be live", |line| {
        let (fetched, _) = line.strip_prefix("* model.bin is live: ")?.split_once(" fetched")?;
        fetched.split_once("bytes, ")?.1.parse::<u64>().ok()
    });
    eprintln!("{there} of {SIZE} bytes were there when it was killed; {fetched} were fetched afterwards");
    assert!(fetched > 0 && fetched <= SIZE - there + (8 << 20), "{fetched} after {there}");
    assert!(fs::read(folder.join("bert/live/model.bin")).unwrap() == content);
    assert!(bert.finish().success() && anna.finish().success());
}

#[test]
fn what_is_not_signed_is_not_taken() {
    let (group, folder) = (group(), folder("signed"));
    let key = folder.join("key");
    let make = || {
        let output = tribes(&["farm", "key", key.to_str().unwrap()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let public = make();
    assert_eq!(make(), public, "it is kept");
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o077, 0);
    let (staging, live) = (folder.join("staging"), folder.join("live"));
    let folders = ["--staging", staging.to_str().unwrap(), "--live", live.to_str().unwrap()];
    let mut anna = Program::start(
        &[&["farm", "watch", "--mcast", &group, "--as", "anna", "--trust-key", &public], &folders[..]].concat(),
    );
    let file = folder.join("plugin.wasm");
    fs::write(&file, "code").unwrap();
    let file = file.to_str().unwrap();
    let (well, _) = run(&group, &["publish", file, "--within", "1s"]);
    assert!(!well);
    let (well, text) = run(&group, &["publish", file, "--trust-key", &public]);
    assert!(!well && text.contains("no key to sign with"), "{text}");
    assert!(!live.join("plugin.wasm").exists());
    let (well, text) = run(&group, &["publish", file, "--trust-key", &public, "--sign-with", key.to_str().unwrap()]);
    assert!(well, "{text}");
    assert_eq!(fs::read(live.join("plugin.wasm")).unwrap(), b"code");
    assert!(anna.finish().success());
}

/// The watched folder is followed: new files, changed ones, and those that are taken away.
#[test]
fn a_watched_folder_is_followed() {
    let (group, folder) = (group(), folder("watched"));
    let dir = folder.join("dir");
    let watch = ["--dir", dir.to_str().unwrap(), "--settle", "100ms", "--pattern", "*.json"];
    let mut anna = member(&group, &folder, "anna", &watch);
    let mut bert = member(&group, &folder, "bert", &[]);
    says(&mut anna, "* ready: 0 files");
    says(&mut bert, "* ready: 0 files");
    fs::write(dir.join("a.tmp"), "x").unwrap();
    fs::write(dir.join("a.json"), "one").unwrap();
    says(&mut bert, "* a.json is live: 3 bytes");
    fs::write(dir.join("a.json"), "three").unwrap();
    says(&mut bert, "* a.json is live: 5 bytes");
    fs::remove_file(dir.join("a.json")).unwrap();
    says(&mut bert, "* a.json is removed");
    assert!(!folder.join("bert/live/a.json").exists() && !folder.join("bert/live/a.tmp").exists());
    assert!(bert.finish().success() && anna.finish().success());
}

//! `tribes check`: what it says of good and bad configurations, and of this machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what is wrong by failing")]

use std::path::PathBuf;
use std::process::Command;

/// What it writes, and whether it ends with 0.
fn check(args: &[&str], env: &[(&str, &str)]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tribes"));
    let output = command.arg("check").args(args).envs(env.iter().copied()).current_dir(env!("CARGO_TARGET_TMPDIR"));
    let output = output.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_defaults_are_fine() {
    let (said, good) = check(&[], &[("TRIBES__RECEIVER__PORT", "0")]);
    assert!(good, "{said}");
    assert!(said.contains("1 ▼      message-dispatch      flag 0x8 "), "{said}");
    assert!(said.contains("ok      multicast   228.0.0.4 comes back on 127.0.0.1"), "{said}");
    assert!(said.contains("others will be told 127.0.0.1:"), "{said}");
}

#[test]
fn all_faults_of_a_file_are_named() {
    let path = file("bad.toml", "[receiver]\nprot = 1\n[[interceptor]]\ntype = \"encrypt\"\nkey = \"0001\"\n");
    let (said, good) = check(&[path.to_str().unwrap()], &[]);
    assert!(!good);
    assert!(said.contains("bad.toml has 2 faults:"), "{said}");
    assert!(said.contains("bad.toml:2:1: [receiver]: there is no key \"prot\"; did you mean \"port\"?"), "{said}");
    assert!(
        said.contains("bad.toml:5:1: [[interceptor]] encrypt: key is \"(hidden)\"") && !said.contains("0001"),
        "{said}"
    );
}

#[test]
fn weak_keys_and_unknown_peers_are_found_and_keys_are_not_shown() {
    let key = "cafebabedeadbeefcafebabedeadbeef";
    let text = format!(
        "[receiver]\nport = 0\n[membership]\ntype = \"static\"\npeers = [\"nowhere.invalid:4000\"]\n[[interceptor]]\ntype = \
         \"encrypt\"\nkey = \"{key}\"\n"
    );
    let (said, good) = check(&[file("weak.toml", &text).to_str().unwrap()], &[]);
    assert!(good, "warnings only: {said}");
    assert!(
        said.contains("a key of 128 bits that was not made by chance; make one by: openssl rand -hex 32"),
        "{said}"
    );
    assert!(said.contains("nowhere.invalid:4000 "), "{said}");
    assert!(!said.contains(key), "{said}");
}

/// What `encrypt` would refuse at its start is not called fine, and what may be a key in the wrong place is not shown.
#[test]
fn keys_that_cannot_be_used_are_faults() {
    let key = "9f3c5a17e2804bd66c01f7a83e925db4";
    let other = "b1946ac92492d2347c6235b4d2611184";
    let said_of = |setting: &str, env: &[(&str, &str)]| {
        let text = format!("[[interceptor]]\ntype = \"encrypt\"\n{setting}\n");
        let name = format!("keys-{}.toml", setting.len());
        check(&[file(&name, &text).to_str().unwrap(), "--no-self-test"], env)
    };
    for (content, why) in
        [("12345", "hexadecimal"), ("1234", "not 16"), ("# none\n", "hexadecimal"), (&key[2..], "not 120")]
    {
        let keys = file("keys.txt", content);
        let (said, good) = said_of(&format!("key_file = {keys:?}"), &[]);
        assert!(!good && said.contains("FAULT   keys") && said.contains(why), "{content}: {said}");
        assert!(!said.contains(content.trim()), "{said}");
    }
    let (said, good) = said_of(&format!("key_env = \"{key}\""), &[]);
    assert!(!good && said.contains("is not set") && !said.contains(key), "{said}");
    let (said, good) = said_of(&format!("key_file = \"{key}\""), &[]);
    assert!(!good && said.contains("cannot read") && !said.contains(key), "{said}");
    let (said, good) = said_of("key_env = \"CHECK_KEYS\"", &[("CHECK_KEYS", &format!("{key} {other}"))]);
    assert!(good && said.matches("a key of 128 bits").count() == 2, "{said}");
}

#[test]
fn a_layer_that_does_not_start_is_not_the_ports_fault() {
    let text = "[channel]\nid = \"00000000000000000000000000000001\"\n[receiver]\nport = 0\n[[interceptor]]\ntype = \
                \"encrypt\"\nkey = \"9f3c5a17e2804bd66c01f7a83e925db4\"\nmode = \"authenticated\"\n";
    let (said, good) = check(&[file("marked.toml", text).to_str().unwrap()], &[]);
    assert!(
        !good && said.contains("FAULT   start       encrypt does not start: the id of this member lacks"),
        "{said}"
    );
    assert!(!said.contains("ss -ltnp"), "{said}");
}

#[cfg(unix)]
#[test]
fn variables_of_others_may_be_no_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tribes"));
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let output = command.args(["check", "--no-self-test"]).env("SOMEBODYS", odd).env(odd, "x");
    let output = output.current_dir(env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_taken_port_and_an_address_of_another_machine_are_found() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (said, good) = check(&[], &[("TRIBES__RECEIVER__PORT", &port), ("TRIBES__RECEIVER__AUTO_BIND", "1")]);
    assert!(!good);
    assert!(said.contains("FAULT   port        the receiver does not start: "), "{said}");
    let (said, good) = check(&[], &[("TRIBES__RECEIVER__BIND", "192.0.2.77")]);
    assert!(!good && said.contains("FAULT"), "{said}");
}

#[test]
fn a_server_xml_is_shown_as_toml() {
    let xml = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/config/server-second.xml");
    let (said, good) = check(&[xml, "--no-self-test"], &[]);
    assert!(good, "{said}");
    assert!(said.contains("\n[membership]\ntype = \"multicast\"\ngroup = \"228.0.0.4\"\nport = 45564\n"), "{said}");
    assert!(said.contains("[[interceptor]]\ntype = \"throughput\"\n"), "{said}");
    assert!(said.contains("<Receiver> maxThreads: not needed"), "{said}");
}

#[test]
fn parts_and_schema_are_listed() {
    let (all, good) = check(&["--parts"], &[]);
    assert!(
        good && all.contains("[[interceptor]] type = \"gzip\"") && all.contains("[receiver] type = \"tcp\""),
        "{all}"
    );
    let (one, good) = check(&["--parts", "order"], &[]);
    assert!(good && one.contains("max_queue") && !one.contains("gzip"), "{one}");
    let (none, good) = check(&["--parts", "odrer"], &[]);
    assert!(!good && none.contains("there is no part \"odrer\""), "{none}");
    assert!(check(&["--schema"], &[]).0.starts_with("{\n  \"$schema\": "));
}

//! Encrypted bodies, under every algorithm of AES that Java has, and what either side makes of another key.

use tribes_interop::{Event, Failure, Impl, Node, Scenario, Spec, run};

use super::{SOON, group, pair, quick, reaches, ways};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const LONG_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const OTHER_KEY: &str = "00112233445566778899aabbccddeeff0011223344556677";

/// A node with Tomcat's layers and encryption where it belongs between them.
fn with_layer(implementation: Impl, options: &str) -> Spec {
    quick(implementation)
        .with("--interceptor", "message-dispatch")
        .with("--interceptor", &format!("encrypt,{options}"))
        .with("--interceptor", "tcp-failure-detector")
}

ways!(encrypt_gcm: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn encrypt_gcm(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, from, to, &format!("key={KEY}"))
}

ways!(encrypt_gcm_long_key: rust_to_java, java_to_rust);
fn encrypt_gcm_long_key(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, from, to, &format!("algorithm=aes/gcm/nopadding,key={}", LONG_KEY.to_uppercase()))
}

ways!(encrypt_cbc: rust_to_java, java_to_rust, java_to_java);
fn encrypt_cbc(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, from, to, &format!("algorithm=AES/CBC/PKCS5Padding,key={OTHER_KEY},legacy=true"))
}

ways!(encrypt_cbc_iso10126: rust_to_java, java_to_rust);
fn encrypt_cbc_iso10126(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, from, to, &format!("algorithm=AES/CBC/ISO10126Padding,key={KEY},legacy=true"))
}

ways!(encrypt_cfb: rust_to_java, java_to_rust);
fn encrypt_cfb(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, from, to, &format!("algorithm=AES/CFB/PKCS5Padding,key={LONG_KEY},legacy=true"))
}

ways!(encrypt_ofb: rust_to_java, java_to_rust);
fn encrypt_ofb(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, from, to, &format!("algorithm=AES/OFB/PKCS5Padding,key={KEY},legacy=true"))
}

/// Bodies of all sizes, to one member and to two at once, one of each kind.
fn bodies(name: &str, from: Impl, to: Impl, options: &str) -> Result<(), Failure> {
    run(name, |scenario| {
        let mut to = group(scenario, &[from, to, Impl::Rust].map(|kind| with_layer(kind, options)))?;
        let mut from = to.remove(0);
        for (seed, names) in ["ack,sync", "async", "none"].into_iter().enumerate() {
            for size in [0, 1, 1000, 200_000, 5_000_000] {
                let payload = format!("size:{size}:{seed}");
                // The largest takes half a second, and the options make no difference to encryption.
                if size < 5_000_000 || names == "ack,sync" {
                    reaches(&mut from, &mut to[..1], names, &payload, &format!("{size} bytes to one"))?;
                    reaches(&mut from, &mut to, names, &payload, &format!("{size} bytes to two"))?;
                }
            }
        }
        assert_eq!((to[0].messages().len(), to[1].messages().len()), (26, 13), "each once");
        Ok(())
    })
}

/// Waits for this message, which came after `mark`.
fn arrives(node: &mut Node, mark: usize, size: u64, sha256: &str) -> Result<(), Failure> {
    node.wait_since(mark, &format!("body of {size} bytes"), SOON, |event| match event {
        Event::Message(message) => (message.len == size && message.sha256 == sha256).then_some(()),
        _ => None,
    })
    .map(drop)
}

ways!(encrypt_with_a_wrong_key: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// Java drops what it cannot open and says that all is well; ours says that it was not taken. Neither delivers it.
fn encrypt_with_a_wrong_key(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = keyed_pair(scenario, (from, OTHER_KEY), (to, KEY))?;
        let to_id = to.local()?.id;
        let sent = from.send("ack,sync", "size:100", 1)?;
        if to.implementation() == Impl::Java {
            assert_eq!(sent.failed, 0);
        } else {
            assert_eq!(sent.failed, 1);
            assert!(sent.why.contains(&to_id), "'{}' does not name {to_id}", sent.why);
        }
        // The answer comes after whatever the message led to.
        assert_eq!(to.messages().len(), 0);
        assert_eq!(from.members()?.len(), 1, "its member is alive all the same");
        Ok(())
    })
}

ways!(encrypt_rotation: rust_to_java, java_to_rust);
/// A node of ours has the next key already while the Java one has the old one; each understands the other.
fn encrypt_rotation(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    let keys = |kind| if kind == Impl::Rust { format!("{KEY}+{LONG_KEY}") } else { KEY.to_owned() };
    run(name, |scenario| {
        let (mut from, mut to) = keyed_pair(scenario, (from, &keys(from)), (to, &keys(to)))?;
        for (size, node) in [(100, 0), (101, 1)] {
            let (one, other) = if node == 0 { (&mut from, &mut to) } else { (&mut to, &mut from) };
            let mark = other.mark();
            let sent = one.send("ack,sync", &format!("size:{size}"), 1)?;
            assert_eq!((sent.failed, sent.why.as_str()), (0, ""));
            arrives(other, mark, size, &sent.sha256)?;
        }
        Ok(())
    })
}

fn keyed_pair(scenario: &Scenario, from: (Impl, &str), to: (Impl, &str)) -> Result<(Node, Node), Failure> {
    let spec = |(kind, key): (Impl, &str)| with_layer(kind, &format!("key={key}"));
    pair(scenario, &spec(from), &spec(to))
}

#[test]
fn encrypt_authenticated_rust_to_rust() -> Result<(), Failure> {
    bodies(
        "encrypt_authenticated::rust_to_rust",
        Impl::Rust,
        Impl::Rust,
        &format!("mode=authenticated,key={KEY}+{LONG_KEY}"),
    )
}

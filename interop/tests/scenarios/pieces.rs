//! Layers that change bodies without a key: `gzip`, `fragmentation`, and the one above the other.

use std::fs;
use std::path::PathBuf;

use tribes_interop::{Failure, Impl, Spec, run};

use super::{SOON, group, quick, reaches, ways};

const SIZES: [usize; 5] = [0, 1, 1000, 200_000, 5_000_000];

ways!(gzip: rust_to_java, java_to_rust, java_to_java);
fn gzip(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, &["gzip"], &SIZES, from, to)
}

ways!(fragmentation: rust_to_java, java_to_rust, java_to_java);
fn fragmentation(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, &["fragmentation"], &SIZES, from, to)
}

ways!(gzip_and_fragmentation: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn gzip_and_fragmentation(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    bodies(name, &["gzip", "fragmentation"], &SIZES, from, to)
}

ways!(small_pieces: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn small_pieces(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    // Java copies the whole body for each piece of it: with the largest it runs out of memory.
    let sizes = if from == Impl::Java { &SIZES[..4] } else { &SIZES[..] };
    bodies(name, &["gzip", "fragmentation,max_size=1024"], sizes, from, to)
}

/// Tomcat's layers with these between.
fn stack(kind: Impl, layers: &[&str]) -> Spec {
    let layers = ["message-dispatch"].iter().chain(layers).chain(&["tcp-failure-detector"]);
    layers.fold(quick(kind), |spec, layer| spec.with("--interceptor", layer))
}

/// A file that is gone when the scenario ends.
pub(super) struct File(PathBuf);

impl File {
    /// Of `len` bytes, which compress well but not into next to nothing.
    pub(super) fn new(name: &str, len: usize) -> Self {
        let name = format!("tribes-{}-{}-{len}", std::process::id(), name.replace("::", "-"));
        let path = std::env::temp_dir().join(name);
        let text: Vec<u8> = (0..)
            .flat_map(|line: u32| format!("{} is line {line}\n", line % 977 * 31).into_bytes())
            .take(len)
            .collect();
        fs::write(&path, text).expect("a file in the temporary directory");
        Self(path)
    }

    pub(super) fn path(&self) -> std::path::Display<'_> {
        self.0.display()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Bodies of all sizes, those that compress and those that do not, to one member and to two of different kinds at once.
///
/// A Java member gets pieces with `ack,sync` only. It begins with what comes next on a connection while it still handles what
/// came before, and without a lock: two pieces may each find that it completes the message, which is then delivered twice.
fn bodies(name: &str, layers: &[&str], sizes: &[usize], from: Impl, to: Impl) -> Result<(), Failure> {
    let pieces = layers.iter().any(|layer| layer.starts_with("fragmentation"));
    run(name, |scenario| {
        let mut to = group(scenario, &[from, to, from].map(|kind| stack(kind, layers)))?;
        let mut from = to.remove(0);
        let mut expected = [0, 0];
        for &size in sizes {
            let file = File::new(name, size);
            for payload in [format!("file:{}", file.path()), format!("size:{size}:{}", size + 7)] {
                for (chosen, options) in [(0..1, "ack,sync"), (0..2, "ack,sync"), (0..1, "async"), (1..2, "async")] {
                    let to = &mut to[chosen.clone()];
                    if pieces && options == "async" && to[0].implementation() == Impl::Java {
                        continue;
                    }
                    reaches(&mut from, to, options, &payload, &format!("{payload} to {chosen:?}"))?;
                    expected[chosen].iter_mut().for_each(|expected| *expected += 1);
                }
            }
        }
        assert_eq!([to[0].messages().len(), to[1].messages().len()], expected, "nothing came twice");
        Ok(())
    })
}

ways!(refused_in_pieces: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// The listener refuses a message that came in pieces. Java sends its last piece once more: ours says the same again, Java
/// itself takes it for a piece of something new, so that its sender believes in success.
fn refused_in_pieces(name: &str, sender: Impl, receiver: Impl) -> Result<(), Failure> {
    const BAD: u64 = 5000;
    let layers = ["fragmentation,max_size=1024"];
    run(name, |scenario| {
        let to = stack(receiver, &layers).with("--fail-len", &BAD.to_string());
        let (mut from, mut to) = super::pair(scenario, &stack(sender, &layers), &to)?;
        let refused = from.send("ack,sync", &format!("size:{BAD}"), 1)?;
        let unheard = (sender, receiver) == (Impl::Java, Impl::Java);
        assert_eq!(refused.failed, u64::from(!unheard), "{}", refused.why);
        assert_eq!(from.send("ack,sync", "size:5001", 1)?.failed, 0);
        to.wait_message(SOON, |message| message.len == 5001)?;
        assert_eq!(to.messages().len(), 2, "the refused message came once");
        Ok(())
    })
}

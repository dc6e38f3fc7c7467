//! Layers that change bodies without a key: `gzip`, `fragmentation`, and the one above the other.

use std::fs;
use std::path::PathBuf;

use tribes_interop::{Event, Failure, Impl, Node, Scenario, Spec, run};

use super::{SOON, quick, ways};

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
struct File(PathBuf);

impl File {
    /// Of `len` bytes, which compress well but not into next to nothing.
    fn new(name: &str, len: usize) -> Self {
        let name = format!("tribes-{}-{}-{len}", std::process::id(), name.replace("::", "-"));
        let path = std::env::temp_dir().join(name);
        let text: Vec<u8> = (0..)
            .flat_map(|line: u32| format!("{} is line {line}\n", line % 977 * 31).into_bytes())
            .take(len)
            .collect();
        fs::write(&path, text).expect("a file in the temporary directory");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Bodies of all sizes, those that compress and those that do not, to one member and to two of different kinds at once.
fn bodies(name: &str, layers: &[&str], sizes: &[usize], from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = group(scenario, [stack(from, layers), stack(to, layers), stack(from, layers)])?;
        let ids = to.iter_mut().map(|node| Ok(node.local()?.id)).collect::<Result<Vec<_>, Failure>>()?;
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        for &size in sizes {
            let file = File::new(name, size);
            for payload in [format!("file:{}", file.0.display()), format!("size:{size}:{}", size + 7)] {
                for (count, options) in [(1, "ack,sync"), (2, "ack,sync"), (2, "async")] {
                    let marks: Vec<_> = to.iter_mut().map(Node::mark).collect();
                    let sent = from.send_to(&ids[..count], options, &payload)?;
                    let what = format!("{payload} to {count}, {options}");
                    assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{what}");
                    for (node, mark) in to.iter_mut().zip(marks).take(count) {
                        let (_, message) = node.wait_since(mark, &what, SOON, |event| match event {
                            Event::Message(message) => Some(message.clone()),
                            _ => None,
                        })?;
                        assert_eq!((message.len, &message.sha256), (size as u64, &sent.sha256), "{what}");
                    }
                }
            }
        }
        let expected = [6 * sizes.len(), 4 * sizes.len()];
        assert_eq!([to[0].messages().len(), to[1].messages().len()], expected, "nothing came twice");
        Ok(())
    })
}

/// A sender and two receivers that all see each other.
fn group(scenario: &Scenario, specs: [Spec; 3]) -> Result<(Node, Vec<Node>), Failure> {
    let group = scenario.group()?;
    let names = ["from", "to", "also to"];
    let nodes = names.iter().zip(specs).map(|(name, spec)| scenario.spawn(name, &spec.multicast(&group)));
    let mut nodes = nodes.collect::<Result<Vec<_>, Failure>>()?;
    let ids = nodes.iter_mut().map(|node| Ok(node.local()?.id)).collect::<Result<Vec<_>, Failure>>()?;
    for (node, own) in nodes.iter_mut().zip(&ids) {
        for id in ids.iter().filter(|id| *id != own) {
            node.wait_member_added(id, SOON)?;
        }
    }
    let from = nodes.remove(0);
    Ok((from, nodes))
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

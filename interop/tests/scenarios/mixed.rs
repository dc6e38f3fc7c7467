//! More than two members, of both kinds.

use std::time::Duration;

use tribes_interop::Impl::{Java, Rust};
use tribes_interop::{Failure, Impl, Removal, run};

use super::{SOON, quick};

const DROP_TIME: Duration = Duration::from_secs(1);

#[test]
fn two_rust_and_one_java() -> Result<(), Failure> {
    three_members("three_members::two_rust_and_one_java", [Rust, Rust, Java])
}

#[test]
fn one_rust_and_two_java() -> Result<(), Failure> {
    three_members("three_members::one_rust_and_two_java", [Java, Java, Rust])
}

#[test]
fn three_java() -> Result<(), Failure> {
    three_members("three_members::three_java", [Java, Java, Java])
}

/// Everybody sees everybody, a message to all reaches all, one to some reaches those; the last member leaves and the second is
/// killed, and whoever is left knows both.
fn three_members(name: &str, kinds: [Impl; 3]) -> Result<(), Failure> {
    run(name, |scenario| {
        let group = scenario.group()?;
        let mut nodes = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            let spec = quick(kind).drop_time(DROP_TIME).multicast(&group);
            nodes.push(scenario.spawn(&format!("node {number} ({kind:?})"), &spec)?);
        }
        let ids = nodes.iter_mut().map(|node| Ok(node.local()?.id)).collect::<Result<Vec<_>, Failure>>()?;
        for (node, own) in nodes.iter_mut().zip(&ids) {
            for id in ids.iter().filter(|id| *id != own) {
                node.wait_member_added(id, SOON)?;
            }
        }

        for (from, options) in ["ack", "ack,sync", "async"].into_iter().enumerate() {
            let size = 100 + from as u64;
            let sent = nodes[from].send(options, &format!("size:{size}"), 1)?;
            assert_eq!((sent.failed, sent.why.as_str()), (0, ""), "{options}");
            for to in (0..3).filter(|to| *to != from) {
                let (_, message) = nodes[to].wait_message(SOON, |message| message.len == size)?;
                assert_eq!((&message.from, &message.sha256), (&ids[from], &sent.sha256));
            }
        }
        assert_eq!(nodes[0].send_to(&[&ids[2]], "ack,sync", "text:you-only")?.failed, 0);
        nodes[2].wait_message(SOON, |message| message.len == 8)?;
        // What follows comes after it at the member that should not have had it.
        assert_eq!(nodes[0].send_to(&[&ids[1], &ids[2]], "ack,sync", "text:you-both!")?.failed, 0);
        nodes[1].wait_message(SOON, |message| message.len == 9)?;
        assert!(nodes[1].messages().iter().all(|message| message.len != 8), "a message to another member");

        nodes[2].stop()?;
        for node in &mut nodes[..2] {
            let (_, why) = node.wait_member_removed(&ids[2], SOON)?;
            assert_eq!(why, Removal::Shutdown);
        }
        nodes[1].kill()?;
        let (_, why) = nodes[0].wait_member_removed(&ids[1], SOON)?;
        assert_eq!(why, Removal::Failed);
        assert_eq!(nodes[0].members()?, []);
        Ok(())
    })
}

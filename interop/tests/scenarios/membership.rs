//! Coming, going, and what members tell about themselves.

use std::time::Duration;

use tribes_interop::{Failure, Impl, Node, Removal, Spec, hex, member_id, run};

use super::{SOON, concerns, pair, quick, ways};

const DROP_TIME: Duration = Duration::from_secs(1);

ways!(multicast_join_and_leave: rust_to_java, java_to_rust, java_to_java);
fn multicast_join_and_leave(name: &str, leaver: Impl, watcher: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let group = scenario.group()?;
        let mut watcher = scenario.spawn("watcher", &quick(watcher).drop_time(DROP_TIME).multicast(&group))?;
        watcher.local()?;
        let mut leaver = scenario.spawn("leaver", &quick(leaver).multicast(&group))?;
        meet_and_part(&mut leaver, &mut watcher)
            .map(|time| scenario.measured("from the command to leave until the other side says so", time))
    })
}

ways!(static_join_and_leave: rust_to_java, java_to_rust, java_to_java);
fn static_join_and_leave(name: &str, leaver: Impl, watcher: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (port, id) = (scenario.tcp_port()?, member_id(leaver, 1));
        let (watcher_port, watcher_id) = (scenario.tcp_port()?, member_id(watcher, 2));
        let spec = Spec::fixed(watcher, (watcher_port, &watcher_id), [(port, id.as_str())]);
        let mut watcher = scenario.spawn("watcher", &spec)?;
        watcher.local()?;
        let spec = Spec::fixed(leaver, (port, &id), [(watcher_port, watcher_id.as_str())]);
        let mut leaver = scenario.spawn("leaver", &spec)?;
        assert_eq!((leaver.local()?.id, watcher.local()?.id), (id, watcher_id));
        meet_and_part(&mut leaver, &mut watcher)
            .map(|time| scenario.measured("from the command to leave until the other side says so", time))
    })
}

/// The two see each other, exchange a message each way, and part; each change is told exactly once.
fn meet_and_part(leaver: &mut Node, watcher: &mut Node) -> Result<Duration, Failure> {
    let (leaver_local, watcher_local) = (leaver.local()?, watcher.local()?);
    let (_, seen) = watcher.wait_member_added(&leaver_local.id, SOON)?;
    assert_eq!((&seen.host, seen.port), (&leaver_local.host, leaver_local.port));
    let (_, seen) = leaver.wait_member_added(&watcher_local.id, SOON)?;
    assert_eq!((&seen.host, seen.port), (&watcher_local.host, watcher_local.port));
    greets(leaver, watcher)?;
    greets(watcher, leaver)?;

    let asked = leaver.stop()?;
    let (removed, why) = watcher.wait_member_removed(&leaver_local.id, SOON)?;
    assert_eq!(why, Removal::Shutdown);
    // A heartbeat that overtook the goodbye would bring the member back, and the drop time would end it again.
    watcher.stays_quiet("second change", 2 * DROP_TIME, |event| concerns(event, &leaver_local.id))?;
    assert_eq!(watcher.count(|event| concerns(event, &leaver_local.id)), 2, "one join and one leave");
    assert_eq!(leaver.count(|event| concerns(event, &watcher_local.id)), 1, "one join");
    assert_eq!(watcher.members()?, []);
    watcher.stop()?;
    Ok(removed.duration_since(asked))
}

fn greets(from: &mut Node, to: &mut Node) -> Result<(), Failure> {
    assert_eq!(from.members()?.len(), 1);
    assert_eq!(from.send("ack", "text:hello", 1)?.failed, 0);
    let id = from.local()?.id;
    to.wait_message(SOON, |message| message.from == id && message.len == 5).map(|_| ())
}

ways!(domain_and_payload: rust_to_java, java_to_rust, java_to_java);
fn domain_and_payload(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let all_bytes: Vec<u8> = (0..=255).collect();
        let mine = quick(from).with("--domain", "east-1").with("--payload", &hex(&all_bytes));
        let theirs = quick(to).with("--domain", "west").with("--payload", "00");
        let (mut a, mut b) = pair(scenario, &mine, &theirs)?;
        shows(&mut a, &mut b, b"east-1", &all_bytes)?;
        shows(&mut b, &mut a, b"west", &[0])
    })
}

/// What `node` was told to say of itself is what it says, and what `other` knows of it.
fn shows(node: &mut Node, other: &mut Node, domain: &[u8], payload: &[u8]) -> Result<(), Failure> {
    let local = node.local()?;
    let (_, added) = other.wait_member_added(&local.id, SOON)?;
    let listed = other.members()?;
    assert_eq!(listed.len(), 1);
    for member in [&local, &added, &listed[0]] {
        assert_eq!((&member.id, &member.domain, &member.payload), (&local.id, &hex(domain), &hex(payload)));
    }
    Ok(())
}

ways!(member_that_comes_back: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// A process that is killed and started again on its port is another member; what is sent to it reaches it once.
///
/// Our nodes drop the old member, for its connection closed. Java asks the port, where the new process
/// answers, and keeps both.
fn member_that_comes_back(name: &str, comer: Impl, watcher: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let group = scenario.group()?;
        let port = scenario.tcp_port()?;
        let spec = quick(comer).multicast(&group).with("--bind", &format!("127.0.0.1:{port}"));
        let mut watcher = scenario.spawn("watcher", &quick(watcher).drop_time(DROP_TIME).multicast(&group))?;
        let watcher_id = watcher.local()?.id;
        let mut first = scenario.spawn("first", &spec)?;
        let first_id = first.local()?.id;
        watcher.wait_member_added(&first_id, SOON)?;
        first.kill()?;
        if watcher.implementation() == Impl::Rust {
            let (_, why) = watcher.wait_member_removed(&first_id, SOON)?;
            assert_eq!(why, Removal::Failed);
        }
        let mut second = scenario.spawn("second", &spec)?;
        let local = second.local()?;
        assert_eq!(local.port, port);
        assert_ne!(local.id, first_id);
        watcher.wait_member_added(&local.id, SOON)?;
        second.wait_member_added(&watcher_id, SOON)?;
        for text in ["text:welcome", "text:back"] {
            assert_eq!(watcher.send_to(&[&local.id], "ack,sync", text)?.failed, 0);
        }
        // Acknowledged there does not mean read from its output here.
        second.wait_message(SOON, |message| message.len == 4)?;
        assert_eq!(second.messages().iter().map(|message| message.len).collect::<Vec<_>>(), [7, 4]);
        Ok(())
    })
}

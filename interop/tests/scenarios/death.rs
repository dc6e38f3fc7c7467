//! Members that die without a word, and how long until the others say so. The times are printed.

use std::time::{Duration, Instant};

use tribes_interop::{Event, Failure, Impl, Node, Removal, Spec, member_id, run_alone};

use super::{SOON, concerns, pair, ways};

/// Silence after which a member is suspected, by default.
const DROP_TIME: Duration = Duration::from_secs(3);
/// A suspicion is looked at when the next heartbeat or read time-out comes.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The probe that decides about a suspect gives up after this long; a dead process refuses at once.
const PROBE: Duration = Duration::from_secs(1);
/// Our node notices at its open connection.
const CONNECTION: Duration = Duration::from_millis(100);

ways!(killed_in_silence: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn killed_in_silence(name: &str, victim: Impl, watcher: Impl) -> Result<(), Failure> {
    run_alone(name, |scenario| {
        let (mut victim, mut watcher) = pair(scenario, &Spec::new(victim), &Spec::new(watcher))?;
        let id = victim.local()?.id;
        let killed = victim.kill()?;
        let limit = match watcher.implementation() {
            Impl::Java => DROP_TIME + HEARTBEAT + PROBE,
            Impl::Rust if victim.implementation() == Impl::Java => DROP_TIME + Duration::from_secs(1),
            Impl::Rust => CONNECTION,
        };
        let time = found_dead(&mut watcher, &id, killed)?;
        scenario.measured("from the kill until the watcher says so", time);
        assert!(time <= limit, "{time:?} is more than {limit:?}");
        assert_eq!(watcher.members()?, []);
        Ok(())
    })
}

ways!(killed_with_an_idle_connection: rust_to_java, java_to_rust, rust_to_rust);
/// Java learns nothing from its idle connection; ours does.
fn killed_with_an_idle_connection(name: &str, victim: Impl, watcher: Impl) -> Result<(), Failure> {
    run_alone(name, |scenario| {
        let (mut victim, mut watcher) = pair(scenario, &Spec::new(victim), &Spec::new(watcher))?;
        let id = victim.local()?.id;
        assert_eq!(watcher.send("ack,sync", "text:hello", 1)?.failed, 0);
        let killed = victim.kill()?;
        let limit = match watcher.implementation() {
            Impl::Java => DROP_TIME + HEARTBEAT + PROBE,
            Impl::Rust => CONNECTION,
        };
        let time = found_dead(&mut watcher, &id, killed)?;
        scenario.measured("from the kill until the watcher says so", time);
        assert!(time <= limit, "{time:?} is more than {limit:?}");
        Ok(())
    })
}

ways!(killed_under_traffic: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
fn killed_under_traffic(name: &str, victim: Impl, watcher: Impl) -> Result<(), Failure> {
    run_alone(name, |scenario| {
        let (mut victim, mut watcher) = pair(scenario, &Spec::new(victim), &Spec::new(watcher))?;
        let id = victim.local()?.id;
        assert_eq!(watcher.send("ack", "size:64", 100)?.failed, 0);
        let killed = victim.kill()?;
        // A Java sender opens a new connection, is refused, and asks its failure detector.
        let limit = match watcher.implementation() {
            Impl::Java => PROBE,
            Impl::Rust => CONNECTION,
        };
        let mut failures = 0;
        while watcher.count(|event| concerns(event, &id)) < 2 && killed.elapsed() < SOON {
            failures += watcher.send("ack", "text:tick", 1)?.failed;
        }
        let time = found_dead(&mut watcher, &id, killed)?;
        scenario.measured(&format!("from the kill until the watcher says so ({failures} failed sends)"), time);
        assert!(time <= limit, "{time:?} is more than {limit:?}");
        Ok(())
    })
}

ways!(static_member_killed: rust_to_java, java_to_rust, java_to_java);
fn static_member_killed(name: &str, victim: Impl, watcher: Impl) -> Result<(), Failure> {
    run_alone(name, |scenario| {
        let (port, id) = (scenario.tcp_port()?, member_id(victim, 1));
        let (watcher_port, watcher_id) = (scenario.tcp_port()?, member_id(watcher, 2));
        let spec = Spec::fixed(watcher, (watcher_port, &watcher_id), [(port, id.as_str())]);
        let mut watcher = scenario.spawn("watcher", &spec)?;
        watcher.local()?;
        let spec = Spec::fixed(victim, (port, &id), [(watcher_port, watcher_id.as_str())]);
        let mut victim = scenario.spawn("victim", &spec)?;
        watcher.wait_member_added(&id, SOON)?;
        victim.local()?;
        let killed = victim.kill()?;
        // Java pings every 5 s, and a member expires 5 s after its last answer, when the next ping is due.
        let limit = match watcher.implementation() {
            Impl::Java => Duration::from_secs(11),
            Impl::Rust => DROP_TIME + Duration::from_secs(1),
        };
        let time = found_dead(&mut watcher, &id, killed)?;
        scenario.measured("from the kill until the watcher says so", time);
        assert!(time <= limit, "{time:?} is more than {limit:?}");
        Ok(())
    })
}

ways!(frozen_and_thawed: java_to_rust, rust_to_rust);
/// A stopped process still accepts connections in its kernel, so only an unanswered probe finds it (Java's does not ask
/// for an answer). Once it goes on, it is a member again.
fn frozen_and_thawed(name: &str, victim: Impl, watcher: Impl) -> Result<(), Failure> {
    run_alone(name, |scenario| {
        let (mut victim, mut watcher) = pair(scenario, &Spec::new(victim), &Spec::new(watcher))?;
        let id = victim.local()?.id;
        let frozen = victim.freeze()?;
        let time = found_dead(&mut watcher, &id, frozen)?;
        scenario.measured("from the freeze until the watcher says so", time);
        assert!(time >= PROBE, "{time:?}: a pause that short is no death");
        let limit = DROP_TIME + PROBE + HEARTBEAT;
        assert!(time <= limit, "{time:?} is more than {limit:?}");
        let mark = watcher.mark();
        let thawed = victim.thaw()?;
        let (back, ()) = watcher.wait_since(mark, "member_added after the thaw", SOON, |event| {
            matches!(event, Event::MemberAdded(member) if member.id == id).then_some(())
        })?;
        scenario.measured("from the thaw until it is a member again", back.duration_since(thawed));
        Ok(())
    })
}

fn found_dead(watcher: &mut Node, id: &str, since: Instant) -> Result<Duration, Failure> {
    let (when, why) = watcher.wait_member_removed(id, SOON)?;
    assert_eq!(why, Removal::Failed);
    Ok(when.saturating_duration_since(since))
}

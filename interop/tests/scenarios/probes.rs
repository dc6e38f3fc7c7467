//! The failure detectors of the two implementations ask each other.

use std::time::Duration;

use tribes_interop::{Event, Failure, Impl, Node, Removal, Scenario, Spec, run};

use super::{FREQUENCY, SOON, quick, ways};

const DROP_TIME: Duration = Duration::from_secs(1);
/// Java looks at a suspect that answered once with every heartbeat of its channel, 5 s apart.
const NEXT_LOOK: Duration = Duration::from_secs(8);

ways!(silent_member_answers_probes: rust_to_java, java_to_rust, java_to_java);
fn silent_member_answers_probes(name: &str, silent: Impl, prober: Impl) -> Result<(), Failure> {
    probing(name, silent, quick(prober))
}

ways!(silent_member_acknowledges_probes: rust_to_java, java_to_rust, java_to_java);
/// The same with the read test: the probe asks for an acknowledgement.
fn silent_member_acknowledges_probes(name: &str, silent: Impl, prober: Impl) -> Result<(), Failure> {
    let prober = quick(prober)
        .with("--interceptor", "message-dispatch")
        .with("--interceptor", "tcp-failure-detector,read_test=true");
    probing(name, silent, prober)
}

/// A member whose heartbeats cease while its TCP port still answers is suspected, probed, and kept; the probes are no
/// messages. Once it does not answer any more, it is gone.
fn probing(name: &str, silent: Impl, prober: Spec) -> Result<(), Failure> {
    run(name, |scenario| {
        let group = scenario.group()?;
        let mut prober = scenario.spawn("prober", &prober.drop_time(DROP_TIME).multicast(&group))?;
        let prober_id = prober.local()?.id;
        let mut silent = falls_silent(scenario, silent, &group, &mut prober)?;
        let silent_id = silent.local()?.id;

        suspicion_is_checked(&mut prober, &mut silent)?;
        assert_eq!(prober.members()?.len(), 1, "a member that answers is kept");
        assert_eq!(prober.send("ack,sync", "text:alive?", 1)?.failed, 0);
        silent.wait_message(SOON, |message| message.len == 6)?;
        let messages = silent.messages();
        assert_eq!(messages.len(), 1, "a probe is not a message: {messages:?}");
        assert_eq!((messages[0].len, &messages[0].from), (6, &prober_id));

        let killed = silent.kill()?;
        let (when, why) = prober.wait_member_removed(&silent_id, NEXT_LOOK)?;
        assert_eq!(why, Removal::Failed);
        scenario.measured("from the kill of the silent member until it is removed", when.duration_since(killed));
        Ok(())
    })
}

/// A member that joins and then announces itself no more.
///
/// Java's broadcaster can be stopped alone. Ours is told to announce itself once an hour: it does so once as it starts.
fn falls_silent(scenario: &Scenario, kind: Impl, group: &str, prober: &mut Node) -> Result<Node, Failure> {
    let hour = Duration::from_secs(3600);
    let spec = match kind {
        Impl::Java => Spec::new(kind).frequency(FREQUENCY),
        Impl::Rust => Spec::new(kind).frequency(hour).drop_time(3 * hour),
    };
    let mut node = scenario.spawn("silent", &spec.multicast(group))?;
    let id = node.local()?.id;
    prober.wait_member_added(&id, SOON)?;
    node.wait_member_added(&prober.local()?.id, SOON)?;
    if kind == Impl::Java {
        node.ask("silence", |event| told(event, "silenced").then_some(()))?;
    }
    Ok(node)
}

/// Waits until the prober has probed the silent member although that was a member already. Only Java tells of
/// probes; with it on either side, they are seen.
fn suspicion_is_checked(prober: &mut Node, silent: &mut Node) -> Result<(), Failure> {
    if prober.implementation() == Impl::Java {
        let mut probes = 0;
        // The first one was made before the member was added.
        prober.wait_for("second probe", NEXT_LOOK, |event| {
            probes += usize::from(told(event, "probe_sent"));
            (probes == 2).then_some(())
        })?;
        assert_eq!(prober.count(|event| matches!(event, Event::Other(json) if json["alive"] == false)), 0);
    }
    if silent.implementation() == Impl::Java {
        let mark = silent.mark();
        let asked = prober.local()?.id;
        silent.wait_since(mark, "probe_received", NEXT_LOOK, |event| {
            matches!(event, Event::Other(json) if json["event"] == "probe_received" && json["from"] == asked.as_str())
                .then_some(())
        })?;
    }
    Ok(())
}

fn told(event: &Event, name: &str) -> bool {
    matches!(event, Event::Other(json) if json["event"] == name)
}

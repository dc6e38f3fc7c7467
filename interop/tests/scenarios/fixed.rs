//! Members at fixed addresses and the pings that belong to them; domains. None of these layers changes a message.

use std::time::Duration;

use tribes_interop::{Event, Failure, Impl, Node, Removal, Scenario, Spec, hex, member_id, run};

use super::{SOON, concerns, gauge, pair, quick, ways};

/// Time in which what must not happen would have happened: some heartbeats, or pings.
const QUIET: Duration = Duration::from_secs(3);

/// `tcp-ping` and `static-members` with Tomcat's layers above and a detector between.
fn fixed(scenario: &Scenario, kind: Impl, own: (u16, &str), other: (u16, &str)) -> Result<Spec, Failure> {
    let spec = Spec::fixed(kind, own, [])
        .with("--interceptor", "message-dispatch")
        .with("--interceptor", "tcp-ping,interval=1s")
        .with("--interceptor", "tcp-failure-detector")
        .with("--interceptor", &format!("static-members,members=127.0.0.1:{}@{}", other.0, other.1));
    Ok(match kind {
        // It then runs no membership service.
        Impl::Java => spec,
        // Alone in a group.
        Impl::Rust => spec.multicast(&scenario.group()?),
    })
}

ways!(static_members: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// Two that know each other by address alone, with no membership service between them: they meet whoever comes first,
/// talk, and hear of each other's leaving, death and return.
fn static_members(name: &str, comer: Impl, watcher: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (port, id) = (scenario.tcp_port()?, member_id(comer, 1));
        let (watcher_port, watcher_id) = (scenario.tcp_port()?, member_id(watcher, 2));
        let own = fixed(scenario, comer, (port, &id), (watcher_port, &watcher_id))?;
        let theirs = fixed(scenario, watcher, (watcher_port, &watcher_id), (port, &id))?;
        let mut watcher = scenario.spawn("watcher", &theirs)?;
        assert_eq!(watcher.local()?.id, watcher_id);
        watcher.stays_quiet("member that is not there", QUIET, |event| concerns(event, &id))?;

        let mut first = scenario.spawn("first", &own)?;
        assert_eq!(first.local()?.id, id);
        first.wait_member_added(&watcher_id, SOON)?;
        watcher.wait_member_added(&id, SOON)?;
        exchange(&mut first, &mut watcher)?;
        let mark = watcher.mark();
        let asked = first.stop()?;
        let (told, why) = gone_since(&mut watcher, mark, &id)?;
        assert_eq!(why, Removal::Shutdown);
        scenario.measured("from the command to leave until the other side says so", told.duration_since(asked));

        let mark = watcher.mark();
        let mut second = scenario.spawn("second", &own)?;
        second.wait_member_added(&watcher_id, SOON)?;
        let back = |event: &Event| matches!(event, Event::MemberAdded(member) if member.id == id).then_some(());
        watcher.wait_since(mark, "return", SOON, back)?;
        exchange(&mut watcher, &mut second)?;
        let mark = watcher.mark();
        let killed = second.kill()?;
        let (told, why) = gone_since(&mut watcher, mark, &id)?;
        assert_eq!(why, Removal::Failed);
        scenario.measured("from the kill until the other side says so", told.duration_since(killed));
        Ok(())
    })
}

ways!(static_member_frozen: java_to_rust, rust_to_rust);
/// A fixed member has no heartbeats that could stop: that its process is frozen is found by a ping, and that it goes on, by
/// the failure detector.
fn static_member_frozen(name: &str, frozen: Impl, watcher: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (port, id) = (scenario.tcp_port()?, member_id(frozen, 1));
        let (watcher_port, watcher_id) = (scenario.tcp_port()?, member_id(watcher, 2));
        let own = fixed(scenario, frozen, (port, &id), (watcher_port, &watcher_id))?;
        let theirs = fixed(scenario, watcher, (watcher_port, &watcher_id), (port, &id))?;
        let mut watcher = scenario.spawn("watcher", &theirs)?;
        let mut frozen = scenario.spawn("frozen", &own)?;
        watcher.wait_member_added(&id, SOON)?;
        frozen.wait_member_added(&watcher_id, SOON)?;
        let mark = watcher.mark();
        let froze = frozen.freeze()?;
        let (told, why) = gone_since(&mut watcher, mark, &id)?;
        assert_eq!(why, Removal::Failed);
        scenario.measured("from the freeze until the other side says so", told.duration_since(froze));
        let mark = watcher.mark();
        let thawed = frozen.thaw()?;
        let back = |event: &Event| matches!(event, Event::MemberAdded(member) if member.id == id).then_some(());
        let (told, ()) = watcher.wait_since(mark, "return", SOON, back)?;
        scenario.measured("from the thaw until the other side says so", told.duration_since(thawed));
        Ok(())
    })
}

ways!(static_members_without_ids: rust_to_rust);
/// Given by address alone, each learns who the other is from its notice; so it does of the process that comes after it.
/// Java knows members by their ids only.
fn static_members_without_ids(name: &str, comer: Impl, watcher: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let ports = [scenario.tcp_port()?, scenario.tcp_port()?];
        let all = format!("static-members,members=127.0.0.1:{}+localhost:{}", ports[0], ports[1]);
        let spec = |kind, port| -> Result<Spec, Failure> {
            let spec = quick(kind).multicast(&scenario.group()?).with("--bind", &format!("127.0.0.1:{port}"));
            Ok(spec.with("--interceptor", "tcp-failure-detector").with("--interceptor", &all))
        };
        let mut watcher = scenario.spawn("watcher", &spec(watcher, ports[0])?)?;
        let watcher_id = watcher.local()?.id;
        for name in ["first", "second"] {
            let mark = watcher.mark();
            let mut node = scenario.spawn(name, &spec(comer, ports[1])?)?;
            let id = node.local()?.id;
            node.wait_member_added(&watcher_id, SOON)?;
            watcher.wait_member_added(&id, SOON)?;
            exchange(&mut node, &mut watcher)?;
            assert_eq!((node.members()?.len(), watcher.members()?.len()), (1, 1));
            node.kill()?;
            gone_since(&mut watcher, mark, &id)?;
        }
        Ok(())
    })
}

fn gone_since(watcher: &mut Node, mark: usize, id: &str) -> Result<(std::time::Instant, Removal), Failure> {
    watcher.wait_since(mark, "departure", SOON, |event| match event {
        Event::MemberRemoved(member, why) if member.id == id => Some(*why),
        _ => None,
    })
}

/// One message each way, and no other: notices and pings are not messages.
fn exchange(one: &mut Node, other: &mut Node) -> Result<(), Failure> {
    let before = (one.messages().len(), other.messages().len());
    hello(one, other)?;
    hello(other, one)?;
    assert_eq!((one.messages().len(), other.messages().len()), (before.0 + 1, before.1 + 1));
    Ok(())
}

fn hello(from: &mut Node, to: &mut Node) -> Result<(), Failure> {
    let (id, mark) = (from.local()?.id, to.mark());
    assert_eq!(from.send_to(&[&to.local()?.id], "ack,sync", "text:hello")?.failed, 0);
    let arrived = |event: &Event| matches!(event, Event::Message(message) if message.from == id).then_some(());
    to.wait_since(mark, "message", SOON, arrived).map(|_| ())
}

ways!(tcp_ping: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// Each side pings the other through the stack, and the pings are swallowed there: no message, no error. Without a
/// failure detector, for with one in its stack Java has that one probe instead.
fn tcp_ping(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let with =
            |kind| quick(kind).with("--interceptor", "message-dispatch").with("--interceptor", "tcp-ping,interval=1s");
        let (mut from, mut to) = pair(scenario, &with(from), &with(to))?;
        pinged(&mut to, &from.local()?.id)?;
        pinged(&mut from, &to.local()?.id)?;
        for node in [&mut from, &mut to] {
            assert_eq!(node.messages(), [], "a ping is not a message");
            assert_eq!(node.count(|event| matches!(event, Event::MemberRemoved(..) | Event::Error(_))), 0);
        }
        exchange(&mut from, &mut to)?;
        // Ours asks for an acknowledgement, and has got it.
        for node in [&mut from, &mut to].into_iter().filter(|node| node.implementation() == Impl::Rust) {
            let (sent, answered, failed) = (
                gauge(node, "tcp-ping", "pings_sent")?,
                gauge(node, "tcp-ping", "pings_answered")?,
                gauge(node, "tcp-ping", "pings_failed")?,
            );
            assert!(answered >= 2 && sent - answered <= 1 && failed == 0, "{sent} {answered} {failed}");
        }
        Ok(())
    })
}

/// Waits until `node` has swallowed two pings of the member with this id.
fn pinged(node: &mut Node, by: &str) -> Result<(), Failure> {
    if node.implementation() == Impl::Java {
        let mut pings = 0;
        node.wait_for("second ping", SOON, |event| {
            let ping = matches!(event, Event::Other(json) if json["event"] == "ping_received" && json["from"] == by);
            pings += usize::from(ping);
            (pings == 2).then_some(())
        })?;
        return Ok(());
    }
    let end = std::time::Instant::now() + SOON;
    while gauge(node, "tcp-ping", "pings_received")? < 2 {
        assert!(std::time::Instant::now() < end, "no second ping");
        // Only the counter tells of it: ask again a little later.
        node.stays_quiet("error", Duration::from_millis(200), |event| matches!(event, Event::Error(_)))?;
    }
    Ok(())
}

ways!(domain_filter: rust_to_java, java_to_rust, java_to_java, rust_to_rust);
/// In one multicast group, members of a domain see each other and not those of another; a message from there reaches
/// nobody, though Java says that all is well.
fn domain_filter(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let group = scenario.group()?;
        let of = |kind, domain: &str| quick(kind).multicast(&group).with("--domain", domain);
        let filtered = |kind, domain: &str| {
            of(kind, domain)
                .with("--interceptor", "message-dispatch")
                .with("--interceptor", "tcp-failure-detector")
                .with("--interceptor", &format!("domain-filter,domain={domain}"))
        };
        let mut to = scenario.spawn("to", &filtered(to, "east"))?;
        let mut other = scenario.spawn("other", &filtered(from, "west"))?;
        // Without a filter: it sees all.
        let mut stranger = scenario.spawn("stranger", &of(from, "west"))?;
        let mut from = scenario.spawn("from", &filtered(from, "east"))?;
        let (from_id, to_id) = (from.local()?.id, to.local()?.id);
        let (other_id, stranger_id) = (other.local()?.id, stranger.local()?.id);
        from.wait_member_added(&to_id, SOON)?;
        to.wait_member_added(&from_id, SOON)?;
        other.wait_member_added(&stranger_id, SOON)?;
        for id in [&from_id, &to_id, &other_id] {
            stranger.wait_member_added(id, SOON)?;
        }
        exchange(&mut from, &mut to)?;

        let sent = stranger.send_to(&[&to_id], "ack,sync", "text:westward")?;
        let refused = u64::from(to.implementation() == Impl::Rust);
        assert_eq!((sent.count, sent.failed), (1, refused), "{}", sent.why);
        let foreign = |event: &Event| concerns(event, &other_id) || concerns(event, &stranger_id);
        to.stays_quiet("member of another domain", QUIET, foreign)?;
        assert_eq!((to.count(foreign), from.count(foreign)), (0, 0));
        assert_eq!(other.count(|event| concerns(event, &from_id) || concerns(event, &to_id)), 0);
        assert!(to.messages().iter().all(|message| message.from == from_id));
        let seen: Vec<_> = to.members()?.into_iter().map(|member| (member.id, member.domain)).collect();
        assert_eq!(seen, [(from_id, hex(b"east"))]);
        Ok(())
    })
}

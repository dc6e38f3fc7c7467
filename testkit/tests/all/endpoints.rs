//! Endpoints: the way past the listeners for what is built on a channel.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by a panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::error::{FaultKind, Unsupported};
use tribes_core::{
    BoxError, Channel, ChannelEndpoint, Departure, EndpointHandle, Lease, Member, MemberEvent, MemberId, Message,
    SendError, SendOptions, To,
};
use tribes_testkit::net::{NetConfig, Node};
use tribes_testkit::{Reaction, RecordingListener, Simulation, World, java_member, simulate};

const SECOND: Duration = Duration::from_secs(1);

/// Notes what comes; what to do with it is in the message.
#[derive(Default)]
struct Port {
    heard: Mutex<Vec<(String, String)>>,
    events: Mutex<Vec<MemberEvent>>,
    kept: Mutex<Vec<(Message, Lease)>>,
}

impl Port {
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

impl ChannelEndpoint for Port {
    fn receive(&self, mut message: Message, from: &Arc<Member>, lease: Lease) -> Result<(), BoxError> {
        let text = String::from_utf8_lossy(message.bytes()).into_owned();
        assert_ne!(text, "panic", "as the test wishes");
        self.heard.lock().unwrap().push((from.to_string(), text.clone()));
        if text.starts_with("keep") {
            message.detach();
            self.kept.lock().unwrap().push((message, lease));
        }
        if text == "fail" { Err("as the test wishes".into()) } else { Ok(()) }
    }

    fn member_event(&self, event: &MemberEvent) {
        self.events.lock().unwrap().push(event.clone());
    }
}

struct Site {
    node: Node,
    channel: Channel,
    port: Arc<Port>,
    handle: EndpointHandle,
    listener: RecordingListener,
}

fn site(world: &World) -> Site {
    let node = world.node();
    let channel = node.join(Channel::builder()).build().unwrap();
    let port = Arc::new(Port::default());
    let handle = channel.endpoint("port", Arc::clone(&port) as Arc<dyn ChannelEndpoint>).unwrap();
    let listener = RecordingListener::new();
    channel.listen(listener.clone()).forever();
    Site { node, channel, port, handle, listener }
}

async fn group(world: &World, count: usize) -> Vec<Site> {
    let sites: Vec<_> = (0..count).map(|_| site(world)).collect();
    for site in &sites {
        site.channel.start().await.unwrap();
    }
    for site in &sites {
        site.channel.view_when(|view| view.len() + 1 == count).await;
    }
    sites
}

#[test]
fn a_message_goes_to_the_endpoint_of_its_name_and_to_nobody_else() {
    simulate(1, async |world| {
        let sites = group(&world, 3).await;
        let other = Arc::new(Port::default());
        let _other = sites[1].channel.endpoint("other", Arc::clone(&other) as Arc<dyn ChannelEndpoint>).unwrap();
        let outcome = sites[0].handle.send(To::All, "hello", SendOptions::SYNC_ACK).await.unwrap().await;
        assert!(outcome.is_complete() && outcome.no_taker.is_empty());
        sites[0].channel.send(To::All, "for listeners", SendOptions::SYNC_ACK).await.unwrap();
        for site in &sites[1..] {
            assert_eq!(site.port.heard(), ["hello"]);
            assert_eq!(site.listener.received().len(), 1);
            assert_eq!(site.listener.received()[0].text(), "for listeners");
        }
        assert!(other.heard().is_empty() && sites[0].port.heard().is_empty());
        let stats = sites[1].channel.stats();
        let names: Vec<_> = stats.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        assert_eq!(names, ["other", "port", "tribes.rpc"]);
        assert_eq!((stats.endpoints[1].up.messages, stats.endpoints[1].up.bytes), (1, 5));
        assert_eq!(sites[0].channel.stats().endpoints[0].down.messages, 1);
    });
}

#[test]
fn each_answer_is_that_of_the_endpoint() {
    simulate(2, async |world| {
        let sites = group(&world, 2).await;
        let to = sites[1].channel.local();
        let send =
            async |body: &'static str| sites[0].handle.send(&to, body, SendOptions::SYNC_ACK).await.unwrap().await;
        assert_eq!(
            send("fail").await.fault_of(&to),
            Some(&FaultKind::RemoteFailure(Some("as the test wishes".into())))
        );
        let Some(FaultKind::RemoteFailure(Some(text))) = send("panic").await.fault_of(&to).cloned() else { panic!() };
        assert!(text.starts_with("panicked:"), "{text}");
        let up = &sites[1].channel.stats().endpoints[0].up;
        assert_eq!((up.errors["refused"], up.errors["panicked"]), (1, 1));
        // Nobody has an endpoint of this name there: neither does a listener get it.
        let lonely = sites[0].channel.endpoint("lonely", Arc::new(Port::default())).unwrap();
        let outcome = lonely.send(&to, "hello?", SendOptions::SYNC_ACK).await.unwrap().await;
        assert_eq!(outcome.no_taker, [Arc::clone(&to)]);
        assert!(sites[1].listener.received().is_empty());
        assert_eq!(sites[1].channel.stats().top.up.drops["no endpoint"], 1);
    });
}

#[test]
fn names_are_checked_and_free_again_when_the_handle_is_dropped() {
    simulate(3, async |world| {
        let Site { channel, handle, .. } = site(&world);
        let port = || Arc::new(Port::default());
        assert!(channel.endpoint("port", port()).unwrap_err().to_string().contains("\"port\" already"));
        assert!(channel.endpoint("", port()).is_err() && channel.endpoint("x".repeat(256), port()).is_err());
        let longest = channel.endpoint("x".repeat(255), port()).unwrap();
        let sender = handle.sender().clone();
        drop(handle);
        let again = channel.endpoint("port", port()).unwrap();
        assert!(matches!(sender.try_send(To::All, "x", SendOptions::NONE), Err(SendError::Stopped)));
        drop((again, longest));
        assert_eq!(channel.stats().endpoints.len(), 1, "that of RPC");
    });
}

/// A listener that never returns holds up nothing of an endpoint's, and order among its messages is kept.
#[test]
fn nothing_waits_behind_a_listener() {
    simulate(4, async |world| {
        let sites = group(&world, 3).await;
        sites[2].listener.react(Reaction::Hold);
        let to = sites[2].channel.local();
        for sender in &sites[..2] {
            sender.channel.send(&to, "stuck", SendOptions::ACK).await.unwrap();
            sender.channel.send(&to, "behind it", SendOptions::ACK).await.unwrap();
        }
        sites[2].listener.wait_holding(2).await;
        for number in 0..100 {
            for sender in &sites[..2] {
                sender.handle.try_send(&to, number.to_string(), SendOptions::NONE).unwrap().on_complete(drop);
            }
        }
        assert!(world.until(SECOND, || sites[2].port.heard().len() == 200).await);
        let heard = sites[2].port.heard.lock().unwrap().clone();
        for sender in &sites[..2] {
            let port = sender.channel.local().to_string();
            let from: Vec<_> = heard.iter().filter(|(from, _)| *from == port).map(|(_, text)| text.clone()).collect();
            assert_eq!(from, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
        }
        assert_eq!(sites[2].listener.received().len(), 2, "the others are still in their lanes");
    });
}

#[test]
fn only_nodes_known_to_be_ours_are_sent_to() {
    simulate(5, async |world| {
        let sites = group(&world, 2).await;
        let ours = sites[1].channel.local();
        // The same node, of which no more than the address is known.
        let by_address = Arc::new(Member::new(MemberId::ZERO, ours.addr().unwrap()));
        let to = vec![Arc::clone(&ours), java_member(1), Arc::clone(&by_address)];
        let outcome = sites[0].handle.send(to, "hello", SendOptions::SYNC_ACK).await.unwrap().await;
        assert_eq!(outcome.delivered(), 1);
        for member in [java_member(1), by_address] {
            assert_eq!(outcome.fault_of(&member), Some(&FaultKind::Unsupported(Unsupported::NotOurs)));
        }
        assert_eq!(sites[1].port.heard(), ["hello"]);
        assert!(sites[0].handle.reaches(&ours) && !sites[0].handle.reaches(&java_member(1)));
        let multicast = sites[0].handle.send(&ours, "x", SendOptions::MULTICAST).await;
        assert!(matches!(multicast, Err(SendError::Unsupported(_))));

        // Its peers take it for one of Tribes' own, and would give what it adds to their listeners.
        let unmarked = world.join(Channel::builder()).id(MemberId::from_bytes([7; 16])).build().unwrap();
        let handle = unmarked.endpoint("port", Arc::new(Port::default())).unwrap();
        unmarked.start().await.unwrap();
        let outcome = handle.send(&ours, "hello", SendOptions::ACK).await.unwrap().await;
        assert_eq!(outcome.fault_of(&ours), Some(&FaultKind::Unsupported(Unsupported::NotOurs)));
        assert!(sites[1].listener.received().is_empty());
    });
}

#[test]
fn an_endpoint_hears_of_members_and_survives_a_restart() {
    simulate(6, async |world| {
        let sites = group(&world, 2).await;
        let (first, second) = (sites[0].channel.local(), sites[1].channel.local());
        assert_eq!(*sites[0].port.events.lock().unwrap(), [MemberEvent::Added(Arc::clone(&second))]);
        sites[0].channel.stop().await;
        let left = MemberEvent::Removed(Arc::clone(&second), Departure::Stopped);
        assert_eq!(sites[0].port.events.lock().unwrap().last(), Some(&left));
        assert!(matches!(sites[0].handle.try_send(&second, "x", SendOptions::NONE), Err(SendError::Stopped)));
        let outcome = sites[1].handle.send(&first, "too late", SendOptions::ACK).await.unwrap().await;
        assert!(!outcome.is_complete() && sites[0].port.heard().is_empty());

        sites[0].channel.start_and_wait(1, SECOND).await.unwrap();
        sites[1].handle.send(&sites[0].channel.local(), "again", SendOptions::SYNC_ACK).await.unwrap().await;
        assert_eq!(sites[0].port.heard(), ["again"]);
        sites[1].node.crash();
        let gone = |event: &MemberEvent| matches!(event, MemberEvent::Removed(member, _) if *member == second);
        assert!(
            world
                .until(10 * SECOND, || sites[0].port.events.lock().unwrap().iter().filter(|e| gone(e)).count() == 2)
                .await
        );
    });
}

/// Who keeps messages holds their room: the sender is held back instead of memory growing.
#[test]
fn what_an_endpoint_keeps_is_accounted_for() {
    let net = NetConfig::default().with_receiver_memory(4 << 10).with_window(1 << 10);
    Simulation::new(7).net(net).run(async |world: World| {
        let sites = group(&world, 2).await;
        let to = sites[1].channel.local();
        let body = format!("keep{}", " ".repeat(1020));
        let pending: Vec<_> =
            (0..20).map(|_| sites[0].handle.try_send(&to, body.clone(), SendOptions::NONE).unwrap()).collect();
        world.sleep(SECOND).await;
        let held = sites[1].port.heard().len();
        assert!((3..=6).contains(&held), "{held} messages of 1 KiB in 4 KiB");
        for _ in 0..20 {
            sites[1].port.kept.lock().unwrap().clear();
            world.sleep(SECOND / 10).await;
        }
        assert_eq!(sites[1].port.heard().len(), 20);
        for pending in pending {
            assert!(pending.await.is_complete());
        }
    });
}

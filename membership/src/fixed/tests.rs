//! The driver with channels whose messages go through memory, in paused time.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tribes_core::error::{SendError, Unsupported};
use tribes_core::wire::java::{MEMBER_CLASS_VERSION, MemberMessage, MemberMessageKind};
use tribes_core::{Channel, ChannelMessage, Departure, Member, MemberEvent, MemberEvents, MemberId, SendOptions};

use super::*;
use crate::stub::{Hub, next_port};

const LIMIT: Duration = Duration::from_secs(60);

/// A channel at `port` that looks for `peers`.
fn channel(hub: &Hub, port: u16, peers: &[u16]) -> (Channel, Arc<StaticMembership>) {
    let peers = peers.iter().map(|port| peer(*port));
    let service = Arc::new(StaticMembership::new(StaticConfig::default().with_peers(peers)).unwrap());
    let channel = hub.channel(port).membership_shared(service.clone()).build().unwrap();
    (channel, service)
}

fn peer(port: u16) -> StaticPeer {
    StaticPeer::new(format!("127.0.0.1:{port}")).unwrap()
}

fn ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| next_port())
}

async fn sees(channel: &Channel, members: usize) {
    let seen = timeout(LIMIT, channel.view_when(|view| view.len() == members)).await;
    assert!(seen.is_ok(), "{:?} instead of {members} members", channel.view());
}

async fn next(events: &mut MemberEvents) -> MemberEvent {
    timeout(LIMIT, events.next()).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_group_of_three_with_the_same_list() {
    let (hub, list) = (Hub::default(), ports::<3>());
    let channels = list.map(|port| channel(&hub, port, &list).0);
    for channel in &channels {
        channel.start().await.unwrap();
    }
    for channel in &channels {
        sees(channel, 2).await;
        assert!(!channel.view().contains(&channel.local()));
    }
    // Nothing changes in a quiet minute.
    let numbers = channels.each_ref().map(|channel| channel.view().number());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(channels.each_ref().map(|channel| channel.view().number()), numbers);

    let mut events = channels[0].member_events();
    let [_, _] = [next(&mut events).await, next(&mut events).await];
    let local = channels[1].local();
    channels[1].stop().await;
    assert_eq!(next(&mut events).await, MemberEvent::Removed(local.clone(), Departure::Shutdown));
    sees(&channels[2], 1).await;
    // It comes back as another member, and not as one that is leaving (T35).
    channels[1].start().await.unwrap();
    let MemberEvent::Added(again) = next(&mut events).await else { panic!("not added") };
    assert!(again.id() != local.id() && again.command().is_empty());
    sees(&channels[1], 2).await;
    for channel in &channels {
        channel.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_one_side_needs_to_know_the_other() {
    let (hub, [first, second]) = (Hub::default(), ports());
    let (first, second) = (channel(&hub, first, &[]).0, channel(&hub, second, &[first]).0);
    first.start().await.unwrap();
    let begun = Instant::now();
    second.start().await.unwrap();
    sees(&first, 1).await;
    sees(&second, 1).await;
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(first.view().members()[0], second.local());
    assert_eq!(second.view().members()[0], first.local());
}

/// As in Tribes, where the channel's name is part of the group's.
#[tokio::test(start_paused = true)]
async fn groups_of_other_names_ignore_each_other() {
    let (hub, list) = (Hub::default(), ports::<4>());
    let mut channels = Vec::new();
    for (port, name) in list.into_iter().zip(["one", "one", "two", "three"]) {
        let config = StaticConfig::default().with_peers(list.iter().map(|port| peer(*port)));
        // The fourth is called otherwise, and named into the group of the third.
        let config = if name == "three" { config.with_membership_name("two-StaticMembership") } else { config };
        let service = StaticMembership::new(config).unwrap();
        channels.push(hub.channel(port).name(name).membership(service).build().unwrap());
    }
    for channel in &channels {
        channel.start().await.unwrap();
    }
    for channel in &channels {
        sees(channel, 1).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for (a, b) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        assert_eq!(channels[a].view().members()[..], [channels[b].local()]);
    }
}

/// In Tribes such a message is lost, and the sender hears of no fault (T17).
#[tokio::test(start_paused = true)]
async fn what_is_to_be_multicast_is_refused_by_name() {
    let (hub, list) = (Hub::default(), ports::<2>());
    let [first, second] = list.map(|port| channel(&hub, port, &list).0);
    first.start().await.unwrap();
    second.start().await.unwrap();
    sees(&first, 1).await;
    let sent = first.send(tribes_core::To::All, "x", SendOptions::MULTICAST).await;
    let Err(SendError::Unsupported(Unsupported::Multicast { service })) = sent else { panic!("{sent:?}") };
    assert_eq!(service, "static");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_member_and_a_dead_one_expire() {
    let (hub, list) = (Hub::default(), ports::<3>());
    let [first, second, third] = list.map(|port| channel(&hub, port, &list).0);
    for channel in [&first, &second, &third] {
        channel.start().await.unwrap();
    }
    sees(&first, 2).await;
    let mut events = first.member_events();
    let [_, _] = [next(&mut events).await, next(&mut events).await];
    hub.freeze(&second.local());
    hub.kill(&third.local());
    let begun = Instant::now();
    let (frozen, dead) = (second.local(), third.local());
    drop((second, third)); // Neither sends any more.
    for _ in 0..2 {
        let MemberEvent::Removed(member, Departure::Expired) = next(&mut events).await else { panic!("not expired") };
        assert!(member == frozen || member == dead);
    }
    assert!((3..=6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    first.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_list_changes_at_run_time() {
    let (hub, [one, other]) = (Hub::default(), ports());
    let ((first, service), (second, _)) = (channel(&hub, one, &[]), channel(&hub, other, &[one]));
    first.start().await.unwrap();
    second.start().await.unwrap();
    service.add(peer(other));
    sees(&first, 1).await;
    sees(&second, 1).await;
    assert!(service.remove(peer(other).addr()));
    assert!(!service.remove(peer(other).addr()));
    sees(&first, 0).await;
    sees(&second, 0).await;
    // The other side goes on asking, in vain.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(first.view().is_empty() && second.view().is_empty());
    service.set([peer(other)]);
    sees(&first, 1).await;
    sees(&second, 1).await;
}

/// Names that move.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<BTreeMap<String, u16>>>);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, addr: &str) -> io::Result<Vec<SocketAddr>> {
        let port = self.0.lock().unwrap().get(addr).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(vec![(Ipv4Addr::LOCALHOST, port).into()])
    }
}

#[tokio::test(start_paused = true)]
async fn names_are_resolved_for_each_attempt() {
    let (hub, [one, other]) = (Hub::default(), ports());
    let names = Names::default();
    let config = StaticConfig::default().with_peers(["node:4000".parse().unwrap(), "me:4000".parse().unwrap()]);
    let service = StaticMembership::new(config).unwrap().with_resolver(names.clone());
    let first = hub.channel(one).membership(service).build().unwrap();
    let second = channel(&hub, other, &[]).0;
    first.start().await.unwrap();
    second.start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(first.view().is_empty());
    names.0.lock().unwrap().extend([("node:4000".to_owned(), other), ("me:4000".to_owned(), one)]);
    sees(&first, 1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(first.view().members().as_ref(), [second.local()]);
}

#[tokio::test(start_paused = true)]
async fn both_halves_are_needed() {
    let (hub, [one, other]) = (Hub::default(), ports());
    let (first, second) = (channel(&hub, one, &[other]).0, channel(&hub, other, &[]).0);
    second.start().await.unwrap();
    first.start_services(Services::RECEIVER | Services::SENDER | Services::MEMBERSHIP_RX).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(second.view().is_empty());
    first.start().await.unwrap();
    sees(&second, 1).await;
    first.stop_services(Services::MEMBERSHIP_TX).await;
    sees(&second, 0).await;
    sees(&first, 0).await;
}

/// What Java sees and says, byte for byte: options, sender, templates.
#[tokio::test(start_paused = true)]
async fn it_speaks_as_java_does() {
    let (hub, [one, other]) = (Hub::default(), ports());
    // A "Java" node: a channel without our membership, whose service hands over what comes, to be answered by the templates.
    #[derive(Debug)]
    struct Java(mpsc::UnboundedSender<(SendOptions, Bytes, Arc<Member>)>);
    #[async_trait]
    impl MembershipService for Java {
        fn name(&self) -> &'static str {
            "java"
        }
        fn intercept(&self, message: &ChannelMessage) -> bool {
            self.0.send((message.options, message.body.to_bytes(), Arc::clone(&message.sender))).is_ok()
        }
        async fn start(&self, _: Services, _: MembershipContext) -> Result<(), BoxError> {
            Ok(())
        }
        async fn stop(&self, _: Services) {}
    }
    let (sender, mut messages) = mpsc::unbounded_channel();
    let java = hub.channel(other).membership(Java(sender)).id(MemberId::ZERO).build().unwrap();
    java.start().await.unwrap();
    let first = channel(&hub, one, &[other]).0;
    first.start().await.unwrap();

    let (options, request, from) = timeout(LIMIT, messages.recv()).await.unwrap().unwrap();
    assert_eq!((options, &from), (SendOptions::ASYNCHRONOUS, &first.local()));
    let decoded = JavaMessage::decode(&request, &Limits::default()).unwrap();
    let JavaMessage::Rpc { reply: false, id, rpc_id, body: RpcBody::Member(message) } = decoded else { panic!() };
    assert_eq!((id.len(), rpc_id.as_ref()), (16, &b"null-StaticMembership"[..]));
    assert_eq!((message.kind, &message.member), (MemberMessageKind::Start, first.local().as_ref()));
    assert_eq!(message.membership_id, rpc_id);

    let send = async |message: JavaMessage, options| {
        let body = message.encode(MEMBER_CLASS_VERSION);
        java.send_opaque(&from, body, options).await.unwrap().await.into_result().unwrap();
    };
    let own = |kind, member: &Member| MemberMessage { kind, member: member.clone(), membership_id: rpc_id.clone() };
    let rpc = |reply, id, kind, member: &Member| JavaMessage::Rpc {
        reply,
        id,
        rpc_id: rpc_id.clone(),
        body: RpcBody::Member(own(kind, member)),
    };
    let local = java.local();
    send(rpc(true, id, MemberMessageKind::Start, &local), SendOptions::NONE).await;
    sees(&first, 1).await;
    assert_eq!(first.view().members()[0], local);

    // Its ping gets our reply, which holds our member.
    let id = Bytes::from_static(b"0123456789abcdef");
    send(rpc(false, id.clone(), MemberMessageKind::Ping, &local), SendOptions::ASYNCHRONOUS).await;
    let reply = loop {
        let (options, message, _) = timeout(LIMIT, messages.recv()).await.unwrap().unwrap();
        match JavaMessage::decode(&message, &Limits::default()).unwrap() {
            JavaMessage::Rpc { reply: true, id: answered, body: RpcBody::Member(body), .. } if answered == id => {
                assert_eq!(options, SendOptions::NONE);
                break body;
            }
            _ => {}
        }
    };
    assert_eq!((reply.kind, &reply.member), (MemberMessageKind::Ping, first.local().as_ref()));

    // A call that is not for the service is answered: there is no such RPC channel.
    let app = Bytes::from_static(b"app");
    send(
        JavaMessage::Rpc { reply: false, id: id.clone(), rpc_id: app.clone(), body: RpcBody::Null },
        SendOptions::NONE,
    )
    .await;
    let absence = JavaMessage::NoRpcChannel { id, rpc_id: app };
    while let (_, message, _) = timeout(LIMIT, messages.recv()).await.unwrap().unwrap()
        && JavaMessage::decode(&message, &Limits::default()).unwrap() != absence
    {}
    // Other Java objects are the application's.
    let mut foreign = first.messages();
    let text = Bytes::from_static(b"\xAC\xED\x00\x05t\x00\x04text");
    java.send_opaque(&from, text.clone(), SendOptions::NONE).await.unwrap().await.into_result().unwrap();
    let (message, _) = timeout(LIMIT, foreign.next()).await.unwrap().unwrap();
    assert!(message.is_java_object() && message.bytes() == &text);

    send(JavaMessage::Member(own(MemberMessageKind::Stop, &local)), SendOptions::ASYNCHRONOUS).await;
    sees(&first, 0).await;
    first.stop().await;
}

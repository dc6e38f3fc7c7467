//! The driver over real multicast sockets on 127.0.0.1, with channels whose messages go through memory.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, timeout};
use tribes_core::member::SHUTDOWN_COMMAND;
use tribes_core::{Channel, ChannelMessage, Departure, Env, MemberEvent, MemberEvents, MemberId, SendOptions};

use super::*;
use crate::stub::Hub;

/// Nothing here takes nearly as long; on a busy machine it may.
const LIMIT: Duration = Duration::from_secs(10);

/// A configuration with a port that nobody has.
fn config() -> McastConfig {
    let free = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    McastConfig::default().with_port(free.port())
}

fn channel(hub: &Hub, config: &McastConfig) -> Channel {
    hub.channel(0).membership(McastMembership::new(config.clone()).unwrap()).build().unwrap()
}

async fn sees(channel: &Channel, members: usize) {
    let seen = timeout(LIMIT, channel.view_when(|view| view.len() == members)).await;
    assert!(seen.is_ok(), "{:?} instead of {members} members", channel.view());
}

async fn next(events: &mut MemberEvents) -> MemberEvent {
    timeout(LIMIT, events.next()).await.unwrap().unwrap()
}

/// A bare socket in the group, for what no member would send.
struct Stranger {
    socket: UdpSocket,
    target: SocketAddrV4,
}

impl Stranger {
    fn new(config: &McastConfig) -> Self {
        Self { socket: socket::speak(config).unwrap(), target: socket::target(config) }
    }

    async fn say(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.target).await.unwrap();
    }

    async fn heartbeat(&self, member: &Member) {
        let mut datagram = BytesMut::new();
        wire::encode_member(member, &mut datagram);
        self.say(&datagram).await;
    }
}

fn gauge(channel: &Channel, name: &str) -> u64 {
    channel.stats().io["membership"].iter().find(|gauge| gauge.name == name).unwrap().value
}

async fn reaches(channel: &Channel, name: &str, value: u64) {
    let reached = async {
        while gauge(channel, name) < value {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LIMIT, reached).await.is_ok(), "{name} is {}", gauge(channel, name));
}

#[tokio::test]
async fn two_sockets_hear_each_other_without_any_setup() {
    let config = config();
    let (one, other) = (socket::listen(&config).unwrap(), socket::listen(&config).unwrap());
    Stranger::new(&config).say(b"hello").await;
    for socket in [one, other] {
        let mut buffer = [0; 16];
        let (len, from) = timeout(LIMIT, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..len], b"hello");
        assert_eq!(from.ip(), Ipv4Addr::LOCALHOST);
        assert_eq!(socket.local_addr().unwrap().ip(), config.group);
    }
}

#[tokio::test]
async fn a_join_and_a_leave_take_milliseconds() {
    let (hub, config) = (Hub::default(), config());
    let (first, second) = (channel(&hub, &config), channel(&hub, &config));
    first.start().await.unwrap();
    // Its burst is over: what makes the join quick is the answer to the newcomer.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut events = first.member_events();
    let begun = Instant::now();
    second.start().await.unwrap();
    let started = begun.elapsed();
    sees(&second, 1).await;
    sees(&first, 1).await;
    let joined = begun.elapsed();
    // A tenth of that on a quiet machine; Tribes takes as long on any.
    assert!(joined < Duration::from_secs(2), "started after {started:?}, joined after {joined:?}");
    assert!(matches!(next(&mut events).await, MemberEvent::Added(member) if member == second.local()));

    second.set_payload("changed");
    let MemberEvent::Updated(member) = next(&mut events).await else { panic!("no update") };
    assert_eq!(member.payload(), "changed");

    let begun = Instant::now();
    let local = second.local();
    second.stop().await;
    assert_eq!(next(&mut events).await, MemberEvent::Removed(local.clone(), Departure::Shutdown));
    assert!(begun.elapsed() < Duration::from_secs(2), "left after {:?}", begun.elapsed());
    // The further copies of the good-bye are no further events; and a restart is another member.
    second.start().await.unwrap();
    let MemberEvent::Added(again) = next(&mut events).await else { panic!("not added") };
    assert_ne!(again.id(), local.id());
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn many_at_once_see_all() {
    let (hub, config) = (Hub::default(), config());
    let channels: Vec<_> = (0..12).map(|_| channel(&hub, &config)).collect();
    let begun = Instant::now();
    for channel in &channels {
        channel.start().await.unwrap();
    }
    for channel in &channels {
        sees(channel, 11).await;
    }
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    for channel in &channels {
        channel.stop().await;
    }
}

#[tokio::test]
async fn a_killed_member_expires_and_nobody_else_does() {
    let (hub, config) = (Hub::default(), config());
    let config = config.with_frequency(Duration::from_millis(30)).with_drop_time(Duration::from_millis(400));
    let channels = [channel(&hub, &config), channel(&hub, &config), channel(&hub, &config)];
    for channel in &channels {
        channel.start().await.unwrap();
    }
    for channel in &channels {
        sees(channel, 2).await;
    }
    let mut events = channels[0].member_events();
    let [_, _] = [next(&mut events).await, next(&mut events).await];
    let [first, second, third] = channels;
    let local = third.local();
    hub.kill(&local);
    drop(third); // As by a crash.
    assert_eq!(next(&mut events).await, MemberEvent::Removed(local, Departure::Expired));
    assert_eq!(first.view().members().as_ref(), [second.local()]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn garbage_and_forgeries_change_nothing() {
    let (hub, config) = (Hub::default(), config());
    let (first, second) = (channel(&hub, &config), channel(&hub, &config));
    first.start().await.unwrap();
    second.start().await.unwrap();
    sees(&first, 1).await;
    let mut events = first.member_events();
    next(&mut events).await;
    let stranger = Stranger::new(&config);
    let probes = hub.probes();
    let nobody = Member::new(MemberId::generate(&Env::real()).unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
    stranger.heartbeat(&nobody).await;
    reaches(&first, "newcomers_unanswered", 1).await;
    assert!(hub.probes() > probes);
    // A cut heartbeat, a cut frame, one with something behind it, nothing at all.
    let mut heartbeat = BytesMut::new();
    wire::encode_member(&nobody, &mut heartbeat);
    let damaged: [&[u8]; 6] =
        [&heartbeat[..40], b"FLT2002\0\0", b"FLT2002\x7F\xFF\xFF\xFF", b"noise", b"TRIBES-B\x01\x00", &[0xFF; 60_000]];
    for datagram in damaged {
        stranger.say(datagram).await;
    }
    reaches(&first, "malformed", 6).await;
    // A good-bye in the name of a member, connected or not: it is asked, and stays.
    let forged = second.local().as_ref().clone().with_command(SHUTDOWN_COMMAND).with_alive_ms(i64::MAX);
    hub.connect(&second.local());
    stranger.heartbeat(&forged).await;
    let MemberEvent::Suspected(suspect, _) = next(&mut events).await else { panic!("not suspected") };
    assert_eq!(suspect, second.local());
    reaches(&first, "goodbyes_unconfirmed", 1).await;
    // It still works: real news gets through, and nothing else has happened.
    second.set_payload("alive");
    assert!(matches!(next(&mut events).await, MemberEvent::Updated(member) if member.payload() == "alive"));
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn messages_by_multicast() {
    let (hub, config) = (Hub::default(), config());
    let (first, second) = (channel(&hub, &config), channel(&hub, &config));
    let (mut own, mut messages) = (first.messages(), second.messages());
    first.start().await.unwrap();
    second.start().await.unwrap();
    sees(&first, 1).await;
    let big = vec![7; 60_000];
    first.send(tribes_core::To::All, "hello", SendOptions::MULTICAST).await.unwrap();
    first.send(tribes_core::To::All, big.clone(), SendOptions::MULTICAST).await.unwrap();
    assert_eq!(timeout(LIMIT, messages.next()).await.unwrap().unwrap().0.bytes(), "hello");
    assert_eq!(timeout(LIMIT, messages.next()).await.unwrap().unwrap().0.bytes(), &big);
    reaches(&second, "messages_received", 2).await;
    // Not to oneself.
    assert_eq!(gauge(&first, "messages_received"), 0);
    assert!(timeout(Duration::ZERO, own.next()).await.is_err());

    let ack = first.send(tribes_core::To::All, "x", SendOptions::MULTICAST | SendOptions::ACK).await.unwrap_err();
    assert!(ack.to_string().contains("never acknowledged"), "{ack}");
    let large = first.send(tribes_core::To::All, vec![0; 65_507], SendOptions::MULTICAST).await.unwrap_err();
    let SendError::Unsupported(Unsupported::DatagramSize { size, max: 65_507 }) = large else { panic!("{large}") };
    assert!(size > 65_507);
    // Two frames in one datagram, and one of them cut.
    let message = |body: &'static str| ChannelMessage {
        options: SendOptions::MULTICAST | SendOptions::BYTE_MESSAGE,
        timestamp_ms: 0,
        id: tribes_core::MessageId::from_array([1; 16]),
        sender: first.local(),
        body: body.into(),
    };
    let (one, two) = (data::encode(&message("one")), data::encode(&message("two")));
    let stranger = Stranger::new(&config);
    stranger.say(&[one.as_ref(), two.as_ref()].concat()).await;
    assert_eq!(timeout(LIMIT, messages.next()).await.unwrap().unwrap().0.bytes(), "one");
    assert_eq!(timeout(LIMIT, messages.next()).await.unwrap().unwrap().0.bytes(), "two");
    stranger.say(&one[..one.len() - 1]).await;
    reaches(&second, "malformed", 1).await;
    // T18: the next datagram is not read as its continuation.
    stranger.say(&two).await;
    assert_eq!(timeout(LIMIT, messages.next()).await.unwrap().unwrap().0.bytes(), "two");
    first.stop().await;
    second.stop().await;
    let stopped = first.send(tribes_core::To::All, "x", SendOptions::MULTICAST).await.unwrap_err();
    assert!(matches!(stopped, SendError::Stopped), "{stopped}");
}

#[tokio::test]
async fn the_halves_work_apart() {
    let (hub, config) = (Hub::default(), config());
    let (first, second) = (channel(&hub, &config), channel(&hub, &config));
    first.start_services(Services::RECEIVER | Services::SENDER | Services::MEMBERSHIP_RX).await.unwrap();
    second.start_services(Services::RECEIVER | Services::SENDER | Services::MEMBERSHIP_TX).await.unwrap();
    sees(&first, 1).await;
    // Starting all starts what is missing; the running half is left alone.
    second.start().await.unwrap();
    first.start().await.unwrap();
    sees(&second, 1).await;
    assert_eq!(first.view().number(), 1);
    // The announcing half says good-bye; the hearing half forgets.
    second.stop_services(Services::MEMBERSHIP_TX).await;
    sees(&first, 0).await;
    assert_eq!(second.view().len(), 1);
    second.stop_services(Services::MEMBERSHIP_RX).await;
    sees(&second, 0).await;
    second.start_services(Services::MEMBERSHIP).await.unwrap();
    sees(&second, 1).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn sockets_that_fail_are_replaced_without_anyone_leaving() {
    let (hub, config) = (Hub::default(), config());
    let config = config.with_frequency(Duration::from_millis(10)).with_recovery_counter(3);
    let service = Arc::new(McastMembership::new(config.clone()).unwrap());
    let first = hub.channel(0).membership_shared(service.clone()).build().unwrap();
    let second = channel(&hub, &config);
    first.start().await.unwrap();
    second.start().await.unwrap();
    sees(&second, 1).await;
    let mut events = second.member_events();
    next(&mut events).await;
    // A socket of the other family cannot send there.
    let broken = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    service.shared.set_speaker(Some(Arc::new(broken)));
    reaches(&first, "recoveries", 1).await;
    assert!(gauge(&first, "socket_errors") >= 3);
    first.set_payload("back");
    assert!(matches!(next(&mut events).await, MemberEvent::Updated(member) if member.payload() == "back"));
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_socket_that_cannot_be_had_is_an_error_that_says_so() {
    let hub = Hub::default();
    // TEST-NET-1: no interface has it.
    let config = config().with_bind(Ipv4Addr::new(192, 0, 2, 1));
    let channel = channel(&hub, &config);
    let error = channel.start().await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("228.0.0.4") && cause.contains("192.0.2.1"), "{cause}");
    let large = channel_with_payload(&hub, &self::config(), 65_500);
    assert!(large.start().await.is_err());
}

fn channel_with_payload(hub: &Hub, config: &McastConfig, bytes: usize) -> Channel {
    hub.channel(0).membership(McastMembership::new(config.clone()).unwrap()).payload(vec![0; bytes]).build().unwrap()
}

//! Members that begin with no more of each other than an address: their first messages go as to members of Tribes' own, and
//! layers which only our nodes understand are passed by at both ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use crate::common::within;
use tokio::sync::mpsc;
use tribes_core::{
    Channel, ChannelBuilder, Cx, Inbound, Interest, Member, MemberId, Outbound, SendOptions, SyncInterceptor, To,
    Verdict, WireEffect,
};
use tribes_interceptors::TcpFailureDetector;
use tribes_membership::{StaticConfig, StaticMembership, StaticPeer};
use tribes_transports::{PooledParallelSender, ReceiverConfig, TcpReceiver};

/// Puts its mark under each message, and refuses what comes without.
#[derive(Debug)]
struct Seal;

const MARK: &[u8] = b"sealed";

impl SyncInterceptor for Seal {
    fn name(&self) -> &'static str {
        "seal"
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Ours
    }

    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        out.message.body.push_trailer(MARK);
        Verdict::Pass
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        match msg.message.body.split_trailer(MARK.len()) {
            Some(mark) if mark == MARK => Verdict::Pass,
            _ => Verdict::Refuse("it is not sealed".into()),
        }
    }
}

/// A started node under static membership, which can be told of others.
async fn node(layers: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> (Channel, Arc<StaticMembership>) {
    let peers = Arc::new(StaticMembership::new(StaticConfig::default()).unwrap());
    let channel = layers(Channel::builder())
        .interceptor(TcpFailureDetector::default())
        .sender(PooledParallelSender::default())
        .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap())
        .membership_shared(peers.clone())
        .build()
        .unwrap();
    channel.start().await.unwrap();
    (channel, peers)
}

fn address(channel: &Channel) -> StaticPeer {
    channel.local().addr().unwrap().to_string().parse().unwrap()
}

fn address_and_id(channel: &Channel) -> StaticPeer {
    let local = channel.local();
    format!("{}@{}", local.addr().unwrap(), local.id()).parse().unwrap()
}

/// Whether both see each other, and a message of each reaches the other.
async fn talk(one: &Channel, other: &Channel) {
    for (from, to) in [(one, other), (other, one)] {
        within("the other in the view", from.view_when(|view| view.len() == 1)).await;
        let (heard, mut bodies) = mpsc::unbounded_channel();
        let listening = to.on_message(move |message, _| {
            let _ = heard.send(message.bytes().clone());
            async { Ok(()) }
        });
        let outcome = from.send_with(To::All, "over the wire", SendOptions::SYNC_ACK).await.unwrap().await;
        assert!(outcome.is_complete(), "{outcome:?}");
        assert_eq!(within("the message", bodies.recv()).await.unwrap(), "over the wire");
        drop(listening);
    }
}

/// How often the layer was passed by, and how many messages it saw: down, then up.
fn seal(channel: &Channel) -> [(u64, u64); 2] {
    let stats = channel.stats();
    let layer = stats.layers.iter().find(|layer| layer.name == "seal").unwrap();
    assert_eq!(layer.up.errors.values().sum::<u64>(), 0, "{:?}", layer.up.errors);
    [(layer.down.passed_by, layer.down.messages), (layer.up.passed_by, layer.up.messages)]
}

#[tokio::test]
async fn a_layer_of_ours_is_passed_by_at_both_ends_until_the_other_is_known() {
    let (one, peers) = node(|builder| builder.interceptor(Seal)).await;
    let (other, _) = node(|builder| builder.interceptor(Seal)).await;
    peers.add(address(&other));
    talk(&one, &other).await;
    let [(passed_down, sealed), _] = seal(&one);
    let [_, (passed_up, opened)] = seal(&other);
    assert!(passed_down >= 1 && sealed >= 1, "the first call knew only the address: {passed_down}, {sealed}");
    assert!(passed_up >= 1 && opened >= 1, "so its receiver passed the layer by: {passed_up}, {opened}");
}

#[tokio::test]
async fn an_application_may_send_to_an_address() {
    let (one, _) = node(|builder| builder.interceptor(Seal)).await;
    let (other, _) = node(|builder| builder.interceptor(Seal)).await;
    let (heard, mut bodies) = mpsc::unbounded_channel();
    other
        .on_message(move |message, _| {
            let _ = heard.send(message.bytes().clone());
            async { Ok(()) }
        })
        .forever();
    let to = Arc::new(Member::new(MemberId::ZERO, other.local().addr().unwrap()));
    let outcome = one.send_with(&to, "to whom it may concern", SendOptions::SYNC_ACK).await.unwrap().await;
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(within("the message", bodies.recv()).await.unwrap(), "to whom it may concern");
    assert_eq!(seal(&other)[1], (1, 0));
}

#[cfg(feature = "compress-lz4")]
#[tokio::test]
async fn compressed_and_in_two_phases_as_soon_as_the_other_is_known() {
    use tribes_interceptors::{Compress, TwoPhaseCommit};
    let layers =
        |builder: ChannelBuilder| builder.interceptor(TwoPhaseCommit::default()).interceptor(Compress::default());
    let (one, peers) = node(layers).await;
    let (other, _) = node(layers).await;
    peers.add(address(&other));
    talk(&one, &other).await;
}

#[cfg(feature = "encrypt")]
mod encrypted {
    use tribes_interceptors::encrypt::{Encrypt, EncryptConfig, Key, Mode, TowardsJava};

    use super::*;

    fn config() -> EncryptConfig {
        EncryptConfig::default().with_keys([Key::from_bytes(&[7; 32]).unwrap()]).with_mode(Mode::Authenticated)
    }

    /// Nobody can be let in by a destination that is known by its address alone.
    #[tokio::test]
    async fn authenticated_to_a_peer_whose_id_is_listed_and_to_no_other() {
        let (one, peers) = node(|builder| builder.interceptor(Encrypt::new(config()))).await;
        let (other, _) = node(|builder| builder.interceptor(Encrypt::new(config()))).await;
        let stranger = Arc::new(Member::new(MemberId::ZERO, other.local().addr().unwrap()));
        let outcome = one.send_with(&stranger, "secret", SendOptions::SYNC_ACK).await.unwrap().await;
        let text = format!("{outcome:?}");
        assert!(text.contains("HOST:PORT@ID"), "{text}");
        peers.add(address_and_id(&other));
        talk(&one, &other).await;
    }

    #[tokio::test]
    async fn in_tribes_format_until_the_other_is_known() {
        let layer = || Encrypt::new(config().with_towards_java(TowardsJava::Tribes));
        let (one, peers) = node(|builder| builder.interceptor(layer())).await;
        let (other, _) = node(|builder| builder.interceptor(layer())).await;
        peers.add(address(&other));
        talk(&one, &other).await;
    }
}

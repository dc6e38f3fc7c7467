//! Our own format, without a channel around it.

use std::sync::Arc;

use bytes::Bytes;
use tribes_core::{Body, ChannelMessage, Member, MemberId, MessageId, SendOptions};
use tribes_testkit::member;

use super::super::core::Core;
use super::super::sealed::SessionKey;
use super::super::sessions::{Known, Sessions};
use super::super::window::WINDOW;
use super::super::{EncryptConfig, EncryptError, Mode};
use super::{chance, core, id, key, message};

/// No layer below changes a bit.
const ALL: SendOptions = SendOptions::all();

fn config() -> EncryptConfig {
    EncryptConfig::default().with_mode(Mode::Authenticated)
}

fn node(keys: &[u8]) -> Core {
    core(&config(), keys)
}

/// Seals for these members, under a session of this chance.
fn sealed(core: &Core, from: u16, to: &[u16], body: &'static str, session: u8) -> ChannelMessage {
    let mut message = message(&member(from), body);
    core.seal_for(&mut message, to.iter().copied().map(id).collect(), &mut chance(session)).unwrap();
    message
}

fn open_at(core: &Core, local: u16, message: &ChannelMessage) -> Result<Body, EncryptError> {
    open_bound(core, local, message, ALL).map(|message| message.body)
}

fn open_bound(
    core: &Core,
    local: u16,
    message: &ChannelMessage,
    bound: SendOptions,
) -> Result<ChannelMessage, EncryptError> {
    let mut message = message.clone();
    core.open(&mut message, true, id(local), bound, 0).map(|()| message)
}

#[test]
fn one_sealing_serves_those_it_is_for_once_each_and_nobody_else() {
    let message = sealed(&node(&[1]), 1, &[3, 2], "hello", 0);
    assert_eq!(message.body.len(), 47 + 5 + 2 * 16);
    for receiver in [2, 3] {
        let core = node(&[1]);
        assert_eq!(open_at(&core, receiver, &message), Ok(Body::new("hello")));
        assert_eq!(open_at(&core, receiver, &message), Err(EncryptError::Replayed));
    }
    assert_eq!(open_at(&node(&[1]), 4, &message), Err(EncryptError::Misdirected));
    assert_eq!(open_at(&node(&[2]), 2, &message), Err(EncryptError::Unopened));
}

#[test]
fn bodies_of_any_size_and_many_members() {
    let (sender, receiver) = (node(&[1]), node(&[1]));
    for len in [0, 1, 15, 16, 17, 1000, 200_000] {
        let mut message = message(&member(1), vec![7; len]);
        message.body.push_trailer("end");
        sender.seal_for(&mut message, (1..=300).map(id).collect(), &mut chance(0)).unwrap();
        let body = open_at(&receiver, 300, &message).unwrap();
        assert_eq!(body.to_bytes(), [vec![7; len].as_slice(), b"end"].concat());
    }
    let ids: Vec<_> = (0..70_000u128).map(|id| MemberId::from_bytes(id.to_be_bytes())).collect();
    let error = sender.seal_for(&mut message(&member(1), "x"), ids, &mut chance(0)).unwrap_err();
    assert_eq!(error, EncryptError::TooManyMembers { count: 70_000 });
}

#[test]
fn each_flipped_bit_of_the_body_is_refused() {
    let (message, receiver) = (sealed(&node(&[1]), 1, &[2], "tamper me please", 0), node(&[1]));
    let body = message.body.to_bytes();
    let with = |body: Vec<u8>| ChannelMessage { body: Body::new(body), ..message.clone() };
    for bit in 0..body.len() * 8 {
        let mut altered = body.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        let error = open_at(&receiver, 2, &with(altered)).unwrap_err();
        assert!(matches!(error, EncryptError::Unopened | EncryptError::NotSealed), "bit {bit}: {error}");
    }
    for len in 0..body.len() {
        assert!(open_at(&receiver, 2, &with(body[..len].to_vec())).is_err(), "{len} bytes");
    }
    assert!(open_at(&receiver, 2, &with([&body[..], &[0]].concat())).is_err());
    // All that took nothing from the message itself.
    assert_eq!(open_at(&receiver, 2, &message), Ok(Body::new("tamper me please")));
}

#[test]
fn each_flipped_bit_of_the_envelope_is_refused() {
    let from = member(1).as_ref().clone().with_domain("domain").with_payload("payload").with_udp_port(4100);
    let from = Arc::new(from.with_secure_port(4443).with_alive_ms(77));
    let mut message = message(&from, "hello");
    node(&[1]).seal_for(&mut message, vec![id(2)], &mut chance(0)).unwrap();
    let receiver = node(&[1]);
    let refused = |altered: ChannelMessage| {
        let error = open_at(&receiver, 2, &altered).unwrap_err();
        assert_eq!(error, EncryptError::Unopened, "{altered:?}");
    };
    let flipped = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Bytes::from(bytes)
    };
    for bit in 0..128 {
        refused(ChannelMessage { id: MessageId::from_bytes(flipped(message.id.as_bytes(), bit)), ..message.clone() });
        let id = flipped(from.id().as_bytes(), bit)[..].try_into().unwrap();
        let sender = Arc::new(from.as_ref().clone().with_id(MemberId::from_bytes(id)));
        refused(ChannelMessage { sender, ..message.clone() });
    }
    refused(ChannelMessage { id: MessageId::from_bytes(Bytes::new()), ..message.clone() });
    for bit in 0..64 {
        refused(ChannelMessage { timestamp_ms: message.timestamp_ms ^ (1 << bit), ..message.clone() });
    }
    let other = |change: &dyn Fn(Member) -> Member| Arc::new(change(from.as_ref().clone()));
    for bit in 0..32 {
        let moved = Member::from_parts(from.id(), from.host().clone(), from.port() ^ (1 << bit));
        let moved = moved.with_domain("domain").with_payload("payload").with_udp_port(4100).with_secure_port(4443);
        refused(ChannelMessage { sender: Arc::new(moved), ..message.clone() });
        refused(ChannelMessage { sender: other(&|member| member.with_udp_port(4100 ^ (1 << bit))), ..message.clone() });
        refused(ChannelMessage {
            sender: other(&|member| member.with_secure_port(4443 ^ (1 << bit))),
            ..message.clone()
        });
        let host = Member::from_parts(from.id(), flipped(from.host(), bit), from.port());
        let host = host.with_domain("domain").with_payload("payload").with_udp_port(4100).with_secure_port(4443);
        refused(ChannelMessage { sender: Arc::new(host), ..message.clone() });
        let mut options = message.clone();
        options.options.toggle(SendOptions::from_bits_retain(1 << bit));
        assert_eq!(open_at(&receiver, 2, &options), Err(EncryptError::OptionsAltered { bits: 1 << bit }));
    }
    for altered in [
        other(&|member| member.with_domain("domaim")),
        other(&|member| member.with_payload("paylo")),
        other(&|member| member.with_command("c")),
        other(&|member| member.with_domain("domainpayload").with_payload("")),
    ] {
        refused(ChannelMessage { sender: altered, ..message.clone() });
    }
    // How long the sender has been alive is not vouched for.
    let aged = ChannelMessage { sender: other(&|member| member.with_alive_ms(99)), ..message.clone() };
    assert_eq!(open_at(&receiver, 2, &aged), Ok(Body::new("hello")));
}

#[test]
fn options_of_layers_below_may_change() {
    let below = SendOptions::ASYNCHRONOUS | SendOptions::from_bits_retain(0x80);
    let (sender, receiver) = (node(&[1]), node(&[1]));
    for change in [0, 0x08, 0x80, 0x88] {
        let mut message = sealed(&sender, 1, &[2], "x", 0);
        message.options.toggle(SendOptions::from_bits_retain(change));
        let opened = open_bound(&receiver, 2, &message, ALL - below).unwrap();
        assert_eq!(opened.options, message.options);
    }
    let mut message = sealed(&sender, 1, &[2], "x", 0);
    message.options.toggle(SendOptions::SYNCHRONIZED_ACK | SendOptions::ASYNCHRONOUS);
    let error = open_bound(&receiver, 2, &message, ALL - below).unwrap_err();
    assert_eq!(error, EncryptError::OptionsAltered { bits: 0x04 });
}

#[test]
fn the_mark_of_a_trailer_inside_is_inside() {
    let (sender, receiver) = (node(&[1]), node(&[1]));
    let mut message = message(&member(1), "body and trailer");
    message.options |= SendOptions::EXTENSION;
    let options = message.options;
    sender.seal_for(&mut message, vec![id(2)], &mut chance(0)).unwrap();
    assert!(!message.options.contains(SendOptions::EXTENSION));
    assert_eq!(open_bound(&receiver, 2, &message, ALL).unwrap().options, options);
    // Nobody else can set it, whichever layers are below.
    let mut plain = sealed(&sender, 1, &[2], "no trailer", 0);
    plain.options |= SendOptions::EXTENSION;
    let error = open_bound(&receiver, 2, &plain, SendOptions::empty()).unwrap_err();
    assert_eq!(error, EncryptError::OptionsAltered { bits: SendOptions::EXTENSION.bits() });
}

#[test]
fn messages_come_in_any_order_within_the_window() {
    let (sender, receiver) = (node(&[1]), node(&[1]));
    let messages: Vec<_> = (0..WINDOW + 100).map(|_| sealed(&sender, 1, &[2], "x", 0)).collect();
    let seed = fastrand::u64(..);
    let mut order: Vec<_> = (100..messages.len()).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    // Half of them are lost.
    for at in order.iter().take(4000) {
        assert_eq!(open_at(&receiver, 2, &messages[*at]), Ok(Body::new("x")), "seed {seed}");
    }
    for at in order.iter().take(4000) {
        assert_eq!(open_at(&receiver, 2, &messages[*at]), Err(EncryptError::Replayed), "seed {seed}");
    }
    let last = open_at(&receiver, 2, &messages[messages.len() - 1]);
    assert!(matches!(last, Ok(_) | Err(EncryptError::Replayed)));
    // Too far behind, and never seen.
    assert_eq!(open_at(&receiver, 2, &messages[99]), Err(EncryptError::Replayed));
}

#[test]
fn rotation_with_a_member_that_was_away_loses_nothing() {
    let (old, new) = (1, 2);
    let nodes: Vec<_> = (1..=3).map(|_| node(&[old])).collect();
    let set = |node: usize, keys: &[u8]| nodes[node].set_keys(keys.iter().copied().map(key).collect(), &config());
    let mut number = 0;
    let mut exchange = |from: usize, to: usize| {
        number += 1;
        let (from_id, to_id) = (u16::try_from(from).unwrap(), u16::try_from(to).unwrap());
        let message = sealed(&nodes[from], from_id, &[to_id], "x", number);
        assert_eq!(open_at(&nodes[to], to_id, &message), Ok(Body::new("x")), "{from} to {to}, number {number}");
        assert_eq!(open_at(&nodes[to], to_id, &message), Err(EncryptError::Replayed));
    };
    let mut all = |who: &[usize]| {
        for from in who {
            who.iter().filter(|to| *to != from).for_each(|to| exchange(*from, *to));
        }
    };
    all(&[0, 1, 2]);
    for node in 0..3 {
        set(node, &[old, new]);
        all(&[0, 1, 2]);
    }
    // The third goes away, with messages for it under way, some of them sealed with the old key.
    let mut under_way = vec![sealed(&nodes[0], 0, &[2], "before", 100)];
    set(0, &[new, old]);
    under_way.push(sealed(&nodes[0], 0, &[2], "between", 101));
    all(&[0, 1]);
    set(1, &[new, old]);
    under_way.push(sealed(&nodes[1], 1, &[2], "after", 102));
    all(&[0, 1]);
    // It comes back as it was, and gets all of it; what it seals with the old key is understood.
    for message in &under_way {
        assert!(open_at(&nodes[2], 2, message).is_ok());
    }
    all(&[0, 1, 2]);
    set(2, &[new, old]);
    all(&[0, 1, 2]);
    for node in 0..3 {
        set(node, &[new]);
        all(&[0, 1, 2]);
    }
    // The old key is worth nothing any more, also for a session that was known.
    assert_eq!(open_at(&nodes[2], 2, &sealed(&node(&[old]), 0, &[2], "late", 100)), Err(EncryptError::Unopened));
    // Nor is a copy, when the old key comes back.
    set(2, &[new, old]);
    for message in &under_way {
        assert_eq!(open_at(&nodes[2], 2, message), Err(EncryptError::Replayed));
    }
}

#[test]
fn a_sender_that_starts_again_has_another_session() {
    let receiver = node(&[1]);
    for session in 0..10 {
        let sender = node(&[1]);
        for _ in 0..3 {
            assert_eq!(open_at(&receiver, 2, &sealed(&sender, 1, &[2], "x", session)), Ok(Body::new("x")));
        }
    }
    assert_eq!(receiver.remembered(), (0, 10));
}

#[test]
fn strangers_take_no_memory() {
    let receiver = node(&[1]);
    let stranger = node(&[9]);
    for session in 0..200 {
        assert!(open_at(&receiver, 2, &sealed(&stranger, 1, &[2], "x", session)).is_err());
    }
    assert_eq!(receiver.remembered(), (0, 0));
}

#[test]
fn sessions_are_bounded_and_what_was_seen_stays_seen() {
    let mut sessions = Sessions::new(2, 4);
    let session_key = |number| Arc::new(SessionKey::derive(&key(1), &[number; 16], id(1)));
    let name = |number| ([number; 16], id(1));
    let mut accept = |number, counter| sessions.accept(name(number), counter, 1, &session_key(number));
    assert!(accept(1, 10) && accept(2, 10) && accept(1, 9));
    // The window of session 2, idle for longest, is closed.
    assert!(accept(3, 1));
    assert!(!accept(2, 10));
    assert!(!accept(2, 9), "not seen, but no longer known as such");
    assert!(accept(2, 11), "it goes on above");
    assert!(!accept(1, 10) && !accept(1, 8), "now that of session 1 is closed");
    // A fifth is one too many: session 3, idle for longest, is forgotten.
    assert!(accept(4, 1) && accept(5, 1));
    assert_eq!(sessions.len(), 4);
    assert!(matches!(sessions.look(&name(3), 1, 1), Known::Nothing));
    assert!(matches!(sessions.look(&name(2), 11, 1), Known::Seen));
    assert!(matches!(sessions.look(&name(5), 2, 1), Known::Key(_)));
    assert!(matches!(sessions.look(&name(5), 2, 2), Known::Nothing), "the key is of other keys' time");
}

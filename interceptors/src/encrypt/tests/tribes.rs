//! Tribes' format: against what the real Java wrote and accepted, and what our own side makes of attacks.

use bytes::Bytes;
use proptest::prelude::*;
use tribes_core::{Body, SendOptions};
use tribes_testkit::java_member;

use super::super::cipher::TribesCipher;
use super::super::core::Core;
use super::super::replay::ReplayWindow;
use super::super::{Algorithm, EncryptConfig, EncryptError, Key, Layout};
use super::{chance, core, id, key, message};
use crate::vectors::{bytes, hex, int, list, load, text};

const NOW: i64 = 1_795_305_600_123;

/// A cipher under key 00 01 02 …, as in the vectors.
fn counting(algorithm: Algorithm, stamped: bool, len: u8) -> TribesCipher {
    TribesCipher::new(algorithm, stamped, &Key::from_bytes(&(0..len).collect::<Vec<_>>()).unwrap())
}

#[test]
fn what_java_sealed_is_opened_and_sealed_again_byte_for_byte() {
    let cases = load("encrypt");
    let cases = list(&cases["cases"]);
    assert_eq!(cases.len(), 70);
    for case in cases {
        let algorithm = Algorithm::from_name(text(&case["algorithm"])).unwrap();
        let cipher = TribesCipher::new(algorithm, true, &Key::from_hex(text(&case["key"])).unwrap());
        let (wire, plain) = (hex(&case["wire_message"]), bytes(&case["plaintext_message"]));
        let opened = cipher.open(&wire).unwrap();
        assert_eq!(opened.timestamp_ms, Some(int(&case["timestamp"])));
        assert_eq!(opened.body, plain);
        let sealed = cipher.seal(&mut || Ok(opened.iv), int(&case["timestamp"]), &Body::new(plain)).unwrap();
        assert_eq!(sealed, wire, "{case}");
    }
}

#[test]
fn the_pieces_of_a_stack_come_apart() {
    let stacks = load("stacks");
    let stack =
        list(&stacks["stacks"]).iter().find(|stack| text(&stack["stack_top_to_bottom"]).contains("encrypt")).unwrap();
    let cipher = counting(Algorithm::Gcm, true, 16);
    let sent = list(&stack["sent"]);
    let count = u8::try_from(sent.len()).unwrap();
    for (number, piece) in (0..).zip(sent) {
        let body = cipher.open(&bytes(&piece["message"])).unwrap().body;
        // Fragmentation's trailer: number, count, and the mark of a piece.
        let trailer = [[0, 0, 0, number], [0, 0, 0, count]].concat();
        assert_eq!(body[body.len() - 9..], [trailer.as_slice(), &[1]].concat());
        if number == 0 {
            assert_eq!(body[..2], [0x1F, 0x8B], "gzip stands above");
        }
    }
}

#[test]
fn names_are_those_that_java_takes() {
    let vectors = load("encrypt");
    for case in list(&vectors["algorithms"]) {
        let (name, outcome) = (text(&case["algorithm"]), text(&case["outcome"]["result"]));
        let ours = Algorithm::from_name(name);
        assert_eq!(ours.is_some(), outcome == "ok" && name.starts_with("AES/"), "{name}");
        if let Some(algorithm) = ours {
            assert_eq!(algorithm.name(), name);
            let one = counting(algorithm, true, 16).seal(&mut chance(0), NOW, &Body::new("x")).unwrap();
            assert_eq!(i64::try_from(one.len()).unwrap(), int(&case["outcome"]["value"]["wire_len_for_1_byte"]));
        }
    }
    for case in list(&vectors["keys"]) {
        let (text, outcome) = (text(&case["hex_text"]), &case["outcome"]);
        assert_eq!(Key::from_hex(text).is_ok(), outcome["result"] == "ok", "{text:?}");
    }
}

/// Sealed by another node of the same configuration, at this time.
fn sealed_at(config: &EncryptConfig, time_ms: i64, body: &'static str) -> Body {
    core(config, &[1]).seal_tribes(&Body::new(body), time_ms, &mut || Ok([time_ms.to_be_bytes()[7]; 16])).unwrap()
}

fn open(core: &Core, body: &Body, now_ms: i64) -> Result<Body, EncryptError> {
    let mut message = message(&java_member(1), body.clone());
    core.open(&mut message, false, id(9), SendOptions::all(), now_ms).map(|()| message.body)
}

/// A core with a window that was opened long ago.
fn watching(config: &EncryptConfig) -> Core {
    let core = core(config, &[1]);
    core.open_window(config, NOW - 100_000);
    core
}

#[test]
fn clocks_may_be_apart_as_far_as_javas() {
    let vectors = load("encrypt");
    let config = EncryptConfig::default();
    let mut skews = 0;
    for case in list(&vectors["receive"]).iter().filter(|case| case["algorithm"] == "AES/GCM/NoPadding") {
        let Some(skew) = text(&case["case"]).strip_prefix("sender clock skew ") else { continue };
        let skew: i64 = skew.strip_suffix(" ms").unwrap().parse().unwrap();
        let result = open(&watching(&config), &sealed_at(&config, NOW + skew, "skew"), NOW);
        match int(&case["delivered"]) {
            1 => assert_eq!(result, Ok(Body::new("skew"))),
            _ => assert_eq!(result, Err(EncryptError::Stale { apart_ms: skew.unsigned_abs() })),
        }
        skews += 1;
    }
    assert_eq!(skews, 5);
}

#[test]
fn what_java_refuses_under_gcm_is_refused() {
    let vectors = load("encrypt");
    let core = core(&EncryptConfig::default(), &[]);
    let config = EncryptConfig::default();
    core.set_keys(vec![Key::from_bytes(&(0..16).collect::<Vec<_>>()).unwrap()], &config);
    core.open_window(&config, NOW);
    let mut cases = 0;
    for case in list(&vectors["receive"]).iter().filter(|case| case.get("wire_message").is_some()) {
        // Seven bytes; and the old layout, whose first bytes are no time of ours.
        let result = open(&core, &Body::new(hex(&case["wire_message"])), NOW);
        assert!(matches!(result, Err(EncryptError::NotSealed | EncryptError::Stale { .. })), "{case}: {result:?}");
        cases += 1;
    }
    assert_eq!(cases, 2);
    for len in 0..36 {
        assert_eq!(open(&core, &Body::new(vec![7; len]), NOW), Err(EncryptError::NotSealed), "{len} bytes");
    }
}

#[test]
fn the_old_layout_is_one_without_a_time() {
    let vectors = load("encrypt");
    let case = list(&vectors["receive"]).iter().find(|case| text(&case["case"]).starts_with("old-release")).unwrap();
    let wire = hex(&case["wire_message"]);
    let cipher = counting(Algorithm::Gcm, false, 16);
    let opened = cipher.open(&wire).unwrap();
    assert_eq!((opened.timestamp_ms, opened.body.as_ref()), (None, b"message from an older release".as_slice()));
    assert_eq!(cipher.seal(&mut || Ok(opened.iv), NOW, &Body::new(opened.body)).unwrap(), wire);

    // Through the layer, without a look at the clock.
    let config = EncryptConfig::default().with_layout(Layout::BeforeTimestamps);
    let core = watching(&config);
    let sealed = sealed_at(&config, 0, "old");
    for _ in 0..2 {
        assert_eq!(open(&core, &sealed, NOW), Ok(Body::new("old")));
    }
}

#[test]
fn a_small_window_forgets_the_oldest_times_first() {
    let vectors = load("encrypt");
    let config = EncryptConfig::default().with_replay_window_message_count(2);
    let core = watching(&config);
    for step in list(&vectors["window_of_two_messages"]) {
        let sealed = sealed_at(&config, NOW + int(&step["timestamp_offset_ms"]), "x");
        assert_eq!(open(&core, &sealed, NOW).is_ok(), step["delivered"] == true, "{step}");
    }
    // testReplayWindowEvictsOldestTimestampFirst: not by arrival.
    let core = watching(&config);
    for offset in [300, 100, 200, 225, 250] {
        assert_eq!(open(&core, &sealed_at(&config, NOW + offset, "x"), NOW), Ok(Body::new("x")), "{offset}");
    }
}

#[test]
fn what_is_too_old_anyway_is_not_remembered() {
    let mut window = ReplayWindow::new(10_000, 1000, NOW);
    for at in 0..50_000u32 {
        let mut iv = [0; 16];
        iv[..4].copy_from_slice(&at.to_be_bytes());
        let now = NOW + i64::from(at) * 100;
        assert_eq!(window.check(now, iv, now), Ok(()));
        assert!(window.len() <= 102, "{}", window.len());
    }
    // A clock that is set back does not open the past again.
    assert!(window.check(NOW + 50, [9; 16], NOW + 60).is_err());
}

#[test]
fn a_replay_is_refused_and_remembered_over_a_change_of_keys() {
    let config = EncryptConfig::default();
    let core = watching(&config);
    let sealed = sealed_at(&config, NOW, "once");
    assert_eq!(open(&core, &sealed, NOW), Ok(Body::new("once")));
    assert_eq!(open(&core, &sealed, NOW), Err(EncryptError::Replayed));
    core.set_keys(vec![key(2), key(1)], &config);
    core.open_window(&config, NOW);
    assert_eq!(open(&core, &sealed, NOW), Err(EncryptError::Replayed));
}

#[test]
fn each_flipped_bit_is_refused_under_gcm() {
    for (stamped, len) in [(true, 16), (true, 24), (false, 32)] {
        let cipher = counting(Algorithm::Gcm, stamped, len);
        let sealed = cipher.seal(&mut chance(0), NOW, &Body::new("tamper me please")).unwrap();
        assert!(cipher.open(&sealed).is_some());
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.to_vec();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher.open(&altered), None, "bit {bit}");
        }
        for shorter in 0..sealed.len() {
            assert_eq!(cipher.open(&sealed[..shorter]), None);
            assert_eq!(cipher.open(&sealed[shorter + 1..]), None);
        }
        assert_eq!(cipher.open(&[&sealed[..], &[0]].concat()), None);
    }
}

#[test]
fn rotation_in_every_algorithm_takes_any_key_and_no_other() {
    for algorithm in [Algorithm::Gcm, Algorithm::Cbc, Algorithm::CbcIso10126, Algorithm::Cfb, Algorithm::Ofb] {
        let config = EncryptConfig::default().with_algorithm(algorithm).with_legacy(true);
        let [old, both, new] = [vec![1], vec![2, 1, 3], vec![2]].map(|keys| {
            let core = core(&config, &keys);
            core.open_window(&config, NOW - 20_000);
            core
        });
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        // Often enough for padding to look right under a wrong key.
        for round in 0..2000 {
            let mut random = || Ok(rng.u128(..).to_be_bytes());
            let body = Body::new(vec![7; round % 40]);
            let by_old = old.seal_tribes(&body, NOW, &mut random).unwrap();
            let by_both = both.seal_tribes(&body, NOW, &mut random).unwrap();
            assert_eq!(open(&both, &by_old, NOW), Ok(body.clone()), "{algorithm} seed {seed}");
            assert_eq!(open(&new, &by_both, NOW), Ok(body), "{algorithm} seed {seed}");
            assert!(open(&new, &by_old, NOW).is_err(), "{algorithm} seed {seed}");
        }
    }
}

#[test]
fn the_same_body_is_never_sealed_alike() {
    let core = core(&EncryptConfig::default(), &[1]);
    let (mut chance, body) = (chance(0), Body::new("twice"));
    let one = core.seal_tribes(&body, NOW, &mut chance).unwrap();
    assert_ne!(one, core.seal_tribes(&body, NOW, &mut chance).unwrap());
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(vec![Algorithm::Gcm, Algorithm::Cbc, Algorithm::CbcIso10126, Algorithm::Cfb, Algorithm::Ofb])
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(
        algorithm in algorithm(),
        len in prop::sample::select(vec![16, 24, 32]),
        stamped: bool,
        iv: [u8; 16],
        time: i64,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..4),
    ) {
        let cipher = counting(algorithm, stamped, len);
        let mut body = Body::default();
        parts.iter().for_each(|part| body.push_trailer(part.clone()));
        let sealed = cipher.seal(&mut || Ok(iv), time, &body).unwrap();
        prop_assert!(sealed.len() >= cipher.least());
        let opened = cipher.open(&sealed).unwrap();
        prop_assert_eq!(opened.timestamp_ms, stamped.then_some(time));
        prop_assert_eq!(opened.body, body.to_bytes());
    }

    #[test]
    fn garbage_does_no_harm(algorithm in algorithm(), stamped: bool, garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let opened = counting(algorithm, stamped, 16).open(&garbage);
        prop_assert!(opened.is_none_or(|opened| algorithm.is_legacy() && opened.body.len() < Bytes::from(garbage).len()));
    }
}

#[test]
fn without_random_bytes_nothing_is_sealed() {
    // The IV needs some, and so does one kind of padding.
    for (algorithm, needed) in [(Algorithm::Gcm, 1), (Algorithm::Cbc, 1), (Algorithm::CbcIso10126, 2)] {
        let config = EncryptConfig::default().with_algorithm(algorithm).with_legacy(true);
        for there in 0..=2 {
            let mut left = there;
            let mut chance = || {
                left -= 1;
                if left < 0 { Err(EncryptError::NoRandomness) } else { Ok([1; 16]) }
            };
            let sealed = core(&config, &[1]).seal_tribes(&Body::new("x"), NOW, &mut chance);
            if there < needed {
                assert_eq!(sealed, Err(EncryptError::NoRandomness), "{algorithm:?}");
            } else {
                assert!(sealed.is_ok(), "{algorithm:?}");
            }
        }
    }
}

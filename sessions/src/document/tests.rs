//! That merging gives the same in any order, that nothing that was written is lost, and what each rule settles.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashMap;

use serde_json::{Value, json};
use tribes_replication::Diffable;
use tribes_testkit::suite::Seeds;

use super::*;
use crate::SessionId;
use crate::conflict::Conflict;

const HASHES: Hashes = Hashes::new(0xFEED);
const OWNER: NodeId = [7; 16];
const IDLE: Lifetime = Lifetime::Idle(60_000);
const ID: SessionId = SessionId::from_bits(1);

fn policies() -> Policies {
    let mut policies = Policies::default();
    policies.set("cart", Conflict::Union);
    policies.set("hits", Conflict::Counter);
    policies.set("best", Conflict::Max);
    policies.set("note", Conflict::KeepAll);
    policies
}

/// A store on one node, and its clock.
struct Node {
    node: u64,
    time: u64,
    policies: Policies,
}

/// What a request holds: the data it was given, and may change.
struct Request {
    base: Option<Base>,
    data: HashMap<String, Value>,
}

impl Node {
    fn new(node: u64) -> Self {
        Self { node, time: 1000 * node, policies: policies() }
    }

    fn stamp(&mut self, seen: u64) -> Stamp {
        self.time = self.time.max(seen) + 1;
        Stamp(self.time, self.node)
    }

    fn create(&mut self, data: Value) -> Session {
        let data: HashMap<String, Value> = serde_json::from_value(data).unwrap();
        let change = Change::between((None, None), &data, (IDLE, OWNER), &self.policies, HASHES);
        let stamp = self.stamp(0);
        Session::Live(Box::new(change.new_document(stamp, HASHES)))
    }

    fn load(&self, session: &Session) -> Request {
        let (values, base) = Base::of((ID, 1), session.live().unwrap(), &self.policies, HASHES);
        // As it travels inside of a record.
        let base = Base::from_value(&base.to_value().unwrap(), None);
        assert!(base.is_some());
        Request { base, data: values.into_iter().collect() }
    }

    fn save(&mut self, request: &Request, session: &mut Session) -> bool {
        let change =
            Change::between((request.base.as_ref(), None), &request.data, (IDLE, OWNER), &self.policies, HASHES);
        let stamp = self.stamp(session.latest());
        let Session::Live(document) = session else { return false };
        change.apply(document, stamp, HASHES)
    }

    /// A request of its own on `session`.
    fn change(&mut self, session: &mut Session, change: impl FnOnce(&mut HashMap<String, Value>)) -> bool {
        let mut request = self.load(session);
        change(&mut request.data);
        self.save(&request, session)
    }
}

fn read(session: &Session) -> Value {
    let values = session.live().unwrap().values(&policies()).map(|(name, value)| (name.to_owned(), value)).collect();
    Value::Object(values)
}

fn merged(one: &Session, other: &Session) -> Session {
    Session::merge(one.clone(), other.clone())
}

#[test]
fn overlapping_requests_that_change_different_fields_lose_nothing() {
    let mut node = Node::new(1);
    let mut session = node.create(json!({ "user": 7 }));
    let (mut one, mut two) = (node.load(&session), node.load(&session));
    one.data.insert("cart".into(), json!(["nails"]));
    two.data.insert("theme".into(), json!("dark"));
    assert!(node.save(&one, &mut session));
    assert!(node.save(&two, &mut session));
    assert_eq!(read(&session), json!({ "user": 7, "cart": ["nails"], "theme": "dark" }));
}

#[test]
fn a_request_that_saves_twice_changes_once() {
    let mut node = Node::new(1);
    let mut session =
        node.create(json!({ "hits": 5, "cart": ["k", "l"], "note": "a", "same": 1, "gone": 1, "price": 3.0 * 0.07 }));
    let mut request = node.load(&session);
    for (name, value) in [("hits", json!(6)), ("cart", json!(["l", "m"])), ("note", json!("b")), ("same", json!(2))] {
        request.data.insert(name.into(), value);
    }
    request.data.remove("gone");
    let change = Change::between((request.base.as_ref(), None), &request.data, (IDLE, OWNER), &node.policies, HASHES);
    let stamp = node.stamp(session.latest());
    let Session::Live(document) = &mut session else { unreachable!() };
    assert!(change.apply(document, stamp, HASHES));
    request.base = Some(change.base_after(request.base.take(), ID, 1, stamp, HASHES));
    // Somebody else goes on from there.
    node.change(&mut session, |data| {
        data.insert("same".into(), json!(3));
        data.insert("cart".into(), json!(["m"]));
    });
    let before = session.clone();
    assert!(!node.save(&request, &mut session), "it has not changed anything since");
    assert_eq!(session, before);
    request.data.insert("hits".into(), json!(7));
    assert!(node.save(&request, &mut session));
    let wanted = json!({ "hits": 7, "cart": ["m"], "note": "b", "same": 3, "price": 3.0 * 0.07 });
    assert_eq!(read(&session), wanted);
}

#[test]
fn what_a_request_did_not_touch_it_does_not_write() {
    let mut node = Node::new(1);
    let mut session = node.create(json!({ "user": 7, "cart": [1, 2], "hits": 3, "note": "a", "best": 4 }));
    let stale = node.load(&session);
    node.change(&mut session, |data| {
        data.insert("user".into(), json!(8));
        data.insert("hits".into(), json!(5));
        data.insert("cart".into(), json!([2]));
    });
    let before = session.clone();
    assert!(!node.save(&stale, &mut session), "a request that changes nothing writes nothing");
    assert_eq!(session, before);
}

#[test]
fn two_nodes_at_the_same_time() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let born = a.create(json!({ "user": 7, "hits": 10, "cart": [1, 2], "best": 5, "note": "x", "same": 0 }));
    let (mut at_a, mut at_b) = (born.clone(), born);
    a.change(&mut at_a, |data| {
        data.insert("from a".into(), json!(true));
        data.insert("hits".into(), json!(13));
        data.insert("cart".into(), json!([2, 3]));
        data.insert("best".into(), json!(9));
        data.insert("note".into(), json!("of a"));
        data.insert("same".into(), json!("a"));
    });
    b.change(&mut at_b, |data| {
        data.insert("from b".into(), json!(true));
        data.insert("hits".into(), json!(11));
        data.insert("cart".into(), json!([1, 2, 4]));
        data.insert("best".into(), json!(7));
        data.insert("note".into(), json!("of b"));
        data.insert("same".into(), json!("b"));
    });
    let both = merged(&at_a, &at_b);
    assert_eq!(both, merged(&at_b, &at_a));
    let wanted = json!({
        "user": 7, "from a": true, "from b": true, "hits": 14, "cart": [2, 3, 4], "best": 9, "same": "b",
        "note": { "conflict": ["of a", "of b"] },
    });
    assert_eq!(read(&both), wanted);
    // Whoever has seen both settles it.
    let mut later = both.clone();
    a.change(&mut later, |data| drop(data.insert("note".into(), json!("settled"))));
    assert_eq!(read(&merged(&at_b, &later))["note"], json!("settled"));
    assert_eq!(read(&merged(&later, &at_a)), read(&later));
}

#[test]
fn removed_fields_stay_removed() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let mut session = a.create(json!({ "x": 1, "cart": ["k"], "hits": 4, "note": "n" }));
    let old = session.clone();
    b.change(&mut session, HashMap::clear);
    // The base went with all else: this was a `clear`.
    assert_eq!(read(&session), json!({}));
    assert_eq!(read(&merged(&old, &session)), json!({}));
    a.change(&mut session, |data| drop(data.insert("hits".into(), json!(1))));
    assert_eq!(read(&merged(&session, &old)), json!({ "hits": 1 }), "what was counted before does not count");
    let request = a.load(&session);
    let mut one_less = Request { base: request.base, data: HashMap::new() };
    one_less.data.remove("hits");
    a.save(&one_less, &mut session);
    assert_eq!(read(&session), json!({}));
}

#[test]
fn clearing_and_setting_leaves_only_what_was_set() {
    let mut node = Node::new(1);
    let mut session = node.create(json!({ "x": 1, "cart": ["k", "l"], "hits": 4, "note": "n", "best": 3 }));
    let data = HashMap::from([("x".into(), json!(2)), ("cart".into(), json!(["l", "m"])), ("hits".into(), json!(1))]);
    node.save(&Request { base: None, data }, &mut session);
    assert_eq!(read(&session), json!({ "x": 2, "cart": ["l", "m"], "hits": 1 }));
}

#[test]
fn conflicts_are_noticed_where_a_write_is_lost() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let mut session = a.create(json!({ "same": 0, "hits": 1 }));
    let (mut one, mut two) = (a.load(&session), a.load(&session));
    one.data.insert("same".into(), json!(1));
    one.data.insert("hits".into(), json!(2));
    two.data.insert("same".into(), json!(2));
    two.data.insert("hits".into(), json!(2));
    let before = session.clone();
    let field = |session: &Session| session.live().unwrap().fields["same"].as_ref().clone();
    a.save(&one, &mut session);
    let between = session.clone();
    assert!(!field(&before).conflicts_with(&field(&between)));
    a.save(&two, &mut session);
    assert!(field(&between).conflicts_with(&field(&session)), "the second had not seen the first");
    assert_eq!(read(&session), json!({ "same": 2, "hits": 3 }));
    // On another node, which knew of neither.
    let mut elsewhere = before;
    b.change(&mut elsewhere, |data| drop(data.insert("same".into(), json!(3))));
    assert!(field(&session).conflicts_with(&field(&elsewhere)) && field(&elsewhere).conflicts_with(&field(&session)));
    // Who has seen a write and replaces it does not conflict with it.
    let seen = session.clone();
    a.change(&mut session, |data| drop(data.insert("same".into(), json!(4))));
    assert!(!field(&session).conflicts_with(&field(&seen)));
}

#[test]
fn dead_absorbs_everything() {
    let mut node = Node::new(1);
    let session = node.create(json!({ "user": 7 }));
    let death = |time| Session::Dead(Death { stamp: Stamp(time, 1), reason: EndReason::Invalidated, by: OWNER });
    let mut later = session.clone();
    node.change(&mut later, |data| drop(data.insert("x".into(), json!(1))));
    assert_eq!(merged(&later, &death(1)), death(1));
    assert_eq!(merged(&death(1), &later), death(1));
    assert_eq!(merged(&death(5), &death(3)), death(3));
    assert!(death(3).diff(&session).is_none());
}

#[test]
fn an_element_that_one_takes_out_and_another_puts_in_again() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let born = a.create(json!({ "cart": { "nails": 1, "screws": 2 } }));
    let (mut at_a, mut at_b) = (born.clone(), born);
    a.change(&mut at_a, |data| drop(data.insert("cart".into(), json!({ "screws": 2 }))));
    b.change(&mut at_b, |data| drop(data.insert("cart".into(), json!({ "nails": 5, "screws": 2, "pins": 1 }))));
    // B's clock is ahead.
    assert_eq!(read(&merged(&at_a, &at_b)), json!({ "cart": { "nails": 5, "screws": 2, "pins": 1 } }));
    let mut all_gone = merged(&at_a, &at_b);
    a.change(&mut all_gone, |data| drop(data.remove("cart")));
    assert_eq!(read(&all_gone), json!({}));
    assert_eq!(read(&merged(&at_b, &all_gone)), json!({}));
    a.change(&mut all_gone, |data| drop(data.insert("cart".into(), json!([]))));
    assert_eq!(read(&all_gone), json!({ "cart": [] }));
}

#[test]
fn memory_of_what_is_gone_is_bounded() {
    let mut node = Node::new(1);
    let mut session = node.create(json!({ "stays": 1, "cart": [] }));
    for i in 0..2000 {
        node.change(&mut session, |data| {
            data.insert(format!("field {i}"), json!(i));
            data.insert("cart".into(), json!([i]));
        });
        node.change(&mut session, |data| drop(data.remove(&format!("field {i}"))));
    }
    assert!(session.live().unwrap().fields.len() <= MAX_REMOVED + 2);
    assert!(rmp_serde::to_vec_named(&session).unwrap().len() < 40_000);
    assert_eq!(read(&session), json!({ "stays": 1, "cart": [1999] }));
    let mut nodes: Vec<Node> = (2..100).map(Node::new).collect();
    for node in &mut nodes {
        let number = node.node;
        node.change(&mut session, |data| drop(data.insert("stays".into(), json!(number))));
    }
    assert_eq!(session.live().unwrap().writers.len(), MAX_WRITERS);
}

#[test]
fn what_is_forgotten_takes_nothing_along_that_nobody_had_seen() {
    let (mut a, mut b) = (Node::new(2), Node::new(1));
    let many: Vec<u64> = (0..400).collect();
    let born = a.create(json!({ "cart": many, "best": 0, "note": "born" }));
    let (mut at_a, mut at_b) = (born.clone(), born.clone());
    // B's clock is behind, and it writes once; A takes out more than is remembered, and writes more often.
    b.change(&mut at_b, |data| {
        data.insert("cart".into(), json!((0..401).collect::<Vec<u64>>()));
        data.insert("best".into(), json!(1_000_000));
        data.insert("note".into(), json!("of b"));
    });
    a.change(&mut at_a, |data| drop(data.insert("cart".into(), json!([]))));
    for number in 0..300 {
        a.change(&mut at_a, |data| {
            data.insert("best".into(), json!(number));
            data.insert("note".into(), json!(number));
        });
    }
    let both = read(&merged(&at_a, &at_b));
    assert_eq!(both, read(&merged(&at_b, &at_a)));
    assert_eq!(both, json!({ "cart": [400], "best": 1_000_000, "note": { "conflict": ["of b", 299] } }));
    // What A had seen and taken out does not come back, remembered or not.
    assert_eq!(read(&merged(&at_a, &born))["cart"], json!([]));
}

#[test]
fn what_is_too_large_is_refused() {
    let data = HashMap::from([("x".to_owned(), json!("a".repeat(100)))]);
    let change = Change::between((None, None), &data, (IDLE, OWNER), &policies(), HASHES);
    let limits = |field| Limits { field, session: 1000 };
    assert_eq!(change.check(limits(102)), Ok(()));
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    for (depth, is_fit) in [(120, true), (121, false), (200, false)] {
        let data = HashMap::from([("x".to_owned(), nested(depth))]);
        let change = Change::between((None, None), &data, (IDLE, OWNER), &policies(), HASHES);
        assert_eq!(change.check(limits(1000)).is_ok(), is_fit);
        assert!(!is_fit || serde_json::from_str::<Value>(&nested(depth).to_string()).is_ok());
    }
    assert_eq!(change.check(limits(101)), Err(Unfit::FieldTooLarge { field: "x".into(), bytes: 102, limit: 101 }));
}

/// Whatever a request may do.
fn change_anything(rng: &mut fastrand::Rng, data: &mut HashMap<String, Value>, number: u64) {
    for _ in 0..rng.u8(1..4) {
        let name = rng.choice(["user", "theme", "cart", "hits", "best", "note", "other"]).unwrap();
        match (name, rng.u8(0..6)) {
            (_, 0) => drop(data.remove(name)),
            ("cart", 1) => drop(data.insert(name.into(), json!({ "as an object": number }))),
            ("cart", 2..) => {
                let mut cart = data.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
                if rng.bool() && !cart.is_empty() {
                    cart.remove(rng.usize(0..cart.len()));
                }
                cart.push(json!(rng.u8(0..8)));
                drop(data.insert(name.into(), cart.into()));
            }
            ("hits", _) => {
                let earlier = data.get(name).and_then(Value::as_i64).unwrap_or_default();
                drop(data.insert(name.into(), json!(earlier + rng.i64(-3..10))));
            }
            ("user", 1) if rng.u8(0..8) == 0 => data.clear(),
            _ => drop(data.insert(name.into(), json!(number))),
        }
    }
}

/// States that a session came to on three nodes that write, hear of each other now and then, and may differ in the rules of a field.
fn history(seed: u64) -> Vec<Session> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut nodes = [Node::new(1), Node::new(2), Node::new(3)];
    if rng.u8(0..4) == 0 {
        nodes[2].policies.set("user", Conflict::KeepAll);
        nodes[2].policies.set("cart", Conflict::LastWrite);
    }
    let born = nodes[0].create(json!({ "user": 1, "cart": [1], "hits": 1, "best": 1, "note": 1 }));
    let mut replicas = [born.clone(), born.clone(), born];
    let mut states = Vec::new();
    let mut stale: Vec<Request> = Vec::new();
    for number in 0..30 {
        let at = rng.usize(0..3);
        match rng.u8(0..10) {
            0..=5 => {
                let mut request = nodes[at].load(&replicas[at]);
                let has_base = request.base.is_some();
                change_anything(&mut rng, &mut request.data, number);
                if request.data.is_empty() && has_base {
                    request.base = None;
                }
                if rng.u8(0..3) == 0 {
                    stale.push(request);
                } else {
                    let earlier = replicas[at].clone();
                    nodes[at].save(&request, &mut replicas[at]);
                    check_delta(&earlier, &replicas[at]);
                }
            }
            6 if !stale.is_empty() => {
                let request = stale.swap_remove(rng.usize(0..stale.len()));
                let earlier = replicas[at].clone();
                nodes[at].save(&request, &mut replicas[at]);
                check_delta(&earlier, &replicas[at]);
            }
            _ => {
                let from = rng.usize(0..3);
                let earlier = replicas[at].clone();
                replicas[at] = merged(&earlier, &replicas[from]);
                check_delta(&earlier, &replicas[at]);
            }
        }
        states.push(replicas[at].clone());
    }
    states
}

/// What travels turns the one into the other, also after it was written and read.
fn check_delta(earlier: &Session, later: &Session) {
    let delta = later.diff(earlier).unwrap();
    assert_eq!(&earlier.clone().apply(&delta).unwrap(), later);
    let bytes = rmp_serde::to_vec_named(later).unwrap();
    assert_eq!(&rmp_serde::from_slice::<Session>(&bytes).unwrap(), later);
}

#[test]
fn merging_gives_the_same_in_any_order() {
    Seeds::from_env_or(200).run("cargo test -p tribes-sessions --lib merging_gives", |seed| {
        let states = history(seed);
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x0DD);
        for _ in 0..20 {
            let pick = |rng: &mut fastrand::Rng| states[rng.usize(0..states.len())].clone();
            let (a, b, c) = (pick(&mut rng), pick(&mut rng), pick(&mut rng));
            assert_eq!(merged(&a, &a), a, "seed {seed}");
            assert_eq!(merged(&a, &b), merged(&b, &a), "seed {seed}");
            assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)), "seed {seed}");
        }
        let mut shuffled = states.clone();
        rng.shuffle(&mut shuffled);
        let all = |states: &[Session]| states.iter().cloned().reduce(Session::merge).unwrap();
        assert_eq!(all(&states), all(&shuffled), "seed {seed}");
    });
}

/// What a request brings back is read alike, whether it was given last or not.
#[test]
fn a_base_that_was_given_last_is_not_read_again() {
    let policies = Policies::default();
    let data: HashMap<String, Value> = HashMap::from([("user".to_owned(), 7.into()), ("cart".to_owned(), "[]".into())]);
    let change = Change::between((None, None), &data, (Lifetime::Unlimited, [1; 16]), &policies, HASHES);
    let document = change.new_document(Stamp(5, 1), HASHES);
    assert!(document.was_loaded().is_none());
    let loaded = document.loaded(ID, &policies, HASHES);
    let given = loaded.data(0xabc);
    assert_eq!(given.len(), 3);
    let read = Base::from_value(&given[BASE_KEY], None).unwrap();
    assert_eq!(Base::from_value(&given[BASE_KEY], document.was_loaded()), Some(read.clone()));
    assert_eq!((read.nonce, read.id), (0xabc, ID));
    assert_eq!(read, Base::of((ID, 0xabc), &document, &policies, HASHES).1);
    // Another state: what was given last is another, and this one is read.
    let mut later = document.clone();
    assert!(later.was_loaded().is_none(), "a copy, which is to be changed");
    later.note(Stamp(6, 2));
    let other = Change::between((None, None), &HashMap::new(), (Lifetime::Unlimited, [1; 16]), &policies, HASHES)
        .new_document(Stamp(9, 9), HASHES);
    other.loaded(ID, &policies, HASHES);
    assert_eq!(Base::from_value(&given[BASE_KEY], other.was_loaded()), Some(read));
}

/// What requests are given of a state is made of what they were given of the one before, and what they changed is found by looking
/// at what they were given: with the same outcome as without.
#[test]
fn what_states_have_in_common_is_made_once() {
    Seeds::from_env_or(200).run("cargo test -p tribes-sessions --lib have_in_common", |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut node, mut other) = (Node::new(1), Node::new(2));
        let mut session = node.create(json!({ "user": 1, "cart": [1], "hits": 1, "best": 1, "note": 1, "zero": 0.0 }));
        for number in 0..30 {
            let earlier = session.clone();
            let Session::Live(before) = &session else { unreachable!() };
            let given = before.loaded(ID, &node.policies, HASHES);
            let mut data = given.data(number);
            let base = Base::from_value(&data[BASE_KEY], Some(given)).unwrap();
            assert!(given.given_with(&base).is_some());
            change_anything(&mut rng, &mut data, number);
            data.insert("zero".into(), json!(if rng.bool() { 0.0 } else { -0.0 }));
            let changes = [Some(given), None]
                .map(|given| Change::between((Some(&base), given), &data, (IDLE, OWNER), &node.policies, HASHES));
            assert_eq!(format!("{:?}", changes[0]), format!("{:?}", changes[1]), "seed {seed}");
            let mut later = before.clone();
            let stamp = node.stamp(later.latest());
            if changes[0].apply(&mut later, stamp, HASHES) {
                later.load_after(before);
                let anew = Loaded::of(ID, &later, &node.policies, HASHES);
                // Now and then nobody looks at a state, or the one before is still there.
                if rng.u8(0..4) > 0 {
                    assert_eq!(later.loaded(ID, &node.policies, HASHES), &anew, "seed {seed}");
                }
                session = Session::Live(later);
            }
            if rng.u8(0..4) == 0 {
                // Another node wrote meanwhile.
                let mut theirs = earlier;
                other.change(&mut theirs, |data| change_anything(&mut rng, data, number));
                session = merged(&session, &theirs);
            }
        }
    });
}

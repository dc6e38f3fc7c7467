//! Rules both ways, alone and against each other.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const WHY: &str = "it is so";

const fn layer(name: &'static str, changes_bytes: bool, rules: &'static [Rule]) -> Placed {
    Placed { name, changes_bytes, rules }
}

const PLAIN: Placed = layer("plain", false, &[]);
const CHANGES: Placed = layer("changes", true, &[]);

/// Who has to go above whom, and whether that is advice.
fn misplaced(faults: &[BuildFault]) -> Vec<(&'static str, &'static str, bool)> {
    let moves = faults.iter().map(|fault| match fault {
        BuildFault::Misplaced { upper, lower, advised, .. } => (*upper, *lower, *advised),
        fault => panic!("{fault}"),
    });
    moves.collect()
}

#[test]
fn each_kind_of_rule_both_ways() {
    const ABOVE: &[Rule] = &[Rule::above("plain", WHY)];
    const BELOW: &[Rule] = &[Rule::below("plain", WHY)];
    const ABOVE_ALL: &[Rule] = &[Rule::above_all_that_change_bytes(WHY)];
    const BELOW_ALL: &[Rule] = &[Rule::below_all_that_change_bytes(WHY)];
    for (rules, is_above, other) in
        [(ABOVE, true, PLAIN), (BELOW, false, PLAIN), (ABOVE_ALL, true, CHANGES), (BELOW_ALL, false, CHANGES)]
    {
        // Its own effect on bytes is none of its own business.
        for changes_bytes in [false, true] {
            let it = layer("it", changes_bytes, rules);
            let [right, wrong] = if is_above { [[it, other], [other, it]] } else { [[other, it], [it, other]] };
            assert!(look_at(&right, true).faults.is_empty(), "{rules:?}");
            let found = look_at(&wrong, true);
            let upper = right[0].name;
            assert_eq!(misplaced(&found.faults), [(upper, right[1].name, false)], "{rules:?}");
            let text = found.faults[0].to_string();
            let fix = format!("; move {upper} directly above {}", right[1].name);
            assert!(text.contains("as it is so") && text.ends_with(&fix), "{text}");
            // Nobody else is meant.
            let bystander = layer("bystander", false, &[]);
            assert!(look_at(&[bystander, it], true).faults.is_empty());
            assert!(look_at(&[it, bystander], true).faults.is_empty());
        }
    }
}

#[test]
fn advice_is_a_fault_unless_it_is_waived() {
    const RULES: &[Rule] = &[Rule::above("plain", WHY).advised()];
    let stack = [PLAIN, layer("it", false, RULES)];
    let strict = look_at(&stack, true);
    assert_eq!((misplaced(&strict.faults), strict.advice.len()), (vec![("it", "plain", true)], 0));
    assert!(strict.faults[0].to_string().ends_with("`order_check(false)`)"), "{}", strict.faults[0]);
    let lenient = look_at(&stack, false);
    assert_eq!((lenient.faults.len(), misplaced(&lenient.advice)), (0, vec![("it", "plain", true)]));
}

#[test]
fn what_two_layers_say_of_each_other_is_said_once_and_bindingly() {
    const ABOVE: &[Rule] = &[Rule::above("other", WHY).advised()];
    const BELOW: &[Rule] = &[Rule::below("it", "both say so")];
    let found = look_at(&[layer("other", false, BELOW), layer("it", false, ABOVE)], false);
    assert_eq!(misplaced(&found.faults), [("it", "other", false)]);
    assert!(found.advice.is_empty() && found.faults[0].to_string().contains("both say so"));
}

#[test]
fn what_binds_sets_advice_aside() {
    // As encrypt, which advises to stand below all that change bytes, and a layer that knows better.
    const ADVISED: &[Rule] = &[Rule::below_all_that_change_bytes(WHY).advised()];
    const BINDING: &[Rule] = &[Rule::below("it", WHY)];
    let (it, other) = (layer("it", true, ADVISED), layer("other", true, BINDING));
    for strict in [false, true] {
        let found = look_at(&[it, other], strict);
        assert!(found.faults.is_empty() && found.advice.is_empty(), "{found:?}");
        assert_eq!(misplaced(&look_at(&[other, it], strict).faults), [("it", "other", false)]);
    }
}

#[test]
fn what_no_order_suits_is_said_once() {
    const LAST: &[Rule] = &[Rule::below_all_that_change_bytes("it wants the last word")];
    let [one, two] = [layer("one", true, LAST), layer("two", true, LAST)];
    for stack in [[one, two], [two, one]] {
        let found = look_at(&stack, false);
        let [BuildFault::Contradiction { layers, .. }] = &*found.faults else { panic!("{found:?}") };
        assert_eq!(BTreeSet::from_iter(layers), BTreeSet::from([&"one", &"two"]));
        let text = found.faults[0].to_string();
        assert!(
            text.contains("two belongs above one, as it wants the last word") && text.ends_with("remove one of them")
        );
    }
    // Three in a circle, and one outside of it that is misplaced.
    const A: &[Rule] = &[Rule::above("b", WHY), Rule::above("plain", WHY)];
    const B: &[Rule] = &[Rule::above("c", WHY)];
    const C: &[Rule] = &[Rule::above("a", WHY)];
    let found = look_at(&[PLAIN, layer("a", false, A), layer("b", false, B), layer("c", false, C)], true);
    let [BuildFault::Contradiction { layers, because }, BuildFault::Misplaced { upper: "a", lower: "plain", .. }] =
        &*found.faults
    else {
        panic!("{found:?}")
    };
    assert_eq!((layers.len(), because.matches("belongs above").count()), (3, 3));
    // Advice among layers that contradicts itself binds nobody who waives it.
    const ADVISED: &[Rule] = &[Rule::below_all_that_change_bytes(WHY).advised()];
    let stack = [layer("one", true, ADVISED), layer("two", true, ADVISED)];
    assert_eq!((look_at(&stack, true).faults.len(), look_at(&stack, false).faults.len()), (1, 0));
}

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Rules that suit the order of [`NAMES`], at random; some of them advice.
fn rules() -> impl Strategy<Value = Vec<Placed>> {
    let pairs = prop::collection::vec((0..NAMES.len(), 0..NAMES.len(), any::<bool>(), any::<bool>()), 0..20);
    pairs.prop_map(|pairs| {
        let mut rules = vec![Vec::new(); NAMES.len()];
        for (one, other, by_upper, advised) in pairs.into_iter().filter(|(one, other, ..)| one != other) {
            let (upper, lower) = (one.min(other), one.max(other));
            let rule = if by_upper { Rule::above(NAMES[lower], WHY) } else { Rule::below(NAMES[upper], WHY) };
            rules[if by_upper { upper } else { lower }].push(if advised { rule.advised() } else { rule });
        }
        let placed = NAMES.into_iter().zip(rules);
        placed.map(|(name, rules)| layer(name, false, Vec::leak(rules))).collect()
    })
}

proptest! {
    #[test]
    fn whoever_follows_the_fixes_comes_to_an_end(stack in rules().prop_shuffle(), seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut stack = stack;
        let mut moves = 0;
        loop {
            let found = look_at(&stack, true);
            let Some(index) = (!found.faults.is_empty()).then(|| rng.usize(..found.faults.len())) else { break };
            let BuildFault::Misplaced { upper, lower, .. } = found.faults[index] else {
                panic!("{found:?}")
            };
            let from = stack.iter().position(|layer| layer.name == upper).unwrap();
            let layer = stack.remove(from);
            let to = stack.iter().position(|layer| layer.name == lower).unwrap();
            prop_assert!(to < from);
            stack.insert(to, layer);
            moves += 1;
            prop_assert!(moves < 1000, "{stack:?}");
        }
    }

    #[test]
    fn an_order_that_suits_all_is_never_refused(stack in rules()) {
        let found = look_at(&stack, true);
        prop_assert!(found.faults.is_empty() && found.advice.is_empty(), "{found:?}");
    }

    #[test]
    fn rules_at_random_are_looked_at_in_finite_time(stack in rules(), others in rules(), strict: bool) {
        // Those of the other half suit the reverse order: there is nearly always a contradiction.
        let last = NAMES.len() - 1;
        let turned = |rule: &Rule| {
            let name = |at: usize| NAMES[last - at];
            let at = NAMES.iter().position(|known| rule.is_about(known, false)).unwrap();
            if rule.asks_above() { Rule::above(name(at), WHY) } else { Rule::below(name(at), WHY) }
        };
        let stack: Vec<_> = stack.into_iter().enumerate().map(|(at, placed)| {
            let own = placed.rules.iter().copied().chain(others[last - at].rules.iter().map(turned)).collect::<Vec<_>>();
            Placed { rules: Vec::leak(own), ..placed }
        }).collect();
        for fault in look_at(&stack, strict).faults {
            match fault {
                BuildFault::Misplaced { upper, lower, .. } => prop_assert_ne!(upper, lower),
                BuildFault::Contradiction { layers, .. } => prop_assert!(layers.len() >= 2),
                fault => panic!("{fault}"),
            }
        }
    }
}

//! Whether the layers of a stack stand in an order that suits them all. No layer is called here.

use std::collections::BTreeMap;

use crate::error::BuildFault;
use crate::interceptor::Rule;

/// What a layer says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) name: &'static str,
    pub(super) changes_bytes: bool,
    pub(super) rules: &'static [Rule],
}

/// What is wrong.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<BuildFault>,
    /// What is only poor; with a check for the order, that is among the faults.
    pub(super) advice: Vec<BuildFault>,
}

/// Who belongs above whom, and why: names, in the order in which they are to stand.
type Demands = BTreeMap<(&'static str, &'static str), Rule>;

/// Looks at the layers, topmost first. Advice counts as fault if `strict`.
///
/// The fix of each [`BuildFault::Misplaced`] moves the layer that stands too low up. That comes to an end however often it
/// is done and in whatever order: each move puts a layer with fewer others that belong above it, directly or by way of
/// others, in the place of one with more. What contradicts itself, so that no order would do, has a fault of its own.
pub(super) fn look_at(layers: &[Placed], strict: bool) -> Findings {
    let mut findings = Findings::default();
    let mut demands = demands(layers);
    while let Some(circle) = circle(&demands) {
        let is_advised = |pair: &(_, _)| demands.get(pair).is_some_and(Rule::is_advised);
        if circle.iter().any(|pair| !is_advised(pair)) && circle.iter().any(is_advised) {
            // What binds sets advice aside.
            let advised: Vec<_> = circle.into_iter().filter(is_advised).collect();
            demands.retain(|pair, _| !advised.contains(pair));
            continue;
        }
        let mut because = Vec::new();
        let found = if circle.iter().all(is_advised) && !strict { &mut findings.advice } else { &mut findings.faults };
        for pair in &circle {
            if let Some(rule) = demands.remove(pair) {
                because.push(format!("{} belongs above {}, as {}", pair.0, pair.1, rule.because()));
            }
        }
        let layers = circle.iter().map(|(upper, _)| *upper).collect();
        found.push(BuildFault::Contradiction { layers, because: because.join("; ") });
    }
    for ((upper, lower), rule) in demands {
        if is_against(layers, upper, lower) {
            let found = if rule.is_advised() && !strict { &mut findings.advice } else { &mut findings.faults };
            let (because, advised) = (rule.because(), rule.is_advised());
            found.push(BuildFault::Misplaced { upper, lower, because, advised });
        }
    }
    findings
}

/// All that the layers ask of each other, once for each pair.
fn demands(layers: &[Placed]) -> Demands {
    let mut demands = Demands::new();
    for layer in layers {
        for other in layers.iter().filter(|other| other.name != layer.name) {
            for rule in layer.rules.iter().filter(|rule| rule.is_about(other.name, other.changes_bytes)) {
                let pair = if rule.asks_above() { (layer.name, other.name) } else { (other.name, layer.name) };
                let known = demands.entry(pair).or_insert(*rule);
                if known.is_advised() && !rule.is_advised() {
                    *known = *rule;
                }
            }
        }
    }
    demands
}

/// Whether the layer that belongs below stands above.
fn is_against(layers: &[Placed], upper: &str, lower: &str) -> bool {
    let place = |name| layers.iter().position(|layer| layer.name == name);
    place(lower) < place(upper)
}

/// Demands that nobody can meet together: each next one begins where the one before ends, and the last ends where the first
/// begins.
fn circle(demands: &Demands) -> Option<Vec<(&'static str, &'static str)>> {
    // What nothing asks to stand below, or above, of itself is in no circle.
    let mut open: Vec<_> = demands.keys().copied().collect();
    loop {
        let before = open.len();
        let all = open.clone();
        open.retain(|(upper, _)| all.iter().any(|(_, lower)| lower == upper));
        if open.len() == before {
            break;
        }
    }
    // Each that is left has one before it: whoever goes back comes to where he was.
    let mut way = vec![*open.first()?];
    loop {
        let (upper, _) = *way.last()?;
        let before = *open.iter().find(|(_, lower)| *lower == upper)?;
        if let Some(at) = way.iter().position(|pair| *pair == before) {
            let mut circle = way.split_off(at);
            circle.reverse();
            return Some(circle);
        }
        way.push(before);
    }
}

#[cfg(test)]
mod tests;

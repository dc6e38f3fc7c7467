//! A message is the same after two instances.

use bytes::Bytes;
use tribes_core::{Layer, SendOptions};

use super::super::Subject;
use super::super::bench::Bench;
use super::super::pair::Pair;
use super::super::profile::Factory;
use super::{Verdict, simulate};

/// How many neighbours each seed but the first takes.
const SOME: usize = 2;

pub(super) fn transparency(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        stack(bench, &[]).await.map_err(|error| format!("alone: {}", error.text()))?;
        let name = subject.layer().name();
        let neighbours: Vec<_> = subject.profile.neighbours.iter().filter(|(other, _)| *other != name).collect();
        let some: Vec<_> = match seed {
            1 => neighbours.clone(),
            _ if neighbours.is_empty() => Vec::new(),
            _ => (0..SOME).filter_map(|_| neighbours.get(bench.below(neighbours.len())).copied()).collect(),
        };
        for neighbour in some {
            let above = stack(bench, &[Some(neighbour), None]).await;
            let below = stack(bench, &[None, Some(neighbour)]).await;
            match (above, below) {
                (Ok(_), Ok(_)) => {}
                // The rules of a stack may allow one order only.
                (Ok(true), Err(Refused::Built(_))) | (Err(Refused::Built(_)), Ok(true)) => {}
                (Err(Refused::Built(text)), Err(Refused::Built(_))) => {
                    return Err(format!("{} can stand neither above nor below: {text}", neighbour.0));
                }
                (Err(error), _) => return Err(format!("below {}: {}", neighbour.0, error.text())),
                (_, Err(error)) => return Err(format!("above {}: {}", neighbour.0, error.text())),
            }
        }
        for _ in 0..SOME.min(neighbours.len() / 2) {
            let (upper, lower) = (bench.below(neighbours.len()), bench.below(neighbours.len()));
            let (Some(upper), Some(lower)) = (neighbours.get(upper), neighbours.get(lower)) else { continue };
            if upper.0 == lower.0 {
                continue;
            }
            match stack(bench, &[Some(upper), None, Some(lower)]).await {
                Ok(_) | Err(Refused::Built(_)) => {}
                Err(error) => return Err(format!("between {} and {}: {}", upper.0, lower.0, error.text())),
            }
        }
        Ok(())
    })
}

/// Why a stack does not do.
enum Refused {
    /// The rules of stacks do not allow it.
    Built(String),
    /// It spoils messages.
    Spoils(String),
}

impl Refused {
    fn text(&self) -> &str {
        match self {
            Self::Built(text) | Self::Spoils(text) => text,
        }
    }
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self::Spoils(text)
    }
}

/// Sends through a stack of these layers, the subject where there is `None`, and alone if there are none at all.
async fn stack(bench: &Bench, layers: &[Option<&(&'static str, Factory)>]) -> Result<bool, Refused> {
    let make = || -> Vec<Layer> {
        let layer = |layer: &Option<&(&'static str, Factory)>| layer.map_or_else(|| bench.layer(), |(_, make)| make());
        if layers.is_empty() { vec![bench.layer()] } else { layers.iter().map(layer).collect() }
    };
    let names: Vec<_> = make().iter().map(Layer::name).collect();
    let place = |name| names.iter().position(|other| *other == name);
    for (upper, lower) in &bench.subject.profile.rules {
        if place(*lower) < place(*upper) && place(*lower).is_some() {
            return Err(Refused::Built(format!("{upper} stands above {lower}")));
        }
    }
    let builder =
        make().into_iter().fold(crate::Recorder::new().install(bench.builder()), |b, layer| b.interceptor(layer));
    builder.build().map_err(|error| Refused::Built(error.to_string()))?;
    let pair = Pair::start(bench, make).await?;
    let variants = bench.variants();
    let alone = layers.is_empty();
    let some = if alone && bench.seed % 4 == 1 { variants.len() } else { 2 };
    let first = bench.below(variants.len());
    let triggers = make().iter().map(Layer::trigger).fold(SendOptions::empty(), |all, trigger| all | trigger);
    bench.neighbours.set(if alone { SendOptions::empty() } else { triggers - bench.trigger });
    for (round, options) in variants.iter().cycle().skip(first).take(some).enumerate() {
        // The neighbours act, too, now and then.
        let options = if bench.below(2) == 0 { *options } else { *options | triggers };
        let mut bodies: Vec<Bytes> = (0..4).map(|_| bench.body(bench.below(400))).collect();
        bodies.insert(bench.below(4), bench.body(0));
        bodies.retain({
            let mut empty = false;
            move |body| !body.is_empty() || !std::mem::replace(&mut empty, true)
        });
        if round == 0 {
            bodies.push(bench.body(bench.pick(&[8191, 70_000, 150_000])));
        }
        pair.carry(bench, &bodies, options).await.map_err(|error| format!("with {options}: {error}"))?;
    }
    Ok(true)
}

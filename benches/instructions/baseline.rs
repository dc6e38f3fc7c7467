//! What the cases cost when somebody last found that right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::callgrind::Cost;

/// So much more than the baseline is still accepted.
pub(crate) const TOLERANCE_PERCENT: f64 = 10.0;
/// And so much in any case, for what costs next to nothing.
const SLACK: Cost = Cost { instructions: 2.0, allocations: 0.02 };

/// The contents of `benches/baseline.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The processor's architecture.
    arch: String,
    /// The toolchain.
    rust: String,
    /// Each case's cost of one operation.
    cases: BTreeMap<String, Cost>,
}

impl Baseline {
    /// The one of this repository, if it was recorded with the same architecture and toolchain.
    pub(crate) fn load() -> Result<Self, String> {
        let path = path();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}; make one with `-- --save`", path.display()))?;
        let baseline: Self =
            serde_json::from_str(&text).map_err(|error| format!("{} is damaged: {error}", path.display()))?;
        let (arch, rust) = here();
        if (baseline.arch.as_str(), baseline.rust.as_str()) != (arch, rust) {
            return Err(format!(
                "the baseline was recorded on {} with Rust {}, and this is {arch} with Rust {rust}: they cannot be compared. \
                 After a change of the toolchain, save it anew from a commit that is known to be good: `-- --save`",
                baseline.arch, baseline.rust
            ));
        }
        Ok(baseline)
    }

    /// What the case called `name` costs in it.
    pub(crate) fn of(&self, name: &str) -> Result<Cost, String> {
        let known = self.cases.get(name).copied();
        known.ok_or_else(|| format!("the baseline has no {name}; make one with `-- --save`"))
    }

    /// Makes `measured` the baseline. Cases that were not measured keep their place if they can be compared.
    pub(crate) fn save(measured: BTreeMap<String, Cost>) -> Result<(), String> {
        let rounded = |cost: Cost| Cost {
            instructions: round(cost.instructions, 10.0),
            allocations: round(cost.allocations, 100.0),
        };
        let mut cases = Self::load().map(|known| known.cases).unwrap_or_default();
        cases.extend(measured.into_iter().map(|(name, cost)| (name, rounded(cost))));
        // Without their feature those of sessions are not known.
        let is_known = |name: &String| crate::CASES.iter().any(|case| case.name == name);
        cases.retain(|name, _| is_known(name) || !cfg!(feature = "sessions") && name.starts_with("session: "));
        let (arch, rust) = here();
        let baseline = Self { arch: arch.to_owned(), rust: rust.to_owned(), cases };
        let text = serde_json::to_string_pretty(&baseline).map_err(|error| error.to_string())?;
        let path = path();
        std::fs::write(&path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

impl Cost {
    /// Whether it is more than the baseline allows.
    pub(crate) fn is_above(self, known: Self) -> bool {
        let above = |cost: f64, known: f64, slack: f64| {
            let more = cost - known;
            more > slack && more > known * TOLERANCE_PERCENT / 100.0
        };
        above(self.instructions, known.instructions, SLACK.instructions)
            || above(self.allocations, known.allocations, SLACK.allocations)
    }
}

/// To so many steps of one. Never minus zero, which looks odd.
pub(crate) fn round(figure: f64, steps: f64) -> f64 {
    (figure * steps).round() / steps + 0.0
}

fn here() -> (&'static str, &'static str) {
    (std::env::consts::ARCH, env!("CARGO_PKG_RUST_VERSION"))
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baseline.json")
}

//! Under which seeds a suite runs.

use std::fmt;

/// The seeds that a suite runs under: `200` for those from 1 to 200, `1000..2000` for those from 1000 to 1999.
pub(super) const SEEDS: &str = "TRIBES_SEEDS";
/// The one seed that a suite runs under; a number. Goes before [`SEEDS`].
pub(super) const SEED: &str = "TRIBES_SEED";

/// Seeds that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    first: u64,
    count: u64,
}

impl Seeds {
    /// How many seeds a suite runs under unless the environment says otherwise.
    pub const DEFAULT: u64 = 3;

    /// Only this seed.
    #[must_use]
    pub const fn only(seed: u64) -> Self {
        Self { first: seed, count: 1 }
    }

    /// The first `count` seeds, from 1 on; at least one.
    #[must_use]
    pub const fn first(count: u64) -> Self {
        Self { first: 1, count: if count == 0 { 1 } else { count } }
    }

    /// What the environment says: `TRIBES_SEED=17` is that seed alone, `TRIBES_SEEDS=200` the seeds from 1 to 200,
    /// `TRIBES_SEEDS=1000..2000` those from 1000 to 1999. Without either the seeds from 1 to [`DEFAULT`](Self::DEFAULT).
    ///
    /// # Panics
    /// If a variable has another value: a run that silently tests less than it was asked for is worth nothing.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_env_or(Self::DEFAULT)
    }

    /// As [`from_env`](Self::from_env), with so many seeds unless the environment says otherwise.
    ///
    /// # Panics
    /// As [`from_env`](Self::from_env).
    #[must_use]
    pub fn from_env_or(count: u64) -> Self {
        let read = |variable: &str, read: fn(&str) -> Option<Self>| {
            let value = std::env::var(variable).ok()?;
            match read(value.trim()) {
                Some(seeds) => Some(seeds),
                None => panic!("{variable}={value} says no seeds: 17, 200 or 1000..2000 would"),
            }
        };
        read(SEED, |seed| seed.parse().ok().map(Self::only))
            .or_else(|| read(SEEDS, Self::parse))
            .unwrap_or_else(|| Self::first(count))
    }

    fn parse(text: &str) -> Option<Self> {
        let Some((first, end)) = text.split_once("..") else { return text.parse().ok().map(Self::first) };
        let (first, end): (u64, u64) = (first.parse().ok()?, end.parse().ok()?);
        (first < end).then(|| Self { first, count: end - first })
    }

    /// Runs `scenario` with each seed. If it panics, the command that replays it is printed: `TRIBES_SEED=…` before `command`.
    ///
    /// # Panics
    /// As `scenario`.
    pub fn run(self, command: &str, mut scenario: impl FnMut(u64)) {
        for seed in self.iter() {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scenario(seed)));
            if let Err(panic) = outcome {
                eprintln!("replay it by: {SEED}={seed} {command}");
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count
    }

    /// One after another.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..self.count).map(move |at| self.first.wrapping_add(at))
    }
}

impl Default for Seeds {
    /// As [`Seeds::from_env`].
    fn default() -> Self {
        Self::from_env()
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "seed {}", self.first),
            count if self.first == 1 => write!(f, "{count} seeds"),
            count => write!(f, "{count} seeds from {}", self.first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_or_refused() {
        assert_eq!(Seeds::parse("200"), Some(Seeds::first(200)));
        assert_eq!(Seeds::parse("10..13").map(|seeds| seeds.iter().collect()), Some(vec![10, 11, 12]));
        for wrong in ["", "..", "5..", "..5", "5..5", "6..5", "x", "1..x", "-1"] {
            assert_eq!(Seeds::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_seed_is_run_and_the_first_that_fails_ends_it() {
        let mut ran = Vec::new();
        Seeds::first(3).run("cargo test", |seed| ran.push(seed));
        assert_eq!(ran, [1, 2, 3]);
        let mut last = 0;
        let failing = std::panic::AssertUnwindSafe(|| {
            Seeds::first(3).run("cargo test", |seed| {
                last = seed;
                assert!(seed < 2);
            })
        });
        assert!(std::panic::catch_unwind(failing).is_err());
        assert_eq!(last, 2);
    }
}

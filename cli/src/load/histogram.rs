//! Durations counted in buckets whose width grows with them.

/// Buckets for each power of two: a bucket is at most 1/32 = 3.1 % wide.
const PER_OCTAVE: usize = 32;
/// Values below 32 have a bucket each; each of the 59 octaves above has 32.
const BUCKETS: usize = 60 * PER_OCTAVE;

/// A histogram of nanoseconds. Percentiles are the lower bound of their bucket, at most 3.1 % too small.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, nanos: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(nanos)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds all that `other` has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(bucket, count)| *bucket += count);
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The value below which `percent` of all lie, in microseconds; -1 if there is none.
    pub(super) fn percentile_us(&self, percent: u64) -> f64 {
        self.permille_us(percent * 10)
    }

    /// The same for a tenth of a percent.
    pub(super) fn permille_us(&self, permille: u64) -> f64 {
        let rank = self.count.saturating_mul(permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        at.map_or(-1.0, |at| micros(lower_bound(at)))
    }

    /// The largest value in microseconds; -1 if there is none.
    pub(super) fn max_us(&self) -> f64 {
        if self.count == 0 { -1.0 } else { micros(self.max) }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn bucket_of(nanos: u64) -> usize {
    // From 32 on: the octave, counted from 1, and the five bits below the leading one.
    let octave = nanos.checked_ilog2().unwrap_or(0).saturating_sub(4);
    let step = if octave == 0 { nanos } else { (nanos >> (octave - 1)) & 31 };
    octave as usize * PER_OCTAVE + usize::try_from(step).unwrap_or(0)
}

const fn lower_bound(bucket: usize) -> u64 {
    let (octave, step) = (bucket / PER_OCTAVE, (bucket % PER_OCTAVE) as u64);
    if octave == 0 { step } else { (32 + step) << (octave - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_leave_no_gap() {
        for value in (0..100_000).chain((17..64).map(|bits| 1 << bits)).chain([u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS, "{value}");
            let low = lower_bound(bucket);
            assert!(
                low <= value && (value - low) as f64 <= value as f64 * 0.032,
                "{value} is in the bucket from {low}"
            );
            assert_eq!(bucket_of(low), bucket);
            assert!(bucket == 0 || bucket_of(low - 1) == bucket - 1, "below {low}");
        }
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile_us(50), histogram.max_us()), (-1.0, -1.0));
        for micros in 1..=100 {
            histogram.add(micros * 1000);
        }
        for (percent, exact) in [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)] {
            let found = histogram.percentile_us(percent);
            assert!((exact * 0.968..=exact).contains(&found), "{percent} %: {found}");
        }
        assert_eq!(histogram.permille_us(995), histogram.percentile_us(100));
        assert_eq!((histogram.count(), histogram.max_us()), (100, 100.0));
    }

    #[test]
    fn merging_is_counting_together() {
        let (mut left, mut right) = (Histogram::default(), Histogram::default());
        left.add(1_000);
        right.add(9_000);
        right.add(9_000);
        left.merge(&right);
        assert_eq!((left.count(), left.max_us()), (3, 9.0));
        assert_eq!(left.percentile_us(99), right.percentile_us(50));
    }
}

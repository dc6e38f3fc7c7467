//! Which of a session's counters were seen: the last 8,192, one bit each.

/// How far a counter may lag behind the highest one that was seen.
pub(super) const WINDOW: u64 = 8192;
const WORDS: usize = 128;

/// The counters of one session. They begin at 1; gaps are allowed.
#[derive(Debug, Default)]
pub(super) struct Window {
    highest: u64,
    /// Bit `n % WINDOW` stands for counter `n`. `None`: all up to the highest count as seen.
    seen: Option<Box<[u64; WORDS]>>,
}

impl Window {
    /// Whether this counter is in the window and was not seen.
    pub(super) fn is_new(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        let Some(seen) = &self.seen else { return false };
        let (word, bit) = place(counter);
        // 0 is never used.
        counter > 0 && self.highest - counter < WINDOW && seen.get(word).is_some_and(|word| word & bit == 0)
    }

    /// Marks a counter as seen; whether it is new.
    pub(super) fn accept(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if self.seen.is_none() && counter > self.highest {
            // All before this one stay seen.
            let fresh = self.highest == 0;
            self.seen = Some(Box::new([if fresh { 0 } else { u64::MAX }; WORDS]));
        }
        let Some(seen) = &mut self.seen else { return false };
        if counter > self.highest {
            if counter - self.highest >= WINDOW {
                seen.fill(0);
            } else {
                for skipped in self.highest + 1..counter {
                    let (word, bit) = place(skipped);
                    seen.get_mut(word).into_iter().for_each(|word| *word &= !bit);
                }
            }
            self.highest = counter;
        }
        let (word, bit) = place(counter);
        seen.get_mut(word).into_iter().for_each(|word| *word |= bit);
        true
    }

    /// Gives the bits up: from now on all up to the highest counter count as seen. Whether there were any.
    pub(super) fn close(&mut self) -> bool {
        self.seen.take().is_some()
    }

    pub(super) const fn is_open(&self) -> bool {
        self.seen.is_some()
    }
}

/// The word of a counter, and its bit in there.
fn place(counter: u64) -> (usize, u64) {
    let at = counter % WINDOW;
    (usize::try_from(at / 64).unwrap_or_default(), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_passes_once_in_any_order() {
        let mut window = Window::default();
        assert!(!window.accept(0));
        for counter in [1, 3, 2, 9000, 8999, 9000 - WINDOW + 1] {
            assert!(window.accept(counter), "{counter}");
            assert!(!window.accept(counter), "{counter} again");
        }
        assert!(!window.accept(9000 - WINDOW), "behind the window");
        // What was skipped by a jump is not taken for seen, and what was seen before it is behind the window.
        assert!(window.accept(u64::MAX));
        assert!(window.accept(u64::MAX - 5));
        assert!(!window.accept(9001));
    }

    #[test]
    fn it_agrees_with_a_set() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut window, mut seen, mut highest) = (Window::default(), std::collections::HashSet::new(), 0u64);
        for _ in 0..200_000 {
            let counter = match rng.u8(..) {
                0 => highest + rng.u64(1..20_000),
                1..=99 => highest + rng.u64(1..5),
                _ => highest.saturating_sub(rng.u64(..10_000)),
            };
            let expected = counter > 0 && counter + WINDOW > highest && !seen.contains(&counter);
            assert_eq!(window.accept(counter), expected, "{counter} of {highest}, seed {seed}");
            seen.insert(counter);
            highest = highest.max(counter);
        }
    }

    #[test]
    fn a_closed_window_goes_on_above_its_highest() {
        let mut window = Window::default();
        assert!(window.accept(5));
        assert!(window.close());
        assert!(!window.accept(4), "4 was not seen, but that is no longer known");
        assert!(!window.accept(5));
        assert!(window.accept(7));
        assert!(!window.accept(4));
        assert!(window.accept(6), "between the highest then and now");
    }
}

//! Which requests are handled now, which wait, and which are turned away. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::CallId;
use crate::Member;

/// Names a request: who asked, and the call.
pub(super) type Key = (Arc<Member>, CallId);

/// So many requests are remembered, so that a copy of one is not handled again.
const REMEMBERED: usize = 4096;

/// How many requests are admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) bytes: usize,
}

/// The requests of one RPC channel. `T` is what is needed to handle one, `S` to stop that.
#[derive(Debug)]
pub(super) struct Desk<T, S> {
    bounds: Bounds,
    running: BTreeMap<Key, (usize, S)>,
    waiting: VecDeque<(Key, usize, T)>,
    /// Bytes of all of them.
    held: usize,
    seen: BTreeSet<Key>,
    order: VecDeque<Key>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted<T> {
    /// It is to be handled now.
    Run(T),
    /// It waits for its turn.
    Waits,
    /// It has been here.
    Again,
    /// There is no room for it.
    Full,
}

/// What becomes of what a caller gave up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancelled<T, S> {
    /// It was waiting, and waits no more.
    Waiting(T),
    /// It is being handled; this stops it.
    Running(S),
    /// It is done, or never came.
    Unknown,
}

impl<T, S: Clone> Desk<T, S> {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            held: 0,
            seen: BTreeSet::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// A request came. One larger than the bound is admitted alone.
    pub(super) fn request(&mut self, key: Key, bytes: usize, item: T, stop: impl FnOnce(&T) -> S) -> Admitted<T> {
        if self.seen.contains(&key) {
            return Admitted::Again;
        }
        let must_wait = self.running.len() >= self.bounds.running;
        let full = (self.held > 0 && self.held.saturating_add(bytes) > self.bounds.bytes)
            || (must_wait && self.waiting.len() >= self.bounds.waiting);
        // Also what is turned away: its caller is told that it has not run, and a copy of it must not.
        self.remember(&key);
        if full {
            return Admitted::Full;
        }
        self.held += bytes;
        if must_wait {
            self.waiting.push_back((key, bytes, item));
            return Admitted::Waits;
        }
        self.running.insert(key, (bytes, stop(&item)));
        Admitted::Run(item)
    }

    fn remember(&mut self, key: &Key) {
        self.seen.insert(key.clone());
        self.order.push_back(key.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }

    /// A request has been handled; the one whose turn it is now.
    pub(super) fn finished(&mut self, key: &Key, stop: impl FnOnce(&T) -> S) -> Option<T> {
        let (bytes, _) = self.running.remove(key)?;
        self.held -= bytes;
        if self.running.len() >= self.bounds.running {
            return None;
        }
        let (key, bytes, item) = self.waiting.pop_front()?;
        self.running.insert(key, (bytes, stop(&item)));
        Some(item)
    }

    /// Whoever handled a request was ended. When nobody is left, those who wait have no turn any more, and are returned.
    pub(super) fn abandoned(&mut self, key: &Key) -> Vec<T> {
        if let Some((bytes, _)) = self.running.remove(key) {
            self.held -= bytes;
        }
        if !self.running.is_empty() {
            return Vec::new();
        }
        self.held = 0;
        self.waiting.drain(..).map(|(_, _, item)| item).collect()
    }

    /// The caller gave it up.
    pub(super) fn cancel(&mut self, key: &Key) -> Cancelled<T, S> {
        if let Some((_, stop)) = self.running.get(key) {
            return Cancelled::Running(stop.clone());
        }
        let Some(at) = self.waiting.iter().position(|(waiting, ..)| waiting == key) else { return Cancelled::Unknown };
        match self.waiting.remove(at) {
            Some((_, bytes, item)) => {
                self.held -= bytes;
                Cancelled::Waiting(item)
            }
            None => Cancelled::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberId;

    fn key(call: u8) -> Key {
        (Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 1).into())), CallId::new([call; 16]))
    }

    fn desk() -> Desk<u8, u8> {
        Desk::new(Bounds { running: 2, waiting: 2, bytes: 100 })
    }

    fn request(desk: &mut Desk<u8, u8>, call: u8, bytes: usize) -> Admitted<u8> {
        desk.request(key(call), bytes, call, |item| *item)
    }

    #[test]
    fn some_run_some_wait_and_the_rest_is_turned_away() {
        let mut desk = desk();
        let admitted: Vec<_> = (1..=5).map(|call| request(&mut desk, call, 10)).collect();
        assert_eq!(admitted, [Admitted::Run(1), Admitted::Run(2), Admitted::Waits, Admitted::Waits, Admitted::Full]);
        assert_eq!((desk.running(), desk.waiting(), desk.held()), (2, 2, 40));
        assert_eq!(desk.finished(&key(1), |item| *item), Some(3));
        assert_eq!(desk.finished(&key(1), |item| *item), None, "once each");
        // A copy is one, also of what was turned away.
        assert_eq!(request(&mut desk, 5, 10), Admitted::Again);
        assert_eq!(request(&mut desk, 1, 10), Admitted::Again);
        assert_eq!(request(&mut desk, 6, 10), Admitted::Waits);
        assert_eq!(desk.finished(&key(2), |item| *item), Some(4));
        assert_eq!(desk.finished(&key(3), |item| *item), Some(6));
        assert_eq!((desk.finished(&key(4), |item| *item), desk.finished(&key(6), |item| *item)), (None, None));
        assert_eq!((desk.running(), desk.waiting(), desk.held()), (0, 0, 0));
    }

    #[test]
    fn bytes_are_bounded_and_a_large_request_comes_alone() {
        let mut desk = desk();
        assert_eq!(request(&mut desk, 1, 1000), Admitted::Run(1));
        assert_eq!(request(&mut desk, 2, 1), Admitted::Full);
        assert_eq!(desk.finished(&key(1), |item| *item), None);
        assert_eq!(request(&mut desk, 3, 60), Admitted::Run(3));
        assert_eq!(request(&mut desk, 4, 60), Admitted::Full);
        assert_eq!(request(&mut desk, 5, 40), Admitted::Run(5));
    }

    #[test]
    fn what_is_given_up_leaves_no_trace() {
        let mut desk = desk();
        for call in 1..=3 {
            let _ = request(&mut desk, call, 10);
        }
        assert_eq!(desk.cancel(&key(3)), Cancelled::Waiting(3));
        assert_eq!(desk.cancel(&key(3)), Cancelled::Unknown);
        assert_eq!(desk.cancel(&key(1)), Cancelled::Running(1));
        assert_eq!(desk.finished(&key(1), |item| *item), None);
        assert_eq!((desk.running(), desk.waiting(), desk.held()), (1, 0, 10));
    }

    #[test]
    fn when_all_who_handle_are_ended_nobody_waits_for_ever() {
        let mut desk = desk();
        for call in 1..=4 {
            let _ = request(&mut desk, call, 10);
        }
        assert!(desk.abandoned(&key(1)).is_empty());
        assert_eq!(desk.abandoned(&key(2)), [3, 4]);
        assert_eq!((desk.running(), desk.waiting(), desk.held()), (0, 0, 0));
        assert_eq!(request(&mut desk, 9, 10), Admitted::Run(9));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut desk: Desk<(), ()> = Desk::new(Bounds { running: 1, waiting: 1, bytes: 100 });
        for call in 0..10_000_u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&call.to_be_bytes());
            let key = (key(0).0, CallId::new(id));
            assert_eq!(desk.request(key.clone(), 1, (), |()| ()), Admitted::Run(()));
            desk.finished(&key, |()| ());
        }
        assert_eq!((desk.seen.len(), desk.order.len()), (REMEMBERED, REMEMBERED));
    }
}

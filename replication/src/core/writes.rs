//! Writes of this replica, and of others.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::Member;

use super::{Author, Core, Need, Now};
use crate::context::Seen;
use crate::message::{Message, Payload, Write};
use crate::store::{Entry, Held, Keeping, Sibling};
use crate::version::{Dot, Version};

/// Why a write is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    ValueTooLarge {
        bytes: usize,
        limit: usize,
    },
    MapFull {
        bytes: usize,
        limit: usize,
    },
    /// The key is not as it was said to be.
    Changed,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) version: Version,
    /// If its outcome was asked for: its counter.
    pub(crate) op: Option<u64>,
}

/// Whose outcome is asked for, and for how long.
pub(crate) type Wanted = Option<(Need, Duration)>;

impl Core {
    /// The writes that `key` has, for [`put_over`](Self::put_over).
    pub(crate) fn writes_at(&self, key: &[u8]) -> Vec<Dot> {
        self.store.get(key).into_iter().flat_map(Entry::writes).collect()
    }

    /// For values that consist of parts that grow, of each author: whether this replica is to begin a new part at `key`, since
    /// the values that are there do not know all that it wrote to the last one: that was removed, and somebody who has not heard
    /// of it may still come with it. And the number for a new part, greater than those of all before.
    pub(crate) fn generation(&self, key: &[u8]) -> (bool, u64) {
        let last = |sibling: Held<'_>| sibling.wrote_or_saw(self.me);
        let entry = self.store.get(key);
        let latest = entry.into_iter().flat_map(Entry::siblings).filter_map(last).max();
        let known = entry.into_iter().flat_map(Entry::siblings).filter(Held::is_live).filter_map(last).max();
        (known.is_none() || known < latest, self.written.saturating_add(1))
    }

    /// As [`put`](Self::put), if `key` has just these writes; with `diff`, those that have the same get only that.
    pub(crate) fn put_over(
        &mut self,
        key: &[u8],
        expected: &[Dot],
        value: Arc<[u8]>,
        diff: Option<Arc<[u8]>>,
        wanted: Wanted,
        now: Now,
    ) -> Result<Written, Refused> {
        if !self.store.get(key).into_iter().flat_map(Entry::writes).eq(expected.iter().copied()) {
            return Err(Refused::Changed);
        }
        self.put(key, value, diff, wanted, now)
    }

    /// Puts `value` at `key`.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        value: Arc<[u8]>,
        diff: Option<Arc<[u8]>>,
        wanted: Wanted,
        now: Now,
    ) -> Result<Written, Refused> {
        let (bytes, limit) = (value.len(), self.tuning.max_value);
        if bytes > limit {
            return Err(Refused::ValueTooLarge { bytes, limit });
        }
        let (held, limit) = (self.store.census().bytes, self.tuning.max_bytes);
        let entry = self.store.get(key);
        let had = entry.map_or(0, |entry| key.len() + entry.bytes());
        let bytes = held.saturating_sub(had) + key.len() + value.len();
        if bytes > limit {
            return Err(Refused::MapFull { bytes, limit });
        }
        let base = entry.filter(|entry| entry.len() == 1 && entry.is_live()).map(|entry| entry.latest().version.dot);
        let payload = match (diff, base) {
            (Some(diff), Some(base)) if diff.len() < value.len() => {
                self.counts.diffs_sent += 1;
                Payload::Diff { base, diff }
            }
            _ => Payload::Value(Arc::clone(&value)),
        };
        Ok(self.write(key, Some(value), payload, wanted, now))
    }

    /// Removes `key`; `None` if there is no such key.
    pub(crate) fn remove(&mut self, key: &[u8], wanted: Wanted, now: Now) -> Option<Written> {
        self.store.get(key).filter(|entry| entry.is_live())?;
        Some(self.write(key, None, Payload::Removed, wanted, now))
    }

    fn write(&mut self, key: &[u8], value: Option<Arc<[u8]>>, payload: Payload, wanted: Wanted, now: Now) -> Written {
        // Whatever others say of this replica's writes, a new one is new.
        let known = self.store.seen.of(self.me).map_or(0, Seen::highest);
        self.written = self.written.max(known).saturating_add(1);
        self.counts.written += 1;
        let dot = Dot { node: self.me, counter: self.written };
        let version = Version { time: self.clock.tick(now.wall_ms), dot };
        let past = self.store.get(key).map_or_else(Box::default, |entry| entry.past(self.store.keeping()));
        let sibling = Sibling { version, past: past.clone(), value };
        if let Some(change) = self.store.write(key, sibling, now.time) {
            self.changed(key.into(), change, Author::Here);
        }
        let write = Write { key: key.into(), version, past, payload };
        if self.unsent_bytes + write.size() > self.tuning.chunk {
            self.flush();
        }
        self.unsent_bytes += write.size();
        self.unsent.push(write);
        for peer in self.peers.values_mut() {
            peer.sent(now.time);
        }
        let op = wanted.map(|(need, within)| {
            self.unsent_ack |= need != Need::Queued;
            self.open_op(self.written, need, within, now);
            self.written
        });
        Written { version, op }
    }

    /// Makes one message of the writes that none carries yet.
    pub(crate) fn flush(&mut self) {
        let ack = std::mem::take(&mut self.unsent_ack);
        let writes = std::mem::take(&mut self.unsent);
        self.unsent_bytes = 0;
        if writes.is_empty() {
            return;
        }
        let (mut to, mut behind) = (Vec::new(), Vec::new());
        for (member, peer) in &self.peers {
            if peer.behind { &mut behind } else { &mut to }.push(Arc::clone(member));
        }
        let own: Vec<u64> = writes.iter().map(|write| write.version.dot.counter).collect();
        behind.iter().for_each(|member| self.queued(member, &own, false));
        self.send_all(to, None, Message::Write { writes, ack });
    }

    pub(super) fn writes_came(&mut self, from: &Arc<Member>, writes: Vec<Write>, ack: bool, now: Now) {
        for write in writes {
            self.write_came(from, write, now);
        }
        let Some(peer) = self.peers.get_mut(from) else { return };
        let incarnation = peer.incarnation;
        if ack {
            peer.ack_at = now.time;
        } else {
            peer.ack_lazily(now.time);
        }
        if self.store.seen.has_gap(incarnation) {
            self.wish_unless_seen(from, 0, now);
        }
        self.acknowledge(now);
    }

    fn write_came(&mut self, from: &Arc<Member>, write: Write, now: Now) {
        let Write { key, version, past, payload } = write;
        if self.store.seen.contains(version.dot) {
            self.counts.duplicates += 1;
            return;
        }
        if !self.clock.observe(version.time, now.wall_ms) {
            self.counts.refused += 1;
            tracing::warn!(member = %from, %version, "its clock is more than an hour ahead: the write is refused");
            return;
        }
        let held = self.store.get(&key);
        let value = match payload {
            Payload::Removed => None,
            Payload::Value(value) => Some(value),
            Payload::Diff { base, diff } => {
                let whole = base_of(held, base).and_then(|base| self.diffs.apply(base, &diff));
                let Some(whole) = whole else {
                    // It comes whole with the next comparison, for which this is the reason.
                    self.counts.diffs_without_base += 1;
                    return self.wish(from, now.time, true);
                };
                Some(whole)
            }
        };
        let len = value.as_ref().map_or(0, |value| value.len());
        let values = |entry: &Entry| entry.values().count();
        let before = held.map_or(0, values);
        let sibling = Sibling { version, past, value };
        let (mut bytes, one) = (self.store.census().bytes, std::slice::from_ref(&sibling));
        if !self.store.fits(&key, one, &mut bytes, self.tuning.max_value, self.tuning.max_bytes) {
            self.counts.refused += 1;
            tracing::warn!(member = %from, len, "its write is beyond this map's bounds and refused: they must be the same everywhere");
            return;
        }
        self.counts.received += 1;
        let in_conflict = self.store.keeping() == Keeping::Concurrent;
        if let Some(change) = self.store.write(&key, sibling, now.time) {
            if in_conflict && self.store.get(&key).map_or(0, values) > before.max(1) {
                self.counts.conflicts += 1;
            }
            self.changed(key, change, Author::Peer);
        } else if !in_conflict {
            // There is a later one, which came first.
            self.counts.conflicts += 1;
        }
    }
}

fn base_of(held: Option<&Entry>, base: Dot) -> Option<&Arc<[u8]>> {
    held?.siblings().find(|sibling| sibling.version.dot == base)?.value
}

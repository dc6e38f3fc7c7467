//! What tells one write from another, and which of two is later.

use std::fmt;

/// One opening of a map by one process. Random, never used again: whatever a process wrote before it was restarted keeps
/// its versions, and no new write gets one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The name of one write: who made it, and his how-manieth it was in this map. Literature calls it a *dot*.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote.
    pub node: Incarnation,
    /// His writes are numbered from 1.
    pub counter: u64,
}

impl Dot {
    /// The bytes that go into digests.
    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        ((self.node.0 as u128) << 64 | self.counter as u128).to_be_bytes()
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.node, self.counter)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.counter)
    }
}

/// A write and its time. Versions are totally ordered: first by time, then by who wrote.
///
/// The time is that of a hybrid logical clock (Kulkarni et al., 2014): later than that of every write its author knew
/// of, and otherwise close to his wall clock. So whoever overwrites what he has seen always has the later version, however
/// wrong the clocks are; between writes that did not know of each other the clocks decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// When: milliseconds since 1970 times 65,536, and a count within the millisecond.
    pub time: u64,
    /// Which write.
    pub dot: Dot,
}

impl Version {
    /// Milliseconds since 1970, about.
    #[must_use]
    pub const fn wall_ms(&self) -> u64 {
        self.time >> 16
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{} by {}", self.wall_ms(), self.time & 0xFFFF, self.dot)
    }
}

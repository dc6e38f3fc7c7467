//! What a layer does on purpose.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bitflags::bitflags;
use tribes_core::{ChannelBuilder, IntoLayer, Layer, SendOptions};

bitflags! {
    /// See the methods of [`Profile`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Deliberate: u16 {
        const DROPS = 1;
        const DUPLICATES = 2;
        const REORDERS = 4;
        const DELAYS = 8;
        /// See [`Profile::drops_received`].
        const DROPS_RECEIVED = 16;
        const SWALLOWS_MEMBERS = 32;
        const MARKS_ALL = 64;
        /// See [`Profile::agrees`].
        const AGREES = 128;
    }
}

/// Makes layers.
pub(super) type Factory = Arc<dyn Fn() -> Layer + Send + Sync>;

/// What a layer does on purpose. Nothing is declared at first; what is not declared is tested, and each declaration relaxes
/// just the checks that it contradicts.
///
/// ```
/// use tribes_testkit::suite::Profile;
///
/// // A layer that loses messages by chance.
/// let profile = Profile::default().drops();
/// ```
#[derive(Clone)]
#[must_use]
pub struct Profile {
    pub(super) deliberate: Deliberate,
    pub(super) changed: SendOptions,
    pub(super) options: SendOptions,
    pub(super) levels: Vec<&'static str>,
    pub(super) neighbours: Vec<(&'static str, Factory)>,
    pub(super) rules: Vec<(&'static str, &'static str)>,
    pub(super) channel: Option<fn(ChannelBuilder) -> ChannelBuilder>,
    pub(super) patience: Option<Duration>,
    pub(super) remembers: Option<u16>,
}

impl Default for Profile {
    /// Nothing declared.
    fn default() -> Self {
        Self {
            deliberate: Deliberate::empty(),
            // Not the default of options, which asks for an acknowledgement.
            changed: SendOptions::empty(),
            options: SendOptions::empty(),
            levels: Vec::new(),
            neighbours: Vec::new(),
            rules: Vec::new(),
            channel: None,
            patience: None,
            remembers: None,
        }
    }
}

/// # What it does on purpose
impl Profile {
    /// Messages may end in it. Relaxed: that each arrives, and that each that got there is reported so. Not relaxed: every
    /// message gets an outcome, and one that is reported as acknowledged has arrived. For a layer that drops on the way down;
    /// one that drops what it received declares [`drops_received`](Self::drops_received).
    pub const fn drops(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::DROPS);
        self
    }

    /// Messages may end in it at the receiver, where [`Verdict::Drop`](tribes_core::Verdict::Drop) acknowledges them all the
    /// same, and [`Verdict::Refuse`](tribes_core::Verdict::Refuse) unless their sender asked for a synchronized
    /// acknowledgement. Relaxed: as by [`drops`](Self::drops), and that one that is reported as acknowledged has arrived.
    pub const fn drops_received(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::DROPS).union(Deliberate::DROPS_RECEIVED);
        self
    }

    /// A message may arrive more than once. Relaxed: that it arrives at most once.
    pub const fn duplicates(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::DUPLICATES);
        self
    }

    /// Messages may overtake each other. Relaxed: that what one task sends to one member arrives in its order.
    pub const fn reorders(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::REORDERS);
        self
    }

    /// Messages may take a while in it. Relaxed: that a message goes through a quiet stack without any time passing. It still
    /// has to come out within the [patience](Self::patience).
    pub const fn delays(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::DELAYS);
        self
    }

    /// A message may arrive with other options than it was sent with, as far as these bits go. Relaxed: that they stay as they
    /// are. All other bits have to.
    pub const fn changes_options(mut self, bits: SendOptions) -> Self {
        self.changed = self.changed.union(bits);
        self
    }

    /// Some members are hidden from the layers above. Relaxed: that every membership event comes through, in order. Not
    /// relaxed: that what comes through is consistent, so that nobody is updated, suspected or removed who was not added, or
    /// added twice.
    pub const fn swallows_members(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::SWALLOWS_MEMBERS);
        self
    }

    /// It remembers members that left, at most so many. Relaxed: that it remembers no more than 100 of them.
    pub const fn remembers(mut self, members: u16) -> Self {
        self.remembers = Some(members);
        self
    }

    /// A message reaches all of its destinations or none of them, after the members have agreed on it. Relaxed: that a living
    /// member gets what a dead one cannot, that a fault of one destination is none of the others, and that a message arrives, and
    /// its answer says what became of it, without another word between the members. Not relaxed: that all is told to each
    /// destination's account, and that either all of them fail or none.
    pub const fn agrees(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::AGREES);
        self
    }

    /// It changes the bytes of messages that its trigger does not match, too, as Tribes' wire demands of `gzip` and
    /// `fragmentation`. Relaxed: that such a message leaves the stack as it was, and that one from below arrives so. Not
    /// relaxed: that it arrives unchanged after two instances.
    pub const fn marks_all(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::MARKS_ALL);
        self
    }
}

/// # How it is tested
impl Profile {
    /// All messages are sent with these options, too.
    pub const fn options(mut self, options: SendOptions) -> Self {
        self.options = options;
        self
    }

    /// The gauges of the layer that say what it keeps *now*, as against those that count: they have to be at zero again when
    /// the traffic has ended.
    pub fn levels(mut self, gauges: impl IntoIterator<Item = &'static str>) -> Self {
        self.levels.extend(gauges);
        self
    }

    /// Tests the layer above and below another one, too, called `name` in reports, which must itself conform. Two stacks of
    /// three are tried besides, picked by the seed. The seed 1 takes every neighbour, any other seed a few.
    pub fn between<F, L, Form>(mut self, name: &'static str, factory: F) -> Self
    where
        F: Fn() -> L + Send + Sync + 'static,
        L: IntoLayer<Form>,
    {
        self.neighbours.push((name, Arc::new(move || factory().into_layer())));
        self
    }

    /// Of these two layers, by their names, the first stands above the second wherever both are in a stack: the other order is
    /// not tried. A stack that cannot be built is not tried anyway.
    pub fn stands_above(mut self, upper: &'static str, lower: &'static str) -> Self {
        self.rules.push((upper, lower));
        self
    }

    /// Every channel is built like this, for instance with a domain.
    pub const fn channel(mut self, configure: fn(ChannelBuilder) -> ChannelBuilder) -> Self {
        self.channel = Some(configure);
        self
    }

    /// How long, in virtual time, anything may take, and after how long a layer has let go of what it keeps. Default 30 s for
    /// the one, and ten times that for the other.
    pub const fn patience(mut self, limit: Duration) -> Self {
        self.patience = Some(limit);
        self
    }

    pub(super) const fn is(&self, deliberate: Deliberate) -> bool {
        self.deliberate.contains(deliberate)
    }

    /// What is declared, for reports.
    pub(super) fn declared(&self) -> Vec<&'static str> {
        [
            (Deliberate::DROPS, "drops"),
            (Deliberate::DUPLICATES, "duplicates"),
            (Deliberate::REORDERS, "reorders"),
            (Deliberate::DELAYS, "delays"),
            (Deliberate::DROPS_RECEIVED, "drops_received"),
            (Deliberate::SWALLOWS_MEMBERS, "swallows_members"),
            (Deliberate::MARKS_ALL, "marks_all"),
            (Deliberate::AGREES, "agrees"),
        ]
        .into_iter()
        .filter_map(|(bit, name)| self.is(bit).then_some(name))
        .chain((!self.changed.is_empty()).then_some("changes_options"))
        .chain(self.remembers.map(|_| "remembers"))
        .collect()
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let neighbours: Vec<_> = self.neighbours.iter().map(|(name, _)| name).collect();
        f.debug_struct("Profile")
            .field("declared", &self.declared())
            .field("options", &self.options)
            .field("levels", &self.levels)
            .field("neighbours", &neighbours)
            .finish_non_exhaustive()
    }
}

//! What a layer does on purpose.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bitflags::bitflags;
use tribes_core::{ChannelBuilder, IntoLayer, Layer, SendOptions};

bitflags! {
    /// See the methods of [`Profile`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Deliberate: u16 {
        const DROPS = 1;
        const DUPLICATES = 2;
        const REORDERS = 4;
        const DELAYS = 8;
        const CHANGES_OPTIONS = 16;
        const SWALLOWS_MEMBERS = 32;
        const MARKS_ALL = 64;
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
#[derive(Clone, Default)]
#[must_use]
pub struct Profile {
    pub(super) deliberate: Deliberate,
    pub(super) options: SendOptions,
    pub(super) levels: Vec<&'static str>,
    pub(super) neighbours: Vec<(&'static str, Factory)>,
    pub(super) channel: Option<fn(ChannelBuilder) -> ChannelBuilder>,
    pub(super) allocated: Option<fn() -> usize>,
    pub(super) patience: Option<Duration>,
}

/// # What it does on purpose
impl Profile {
    /// Messages may end in it. Relaxed: that each arrives, and that each that got there is reported so. Not relaxed: every
    /// message gets an outcome, and one that is reported as acknowledged has arrived.
    pub const fn drops(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::DROPS);
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

    /// A message may arrive with other options than it was sent with. Relaxed: that it does not.
    pub const fn changes_options(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::CHANGES_OPTIONS);
        self
    }

    /// Some members are hidden from the layers above. Relaxed: that every membership event comes through, in order. Not
    /// relaxed: that what comes through is consistent, so that nobody is updated, suspected or removed who was not added, or
    /// added twice.
    pub const fn swallows_members(mut self) -> Self {
        self.deliberate = self.deliberate.union(Deliberate::SWALLOWS_MEMBERS);
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

    /// Every channel is built like this, for instance with a domain.
    pub const fn channel(mut self, configure: fn(ChannelBuilder) -> ChannelBuilder) -> Self {
        self.channel = Some(configure);
        self
    }

    /// How many bytes are allocated now, by an allocator that counts. The kit cannot bring one; with it `garbage` also demands
    /// that what a hostile peer sends is not kept.
    pub const fn allocated(mut self, bytes: fn() -> usize) -> Self {
        self.allocated = Some(bytes);
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
            (Deliberate::CHANGES_OPTIONS, "changes_options"),
            (Deliberate::SWALLOWS_MEMBERS, "swallows_members"),
            (Deliberate::MARKS_ALL, "marks_all"),
        ]
        .into_iter()
        .filter_map(|(bit, name)| self.is(bit).then_some(name))
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

//! What a layer asks of its place among the others.

use std::fmt;

/// One demand of a layer on its place in the stack, checked when the channel is built
/// ([`BuildFault::Misplaced`](crate::error::BuildFault::Misplaced)).
///
/// A rule is about another layer, or about all layers that change bytes: those whose
/// [`wire`](crate::SyncInterceptor::wire) is not [`WireEffect::None`](crate::WireEffect::None). It says nothing if there is
/// no such layer in the stack. "Above" is nearer to the application.
///
/// A rule is binding or [advised](Self::advised): binding where a stack against it does not do what it seems to do, advised
/// where it is merely poor. Both are faults;
/// [`ChannelBuilder::order_check(false)`](crate::ChannelBuilder::order_check) makes advice a warning. Where two layers ask
/// for opposite places, a binding rule sets an advised one aside.
///
/// ```
/// use tribes_core::{Rule, SyncInterceptor, WireEffect};
///
/// /// Adds a checksum to each body.
/// #[derive(Debug)]
/// struct Checksum;
///
/// impl SyncInterceptor for Checksum {
///     fn name(&self) -> &'static str {
///         "checksum"
///     }
///     fn wire(&self) -> WireEffect {
///         WireEffect::Ours
///     }
///     fn placement(&self) -> &'static [Rule] {
///         const RULES: &[Rule] = &[
///             Rule::below("gzip", "checksum is to find what was damaged on the way, compressed bytes included").advised(),
///             Rule::above("fragmentation", "fragmentation would have checksum look at pieces"),
///         ];
///         RULES
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    side: Side,
    other: Other,
    because: &'static str,
    advised: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Named(&'static str),
    ChangesBytes,
}

impl Rule {
    /// The layer stands above the one called `name`. `because` is a sentence without its full stop that names the layers it
    /// is about; it stands in the error.
    #[must_use]
    pub const fn above(name: &'static str, because: &'static str) -> Self {
        Self::new(Side::Above, Other::Named(name), because)
    }

    /// The layer stands below the one called `name`.
    #[must_use]
    pub const fn below(name: &'static str, because: &'static str) -> Self {
        Self::new(Side::Below, Other::Named(name), because)
    }

    /// The layer stands above all others that change bytes.
    #[must_use]
    pub const fn above_all_that_change_bytes(because: &'static str) -> Self {
        Self::new(Side::Above, Other::ChangesBytes, because)
    }

    /// The layer stands below all others that change bytes.
    #[must_use]
    pub const fn below_all_that_change_bytes(because: &'static str) -> Self {
        Self::new(Side::Below, Other::ChangesBytes, because)
    }

    /// The same rule as advice.
    #[must_use]
    pub const fn advised(mut self) -> Self {
        self.advised = true;
        self
    }

    const fn new(side: Side, other: Other, because: &'static str) -> Self {
        Self { side, other, because, advised: false }
    }

    /// Why.
    #[must_use]
    pub const fn because(&self) -> &'static str {
        self.because
    }

    /// Whether it is advice.
    #[must_use]
    pub const fn is_advised(&self) -> bool {
        self.advised
    }

    /// Whether it is about a layer of this name that changes bytes, or does not.
    pub(crate) fn is_about(&self, name: &str, changes_bytes: bool) -> bool {
        match self.other {
            Other::Named(named) => named == name,
            Other::ChangesBytes => changes_bytes,
        }
    }

    /// Whether it asks for the place above.
    pub(crate) const fn asks_above(&self) -> bool {
        matches!(self.side, Side::Above)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.asks_above() { "above" } else { "below" };
        match self.other {
            Other::Named(name) => write!(f, "{side} {name}: {}", self.because),
            Other::ChangesBytes => write!(f, "{side} all layers that change bytes: {}", self.because),
        }
    }
}

//! Mistakes that a test can plant, to see that the checkers find them. None exist outside of tests.

/// Which mistakes are made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defects(#[cfg(test)] Option<Defect>);

/// One mistake.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agreed_views) enum Defect {
    /// A proposal takes the epoch of the one before.
    EpochReused,
    /// A lower epoch is promised after a higher one, of which nobody is told.
    PromiseForgotten,
    /// A view is installed although not all, or not any more, have promised it.
    PromisesNotAwaited,
    /// A side goes on writing although it is out of touch.
    LeaseIgnored,
    /// Another side writes before this one must have stopped.
    GraceSkipped,
    /// The token stays when the leader changes.
    TokenKept,
    /// Who is present is not counted.
    QuorumIgnored,
    /// A wait that has begun ends with the next view.
    WaitForgotten,
    /// Members of a view that may not write are not told of those that may.
    ChainUntold,
    /// The lease is released while others may write on it.
    LeaseReleasedEarly,
    /// That there was a view is forgotten with those that were in it.
    ViewsUnseen,
    /// Followers do not know how long their leader collects members.
    Impatient,
}

impl Defects {
    #[cfg(test)]
    pub(super) fn plant(&mut self, defect: Defect) {
        self.0 = Some(defect);
    }
}

/// Whether the mistake of this name is to be made: never, outside of tests.
macro_rules! defect {
    ($core:expr, $name:ident) => {{
        #[cfg(test)]
        let made = $core.defects.is($crate::agreed_views::core::defects::Defect::$name);
        #[cfg(not(test))]
        let made = false;
        made
    }};
}
pub(super) use defect;

#[cfg(test)]
impl Defects {
    pub(super) fn is(self, defect: Defect) -> bool {
        self.0 == Some(defect)
    }
}

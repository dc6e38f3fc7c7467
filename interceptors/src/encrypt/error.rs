//! Why a message is not sealed or opened.

/// Why a message is not sealed or not opened. It is the source of [`SendError::Layer`](tribes_core::SendError::Layer) on the way
/// down; upward its text answers the sender, if that is one of our nodes. It holds nothing of keys or bodies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The layer has no key yet.
    #[error("the layer was not started")]
    NotStarted,
    /// The operating system gives no random bytes. Weaker ones could give keys away.
    #[error("the operating system gives no random bytes to seal with")]
    NoRandomness,
    /// More than one message can be under AES-GCM: 64 GiB.
    #[error("the message is too long to be sealed")]
    TooLong,
    /// More destinations than the list of them can hold.
    #[error("a message can be sealed for at most 65535 members at once, not {count}")]
    TooManyMembers {
        /// How many there are.
        count: usize,
    },
    /// A multicast, in authenticated mode.
    #[error("a multicast names no members to seal it for; send it to members, or use mode = tribes")]
    Multicast,
    /// Shorter than anything that is sealed, or of another format: not encrypted, or by another mode.
    #[error("it is not sealed as this layer's mode has it; give all members the same stack and mode")]
    NotSealed,
    /// No key fits.
    #[error("it can be opened with none of the keys: it was sealed with another one, or was altered")]
    Unopened,
    /// In mode `tribes`: its time is too far from ours, or it comes after messages that were forgotten.
    #[error("its time inside is {apart_ms} ms from the clock here, which is outside of the replay window")]
    Stale {
        /// How far the two clocks are apart.
        apart_ms: u64,
    },
    /// It was opened before.
    #[error("it was opened before: a replay")]
    Replayed,
    /// In authenticated mode: this member is none of those that it was sealed for.
    #[error("it was sealed for other members")]
    Misdirected,
    /// In authenticated mode: its options are not those that it was sealed with.
    #[error("its options differ in {bits:#x} from those that it was sealed with")]
    OptionsAltered {
        /// The bits that differ.
        bits: u32,
    },
}

impl EncryptError {
    /// The reason under which a message that is dropped is counted.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::NotStarted => "not started",
            Self::NoRandomness | Self::TooLong | Self::TooManyMembers { .. } | Self::Multicast => "cannot be sealed",
            Self::NotSealed => "not sealed",
            Self::Unopened => "unopened",
            Self::Stale { .. } => "stale",
            Self::Replayed => "replayed",
            Self::Misdirected => "misdirected",
            Self::OptionsAltered { .. } => "options altered",
        }
    }
}

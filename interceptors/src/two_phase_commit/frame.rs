//! What our own nodes tell each other: entries of the kind [`TWO_PHASE_COMMIT`](tribes_core::wire::ExtensionKind) in the
//! extension trailer. The first byte says which; integers are big-endian, ids have 16 bytes.
//!
//! | byte | name | then | body of the message |
//! |---|---|---|---|
//! | 1 | prepare | flags (1), time for the vote in ms (4), ids of all destinations of our own kind | the application's |
//! | 2 | vote | 1 yes or 0 no (1), message id, reason in UTF-8 | none |
//! | 3 | decide | 1 commit or 0 abort (1), coordinator's id, message id | none |
//! | 4 | ask | ms since the message came to who asks (4), coordinator's id, message id | none |
//! | 5 | collect | as in ask | none |
//! | 6 | answer | 0 in doubt, 1 in doubt but told to commit, 2 cannot say (1), coordinator's id, message id | none |

use std::time::Duration;

use tribes_core::{MemberId, MessageId};

/// Of a reason, so many bytes are told.
const REASON: usize = 200;

/// In a prepare: the application did not ask for the acknowledgement that the frame asks for.
const ADDED_ACK: u8 = 1;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Decision {
    Abort,
    Commit,
}

/// A message and who decides over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) coordinator: MemberId,
    pub(super) id: [u8; 16],
}

impl Key {
    /// `None` for ids that are not ours to make.
    pub(super) fn new(coordinator: MemberId, id: &MessageId) -> Option<Self> {
        Some(Self { coordinator, id: id.as_bytes().try_into().ok()? })
    }
}

/// What one that has not decided itself knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: it voted yes, and waits for the word of who asked from now on.
    Doubt,
    /// The coordinator has told it to commit since it was asked; it did not yet.
    ToldToCommit,
    /// It may have decided and forgotten.
    CannotSay,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Prepare { added_ack: bool, vote: Duration, parties: Vec<MemberId> },
    Vote { id: [u8; 16], no: Option<String> },
    Decide(Decision, Key),
    Ask(Key, Duration),
    Collect(Key, Duration),
    Answer(Known, Key),
}

/// An entry that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the message says about its two phases is malformed")]
pub(super) struct MalformedFrame;

impl Frame {
    pub(super) fn encode(&self) -> Vec<u8> {
        let keyed = |head: &[u8], key: &Key| [head, key.coordinator.as_bytes(), &key.id].concat();
        match self {
            Self::Prepare { added_ack, vote, parties } => {
                let mut bytes = vec![1, if *added_ack { ADDED_ACK } else { 0 }];
                bytes.extend(millis(*vote));
                parties.iter().for_each(|party| bytes.extend(party.as_bytes()));
                bytes
            }
            Self::Vote { id, no: None } => [&[2, 1][..], id].concat(),
            Self::Vote { id, no: Some(reason) } => {
                let end = reason.floor_char_boundary(REASON);
                [&[2, 0][..], id, reason.get(..end).unwrap_or_default().as_bytes()].concat()
            }
            Self::Decide(decision, key) => keyed(&[3, u8::from(*decision == Decision::Commit)], key),
            Self::Ask(key, age) => keyed(&[&[4][..], &millis(*age)].concat(), key),
            Self::Collect(key, age) => keyed(&[&[5][..], &millis(*age)].concat(), key),
            Self::Answer(known, key) => {
                let known = match known {
                    Known::Doubt => 0,
                    Known::ToldToCommit => 1,
                    Known::CannotSay => 2,
                };
                keyed(&[6, known], key)
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MalformedFrame> {
        let frame = match bytes {
            [1, flags, rest @ ..] => {
                let (vote, ids) = rest.split_first_chunk().ok_or(MalformedFrame)?;
                let (ids, []) = ids.as_chunks::<16>() else { return Err(MalformedFrame) };
                Self::Prepare {
                    added_ack: flags & ADDED_ACK != 0,
                    vote: Duration::from_millis(u32::from_be_bytes(*vote).into()),
                    parties: ids.iter().copied().map(MemberId::from_bytes).collect(),
                }
            }
            [2, yes @ 0..=1, rest @ ..] => {
                let (id, reason) = rest.split_first_chunk().ok_or(MalformedFrame)?;
                let reason = reason.get(..reason.len().min(REASON)).unwrap_or_default();
                Self::Vote { id: *id, no: (*yes == 0).then(|| String::from_utf8_lossy(reason).into_owned()) }
            }
            [3, 0, key @ ..] => Self::Decide(Decision::Abort, decode_key(key)?),
            [3, 1, key @ ..] => Self::Decide(Decision::Commit, decode_key(key)?),
            [kind @ (4 | 5), rest @ ..] => {
                let (age, key) = rest.split_first_chunk().ok_or(MalformedFrame)?;
                let (age, key) = (Duration::from_millis(u32::from_be_bytes(*age).into()), decode_key(key)?);
                if *kind == 4 { Self::Ask(key, age) } else { Self::Collect(key, age) }
            }
            [6, 0, key @ ..] => Self::Answer(Known::Doubt, decode_key(key)?),
            [6, 1, key @ ..] => Self::Answer(Known::ToldToCommit, decode_key(key)?),
            [6, 2, key @ ..] => Self::Answer(Known::CannotSay, decode_key(key)?),
            _ => return Err(MalformedFrame),
        };
        Ok(frame)
    }
}

fn millis(time: Duration) -> [u8; 4] {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).to_be_bytes()
}

fn decode_key(bytes: &[u8]) -> Result<Key, MalformedFrame> {
    let ([coordinator, id], []) = bytes.as_chunks::<16>() else { return Err(MalformedFrame) };
    Ok(Key { coordinator: MemberId::from_bytes(*coordinator), id: *id })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let (one, two) = (MemberId::from_bytes([1; 16]), MemberId::from_bytes([2; 16]));
        let key = Key { coordinator: one, id: [7; 16] };
        let vote = Duration::from_millis(250);
        for frame in [
            Frame::Prepare { added_ack: true, vote, parties: vec![one, two] },
            Frame::Prepare { added_ack: false, vote, parties: vec![] },
            Frame::Vote { id: [7; 16], no: None },
            Frame::Vote { id: [7; 16], no: Some("no room".to_owned()) },
            Frame::Decide(Decision::Commit, key),
            Frame::Decide(Decision::Abort, key),
            Frame::Ask(key, vote),
            Frame::Collect(key, 4 * vote),
            Frame::Answer(Known::Doubt, key),
            Frame::Answer(Known::ToldToCommit, key),
            Frame::Answer(Known::CannotSay, key),
        ] {
            let bytes = frame.encode();
            assert_eq!(Frame::decode(&bytes), Ok(frame.clone()));
            let less = Frame::decode(&bytes[..bytes.len() - 1]);
            assert!(less.is_err() || matches!(frame, Frame::Vote { no: Some(_), .. }), "{frame:?}");
        }
        let long = Frame::Vote { id: [7; 16], no: Some("ä".repeat(1000)) };
        assert_eq!(Frame::decode(&long.encode()), Ok(Frame::Vote { id: [7; 16], no: Some("ä".repeat(100)) }));
    }

    proptest! {
        #[test]
        fn garbage_is_read_without_harm(bytes: Vec<u8>) {
            if let Ok(frame) = Frame::decode(&bytes) {
                let again = Frame::decode(&frame.encode());
                prop_assert_eq!(again, Ok(frame));
            }
        }
    }
}

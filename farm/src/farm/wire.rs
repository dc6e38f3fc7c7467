//! What members ask each other: hashes of chunks, and chunks.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::Content;

/// A question. All that it names is in it, so who answers keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Question {
    List(Content),
    Chunk(Content, u32),
}

/// What an answer with something begins with; without anything it is [`ABSENT`].
pub(super) const HERE: u8 = 1;
/// I do not have it.
pub(super) const ABSENT: u8 = 0;

/// What is asked for; `None` if the member does not have it.
pub(super) fn read(answer: &Bytes) -> Option<Bytes> {
    (answer.first() == Some(&HERE)).then(|| answer.slice(1..))
}

pub(super) fn write_list(list: &[Digest]) -> Vec<u8> {
    let digests = list.iter().flat_map(|digest| *digest.as_bytes());
    std::iter::once(HERE).chain(digests).collect()
}

pub(super) fn read_list(bytes: &[u8]) -> Vec<Digest> {
    bytes.as_chunks::<32>().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect()
}

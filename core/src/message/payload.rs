//! Typed payloads: MessagePack by field name inside a byte message.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::BoxError;

/// A value that could not be written as MessagePack.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a value of type {type_name} as MessagePack")]
pub struct EncodeError {
    type_name: &'static str,
    source: BoxError,
}

/// A body that is not the MessagePack of the type asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The sender wrote a Java object; those are never deserialized.
    #[error(
        "the body is a serialized Java object, which is never deserialized here; have the sender use a ByteMessage"
    )]
    JavaObject,
    /// Not MessagePack, or of another shape.
    #[error("the body ({len} bytes) is not MessagePack of type {type_name}")]
    Mismatch {
        /// The type asked for.
        type_name: &'static str,
        /// Length of the body in bytes.
        len: usize,
        /// What the decoder says.
        source: BoxError,
    },
}

impl DecodeError {
    pub(super) const fn java_object() -> Self {
        Self::JavaObject
    }
}

/// Writes `value` as MessagePack by field name (`rmp_serde::to_vec_named`).
///
/// # Errors
/// If the type's `Serialize` refuses.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, EncodeError> {
    rmp_serde::to_vec_named(value)
        .map(Bytes::from)
        .map_err(|error| EncodeError { type_name: std::any::type_name::<T>(), source: error.into() })
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice(bytes).map_err(|error| DecodeError::Mismatch {
        type_name: std::any::type_name::<T>(),
        len: bytes.len(),
        source: error.into(),
    })
}

//! What a request or a reply carries.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{self, DecodeError, EncodeError};
use crate::wire::java::RpcBody;

/// What a request or a reply carries: bytes, and as what Java is to see them.
///
/// Text converts into a Java `String`, bytes into a `byte[]`. Between our own nodes the form is kept as well.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Payload {
    form: Form,
    bytes: Bytes,
}

/// As what Java sees a [`Payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Form {
    /// Nothing: Java's null.
    #[default]
    Null,
    /// A `byte[]`.
    Bytes,
    /// A `String`.
    Text,
    /// A `ByteMessage`, Tribes' own envelope for bytes.
    ByteMessage,
}

impl Form {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bytes => 1,
            Self::Text => 2,
            Self::ByteMessage => 3,
        }
    }
}

impl Payload {
    /// Java's null. No bytes.
    #[must_use]
    pub const fn null() -> Self {
        Self { form: Form::Null, bytes: Bytes::new() }
    }

    /// Bytes that Java gets as a `ByteMessage`.
    pub fn byte_message(bytes: impl Into<Bytes>) -> Self {
        Self { form: Form::ByteMessage, bytes: bytes.into() }
    }

    /// `value` as MessagePack by field name.
    ///
    /// # Errors
    /// If the type's `Serialize` refuses.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        message::encode(value).map(Self::from)
    }

    /// Reads it as MessagePack, as written by [`encode`](Self::encode).
    ///
    /// # Errors
    /// If it is not MessagePack of this type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        message::decode(&self.bytes)
    }

    /// As what Java sees it.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The bytes; of a text its UTF-8.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes as text, whatever the form; `None` if they are not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// Whether it is Java's null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.form == Form::Null
    }

    /// From what came in our own form; `None` if it cannot be that.
    pub(super) fn from_parts(form: u8, bytes: Bytes) -> Option<Self> {
        let form = match form {
            0 if bytes.is_empty() => Form::Null,
            1 => Form::Bytes,
            2 if std::str::from_utf8(&bytes).is_ok() => Form::Text,
            3 => Form::ByteMessage,
            _ => return None,
        };
        Some(Self { form, bytes })
    }

    pub(super) fn from_java(body: RpcBody) -> Option<Self> {
        Some(match body {
            RpcBody::Null => Self::null(),
            RpcBody::Bytes(bytes) => Self::byte_message(bytes),
            RpcBody::Array(bytes) => Self::from(bytes),
            RpcBody::Text(text) => Self::from(text),
            RpcBody::Member(_) => return None,
        })
    }

    pub(super) fn to_java(&self) -> RpcBody {
        match (self.form, self.text()) {
            (Form::Null, _) => RpcBody::Null,
            (Form::ByteMessage, _) => RpcBody::Bytes(self.bytes.clone()),
            (Form::Text, Some(text)) => RpcBody::Text(text.to_owned()),
            (Form::Bytes | Form::Text, _) => RpcBody::Array(self.bytes.clone()),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { form: Form::Bytes, bytes }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self { form: Form::Text, bytes: text.into() }
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The text, or how many bytes there are.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.form, self.text()) {
            (Form::Null, _) => f.write_str("null"),
            (_, Some(text)) => f.write_str(text),
            _ => write!(f, "{} bytes", self.bytes.len()),
        }
    }
}

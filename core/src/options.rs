//! Send options: what a sender asks of one message, as bits that travel with it.

use std::fmt;
use std::str::FromStr;

use bitflags::bitflags;

bitflags! {
    /// The option word of a message (Tribes: `Channel.SEND_OPTIONS_*`), 32 bits, sent with every message.
    ///
    /// Unknown bits are kept and passed on: interceptors are switched by them. Default: [`SendOptions::USE_ACK`].
    ///
    /// | bits | owner |
    /// |---|---|
    /// | `0x01`-`0x7F` | Tribes, see the constants; layers may not claim them, except dispatch's `0x08` |
    /// | `0x80` | free for users |
    /// | `0x100` | gzip's mark |
    /// | `0x200`-`0x8000` | free for users |
    /// | `0x0100_0000` | the message carries our extension trailer |
    /// | `0x0200_0000` | the mark of `Compress` |
    /// | from `0x0400_0000` | further layers of this project |
    ///
    /// The text form is Tribes': names joined by commas, highest bit first, or an integer.
    ///
    /// ```
    /// use tribes_core::SendOptions;
    /// let options: SendOptions = "ack, sync,async".parse()?;
    /// assert_eq!(options, SendOptions::USE_ACK | SendOptions::SYNCHRONIZED_ACK | SendOptions::ASYNCHRONOUS);
    /// assert_eq!(options.to_string(), "async, sync, use_ack");
    /// assert_eq!("14".parse::<SendOptions>()?, options);
    /// # Ok::<(), tribes_core::ParseSendOptionsError>(())
    /// ```
    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    pub struct SendOptions: u32 {
        /// The body is raw bytes. Set by the channel itself; clear only on messages that hold a Java object.
        const BYTE_MESSAGE = 0x01;
        /// Each receiver acknowledges on receipt (`ack`).
        const USE_ACK = 0x02;
        /// With [`USE_ACK`](Self::USE_ACK): acknowledge after the listener returned (`sync`). Alone: nothing.
        const SYNCHRONIZED_ACK = 0x04;
        /// Queue and return; taken by `MessageDispatch` (`async`).
        const ASYNCHRONOUS = 0x08;
        /// Reserved by Tribes; no effect.
        const SECURE = 0x10;
        /// One UDP datagram to each destination; may get lost, is not ordered.
        const UDP = 0x20;
        /// One datagram to the membership's multicast group; destinations are ignored, never acknowledged.
        const MULTICAST = 0x40;
        /// The body is compressed with gzip (set by the `Gzip` layer).
        const GZIP = 0x100;
        /// The body ends with our extension trailer. Set by layers that add one, and by the channel for its endpoints; it is taken
        /// off what the application asks for.
        const EXTENSION = 0x0100_0000;
        /// The body is compressed with LZ4 or Zstandard, for one of our own nodes (set by the `Compress` layer).
        const COMPRESSED = 0x0200_0000;
        const _ = !0;
    }
}

/// Short names, highest bit first, as Tribes prints them.
const NAMES: [(&str, SendOptions); 7] = [
    ("multicast", SendOptions::MULTICAST),
    ("udp", SendOptions::UDP),
    ("secure", SendOptions::SECURE),
    ("async", SendOptions::ASYNCHRONOUS),
    ("sync", SendOptions::SYNCHRONIZED_ACK),
    ("use_ack", SendOptions::USE_ACK),
    ("byte", SendOptions::BYTE_MESSAGE),
];

/// Further names that are read but not written.
const ALIASES: [(&str, SendOptions); 5] = [
    ("ack", SendOptions::USE_ACK),
    ("asynchronous", SendOptions::ASYNCHRONOUS),
    ("synchronized_ack", SendOptions::SYNCHRONIZED_ACK),
    ("byte_message", SendOptions::BYTE_MESSAGE),
    ("none", SendOptions::empty()),
];

impl SendOptions {
    /// No guarantee: the send is done when the operating system has taken the bytes.
    pub const NONE: Self = Self::empty();
    /// [`USE_ACK`](Self::USE_ACK) under a shorter name.
    pub const ACK: Self = Self::USE_ACK;
    /// Acknowledged after the listener returned: [`USE_ACK`](Self::USE_ACK) and
    /// [`SYNCHRONIZED_ACK`](Self::SYNCHRONIZED_ACK).
    pub const SYNC_ACK: Self = Self::USE_ACK.union(Self::SYNCHRONIZED_ACK);
    /// [`ASYNCHRONOUS`](Self::ASYNCHRONOUS) under a shorter name.
    pub const ASYNC: Self = Self::ASYNCHRONOUS;

    /// Which acknowledgement these options ask of the receiver.
    #[must_use]
    pub const fn ack_mode(self) -> AckMode {
        if !self.contains(Self::USE_ACK) {
            AckMode::None
        } else if self.contains(Self::SYNCHRONIZED_ACK) {
            AckMode::Handled
        } else {
            AckMode::Received
        }
    }
}

/// Which acknowledgement a message asks for; decided by its options alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckMode {
    /// None.
    None,
    /// On receipt, before it is handled; always positive.
    Received,
    /// After the listener returned; negative if it failed or a layer refused the message.
    Handled,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self::USE_ACK
    }
}

impl fmt::Display for SendOptions {
    /// Set flags from the highest to the lowest, by their short names; bits without a name as one hexadecimal number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut rest = *self;
        let mut separator = "";
        for (name, bit) in NAMES {
            if self.contains(bit) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
                rest.remove(bit);
            }
        }
        if !rest.is_empty() {
            write!(f, "{separator}{:#x}", rest.bits())?;
        }
        Ok(())
    }
}

impl fmt::Debug for SendOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendOptions({self})")
    }
}

/// A text that names no send option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown send option {name:?}; expected an integer or names of byte, ack, sync, async, secure, udp, multicast, none joined by commas"
)]
pub struct ParseSendOptionsError {
    name: String,
}

impl ParseSendOptionsError {
    /// The part of the text that was not understood.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for SendOptions {
    type Err = ParseSendOptionsError;

    /// Reads an integer (decimal, negative as Java prints bit 31, or `0x…`) or names joined by commas, blanks allowed.
    /// Empty text is no option at all.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::empty());
        }
        if let Some(number) = parse_integer(text) {
            return Ok(Self::from_bits_retain(number));
        }
        text.split(',').map(str::trim).try_fold(Self::empty(), |options, name| {
            NAMES
                .iter()
                .chain(&ALIASES)
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, bit)| *bit)
                .or_else(|| parse_integer(name).map(Self::from_bits_retain))
                .map(|bit| options | bit)
                .ok_or_else(|| ParseSendOptionsError { name: name.to_owned() })
        })
    }
}

fn parse_integer(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok();
    }
    let number: i64 = text.parse().ok()?;
    u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_both_ways() {
        for (text, bits) in [
            ("multicast", 0x40),
            ("async, multicast", 0x48),
            ("", 0),
            ("none", 0),
            ("6", 6),
            ("-2147483648", 0x8000_0000),
        ] {
            assert_eq!(text.parse::<SendOptions>().unwrap().bits(), bits, "{text}");
        }
        assert_eq!(SendOptions::from_bits_retain(0x48).to_string(), "multicast, async");
        assert_eq!(
            SendOptions::from_bits_retain(0x7F).to_string(),
            "multicast, udp, secure, async, sync, use_ack, byte"
        );
        assert_eq!(SendOptions::from_bits_retain(0x102).to_string(), "use_ack, 0x100");
        for bits in [0, 1, 2, 6, 0x48, 0x7F, 0x102, 0x0100_0002] {
            let options = SendOptions::from_bits_retain(bits);
            assert_eq!(options.to_string().parse(), Ok(options));
        }
    }

    #[test]
    fn an_unknown_name_is_named() {
        assert_eq!("ack,quick".parse::<SendOptions>().unwrap_err().name(), "quick");
    }

    #[test]
    fn ack_modes() {
        assert_eq!(SendOptions::NONE.ack_mode(), AckMode::None);
        assert_eq!(SendOptions::SYNCHRONIZED_ACK.ack_mode(), AckMode::None);
        assert_eq!(SendOptions::ACK.ack_mode(), AckMode::Received);
        assert_eq!(SendOptions::SYNC_ACK.ack_mode(), AckMode::Handled);
    }
}

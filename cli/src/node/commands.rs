//! The commands on a node's standard input, one a line.

use tribes::{MemberId, SendOptions};

use super::payload::{Payload, PayloadError};
use crate::units::Malformed;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Lists the other members.
    Members,
    /// Sends messages.
    Send(SendCommand),
    /// Prints what the channel counts.
    Stats,
    /// Leaves the group and ends.
    Stop,
}

/// `send OPTIONS PAYLOAD [COUNT] [to=ID,…]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendCommand {
    pub(crate) options: SendOptions,
    pub(crate) payload: Payload,
    pub(crate) count: u64,
    /// `None` is everybody.
    pub(crate) to: Option<Vec<MemberId>>,
}

/// Why a line is no command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("unknown command {0:?}; there are members, send, stats and stop")]
    Unknown(String),
    #[error("{0:?} is one word too many")]
    Surplus(String),
    #[error("a send is written: send OPTIONS PAYLOAD [COUNT] [to=ID,…]")]
    Incomplete,
    #[error(transparent)]
    Options(#[from] tribes::ParseSendOptionsError),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Command {
    /// Reads a line; `None` for an empty one.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, CommandError> {
        let mut words = line.split_whitespace();
        let command = match words.next() {
            None => return Ok(None),
            Some("members") => Self::Members,
            Some("stats") => Self::Stats,
            Some("stop") => Self::Stop,
            Some("send") => return SendCommand::parse(words).map(|send| Some(Self::Send(send))),
            Some(word) => return Err(CommandError::Unknown(word.to_owned())),
        };
        words.next().map_or(Ok(Some(command)), |word| Err(CommandError::Surplus(word.to_owned())))
    }
}

impl SendCommand {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, CommandError> {
        let (Some(options), Some(payload)) = (words.next(), words.next()) else {
            return Err(CommandError::Incomplete);
        };
        let (mut count, mut to) = (None, None);
        for word in words {
            if let Some(ids) = word.strip_prefix("to=").filter(|_| to.is_none()) {
                to = Some(parse_ids(ids)?);
            } else if count.is_none() {
                count = Some(word.parse().map_err(|_not_a_number| Malformed::new(word, "number of messages"))?);
            } else {
                return Err(CommandError::Surplus(word.to_owned()));
            }
        }
        Ok(Self { options: options.parse()?, payload: Payload::parse(payload)?, count: count.unwrap_or(1), to })
    }
}

fn parse_ids(text: &str) -> Result<Vec<MemberId>, Malformed> {
    text.split(',')
        .map(|id| id.parse().map_err(|_not_an_id| Malformed::new(id, "member id of 32 hexadecimal digits")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(line: &str) -> SendCommand {
        match Command::parse(line) {
            Ok(Some(Command::Send(send))) => send,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn plain_commands() {
        assert_eq!(Command::parse(" members ").unwrap(), Some(Command::Members));
        assert_eq!(Command::parse("stats").unwrap(), Some(Command::Stats));
        assert_eq!(Command::parse("stop").unwrap(), Some(Command::Stop));
        assert_eq!(Command::parse("  ").unwrap(), None);
        for wrong in ["member", "stop now", "Stop", "exit"] {
            assert!(Command::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sends() {
        let one = send("send ack text:hello");
        assert_eq!((one.options, one.count, one.to), (SendOptions::ACK, 1, None));
        let id = "0102030405060708090a0b0c0d0e0f10";
        let many = send(&format!("send ack,sync size:64:7 10000 to={id},{id}"));
        assert_eq!((many.options, many.count), (SendOptions::SYNC_ACK, 10_000));
        assert_eq!(many.payload, Payload::Pattern { len: 64, seed: 7 });
        assert_eq!(many.to.unwrap(), [id.parse().unwrap(), id.parse().unwrap()]);
        assert_eq!(send(&format!("send 0 hex: to={id} 3")).count, 3);
        assert_eq!(send("send none hex:").options, SendOptions::NONE);
        assert_eq!(send("send 14 hex:").options.bits(), 14);
        assert_eq!(send("send async hex: 0").count, 0);
    }

    #[test]
    fn what_is_wrong_with_a_send_is_said() {
        for (line, said) in [
            ("send", "OPTIONS"),
            ("send ack", "PAYLOAD"),
            ("send quick text:a", "quick"),
            ("send ack bytes:a", "bytes:a"),
            ("send ack text:a two", "two"),
            ("send ack text:a -1", "-1"),
            ("send ack text:a 1 2", "2"),
            ("send ack text:a to=01", "01"),
            ("send ack text:a to=", "32"),
        ] {
            let text = Command::parse(line).unwrap_err().to_string();
            assert!(text.contains(said), "{line}: {text}");
        }
    }
}

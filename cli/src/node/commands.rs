//! The commands on a node's standard input, one a line.

use std::time::Duration;

use tribes::rpc::{Form, Wait};
use tribes::{MemberId, SendOptions};

use super::payload::{Payload, PayloadError};
use crate::units::{Malformed, parse_duration};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Lists the other members.
    Members,
    /// Sends messages.
    Send(SendCommand),
    /// Asks members.
    Call(CallCommand),
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

/// `call WAIT FORM PAYLOAD TIME [to=ID,…] [rpc=ID]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallCommand {
    pub(crate) wait: Wait,
    pub(crate) form: Form,
    pub(crate) payload: Payload,
    pub(crate) within: Duration,
    /// `None` is everybody.
    pub(crate) to: Option<Vec<MemberId>>,
    /// `None` is the RPC channel of `--rpc`.
    pub(crate) rpc: Option<String>,
}

/// Why a line is no command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("unknown command {0:?}; there are members, send, call, stats and stop")]
    Unknown(String),
    #[error("{0:?} is one word too many")]
    Surplus(String),
    #[error("a send is written: send OPTIONS PAYLOAD [COUNT] [to=ID,…]")]
    Incomplete,
    #[error("a call is written: call WAIT FORM PAYLOAD TIME [to=ID,…] [rpc=ID]")]
    IncompleteCall,
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
            Some("call") => return CallCommand::parse(words).map(|call| Some(Self::Call(call))),
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

impl CallCommand {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, CommandError> {
        let (Some(wait), Some(form), Some(payload), Some(within)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(CommandError::IncompleteCall);
        };
        let form = match form {
            "text" => Form::Text,
            "bytes" => Form::Bytes,
            "message" => Form::ByteMessage,
            "null" => Form::Null,
            _ => return Err(Malformed::new(form, "form; write text, bytes, message or null").into()),
        };
        let (mut to, mut rpc) = (None, None);
        for word in words {
            if let Some(ids) = word.strip_prefix("to=").filter(|_| to.is_none()) {
                to = Some(parse_ids(ids)?);
            } else if let Some(id) = word.strip_prefix("rpc=").filter(|_| rpc.is_none()) {
                rpc = Some(id.to_owned());
            } else {
                return Err(CommandError::Surplus(word.to_owned()));
            }
        }
        let (wait, within) = (parse_wait(wait)?, parse_duration(within)?);
        Ok(Self { wait, form, payload: Payload::parse(payload)?, within, to, rpc })
    }
}

/// Reads for how many replies a call waits.
pub(crate) fn parse_wait(text: &str) -> Result<Wait, Malformed> {
    Ok(match text {
        "first" => Wait::First,
        "majority" => Wait::Majority,
        "all" => Wait::All,
        "none" => Wait::None,
        _ => {
            let malformed = |_| Malformed::new(text, "number of replies; write first, majority, all, none or a number");
            Wait::Quorum(text.parse().map_err(malformed)?)
        }
    })
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
    fn calls() {
        let call = |line: &str| match Command::parse(line) {
            Ok(Some(Command::Call(call))) => call,
            other => panic!("{line}: {other:?}"),
        };
        let one = call("call first text text:hello 2s");
        assert_eq!((one.wait, one.form, one.within), (Wait::First, Form::Text, Duration::from_secs(2)));
        assert_eq!((one.to, one.rpc), (None, None));
        let id = "0102030405060708090a0b0c0d0e0f10";
        let other = call(&format!("call 3 message size:70000 10ms rpc=stock to={id}"));
        assert_eq!((other.wait, other.form), (Wait::Quorum(3), Form::ByteMessage));
        assert_eq!((other.rpc.as_deref(), other.to.unwrap().len()), (Some("stock"), 1));
        for (line, said) in [
            ("call all text text:a", "WAIT FORM"),
            ("call some text text:a 1s", "some"),
            ("call all json text:a 1s", "json"),
            ("call all text text:a 1", "1"),
            ("call all text text:a 1s rpc=a rpc=b", "rpc=b"),
        ] {
            let text = Command::parse(line).unwrap_err().to_string();
            assert!(text.contains(said), "{line}: {text}");
        }
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

//! The options of `tribes load`.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tribes::SendOptions;

use super::payload::HEADER;
use super::setup::NOOPS;
use crate::node::HostPort;
use crate::units::Malformed;

/// The options of one member.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// What this member does.
    #[arg(long, value_enum, default_value_t = Role::Receiver)]
    pub(super) role: Role,
    /// Tells the members of a run apart: 0 to 254, another for each.
    #[arg(long, value_name = "I", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=254))]
    pub(super) index: u8,
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) bind: HostPort,
    /// All other members.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required_if_eq_any([("role", "sender"), ("role", "peer")]))]
    pub(super) peers: Vec<HostPort>,
    /// How many members will send to this one.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub(super) senders: usize,
    /// Bytes of each message, at least 24.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = parse_payload)]
    pub(super) payload: usize,
    /// When a send is done.
    #[arg(long, value_enum, default_value_t = Guarantee::None)]
    pub(super) options: Guarantee,
    /// How messages follow each other.
    #[arg(long, value_enum, default_value_t = Mode::Flood)]
    pub(super) mode: Mode,
    /// Length of the measured part.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    pub(super) seconds: Duration,
    /// Length of the warm-up.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_seconds)]
    pub(super) warmup: Duration,
    /// Measures so many messages instead of --seconds; 0 for the time.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) messages: u64,
    /// Tasks that send at the same time, in a flood.
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: u16,
    /// Something special; repeatable. Keys that are not known are passed over.
    ///
    /// workers=N: worker threads of a multi-threaded runtime; 0 (the default) for a runtime of the one thread;
    /// bare=1: no interceptors, so `async` does nothing;
    /// noop=N: up to 10 interceptors more that do nothing;
    /// batch=0: the listener is called for each message, not once for those that are there at the same time;
    /// coalesce=BYTES: what the sender gathers for one write;
    /// rcvbuf=BYTES: the receive buffer of each connection, otherwise left to the operating system;
    /// budget=BYTES: what may wait for members.
    #[arg(long, value_name = "KEY=VALUE", verbatim_doc_comment)]
    pub(super) extra: Vec<Extra>,
    /// Accepted for symmetry with other programs of the kind: the output always is JSON.
    #[arg(long = "json")]
    _json: bool,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// Sends to all others.
    Sender,
    /// Receives and, in ping-pong, answers.
    Receiver,
    /// Both.
    Peer,
}

impl Role {
    pub(super) const fn sends(self) -> bool {
        !matches!(self, Self::Receiver)
    }

    pub(super) const fn receives(self) -> bool {
        !matches!(self, Self::Sender)
    }
}

/// When a send is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Guarantee {
    /// The operating system has the bytes for each member.
    None,
    /// The message is queued for each member.
    Async,
    /// Each member has received it.
    Ack,
    /// Each member's listener has returned.
    SyncAck,
}

impl Guarantee {
    pub(super) const fn options(self) -> SendOptions {
        match self {
            Self::None => SendOptions::NONE,
            Self::Async => SendOptions::ASYNC,
            Self::Ack => SendOptions::ACK,
            Self::SyncAck => SendOptions::SYNC_ACK,
        }
    }
}

/// How messages follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// As fast as sends return.
    Flood,
    /// One message, the answers of all receivers, the next message.
    Pingpong,
}

/// One `--extra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    Workers(usize),
    Bare(bool),
    Noop(usize),
    Batch(bool),
    Coalesce(usize),
    ReceiveBuffer(usize),
    Budget(usize),
    /// Of another program, or of another version of this one.
    Unknown(String),
}

impl FromStr for Extra {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (key, value) = text.split_once('=').ok_or_else(|| Malformed::new(text, "KEY=VALUE"))?;
        let number =
            || value.parse::<usize>().map_err(|_not_a_number| Malformed::new(value, "whole number for this key"));
        let positive = || match number()? {
            0 => Err(Malformed::new(value, "number of bytes; it must be more than zero")),
            bytes => Ok(bytes),
        };
        Ok(match key {
            "workers" => Self::Workers(number()?),
            "bare" => Self::Bare(number()? != 0),
            "batch" => Self::Batch(number()? != 0),
            "noop" => match number()? {
                layers if layers <= NOOPS.len() => Self::Noop(layers),
                _ => return Err(Malformed::new(value, "number of layers; there are 10 at most")),
            },
            "coalesce" => Self::Coalesce(positive()?),
            "rcvbuf" => Self::ReceiveBuffer(positive()?),
            "budget" => Self::Budget(positive()?),
            _ => Self::Unknown(key.to_owned()),
        })
    }
}

/// All `--extra` together; of a repeated key the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extras {
    pub(super) workers: usize,
    pub(super) bare: bool,
    pub(super) noop: usize,
    pub(super) batch: bool,
    pub(super) coalesce: Option<usize>,
    pub(super) receive_buffer: Option<usize>,
    pub(super) budget: Option<usize>,
}

impl Extras {
    pub(super) fn of(extras: &[Extra]) -> Self {
        let mut all =
            Self { workers: 0, bare: false, noop: 0, batch: true, coalesce: None, receive_buffer: None, budget: None };
        for extra in extras {
            match extra {
                Extra::Workers(workers) => all.workers = *workers,
                Extra::Bare(bare) => all.bare = *bare,
                Extra::Noop(layers) => all.noop = *layers,
                Extra::Batch(batch) => all.batch = *batch,
                Extra::Coalesce(bytes) => all.coalesce = Some(*bytes),
                Extra::ReceiveBuffer(bytes) => all.receive_buffer = Some(*bytes),
                Extra::Budget(bytes) => all.budget = Some(*bytes),
                Extra::Unknown(key) => tracing::warn!(%key, "an --extra that is not known here is passed over"),
            }
        }
        all
    }
}

pub(super) fn parse_payload(text: &str) -> Result<usize, Malformed> {
    let bytes = text.parse().ok().filter(|bytes| *bytes >= HEADER);
    bytes.ok_or_else(|| Malformed::new(text, "length of a payload; a whole number from 24"))
}

pub(super) fn parse_seconds(text: &str) -> Result<Duration, Malformed> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| Malformed::new(text, "number of seconds, such as 0.5"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(line: &str) -> Result<LoadArgs, clap::Error> {
        let args = ["load", "--bind", "127.0.0.1:0"].into_iter().chain(line.split_whitespace());
        Program::try_parse_from(args).map(|program| program.load)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let args = parse("").unwrap();
        assert_eq!((args.role, args.index, args.senders, args.payload), (Role::Receiver, 0, 1, 1024));
        assert_eq!((args.options, args.mode, args.messages, args.threads), (Guarantee::None, Mode::Flood, 0, 1));
        assert_eq!((args.warmup, args.seconds), (Duration::from_millis(500), Duration::from_secs(2)));
        assert_eq!(Extras::of(&args.extra), Extras::of(&[Extra::Workers(0), Extra::Unknown("fd".into())]));
    }

    #[test]
    fn everything_at_once() {
        let args = parse(
            "--role peer --index 254 --peers 127.0.0.1:1,127.0.0.1:2 --senders 2 --payload 24 --options sync-ack \
             --mode pingpong --seconds 0.25 --warmup 0 --messages 5 --threads 16 --json --extra workers=3 --extra noop=3 \
             --extra bare=1 --extra batch=0 --extra fd=x --extra coalesce=65536 --extra rcvbuf=1 --extra budget=9",
        )
        .unwrap();
        assert_eq!((args.role, args.index, args.peers.len(), args.payload), (Role::Peer, 254, 2, 24));
        assert_eq!((args.options.options(), args.mode), (SendOptions::SYNC_ACK, Mode::Pingpong));
        assert_eq!((args.seconds, args.warmup), (Duration::from_millis(250), Duration::ZERO));
        let extras = Extras {
            workers: 3,
            bare: true,
            noop: 3,
            batch: false,
            coalesce: Some(65536),
            receive_buffer: Some(1),
            budget: Some(9),
        };
        assert_eq!(Extras::of(&args.extra), extras);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in [
            "--role sender",
            "--role both",
            "--index 255",
            "--peers 127.0.0.1",
            "--payload 23",
            "--options sync",
            "--seconds -1",
            "--seconds soon",
            "--threads 0",
            "--extra workers",
            "--extra workers=all",
            "--extra coalesce=0",
            "--extra noop=11",
            "--variant std",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}

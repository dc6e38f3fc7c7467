//! The options of `tribes node`.

use std::ffi::OsStr;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use tribes::MemberId;
use tribes::membership::StaticPeer;

use crate::units::{Malformed, parse_duration, parse_hex};

/// Runs a member of a group for a script to drive.
///
/// Writes one JSON object a line to standard output and takes commands on standard input, one a line, carried out one
/// after another:
///
///   members                                     lists the other members
///   send OPTIONS PAYLOAD [COUNT] [to=ID,...]    OPTIONS: an integer, or ack, sync, async, udp, multicast, ... joined by
///                                               commas, or none; PAYLOAD: hex:..., text:..., size:N[:SEED] or file:PATH
///   call WAIT FORM PAYLOAD TIME [to=ID,...] [rpc=ID]
///                                               asks, and tells all answers when they are known; WAIT: first, majority, all,
///                                               none or a number; FORM: text, bytes, message or null, as Java sees it
///   stats                                       prints what the channel counts
///   stop                                        leaves the group and ends, as the end of input does
///
/// Logs go to standard error; RUST_LOG sets what is logged.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NodeArgs {
    /// Takes everything from this file, a tribes.toml or Tomcat's server.xml, and the environment, as `tribes check` does.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "bind", "auto_bind", "udp", "id", "name", "mcast", "mcast_frequency", "mcast_drop", "peer", "interceptor",
        "no_default_interceptors", "domain", "payload",
    ])]
    pub(super) config: Option<std::path::PathBuf>,
    /// Where to listen; port 0 takes any free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4000")]
    pub(super) bind: HostPort,
    /// How many ports to try, from that of --bind upward.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) auto_bind: u16,
    /// Takes UDP messages on this port, too; 0 takes any free one.
    #[arg(long, value_name = "PORT")]
    pub(super) udp: Option<u16>,
    /// A fixed member id of 32 hexadecimal digits; without it a fresh one.
    #[arg(long, value_name = "HEX32")]
    pub(super) id: Option<MemberId>,
    /// The channel's name, part of what static members call their group; unset as in Java.
    #[arg(long, value_name = "TEXT")]
    pub(super) name: Option<String>,
    /// Finds members by multicast on this group; without this and --peer, 228.0.0.4:45564.
    #[arg(long, value_name = "GROUP:PORT", conflicts_with = "peer")]
    pub(super) mcast: Option<SocketAddrV4>,
    /// How often to announce oneself.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    pub(super) mcast_frequency: Duration,
    /// After what silence a member is looked at.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub(super) mcast_drop: Duration,
    /// A member of a fixed list instead of multicast; repeatable.
    #[arg(long, value_name = "HOST:PORT[@ID]")]
    pub(super) peer: Vec<StaticPeer>,
    /// An interceptor, nearest to the application first; repeatable. Any of them replaces the defaults
    /// (message-dispatch, tcp-failure-detector).
    #[arg(long, value_name = "NAME[,KEY=VALUE...]", value_parser = InterceptorParser)]
    pub(super) interceptor: Vec<InterceptorArg>,
    /// Starts without interceptors, or with those of --interceptor alone.
    #[arg(long)]
    pub(super) no_default_interceptors: bool,
    /// The domain to announce.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) domain: String,
    /// The payload to announce.
    #[arg(long, value_name = "HEX", default_value = "")]
    pub(super) payload: HexArg,
    /// Answers each message to its sender, with ack.
    #[arg(long)]
    pub(super) echo: bool,
    /// Opens an RPC channel of this id, which answers each request with itself.
    #[arg(long, value_name = "ID")]
    pub(super) rpc: Option<String>,
    /// Lets the listener fail over messages of this length, after it has printed them.
    #[arg(long, value_name = "N")]
    pub(super) fail_len: Option<usize>,
}

/// A host, by address or name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(super) host: String,
    pub(super) port: u16,
}

impl HostPort {
    /// Its address; the first IPv4 one if a name has several.
    ///
    /// # Errors
    /// If the name is not known.
    pub(crate) fn resolve(&self) -> std::io::Result<SocketAddr> {
        let all: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        let first = all.iter().find(|addr| addr.is_ipv4()).or_else(|| all.first());
        first.copied().ok_or_else(|| std::io::Error::other(format!("{} has no address", self.host)))
    }
}

impl FromStr for HostPort {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new(text, "HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_not_a_port| malformed())?;
        // An IPv6 address stands in brackets, otherwise its last part would be taken for the port.
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        if host.is_empty() {
            return Err(malformed());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// `NAME[,KEY=VALUE…]`; a key without a value is `true`, as in the Java peer. Values may be secret: they are never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct InterceptorArg {
    pub(super) name: String,
    pub(super) settings: Vec<(String, String)>,
}

impl InterceptorArg {
    /// Nothing if it is malformed. What could be part of a value in the wrong place is.
    fn parse(text: &str) -> Option<Self> {
        let is_word = |word: &str| {
            let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
            word.starts_with(|first: char| first.is_ascii_lowercase()) && word.len() <= 40 && word.bytes().all(is_fit)
        };
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().filter(|name| is_word(name))?;
        let settings = parts.map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, "true"));
            is_word(key).then(|| (key.to_owned(), value.to_owned()))
        });
        Some(Self { name: name.to_owned(), settings: settings.collect::<Option<_>>()? })
    }
}

impl fmt::Debug for InterceptorArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.settings.iter().map(|(key, _)| key).collect();
        f.debug_struct("InterceptorArg").field("name", &self.name).field("keys", &keys).finish_non_exhaustive()
    }
}

/// Reads an [`InterceptorArg`]. clap's own way to do that shows the whole text in its error, an encryption key included.
#[derive(Clone)]
struct InterceptorParser;

impl TypedValueParser for InterceptorParser {
    type Value = InterceptorArg;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<InterceptorArg, clap::Error> {
        value.to_str().and_then(InterceptorArg::parse).ok_or_else(|| {
            let text = "a value of '--interceptor' is malformed; write NAME[,KEY=VALUE...], without blanks (it is not \
                shown, as it may hold a key)\n";
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

/// Bytes as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HexArg(pub(super) Vec<u8>);

impl FromStr for HexArg {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        parse_hex(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn parse(args: &[&str]) -> Result<NodeArgs, clap::Error> {
        Program::try_parse_from(["node"].iter().chain(args)).map(|program| program.node)
    }

    #[test]
    fn defaults_are_tribes() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.bind, "127.0.0.1:4000".parse().unwrap());
        assert_eq!((args.auto_bind, args.udp, args.id, args.name), (100, None, None, None));
        assert_eq!((args.mcast, args.peer), (None, vec![]));
        assert_eq!((args.mcast_frequency, args.mcast_drop), (Duration::from_millis(500), Duration::from_secs(3)));
        assert!(!args.echo && !args.no_default_interceptors);
    }

    /// What the file decides alone is not passed over when it is said beside the file.
    #[test]
    fn a_file_stands_alone() {
        for beside in [
            &["--bind", "localhost:1"][..],
            &["--auto-bind", "1"],
            &["--udp", "1"],
            &["--id", "0102030405060708090a0b0c0d0e0f10"],
            &["--name", "a"],
            &["--mcast", "228.0.0.4:1"],
            &["--mcast-frequency", "1s"],
            &["--mcast-drop", "1s"],
            &["--peer", "a:1"],
            &["--interceptor", "gzip"],
            &["--no-default-interceptors"],
            &["--domain", "a"],
            &["--payload", "00"],
        ] {
            let error = parse(&[&["--config", "tribes.toml"], beside].concat()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{beside:?}: {error}");
        }
        assert!(parse(&["--config", "tribes.toml", "--echo", "--fail-len", "1"]).is_ok());
    }

    #[test]
    fn everything_at_once() {
        let id = "0102030405060708090a0b0c0d0e0f10";
        let peer = format!("[::1]:1@{id}");
        let args = parse(&[
            "--bind",
            "localhost:0",
            "--auto-bind",
            "1",
            "--udp",
            "4001",
            "--id",
            id,
            "--name",
            "a b",
            "--peer",
            &peer,
            "--peer",
            "host:65535",
            "--interceptor",
            "throughput,interval=10",
            "--interceptor",
            "tcp-failure-detector,read_test",
            "--domain",
            "d",
            "--payload",
            "00ff",
            "--echo",
            "--fail-len",
            "0",
            "--mcast-drop",
            "1s",
        ])
        .unwrap();
        assert_eq!(args.bind, HostPort { host: "localhost".into(), port: 0 });
        assert_eq!((args.peer[0].addr(), args.peer[0].id()), ("[::1]:1", Some(id.parse().unwrap())));
        assert_eq!(args.peer[1].to_string(), "host:65535");
        let layer = &args.interceptor[0];
        assert_eq!((layer.name.as_str(), &layer.settings[..]), ("throughput", &[("interval".into(), "10".into())][..]));
        assert_eq!(args.interceptor[1].settings, [("read_test".into(), "true".into())]);
        assert_eq!((args.payload.0, args.fail_len), (vec![0, 255], Some(0)));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for args in [
            ["--bind", "127.0.0.1"],
            ["--bind", "::1:4000"],
            ["--bind", ":4000"],
            ["--bind", "host:65536"],
            ["--mcast", "host:45564"],
            ["--mcast-frequency", "500"],
            ["--id", "0102"],
            ["--peer", "host:1@0102"],
            ["--payload", "0"],
            ["--interceptor", ",a=b"],
            ["--interceptor", "a,=b"],
            ["--udp", "-1"],
        ] {
            assert!(parse(&args).is_err(), "{args:?}");
        }
        assert!(parse(&["--mcast", "228.0.0.4:45564", "--peer", "host:1"]).is_err());
    }

    #[test]
    fn what_an_interceptor_was_given_is_shown_nowhere() {
        let key = "00112233445566778899aabbccddeeff";
        for text in [
            format!("encrypt=={key}"),
            format!("encrypt,={key}"),
            format!("encrypt,key={key},{key}"),
            format!("encrypt,{key}=key"),
            format!("encrypt key={key}"),
            format!("encrypt:{key}"),
            format!("{key},encrypt"),
            format!("encrypt,key=,00+{key}"),
        ] {
            let error = parse(&["--interceptor", &text]).unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains("2233"), "{shown}");
            }
            assert!(error.to_string().contains("NAME[,KEY=VALUE...]"), "{error}");
        }
        let args = parse(&["--interceptor", &format!("encrypt,key={key}")]).unwrap();
        assert!(format!("{args:?}").contains("encrypt") && !format!("{args:?}").contains("2233"), "{args:?}");
    }

    #[test]
    fn names_are_resolved() {
        let addr = HostPort { host: "127.0.0.1".into(), port: 7 }.resolve().unwrap();
        assert_eq!(addr, ([127, 0, 0, 1], 7).into());
        assert!(HostPort { host: "256.0.0.1".into(), port: 7 }.resolve().is_err());
    }
}

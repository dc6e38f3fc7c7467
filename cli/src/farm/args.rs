//! The options of `tribes farm`.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tribes::farm::{Activation, PublicKey, Version};
use tribes::membership::StaticPeer;

use crate::names::parse_name;
use crate::node::HostPort;
use crate::units::{Malformed, parse_duration};

/// Keeps a folder of files the same on all members of a group.
#[derive(Debug, clap::Args)]
pub(crate) struct FarmCommand {
    #[command(subcommand)]
    pub(super) what: What,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum What {
    Watch(Box<WatchArgs>),
    Publish(PublishArgs),
    Status(StatusArgs),
    Rollback(RollbackArgs),
    Key(KeyArgs),
}

/// Runs a member: takes what is published, and publishes what is in a folder.
///
/// Lines that begin with a star tell what happens. Ends when it is interrupted, or with its input.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    pub(super) group: GroupArgs,
    /// Publishes what is in this folder, and what comes into it.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Where files are live. Without it nothing is taken.
    #[arg(long, value_name = "DIR", required_unless_present = "dir")]
    pub(super) live: Option<PathBuf>,
    /// Who can read the files in --live: their permissions in octal digits, on Unix.
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = parse_mode)]
    pub(super) mode: u32,
    /// Where files are fetched to, and kept; on the file system of --live. It is needed again after a restart.
    #[arg(long, value_name = "DIR")]
    pub(super) staging: PathBuf,
    /// Which files of --dir are published: * stands for any text, ? for any character.
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub(super) pattern: String,
    /// How long a file has to look the same before it is published.
    #[arg(long, value_name = "TIME", default_value = "750ms", value_parser = parse_duration)]
    pub(super) settle: Duration,
    /// How often all of --dir is looked through, for what the system did not report.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration)]
    pub(super) poll: Duration,
    /// Files that are gone from --dir stay published.
    #[arg(long)]
    pub(super) keep_removed: bool,
    /// When files go live: immediate, all-staged, or rolling=N (on N members at a time, once all have it). The same for all.
    #[arg(long, value_name = "HOW", default_value = "immediate")]
    pub(super) activation: How,
    /// How many versions are kept besides the current one.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) keep: usize,
    /// Does not end with its input.
    #[arg(long)]
    pub(super) ignore_input: bool,
}

/// Shows the public key that belongs to a signing key, for --trust-key. Makes the file if there is none.
#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    /// The file with the signing key. Whoever can read it can publish.
    pub(super) file: PathBuf,
}

/// Publishes a file, and waits until the members have it.
///
/// Ends with 0 if it is with all of them, otherwise with 1, and tells what each came to.
#[derive(Debug, clap::Args)]
pub(super) struct PublishArgs {
    /// The file.
    pub(super) file: PathBuf,
    /// Under which name; without it, that of the file.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
    #[command(flatten)]
    pub(super) group: GroupArgs,
}

/// Goes back to an earlier version of a file, on all members.
///
/// It is published anew: going back twice is going forth again.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The file's name.
    pub(super) name: String,
    /// To which version, as `tribes farm status` shows it; without it the one before.
    #[arg(long, value_name = "VERSION")]
    pub(super) to: Option<Version>,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
    #[command(flatten)]
    pub(super) group: GroupArgs,
}

/// Shows which files there are, and how far each member is with them.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Of this file only.
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
    #[command(flatten)]
    pub(super) group: GroupArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Begins when so many members are there that take files.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) members: usize,
    /// Waits only until the file is with all members, not until it is live there.
    #[arg(long)]
    pub(super) staged: bool,
    /// How long it waits at most.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    pub(super) within: Duration,
}

/// Where the group meets, and whom it trusts.
#[derive(Debug, clap::Args)]
pub(super) struct GroupArgs {
    /// The farm's name; the same for all.
    #[arg(long, value_name = "TEXT", default_value = "farm")]
    pub(super) farm: String,
    /// What others see of this member; without it, the name of the user.
    #[arg(long = "as", value_name = "NAME", value_parser = parse_name)]
    pub(super) member: Option<String>,
    /// Takes the channel from this file, a tribes.toml or Tomcat's server.xml.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mcast", "peer", "bind", "member"])]
    pub(super) config: Option<PathBuf>,
    /// The multicast group to meet in.
    #[arg(long, value_name = "GROUP:PORT", default_value = "228.0.0.4:45564", conflicts_with = "peer")]
    pub(super) mcast: SocketAddrV4,
    /// A member of a fixed list instead of multicast; repeatable.
    #[arg(long, value_name = "HOST:PORT[@ID]")]
    pub(super) peer: Vec<StaticPeer>,
    /// Where to listen. With another address than the default, members of other machines can be met.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub(super) bind: HostPort,
    /// Takes whatever a member of the group publishes. Whoever can join the group decides then what runs on all of them.
    #[arg(long, conflicts_with = "trust_key", required_unless_present = "trust_key")]
    pub(super) trust_cluster: bool,
    /// Takes what is signed with this key of Ed25519; repeatable.
    #[arg(long, value_name = "HEX64")]
    pub(super) trust_key: Vec<PublicKey>,
    /// Signs what is published with the key in this file: 32 random bytes, as 64 hexadecimal digits. `tribes farm key`
    /// makes one, and shows what to trust.
    #[arg(long, value_name = "FILE", requires = "trust_key", conflicts_with = "trust_cluster")]
    pub(super) sign_with: Option<PathBuf>,
}

fn parse_mode(text: &str) -> Result<u32, Malformed> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| Malformed::new(text, "mode; there are 600, 640, 644 and their kin"))
}

/// When files go live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How(pub(super) Activation);

impl FromStr for How {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let rolling = text.strip_prefix("rolling=").and_then(|count| count.parse().ok()).filter(|count| *count > 0);
        Ok(Self(match (text, rolling) {
            ("immediate", _) => Activation::Immediate,
            ("all-staged", _) => Activation::AllStaged,
            (_, Some(max_unavailable)) => Activation::AllStagedThenRolling { max_unavailable },
            _ => return Err(Malformed::new(text, "activation; there are immediate, all-staged and rolling=N")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        farm: FarmCommand,
    }

    fn parse(args: &[&str]) -> Result<What, clap::Error> {
        Program::try_parse_from(["farm"].iter().chain(args)).map(|program| program.farm.what)
    }

    #[test]
    fn whom_to_trust_has_to_be_said() {
        assert!(parse(&["publish", "file"]).is_err());
        assert!(parse(&["publish", "file", "--trust-cluster"]).is_ok());
        assert!(parse(&["publish", "file", "--trust-cluster", "--sign-with", "key"]).is_err());
        assert!(parse(&["watch", "--trust-cluster", "--staging", "s"]).is_err(), "neither takes nor gives");
        assert!(parse(&["watch", "--trust-cluster", "--staging", "s", "--live", "l"]).is_ok());
        assert!(parse(&["status", "--trust-key", "00"]).is_err());
        assert!(parse(&["rollback", "rules.json", "--trust-cluster", "--to", "1f-2"]).is_ok());
    }

    #[test]
    fn modes_are_read() {
        assert_eq!((parse_mode("600"), parse_mode("755")), (Ok(0o600), Ok(0o755)));
        for wrong in ["", "1000", "8", "-1", "rw"] {
            assert!(parse_mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn activations_are_read() {
        let rolling = Activation::AllStagedThenRolling { max_unavailable: 2 };
        for (text, how) in
            [("immediate", Activation::Immediate), ("all-staged", Activation::AllStaged), ("rolling=2", rolling)]
        {
            assert_eq!(text.parse(), Ok(How(how)));
        }
        for wrong in ["", "rolling", "rolling=", "rolling=0", "rolling=x", "now"] {
            assert!(wrong.parse::<How>().is_err(), "{wrong}");
        }
    }
}

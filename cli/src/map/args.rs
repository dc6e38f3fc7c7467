//! The options of `tribes map`.

use std::net::SocketAddrV4;
use std::str::FromStr;
use std::time::Duration;

use tribes::membership::StaticPeer;
use tribes::replication::Durability;

use crate::names::parse_name;
use crate::node::HostPort;
use crate::units::{Malformed, parse_duration};

/// Shares a map of texts with everybody in the group who opens it under the same name.
///
/// Takes commands on standard input, one a line, carried out one after another:
///
///   put KEY VALUE   the value is the rest of the line
///   get KEY
///   remove KEY
///   list [PREFIX]   the entries, in order of their keys
///   who [KEY]       who has the map, and what each lacks; or who holds a key, the primary first
///   stats           what the map counts
///   help            lists these commands
///   quit            leaves the group and ends, as the end of input does
///
/// What they come to goes to standard output, and what goes wrong to standard error. Ends with 1 if anything went wrong. Lines
/// that begin with a star tell of others: who comes and goes, and what they change.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MapArgs {
    /// The map's name.
    #[arg(long, value_name = "TEXT", default_value = "demo")]
    pub(super) name: String,
    /// What others see of this member; without it, the name of the user.
    #[arg(long = "as", value_name = "NAME", value_parser = parse_name)]
    pub(super) member: Option<String>,
    /// The multicast group to meet in.
    #[arg(long, value_name = "GROUP:PORT", default_value = "228.0.0.4:45564", conflicts_with = "peer")]
    pub(super) mcast: SocketAddrV4,
    /// A member of a fixed list instead of multicast; repeatable.
    #[arg(long, value_name = "HOST:PORT[@ID]")]
    pub(super) peer: Vec<StaticPeer>,
    /// Where to listen. With another address than the default, members of other machines can be met.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub(super) bind: HostPort,
    /// Each key is held by a primary and so many backups, not by everybody: the others ask these. The same for all. Whoever
    /// quits hands over what it holds.
    #[arg(long, value_name = "N", conflicts_with_all = ["group_size", "directory"])]
    pub(super) backups: Option<usize>,
    /// How many members the group has when nobody is missing: with it, a majority is more than half of these. The same for
    /// all.
    #[arg(long, value_name = "N")]
    pub(super) group_size: Option<usize>,
    /// What a write waits for: local, queued, copies=N (so many others have it), majority or all. With --backups, among those
    /// that hold the key.
    #[arg(long, value_name = "WHAT", default_value = "queued")]
    pub(super) durability: Wait,
    /// How long it waits for others.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(super) within: Duration,
    /// Takes no commands before so many members are there, this one counted.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) members: usize,
    /// How often it compares what it holds with another member: what a member that died had sent to some only comes to the
    /// rest by that.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(super) compare_every: Duration,
    /// Keeps the map in a file of this directory, too: it is there again after all members were stopped.
    #[arg(long, value_name = "PATH")]
    pub(super) directory: Option<std::path::PathBuf>,
    /// Tells nothing of others.
    #[arg(long)]
    pub(super) quiet: bool,
}

/// What a write waits for; how long is said elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Local,
    Queued,
    Copies(usize),
    Majority,
    All,
}

impl Wait {
    pub(super) const fn within(self, within: Duration) -> Durability {
        match self {
            Self::Local => Durability::Local,
            Self::Queued => Durability::Queued,
            Self::Copies(copies) => Durability::copies(copies, within),
            Self::Majority => Durability::majority(within),
            Self::All => Durability::all(within),
        }
    }
}

impl FromStr for Wait {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match (text, text.strip_prefix("copies=").and_then(|copies| copies.parse().ok())) {
            ("local", _) => Ok(Self::Local),
            ("queued", _) => Ok(Self::Queued),
            ("majority", _) => Ok(Self::Majority),
            ("all", _) => Ok(Self::All),
            (_, Some(copies)) => Ok(Self::Copies(copies)),
            _ => Err(Malformed::new(text, "durability; there are local, queued, copies=N, majority and all")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durabilities_are_read() {
        let second = Duration::from_secs(1);
        for (text, durability) in [
            ("local", Durability::Local),
            ("queued", Durability::Queued),
            ("copies=2", Durability::copies(2, second)),
            ("majority", Durability::majority(second)),
            ("all", Durability::all(second)),
        ] {
            assert_eq!(text.parse::<Wait>().unwrap().within(second), durability, "{text}");
        }
        for wrong in ["", "copies", "copies=", "copies=-1", "copies=x", "Local", "quorum"] {
            assert!(wrong.parse::<Wait>().is_err(), "{wrong}");
        }
    }
}

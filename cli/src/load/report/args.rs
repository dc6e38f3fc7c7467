//! The options of `tribes load report`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::super::args::{Guarantee, parse_payload, parse_seconds};
use crate::units::Malformed;

/// Measures many configurations of `tribes load`, one after another, and writes a report: tables (report.md, report.json) and
/// plots (SVG, PNG).
///
/// Floods for each payload and option, with more and more receivers; ping-pong for the distribution of round trips. Each
/// member is a process of its own on this machine. A run that fails is named and the others go on; the exit code tells.
///
/// Absolute figures hold for this machine at this moment. To compare, let another program run in turn with --against: ratios
/// are taken within each repetition.
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReportArgs {
    /// Where to write; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "tribes-load-report")]
    pub(super) out: PathBuf,
    /// A first look in half a minute: short runs, each once, fewer payloads and receivers. Other options overrule it.
    #[arg(long)]
    quick: bool,
    /// Length of the measured part of each run [default: 2; quick: 0.3].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// Length of the warm-up of each run [default: 0.5; quick: 0.1].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    warmup: Option<Duration>,
    /// How often all is measured; the median is reported [default: 3; quick: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: Option<u16>,
    /// Bytes of the messages, each at least 24 [default: 100,1024,65536,1048576; quick: 100,1024,65536].
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', value_parser = parse_payload)]
    payloads: Vec<usize>,
    /// When a send is done [default: all].
    #[arg(long, value_name = "OPTION,...", value_delimiter = ',', value_enum)]
    options: Vec<Guarantee>,
    /// How many receivers. All payloads are tried with up to three, one payload with all [default: 1,3,7; quick: 1,3].
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=254))]
    receivers: Vec<u8>,
    /// Another program that takes the same options and keeps the same conversation, run in turn with this one; repeatable.
    /// Its command is split at blanks that are not quoted.
    #[arg(long, value_name = "NAME=COMMAND", verbatim_doc_comment)]
    against: Vec<Contestant>,
    /// Length of the warm-up of those programs, if they need another; a JVM wants 6 seconds.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    against_warmup: Option<Duration>,
}

/// What is to be measured: the options with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) repetitions: u16,
    pub(super) payloads: Vec<usize>,
    pub(super) options: Vec<Guarantee>,
    pub(super) receivers: Vec<u8>,
    pub(super) times: Times,
    pub(super) against: Vec<Contestant>,
}

/// How long a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) measured: Duration,
    pub(super) warmup: Duration,
    pub(super) warmup_of_others: Duration,
}

impl ReportArgs {
    pub(super) fn settings(&self) -> Settings {
        let millis = |usual, quick| Duration::from_millis(if self.quick { quick } else { usual });
        let warmup = self.warmup.unwrap_or_else(|| millis(500, 100));
        Settings {
            repetitions: self.repetitions.unwrap_or(if self.quick { 1 } else { 3 }),
            payloads: sorted(
                &self.payloads,
                if self.quick { &[100, 1024, 65_536] } else { &[100, 1024, 65_536, 1 << 20] },
            ),
            options: if self.options.is_empty() {
                Guarantee::value_variants().to_vec()
            } else {
                distinct(&self.options)
            },
            receivers: sorted(&self.receivers, if self.quick { &[1, 3] } else { &[1, 3, 7] }),
            times: Times {
                measured: self.seconds.unwrap_or_else(|| millis(2000, 300)),
                warmup,
                warmup_of_others: self.against_warmup.unwrap_or(warmup),
            },
            against: self.against.clone(),
        }
    }
}

fn sorted<T: Copy + Ord>(given: &[T], default: &[T]) -> Vec<T> {
    let mut values = if given.is_empty() { default.to_vec() } else { given.to_vec() };
    values.sort_unstable();
    values.dedup();
    values
}

fn distinct<T: Copy + PartialEq>(given: &[T]) -> Vec<T> {
    let mut values = Vec::new();
    given.iter().for_each(|value| {
        if !values.contains(value) {
            values.push(*value);
        }
    });
    values
}

/// A program that can be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Contestant {
    pub(super) name: String,
    /// The program and its first arguments.
    pub(super) command: Vec<String>,
}

impl FromStr for Contestant {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new(text, "NAME=COMMAND, such as raw='bench/raw --variant std'");
        let (name, command) = text.split_once('=').ok_or_else(malformed)?;
        let command = words(command).filter(|words| !words.is_empty()).ok_or_else(malformed)?;
        match name.trim() {
            "" => Err(malformed()),
            name => Ok(Self { name: name.to_owned(), command }),
        }
    }
}

/// Splits at blanks; what stands between a pair of `'` or `"` is not split. Nothing if a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        report: ReportArgs,
    }

    fn settings(args: &[&str]) -> Result<Settings, clap::Error> {
        Program::try_parse_from(["report"].iter().chain(args)).map(|program| program.report.settings())
    }

    #[test]
    fn quick_is_less_of_everything_unless_told_otherwise() {
        let (usual, quick) = (settings(&[]).unwrap(), settings(&["--quick"]).unwrap());
        assert_eq!((usual.repetitions, quick.repetitions), (3, 1));
        assert_eq!(usual.receivers, [1, 3, 7]);
        assert_eq!(usual.options.len(), 4);
        assert!(quick.payloads.len() < usual.payloads.len() && quick.times.measured < usual.times.measured);

        let told =
            settings(&["--quick", "--seconds", "0.2", "--repetitions", "2", "--payloads", "1024,100,100"]).unwrap();
        assert_eq!((told.repetitions, told.payloads), (2, vec![100, 1024]));
        assert_eq!(told.times.measured, Duration::from_millis(200));
    }

    #[test]
    fn others_have_the_same_warm_up_unless_told_otherwise() {
        assert_eq!(settings(&["--warmup", "1"]).unwrap().times.warmup_of_others, Duration::from_secs(1));
        assert_eq!(settings(&["--against-warmup", "6"]).unwrap().times.warmup_of_others, Duration::from_secs(6));
    }

    #[test]
    fn commands_are_split_as_a_shell_would() {
        let java = Contestant::from_str(r#"java=java -cp "a b:c" 'T B'  --extra x='1 2' '' "#).unwrap();
        assert_eq!(java.name, "java");
        assert_eq!(java.command, ["java", "-cp", "a b:c", "T B", "--extra", "x=1 2", ""]);
        for wrong in ["java", "=java", "java=", "java= ", "java='java"] {
            assert!(Contestant::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for wrong in ["--payloads=23", "--options=sync", "--receivers=0", "--receivers=255", "--repetitions=0"] {
            assert!(settings(&[wrong]).is_err(), "{wrong}");
        }
    }
}

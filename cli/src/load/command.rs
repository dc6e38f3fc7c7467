//! `tribes load`, with what stands below it.

use std::process::ExitCode;

use clap::Subcommand;

use super::LoadArgs;

/// Puts load on a group and measures it: one process is one member, a driver starts and commands them all; `tribes load
/// report` is one.
///
/// A member prints READY when it listens and, if it is to send, sees all of --peers. It sends after the line GO on standard
/// input: warm-up, a pause of 300 ms, the measured part, an announcement of how many messages that was. A receiver prints
/// its figures, one JSON object on one line, when it has all that was announced; whoever has not printed yet does so after
/// the line REPORT. At the end of input the member leaves the group and ends.
///
/// Rates are per second, processor times in seconds, `lost` is what was announced but not received, `reordered` what came
/// behind a later message of the same sender, `bad` what had another length than agreed. Percentiles are at most 3 % too
/// small. Logs go to standard error; RUST_LOG sets what is logged.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
pub(crate) struct LoadCommand {
    #[command(subcommand)]
    whole: Option<Whole>,
    #[command(flatten)]
    member: Option<LoadArgs>,
}

#[derive(Debug, Subcommand)]
enum Whole {
    #[cfg(feature = "report")]
    Report(Box<super::report::ReportArgs>),
    /// Not in this program: it was built without the feature `report`.
    #[cfg(not(feature = "report"))]
    Report {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        _args: Vec<String>,
    },
}

/// Does what was asked for.
pub(crate) fn run(command: &LoadCommand) -> ExitCode {
    match (&command.whole, &command.member) {
        #[cfg(feature = "report")]
        (Some(Whole::Report(args)), _) => super::report::run(args),
        #[cfg(not(feature = "report"))]
        (Some(Whole::Report { .. }), _) => {
            refuse("there are no reports in this program; build it with --features report")
        }
        (None, Some(args)) => super::serve_member(args),
        (None, None) => refuse("give at least --bind, or a subcommand; see tribes load --help"),
    }
}

/// Ends as wrong options do.
fn refuse(why: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "tribes load: {why}");
    ExitCode::from(2)
}

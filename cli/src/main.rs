//! The `tribes` command: see groups work, chat in one, share a map or files, drive a member from a script, measure.

mod chat;
mod check;
mod demo;
mod farm;
mod input;
#[cfg(unix)]
mod load;
mod map;
mod names;
mod node;
mod rpc;
mod units;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Group messaging between processes, compatible with Apache Tribes.
#[derive(Debug, Parser)]
#[command(name = "tribes", version, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a group at work on this machine: joins, messages, a death, a return. Ends with 0 if all of it happened.
    Demo,
    Chat(chat::ChatArgs),
    Check(check::CheckArgs),
    Farm(farm::FarmCommand),
    Map(map::MapArgs),
    Node(Box<node::NodeArgs>),
    Rpc(rpc::RpcArgs),
    #[cfg(unix)]
    Load(Box<load::LoadCommand>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Demo => {
            // The demo provokes failures; it tells of them itself.
            log("off");
            on_all_cores(demo::run())
        }
        Command::Chat(args) => {
            log("error");
            on_all_cores(chat::run(args))
        }
        Command::Check(args) => {
            log("error");
            on_all_cores(check::run(args))
        }
        Command::Farm(args) => {
            log("error");
            on_all_cores(farm::run(args))
        }
        Command::Map(args) => {
            log("error");
            on_all_cores(map::run(args))
        }
        Command::Node(args) => {
            log("warn");
            on_all_cores(node::run(*args))
        }
        Command::Rpc(args) => {
            log("error");
            on_all_cores(rpc::run(args))
        }
        #[cfg(unix)]
        Command::Load(args) => {
            log("warn");
            load::run(&args)
        }
    }
}

/// Runs a command in tokio's usual runtime: a thread for each core.
fn on_all_cores(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tribes: the runtime cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error at `RUST_LOG`, or `default`.
fn log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

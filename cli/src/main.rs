//! The `tribes` command: see groups work, chat in one, drive a member from a script.

mod chat;
mod demo;
mod input;
mod node;
mod units;

use std::io::IsTerminal;
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
    Node(Box<node::NodeArgs>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Demo => {
            // The demo provokes failures; it tells of them itself.
            log("off");
            demo::run().await
        }
        Command::Chat(args) => {
            log("error");
            chat::run(args).await
        }
        Command::Node(args) => {
            log("warn");
            node::run(*args).await
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

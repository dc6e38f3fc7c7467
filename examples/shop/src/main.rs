//! A shop whose sessions survive the crash of a server.
//!
//! - `shop serve` is one node: an axum application with a login and a cart. Start as many as you like.
//! - `shop tour` starts nodes as processes of their own, walks a client through what can happen to them, killing them on the way, and
//!   says at each step what is expected and what was seen.
//! - `shop watch` starts nodes too, and serves a page in which sessions move when one kills a node there.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod admin;
mod application;
mod client;
mod nodes;
mod serve;
mod tour;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tribes::prelude::BoxError;

/// A shop whose sessions survive the crash of a server.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one node of the shop.
    Serve(serve::Serve),
    /// Walks through the life of a session while nodes crash.
    Tour(tour::Tour),
    /// Shows in a page where the sessions are, and that they move when a node is killed.
    Watch(watch::Watch),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let result: Result<bool, BoxError> = match Args::parse().command {
        Command::Serve(serve) => serve.run().await.map(|()| true),
        Command::Tour(tour) => tour.run().await,
        Command::Watch(watch) => watch.run().await.map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! A shop whose sessions survive the crash of a server.
//!
//! - `shop serve` is one node: an axum application with a login and a cart. Start as many as you like.
//! - `shop tour` starts nodes as processes of their own, walks a client through what can happen to them, killing them on the way, and
//!   says at each step what is expected and what was seen. With `--nginx` the client comes through nginx.
//! - `shop compare` says what sessions cost with our store, in one process, and in a Redis.
//! - `shop load` has many users shop through nginx while nodes are killed and come back, and looks whether anything is lost.
//! - `shop watch` starts nodes too, and serves a page in which sessions move when one kills a node there.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod admin;
mod application;
mod balancer;
mod client;
mod compare;
mod load;
mod log;
mod nodes;
mod redis;
mod serve;
mod tour;
mod watch;
mod witness;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::time::Instant;
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
    ///
    /// Says at each step what is expected and what was seen; the status is 0 if all is as expected.
    Tour(tour::Tour),
    /// Has many users shop through nginx while nodes are killed and come back, and looks whether anything is lost.
    ///
    /// Prints a table. The status is 0 if no piece whose adding was answered with 200 is lost, nobody who logged out is logged in
    /// again, nobody was answered by a node that was not ready, and what else it says it expects is so.
    Load(load::Load),
    /// Says what sessions cost with each store, beside each other.
    Compare(compare::Compare),
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
        Command::Tour(tour) => unless_stopped(tour.run()).await,
        Command::Load(load) => unless_stopped(load.run()).await,
        Command::Compare(compare) => unless_stopped(compare.run()).await,
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

/// What was started is stopped with it, and its folders go.
async fn unless_stopped(run: impl Future<Output = Result<bool, BoxError>>) -> Result<bool, BoxError> {
    tokio::select! {
        result = run => result,
        () = serve::stop() => Err("stopped".into()),
    }
}

/// Asks again and again until `look` gives something, or `limit` is over; and how long it took.
async fn within<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> (Option<T>, Duration) {
    let began = Instant::now();
    loop {
        let found = look().await;
        let took = began.elapsed();
        if found.is_some() || took >= limit {
            return (found, took);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

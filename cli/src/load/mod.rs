//! `tribes load`: a member that sends or receives as fast as it can, and counts. A driver starts one process for each
//! member, tells them when to begin, and reads their figures.
//!
//! ```text
//!  driver    GO · REPORT · end of input            control.rs
//!  sender    warm-up, measured part, end           sending.rs: flood.rs, pingpong.rs
//!  receiver  counts in its listener                listener.rs, receiving.rs
//!  both      print one JSON object                 report_line.rs
//! ```
//!
//! `tribes load report` is such a driver: `report/`.

mod args;
mod clock;
mod command;
mod control;
mod flood;
mod histogram;
mod listener;
mod payload;
mod pingpong;
mod receiving;
#[cfg(feature = "report")]
mod report;
mod report_line;
mod sending;
mod setup;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use args::{Extras, LoadArgs, Role};
pub(crate) use command::{LoadCommand, run};
use control::{Control, Stage};
use listener::Listener;
use receiving::Receiving;
use report_line::ReportLine;
use sending::{Sender, Source};
use tokio::runtime::{Builder, Runtime};
use tribes::{BoxError, Channel};

use crate::units::with_causes;

/// Runs a member until the end of input.
fn serve_member(args: &LoadArgs) -> ExitCode {
    let extras = Extras::of(&args.extra);
    match runtime(extras.workers).and_then(|runtime| runtime.block_on(serve(args, &extras))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tribes load: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// A runtime of so many threads; with none, everything runs on the thread of the caller.
fn runtime(workers: usize) -> Result<Runtime, BoxError> {
    let mut builder = if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    Ok(builder.enable_all().build()?)
}

async fn serve(args: &LoadArgs, extras: &Extras) -> Result<(), BoxError> {
    let peers = setup::resolve(&args.peers)?;
    let channel = setup::channel(args, extras, &peers)?;
    let receiving = Receiving::new(args.senders, args.payload);
    let listener = Arc::new(Listener::new(channel.downgrade(), receiving, args.options.options(), extras.batch));
    channel.listen_shared(Arc::clone(&listener) as _).forever();
    let control = Control::from_stdin();
    channel.start().await?;
    let result = converse(args, &channel, &peers, &listener, control).await;
    channel.stop().await;
    result
}

/// The run as the driver leads it.
async fn converse(
    args: &LoadArgs,
    channel: &Channel,
    peers: &[SocketAddr],
    listener: &Arc<Listener>,
    mut control: Control,
) -> Result<(), BoxError> {
    if args.role.sends() {
        tokio::select! {
            () = setup::all_there(channel, peers) => {}
            _ = control.reached(Stage::End) => return Ok(()),
        }
    }
    control::say_ready()?;

    let measured = match args.role {
        Role::Receiver => None,
        Role::Sender | Role::Peer => match control.reached(Stage::Go).await {
            Stage::Go => {
                let source = Arc::new(Source::new(channel.clone(), args));
                let sender =
                    Sender { source, listener: Arc::clone(listener), peers: peers.len(), control: control.clone() };
                Some(sender.run(args).await?)
            }
            _ => None,
        },
    };

    tokio::select! {
        () = listener.complete(), if args.role.receives() => {}
        _ = control.reached(Stage::Report) => {}
    }
    let line = {
        let receiving = listener.receiving();
        ReportLine::new(args, measured.as_ref(), args.role.receives().then_some(&*receiving))
    };
    control::print(&line)?;
    control.reached(Stage::End).await;
    Ok(())
}

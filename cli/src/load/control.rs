//! The conversation with whoever drives the run: commands on standard input, answers on standard output.

use std::io::{self, Write};

use serde::Serialize;
use tokio::sync::watch;
use tribes::{BoxError, Env};

use crate::input;

/// How far the run is. Each stage includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The members get ready.
    Setup,
    /// `GO`: senders send.
    Go,
    /// `REPORT`: all figures are to be printed.
    Report,
    /// The end of input: the member leaves.
    End,
}

/// The stage of the run, as the driver tells it.
#[derive(Clone, Debug)]
pub(super) struct Control(watch::Receiver<Stage>);

impl Control {
    /// Takes commands from standard input from now on. Needs the runtime.
    pub(super) fn from_stdin() -> Self {
        let (stage, control) = watch::channel(Stage::Setup);
        Env::real().spawn(async move {
            let mut lines = input::lines();
            while let Some(line) = lines.recv().await {
                match line.trim() {
                    "GO" => advance(&stage, Stage::Go),
                    "REPORT" => advance(&stage, Stage::Report),
                    "" => {}
                    other => tracing::warn!(command = other, "not understood; there are GO and REPORT"),
                }
            }
            advance(&stage, Stage::End);
            // The control of a run that has ended stays readable.
            stage.closed().await;
        });
        Self(control)
    }

    /// Waits until the run has come to `stage`, and returns where it is then. Cancel safe.
    pub(super) async fn reached(&mut self, stage: Stage) -> Stage {
        self.0.wait_for(|now| *now >= stage).await.map_or(Stage::End, |now| *now)
    }

    /// Whether the run has gone on since it was last [`reached`](Self::reached). Cheap enough for every message.
    pub(super) fn has_advanced(&self) -> bool {
        self.0.has_changed().unwrap_or(true)
    }
}

fn advance(stage: &watch::Sender<Stage>, to: Stage) {
    stage.send_if_modified(|now| {
        let further = to > *now;
        *now = to.max(*now);
        further
    });
}

/// Tells the driver that this member is ready.
pub(super) fn say_ready() -> Result<(), BoxError> {
    say(b"READY")
}

/// Prints `line` as one line of JSON.
pub(super) fn print(line: &impl Serialize) -> Result<(), BoxError> {
    say(&serde_json::to_vec(line)?)
}

/// Everything in one piece: the driver reads whole lines.
fn say(line: &[u8]) -> Result<(), BoxError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_go_forward() {
        let (stage, control) = watch::channel(Stage::Setup);
        let mut control = Control(control);
        advance(&stage, Stage::Go);
        assert_eq!(control.reached(Stage::Go).await, Stage::Go);
        assert!(!control.has_advanced());
        advance(&stage, Stage::Go);
        assert!(!control.has_advanced());
        advance(&stage, Stage::End);
        advance(&stage, Stage::Report);
        assert!(control.clone().has_advanced());
        assert_eq!(control.reached(Stage::Report).await, Stage::End);
        drop(stage);
        assert!(control.has_advanced());
    }
}

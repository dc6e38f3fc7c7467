//! `tribes demo`: a group at work, with its own times measured here and now. Each part must happen within its deadline.

mod cast;
mod parts;
mod screen;
mod stage;
mod statistics;

use std::process::ExitCode;
use std::time::Duration;

use screen::{Screen, Style};
use stage::Stage;
use tribes::Env;

use crate::units::Short;

/// All parts together; each has a deadline of its own within this.
const LIMIT: Duration = Duration::from_secs(18);

/// Runs the demo. The exit code is success only if everything happened.
pub(crate) async fn run() -> ExitCode {
    let screen = Screen::new();
    let env = Env::real();
    let begin = env.now();
    let parts = async {
        let mut stage = Stage::set(env.clone(), &screen)?;
        let result = parts::all(&mut stage).await;
        stage.clear().await;
        result
    };
    let result = env
        .until(begin + LIMIT, parts)
        .await
        .unwrap_or_else(|| Err(format!("everything within {}", Short(LIMIT)).into()));
    let took = Short(env.now() - begin);
    match result {
        Ok(()) => {
            screen.line(format_args!("\n{}  in {took}", screen.styled(Style::Good, "All of it happened")));
            ExitCode::SUCCESS
        }
        Err(missing) => {
            screen.line(format_args!("\n{}  {missing}  (after {took})", screen.styled(Style::Bad, "Missing")));
            ExitCode::FAILURE
        }
    }
}

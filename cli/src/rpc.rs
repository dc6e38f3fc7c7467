//! `tribes rpc`: ask a group, or answer it.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tribes::rpc::{Payload, Reply, Request, RpcChannel, Wait};
use tribes::{BoxError, Channel, GroupBuilder, To};

use crate::input;
use crate::node::{HostPort, parse_wait};
use crate::units::{Short, parse_duration, with_causes};

/// Asks everybody in a group, or answers.
///
/// In one terminal `tribes rpc serve --exec uptime`, in as many others as you like the same, and then
/// `tribes rpc ask 'how are you?'`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct RpcArgs {
    /// The multicast group to meet in.
    #[arg(long, global = true, value_name = "GROUP:PORT", default_value = "228.0.0.4:45564")]
    mcast: SocketAddrV4,
    /// Where to listen. With another address than the default, members of other machines can be met.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    bind: HostPort,
    /// The id of the RPC channel; the same for those who ask and those who answer.
    #[arg(long, global = true, value_name = "TEXT", default_value = "tribes")]
    id: String,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, clap::Subcommand)]
enum Role {
    Ask(Ask),
    Serve(Serve),
}

/// Asks, and prints each answer as it comes. Ends with 0 if as many replied as were waited for, else with 1.
#[derive(Debug, clap::Args)]
struct Ask {
    /// The question.
    question: String,
    /// For how many replies to wait: first, majority, all, none or a number.
    #[arg(long, value_name = "WAIT", default_value = "all", value_parser = parse_wait)]
    wait: Wait,
    /// How long to wait for them.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    within: Duration,
    /// For how many members to wait before asking.
    #[arg(long, value_name = "N", default_value_t = 1)]
    members: usize,
    /// How long to wait for them.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    join: Duration,
}

/// Answers until it is interrupted: with the question itself, or what a command says.
#[derive(Debug, clap::Args)]
struct Serve {
    /// Answers with this text instead.
    #[arg(long, value_name = "TEXT", conflicts_with = "exec")]
    reply: Option<String>,
    /// Answers with what this command of the shell prints; the question is its standard input. If it fails, so does the request;
    /// when the caller gives up, it is killed.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

pub(crate) async fn run(args: RpcArgs) -> ExitCode {
    let result = async {
        let builder = tribes::channel().bind(args.bind.resolve()?).multicast(args.mcast);
        match args.role {
            Role::Ask(ask) => question(builder, &args.id, ask).await,
            Role::Serve(serve) => answer(builder, &args.id, serve).await,
        }
    };
    match result.await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tribes rpc: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn question(builder: GroupBuilder, id: &str, ask: Ask) -> Result<ExitCode, BoxError> {
    let channel = builder.build()?;
    let rpc = RpcChannel::builder(id.to_owned()).open(&channel)?;
    channel.start_and_wait(ask.members, ask.join).await?;
    let begin = tokio::time::Instant::now();
    let mut answers = rpc.call(To::All, ask.question).wait(ask.wait).within(ask.within).stream()?;
    let (mut asked, mut replied) = (0, 0);
    while let Some((member, answer)) = answers.next().await {
        asked += 1;
        replied += usize::from(answer.is_reply());
        print(format_args!("{member} ({}): {answer}", Short(begin.elapsed())));
    }
    drop(answers);
    channel.stop().await;
    let enough = match ask.wait {
        Wait::None => true,
        wait => replied >= wait.replies(asked).unwrap_or(asked),
    };
    print(format_args!("{replied} of {asked} replied"));
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn answer(builder: GroupBuilder, id: &str, serve: Serve) -> Result<ExitCode, BoxError> {
    let channel: Channel = builder.build()?;
    let (reply, exec) = (serve.reply, serve.exec);
    let handler = move |request: Request| {
        let (reply, exec) = (reply.clone(), exec.clone());
        async move {
            print(format_args!("{} asks: {}", request.sender(), Plain(request.payload())));
            match (reply, exec) {
                (Some(reply), _) => Ok(Reply::from(reply)),
                (None, Some(command)) => Ok(execute(&command, request.bytes()).await?.into()),
                (None, None) => Ok(request.into_payload().into()),
            }
        }
    };
    let _rpc = RpcChannel::builder(id.to_owned()).handler(handler).open(&channel)?;
    channel.start().await?;
    print(format_args!("answering at {}", channel.local()));
    input::interrupted().await;
    channel.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// What `command` prints, given `question`.
async fn execute(command: &str, question: &[u8]) -> Result<Payload, BoxError> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = shell.spawn()?;
    let stdin = child.stdin.take();
    let ask = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its question has answered all the same.
            let _ = stdin.write_all(question).await;
        }
    };
    let ((), output) = tokio::join!(ask, child.wait_with_output());
    let output = output?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(Payload::from(text(output.stdout)))
    } else {
        Err(format!("{}: {}", output.status, text(output.stderr)).into())
    }
}

/// What others say cannot steer this terminal.
struct Plain<T>(T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
        self.0.to_string().chars().try_for_each(|c| std::fmt::Write::write_char(f, plain(c)))
    }
}

fn print(line: impl Display) {
    let mut out = io::stdout().lock();
    // Nobody reads: an interrupt will follow.
    let _ = writeln!(out, "{}", Plain(line)).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_answers_or_fails() {
        assert_eq!(execute("cat; echo ' you too'", b"hello").await.unwrap().text(), Some("hello you too"));
        assert_eq!(execute("true", &vec![0; 1 << 20]).await.unwrap().text(), Some(""));
        let error = execute("echo broken >&2; exit 3", b"").await.unwrap_err().to_string();
        assert!(error.contains('3') && error.ends_with("broken"), "{error}");
    }

    #[test]
    fn control_characters_are_taken_out() {
        assert_eq!(Plain("a\x1b[31m\nb\r").to_string(), "a\u{FFFD}[31m\nb\u{FFFD}");
    }
}

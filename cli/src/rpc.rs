//! `tribes rpc`: ask a group, or answer it.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tribes::rpc::{Payload, Reply, Request, RpcChannel, Wait};
use tribes::{BoxError, Channel, GroupBuilder, To};

use crate::input;
use crate::names::plain;
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
    /// when the caller gives up or its time is over, it is killed, with all that it started.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// How many bytes the command may print; with more the request fails, and the command is killed.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, requires = "exec")]
    max_output: usize,
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
    let (reply, exec, max_output) = (serve.reply, serve.exec, serve.max_output);
    let handler = move |request: Request| {
        let (reply, exec) = (reply.clone(), exec.clone());
        async move {
            print(format_args!("{} asks: {}", request.sender(), request.payload()));
            match (reply, exec) {
                (Some(reply), _) => Ok(Reply::from(reply)),
                (None, Some(command)) => Ok(execute(&command, request.bytes(), max_output).await?.into()),
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

/// Of what a command says on standard error, this much is told.
const MAX_COMPLAINT: u64 = 16 << 10;

/// What `command` prints, given `question`. Dropped, it kills the command.
async fn execute(command: &str, question: &[u8], max_output: usize) -> Result<Payload, BoxError> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // A group of its own: what it starts ends with it, and an interrupt from the terminal is ours alone.
    #[cfg(unix)]
    shell.process_group(0);
    let mut running = Running(shell.spawn()?);
    let (stdin, stdout, stderr) = (running.0.stdin.take(), running.0.stdout.take(), running.0.stderr.take());
    let ask = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its question has answered all the same.
            let _ = stdin.write_all(question).await;
        }
        Ok::<_, BoxError>(())
    };
    let print = async {
        let Some(mut stdout) = stdout else { return Ok(Vec::new()) };
        let output = read(&mut stdout, max_output as u64).await?;
        if stdout.read(&mut [0]).await? > 0 {
            Err(format!("it prints more than {max_output} bytes").into())
        } else {
            Ok(output)
        }
    };
    let complain = async {
        let Some(mut stderr) = stderr else { return Ok(Vec::new()) };
        let complaint = read(&mut stderr, MAX_COMPLAINT).await?;
        // The rest is nobody's; the command goes on.
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        Ok(complaint)
    };
    let ((), output, complaint) = tokio::try_join!(ask, print, complain)?;
    let status = running.0.wait().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if status.success() {
        Ok(Payload::from(text(output)))
    } else {
        Err(format!("{status}: {}", text(complaint)).into())
    }
}

/// The first bytes of `from`.
async fn read(from: &mut (impl AsyncRead + Unpin), max: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    from.take(max).read_to_end(&mut kept).await?;
    Ok(kept)
}

/// A command. Dropping it kills it, with all processes that it started and that did not leave its group.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        #[cfg(unix)]
        // No id: it has been waited for, and another process may have its number.
        if let Some(group) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // Gone already: just as well.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn print(line: impl Display) {
    let mut out = io::stdout().lock();
    // Nobody reads: an interrupt will follow.
    let _ = writeln!(out, "{}", plain(&line.to_string())).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 1 << 20;

    #[tokio::test]
    async fn a_command_answers_or_fails() {
        assert_eq!(execute("cat; echo ' you too'", b"hello", MANY).await.unwrap().text(), Some("hello you too"));
        assert_eq!(execute("true", &vec![0; 1 << 20], MANY).await.unwrap().text(), Some(""));
        let error = execute("echo broken >&2; exit 3", b"", MANY).await.unwrap_err().to_string();
        assert!(error.contains('3') && error.ends_with("broken"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_prints_too_much_fails() {
        assert_eq!(execute("printf 12345", b"", 5).await.unwrap().text(), Some("12345"));
        // It would print for ever, and does not read.
        let error = execute("yes", &vec![0; 1 << 20], 1000).await.unwrap_err().to_string();
        assert_eq!(error, "it prints more than 1000 bytes");
        // Of its complaints only the first are told, and it is not held up by that.
        let error = execute("yes | head -c 1000000 >&2; exit 3", b"", MANY).await.unwrap_err().to_string();
        assert!(error.contains('3') && error.len() <= 17 << 10, "{}", error.len());
    }

    /// A FIFO is open as long as one of those who were started lives.
    #[cfg(unix)]
    #[tokio::test]
    async fn what_a_command_started_ends_with_it() {
        let directory = std::env::temp_dir().join(format!("tribes-rpc-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let fifo = directory.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut open = Command::new("cat").arg(&fifo).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = open.stdout.take().unwrap();
        let command = format!("(echo started; sleep 1000) >{} & sleep 1000", fifo.display());
        let executing = execute(&command, b"", MANY);
        {
            tokio::pin!(executing);
            let mut started = [0; 8];
            tokio::select! {
                _ = &mut executing => panic!("it runs for ever"),
                read = said.read_exact(&mut started) => assert_eq!(read.unwrap(), 8),
            }
        }
        let end = tokio::time::timeout(Duration::from_secs(20), said.read(&mut [0])).await;
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(end.expect("the end of what it started").unwrap(), 0);
    }

    /// One line each, and nothing that steers a terminal.
    #[test]
    fn control_characters_are_taken_out() {
        assert_eq!(plain("a\x1b[31m\nb\r"), "a\u{FFFD}[31m\u{FFFD}b\u{FFFD}");
    }
}

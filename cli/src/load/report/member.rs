//! One member of a run: a child process that is told what to do and says what it reached.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;
use tribes::Env;

use super::figures::Figures;

/// How long a member may take to leave before it is killed.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long its complaints are waited for once its output has ended.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Lines of complaint that are kept.
const COMPLAINTS: usize = 5;

/// A running member. Dropping it kills it, with all processes that it started.
#[derive(Debug)]
pub(super) struct Member {
    process: Child,
    input: Option<ChildStdin>,
}

/// What a member says.
#[derive(Debug)]
pub(super) enum Said {
    /// It is bound, and sees whom it must.
    Ready,
    /// What it reached.
    Figures(Box<Figures>),
    /// A line that should have been figures, and why it is none.
    Nonsense(String),
    /// Nothing more; with the last lines of its standard error.
    End(String),
}

impl Member {
    /// Starts `command`, whose words must not be empty. Each thing it says is sent to `said`, with `index`.
    pub(super) fn start(
        env: &Env,
        command: &[String],
        index: usize,
        said: UnboundedSender<(usize, Said)>,
    ) -> io::Result<Self> {
        let (program, args) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut process = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: an interrupt from the terminal reaches us alone, and what it starts ends with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (input, output, complaints) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        env.spawn(async move {
            let mut complaints = Complaints::of(complaints);
            tokio::select! {
                () = listen(output, index, &said) => {}
                // Standard error may end first.
                () = async { complaints.keep().await; std::future::pending().await } => {}
            }
            // And what it said there at last may still be on its way.
            let _ = tokio::time::timeout(LAST_WORDS, complaints.keep()).await;
            let _ = said.send((index, Said::End(complaints.text())));
        });
        Ok(Self { process, input })
    }

    /// Writes a line to its standard input. Whether it still listens is seen by what it says.
    pub(super) async fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{line}\n").as_bytes()).await;
            let _ = input.flush().await;
        }
    }

    /// The largest resident memory it has had, in MiB; while it runs.
    pub(super) fn peak_memory_mib(&self) -> Option<f64> {
        super::machine::peak_memory_mib(self.process.id()?)
    }

    /// Ends its input: by contract it leaves then.
    pub(super) fn dismiss(&mut self) {
        self.input = None;
    }

    /// Waits until it has ended after [`dismiss`](Self::dismiss), or kills it.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        if let Ok(status) = tokio::time::timeout(FAREWELL, self.process.wait()).await {
            return status.ok();
        }
        self.kill();
        self.process.wait().await.ok()
    }

    fn kill(&self) {
        // No id: it has been waited for, and another process may have its number.
        if let Some(group) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            // Gone already: just as well.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Passes on what is said on standard output, to its end.
async fn listen(output: Option<impl AsyncRead + Unpin>, index: usize, said: &UnboundedSender<(usize, Said)>) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(meant) = understand(line.trim()) {
            let _ = said.send((index, meant));
        }
    }
}

/// What a line means; chatter means nothing.
fn understand(line: &str) -> Option<Said> {
    match line {
        "READY" => Some(Said::Ready),
        line if line.starts_with('{') => Some(match serde_json::from_str(line) {
            Ok(figures) => Said::Figures(Box::new(figures)),
            Err(error) => Said::Nonsense(format!("{error} in {line}")),
        }),
        _ => None,
    }
}

/// The last lines of standard error.
#[derive(Debug)]
struct Complaints<R> {
    from: Option<BufReader<R>>,
    line: Vec<u8>,
    last: VecDeque<String>,
}

impl<R: AsyncRead + Unpin> Complaints<R> {
    fn of(from: Option<R>) -> Self {
        Self { from: from.map(BufReader::new), line: Vec::new(), last: VecDeque::new() }
    }

    /// Keeps lines to the end of the stream. Cancel safe; at the end it returns at once.
    async fn keep(&mut self) {
        let Some(from) = &mut self.from else { return };
        while from.read_until(b'\n', &mut self.line).await.is_ok_and(|read| read > 0) {
            if self.last.len() == COMPLAINTS {
                self.last.pop_front();
            }
            self.last.push_back(String::from_utf8_lossy(self.line.trim_ascii()).into_owned());
            self.line.clear();
        }
    }

    fn text(&mut self) -> String {
        self.last.make_contiguous().join(" / ")
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn chatter_is_passed_over() {
        assert!(matches!(understand("READY"), Some(Said::Ready)));
        assert!(matches!(understand(r#"{"rx_msgs":1}"#), Some(Said::Figures(_))));
        assert!(matches!(understand("{"), Some(Said::Nonsense(_))));
        assert!(understand("Listening").is_none());
    }

    #[tokio::test]
    async fn a_member_is_heard_until_it_ends() {
        let (send, mut said) = mpsc::unbounded_channel();
        let script = "echo hello; read line; echo $line; read end; seq 9 >&2; exit 3";
        let mut member = Member::start(&Env::real(), &shell(script), 7, send).unwrap();
        member.tell("READY").await;
        assert!(matches!(said.recv().await, Some((7, Said::Ready))));
        member.dismiss();
        let Some((7, Said::End(words))) = said.recv().await else { panic!("it does not end") };
        assert_eq!(words, "5 / 6 / 7 / 8 / 9");
        assert_eq!(member.ended().await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn a_dropped_member_ends_with_all_it_has_started() {
        let (send, mut said) = mpsc::unbounded_channel();
        // The inner one keeps the output open: it ends only with both.
        let member = Member::start(&Env::real(), &shell("(sleep 3600; true) & echo READY; wait"), 0, send).unwrap();
        assert!(matches!(said.recv().await, Some((0, Said::Ready))));
        drop(member);
        assert!(matches!(said.recv().await, Some((0, Said::End(_)))));
    }
}

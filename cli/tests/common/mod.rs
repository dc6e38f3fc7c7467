//! Running the real program and reading what it says.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what is wrong by failing")]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Time for anything to happen, on a machine that may be busy with other things.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A multicast group of one's own. Its port is printed, should two tests ever meet.
pub fn group() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let group = format!("228.0.0.4:{}", socket.local_addr().unwrap().port());
    eprintln!("multicast group {group}");
    group
}

/// The program with these arguments, its input and output ours.
pub fn tribes(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tribes"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    pub seen: Vec<(Instant, String)>,
}

impl Program {
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(tribes(args))
    }

    /// Runs a command that comes to be the program.
    pub fn spawn(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Self { input: process.stdin.take(), process, lines, seen: Vec::new() }
    }

    /// Writes a line to its standard input.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line for which `wanted` returns something, and when it came. Lines that came before are not looked at.
    pub fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> (Instant, T) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((at, line)) = self.lines.recv_timeout(left) else {
                panic!("no {what} within {LIMIT:?}; the process: {:?}; seen: {:#?}", self.process.try_wait(), self.seen)
            };
            let hit = wanted(&line);
            self.seen.push((at, line));
            if let Some(hit) = hit {
                return (at, hit);
            }
        }
    }

    /// Ends its input and waits until it has ended.
    pub fn finish(&mut self) -> ExitStatus {
        drop(self.input.take());
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                self.seen.extend(self.lines.iter());
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; seen: {:#?}", self.seen);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Interrupts the process as Ctrl-C would.
    #[allow(dead_code, reason = "not every test program interrupts")]
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Sends the process a signal, such as `-STOP`.
    #[allow(dead_code, reason = "not every test program does")]
    pub fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Ends the process as a crash would (SIGKILL).
    pub fn kill(&mut self) -> Instant {
        let at = Instant::now();
        self.process.kill().unwrap();
        at
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for a line with this text.
#[allow(dead_code, reason = "not every test program reads lines for people")]
pub fn says(program: &mut Program, text: &str) {
    program.wait(text, |line| line.contains(text).then_some(()));
}

/// Waits until it has said all of these, in whatever order: what two tasks tell may come either way round.
#[allow(dead_code, reason = "not every test program waits for more than one thing")]
pub fn says_all(program: &mut Program, texts: &[&str]) {
    let mut missing = texts.to_vec();
    program.wait(&format!("{texts:?}"), |line| {
        missing.retain(|text| !line.contains(text));
        missing.is_empty().then_some(())
    });
}

/// A `tribes node`.
#[derive(Debug)]
pub struct Node {
    pub program: Program,
    pub id: String,
    pub port: u64,
}

impl Node {
    /// Starts a node on a free port and waits until it is ready.
    pub fn start(args: &[&str]) -> Self {
        // A file says where.
        let bind: &[&str] = if args.contains(&"--config") { &[] } else { &["--bind", "127.0.0.1:0"] };
        let mut program = Program::start(&[&["node"], bind, args].concat());
        let (_, ready) = program.wait("ready", |line| event(line, "ready"));
        let local = &ready["local"];
        Self { id: text(local, "id"), port: local["port"].as_u64().unwrap(), program }
    }

    pub fn wait(&mut self, name: &str) -> (Instant, Value) {
        self.program.wait(name, |line| event(line, name))
    }

    /// Gives a command and waits for its event.
    pub fn ask(&mut self, command: &str, answer: &str) -> Value {
        self.program.type_line(command);
        self.wait(answer).1
    }
}

/// Two nodes that see each other.
pub fn pair(left: &[&str], right: &[&str]) -> (Node, Node) {
    let group = group();
    let mcast = ["--mcast", group.as_str()];
    let mut left = Node::start(&[&mcast, left].concat());
    let mut right = Node::start(&[&mcast, right].concat());
    assert_eq!(text(&left.wait("member_added").1["member"], "id"), right.id);
    assert_eq!(text(&right.wait("member_added").1["member"], "id"), left.id);
    (left, right)
}

/// The line as an event of this name.
pub fn event(line: &str, name: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"));
    (event["event"] == name).then_some(event)
}

pub fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key:?} in {value}")).to_owned()
}

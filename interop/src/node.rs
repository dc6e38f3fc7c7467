use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::{Event, MemberInfo, MessageInfo, Removal, SentInfo};
use crate::spec::{Impl, Spec};
use crate::{Failure, programs};

/// How long a node may take until it is ready. A Java node waits two seconds for others, and the machine may be busy.
const READY: Duration = Duration::from_secs(60);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(90);
/// How long a node may take from `stop` to the end of its process.
const STOP: Duration = Duration::from_secs(20);
/// What is kept of a node's output, and how much of a line.
const KEPT_LINES: usize = 80;
const KEPT_COLUMNS: usize = 240;

/// A running member, of either implementation. Dropping it kills the process.
///
/// It remembers each event with the time at which it was read. The `wait_…` functions look at those first and then
/// for new ones, so an event cannot be missed by asking late; [`mark`](Self::mark) and
/// [`wait_since`](Self::wait_since) leave out what happened before. While a wait lasts, an `error` event that it does not ask
/// for, a line that is no event, and the end of the process are failures at once.
#[derive(Debug)]
pub struct Node {
    name: String,
    implementation: Impl,
    process: Child,
    commands: Option<ChildStdin>,
    incoming: Receiver<(Instant, Event)>,
    seen: Vec<(Instant, Event)>,
}

/// What a node wrote, for the reader of a failed scenario. Outlives the node.
#[derive(Debug)]
pub(crate) struct Transcript {
    name: String,
    start: Instant,
    lines: Mutex<VecDeque<String>>,
}

impl Transcript {
    fn new(name: &str, start: Instant) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), start, lines: Mutex::default() })
    }

    fn add(&self, at: Instant, kind: char, line: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        let shown: String = line.chars().take(KEPT_COLUMNS).collect();
        lines.push_back(format!("{:>9.3} {kind} {shown}", at.duration_since(self.start).as_secs_f64()));
    }

    pub(crate) fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text =
            format!("---- {} (seconds; < command, > event, | log; the last {KEPT_LINES} lines)\n", self.name);
        for line in lines.iter() {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

impl Node {
    pub(crate) fn spawn(name: &str, spec: &Spec, start: Instant) -> Result<(Self, Arc<Transcript>), Failure> {
        let mut command = programs::command(spec.implementation, &spec.args)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let transcript = Transcript::new(name, start);
        transcript.add(Instant::now(), '<', &format!("{command:?}"));
        let mut process = command.spawn().map_err(Failure::doing(format_args!("starting {command:?}")))?;
        let (events, incoming) = channel();
        if let (Some(out), Some(log)) = (process.stdout.take(), process.stderr.take()) {
            let (for_out, for_log) = (transcript.clone(), transcript.clone());
            thread::spawn(move || read_events(out, &for_out, &events));
            thread::spawn(move || read_log(log, &for_log));
        }
        let node = Self {
            name: name.to_owned(),
            implementation: spec.implementation,
            commands: process.stdin.take(),
            process,
            incoming,
            seen: Vec::new(),
        };
        Ok((node, transcript))
    }

    /// The implementation it runs on.
    pub fn implementation(&self) -> Impl {
        self.implementation
    }

    /// The node as it describes itself; waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn local(&mut self) -> Result<MemberInfo, Failure> {
        self.wait_for("ready", READY, |event| match event {
            Event::Ready(local) => Some(local.clone()),
            _ => None,
        })
        .map(|(_, local)| local)
    }

    // ------------------------------------------------------------ commands

    /// Gives a command without waiting for its answer.
    ///
    /// # Errors
    /// When the process does not take it.
    pub fn command(&mut self, line: &str) -> Result<(), Failure> {
        let written = match &mut self.commands {
            Some(stdin) => stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(Failure::doing(format_args!("{}: command '{line}'", self.name)))
    }

    /// Sends `count` messages to all members and waits for the outcome.
    ///
    /// # Errors
    /// When the command is refused or gives no outcome in time. Failed messages are not an error here.
    pub fn send(&mut self, options: &str, payload: &str, count: u64) -> Result<SentInfo, Failure> {
        self.outcome_of(&format!("send {options} {payload} {count}"))
    }

    /// Sends one message to some members and waits for the outcome.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn send_to(&mut self, ids: &[&str], options: &str, payload: &str) -> Result<SentInfo, Failure> {
        self.outcome_of(&format!("send {options} {payload} to={}", ids.join(",")))
    }

    fn outcome_of(&mut self, command: &str) -> Result<SentInfo, Failure> {
        self.ask(command, |event| match event {
            Event::Sent(sent) => Some(sent.clone()),
            _ => None,
        })
    }

    /// The others, as the node sees them now.
    ///
    /// # Errors
    /// When it gives no answer.
    pub fn members(&mut self) -> Result<Vec<MemberInfo>, Failure> {
        self.ask("members", |event| match event {
            Event::Members(members) => Some(members.clone()),
            _ => None,
        })
    }

    /// Gives a command and waits for the answer that `pick` accepts.
    ///
    /// # Errors
    /// When no such answer comes.
    pub fn ask<T>(&mut self, command: &str, pick: impl FnMut(&Event) -> Option<T>) -> Result<T, Failure> {
        let mark = self.mark();
        self.command(command)?;
        self.wait_since(mark, &format!("the answer to '{command}'"), COMMAND, pick).map(|(_, answer)| answer)
    }

    // ------------------------------------------------------------ life and death

    /// Lets the node leave on purpose, and returns the time of the command once the process has ended.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub fn stop(&mut self) -> Result<Instant, Failure> {
        let asked = Instant::now();
        self.command("stop")?;
        self.wait_for("stopped", STOP, |event| matches!(event, Event::Stopped).then_some(()))?;
        self.commands = None;
        let end = asked + STOP;
        while let Some(left) = remaining(end) {
            match self.incoming.recv_timeout(left) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.ended()?;
                    if !status.success() {
                        return Err(Failure::new(format!("{} stopped with {status}", self.name)));
                    }
                    return Ok(asked);
                }
            }
        }
        Err(Failure::new(format!("{} says it stopped, but its process still runs", self.name)))
    }

    /// Ends the process as `kill -9` does, and returns the time.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<Instant, Failure> {
        let when = Instant::now();
        self.process.kill().map_err(Failure::doing(format_args!("killing {}", self.name)))?;
        self.ended()?;
        Ok(when)
    }

    /// Stops the process in its tracks (SIGSTOP), and returns the time.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn freeze(&mut self) -> Result<Instant, Failure> {
        let when = self.signal("STOP")?;
        // One thread takes the signal and stops the others: until it gets a processor, these go on.
        while self.has_running_threads() {
            if when.elapsed() > COMMAND {
                return Err(Failure::new(format!("{} does not stop", self.name)));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(when)
    }

    /// Whether a thread of the process is not stopped. Where the system does not tell, none is.
    fn has_running_threads(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        threads.into_iter().flatten().flatten().any(|thread| {
            // The state stands behind the name, which is in brackets and may have any character in it.
            let told = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            told.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T'))
        })
    }

    /// Lets a frozen process go on (SIGCONT), and returns the time.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn thaw(&mut self) -> Result<Instant, Failure> {
        self.signal("CONT")
    }

    /// The status of a process that has closed its output, which it does as it ends, or was killed.
    fn ended(&mut self) -> Result<ExitStatus, Failure> {
        self.process.wait().map_err(Failure::doing(format_args!("waiting for {}", self.name)))
    }

    /// Through the shell, whose `kill` is there on every system; the standard library sends no signals.
    fn signal(&mut self, name: &str) -> Result<Instant, Failure> {
        let when = Instant::now();
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.process.id())])
            .status()
            .map_err(Failure::doing("starting sh"))?;
        if status.success() { Ok(when) } else { Err(Failure::new(format!("kill -{name}: {status}"))) }
    }

    // ------------------------------------------------------------ events

    /// A place in the node's history: now.
    pub fn mark(&mut self) -> usize {
        while let Ok(event) = self.incoming.try_recv() {
            self.seen.push(event);
        }
        self.seen.len()
    }

    /// Waits for the first event of all that `pick` accepts; returns when it was read, and what `pick` made of it.
    ///
    /// # Errors
    /// When none comes `within` that time, or none can come any more.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<(Instant, T), Failure> {
        self.wait_since(0, what, within, pick)
    }

    /// Like [`wait_for`](Self::wait_for), for events that came after `mark`.
    ///
    /// # Errors
    /// As there.
    pub fn wait_since<T>(
        &mut self,
        mark: usize,
        what: &str,
        within: Duration,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<(Instant, T), Failure> {
        let end = Instant::now() + within;
        let mut next = mark;
        loop {
            while let Some((at, event)) = self.seen.get(next) {
                next += 1;
                if let Some(found) = pick(event) {
                    return Ok((*at, found));
                }
                if let Event::Error(text) | Event::Garbage(text) = event {
                    return Err(Failure::new(format!("{}, waiting for {what}: {text}", self.name)));
                }
            }
            let left = remaining(end).unwrap_or_default();
            match self.incoming.recv_timeout(left) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::new(format!("{}: no {what} within {within:?}", self.name)));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.ended()?;
                    return Err(Failure::new(format!("{} ended before {what} ({status})", self.name)));
                }
            }
        }
    }

    /// Requires that for a while nothing happens that `pick` accepts, from the last event looked at on.
    ///
    /// # Errors
    /// When it happens.
    pub fn stays_quiet(
        &mut self,
        what: &str,
        time: Duration,
        mut pick: impl FnMut(&Event) -> bool,
    ) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while let Some(left) = remaining(end) {
            match self.incoming.recv_timeout(left) {
                Ok(event) => {
                    let unwanted = pick(&event.1);
                    self.seen.push(event);
                    if unwanted {
                        return Err(Failure::new(format!("{}: unexpected {what}", self.name)));
                    }
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.ended()?;
                    return Err(Failure::new(format!("{} ended before its time ({status})", self.name)));
                }
            }
        }
        Ok(())
    }

    /// How many of the events so far `pick` accepts.
    pub fn count(&mut self, mut pick: impl FnMut(&Event) -> bool) -> usize {
        self.mark();
        self.seen.iter().filter(|(_, event)| pick(event)).count()
    }

    /// All messages so far, in the order in which the application had them.
    pub fn messages(&mut self) -> Vec<MessageInfo> {
        self.mark();
        self.seen
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Message(message) => Some(message.clone()),
                _ => None,
            })
            .collect()
    }

    /// Waits until the member with this id has joined.
    ///
    /// # Errors
    /// When it does not join in time.
    pub fn wait_member_added(&mut self, id: &str, within: Duration) -> Result<(Instant, MemberInfo), Failure> {
        self.wait_for(&format!("member_added of {id}"), within, |event| match event {
            Event::MemberAdded(member) if member.id == id => Some(member.clone()),
            _ => None,
        })
    }

    /// Waits until the member with this id is gone; returns when and why.
    ///
    /// # Errors
    /// When it is not gone in time.
    pub fn wait_member_removed(&mut self, id: &str, within: Duration) -> Result<(Instant, Removal), Failure> {
        self.wait_for(&format!("member_removed of {id}"), within, |event| match event {
            Event::MemberRemoved(member, why) if member.id == id => Some(*why),
            _ => None,
        })
    }

    /// Waits for a message that `pick` accepts.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn wait_message(
        &mut self,
        within: Duration,
        mut pick: impl FnMut(&MessageInfo) -> bool,
    ) -> Result<(Instant, MessageInfo), Failure> {
        self.wait_for("message", within, |event| match event {
            Event::Message(message) if pick(message) => Some(message.clone()),
            _ => None,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn remaining(end: Instant) -> Option<Duration> {
    end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

fn read_events(out: impl Read, transcript: &Transcript, events: &Sender<(Instant, Event)>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let now = Instant::now();
        transcript.add(now, '>', &line);
        if events.send((now, Event::parse(&line))).is_err() {
            return;
        }
    }
}

fn read_log(log: impl Read, transcript: &Transcript) {
    for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
        transcript.add(Instant::now(), '|', &String::from_utf8_lossy(&line));
    }
}

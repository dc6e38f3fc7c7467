//! One run: the members are started, told when to go, heard, and ended.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tribes::{Env, Time};

use super::args::{Contestant, Times};
use super::figures::{Figures, Run};
use super::machine::Meter;
use super::member::{Member, Said};
use super::plan::Work;
use super::text::name;
use crate::load::args::Role;

/// How long a member may take to get ready; a JVM on a busy machine needs some.
const TO_GET_READY: Duration = Duration::from_secs(15);
/// The pause between warm-up and measured part, and time for what is still under way at the end.
const TO_COMPLETE: Duration = Duration::from_secs(8);
/// How long a member may take to report.
const TO_REPORT: Duration = Duration::from_secs(3);

/// Why there is no figure. Members are counted as on their command line: 0 is the sender.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no free port on 127.0.0.1")]
    Ports(#[source] io::Error),
    #[error("{who} cannot be started as {command:?}")]
    Start { who: String, command: String, source: io::Error },
    #[error("{who} was not ready within {} s and was ended", TO_GET_READY.as_secs())]
    NotReady { who: String },
    #[error("{who} ended early{}", said(words))]
    Died { who: String, words: String },
    #[error("{who} did not report when it was told to, and was ended")]
    Silent { who: String },
    #[error("{who} printed figures that cannot be read: {why}")]
    Nonsense { who: String, why: String },
}

fn said(words: &str) -> String {
    if words.is_empty() { ", without a word".to_owned() } else { format!("; its last words: {words}") }
}

/// Lets `contestant` do `work` once. However this ends, or is dropped, no member is left.
pub(super) async fn run(
    env: &Env,
    contestant: &Contestant,
    work: Work,
    warmup: Duration,
    times: Times,
) -> Result<Run, Failure> {
    let meter = Meter::start(env);
    let commands = commands(contestant, work, warmup, times)?;
    let mut crew = Crew::new(env.clone(), commands.len());
    let result = crew.work(&commands, warmup + times.measured).await;
    crew.end().await;
    Ok(Run { foreign: meter.foreign(env), ..result? })
}

/// The commands of all members, the sender's first.
fn commands(contestant: &Contestant, work: Work, warmup: Duration, times: Times) -> Result<Vec<Vec<String>>, Failure> {
    let addrs = free_addrs(usize::from(work.receivers) + 1).map_err(Failure::Ports)?;
    let of_member = |(index, addr): (usize, &String)| {
        let others: Vec<_> = addrs.iter().filter(|other| *other != addr).map(String::as_str).collect();
        let role = if index == 0 { Role::Sender } else { Role::Receiver };
        let options = [
            ("--role", name(role)),
            ("--index", index.to_string()),
            ("--bind", addr.clone()),
            ("--peers", others.join(",")),
            ("--senders", "1".to_owned()),
            ("--payload", work.payload.to_string()),
            ("--options", name(work.options)),
            ("--mode", name(work.mode)),
            ("--seconds", times.measured.as_secs_f64().to_string()),
            ("--warmup", warmup.as_secs_f64().to_string()),
            ("--threads", "1".to_owned()),
        ];
        let mut command = contestant.command.clone();
        command.extend(options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
        command.push("--json".to_owned());
        command
    };
    Ok(addrs.iter().enumerate().map(of_member).collect())
}

/// So many addresses that nobody listens at.
fn free_addrs(number: usize) -> io::Result<Vec<String>> {
    // All are taken at the same time, so none comes twice.
    let taken = (0..number).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    taken.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

/// The members of a run, and what they have said.
#[derive(Debug)]
struct Crew {
    env: Env,
    /// In the order in which they are started, the sender last.
    members: Vec<Member>,
    said: UnboundedReceiver<(usize, Said)>,
    say: UnboundedSender<(usize, Said)>,
    /// By index: the sender first.
    ready: Vec<bool>,
    figures: Vec<Option<Figures>>,
}

impl Crew {
    fn new(env: Env, number: usize) -> Self {
        let (say, said) = unbounded_channel();
        Self { env, members: Vec::new(), said, say, ready: vec![false; number], figures: vec![None; number] }
    }

    async fn work(&mut self, commands: &[Vec<String>], takes: Duration) -> Result<Run, Failure> {
        for (index, command) in commands.iter().enumerate().skip(1) {
            self.start(index, command)?;
        }
        self.all_ready().await?;
        if let Some(command) = commands.first() {
            self.start(0, command)?;
        }
        self.all_ready().await?;
        if let Some(sender) = self.members.last_mut() {
            sender.tell("GO").await;
        }
        // Receivers report when they have all; whoever has not by then says what it has.
        self.hear_until(self.env.now() + takes + TO_COMPLETE, |crew| crew.receivers().all(Option::is_some)).await?;
        for member in &mut self.members {
            member.tell("REPORT").await;
        }
        self.hear_until(self.env.now() + TO_REPORT, |crew| crew.figures.iter().all(Option::is_some)).await?;
        self.result()
    }

    fn start(&mut self, index: usize, command: &[String]) -> Result<(), Failure> {
        let member = Member::start(&self.env, command, index, self.say.clone()).map_err(|source| Failure::Start {
            who: who(index),
            command: command.first().cloned().unwrap_or_default(),
            source,
        })?;
        self.members.push(member);
        Ok(())
    }

    /// Waits until all that have been started are ready.
    async fn all_ready(&mut self) -> Result<(), Failure> {
        let started = self.members.len();
        let ready = |crew: &Self| crew.ready.iter().filter(|ready| **ready).count() == started;
        if self.hear_until(self.env.now() + TO_GET_READY, ready).await? {
            return Ok(());
        }
        // The sender, number 0, is last to be started.
        let late = self.ready.iter().rposition(|ready| !ready);
        Err(Failure::NotReady { who: who(late.unwrap_or_default()) })
    }

    /// Hears the members until `enough` or the deadline, and tells whether it was enough. None of them may end meanwhile.
    async fn hear_until(&mut self, deadline: Time, enough: impl Fn(&Self) -> bool) -> Result<bool, Failure> {
        while !enough(self) {
            let said = self.said.recv();
            match self.env.until(deadline, said).await.flatten() {
                Some((index, said)) => self.hear(index, said)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn hear(&mut self, index: usize, said: Said) -> Result<(), Failure> {
        match said {
            Said::Ready => self.ready.get_mut(index).into_iter().for_each(|ready| *ready = true),
            Said::Figures(figures) => {
                self.figures.get_mut(index).into_iter().for_each(|slot| *slot = Some((*figures).clone()));
            }
            Said::Nonsense(why) => return Err(Failure::Nonsense { who: who(index), why }),
            Said::End(words) => return Err(Failure::Died { who: who(index), words }),
        }
        Ok(())
    }

    fn receivers(&self) -> impl Iterator<Item = &Option<Figures>> {
        self.figures.iter().skip(1)
    }

    fn result(&self) -> Result<Run, Failure> {
        let told = |(index, figures): (usize, &Option<Figures>)| {
            figures.clone().ok_or_else(|| Failure::Silent { who: who(index) })
        };
        let figures = self.figures.iter().enumerate().map(told).collect::<Result<Vec<_>, _>>()?;
        let (sender, receivers) = figures.split_first().ok_or_else(|| Failure::Silent { who: who(0) })?;
        let peak_memory_mib = self.members.iter().filter_map(Member::peak_memory_mib).reduce(f64::max);
        Ok(Run { peak_memory_mib, ..Run::of(sender, receivers) })
    }

    /// Ends all members, and returns when they have ended.
    async fn end(&mut self) {
        self.members.iter_mut().for_each(Member::dismiss);
        for member in &mut self.members {
            member.ended().await;
        }
    }
}

fn who(index: usize) -> String {
    match index {
        0 => "the sender".to_owned(),
        index => format!("receiver {index}"),
    }
}

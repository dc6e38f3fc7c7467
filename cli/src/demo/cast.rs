//! Who takes part in the demo: members in this process, and one in a process of its own, so that it can be killed.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tribes::{BoxError, Channel, Env, Member, MemberEvent, SendOptions, Time};

use crate::units::hex;

/// The typed messages of the demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Note {
    Hello { text: String },
    Question { number: u32 },
    Answer { number: u32 },
}

/// The guarantees, and what is true when the send returns.
pub(super) const GUARANTEES: [(SendOptions, &str, &str); 5] = [
    (SendOptions::NONE, "none", "the operating system took it"),
    (SendOptions::ACK, "ack", "each member had received it"),
    (SendOptions::SYNC_ACK, "ack,sync", "each listener had returned"),
    (SendOptions::ASYNC, "async", "it was queued"),
    (SendOptions::ASYNC.union(SendOptions::ACK), "async,ack", "it was queued"),
];

/// What to call the guarantee of these options.
pub(super) fn guarantee(options: SendOptions) -> String {
    let known = GUARANTEES.iter().find(|(known, ..)| *known == options);
    known.map_or_else(|| options.to_string(), |(_, name, _)| (*name).to_owned())
}

/// Something that a member noticed.
#[derive(Debug)]
pub(super) struct Happening {
    pub(super) at: Time,
    /// Who noticed it.
    pub(super) who: &'static str,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Member(MemberEvent),
    Note { note: Note, from: Arc<Member>, options: SendOptions },
}

/// The group's multicast port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(u16);

impl Group {
    /// A port that is free now and that no other demo is likely to choose.
    pub(super) fn free() -> Result<Self, BoxError> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        Ok(Self(socket.local_addr()?.port()))
    }

    pub(super) fn address(self) -> String {
        format!("228.0.0.4:{}", self.0)
    }
}

/// A member in this process. It is called by its payload.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: &'static str,
    pub(super) channel: Channel,
}

impl Actor {
    /// A member that reports what it notices to `happenings`, and answers questions under the guarantee under which they came.
    pub(super) fn new(
        name: &'static str,
        group: Group,
        env: &Env,
        happenings: &mpsc::UnboundedSender<Happening>,
    ) -> Result<Self, BoxError> {
        let channel = tribes::channel().bind("127.0.0.1:0").multicast(group.address()).payload(name).build()?;
        let (tell, clock, mut members) = (happenings.clone(), env.clone(), channel.member_events());
        env.spawn(async move {
            while let Some(event) = members.next().await {
                let _ = tell.send(Happening { at: clock.now(), who: name, what: What::Member(event) });
            }
        });
        let (tell, clock, mut messages, weak) =
            (happenings.clone(), env.clone(), channel.messages(), channel.downgrade());
        env.spawn(async move {
            while let Some((message, from)) = messages.next().await {
                let at = clock.now();
                let Ok(note) = message.decode::<Note>() else { continue };
                let options = message.options() - SendOptions::BYTE_MESSAGE;
                if let (Note::Question { number }, Some(channel)) = (&note, weak.upgrade()) {
                    let answer = Note::Answer { number: *number };
                    // One that fails is missed by who asked.
                    let _ = channel.send_message(&from, &answer, options).await;
                }
                let _ = tell.send(Happening { at, who: name, what: What::Note { note, from, options } });
            }
        });
        Ok(Self { name, channel })
    }
}

/// What to call a member.
pub(super) fn name_of(member: &Member) -> String {
    match std::str::from_utf8(member.payload()) {
        Ok(name) if !name.is_empty() && name.chars().all(char::is_alphanumeric) => name.to_owned(),
        _ => member.to_string(),
    }
}

/// A member in a process of its own: this program as `tribes node`. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Outsider {
    process: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    pub(super) port: u16,
}

impl Outsider {
    /// Starts the process and waits until it is ready.
    pub(super) async fn start(name: &str, group: Group, port: u16) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", "--mcast", &group.address(), "--payload", &hex(name.as_bytes())]);
        command.args(["--bind", &format!("127.0.0.1:{port}"), "--auto-bind", "1"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let (Some(commands), Some(events)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the process has no standard input and output".into());
        };
        let mut outsider = Self { process, commands, events: BufReader::new(events).lines(), port };
        let ready = outsider.event().await?;
        let local = ready.get("local").and_then(|local| local.get("port")).and_then(serde_json::Value::as_u64);
        outsider.port = local
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| format!("the process did not become ready: {ready}"))?;
        Ok(outsider)
    }

    async fn event(&mut self) -> Result<serde_json::Value, BoxError> {
        let line = self.events.next_line().await?.ok_or("the process ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until it has got a message.
    pub(super) async fn hears(&mut self) -> Result<(), BoxError> {
        while self.event().await?.get("event").and_then(|event| event.as_str()) != Some("message") {}
        Ok(())
    }

    /// Ends the process as a crash would (SIGKILL).
    pub(super) fn kill(&mut self) -> Result<(), BoxError> {
        Ok(self.process.start_kill()?)
    }

    /// Waits until the killed process is gone.
    pub(super) async fn gone(mut self) -> Result<(), BoxError> {
        self.process.wait().await?;
        Ok(())
    }

    /// Has it leave in order, and waits until its process has ended.
    pub(super) async fn stop(mut self) -> Result<(), BoxError> {
        self.commands.write_all(b"stop\n").await?;
        let status = self.process.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("the process ended with {status}").into()) }
    }
}

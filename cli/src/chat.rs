//! `tribes chat`: a chat between processes. Lines that are typed go to all; lines that begin with a slash are commands.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tribes::{BoxError, Channel, Departure, Member, MemberEvent, Message, SendOptions, To, View};

use crate::input;
use crate::names::{name_of, own_name, parse_name, plain, print};
use crate::node::HostPort;
use crate::units::with_causes;

const HELP: &str = "/who lists who is there, /to NAME TEXT tells one alone, /quit ends";

/// Chats with everybody in the group.
///
/// Type a line to say it to all; /who lists who is there, /to NAME TEXT tells one alone, /quit or the end of input ends.
#[derive(Debug, clap::Args)]
pub(crate) struct ChatArgs {
    /// What others see; without it, the name of the user.
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    /// The multicast group to meet in.
    #[arg(long, value_name = "GROUP:PORT", default_value = "228.0.0.4:45564")]
    mcast: SocketAddrV4,
    /// Where to listen. With another address than the default, members of other machines can be met.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    bind: HostPort,
}

/// What travels.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    text: String,
    /// Whether it was meant for one alone.
    #[serde(default)]
    private: bool,
}

/// Chats until the end of input.
pub(crate) async fn run(args: ChatArgs) -> ExitCode {
    match chat(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tribes chat: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn chat(args: ChatArgs) -> Result<(), BoxError> {
    let name = own_name(args.name);
    let channel = tribes::channel().bind(args.bind.resolve()?).multicast(args.mcast).payload(name.clone()).build()?;
    let (mut members, mut messages) = (channel.member_events(), channel.messages());
    channel.start().await?;
    print(format_args!("* you are {name}, at {}; {HELP}", channel.local()));

    let mut lines = input::lines();
    // Told of by name after they have gone, when the view no longer has them.
    let mut deliveries = Deliveries::new();
    let mut interrupted = std::pin::pin!(input::interrupted());
    loop {
        tokio::select! {
            biased;
            () = &mut interrupted => break,
            Some(event) = members.next() => tell(&event),
            Some((message, from)) = messages.next() => hear(&message, &from),
            Some(report) = deliveries.reports.recv() => print(report),
            line = lines.recv() => match line {
                Some(line) if line.trim() != "/quit" => say(&channel, line.trim(), &deliveries.sink).await,
                _ => break,
            },
        }
    }
    channel.stop().await;
    Ok(())
}

/// What did not arrive, told when it is known.
struct Deliveries {
    sink: mpsc::UnboundedSender<String>,
    reports: mpsc::UnboundedReceiver<String>,
}

impl Deliveries {
    fn new() -> Self {
        let (sink, reports) = mpsc::unbounded_channel();
        Self { sink, reports }
    }
}

fn tell(event: &MemberEvent) {
    match event {
        MemberEvent::Added(member) => print(format_args!("* {} is here ({member})", name_of(member))),
        MemberEvent::Removed(_, Departure::Stopped) => {}
        MemberEvent::Removed(member, Departure::Shutdown) => print(format_args!("* {} left", name_of(member))),
        MemberEvent::Removed(member, _) => print(format_args!("* {} is gone without a word", name_of(member))),
        _ => {}
    }
}

fn hear(message: &Message, from: &Member) {
    let Ok(said) = message.decode::<Said>() else { return };
    let aside = if said.private { " (to you alone)" } else { "" };
    print(format_args!("{}{aside}: {}", name_of(from), plain(&said.text)));
}

async fn say(channel: &Channel, line: &str, report: &mpsc::UnboundedSender<String>) {
    let (to, said) = match line.split_once(' ').unwrap_or((line, "")) {
        ("", _) => return,
        ("/who", _) => return who(&channel.view()),
        ("/to", rest) => {
            let (name, text) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
            let named: Vec<_> =
                channel.view().members().iter().filter(|member| name_of(member) == name).cloned().collect();
            if named.is_empty() || text.is_empty() {
                return print(format_args!(
                    "* there is nobody called {name:?} to tell something; /who lists who is there"
                ));
            }
            (To::from(named), Said { text: text.to_owned(), private: true })
        }
        (word, _) if word.starts_with('/') => return print(format_args!("* {HELP}")),
        _ => (To::All, Said { text: line.to_owned(), private: false }),
    };
    if channel.view().is_empty() {
        return print("* nobody is here to hear it");
    }
    let body = match tribes::message::encode(&said) {
        Ok(body) => body,
        Err(error) => return print(format_args!("* {error}")),
    };
    match channel.send_with(to, body, SendOptions::ACK).await {
        Ok(pending) => {
            let report = report.clone();
            pending.on_complete(move |outcome| {
                for fault in outcome.faults {
                    // Nobody listens any more when the chat ends.
                    let _ = report.send(format!("* {} did not get it: {}", name_of(&fault.member), fault.kind));
                }
            });
        }
        Err(error) => print(format_args!("* not sent: {error}")),
    }
}

fn who(view: &View) {
    if view.is_empty() {
        return print("* nobody but you");
    }
    let mut names: BTreeMap<String, Vec<&Arc<Member>>> = BTreeMap::new();
    for member in view {
        names.entry(name_of(member)).or_default().push(member);
    }
    for (name, members) in names {
        let at: Vec<_> = members.iter().map(ToString::to_string).collect();
        print(format_args!("* {name} ({})", at.join(", ")));
    }
}

//! `tribes node`: a member that a script can drive. Commands come in on standard input, events go out on standard output.

mod args;
mod commands;
mod events;
mod payload;
mod rpc;
mod send;
mod setup;

use std::process::ExitCode;
use std::sync::Arc;

pub(crate) use args::{HostPort, NodeArgs};
use commands::Command;
pub(crate) use commands::parse_wait;
use events::{Event, MemberInfo, Output, StatsInfo};
use tokio::sync::{Notify, watch};
use tribes::interceptors::LeadershipChanges;
use tribes::interceptors::agreed_views::ViewEvents;
use tribes::rpc::RpcChannel;
use tribes::{BoxError, Channel, Env, Member, MemberEvents, Message, SendOptions, WeakChannel};

use crate::input;

/// Runs a node until it is told to stop.
pub(crate) async fn run(args: NodeArgs) -> ExitCode {
    let output = Output::to_stdout();
    let code = match serve(args, &output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.tell(Event::error(error.as_ref())).await;
            ExitCode::FAILURE
        }
    };
    output.end().await;
    code
}

async fn serve(args: NodeArgs, output: &Output) -> Result<(), BoxError> {
    let (echo, fail_len, rpc_id) = (args.echo, args.fail_len, args.rpc.clone());
    let (channel, told) = setup::channel(args)?;
    let rpc = rpc_id.map(|id| rpc::open(&channel, &id, output)).transpose()?;
    let (ready, is_ready) = watch::channel(false);
    let messages =
        Arc::new(Messages { output: output.clone(), channel: channel.downgrade(), echo, fail_len, is_ready });
    channel
        .on_message(move |message, from| {
            let messages = Arc::clone(&messages);
            async move { messages.received(&message, &from).await }
        })
        .forever();
    let members = channel.member_events();
    channel.start().await?;
    output.tell(Event::Ready { local: MemberInfo::of(&channel.local()) }).await;
    ready.send_replace(true);

    let stopping = Arc::new(Notify::new());
    let mut telling = Env::real().spawn(tell_members(members, output.clone(), Arc::clone(&stopping)));
    let deposed = Arc::new(Notify::new());
    let telling_leaders = told
        .leadership
        .map(|leadership| Env::real().spawn(tell_coordinators(leadership, output.clone(), Arc::clone(&deposed))));
    let telling_views = told.views.map(|views| Env::real().spawn(tell_views(views, output.clone())));
    obey(&channel, rpc.as_ref(), output).await;
    // Who leads a group that this node leaves is not its business any more.
    deposed.notify_one();
    if let Some(mut telling) = telling_leaders {
        telling.ended().await;
    }
    channel.stop().await;
    // That it must not write any more is its own business to the end; then the layer is gone, and its events end.
    drop(channel);
    if let Some(mut telling) = telling_views {
        telling.ended().await;
    }
    stopping.notify_one();
    telling.ended().await;
    output.tell(Event::Stopped).await;
    Ok(())
}

/// Carries out the commands until `stop`, the end of input, a signal, or until nobody reads the events.
async fn obey(channel: &Channel, rpc: Option<&RpcChannel>, output: &Output) {
    let mut lines = input::lines();
    let commands = async {
        while let Some(line) = lines.recv().await {
            let event = match Command::parse(&line) {
                Ok(None) => continue,
                Ok(Some(Command::Stop)) => break,
                Ok(Some(Command::Members)) => Event::Members {
                    members: channel.view().members().iter().map(|member| MemberInfo::of(member)).collect(),
                },
                Ok(Some(Command::Stats)) => Event::Stats(Box::new(StatsInfo::of(&channel.stats()))),
                Ok(Some(Command::Send(command))) => {
                    send::send(channel, &command).await.unwrap_or_else(|error| Event::error(&error))
                }
                Ok(Some(Command::Call(command))) => {
                    rpc::call(channel, rpc, &command).await.unwrap_or_else(|error| Event::error(&error))
                }
                Err(error) => Event::error(&error),
            };
            output.tell(event).await;
        }
    };
    tokio::select! {
        () = commands => {}
        () = input::interrupted() => {}
        () = output.closed() => {}
    }
}

/// Tells of members in the order in which they come and go; when `stopping`, of all that happened before and no more.
async fn tell_members(mut members: MemberEvents, output: Output, stopping: Arc<Notify>) {
    loop {
        let event = tokio::select! {
            biased;
            event = members.next() => event,
            () = stopping.notified() => None,
        };
        let Some(event) = event else { return };
        if let Some(event) = Event::of_member(&event) {
            output.tell(event).await;
        }
    }
}

/// Tells who leads, whenever that or the view that it is of changes, until the node is `deposed`.
async fn tell_coordinators(mut changes: LeadershipChanges, output: Output, deposed: Arc<Notify>) {
    let mut leadership = changes.current();
    loop {
        output.tell(Event::of_leadership(&leadership)).await;
        let next = tokio::select! {
            biased;
            next = changes.next() => next,
            () = deposed.notified() => None,
        };
        let Some(next) = next else { return };
        leadership = next;
    }
}

/// Tells what happens to the views that the members agree on.
async fn tell_views(mut events: ViewEvents, output: Output) {
    while let Some(event) = events.next().await {
        output.tell(Event::of_view(&event)).await;
    }
}

/// What becomes of messages.
struct Messages {
    output: Output,
    channel: WeakChannel,
    echo: bool,
    fail_len: Option<usize>,
    /// Nothing is told before the node has said that it is ready.
    is_ready: watch::Receiver<bool>,
}

impl Messages {
    async fn received(&self, message: &Message, from: &Arc<Member>) -> Result<(), BoxError> {
        // Fails only when the node ends.
        let _ = self.is_ready.clone().wait_for(|ready| *ready).await;
        self.output.tell(Event::of_message(message, from)).await;
        let body = message.bytes();
        if self.fail_len == Some(body.len()) {
            return Err(format!("the listener refuses bodies of {} bytes", body.len()).into());
        }
        if self.echo
            && let Some(channel) = self.channel.upgrade()
        {
            // Accepted in order here; what becomes of it is told later, so that the next message need not wait for it.
            let to = Arc::clone(from);
            match channel.send_with(from, body.clone(), SendOptions::ACK).await {
                Ok(pending) => pending.on_complete(move |outcome| {
                    if let Err(error) = outcome.into_result() {
                        tracing::warn!(%to, %error, "an echo did not arrive");
                    }
                }),
                Err(error) => self.output.tell(Event::error(&error)).await,
            }
        }
        Ok(())
    }
}

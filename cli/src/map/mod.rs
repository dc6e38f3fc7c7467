//! `tribes map`: a map that several processes share. Lines that are typed are commands.

mod args;
mod commands;
mod shared;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) use args::MapArgs;
use commands::{Command, HELP};
use shared::Shared;
use tribes::membership::StaticConfig;
use tribes::replication::{By, Change, Changes, CopyState, LazyStats, MapError, MapStats, Written};
use tribes::{BoxError, Channel, Departure, Member, MemberEvent, MemberEvents};

use crate::input;
use crate::names::{name_of, own_name, plain, print};
use crate::units::with_causes;

/// Shares the map until `quit` or the end of input.
pub(crate) async fn run(args: MapArgs) -> ExitCode {
    match share(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain("", error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Whether all commands went well.
async fn share(args: MapArgs) -> Result<bool, BoxError> {
    let name = own_name(args.member.clone());
    let channel = channel(&args, &name)?;
    let mut members = channel.member_events();
    channel.start().await?;
    // The first of its line is for scripts: from now on others can reach it.
    print(format_args!("* you are {name}, at {}; the map is {:?}; {HELP}", channel.local(), args.name));
    let mut interrupted = std::pin::pin!(input::interrupted());
    let opened = {
        let mut opening = std::pin::pin!(open(&channel, &args));
        loop {
            tokio::select! {
                biased;
                () = &mut interrupted => break None,
                Some(event) = members.next() => tell_member(&event, args.quiet),
                map = &mut opening => break Some(map?),
            }
        }
    };
    let mut went_well = true;
    if let Some(map) = opened {
        print(format_args!("* ready: {}", entries(map.len())));
        let changes = map.changes();
        tokio::select! {
            biased;
            () = &mut interrupted => {}
            () = tell(members, changes, args.quiet) => {}
            well = obey(&channel, &map, &name) => went_well = well,
        }
        if let Err(error) = map.leave(&channel).await {
            complain("quit", &error);
            went_well = false;
        }
    }
    channel.stop().await;
    Ok(went_well)
}

fn channel(args: &MapArgs, name: &str) -> Result<Channel, BoxError> {
    let builder = tribes::channel().bind(args.bind.resolve()?).payload(name.to_owned());
    let builder = if args.peer.is_empty() {
        builder.multicast(args.mcast)
    } else {
        builder.peers_config(StaticConfig::default().with_peers(args.peer.clone()))
    };
    Ok(builder.build()?)
}

/// Opens the map once those are there who are waited for, and waits until it has what it is to have.
async fn open(channel: &Channel, args: &MapArgs) -> Result<Shared, BoxError> {
    channel.view_when(|view| view.len() + 1 >= args.members).await;
    let map = Shared::open(channel, args)?;
    map.ready().await;
    Ok(map)
}

/// Tells what others do, for as long as they can do something.
async fn tell(mut members: MemberEvents, mut changes: Changes<String, String>, quiet: bool) {
    loop {
        tokio::select! {
            biased;
            Some(event) = members.next() => tell_member(&event, quiet),
            Some(change) = changes.next() => tell_change(&change, quiet),
            else => return,
        }
    }
}

fn tell_member(event: &MemberEvent, quiet: bool) {
    if quiet {
        return;
    }
    match event {
        MemberEvent::Added(member) => print(format_args!("* {} is here ({member})", name_of(member))),
        MemberEvent::Removed(_, Departure::Stopped) => {}
        MemberEvent::Removed(member, Departure::Shutdown) => print(format_args!("* {} left", name_of(member))),
        MemberEvent::Removed(member, _) => print(format_args!("* {} is gone without a word", name_of(member))),
        _ => {}
    }
}

fn tell_change(change: &Result<Arc<Change<String, String>>, u64>, quiet: bool) {
    if quiet {
        return;
    }
    match change {
        Err(missed) => print(format_args!("* {missed} more changes")),
        Ok(change) if change.by == By::Local => {}
        Ok(change) => match &change.new {
            Some(value) => print(format_args!("* {} = {}", plain(&change.key), plain(value))),
            None => print(format_args!("* {} is removed", plain(&change.key))),
        },
    }
}

/// Carries out the commands until there are no more. Returns whether all went well.
async fn obey(channel: &Channel, map: &Shared, name: &str) -> bool {
    let mut lines = input::lines();
    let mut went_well = true;
    while let Some(line) = lines.recv().await {
        let done = match Command::parse(&line) {
            Ok(None) => continue,
            Ok(Some(Command::Quit)) => break,
            Ok(Some(command)) => carry_out(channel, map, name, command).await.map_err(Into::into),
            Err(error) => Err(BoxError::from(error)),
        };
        if let Err(error) = done {
            went_well = false;
            complain(line.trim(), error.as_ref());
        }
    }
    went_well
}

async fn carry_out(channel: &Channel, map: &Shared, name: &str, command: Command) -> Result<(), MapError> {
    match command {
        Command::Put { key, value } => {
            let written = map.put(&key, &value).await?;
            print(format_args!("put {} = {}{}", plain(&key), plain(&value), copies(&written)));
        }
        Command::Remove { key } => match map.remove(&key).await? {
            Some(written) => print(format_args!("removed {}{}", plain(&key), copies(&written))),
            None => print(format_args!("{} is not there", plain(&key))),
        },
        Command::Get { key } => match map.get(&key).await? {
            Some(value) => print(format_args!("{} = {}", plain(&key), plain(&value))),
            None => print(format_args!("{} is not there", plain(&key))),
        },
        Command::List { prefix } => {
            let found = map.list(&prefix).await?;
            for (key, value) in &found {
                print(format_args!("{} = {}", plain(key), plain(value)));
            }
            print(entries(found.len()));
        }
        Command::Who { key: None } => who(channel, map, name),
        Command::Who { key: Some(key) } => match map.holders(&key)? {
            None => print(format_args!("{} is with everybody", plain(&key))),
            Some(holders) => {
                let local = channel.local();
                let holder = |member: &Arc<Member>| {
                    if member.id() == local.id() { name.to_owned() } else { name_of(member).to_string() }
                };
                let holders: Vec<_> = holders.iter().map(holder).collect();
                print(format_args!("{} is with {}", plain(&key), holders.join(", ")));
            }
        },
        Command::Stats => match map {
            Shared::Whole(map) => stats(&map.stats()),
            Shared::Spread(map) => spread_stats(&map.stats()),
        },
        Command::Help => print(HELP),
        Command::Quit => {}
    }
    Ok(())
}

/// Who said to have a write, if anybody was asked.
fn copies(written: &Written) -> String {
    let having = written.members.iter().filter(|(_, state)| *state == CopyState::Has);
    let names: Vec<_> = having.map(|(member, _)| name_of(member)).collect();
    if names.is_empty() { String::new() } else { format!(" (copies: {})", names.join(", ")) }
}

/// Who is there, and how far they are.
fn who(channel: &Channel, map: &Shared, name: &str) {
    print(format_args!("{name}, this member: {}", entries(map.len())));
    let state = |member: &Member| match map {
        Shared::Whole(map) => replica_of(member, &map.stats()),
        // Each says for itself what it holds.
        Shared::Spread(_) => "holds its share, if it has opened this map".to_owned(),
    };
    for member in channel.view().members().iter() {
        print(format_args!("{} ({member}): {}", name_of(member), state(member)));
    }
}

/// Every replica holds all; what can differ is how far the others are.
fn replica_of(member: &Member, stats: &MapStats) -> String {
    let plural = |count: u64| if count == 1 { "write" } else { "writes" };
    match stats.peers.iter().find(|peer| *peer.member == *member) {
        None => "has not opened this map".to_owned(),
        Some(peer) if !peer.ready => "is still getting the entries".to_owned(),
        Some(peer) if peer.lag == 0 => "has all that was written here".to_owned(),
        Some(peer) => format!("lacks {} {} of this member", peer.lag, plural(peer.lag)),
    }
}

fn spread_stats(stats: &LazyStats) {
    for (what, part) in [("primary", stats.primary), ("backup", stats.backup), ("surplus", stats.surplus)] {
        let held = entries(part.entries);
        print(format_args!("{what}: {held} in {} shards, {} bytes", part.shards, part.bytes));
    }
    for (what, count) in [
        ("shards being fetched", stats.fetching as u64),
        ("shards taken over", stats.shards_taken),
        ("shards handed over", stats.shards_released),
        ("written", stats.written),
        ("received", stats.received),
        ("repairs", stats.repairs),
        ("comparisons", stats.comparisons),
        ("comparisons failed", stats.comparisons_failed),
        ("refused", stats.refused),
    ] {
        print(format_args!("{what}: {count}"));
    }
}

fn stats(stats: &MapStats) {
    for (what, count) in [
        ("entries", stats.entries as u64),
        ("removals remembered", stats.removals as u64),
        ("keys in conflict", stats.in_conflict as u64),
        ("bytes", stats.bytes as u64),
        ("other replicas", stats.peers.len() as u64),
        ("written", stats.written),
        ("received", stats.received),
        ("received again", stats.duplicates),
        ("conflicts", stats.conflicts),
        ("repairs", stats.repairs),
        ("comparisons", stats.comparisons),
        ("comparisons failed", stats.comparisons_failed),
        ("buckets that differed", stats.divergent_buckets),
        ("refused", stats.refused),
    ] {
        print(format_args!("{what}: {count}"));
    }
}

fn entries(count: usize) -> impl Display {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// Says on standard error what went wrong, and with which command.
fn complain(command: &str, error: &(dyn Error + 'static)) {
    let command = if command.is_empty() { String::new() } else { format!("{}: ", plain(command)) };
    // Nobody reads it: the exit code says so, too.
    let _ = writeln!(io::stderr(), "tribes map: {command}{}", with_causes(error));
}

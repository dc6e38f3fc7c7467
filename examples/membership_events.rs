//! Who comes, changes, leaves and dies: as one member sees the others.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use tribes::prelude::*;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let member = |name: &'static str| {
        tribes::channel().bind("127.0.0.1:0").multicast(format!("228.0.0.4:{port}")).payload(name).build()
    };
    let watcher = member("watcher")?;
    let mut events = watcher.member_events();
    watcher.start().await?;

    let bert = member("bert")?;
    bert.start().await?;
    next(&mut events, |event| matches!(event, MemberEvent::Added(_))).await?;
    bert.set_payload("bert, now busy");
    next(&mut events, |event| matches!(event, MemberEvent::Updated(_))).await?;
    bert.stop().await;
    next(&mut events, |event| matches!(event, MemberEvent::Removed(_, Departure::Shutdown))).await?;

    // A channel that is dropped ends as by a crash.
    let carl = member("carl")?;
    carl.start().await?;
    next(&mut events, |event| matches!(event, MemberEvent::Added(_))).await?;
    drop(carl);
    next(&mut events, |event| matches!(event, MemberEvent::Removed(_, Departure::Failed))).await?;

    println!("left: {} members, in view number {}", watcher.view().len(), watcher.view().number());
    watcher.stop().await;
    Ok(())
}

/// Prints events up to the one that is expected next.
async fn next(events: &mut tribes::MemberEvents, expected: impl Fn(&MemberEvent) -> bool) -> Result<(), BoxError> {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await?.ok_or("the channel is gone")?;
        let name = String::from_utf8_lossy(event.member().payload()).into_owned();
        match &event {
            MemberEvent::Added(member) => println!("{name} joined, at {member}"),
            MemberEvent::Updated(_) => println!("{name} is what it now calls itself"),
            MemberEvent::Suspected(_, why) => println!("{name} is suspected: {why}"),
            MemberEvent::Removed(_, why) => println!("{name} is gone: {why}"),
            _ => {}
        }
        if expected(&event) {
            return Ok(());
        }
    }
}

//! A small chat: start it in several terminals. `tribes chat` is the larger one.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tribes::prelude::*;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let name = std::env::args().nth(1).unwrap_or_else(|| format!("user{}", std::process::id()));
    let channel = tribes::channel().bind("127.0.0.1:0").multicast("228.0.0.4:45570").payload(name).build()?;
    let (mut members, mut messages) = (channel.member_events(), channel.messages());
    channel.start().await?;

    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            Some(event) = members.next() => match event {
                MemberEvent::Added(member) => println!("* {} is here", name_of(&member)),
                MemberEvent::Removed(member, why) => println!("* {} is gone: {why}", name_of(&member)),
                _ => {}
            },
            Some((message, from)) = messages.next() => match message.decode::<String>() {
                Ok(text) => println!("{}: {text}", name_of(&from)),
                Err(error) => println!("* {} sent something else: {error}", name_of(&from)),
            },
            line = lines.next_line() => match line? {
                None => break,
                Some(_) if channel.view().is_empty() => println!("* nobody is here yet"),
                Some(line) => {
                    if let Err(error) = channel.send_message(To::All, &line, SendOptions::ACK).await {
                        println!("* {error}");
                    }
                }
            },
        }
    }
    channel.stop().await;
    Ok(())
}

fn name_of(member: &Member) -> String {
    String::from_utf8_lossy(member.payload()).into_owned()
}

//! Two members in one process find each other and talk. They could as well be on different machines.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use tribes::prelude::*;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // A multicast port that is free, so that this meets nobody else; members of a group agree on one.
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let member = || tribes::channel().bind("127.0.0.1:0").multicast(format!("228.0.0.4:{port}")).build();
    let (anna, bert) = (member()?, member()?);
    bert.on_message(|message, from| async move {
        println!("{from} says {}", String::from_utf8_lossy(message.bytes()));
        Ok(())
    })
    .forever();
    bert.start().await?;
    anna.start_and_wait(1, Duration::from_secs(5)).await?;
    anna.send(To::All, "hello", SendOptions::SYNC_ACK).await?; // returns when the listener has
    anna.stop().await;
    bert.stop().await;
    Ok(())
}

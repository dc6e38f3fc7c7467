//! Two members whose stack a file names, with a layer of this crate in it.
//!
//! `cargo run --example from_a_file`

use std::time::Duration;

// Names nothing of the crate, but links it: without this line the file's "acme.checksum" would be unknown.
use acme_checksum as _;
use tribes::config::Config;
use tribes::prelude::*;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tribes.toml");
    // A multicast port that is free; the environment says such things as well.
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let variable = ("TRIBES__MEMBERSHIP__PORT".to_owned(), port.to_string());
    let member = || Config::read(file)?.with_env([variable.clone()])?.channel();
    let (anna, bert) = (member()?, member()?);
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    bert.on_message(move |message, from| {
        let text = String::from_utf8_lossy(message.bytes()).into_owned();
        let heard = heard.clone();
        async move {
            heard.send(format!("{} says {text}", from.port()))?;
            Ok(())
        }
    })
    .forever();
    bert.start().await?;
    anna.start_and_wait(1, Duration::from_secs(10)).await?;

    anna.send(To::All, "a message long enough for a checksum", SendOptions::SYNC_ACK).await?;
    println!("{}", hears.recv().await.ok_or("nothing was heard")?);
    let counted = anna.stats();
    for layer in &counted.layers {
        println!("{:<22} {} messages down", layer.name, layer.down.messages);
    }
    anna.stop().await;
    bert.stop().await;
    Ok(())
}

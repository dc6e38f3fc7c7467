//! A map that three members share: what one writes the others read, are told of, and who comes late has it, too.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use tribes::prelude::*;
use tribes::replication::{By, Durability, ReplicatedMap};

type Stock = ReplicatedMap<String, u32>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let member = || tribes::channel().bind("127.0.0.1:0").multicast(format!("228.0.0.4:{port}")).build();
    let (anna, bert) = (member()?, member()?);
    bert.start().await?;
    anna.start_and_wait(1, Duration::from_secs(5)).await?;

    // The same name on each member; they agree on the types, too.
    let at_anna: Stock = ReplicatedMap::open(&anna, "stock")?;
    let at_bert: Stock = ReplicatedMap::open(&bert, "stock")?;
    at_anna.ready().await;
    at_bert.ready().await;
    let _handle = at_bert.on_change(|change| match (change.by, change.new) {
        (By::Peer, Some(count)) => println!("bert hears: {} {} in stock", count, change.key),
        (By::Peer, None) => println!("bert hears: no more {}", change.key),
        _ => {}
    });

    // Here at once, there when it arrives.
    at_anna.put("nails", &12).await?;
    at_bert.changed(|map| map.get("nails") == Some(12)).await;
    // Or when it has arrived: this says who has it by then.
    let written = at_anna.put_with("screws", &3, Durability::all(Duration::from_secs(5))).await?;
    println!("anna's screws are with {} other", written.members.len());
    assert_eq!(at_bert.get("screws"), Some(3));
    // A change of what is there. Nobody else may have written in between here; then it is made anew.
    at_bert.update("nails", |count| Some(count.unwrap_or(0) - 2)).await?;
    at_anna.changed(|map| map.get("nails") == Some(10)).await;
    at_anna.remove_with("screws", Durability::all(Duration::from_secs(5))).await?;
    assert!(!at_bert.contains_key("screws"));

    // Who comes late gets what the others have, and may write meanwhile.
    let carl = member()?;
    carl.start_and_wait(2, Duration::from_secs(5)).await?;
    let at_carl: Stock = ReplicatedMap::open(&carl, "stock")?;
    at_carl.ready().await;
    println!("carl has {:?}", at_carl.snapshot());
    assert_eq!(at_carl.get("nails"), Some(10));

    // Who goes takes nothing along.
    drop((at_anna, anna));
    at_carl.put("nails", &9).await?;
    at_bert.changed(|map| map.get("nails") == Some(9)).await;
    for peer in at_bert.stats().peers {
        println!("bert shares it with {}", peer.member);
    }
    bert.stop().await;
    carl.stop().await;
    Ok(())
}

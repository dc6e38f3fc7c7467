//! A counter to which several members add at the same time: no addition is lost, and nobody waits for anybody.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use tribes::prelude::*;
use tribes::replication::{Conflicts, Counter, ReplicatedMap};

const MEMBERS: usize = 3;
const EACH: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(tribes::channel().bind("127.0.0.1:0").multicast(format!("228.0.0.4:{port}")).build()?);
    }
    for member in &members {
        member.start().await?;
    }
    let mut visits: Vec<ReplicatedMap<String, Counter>> = Vec::new();
    for member in &members {
        member.view_when(|view| view.len() == MEMBERS - 1).await;
        // With another rule, of two additions at the same time one would win.
        visits.push(ReplicatedMap::builder("visits").conflicts(Conflicts::counter()).open(member)?);
    }
    for map in &visits {
        map.ready().await;
    }

    let mut adding = tokio::task::JoinSet::new();
    for map in visits.clone() {
        adding.spawn(async move {
            for number in 0..EACH {
                map.add("front page", if number % 10 == 9 { -1 } else { 1 }).await?;
            }
            Ok::<(), tribes::replication::MapError>(())
        });
    }
    while let Some(added) = adding.join_next().await {
        added??;
    }

    let expected = i64::try_from(MEMBERS * EACH * 8 / 10)?;
    for map in &visits {
        tokio::time::timeout(Duration::from_secs(20), map.changed(|map| map.count("front page") == expected)).await?;
        println!("{} visits", map.count("front page"));
    }
    for member in &members {
        member.stop().await;
    }
    Ok(())
}

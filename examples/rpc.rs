//! Asking a group: three shops say what they have in stock.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribes::prelude::*;
use tribes::rpc::{Replies, Reply, Request, RpcChannel, Wait};

#[derive(Serialize, Deserialize)]
struct Query {
    article: String,
}

#[derive(Serialize, Deserialize)]
struct Stock {
    pieces: u32,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let member = || tribes::channel().bind("127.0.0.1:0").multicast(format!("228.0.0.4:{port}")).build();

    // Each shop answers on two RPC channels of one channel: one with types, one with text.
    let mut shops = Vec::new();
    for pieces in [3, 0, 7] {
        let shop = member()?;
        let stock = RpcChannel::builder("stock")
            .typed_handler(move |query: Query, _: Request| async move {
                if query.article == "tea" { Ok(Stock { pieces }) } else { Err("we have tea and nothing else".into()) }
            })
            .open(&shop)?;
        let greeting = RpcChannel::builder("greeting")
            .handler(move |request: Request| async move {
                let name = request.text().unwrap_or("stranger");
                // Some shops are slow.
                tokio::time::sleep(Duration::from_millis(100 * u64::from(pieces))).await;
                Ok(Reply::from(format!("hello {name}")))
            })
            .open(&shop)?;
        shop.start().await?;
        shops.push((shop, stock, greeting));
    }

    let customer = member()?;
    let stock = RpcChannel::builder("stock").open(&customer)?;
    let greeting = RpcChannel::builder("greeting").open(&customer)?;
    customer.start_and_wait(3, Duration::from_secs(10)).await?;

    let replies: Replies<Stock> = stock.ask(To::All, &Query { article: "tea".to_owned() }).await?;
    println!("tea: {} pieces", replies.replied().map(|(_, stock)| stock.pieces).sum::<u32>());

    let replies: Replies<Stock> = stock.ask(To::All, &Query { article: "rum".to_owned() }).await?;
    for (shop, answer) in &replies {
        println!("rum at {shop}: {:?}", answer.reply().map(|stock| stock.pieces));
    }

    // As soon as more than half have answered; the slow one is not waited for.
    let replies = greeting.call(To::All, "Anna").wait(Wait::Majority).within(Duration::from_secs(5)).await?;
    println!("{} of {} greeted in time", replies.replied().count(), replies.len());

    // Each answer as it comes.
    let mut answers = greeting.call(To::All, "Bert").stream()?;
    while let Some((shop, answer)) = answers.next().await {
        println!("{shop}: {answer}");
    }

    customer.stop().await;
    for (shop, ..) in shops {
        shop.stop().await;
    }
    Ok(())
}

//! An interceptor of one's own: counts words on their way down, and lets nothing rude out.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tribes::prelude::*;
use tribes::{Cx, Gauge, Interest, Outbound, SyncInterceptor, Verdict};

#[derive(Debug, Default)]
struct Manners {
    words: AtomicU64,
}

impl SyncInterceptor for Manners {
    fn name(&self) -> &'static str {
        "manners"
    }
    fn interest(&self) -> Interest {
        Interest::SEND // it is not even called for what comes in
    }
    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        let body = out.message.body.to_bytes();
        let text = String::from_utf8_lossy(&body);
        if text.contains("damn") {
            return Verdict::Refuse("mind your language".into());
        }
        self.words.fetch_add(text.split_whitespace().count() as u64, Ordering::Relaxed);
        Verdict::Pass
    }
    fn gauges(&self) -> Vec<Gauge> {
        vec![Gauge::new("words", self.words.load(Ordering::Relaxed))]
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let member = || tribes::channel().bind("127.0.0.1:0").multicast(format!("228.0.0.4:{port}"));
    let manners = Arc::new(Manners::default());
    let anna = member().interceptor(Arc::clone(&manners)).default_interceptors().build()?;
    let bert = member().build()?;
    bert.start().await?;
    anna.start_and_wait(1, Duration::from_secs(5)).await?;

    anna.send(To::All, "what a lovely day", SendOptions::ACK).await?;
    let refused = anna.send(To::All, "what a damn lovely day", SendOptions::ACK).await;
    println!("the second message: {refused:?}");
    println!("words that went out: {}", manners.words.load(Ordering::Relaxed));
    for layer in anna.stats().layers {
        // Counted by the pipeline; only `words` by the layer itself.
        println!("{:<21}{} messages, refused {:?}", layer.name, layer.down.messages, layer.down.errors.get("refused"));
    }
    anna.stop().await;
    bert.stop().await;
    if refused.is_ok() { Err("a rude message went out".into()) } else { Ok(()) }
}

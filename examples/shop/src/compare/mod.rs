//! What sessions cost: the shop with each store in turn, on this machine, in the same run.
//!
//! Every store serves the same requests of the same clients, one slice of time after the other and all of them again in the
//! next round: so what else the machine does meets all alike, and the ratio holds where the figures do not. Each client has a
//! connection and a session of its own, with a login and three pieces in the cart; most of its requests look at the account, some
//! note which article was looked at, which writes to the session.
//!
//! | store | is |
//! |---|---|
//! | memory | tower-sessions' `MemoryStore` in one process, only the session layer: the least there can be |
//! | ours, one line | two nodes, only the session layer: in the program, the store is all that is other; saves are on their way |
//! | ours, async | two nodes, our session layer with all that it does, with what clients wrote read back wherever they come; a save is answered when it is on its way |
//! | ours, acked | the same; a save is answered when the other node has it |
//! | redis | `tower-sessions-redis-store`, only the session layer; the Redis keeps nothing on disk |
//!
//! The second node, the Redis and the clients run on the same processors as the node that is measured: what they take is in the figures.

mod drive;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tribes::prelude::BoxError;

use self::drive::{Clients, Slice};
use crate::balancer::Balancer;
use crate::nodes::{Node, Nodes};
use crate::redis::Redis;

/// Longer than this lasts.
const IDLE: Duration = Duration::from_secs(1800);

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// How many clients there are at the same time.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// How many requests of a hundred write to the session.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    writes: u32,
    /// How many times each store gets its turn.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how many milliseconds each time.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    slice: u64,
    /// Clients come through nginx, which this starts: the one that is installed, or another program.
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true, default_missing_value = "nginx")]
    nginx: Option<PathBuf>,
    /// The Redis to start.
    #[arg(long, default_value = "redis-server")]
    redis: PathBuf,
}

/// A store that is compared.
struct Contender {
    name: &'static str,
    clients: Clients,
    slices: Vec<Slice>,
    /// The first is the one that is asked.
    nodes: Vec<Node>,
    _balancer: Option<Balancer>,
}

impl Contender {
    /// What the node that is asked has taken so far.
    fn processor_time(&self) -> Duration {
        self.nodes.first().and_then(Node::processor_time).unwrap_or_default()
    }
}

impl Compare {
    pub(crate) async fn run(self) -> Result<bool, BoxError> {
        let redis = Redis::start(&self.redis).await?;
        let mut contenders = Vec::new();
        for (name, count, options) in [
            ("memory", 1, &["--store", "memory", "--bare"][..]),
            ("ours, one line", 2, &["--saves", "async", "--bare"]),
            ("ours, async", 2, &["--saves", "async"]),
            ("ours, acked", 2, &["--saves", "acked"]),
            ("redis", 1, &["--store", "redis", "--bare", "--redis", &redis.url]),
        ] {
            let nodes = Nodes::new(None, IDLE)?;
            let mut running = Vec::new();
            for (others, node) in ["A", "B"].into_iter().take(count).enumerate() {
                running.push(nodes.start_bare(node, others, options).await?);
            }
            let first = running.first().ok_or("no node")?;
            let balancer = match &self.nginx {
                // All come to the first node: the other is measured as what it costs that one.
                Some(program) => Some(Balancer::start(program, &[(first.name.clone(), first.address()?)]).await?),
                None => None,
            };
            let address = balancer.as_ref().map_or_else(|| first.address(), Balancer::address)?;
            let clients = Clients::connect(address, self.clients).await?;
            contenders.push(Contender { name, clients, slices: Vec::new(), nodes: running, _balancer: balancer });
        }
        println!(
            "{} clients{}, {} % of requests write to their session; {} rounds of {} ms for each store",
            self.clients,
            if self.nginx.is_some() { " through nginx" } else { "" },
            self.writes,
            self.rounds,
            self.slice
        );
        let slice = Duration::from_millis(self.slice);
        // The first round warms up.
        for round in 0..=self.rounds {
            for contender in &mut contenders {
                let before = contender.processor_time();
                let mut measured = contender.clients.go_on(slice, self.writes).await?;
                measured.processor_time = contender.processor_time().saturating_sub(before);
                contender.slices.extend(Some(measured).filter(|_| round > 0));
            }
        }
        let Some((memory, others)) = contenders.split_first() else { return Ok(false) };
        println!(
            "\n{:<14} {:>12} {:>10} {:>10} {:>10} {:>14} {:>8}",
            "store", "requests/s", "of memory", "median", "p99", "node's CPU", "failed"
        );
        let ratios = |contender: &Contender| {
            // Of the same round: what the machine does else meets both.
            let pairs = contender.slices.iter().zip(&memory.slices);
            median(pairs.map(|(slice, memory)| slice.rate() / memory.rate()).collect())
        };
        let mut is_good = true;
        for contender in std::iter::once(memory).chain(others) {
            let of = |what: fn(&Slice) -> f64| median(contender.slices.iter().map(what).collect());
            let failed: usize = contender.slices.iter().map(|slice| slice.failed).sum();
            is_good &= failed == 0 && contender.slices.iter().all(|slice| slice.answered() > 0);
            println!(
                "{:<14} {:>12.0} {:>9.1}% {:>7.0} µs {:>7.0} µs {:>11.1} µs {:>8}",
                contender.name,
                of(Slice::rate),
                ratios(contender) * 100.0,
                of(|slice| slice.percentile(0.5)),
                of(|slice| slice.percentile(0.99)),
                of(Slice::processor_micros),
                failed,
            );
        }
        println!(
            "\nMedians of the rounds; the CPU is that of the node that is asked, for each request. {}",
            if is_good { "All requests were answered." } else { "REQUESTS FAILED." }
        );
        Ok(is_good)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

//! Many users at once while nodes are killed and come back: what they were told is done has to be there in the end, and who logged
//! out has to stay so.
//!
//! Each user logs in, sometimes with a cart that he filled before, adds pieces with numbers of his own, looks at his cart, and logs
//! out now and then, at times while another request of his is still under way. He behaves as a good client does: what got no
//! answer, or 502 or 503, he sends again if it may come twice, and takes it for done only at a 200.
//!
//! # What is expected
//! - **Nothing acknowledged is lost**: a piece whose request was answered with 200 is in the cart when its user looks for it before he
//!   logs out; or, if he does not, in the end, when all nodes are ready, at each node.
//! - **Nobody is logged in again**: with the cookie of a session that ended nobody gets at it, neither reading nor writing, at
//!   once and in the end at each node.
//! - **Nobody is answered by a node that is not ready**: no answer of the application says that the sessions were not in, or not
//!   all, when it was made ([`ANSWERED_BY`](crate::witness::ANSWERED_BY)), and none came before a probe was sent to which the same
//!   process said at `/readyz` that it was not ready. Probes ask for an account, too, all the time until a node is ready.
//!
//! A node is killed only when all are ready. While one is away the other's saves have no copy, and are acknowledged all the same,
//! as the shop has it; they are lost if the second is killed before the first has them again.

mod check;
mod crashes;
mod tally;
mod user;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tribes::prelude::BoxError;

use self::crashes::Crashes;
use self::tally::Tally;
use self::user::{Sessions, User};
use crate::balancer::Balancer;
use crate::nodes::{NAMES, Node, Nodes};

/// Longer than this lasts.
const IDLE: Duration = Duration::from_secs(1800);
/// For an answer. Nothing in the shop takes as long.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// How many users there are at the same time.
    #[arg(long, default_value_t = 200)]
    users: usize,
    /// For how many seconds they are there.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// A node is killed, in turn, and started again each time so many seconds have passed.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    kill_every: u64,
    /// A killed node is started again after so many seconds.
    #[arg(long, default_value_t = 0.0)]
    away: f64,
    /// How many nodes there are, at least two.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: u8,
    /// How many other nodes hold each session; all, if it is not said.
    #[arg(long)]
    copies: Option<usize>,
    /// A user waits so many milliseconds, on average, between an answer and the next request.
    #[arg(long, default_value_t = 200)]
    think: u64,
    /// Without nginx: users go to the nodes directly, as nginx would take them there.
    #[arg(long)]
    direct: bool,
    /// The nginx to start.
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// What users do follows from it, though not when; a new one, if it is not said.
    #[arg(long)]
    seed: Option<u64>,
}

/// What all users share.
#[derive(Debug)]
struct Run {
    http: reqwest::Client,
    /// Where requests go: to the balancer, or to the nodes.
    balancer: Option<String>,
    places: Vec<(String, SocketAddr)>,
    think: Duration,
    /// When users begin nothing new.
    end: Instant,
    tally: Tally,
}

impl Load {
    pub(crate) async fn run(self) -> Result<bool, BoxError> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let away = Duration::try_from_secs_f64(self.away)?;
        let mut nodes = Nodes::new(self.copies, IDLE)?;
        let names = NAMES.get(..self.nodes.into()).unwrap_or_default();
        let places = nodes.stay(names)?;
        let balancer = if self.direct {
            None
        } else {
            let started = Balancer::start(&self.nginx, &places).await;
            Some(started.map_err(|error| {
                format!("{error}\nInstall nginx (Debian: apt-get install nginx), or pass --direct.")
            })?)
        };
        println!(
            "{} users for {} s, {} nodes {}, of which one is killed every {} s; seed {seed}",
            self.users,
            self.seconds,
            self.nodes,
            if balancer.is_some() { "behind nginx" } else { "directly" },
            self.kill_every,
        );
        let http = reqwest::Client::builder().timeout(ANSWER).build()?;
        let mut running = Vec::new();
        for (others, name) in names.iter().enumerate() {
            running.push(nodes.start(name, others).await?);
        }
        let tally = Tally::new(running.first().and_then(Node::process_id));
        for node in &running {
            crashes::until_ready(node, &http, &tally).await?;
        }
        let began = Instant::now();
        let run = Arc::new(Run {
            http,
            balancer: balancer.as_ref().map(|balancer| balancer.url.clone()),
            places,
            think: Duration::from_millis(self.think),
            end: began + Duration::from_secs(self.seconds),
            tally,
        });
        let mut users = JoinSet::new();
        for number in 0..self.users {
            let user = User::new(&run, number, fastrand::Rng::with_seed(seed.wrapping_add(number as u64)));
            users.spawn(user.shop());
        }
        let mut crashes =
            Crashes::new(nodes, running, self.copies.is_none(), Duration::from_secs(self.kill_every), away);
        crashes.go_on(&run).await?;
        let mut sessions = Sessions::default();
        while let Some(user) = users.join_next().await {
            sessions.extend(user?);
        }
        let took = began.elapsed();
        let is_good = check::check(&run, &crashes, sessions, took).await?;
        if let Some(balancer) = balancer.as_ref().filter(|_| !is_good) {
            println!("\nnginx said at last:\n{}", balancer.said());
        }
        Ok(is_good)
    }
}

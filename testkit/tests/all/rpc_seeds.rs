//! Questions to groups under many seeds, in which frames are lost, doubled and overtaken, members crash, restart, freeze and
//! stop, and the network falls apart: every call ends in time, with one answer of each member.
//!
//! `scripts/simulate --seeds A..B calls` runs more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::rpc::{Answer, Payload, Reply, Request, RpcChannel, Wait};
use tribes_core::{BoxError, Channel, Env, SendOptions, To};
use tribes_testkit::checkers::RpcOutcomes;
use tribes_testkit::net::{LinkConfig, Node};
use tribes_testkit::suite::Seeds;
use tribes_testkit::{World, simulate};

const MS: Duration = Duration::from_millis(1);
/// A call may end so long after its deadline: the timer's step.
const SLACK: Duration = Duration::from_millis(2);
/// How many seeds are run unless the environment says otherwise, as the gate does. They are split among tests that can run at
/// the same time.
const SEEDS: u64 = 100;
const PARTS: u64 = 4;

type Checker = Arc<Mutex<RpcOutcomes>>;

/// How often each answer was given in a run, so that a run in which nothing happened is noticed.
type Seen = BTreeMap<&'static str, usize>;

struct Site {
    node: Node,
    channel: Channel,
    rpc: RpcChannel,
}

/// A process moves in at `node`.
fn open(node: &Node, checker: &Checker) -> Site {
    let channel = node.join(Channel::builder().heartbeat(None)).build().unwrap();
    let (checker, env, me) = (Arc::clone(checker), node.env(), channel.downgrade());
    let handler = move |request: Request| {
        let (checker, env, me) = (Arc::clone(&checker), env.clone(), me.clone());
        async move {
            let call: u64 = request.text().ok_or("no text")?.parse()?;
            let local = me.upgrade().ok_or("gone")?.local();
            checker.lock().unwrap().handled(call, &local);
            answer(call, local.id().to_string(), &env).await
        }
    };
    let builder = RpcChannel::builder("seeds").handler(handler).concurrency(2).queue(1);
    let rpc = builder.open(&channel).unwrap();
    Site { node: node.clone(), channel, rpc }
}

/// What a handler does is in the call's number.
async fn answer(call: u64, by: String, env: &Env) -> Result<Reply, BoxError> {
    match call % 8 {
        0 => env.sleep(MS * 20).await,
        1 => env.sleep(MS * 300).await,
        2 => return Err("as the test wishes".into()),
        3 => return Ok(Reply::none()),
        4 => return std::future::pending().await,
        _ => {}
    }
    Ok(Reply::from(format!("{call} {by}")))
}

/// Asks, and tells the checker of it.
async fn ask(env: Env, rpc: RpcChannel, to: To, call: u64, how: (Wait, Duration, bool), checker: Checker) -> Seen {
    let (wait, within, as_stream) = how;
    let request = rpc.call(to, call.to_string()).wait(wait).within(within);
    let mut answers = Vec::new();
    if as_stream {
        let mut stream = request.stream().unwrap();
        while let Some(answer) = stream.next().await {
            answers.push(answer);
        }
    } else {
        let replies = request.await.unwrap();
        let replied = replies.replied().count();
        if let Some(needed) = wait.replies(replies.len()) {
            assert_eq!(replies.is_satisfied(), replied >= needed, "call {call}");
        }
        answers.extend(replies);
    }
    for (member, answer) in &answers {
        if let Answer::Replied(reply) = answer {
            assert_eq!(*reply, Payload::from(format!("{call} {}", member.id())), "the reply of another call or member");
        }
    }
    checker.lock().unwrap().ended(call, env.now(), &answers);
    let mut seen = Seen::new();
    for (_, answer) in answers {
        let kind = match answer {
            Answer::Replied(_) => "replied",
            Answer::Failed(_) => "failed",
            Answer::NoReply => "no reply",
            Answer::NoHandler => "no handler",
            Answer::Overloaded => "overloaded",
            Answer::Unreachable(_) => "unreachable",
            Answer::Left(_) => "left",
            Answer::TimedOut => "timed out",
            Answer::NotAwaited => "not awaited",
            _ => "other",
        };
        *seen.entry(kind).or_default() += 1;
    }
    seen
}

/// Something happens to one of the members from `first` on, or to the network.
async fn trouble(world: &World, rng: &mut fastrand::Rng, sites: &mut [Site], first: usize, checker: &Checker) {
    let at = rng.usize(first..sites.len());
    let links = |rng: &mut fastrand::Rng| {
        let links = LinkConfig::default().with_loss(rng.f64() * 0.1).with_duplicate(rng.f64() * 0.2);
        links.with_reorder(rng.f64() * 0.3, 30 * MS)
    };
    match rng.u8(..10) {
        0 => sites[at].node.crash(),
        1 | 2 => {
            sites[at].node.crash();
            let node = sites[at].node.clone();
            sites[at] = open(&node, checker);
            sites[at].channel.start().await.unwrap();
        }
        3 => sites[at].node.freeze(),
        4 => sites[at].node.thaw(),
        5 => sites[at].channel.stop().await,
        6 => {
            let (one, other): (Vec<_>, Vec<_>) = sites.iter().map(|site| &site.node).partition(|_| rng.bool());
            world.net().partition(&[&one, &other]);
        }
        7 => world.net().heal(),
        _ => {
            let links = links(rng);
            world.net().set_links(links);
        }
    }
}

async fn run(world: World, seed: u64) -> Seen {
    let mut rng = fastrand::Rng::with_seed(seed);
    let checker = Arc::new(Mutex::new(RpcOutcomes::new(SLACK)));
    let count = rng.usize(3..=6);
    let mut sites: Vec<_> = (0..count).map(|_| open(&world.node(), &checker)).collect();
    for site in &sites {
        site.channel.start().await.unwrap();
    }
    sites[0].channel.view_when(|view| view.len() + 1 == count).await;
    // Two ask, to whom nothing happens but what happens to the network.
    let (seen, ended) = (Arc::new(Mutex::new(Seen::new())), Arc::new(Mutex::new(0)));
    let calls = rng.u64(20..40);
    for call in 0..calls {
        let site = &sites[rng.usize(..2)];
        let wait = match rng.u8(..6) {
            0 => Wait::First,
            1 => Wait::Majority,
            2 => Wait::Quorum(rng.usize(..=count)),
            3 => Wait::None,
            _ => Wait::All,
        };
        let within = MS * rng.u32(1..800);
        let view = site.channel.view();
        // Also those who are gone, and were there at the beginning.
        let others = sites.iter().map(|other| other.channel.local()).filter(|other| *other != site.channel.local());
        let asked: Vec<_> = if rng.bool() { view.members().to_vec() } else { others.collect() };
        let (env, rpc, told) = (world.env(), site.rpc.clone(), Arc::clone(&checker));
        checker.lock().unwrap().begun(call, &asked, env.now(), within);
        let how = (wait, within, rng.bool());
        let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
        world.env().spawn(async move {
            for (kind, times) in ask(env, rpc, asked.into(), call, how, told).await {
                *seen.lock().unwrap().entry(kind).or_default() += times;
            }
            *ended.lock().unwrap() += 1;
        });
        if rng.u8(..) < 90 {
            trouble(&world, &mut rng, &mut sites, 2, &checker).await;
        }
        world.sleep(MS * rng.u32(0..120)).await;
    }
    world.until(2000 * MS, || *ended.lock().unwrap() == calls).await;
    // Also what comes long after is no second answer to anybody, and finds no handler twice.
    world.net().heal();
    sites.iter().for_each(|site| site.node.thaw());
    world.sleep(Duration::from_secs(5)).await;
    let checker = checker.lock().unwrap().clone();
    if let Err(violations) = checker.finish() {
        panic!("seed {seed}: {violations}");
    }
    for site in &sites[..2] {
        let stats = site.channel.stats();
        let open =
            stats.io["rpc"].iter().filter(|gauge| gauge.name == "rpc_calls" || gauge.name == "rpc_replies_held_bytes");
        assert!(open.map(|gauge| gauge.value).eq([0, 0]), "seed {seed}: something is kept of calls that have ended");
    }
    std::mem::take(&mut *seen.lock().unwrap())
}

fn seeds(part: u64) {
    let (mut all, mut ran) = (Seen::new(), 0);
    let command = format!(
        "cargo test -p tribes-testkit --test all rpc_seeds::every_call_ends_in_time_with_one_answer_each_{part}"
    );
    Seeds::from_env_or(SEEDS).run(&command, |seed| {
        if seed % PARTS == part {
            ran += 1;
            for (kind, times) in simulate(seed, async move |world| run(world, seed).await).value {
                *all.entry(kind).or_default() += times;
            }
        }
    });
    eprintln!("{all:?}");
    // Many runs in which one of them hardly ever happened test less than they say.
    for kind in ["replied", "failed", "no reply", "overloaded", "unreachable", "left", "timed out", "not awaited"] {
        assert!(ran < 100 || all.get(kind).is_some_and(|times| *times > ran / 25), "{kind}: {all:?}");
    }
}

#[test]
fn every_call_ends_in_time_with_one_answer_each_0() {
    seeds(0);
}

#[test]
fn every_call_ends_in_time_with_one_answer_each_1() {
    seeds(1);
}

#[test]
fn every_call_ends_in_time_with_one_answer_each_2() {
    seeds(2);
}

#[test]
fn every_call_ends_in_time_with_one_answer_each_3() {
    seeds(3);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 17] {
        let (one, two) = (
            simulate(seed, async |world| run(world, seed).await),
            simulate(seed, async |world| run(world, seed).await),
        );
        assert_eq!((one.value, one.trace), (two.value, two.trace), "seed {seed}");
    }
}

/// The checker in the same world, when an answer is told twice, or of a call that is not over.
#[test]
fn a_run_with_a_fault_is_noticed() {
    simulate(1, async |world| {
        let checker = Arc::new(Mutex::new(RpcOutcomes::new(SLACK)));
        let sites: Vec<_> = (0..2).map(|_| open(&world.node(), &checker)).collect();
        for site in &sites {
            site.channel.start().await.unwrap();
        }
        sites[0].channel.view_when(|view| view.len() == 1).await;
        let to = sites[1].channel.local();
        checker.lock().unwrap().begun(7, &[Arc::clone(&to)], world.env().now(), MS * 500);
        let replies = sites[0].rpc.call(&to, "7").options(SendOptions::ACK).await.unwrap();
        let mut right = checker.lock().unwrap().clone();
        right.ended(7, world.env().now(), &replies);
        assert_eq!(right.clone().finish(), Ok(1));
        let mut late = checker.lock().unwrap().clone();
        late.ended(7, world.env().now() + MS * 503, &replies);
        assert!(late.finish().is_err());
        right.handled(7, &to);
        assert!(right.finish().is_err());
        assert!(checker.lock().unwrap().clone().finish().is_err(), "it never ended");
    });
}

//! The nine steps.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tribes::prelude::BoxError;

use super::IDLE;
use crate::admin::Report;
use crate::client::Client;
use crate::log::Log;
use crate::nodes::{NAMES, Node, Nodes};
use crate::within;

/// Time for what is to happen at once, on a machine that may be busy with other things.
const SOON: Duration = Duration::from_secs(2);
/// Time in which a crash is noticed.
const NOTICED: Duration = Duration::from_secs(8);
const READY: Duration = Duration::from_secs(15);

/// The fields of a session on a node.
async fn fields(node: &Node, id: &str) -> Option<BTreeMap<String, Value>> {
    Some(node.report().await?.sessions.remove(id)?.fields)
}

/// Enough of an id to tell it from others: the whole is the key to the session.
fn short(id: &str) -> &str {
    id.get(..6).unwrap_or(id)
}

async fn report(node: &Node) -> Result<Report, BoxError> {
    Ok(node.report().await.ok_or_else(|| format!("{} does not answer", node.name))?)
}

/// How often a session ended on a node, and why.
fn ends(report: &Report, id: &str) -> Vec<String> {
    report.ended.iter().filter(|(ended, _)| ended == id).map(|(_, why)| why.clone()).collect()
}

async fn ready(node: &Node) -> (Option<()>, Duration) {
    within(READY, async || (node.status("/readyz").await == Some(200)).then_some(())).await
}

/// A client that nobody knows.
fn stranger(balancer: Option<&str>) -> Client {
    Client::new(reqwest::Client::new(), balancer)
}

/// Starts a node that has to get the state, and looks that it answers nobody before it has it.
async fn join(
    nodes: &Nodes,
    balancer: Option<&str>,
    name: &str,
    others: usize,
    log: &mut Log,
) -> Result<Node, BoxError> {
    let node = nodes.start(name, others).await?;
    let (mut early, mut others, mut elsewhere, mut refused) = (0, 0, 0, 0);
    let (came, took) = within(READY, async || {
        let status = node.status("/account").await;
        early += usize::from(status == Some(503));
        others += usize::from(!matches!(status, Some(503 | 200)));
        if balancer.is_some() && status != Some(200) {
            let mut client = stranger(balancer);
            client.go_to(&node);
            match client.account(&node).await {
                // It may be ready by now.
                Ok(_) => elsewhere += usize::from(client.answered_by != name),
                Err(_) => refused += 1,
            }
        }
        (status == Some(200)).then_some(())
    })
    .await;
    let state = report(&node).await?.state.unwrap_or_default();
    let seen = format!("{early} answers of 503, then served after {:.2} s, state {state}", took.as_secs_f64());
    log.expect(
        &format!("{name} answers 503 until it has the state"),
        seen,
        came.is_some() && others == 0 && state == "complete",
    );
    if balancer.is_some() {
        let seen = format!("{elsewhere} answers of others, {refused} failures");
        log.expect("its clients are taken to others meanwhile", seen, refused == 0);
    }
    Ok(node)
}

pub(super) async fn walk(
    nodes: &Nodes,
    balancer: Option<&str>,
    count: usize,
    is_everywhere: bool,
    log: &mut Log,
) -> Result<(), BoxError> {
    log.step("1", "A starts");
    let a = nodes.start("A", 0).await?;
    let (came, took) = ready(&a).await;
    let seen = report(&a).await?;
    let text = format!(
        "ready after {:.2} s, {} others, {} sessions",
        took.as_secs_f64(),
        seen.others.len(),
        seen.sessions.len()
    );
    log.expect(
        "it is ready after it has looked for others",
        text,
        came.is_some() && seen.others.is_empty() && seen.sessions.is_empty(),
    );

    log.step("2", "B starts, and has nothing to take over");
    let b = join(nodes, balancer, "B", 1, log).await?;
    let mut more = Vec::new();
    for name in NAMES.iter().take(count).skip(2) {
        more.push(join(nodes, balancer, name, 2 + more.len(), log).await?);
    }
    let all = within(SOON, async || (report(&a).await.ok()?.others.len() == count - 1).then_some(())).await;
    log.expect("all see each other", format!("{all:?}"), all.0.is_some());
    // Where each session is on a few nodes, they take their shares.
    tokio::time::sleep(Duration::from_millis(if is_everywhere { 0 } else { 1000 })).await;

    log.step("3", "A makes the session S1: a user logs in");
    let mut user = stranger(balancer);
    user.go_to(&a);
    user.post(&a, "/login/anna").await?;
    let s1 = user.id();
    let mut has = BTreeMap::new();
    for node in [&b].into_iter().chain(&more) {
        has.insert(
            node.name.clone(),
            fields(node, &s1).await.is_some_and(|fields| fields.get("user") == Some(&json!("anna"))),
        );
    }
    let holders = has.values().filter(|has| **has).count();
    // Acknowledged by one other; with all sessions everywhere the rest follows at once.
    log.expect("when the client has its answer, another has the session", format!("{has:?}"), holders >= 1);
    let text = format!("route {:?}, answered by {:?}", user.route(), user.answered_by);
    log.expect("the client belongs to A", text, user.route() == "A" && user.answered_by == "A");

    log.step("4", "A crashes (SIGKILL)");
    let a_member = report(&a).await?.member;
    a.kill().await?;
    let gone = async || (!report(&b).await.ok()?.others.contains(&a_member)).then_some(());
    let (noticed, took) = within(NOTICED, gone).await;
    log.expect("B sees that A is gone", format!("after {:.2} s", took.as_secs_f64()), noticed.is_some());

    let asked = if balancer.is_some() { "nginx" } else { "B" };
    log.step("5", &format!("{asked} gets a request for S1"));
    let account = user.account(&b).await?;
    // Which of the others it is that nginx asks is its choice.
    let others: Vec<&Node> = [&b].into_iter().chain(&more).collect();
    let b = others.iter().copied().find(|node| node.name == user.answered_by);
    let b = b.ok_or_else(|| format!("{:?} answered, which is none that is there", user.answered_by))?;
    let name = &b.name;
    log.expect("the user is still logged in", format!("{:?}", account.user), account.user.as_deref() == Some("anna"));
    log.expect("the id is the same", format!("{}…", short(&s1)), user.id() == s1);
    let text = format!("route {:?}", user.route());
    log.expect(&format!("the client belongs to {name} now"), text, user.route() == *name);
    let nails = user.add(b, "nails").await?;
    log.expect("and stays there", format!("{:?} answered", user.answered_by), user.answered_by == *name);
    let seen = report(b).await?;
    log.expect("one failover is counted", seen.failovers, seen.failovers == 1);

    log.step("6", "A restarts");
    let a = join(nodes, balancer, "A", count - 1, log).await?;
    let now = report(&a).await?;
    log.expect("it is another incarnation", &now.member, now.member != a_member);
    let mut at_a = user.clone();
    if balancer.is_some() {
        let (again, took) = within(SOON, async || {
            let mut client = stranger(balancer);
            client.go_to(&a);
            client.account(&a).await.ok().filter(|_| client.answered_by == "A")
        })
        .await;
        let text = format!("after {:.2} s", took.as_secs_f64());
        log.expect("nginx takes its clients to it again", text, again.is_some());
        at_a.go_to(&a);
    }
    let account = at_a.account(&a).await?;
    let cart = account.cart.clone();
    log.expect(
        "it serves the session with what was done meanwhile",
        format!("{account:?}"),
        account.user.is_some() && cart == [nails],
    );
    if is_everywhere {
        let idle = |report: &Report| report.sessions.get(&s1).and_then(|entry| entry.idle_ms);
        let (of_a, of_b) = (idle(&report(&a).await?), idle(&report(b).await?));
        log.expect(
            "both know when it was used",
            format!("{of_a:?} and {of_b:?} ms ago"),
            of_a.is_some() && of_b.is_some(),
        );
    }

    log.step("7", "A ends S1: the user logs out");
    at_a.post(&a, "/logout").await?;
    let text = format!("{:?}, by {:?}", at_a.cookie, at_a.answered_by);
    log.expect("the cookie is taken away", text, at_a.cookie.is_none() && at_a.answered_by == "A");
    let (gone, took) = within(SOON, async || fields(b, &s1).await.is_none().then_some(())).await;
    log.expect(&format!("{name} has it no more"), format!("after {:.3} s", took.as_secs_f64()), gone.is_some());
    let account = user.account(b).await?;
    log.expect(
        "whoever still has the cookie is nobody",
        format!("{account:?}"),
        account.user.is_none() && account.cart.is_empty(),
    );
    for node in [&a, b] {
        let (told, _) =
            within(SOON, async || Some(ends(&report(node).await.ok()?, &s1)).filter(|ends| !ends.is_empty())).await;
        let text = format!("{told:?}");
        log.expect(&format!("{} tells of its end once", node.name), text, told == Some(vec!["invalidated".to_owned()]));
    }

    log.step("8", &format!("{name} makes the session S2"));
    let mut user = stranger(balancer);
    user.go_to(b);
    let began = Instant::now();
    user.add(b, "screws").await?;
    let used = Instant::now();
    let s2 = user.id();
    let text = format!("{}…, route {:?}", short(&s2), user.route());
    log.expect(&format!("it is another, and belongs to {name}"), text, s2 != s1 && user.route() == *name);

    log.step("9", "S2 is not used for 5 s");
    let nodes: Vec<&Node> = [&a].into_iter().chain(others.iter().copied()).collect();
    let before = IDLE.saturating_sub(Duration::from_millis(500));
    tokio::time::sleep_until(began + before).await;
    let mut there = 0;
    for node in &nodes {
        there += usize::from(fields(node, &s2).await.is_some());
    }
    let wanted = if is_everywhere { nodes.len() } else { 2 };
    let text = format!("{there} nodes have it after {:.2} s", began.elapsed().as_secs_f64());
    log.expect("it lives half a second before its time", text, there >= wanted.min(nodes.len()));
    let (gone, _) = within(IDLE, async || {
        for node in &nodes {
            if fields(node, &s2).await.is_some() {
                return None;
            }
        }
        Some(())
    })
    .await;
    let took = used.elapsed();
    let text = format!("nobody has it {:.2} s after its last use", took.as_secs_f64());
    log.expect("then it ends everywhere", text, gone.is_some() && began.elapsed() >= IDLE && took <= IDLE + SOON);
    let told = ends(&report(b).await?, &s2);
    log.expect(&format!("{name} tells of its end once"), format!("{told:?}"), told == ["timeout"]);
    Ok(())
}

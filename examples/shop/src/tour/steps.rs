//! The nine steps.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tribes::prelude::BoxError;

use super::{Log, within};
use crate::admin::Report;
use crate::client::Client;
use crate::nodes::{Node, Nodes};

/// The inactivity timeout of the tour.
pub(super) const IDLE: Duration = Duration::from_secs(5);

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

/// Starts a node that has to get the state, and looks that it answers nobody before it has it.
async fn join(nodes: &Nodes, name: &str, others: usize, log: &mut Log) -> Result<Node, BoxError> {
    let node = nodes.start(name, others).await?;
    let (mut early, mut others) = (0, 0);
    let (came, took) = within(READY, async || {
        let status = node.status("/account").await;
        early += usize::from(status == Some(503));
        others += usize::from(!matches!(status, Some(503 | 200)));
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
    Ok(node)
}

pub(super) async fn walk(nodes: &mut Nodes, count: usize, is_everywhere: bool, log: &mut Log) -> Result<(), BoxError> {
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
    let b = join(nodes, "B", 1, log).await?;
    let mut more = Vec::new();
    for name in ["C", "D", "E", "F", "G", "H"].iter().take(count - 2) {
        more.push(join(nodes, name, 2 + more.len(), log).await?);
    }
    let all = within(SOON, async || (report(&a).await.ok()?.others.len() == count - 1).then_some(())).await;
    log.expect("all see each other", format!("{all:?}"), all.0.is_some());
    // Where each session is on a few nodes, they take their shares.
    tokio::time::sleep(Duration::from_millis(if is_everywhere { 0 } else { 1000 })).await;

    log.step("3", "A makes the session S1: a user logs in");
    let mut user = Client::default();
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
    log.expect("the client belongs to A", format!("route {:?}", user.route()), user.route() == "A");

    log.step("4", "A crashes (SIGKILL)");
    let a_member = report(&a).await?.member;
    a.kill().await?;
    let gone = async || (!report(&b).await.ok()?.others.contains(&a_member)).then_some(());
    let (noticed, took) = within(NOTICED, gone).await;
    log.expect("B sees that A is gone", format!("after {:.2} s", took.as_secs_f64()), noticed.is_some());

    log.step("5", "B gets a request for S1");
    let account = user.account(&b).await?;
    log.expect("the user is still logged in", format!("{:?}", account.user), account.user.as_deref() == Some("anna"));
    log.expect("the id is the same", format!("{}…", short(&s1)), user.id() == s1);
    log.expect("the client belongs to B now", format!("route {:?}", user.route()), user.route() == "B");
    let nails = user.add(&b, "nails").await?;
    let seen = report(&b).await?;
    log.expect("one failover is counted", seen.failovers, seen.failovers == 1);

    log.step("6", "A restarts");
    let a = join(nodes, "A", count - 1, log).await?;
    let now = report(&a).await?;
    log.expect("it is another incarnation", &now.member, now.member != a_member);
    let mut at_a = user.clone();
    let account = at_a.account(&a).await?;
    let cart = account.cart.clone();
    log.expect(
        "it serves the session with what was done meanwhile",
        format!("{account:?}"),
        account.user.is_some() && cart == [nails],
    );
    if is_everywhere {
        let idle = |report: &Report| report.sessions.get(&s1).and_then(|entry| entry.idle_ms);
        let (of_a, of_b) = (idle(&report(&a).await?), idle(&report(&b).await?));
        log.expect(
            "both know when it was used",
            format!("{of_a:?} and {of_b:?} ms ago"),
            of_a.is_some() && of_b.is_some(),
        );
    }

    log.step("7", "A ends S1: the user logs out");
    at_a.post(&a, "/logout").await?;
    log.expect("the cookie is taken away", format!("{:?}", at_a.cookie), at_a.cookie.is_none());
    let (gone, took) = within(SOON, async || fields(&b, &s1).await.is_none().then_some(())).await;
    log.expect("B has it no more", format!("after {:.3} s", took.as_secs_f64()), gone.is_some());
    let account = user.account(&b).await?;
    log.expect(
        "whoever still has the cookie is nobody",
        format!("{account:?}"),
        account.user.is_none() && account.cart.is_empty(),
    );
    for node in [&a, &b] {
        let (told, _) =
            within(SOON, async || Some(ends(&report(node).await.ok()?, &s1)).filter(|ends| !ends.is_empty())).await;
        let text = format!("{told:?}");
        log.expect(&format!("{} tells of its end once", node.name), text, told == Some(vec!["invalidated".to_owned()]));
    }

    log.step("8", "B makes the session S2");
    let mut user = Client::default();
    let began = Instant::now();
    user.add(&b, "screws").await?;
    let used = Instant::now();
    let s2 = user.id();
    let text = format!("{}…, route {:?}", short(&s2), user.route());
    log.expect("it is another, and belongs to B", text, s2 != s1 && user.route() == "B");

    log.step("9", "S2 is not used for 5 s");
    let nodes: Vec<&Node> = [&a, &b].into_iter().chain(&more).collect();
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
    let told = ends(&report(&b).await?, &s2);
    log.expect("B tells of its end once", format!("{told:?}"), told == ["timeout"]);
    Ok(())
}

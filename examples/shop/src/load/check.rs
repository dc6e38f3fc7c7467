//! What is there in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;
use tribes::prelude::BoxError;

use super::Run;
use super::crashes::Crashes;
use super::tally::Seen;
use super::user::{Ended, Live, Sessions, send_to};
use crate::application::Account;
use crate::client::Client;
use crate::log::Log;
use crate::within;

/// Time for what the nodes have to settle yet.
const SETTLED: Duration = Duration::from_secs(20);
/// So many look at the same time.
const AT_ONCE: usize = 8;

/// Something that is not as it should be: what it is about, and what to tell.
type Faults = BTreeMap<String, String>;

/// Prints the table; whether all is as it should be.
pub(super) async fn check(
    run: &Arc<Run>,
    crashes: &Crashes,
    sessions: Sessions,
    took: Duration,
) -> Result<bool, BoxError> {
    // What was seen until now: looking is not shopping.
    traffic(run, crashes, took);
    let mut counted = crashes.counted;
    for node in &crashes.running {
        counted += node.counted().await.ok_or_else(|| format!("{} does not answer", node.name))?;
    }
    row("the nodes counted", format!("{} failovers, {} conflicts", counted.failovers, counted.conflicts));
    row("", format!("{} saves without a copy in time", counted.shortfalls));
    row("", format!("{} saves after a logout that were refused", counted.resurrections_prevented));
    row("", format!("{} reads of less than the client had seen", counted.stale_reads));

    let mut log = Log::default();
    println!();
    let (live, ended) = (Arc::new(sessions.live), Arc::new(sessions.ended));
    let mut lost = everywhere(run, &live, lost).await?;
    let at_first = lost.len();
    let (_, waited) = within(SETTLED, async || {
        if !lost.is_empty() {
            lost = everywhere(run, &live, self::lost).await.ok()?;
        }
        lost.is_empty().then_some(())
    })
    .await;
    let pieces: usize = live.iter().map(|live| live.acknowledged.len()).sum();
    let (before, taken) = {
        let seen = run.tally.seen();
        (seen.lost, seen.taken)
    };
    let text = format!(
        "{before} of {taken} before logouts; {} of {pieces} in {} sessions at {} nodes ({at_first} at first, {:.1} s)",
        lost.len(),
        live.len(),
        run.places.len(),
        waited.as_secs_f64()
    );
    log.expect("no acknowledged piece is lost", text, before == 0 && lost.is_empty() && pieces > 0);
    tell(run, &lost);

    let alive = everywhere(run, &ended, alive).await?;
    let held = held(crashes, &ended).await?;
    let (again, looked) = {
        let seen = run.tally.seen();
        (seen.alive_again, seen.looked_at_ended)
    };
    let in_the_end = alive.keys().chain(held.keys()).collect::<BTreeSet<_>>().len();
    let text =
        format!("{again} of {looked} looks at once, {in_the_end} of {} sessions at any node in the end", ended.len());
    let is_so = again == 0 && in_the_end == 0 && !ended.is_empty();
    log.expect("no session that ended is alive again", text, is_so);
    tell(run, &alive);
    tell(run, &held);

    judge(run, &mut log);
    if crashes.is_everywhere {
        let look = async || differing(crashes).await.ok().filter(|differ| *differ == 0);
        let (differ, waited) = within(SETTLED, look).await;
        log.expect("all nodes have the same", format!("after {:.1} s", waited.as_secs_f64()), differ.is_some());
    }
    log.expect(
        "each node was ready again before the next was killed",
        format!("{} were not", crashes.late),
        crashes.late == 0,
    );
    println!("\n{} of {} as expected", log.seen - log.failed, log.seen);
    Ok(log.failed == 0)
}

/// What was noticed while users were there.
fn judge(run: &Run, log: &mut Log) {
    let seen = run.tally.seen();
    let text = format!("{} ({} probes refused meanwhile)", seen.too_early, seen.refused);
    log.expect("nobody was answered by a node that was not ready", text, seen.too_early == 0);
    let text = format!("{} answers", seen.strangers);
    log.expect("nobody who is logged in was taken for nobody", text, seen.strangers == 0);
    log.expect("no cart has what was never put there, or twice", seen.odd_carts, seen.odd_carts == 0);
}

/// What users met.
fn traffic(run: &Run, crashes: &Crashes, took: Duration) {
    let mut seen = run.tally.seen();
    let Seen { times, others, .. } = &mut *seen;
    times.sort_unstable();
    let count = times.len();
    let ms = |part: usize| {
        let at = times.get((count * part / 1000).min(count.saturating_sub(1)));
        format!("{:.1} ms", at.copied().unwrap_or_default().as_secs_f64() * 1e3)
    };
    let mut answers = |status| others.remove(&status).unwrap_or_default();
    let (unavailable, gateway) = (answers(StatusCode::SERVICE_UNAVAILABLE), answers(StatusCode::BAD_GATEWAY));
    let latency = format!("p50 {}, p99 {}, longest {}", ms(500), ms(990), ms(1000));
    let longest = crashes.times.iter().max().copied().unwrap_or_default();
    println!();
    row("nodes killed", format!("{}, ready again after {:.2} s at most", crashes.times.len(), longest.as_secs_f64()));
    row("requests answered with 200", format!("{count}, {:.0}/s", count as f64 / took.as_secs_f64()));
    row("how long that took", latency);
    row("the longest, with retries", format!("{:.2} s", seen.longest.as_secs_f64()));
    row("answers with 503", unavailable);
    row("answers with 502", gateway);
    row("other answers", format!("{:?}", seen.others));
    row("no answers", seen.broken);
    row("sent again by users", seen.retries);
    row("answered by another node", seen.moves);
    row("logins and logouts", format!("{} and {}", seen.logins, seen.logouts));
    row("carts given up", format!("{}, their guests' logins were not answered", seen.given_up));
    row("looks at a cart", format!("{}, of which {} lacked an acknowledged piece", seen.reads, seen.behind));
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("    {what:<27} {value}");
}

fn tell(run: &Run, faults: &Faults) {
    for fault in faults.values() {
        run.tally.tell(fault);
    }
}

/// Looks at all of them at each node, some at a time.
async fn everywhere<T, F>(
    run: &Arc<Run>,
    all: &Arc<Vec<T>>,
    look: impl Fn(Arc<Run>, T, String, String) -> F + Copy + Send + 'static,
) -> Result<Faults, BoxError>
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Faults> + Send,
{
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (run, all) = (Arc::clone(run), Arc::clone(all));
        workers.spawn(async move {
            let mut faults = Faults::new();
            for one in all.iter().skip(worker).step_by(AT_ONCE) {
                for (name, place) in &run.places {
                    faults.extend(look(Arc::clone(&run), one.clone(), name.clone(), format!("http://{place}")).await);
                }
            }
            faults
        });
    }
    let mut faults = Faults::new();
    while let Some(found) = workers.join_next().await {
        faults.extend(found?);
    }
    Ok(faults)
}

/// What somebody with this cookie sees at a node.
async fn account(run: &Run, cookie: &str, url: &str) -> Option<Account> {
    let mut client = Client::new(run.http.clone(), None);
    client.cookie = Some(cookie.to_owned());
    let (body, _) = send_to(run, &mut client, Method::GET, url, "/account").await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// Pieces that a session has to have and has not.
async fn lost(run: Arc<Run>, live: Live, node: String, url: String) -> Faults {
    let account = account(&run, &live.cookie, &url).await.filter(|account| account.user == live.user);
    let missing = live.missing(account.as_ref().map_or(&[], |account| &account.cart));
    let told = |piece: &super::user::Acknowledged| {
        let whose = if account.is_some() { "cart" } else { "session" };
        let (number, at, by) = (piece.number, &piece.at, &piece.by);
        format!(
            "{node} has not: piece {number} of {:?}, {by} had it at {at}; {node} lacks it in his {whose}",
            live.user
        )
    };
    missing.into_iter().map(|piece| (piece.number.to_string(), told(piece))).collect()
}

/// Whether somebody with the cookie of a session that has ended is somebody.
async fn alive(run: Arc<Run>, ended: Ended, node: String, url: String) -> Faults {
    let mut faults = Faults::new();
    // With what hangs on it, and as one who guesses would have it.
    for cookie in [&*ended.cookie, ended.id()] {
        if account(&run, cookie, &url).await != Some(Account::default()) {
            faults.insert(ended.id().to_owned(), format!("{node} knows a session that {}", ended.how));
        }
    }
    faults
}

/// Sessions that have ended, and that nodes hold.
async fn held(crashes: &Crashes, ended: &[Ended]) -> Result<Faults, BoxError> {
    let mut faults = Faults::new();
    for node in &crashes.running {
        let report = node.report().await.ok_or_else(|| format!("{} does not answer", node.name))?;
        let held = ended.iter().filter(|ended| report.sessions.contains_key(ended.id()));
        let told = |ended: &Ended| format!("{} holds a session that {}", node.name, ended.how);
        faults.extend(held.map(|ended| (ended.id().to_owned(), told(ended))));
    }
    Ok(faults)
}

/// How many sessions nodes have that are not alike on all.
async fn differing(crashes: &Crashes) -> Result<usize, BoxError> {
    let mut all: Vec<BTreeMap<_, _>> = Vec::new();
    for node in &crashes.running {
        let report = node.report().await.ok_or_else(|| format!("{} does not answer", node.name))?;
        all.push(report.sessions.into_iter().map(|(id, entry)| (id, entry.fields)).collect());
    }
    let ids: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let is_alike = |id: &String| all.windows(2).all(|two| matches!(two, [one, other] if one.get(id) == other.get(id)));
    Ok(ids.into_iter().filter(|id| !is_alike(id)).count())
}

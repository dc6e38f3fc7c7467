//! A user of the shop.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Run;
use crate::application::{Account, Piece};
use crate::client::{By, Client};

/// Time for what was begun when the end came.
const GRACE: Duration = Duration::from_secs(20);
/// Who has so many pieces logs out: a field has its limits.
const MOST: usize = 1000;
/// Of so many users one never logs out by himself: his session has to outlive all nodes.
const STAYS: usize = 4;
/// A user looks so often, before he logs out, for what he does not find in his cart.
const LOOKS: usize = 20;

/// What sessions are to be in the end.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) live: Vec<Live>,
    pub(super) ended: Vec<Ended>,
}

/// A session that was not ended.
#[derive(Clone, Debug)]
pub(super) struct Live {
    /// None if it is a guest's.
    pub(super) user: Option<String>,
    pub(super) cookie: String,
    /// What its user was told is in the cart.
    pub(super) acknowledged: Vec<Acknowledged>,
    /// What he was told nothing of: it may be in there.
    unknown: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) number: u64,
    pub(super) at: String,
    pub(super) by: String,
}

/// A session that is over.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) cookie: String,
    pub(super) how: String,
}

impl Sessions {
    pub(super) fn extend(&mut self, others: Self) {
        self.live.extend(others.live);
        self.ended.extend(others.ended);
    }
}

impl Ended {
    pub(super) fn id(&self) -> &str {
        self.cookie.split(['~', '.']).next().unwrap_or_default()
    }
}

impl Live {
    /// What is not in this cart of what has to be.
    pub(super) fn missing(&self, cart: &[Piece]) -> Vec<&Acknowledged> {
        let has: HashSet<u64> = cart.iter().map(|piece| piece.number).collect();
        self.acknowledged.iter().filter(|piece| !has.contains(&piece.number)).collect()
    }

    /// Whether there is anything that was not put there, or is there twice.
    fn is_odd(&self, cart: &[Piece]) -> bool {
        let mut left: HashSet<u64> = self.acknowledged.iter().map(|piece| piece.number).collect();
        left.extend(&self.unknown);
        !cart.iter().all(|piece| left.remove(&piece.number))
    }
}

pub(super) struct User {
    run: Arc<Run>,
    name: String,
    stays: bool,
    random: fastrand::Rng,
    client: Client,
    /// Who answered last.
    at: String,
    sessions: Sessions,
}

/// The end came, and the time after it is over, before something was done.
struct Stopped;

impl User {
    pub(super) fn new(run: &Arc<Run>, number: usize, random: fastrand::Rng) -> Self {
        Self {
            run: Arc::clone(run),
            name: format!("user{number}"),
            stays: number.is_multiple_of(STAYS),
            random,
            client: Client::new(run.http.clone(), None),
            at: String::new(),
            sessions: Sessions::default(),
        }
    }

    /// Until the end.
    pub(super) async fn shop(mut self) -> Sessions {
        // Not all at once.
        self.think().await;
        while Instant::now() < self.run.end {
            if self.visit().await.is_err() {
                break;
            }
        }
        self.sessions
    }

    /// From a login to a logout, or the end.
    async fn visit(&mut self) -> Result<(), Stopped> {
        self.client = Client::new(self.run.http.clone(), None);
        let Some(mut live) = self.log_in().await? else { return Ok(()) };
        let outcome = self.stay(&mut live).await;
        if !matches!(outcome, Ok(true)) {
            self.sessions.live.push(live);
        }
        outcome.map(|_| ())
    }

    /// Logged in: does things until he logs out, or the end; whether he logged out, or tried to.
    async fn stay(&mut self, live: &mut Live) -> Result<bool, Stopped> {
        while Instant::now() < self.run.end {
            self.think().await;
            match self.random.u32(..100) {
                chance if (chance < 2 && !self.stays) || live.acknowledged.len() >= MOST => {
                    if !self.look_for_all(live).await? {
                        return Ok(false);
                    }
                    // If the end comes meanwhile nobody knows whether he is logged in still.
                    let _ = self.log_out(live).await;
                    return Ok(true);
                }
                2..30 => {
                    if self.look(live).await?.is_none() {
                        return Ok(false);
                    }
                }
                _ => {
                    if !self.add(live).await? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(false)
    }

    /// A new session, with what was in the cart before; none if it is not known what became of that.
    async fn log_in(&mut self) -> Result<Option<Live>, Stopped> {
        let mut guest = Live { user: None, cookie: String::new(), acknowledged: vec![], unknown: vec![] };
        if self.random.u32(..3) == 0 {
            for _ in 0..self.random.u32(1..4) {
                if !self.add(&mut guest).await? {
                    self.sessions.live.push(guest);
                    return Ok(None);
                }
            }
        }
        let before = self.client.cookie.clone();
        let path = format!("/login/{}", self.name);
        loop {
            match self.attempt(Method::POST, &path).await {
                Ok(_) => break,
                // A login gives the session another id. Did it? Then nobody was told which.
                Err(failed) if before.is_some() && failed.may_be_done => {
                    self.run.tally.seen().given_up += 1;
                    return Ok(None);
                }
                Err(failed) => self.wait(failed).await?,
            }
        }
        self.run.tally.seen().logins += 1;
        if let Some(cookie) = before {
            // Whoever knew the id before does not know the session.
            self.ended(cookie, "by a login");
        }
        guest.user = Some(self.name.clone());
        guest.cookie = self.client.cookie.clone().unwrap_or_default();
        Ok(Some(guest))
    }

    /// Whether it is the same session still.
    async fn add(&mut self, live: &mut Live) -> Result<bool, Stopped> {
        let number = self.random.u64(..1 << 48);
        let id = self.client.id();
        live.unknown.push(number);
        let (_, by) = self.ask(Method::PUT, &format!("/cart/nails/{number}")).await?;
        if !id.is_empty() && self.client.id() != id {
            self.stranger("it added to another session");
            return Ok(false);
        }
        live.unknown.pop();
        live.acknowledged.push(Acknowledged { number, at: self.run.tally.at(), by });
        live.cookie = self.client.cookie.clone().unwrap_or_default();
        Ok(true)
    }

    /// Looks at the cart: how many pieces are missing; none if it is another session.
    async fn look(&mut self, live: &mut Live) -> Result<Option<usize>, Stopped> {
        let account: Account = self.read().await?;
        if account.user.as_deref() != Some(&self.name) {
            self.stranger(&format!("it says {:?} at {}", account.user, self.at));
            return Ok(None);
        }
        live.cookie = self.client.cookie.clone().unwrap_or_default();
        let (missing, is_odd) = (live.missing(&account.cart).len(), live.is_odd(&account.cart));
        let mut seen = self.run.tally.seen();
        seen.reads += 1;
        seen.behind += u64::from(missing > 0);
        seen.odd_carts += u64::from(is_odd);
        drop(seen);
        if missing > 0 {
            self.run.tally.tell(&format!("{} misses {missing} pieces at {}", self.name, self.at));
        }
        if is_odd {
            self.run.tally.tell(&format!("{} has odd pieces in his cart at {}", self.name, self.at));
        }
        Ok(Some(missing))
    }

    /// Looks for all that he was told is there, for the last time; whether it is the same session still.
    async fn look_for_all(&mut self, live: &mut Live) -> Result<bool, Stopped> {
        let mut lost = 0;
        for _ in 0..LOOKS {
            let Some(missing) = self.look(live).await? else { return Ok(false) };
            lost = missing;
            if missing == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut seen = self.run.tally.seen();
        seen.taken += live.acknowledged.len() as u64;
        seen.lost += lost as u64;
        Ok(true)
    }

    /// Logs out, at times while something else is under way; and looks whether that is so.
    async fn log_out(&mut self, live: &Live) -> Result<(), Stopped> {
        let cookie = live.cookie.clone();
        if self.random.bool() {
            let mut other = self.client.clone();
            let run = Arc::clone(&self.run);
            let path = format!("/cart/screws/{}", self.random.u64(..1 << 48));
            // Whatever becomes of it.
            let adds = async { drop(send(&run, &mut other, Method::PUT, &path).await) };
            let logs_out = self.ask(Method::POST, "/logout");
            let (done, ()) = tokio::join!(logs_out, adds);
            done?;
        } else {
            self.ask(Method::POST, "/logout").await?;
        }
        self.run.tally.seen().logouts += 1;
        self.ended(cookie.clone(), "by a logout");
        // And what if he goes back to an old page?
        self.client.cookie = Some(cookie.clone());
        let account: Account = self.read().await?;
        let is_nobody = account == Account::default();
        self.dead(is_nobody, &format!("{} reads what he logged out of, at {}", self.name, self.at));
        self.client.cookie = Some(cookie);
        let id = self.client.id();
        let number = self.random.u64(..1 << 48);
        self.ask(Method::PUT, &format!("/cart/hammer/{number}")).await?;
        let is_another = self.client.id() != id;
        self.dead(is_another, &format!("{} writes to what he logged out of, at {}", self.name, self.at));
        Ok(())
    }

    fn ended(&mut self, cookie: String, how: &str) {
        let how = format!("ended {how} of {} at {}, answered by {}", self.name, self.run.tally.at(), self.at);
        self.sessions.ended.push(Ended { cookie, how });
    }

    fn dead(&self, is_dead: bool, fault: &str) {
        let mut seen = self.run.tally.seen();
        seen.looked_at_ended += 1;
        seen.alive_again += u64::from(!is_dead);
        drop(seen);
        if !is_dead {
            self.run.tally.tell(fault);
        }
    }

    fn stranger(&self, what: &str) {
        self.run.tally.seen().strangers += 1;
        self.run.tally.tell(&format!("{} is nobody all at once: {what}", self.name));
    }

    async fn think(&mut self) {
        let most = self.run.think.as_millis().saturating_mul(2);
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(self.random.u64(..=most))).await;
    }

    async fn read<T: DeserializeOwned>(&mut self) -> Result<T, Stopped> {
        loop {
            let (body, _) = self.ask(Method::GET, "/account").await?;
            match serde_json::from_slice(&body) {
                Ok(read) => return Ok(read),
                Err(error) => self.run.tally.tell(&format!("an answer that nobody understands: {error}")),
            }
            self.wait(Failed { after: None, may_be_done: true }).await?;
        }
    }

    /// Sends what may come twice, until it is done: the answer, and who gave it.
    async fn ask(&mut self, method: Method, path: &str) -> Result<(Vec<u8>, String), Stopped> {
        let began = Instant::now();
        loop {
            match self.attempt(method.clone(), path).await {
                Ok(answer) => {
                    let mut seen = self.run.tally.seen();
                    seen.longest = seen.longest.max(began.elapsed());
                    return Ok(answer);
                }
                Err(failed) => self.wait(failed).await?,
            }
        }
    }

    async fn attempt(&mut self, method: Method, path: &str) -> Result<(Vec<u8>, String), Failed> {
        let (body, by) = send(&self.run, &mut self.client, method, path).await?;
        if !self.at.is_empty() && self.at != by.name {
            self.run.tally.seen().moves += 1;
        }
        self.at.clone_from(&by.name);
        Ok((body, by.name))
    }

    /// As long as a client is asked to, or a moment.
    async fn wait(&mut self, failed: Failed) -> Result<(), Stopped> {
        if Instant::now() > self.run.end + GRACE {
            return Err(Stopped);
        }
        self.run.tally.seen().retries += 1;
        let moment = Duration::from_millis(self.random.u64(50..150));
        tokio::time::sleep(failed.after.unwrap_or_default() + moment).await;
        Ok(())
    }
}

/// An attempt that was not answered with 200.
pub(super) struct Failed {
    /// How long to wait, if that was said.
    after: Option<Duration>,
    may_be_done: bool,
}

/// One attempt: through the balancer, or directly as nginx would do it.
pub(super) async fn send(run: &Run, client: &mut Client, method: Method, path: &str) -> Result<(Vec<u8>, By), Failed> {
    if let Some(balancer) = &run.balancer {
        return send_to(run, client, method, balancer, path).await;
    }
    let own = run.places.iter().position(|(name, _)| *name == client.route());
    let first = own.unwrap_or_else(|| fastrand::usize(..run.places.len()));
    let mut last = Failed { after: None, may_be_done: false };
    for (_, place) in run.places.iter().cycle().skip(first).take(run.places.len()) {
        match send_to(run, client, method.clone(), &format!("http://{place}"), path).await {
            Err(failed) if method != Method::POST || !failed.may_be_done => last = failed,
            answer => return answer,
        }
    }
    Err(last)
}

/// The body of an answer with 200, and who gave it.
pub(super) async fn send_to(
    run: &Run,
    client: &mut Client,
    method: Method,
    url: &str,
    path: &str,
) -> Result<(Vec<u8>, By), Failed> {
    let sent = Instant::now();
    let (answer, by) = match client.ask(method, url, path).await {
        Ok(answer) => answer,
        Err(error) => {
            run.tally.seen().broken += 1;
            return Err(Failed { after: None, may_be_done: !error.is_connect() });
        }
    };
    if let Some(by) = &by {
        run.tally.answered(by);
    }
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
    let Ok(body) = answer.bytes().await else {
        run.tally.seen().broken += 1;
        return Err(Failed { after: None, may_be_done: true });
    };
    match by {
        Some(by) if status == StatusCode::OK => {
            run.tally.seen().times.push(sent.elapsed());
            Ok((body.to_vec(), by))
        }
        by => {
            *run.tally.seen().others.entry(status).or_default() += 1;
            // The gate lets nothing through, and does not say who it is.
            let is_gate = status == StatusCode::SERVICE_UNAVAILABLE && by.is_none();
            Err(Failed { after: after.map(Duration::from_secs), may_be_done: !is_gate })
        }
    }
}

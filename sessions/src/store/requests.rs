//! Creating, loading, saving and deleting, as requests need them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tribes_core::{MemberId, Time};
use tribes_replication::Durability;

use super::backing::{Had, Queue};
use super::table::{Table, Update};
use super::{Commit, Expire, Inner, Unreachable};
use crate::SessionId;
use crate::document::{BASE_KEY, Base, Change, Death, Document, EndReason, Hashes, Lifetime, Loaded, Session, Unfit};
use crate::error::SessionError;
use crate::event::SessionEvent;
use crate::keeper::News;
use crate::request::{self, Use};
use crate::stamp::Stamp;

/// Lifetimes are kept to a tenth of a second: what a record says of the same one differs by what it took to say it.
const GRAIN_MS: u128 = 100;
/// How long a session is fetched at most that this node lacks a write of.
const PULL: Duration = Duration::from_millis(200);

/// A session as a request has it; see [`ReplicatedStore::load_session`](crate::ReplicatedStore::load_session).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SessionRecord {
    /// Its fields; and, under a key that begins with a zero byte, what the request was given, by which it is told what it changed
    /// when it saves.
    pub data: HashMap<String, Value>,
    /// How long it lives if it is not used again; `None`: for ever.
    pub left: Option<Duration>,
}

/// When a record ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordEnd {
    /// How long from now.
    pub(crate) left: Duration,
    /// The same as a date, in milliseconds since 1970.
    pub(crate) date_ms: u64,
}

impl RecordEnd {
    /// After `idle` without a use.
    pub(super) fn after(idle: Duration, wall_ms: u64) -> Self {
        let ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        Self { left: idle, date_ms: wall_ms.saturating_add(ms) }
    }
}

/// What a request was given of a session, kept beside its data.
#[derive(Debug)]
pub(crate) struct Given {
    /// Which of those that the request was given, as the mark in the data says.
    number: u32,
    base: Base,
    /// The state that it was given.
    of: Option<Arc<Session>>,
    /// What it has written since, for when it writes again: mostly it does not.
    wrote: Option<(Change, Stamp)>,
}

impl Given {
    /// The mark of what is given a request first, second, and so on.
    pub(crate) fn mark(number: u32) -> Value {
        if number == 0 { Value::Null } else { number.into() }
    }

    /// Whether it is what data with this mark is of.
    pub(crate) fn is_marked(&self, mark: &Value) -> bool {
        mark.as_u64().unwrap_or_default() == u64::from(self.number)
    }

    /// With what it has written since.
    fn now(&mut self, hashes: Hashes) -> &mut Self {
        if let Some((change, stamp)) = self.wrote.take() {
            let base = self.base.clone();
            let (id, nonce) = (base.id, base.nonce);
            self.base = change.base_after(Some(base), id, nonce, stamp, hashes);
        }
        self
    }
}

/// What there is of a session for a request that keeps what it was given beside its data.
#[expect(clippy::large_enum_variant, reason = "mostly it is that, and it lives for a moment")]
pub(crate) enum Loading {
    Found(SessionRecord, Given),
    /// There is no such session, or it is over.
    Nothing,
    /// Nobody can say whether there is such a session.
    Unknown,
}

/// What came of a request's save.
enum Wrote {
    /// The session is over, and stays so.
    Over,
    /// It had changed nothing.
    Nothing,
    Change(Change, Stamp),
}

/// What a request is to be given of a session.
enum Serving {
    /// The session, and how long it lives if it is not used again.
    Session(Arc<Session>, Option<Duration>),
    /// There is no such session, or it is over.
    Nothing,
    /// Nobody can say.
    Unknown,
}

/// What a request is told of a session that it is given.
struct Served {
    /// How long it lives if it is not used again.
    left: Option<Duration>,
    /// Its owner is gone.
    take_over: bool,
}

impl Inner {
    /// Makes a session; its id, which nobody has chosen. `data` carries from now on what its request has written.
    pub(crate) async fn create(
        &self,
        data: &mut HashMap<String, Value>,
        end: RecordEnd,
    ) -> Result<SessionId, SessionError> {
        let base = data.get(BASE_KEY).and_then(|base| Base::from_value(base, None));
        let base = self.create_after(base, data, end).await?;
        data.remove(BASE_KEY);
        data.extend(base.to_value().map(|value| (BASE_KEY.to_owned(), value)));
        Ok(base.id)
    }

    /// Makes a session for a request that was given `base` of another, if it was; what it has been given of this one then.
    async fn create_after(
        &self,
        base: Option<Base>,
        data: &mut HashMap<String, Value>,
        end: RecordEnd,
    ) -> Result<Base, SessionError> {
        let previous = match base {
            Some(base) if self.is_renewal(base.id).await => Some(base.id),
            // It was given this by a session that others have ended: a logout, say. That is not to live on under another id.
            Some(base) => {
                let written = self.change((Some(&base), None), data, end)?;
                data.retain(|name, _| written.writes(name));
                None
            }
            None => None,
        };
        // Whatever it was given belongs to another session: all of it is new in this one.
        let change = self.change((None, None), data, end)?;
        loop {
            let id = SessionId::from_bits(u128::from_ne_bytes(self.env.unique()?));
            let stamp = self.stamp(0);
            let mut document = change.new_document(stamp, self.hashes);
            document.previous = previous;
            self.check_session(&document)?;
            let session = Session::Live(Box::new(document));
            let mut taken = false;
            let Update { commit, .. } = self
                .table
                .update(id, self.durability, |found, _| {
                    // Our own, if the answer to an earlier attempt was lost.
                    let is_ours = |found: &Session| found.live().is_some_and(|live| live.born == stamp);
                    taken = found.is_some_and(|found| !is_ours(found));
                    found.is_none().then(|| session.clone())
                })
                .await?;
            if !taken {
                self.counters.created.one();
                self.counters.renamed.add(usize::from(previous.is_some()));
                if let (Table::Backup(_), Session::Live(document)) = (&self.table, &session) {
                    self.noticed(id, &session, News::Written);
                    self.tell_created(id, document);
                }
                self.wrote(id, stamp, commit);
                return Ok(change.base_after(None, id, self.env.random(), stamp, self.hashes));
            }
        }
    }

    /// What a request is given of a session; none if there is no such session, or it is over.
    pub(crate) async fn load(&self, id: SessionId) -> Result<Option<SessionRecord>, SessionError> {
        let Serving::Session(session, left) = self.serve(id).await? else { return Ok(None) };
        let data = session.live().map(|live| self.loaded(id, live).data(self.env.random())).unwrap_or_default();
        Ok(Some(SessionRecord { data, left }))
    }

    /// As [`load`](Self::load), for a request that keeps what it was given beside its data: in that is only a mark, of this number.
    pub(crate) async fn load_given(&self, id: SessionId, number: u32) -> Result<Loading, SessionError> {
        let (session, left) = match self.serve(id).await? {
            Serving::Session(session, left) => (session, left),
            Serving::Nothing => return Ok(Loading::Nothing),
            Serving::Unknown => return Ok(Loading::Unknown),
        };
        let Some(loaded) = session.live().map(|live| self.loaded(id, live)) else { return Ok(Loading::Nothing) };
        let (mut data, base) = (loaded.marked_data(), loaded.base());
        // Mostly it is the first, and the mark says that.
        if number > 0 {
            data.insert(BASE_KEY.to_owned(), Given::mark(number));
        }
        let given = Given { number, base, of: Some(session), wrote: None };
        Ok(Loading::Found(SessionRecord { data, left }, given))
    }

    fn loaded<'a>(&self, id: SessionId, document: &'a Document) -> &'a Loaded {
        document.loaded(id, &self.policies, self.hashes)
    }

    async fn serve(&self, id: SessionId) -> Result<Serving, SessionError> {
        let found = self.get_fresh(id).await?;
        let is_unknown = matches!(found, Had::Unknown);
        let session = found.session();
        if session.is_none() {
            self.notice_elsewhere(id, None);
        }
        let serve = |session: Arc<Session>| {
            let served = self.served(id, session.live()?)?;
            Some((session, served))
        };
        let Some((session, served)) = session.and_then(serve) else {
            self.counters.missed.one();
            return Ok(if is_unknown { Serving::Unknown } else { Serving::Nothing });
        };
        self.counters.loaded.one();
        if let Table::Backup(_) = self.table {
            self.notice_elsewhere(id, Some(&session));
            self.note_use(id).await;
        } else if served.take_over {
            self.note_take_over(id).await;
        }
        request::note_seen(self.address(), id, || session.live().and_then(Document::latest_write));
        Ok(Serving::Session(session, served.left))
    }

    /// Writes what a request changed. A session that is over stays over.
    pub(crate) async fn save(
        &self,
        id: SessionId,
        data: &HashMap<String, Value>,
        end: RecordEnd,
    ) -> Result<(), SessionError> {
        // Mostly it is as it was when the request got it.
        let (present, is_unknown) = match &self.table {
            // After all nodes were down it may be in the backing only, and not have been asked for.
            _ if self.backing.is_some() => {
                let found = self.find_for_request(id).await?;
                let is_unknown = matches!(found, Had::Unknown);
                (found.session(), is_unknown)
            }
            Table::All(_) => (self.table.get(id).await?, false),
            Table::Backup(_) => (None, false),
        };
        let likely = present.as_deref().and_then(Session::live).and_then(Document::was_loaded);
        let base = data.get(BASE_KEY).and_then(|base| Base::from_value(base, likely)).filter(|base| base.id == id);
        // It may have saved before.
        let base = base.map(|base| self.saved().take(base.nonce).unwrap_or(base));
        let written = self.write(id, (base.as_ref(), likely), data, end).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                self.saved().put(base);
                return Err(error);
            }
        };
        if is_unknown && matches!(written, Wrote::Over) {
            // It is perhaps not over, and what was to be written would be lost without a word.
            return Err(SessionError::Unreachable);
        }
        self.saved().put(match written {
            Wrote::Over => None,
            Wrote::Nothing => base,
            Wrote::Change(change, stamp) => base.map(|base| {
                let nonce = base.nonce;
                change.base_after(Some(base), id, nonce, stamp, self.hashes)
            }),
        });
        Ok(())
    }

    /// As [`save`](Self::save), for a request that keeps what it was given beside its data; whether the session was over.
    pub(crate) async fn save_given(
        &self,
        id: SessionId,
        given: &mut Option<Given>,
        data: &HashMap<String, Value>,
        end: RecordEnd,
    ) -> Result<bool, SessionError> {
        if self.backing.is_some() && given.is_none() {
            // After all nodes were down it may be in the backing only, and not have been asked for.
            self.find_for_request(id).await?;
        }
        // It may have let go of all that it was given, or have saved before.
        let mut given = given.as_mut().filter(|given| given.base.id == id && data.contains_key(BASE_KEY));
        let known = given.as_mut().map(|given| &*given.now(self.hashes));
        let likely = known.and_then(|known| known.of.as_deref()).and_then(Session::live).and_then(Document::was_loaded);
        let written = self.write(id, (known.map(|known| &known.base), likely), data, end).await?;
        let is_over = matches!(written, Wrote::Over);
        if let (Some(given), Wrote::Change(change, stamp)) = (given, written) {
            given.wrote = Some((change, stamp));
        }
        Ok(is_over)
    }

    /// Makes a session for a request that keeps what it was given beside its data.
    pub(crate) async fn create_given(
        &self,
        (given, number): (&mut Option<Given>, u32),
        data: &mut HashMap<String, Value>,
        end: RecordEnd,
    ) -> Result<SessionId, SessionError> {
        let base =
            given.as_mut().filter(|_| data.contains_key(BASE_KEY)).map(|given| given.now(self.hashes).base.clone());
        let base = self.create_after(base, data, end).await?;
        data.insert(BASE_KEY.to_owned(), Given::mark(number));
        let id = base.id;
        *given = Some(Given { number, base, of: None, wrote: None });
        Ok(id)
    }

    /// Writes what a request changed of `base`.
    async fn write(
        &self,
        id: SessionId,
        base: (Option<&Base>, Option<&Loaded>),
        data: &HashMap<String, Value>,
        end: RecordEnd,
    ) -> Result<Wrote, SessionError> {
        let change = self.change(base, data, end)?;
        let (mut stamp, mut over, mut too_large) = (Stamp::default(), false, None);
        let Update { commit, after } = self
            .table
            .update(id, self.durability, |found, may_be_made| {
                (over, too_large) = (false, None);
                let mut document = match found {
                    Some(Session::Live(document)) => document.clone(),
                    Some(Session::Dead(_)) => {
                        over = true;
                        return None;
                    }
                    // Nobody that can be asked has it any more: what the request was given is all there is.
                    None if base.0.is_some() && matches!(self.table, Table::Backup(_)) => {
                        stamp = self.stamp(0);
                        let whole = self.change((None, None), data, end).ok()?;
                        return Some(Session::Live(Box::new(whole.new_document(stamp, self.hashes))));
                    }
                    // All are here: there is no such session, or it was over so long ago that nobody remembers.
                    None => {
                        over = true;
                        return None;
                    }
                };
                // The answer to an earlier attempt was lost: it is in there.
                if may_be_made && stamp != Stamp::default() && document.is_last_of(stamp) {
                    return None;
                }
                stamp = self.stamp(document.latest());
                if !change.apply(&mut document, stamp, self.hashes) {
                    stamp = Stamp::default();
                    return None;
                }
                too_large = self.check_session(&document).err();
                if too_large.is_some() {
                    return None;
                }
                if let Some(earlier) = found.and_then(Session::live) {
                    document.load_after(earlier);
                }
                Some(Session::Live(document))
            })
            .await?;
        if let Some(error) = too_large {
            return Err(error);
        }
        self.notice_elsewhere(id, after.as_deref());
        if over {
            self.counters.resurrections_prevented.one();
            tracing::debug!(?id, "a request saved a session that has ended: it stays so");
            return Ok(Wrote::Over);
        }
        self.note_use(id).await;
        if stamp == Stamp::default() {
            self.counters.unchanged.one();
            return Ok(Wrote::Nothing);
        }
        self.counters.saved.one();
        self.wrote(id, stamp, commit);
        Ok(Wrote::Change(change, stamp))
    }

    /// Ends a session; whether there was one.
    pub(crate) async fn end(&self, id: SessionId, reason: EndReason) -> Result<bool, SessionError> {
        let mut unseen = false;
        if reason == EndReason::Invalidated && self.backing.is_some() && self.table.get(id).await?.is_none() {
            // Where it says that it has none, nothing is written: an id may be anybody's.
            unseen = matches!(Box::pin(self.restore(id)).await?, Had::Unknown | Had::Unfit);
            // Nor are there to be any number of ends of what was perhaps never there.
            if unseen && !self.backing.as_ref().is_some_and(|backing| backing.note_unseen_end(id, self.env.now())) {
                return Err(SessionError::Unreachable);
            }
        }
        self.end_which((id, unseen), reason, |_| true).await
    }

    /// Ends a session if it is `still` as it is to be; whether there was one.
    pub(crate) async fn end_if(
        &self,
        id: SessionId,
        reason: EndReason,
        still: impl Fn(&Document) -> bool,
    ) -> Result<bool, SessionError> {
        self.end_which((id, false), reason, still).await
    }

    /// The same; if it is `unseen`, since nobody can say whether there is such a session, so that no other node has it back later.
    async fn end_which(
        &self,
        (id, unseen): (SessionId, bool),
        reason: EndReason,
        still: impl Fn(&Document) -> bool,
    ) -> Result<bool, SessionError> {
        let (mut was_there, mut is_made, mut stamp) = (false, false, Stamp::default());
        let Update { commit, after } = self
            .table
            .update(id, self.durability, |found, may_be_made| {
                was_there &= may_be_made;
                is_made &= may_be_made;
                let document = match found {
                    Some(Session::Live(document)) => Some(document),
                    None if unseen => None,
                    Some(Session::Dead(_)) | None => return None,
                };
                if let Some(document) = document {
                    // It may have been used elsewhere since, and that is for its owner to know.
                    let is_early = || reason == EndReason::Timeout && !self.may_time_out(id, document);
                    if !still(document) || is_early() {
                        return None;
                    }
                    was_there = true;
                }
                is_made = true;
                stamp = self.stamp(document.map(|document| document.latest()).unwrap_or_default());
                Some(Session::Dead(Death { stamp, reason, by: self.me() }))
            })
            .await?;
        self.notice_elsewhere(id, after.as_deref());
        if let Some(Session::Dead(death)) = after.as_deref().filter(|_| is_made) {
            let counters = &self.counters;
            if was_there && reason == EndReason::Invalidated {
                request::note_ended(self.address(), id);
            }
            match reason {
                _ if !was_there => {}
                EndReason::Invalidated => counters.invalidated.one(),
                EndReason::Timeout => counters.timed_out.one(),
                EndReason::Killed => counters.killed.one(),
            }
            if let Table::Backup(_) = self.table {
                self.tell_end(id, *death).await;
            }
            self.wrote(id, stamp, commit);
            self.write_behind(|queue, now| queue.ended(id, now));
        }
        Ok(was_there)
    }

    /// Whether what a request was given of this session may go on in another: the session lives, or it was this request that ended
    /// it, to give it another id.
    async fn is_renewal(&self, id: SessionId) -> bool {
        if request::has_ended(self.address(), id) == Some(true) {
            return true;
        }
        let found = self.table.get(id).await.ok().flatten();
        match (found.as_deref(), request::has_ended(self.address(), id)) {
            // Without a layer all that is known is who may have.
            (Some(Session::Dead(death)), None) => death.by == self.me() && death.reason == EndReason::Invalidated,
            _ => !self.is_known_over(id, false).await,
        }
    }

    /// Gives a session the time that it lives when it is not used, and uses it. One that is over stays over.
    #[cfg(feature = "actix-session")]
    pub(super) async fn put_off(&self, id: SessionId, end: RecordEnd) -> Result<(), SessionError> {
        let lifetime = self.lifetime(end);
        let mut stamp = Stamp::default();
        let Update { commit, after } = self
            .table
            .update(id, self.durability, |found, _| {
                stamp = Stamp::default();
                let mut document = match found {
                    Some(Session::Live(document)) if document.lifetime.1 != lifetime => document.clone(),
                    _ => return None,
                };
                stamp = self.stamp(document.latest());
                document.lifetime = (stamp, lifetime);
                document.note(stamp);
                Some(Session::Live(document))
            })
            .await?;
        self.notice_elsewhere(id, after.as_deref());
        if after.is_some_and(|session| session.live().is_some()) {
            self.note_use(id).await;
        }
        if stamp != Stamp::default() {
            self.wrote(id, stamp, commit);
        }
        Ok(())
    }

    /// Whether this node may end a session whose time is over, as far as it knows.
    fn may_time_out(&self, id: SessionId, document: &Document) -> bool {
        let mut keeper = self.keeper();
        let now = self.now();
        // As it is, not as this node knew it.
        keeper.changed(id, &Session::Live(Box::new(document.clone())), News::Came, now);
        keeper.is_over(id, now)
    }

    /// Learns how a session is that others hold. What this node holds it learns from the table.
    fn notice_elsewhere(&self, id: SessionId, session: Option<&Session>) {
        let Table::Backup(_) = self.table else { return };
        match session {
            Some(session) if session.live().is_some() || self.keeper().knows(id) => {
                self.noticed(id, session, News::Served)
            }
            Some(_) => {}
            None => self.notice_loss(id),
        }
    }

    /// Nobody holds a session.
    fn notice_loss(&self, id: SessionId) {
        let mut keeper = self.keeper();
        if keeper.is_live(id) {
            keeper.gone(id);
            drop(keeper);
            self.counters.lost.one();
            tracing::warn!(?id, "a session is lost: all that held it are gone");
            self.events.tell(SessionEvent::Lost { id });
        }
    }

    /// A session was used here. Whether this member should become its owner.
    pub(crate) fn used(&self, id: SessionId) -> bool {
        let now = self.now();
        let (take_over, limit) = self.keep(|keeper| (keeper.used(id, now), keeper.idle_limit(id)));
        if let Some(limit) = limit {
            self.write_behind(|queue, now| queue.used(id, limit, now));
        }
        take_over
    }

    /// A request is about to be given a session, which counts as a use of one that is here, unless it passes by. `None` if its time
    /// is over, though nobody has ended it yet. What others may know better is theirs to say.
    fn served(&self, id: SessionId, document: &Document) -> Option<Served> {
        let now = self.now();
        let lifetime = document.lifetime.1;
        let is_over = |left: Option<Duration>| document.owner.1 == self.me() && left.is_some_and(|left| left.is_zero());
        let is_here = matches!(self.table, Table::All(_));
        let served = self.keep(|keeper| {
            let left = match lifetime {
                Lifetime::Unlimited => None,
                Lifetime::Until(date_ms) => Some(Duration::from_millis(date_ms.saturating_sub(now.wall_ms))),
                Lifetime::Idle(ms) => {
                    Some(Duration::from_millis(ms).saturating_sub(keeper.idle(id, now).unwrap_or_default()))
                }
            };
            if is_over(left) {
                return None;
            }
            let counts = request::note_use(self.address(), id) != Use::PassesBy;
            let left = match lifetime {
                Lifetime::Idle(ms) if counts => Some(Duration::from_millis(ms)),
                _ => left,
            };
            Some((Served { left, take_over: counts && is_here && keeper.used(id, now) }, counts))
        });
        let (served, counts) = served?;
        if let (Lifetime::Idle(ms), true) = (lifetime, counts && is_here) {
            self.write_behind(|queue, now| queue.used(id, Duration::from_millis(ms), now));
        }
        Some(served)
    }

    /// Notes something for the backing, if there is one.
    pub(super) fn write_behind(&self, note: impl FnOnce(&mut Queue, Time)) {
        if let Some(backing) = &self.backing {
            backing.note(|queue| note(queue, self.env.now()));
        }
    }

    /// A session is used by the request that is handled. That counts at once: it is not to end while it is used; and again when the
    /// response goes out. A request that passes by does not count.
    async fn note_use(&self, id: SessionId) {
        if request::note_use(self.address(), id) != Use::PassesBy && self.used(id) {
            self.note_take_over(id).await;
        }
    }

    /// This member is to take a session over: when the request is done, if it is known when that is.
    async fn note_take_over(&self, id: SessionId) {
        if !request::note_take_over(self.address(), id) {
            Box::pin(self.take_over(id)).await;
        }
    }

    /// Waits for what a request wrote, as long as it should wait; what fell short.
    pub(crate) async fn settle(&self, commits: Vec<Commit>) -> Vec<tribes_replication::MapError> {
        let mut short = Vec::new();
        for commit in commits {
            short.extend(commit.outcome().await.err());
        }
        self.counters.shortfalls.add(short.len());
        short
    }

    /// A write is made. If no request waits for it, it is on its way all the same.
    fn wrote(&self, id: SessionId, stamp: Stamp, commit: Option<Commit>) {
        request::note_seen(self.address(), id, || Some(stamp));
        self.write_behind(|queue, now| queue.changed(id, now));
        let commit = commit.and_then(|commit| request::note_commit(self.address(), commit));
        if let Some(Commit::Done(Err(error))) = commit {
            self.counters.shortfalls.one();
            tracing::debug!(?id, %error, "a session was saved, though not as far as it should be");
        }
    }

    /// This member serves a session whose owner is gone.
    pub(crate) async fn take_over(&self, id: SessionId) {
        let me = self.me();
        let change = |found: Option<&Session>, _| {
            let Some(Session::Live(document)) = found else { return None };
            if document.owner.1 == me || self.keeper().is_present(document.owner.1) {
                return None;
            }
            let mut document = document.clone();
            let stamp = self.stamp(document.latest());
            document.owner = (stamp, me);
            document.note(stamp);
            Some(Session::Live(document))
        };
        match self.table.update(id, Durability::Queued, change).await {
            Ok(Update { commit: Some(_), .. }) => self.write_behind(|queue, now| queue.changed(id, now)),
            Ok(_) => {}
            Err(error) => tracing::debug!(?id, %error, "this member serves a session, and could not say so"),
        }
    }

    fn change(
        &self,
        base: (Option<&Base>, Option<&Loaded>),
        data: &HashMap<String, Value>,
        end: RecordEnd,
    ) -> Result<Change, SessionError> {
        let change = Change::between(base, data, (self.lifetime(end), self.me()), &self.policies, self.hashes);
        change.check(self.limits).map_err(|error| self.refuse(error))?;
        Ok(change)
    }

    fn check_session(&self, document: &Document) -> Result<(), SessionError> {
        let (bytes, limit) = (document.bytes(), self.limits.session);
        if bytes > limit {
            return Err(self.refuse(Unfit::SessionTooLarge { bytes, limit }));
        }
        Ok(())
    }

    fn refuse(&self, error: Unfit) -> SessionError {
        self.counters.refused.one();
        match error {
            Unfit::FieldTooLarge { field, bytes, limit } => SessionError::FieldTooLarge { field, bytes, limit },
            Unfit::SessionTooLarge { bytes, limit } => SessionError::SessionTooLarge { bytes, limit },
            Unfit::TooDeep { field } => SessionError::TooDeep { field },
        }
    }

    fn lifetime(&self, end: RecordEnd) -> Lifetime {
        if let Some(limit) = self.inactivity {
            return Lifetime::Idle(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        match self.expire {
            Expire::AtDate => Lifetime::Until(end.date_ms),
            Expire::OnInactivity => {
                let grains = (end.left.as_millis() + GRAIN_MS / 2) / GRAIN_MS * GRAIN_MS;
                Lifetime::Idle(u64::try_from(grains).unwrap_or(u64::MAX).max(1))
            }
        }
    }

    fn stamp(&self, seen: u64) -> Stamp {
        self.clock.stamp(self.env.wall_ms(), seen)
    }

    /// A session here, at whoever holds it, or in the backing.
    async fn find(&self, id: SessionId) -> Result<Had, SessionError> {
        match self.table.get(id).await? {
            Some(found) => Ok(Had::Session(found)),
            None if self.backing.is_some() => Box::pin(self.restore(id)).await,
            None => Ok(Had::Nothing),
        }
    }

    /// The same for a request.
    async fn find_for_request(&self, id: SessionId) -> Result<Had, SessionError> {
        let found = self.find(id).await?;
        self.tell_unknown(found)
    }

    /// Tells a request, or has it fail, if nobody can say whether there is a session.
    fn tell_unknown(&self, found: Had) -> Result<Had, SessionError> {
        if let Had::Unknown = found {
            request::note_unknown(self.address());
            if self.unreachable == Unreachable::Fail {
                return Err(SessionError::Unreachable);
            }
        }
        Ok(found)
    }

    /// A session no older than the client has seen it, if that can be had soon.
    async fn get_fresh(&self, id: SessionId) -> Result<Had, SessionError> {
        let found = self.find(id).await?;
        let Some(wanted) = request::wanted(self.address(), id) else { return self.tell_unknown(found) };
        if let Had::Session(session) = &found
            && has_write(Some(session), wanted)
        {
            return Ok(found);
        }
        // Another node may have it that has not told of it yet, whatever the backing says.
        match Box::pin(self.wait_for(id, wanted)).await? {
            Some(session) => Ok(Had::Session(session)),
            None => self.tell_unknown(found),
        }
    }

    /// A session with the write that the client has seen, or as it is if that does not come.
    async fn wait_for(&self, id: SessionId, wanted: Stamp) -> Result<Option<Arc<Session>>, SessionError> {
        let has = |session: &Option<Arc<Session>>| has_write(session.as_deref(), wanted);
        self.counters.waited_reads.one();
        let until = self.env.now() + self.max_wait;
        let mut changes = self.changes.subscribe();
        loop {
            let found = self.table.get(id).await?;
            if has(&found) {
                return Ok(found);
            }
            // The sender is in this store.
            if self.env.until(until, changes.changed()).await.is_none() {
                break;
            }
        }
        let came = AtomicUsize::new(0);
        let permit = self.pulls.try_acquire().ok();
        let pulled = match permit {
            Some(_) => self.pull(id, wanted, PULL).await,
            None => None,
        };
        if let Some(pulled) = pulled {
            let add = |found: Option<&Session>, _| {
                came.fetch_add(1, Ordering::Relaxed);
                let merged = match found {
                    Some(found) => Session::merge(found.clone(), pulled.clone()),
                    None => pulled.clone(),
                };
                (found != Some(&merged)).then_some(merged)
            };
            self.table.update(id, Durability::Local, add).await?;
            self.counters.pulled.add(came.into_inner().min(1));
        }
        let found = self.table.get(id).await?;
        if !has(&found) {
            self.counters.stale_reads.one();
        }
        Ok(found)
    }

    /// As [`is_known_over`](Self::is_known_over), if it can be said at once.
    pub(crate) fn is_known_over_here(&self, id: SessionId, is_told: bool) -> Option<bool> {
        let Table::All(map) = &self.table else { return None };
        // Mostly it is at hand.
        let is_live = self.keeper().is_live(id);
        Some(!is_live && map.get_shared(&id).map_or_else(|| self.is_never_elsewhere(is_told), |it| it.live().is_none()))
    }

    /// Whether it is known here that there is no such session; `is_told`: the client says that there was one just now.
    pub(crate) async fn is_known_over(&self, id: SessionId, is_told: bool) -> bool {
        match self.table.get(id).await {
            Ok(Some(session)) => session.live().is_none(),
            Ok(None) => self.is_never_elsewhere(is_told),
            Err(_) => false,
        }
    }

    /// Whether a session is nowhere if it is not in the table: all are here, and in no backing.
    fn is_never_elsewhere(&self, is_told: bool) -> bool {
        matches!(self.table, Table::All(_)) && !is_told && self.backing.is_none()
    }

    /// What tells this store from others, while it is there.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether there is such a session.
    pub(crate) async fn has(&self, id: SessionId) -> bool {
        matches!(self.find(id).await, Ok(Had::Session(session)) if session.live().is_some())
    }

    /// The part that this node has in a session.
    pub(crate) async fn role(&self, id: SessionId) -> Option<(bool, MemberId)> {
        let session = self.table.get(id).await.ok()??;
        let owner = session.live()?.owner.1;
        Some((owner == self.me(), MemberId::from_bytes(owner)))
    }
}

/// Whether a session is as late as this write of it.
fn has_write(session: Option<&Session>, wanted: Stamp) -> bool {
    match session {
        Some(Session::Live(document)) => document.has(wanted),
        Some(Session::Dead(_)) => true,
        None => false,
    }
}

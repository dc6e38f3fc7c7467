//! Answering as one that holds a key: what others ask, and what this member asks itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::message::{Reply, Request};
use super::node::{NOTHING_KNOWN, Node};
use super::placement::shard_of;
use super::shards::Shards;
use crate::core::{Core, OpReport, Refused, Written};
use crate::durability::{Durability, states};
use crate::store::{Entry, Sibling};
use crate::version::Dot;

/// What came of a write.
enum Attempt<'a> {
    Made(Written, Option<Outcome<'a>>),
    Not(Reply),
}

/// The outcome of a write, to be waited for.
struct Outcome<'a> {
    node: &'a Node,
    shard: usize,
    op: u64,
    report: oneshot::Receiver<OpReport>,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.report.close();
        let mut state = self.node.lock();
        // A later replica of the shard counts from one, too: a write of its that has this number is still waited for.
        if state.waiting.get(&(self.shard, self.op)).is_some_and(oneshot::Sender::is_closed) {
            state.waiting.remove(&(self.shard, self.op));
            if let Some(core) = state.shards.core(self.shard) {
                core.forget_op(self.op);
            }
        }
    }
}

impl Node {
    /// Answers as far as it can be answered here.
    pub(super) async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Get { key, .. } => self.at(shard_of(&key), |core| Reply::Found(siblings(core.store.get(&key)))),
            Request::List { shard, after } => self.at(shard, |core| list(core, after.as_deref())),
            Request::Write { key, value, over, durability } => {
                match self.write(&key, value, over.as_deref(), durability) {
                    Attempt::Not(reply) => reply,
                    Attempt::Made(made, None) => {
                        Reply::Written { version: made.version, met: true, members: Vec::new() }
                    }
                    Attempt::Made(made, Some(mut outcome)) => {
                        // If the replica is gone, the others may have the write all the same.
                        let report = (&mut outcome.report).await.unwrap_or(NOTHING_KNOWN);
                        let met = report.met;
                        let members = states(report).into_iter().map(|(member, state)| (member.id(), state)).collect();
                        Reply::Written { version: made.version, met, members }
                    }
                }
            }
        }
    }

    /// What is to be seen in the replica of a shard, if one is here that has all.
    fn at(&self, shard: usize, look: impl FnOnce(&Core) -> Reply) -> Reply {
        self.look(|shards| shards.look(shard).map(look).unwrap_or_else(|| elsewhere(shards, shard)))
    }

    fn write(&self, key: &[u8], value: Option<Vec<u8>>, over: Option<&[Dot]>, durability: Durability) -> Attempt<'_> {
        let shard = shard_of(key);
        // Made without the lock: it is the application's code.
        let diff = self.differ.as_ref().zip(value.as_deref()).and_then(|(differ, value)| {
            let (earlier, dots) = self.look(|shards| {
                let core = shards.look(shard)?;
                Some((core.store.get(key)?.latest_value()?.value.cloned()?, core.writes_at(key)))
            })?;
            let diff = catch_unwind(AssertUnwindSafe(|| differ(&earlier, value))).ok().flatten()?;
            Some((Arc::<[u8]>::from(diff), dots))
        });
        let Some(now) = self.now() else { return Attempt::Not(Reply::Elsewhere { at: None }) };
        let attempt = {
            let mut state = self.lock();
            let state = &mut *state;
            if state.closed {
                return Attempt::Not(Reply::Elsewhere { at: None });
            }
            let Some(core) = state.shards.ready_core(shard) else {
                return Attempt::Not(elsewhere(&state.shards, shard));
            };
            if over.is_some_and(|over| core.writes_at(key) != over) {
                return Attempt::Not(Reply::Changed);
            }
            let wanted = durability.wanted(core.majority(now));
            let made = match value {
                None => match core.remove(key, wanted, now) {
                    Some(made) => Ok(made),
                    None => return Attempt::Not(Reply::Nothing),
                },
                Some(value) => {
                    let value = Arc::<[u8]>::from(value);
                    let diff = diff.filter(|(_, dots)| core.writes_at(key) == *dots).map(|(diff, _)| diff);
                    core.put(key, value, diff, wanted, now)
                }
            };
            match made {
                Ok(made) => {
                    let report = made.op.map(|op| {
                        let (sender, report) = oneshot::channel();
                        state.waiting.insert((shard, op), sender);
                        Outcome { node: self, shard, op, report }
                    });
                    Attempt::Made(made, report)
                }
                Err(refused) => Attempt::Not(match refused {
                    Refused::ValueTooLarge { bytes, limit } => {
                        Reply::ValueTooLarge { bytes: bytes as u64, limit: limit as u64 }
                    }
                    Refused::MapFull { bytes, limit } => Reply::Full { bytes: bytes as u64, limit: limit as u64 },
                    Refused::Changed => Reply::Changed,
                }),
            }
        };
        self.perform();
        attempt
    }
}

fn elsewhere(shards: &Shards, shard: usize) -> Reply {
    Reply::Elsewhere { at: shards.route(shard).elsewhere.map(|member| member.id()) }
}

/// What is at a key, without what only replicas need.
fn siblings(entry: Option<&Entry>) -> Vec<Sibling> {
    let siblings = entry.into_iter().flat_map(Entry::siblings);
    siblings.map(|held| Sibling { version: held.version, past: Box::default(), value: held.value.cloned() }).collect()
}

/// Entries that have a value, in the order of the store, from the one after `after` on.
fn list(core: &Core, after: Option<&[u8]>) -> Reply {
    let (mut entries, mut size, mut more) = (Vec::new(), 0, false);
    for (key, entry) in core.store.iter_after(after).filter(|(_, entry)| entry.is_live()) {
        size += key.len() + entry.bytes() + 64 * entry.len();
        if size > core.chunk_size() && !entries.is_empty() {
            more = true;
            break;
        }
        entries.push((key.to_vec(), siblings(Some(entry))));
    }
    Reply::Entries { entries, more }
}

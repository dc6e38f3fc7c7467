//! The list of peers, which can change at run time, and what became of each entry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tribes_core::{Member, MemberId, Time};

use crate::StaticPeer;

/// Addresses tried of one name.
const ADDRESSES: usize = 4;
/// Addresses taken off the list that are remembered.
const EXCLUDED: usize = 4096;

/// The entries by `HOST:PORT`, as they were written.
#[derive(Debug, Default)]
pub(super) struct List {
    entries: BTreeMap<String, Entry>,
    /// Addresses taken off the list at run time: whoever is there may not join by itself.
    excluded: BTreeMap<SocketAddr, Time>,
}

#[derive(Debug)]
struct Entry {
    peer: StaticPeer,
    resolving: bool,
    /// What the name meant last.
    addrs: Vec<SocketAddr>,
    /// Who answered there last.
    member: Option<Arc<Member>>,
    /// It is this very process: looked at again only now and then, for names may move.
    own_until: Time,
}

impl List {
    pub(super) fn new(peers: Vec<StaticPeer>) -> Self {
        let mut list = Self::default();
        list.add(peers);
        list
    }

    /// Replaces the list; what is known of entries in both stays. The addresses of the others are excluded from now on.
    pub(super) fn set(&mut self, peers: Vec<StaticPeer>, now: Time) {
        let before = std::mem::take(&mut self.entries);
        self.add(peers);
        for (name, entry) in before {
            match self.entries.get_mut(&name) {
                // Unchanged; and an attempt that is under way goes on.
                Some(kept) if kept.peer == entry.peer => *kept = entry,
                Some(_) => {}
                None => {
                    let seen = entry.member.iter().filter_map(|member| member.addr());
                    self.excluded.extend(entry.addrs.iter().copied().chain(seen).map(|addr| (addr, now)));
                }
            }
        }
        for addr in self.entries.values().flat_map(|entry| &entry.addrs) {
            self.excluded.remove(addr);
        }
        while self.excluded.len() > EXCLUDED {
            let oldest = self.excluded.iter().min_by_key(|(_, since)| **since).map(|(addr, _)| *addr);
            oldest.and_then(|oldest| self.excluded.remove(&oldest));
        }
    }

    fn add(&mut self, peers: Vec<StaticPeer>) {
        for peer in peers {
            // An address in the list is welcome again, whatever it was before; a name is once it is resolved.
            if let Ok(addr) = peer.addr().parse::<SocketAddr>() {
                self.excluded.remove(&addr);
            }
            let name = peer.addr().to_owned();
            let entry = Entry { peer, resolving: false, addrs: Vec::new(), member: None, own_until: Time::ZERO };
            self.entries.insert(name, entry);
        }
    }

    /// Names to resolve now, for nobody is known there; each is expected to be reported by [`resolved`](Self::resolved).
    pub(super) fn attempts<V>(&mut self, members: &BTreeMap<Arc<Member>, V>, now: Time) -> Vec<String> {
        let mut names = Vec::new();
        for (name, entry) in &mut self.entries {
            if !entry.resolving && entry.own_until <= now && !entry.is_covered(members) {
                entry.resolving = true;
                names.push(name.clone());
            }
        }
        names
    }

    /// What `name` means now; the addresses to call and the id expected there, if nobody is known there yet. `own` is the
    /// local member's address, which is passed by.
    pub(super) fn resolved<V>(
        &mut self,
        name: &str,
        addrs: Vec<SocketAddr>,
        own: Option<SocketAddr>,
        own_until: Time,
        members: &BTreeMap<Arc<Member>, V>,
    ) -> (Vec<SocketAddr>, Option<MemberId>) {
        let Some(entry) = self.entries.get_mut(name) else { return (Vec::new(), None) };
        entry.resolving = false;
        if own.is_some_and(|own| addrs.contains(&own)) {
            entry.own_until = own_until;
        }
        entry.addrs = addrs.into_iter().filter(|addr| Some(*addr) != own).take(ADDRESSES).collect();
        for addr in &entry.addrs {
            self.excluded.remove(addr);
        }
        let addrs = if entry.is_covered(members) { Vec::new() } else { entry.addrs.clone() };
        (addrs, entry.peer.id())
    }

    /// `member` answered a call to `name`.
    pub(super) fn answered(&mut self, name: &str, member: &Arc<Member>) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.member = Some(Arc::clone(member));
        }
    }

    /// `name` leads to this very process.
    pub(super) fn is_own(&mut self, name: &str, until: Time) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.own_until = until;
        }
    }

    /// The entry that means `addr`, with the id expected there.
    pub(super) fn entry_of(&self, addr: SocketAddr) -> Option<(&str, Option<MemberId>)> {
        let found = self.entries.iter().find(|(_, entry)| entry.addrs.contains(&addr));
        found.map(|(name, entry)| (name.as_str(), entry.peer.id()))
    }

    pub(super) fn is_excluded(&self, member: &Member) -> bool {
        member.addr().is_some_and(|addr| self.excluded.contains_key(&addr))
    }
}

impl Entry {
    /// Whether its member is known.
    fn is_covered<V>(&self, members: &BTreeMap<Arc<Member>, V>) -> bool {
        let fits = |member: &Member| self.peer.id().is_none_or(|id| id == member.id());
        self.member.as_ref().is_some_and(|member| members.contains_key(member) && fits(member))
            || members.keys().any(|member| fits(member) && member.addr().is_some_and(|at| self.addrs.contains(&at)))
    }
}

//! Reading a message: every length and number is checked before it is used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{Member, MemberId};

use super::{Beat, EPOCH_LIMIT, Install, Malformed, Report, State};
use crate::agreed_views::core::{MAX_CHAIN, Primary};
use crate::agreed_views::{MAX_MEMBERS, Seat, ViewId};

/// What is still to be read.
pub(super) struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, after) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = after;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Number(u64::from(other))),
        }
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn epoch(&mut self) -> Result<u64, Malformed> {
        let epoch = self.u64()?;
        if epoch < EPOCH_LIMIT { Ok(epoch) } else { Err(Malformed::Number(epoch)) }
    }

    fn millis(&mut self) -> Result<Duration, Malformed> {
        self.u64().map(Duration::from_millis)
    }

    fn count(&mut self, most: usize, what: &'static str) -> Result<usize, Malformed> {
        let count = usize::from(self.take().map(u16::from_be_bytes)?);
        if count <= most { Ok(count) } else { Err(Malformed::TooMany(count, what)) }
    }

    fn id(&mut self) -> Result<ViewId, Malformed> {
        Ok(ViewId { epoch: self.epoch()?, coordinator: MemberId::from_bytes(self.take()?), incarnation: self.u64()? })
    }

    pub(super) fn option(&mut self) -> Result<Option<ViewId>, Malformed> {
        if self.flag()? { self.id().map(Some) } else { Ok(None) }
    }

    pub(super) fn beat(&mut self) -> Result<Beat, Malformed> {
        let (to, sent, echo) = (self.u64()?, self.u64()?, self.u64()?);
        let (promised, installed) = (self.epoch()?, self.option()?);
        let flags = self.u8()?;
        if flags > 7 {
            return Err(Malformed::Number(u64::from(flags)));
        }
        let follows = MemberId::from_bytes(self.take()?);
        let (lease, token) = (self.millis()?, self.u64()?);
        let (holds, confirmed) = (flags & 1 != 0, flags & 2 != 0);
        let lease_token = (flags & 4 != 0).then_some(token);
        Ok(Beat { to, sent, echo, state: State { promised, installed, holds, confirmed, follows, lease, lease_token } })
    }

    fn seat(&mut self) -> Result<Seat, Malformed> {
        let len = usize::from(self.u8()?);
        if len > 127 {
            return Err(Malformed::TooMany(len, "bytes in a host"));
        }
        let (host, after) = self.0.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.0 = after;
        let (port, id) = (i32::from_be_bytes(self.take()?), MemberId::from_bytes(self.take()?));
        let member = Arc::new(Member::from_parts(id, Bytes::copy_from_slice(host), port));
        Ok(Seat {
            member,
            incarnation: self.u64()?,
            weight: u32::from_be_bytes(self.take()?),
            since: self.u64()?,
            remembers: self.flag()?,
        })
    }

    pub(super) fn seats(&mut self) -> Result<Arc<[Seat]>, Malformed> {
        let count = self.count(MAX_MEMBERS, "members")?;
        // Grows as members are read, so that a wrong count costs nothing.
        let mut seats = Vec::new();
        for _ in 0..count {
            seats.push(self.seat()?);
        }
        Ok(seats.into())
    }

    fn chain(&mut self) -> Result<Vec<Primary>, Malformed> {
        let count = usize::from(self.u8()?);
        if count > MAX_CHAIN {
            return Err(Malformed::TooMany(count, "earlier views"));
        }
        let mut chain = Vec::new();
        for _ in 0..count {
            let (id, seats, token) = (self.id()?, self.seats()?, self.epoch()?);
            chain.push(Primary { id, seats, token, confirmed: self.flag()? });
        }
        Ok(chain)
    }

    pub(super) fn report(&mut self) -> Result<Report, Malformed> {
        let (id, seats) = (self.option()?, self.seats()?);
        Ok(Report {
            view: id.map(|id| (id, seats)),
            chain: self.chain()?,
            remembers: self.flag()?,
            forgets: self.flag()?,
            since: self.u64()?,
            up_for: self.millis()?,
            waits: self.millis()?,
            max_token: self.epoch()?,
        })
    }

    pub(super) fn install(&mut self) -> Result<Install, Malformed> {
        let (epoch, seats, primary) = (self.epoch()?, self.seats()?, self.flag()?);
        let (token, wait) = (self.epoch()?, self.millis()?);
        let mut sides = Vec::new();
        for _ in 0..self.count(MAX_MEMBERS, "sides")? {
            let id = self.id()?;
            let mut members = Vec::new();
            for _ in 0..self.count(seats.len(), "members of a side")? {
                members.push(self.take().map(u16::from_be_bytes)?);
            }
            sides.push((id, members));
        }
        let (chain, consents) = (self.chain()?, self.seats()?);
        Ok(Install { epoch, seats, primary, token, wait, sides, chain, consents })
    }
}

//! The messages between the layers, which only nodes of ours get.
//!
//! All numbers are big-endian. A message is
//!
//! ```text
//! 16 header │ 1 version │ 1 kind │ 8 incarnation of the sender │ …
//! beat       8 incarnation of the receiver │ 8 time │ 8 echo │ state
//! state      8 promised │ id? of the view │ 1 flags │ 16 follows │ 8 lease ms │ 8 lease token
//! propose    8 epoch │ seats
//! promise    8 epoch │ report
//! report     id? │ seats of the view │ chain │ 1 remembers │ 1 forgets │ 8 since │ 8 up for ms │ 8 waits ms │ 8 highest token
//! refuse     8 epoch │ 8 promised
//! install    8 epoch │ seats │ 1 primary │ 8 token │ 8 wait ms │ sides │ chain │ consents: seats
//! leave      id? │ votes: seats
//! seats      2 count │ (1 host length, host, 4 port, 16 id, 8 incarnation, 4 weight, 8 since, 1 remembers)…
//! chain      1 count │ (id, seats, 8 token, 1 confirmed)…
//! sides      2 count │ (id, 2 count, 2 index of a seat…)…
//! id         8 epoch │ 16 coordinator │ 8 incarnation
//! ```

mod read;

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tribes_core::{Body, MemberId};

use self::read::Rest;

use super::core::Primary;
use super::{Seat, ViewId};

/// What the body of each of them begins with: drawn at random.
const HEADER: [u8; 16] = *b"\xB1\x0D\x6E\x27\x5F\xC3\x48\x9A\x93\x1E\xE4\x70\x2B\xD8\x56\xAF";
const VERSION: u8 = 1;
/// The most bytes of a body: ten lists of members that are all full.
pub(super) const MAX_BODY: usize = 1 << 20;
/// Epochs and tokens beyond are none: nobody can be talked into one that has no successor.
pub(super) const EPOCH_LIMIT: u64 = 1 << 62;

/// What one layer says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Of the sender's process.
    pub(super) incarnation: u64,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Beat(Beat),
    Propose {
        epoch: u64,
        seats: Arc<[Seat]>,
    },
    Promise {
        epoch: u64,
        report: Report,
    },
    Refuse {
        epoch: u64,
        promised: u64,
    },
    Install(Arc<Install>),
    /// The sender leaves on purpose, and has stopped writing. To one member alone it gives its vote for what comes after this
    /// view, and the votes for that which it was given itself.
    Leave {
        consent: Option<ViewId>,
        votes: Arc<[Seat]>,
    },
}

/// A sign of life, and what the sender holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beat {
    /// Of the receiver, as far as the sender knows it; 0 if not.
    pub(super) to: u64,
    /// The sender's clock.
    pub(super) sent: u64,
    /// The latest `sent` that came from the receiver: its own clock. 0 if none.
    pub(super) echo: u64,
    pub(super) state: State,
}

/// What a member tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The highest epoch that it has promised to anybody.
    pub(super) promised: u64,
    pub(super) installed: Option<ViewId>,
    /// It goes on under that view: it has promised nothing to anybody but its leader since.
    pub(super) holds: bool,
    /// It knows that enough members have installed that view.
    pub(super) confirmed: bool,
    /// The first of those that it is in touch with, itself included.
    pub(super) follows: MemberId,
    /// For how long the leader's lease still runs, and its token, if the store gave one.
    pub(super) lease: Duration,
    pub(super) lease_token: Option<u64>,
}

/// What a member brings into a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The view that it comes from.
    pub(super) view: Option<(ViewId, Arc<[Seat]>)>,
    /// The views that may have written, as far as it knows: the last confirmed one, then those that may have been.
    pub(super) chain: Vec<Primary>,
    pub(super) remembers: bool,
    /// An operator says that no other side can write, whatever was before.
    pub(super) forgets: bool,
    pub(super) since: u64,
    pub(super) up_for: Duration,
    /// How long it would still wait before it writes, as members that are missing may not have stopped.
    pub(super) waits: Duration,
    pub(super) max_token: u64,
}

/// A view that all of its members have promised to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Install {
    pub(super) epoch: u64,
    pub(super) seats: Arc<[Seat]>,
    pub(super) primary: bool,
    pub(super) token: u64,
    pub(super) wait: Duration,
    /// Views, and who of the seats comes from each.
    pub(super) sides: Vec<(ViewId, Vec<u16>)>,
    pub(super) chain: Vec<Primary>,
    /// Members that left on purpose and voted for this.
    pub(super) consents: Arc<[Seat]>,
}

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a message of agreed views with {0} bytes, at most {MAX_BODY} are allowed")]
    TooLong(usize),
    #[error("a message of agreed views ends early")]
    Truncated,
    #[error("{0} bytes follow the end of a message of agreed views")]
    Trailing(usize),
    #[error("a message of agreed views of version {0}, this is version {VERSION}")]
    Version(u8),
    #[error("a message of agreed views of the unknown kind {0}")]
    Kind(u8),
    #[error("a message of agreed views with {0} {1}")]
    TooMany(usize, &'static str),
    #[error("a message of agreed views with a number that none can be: {0}")]
    Number(u64),
}

/// Whether a body is one of these; nearly every other differs in the first byte.
pub(super) fn recognise(body: &Body) -> bool {
    body.segments().flatten().take(HEADER.len()).eq(&HEADER)
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(160);
        out.put_slice(&HEADER);
        out.put_u8(VERSION);
        let number = match &self.kind {
            Kind::Beat(_) => 1,
            Kind::Propose { .. } => 2,
            Kind::Promise { .. } => 3,
            Kind::Refuse { .. } => 4,
            Kind::Install(_) => 5,
            Kind::Leave { .. } => 6,
        };
        out.put_u8(number);
        out.put_u64(self.incarnation);
        match &self.kind {
            Kind::Beat(beat) => put_beat(&mut out, beat),
            Kind::Propose { epoch, seats } => {
                out.put_u64(*epoch);
                put_seats(&mut out, seats);
            }
            Kind::Promise { epoch, report } => {
                out.put_u64(*epoch);
                put_report(&mut out, report);
            }
            Kind::Refuse { epoch, promised } => {
                out.put_u64(*epoch);
                out.put_u64(*promised);
            }
            Kind::Install(install) => put_install(&mut out, install),
            Kind::Leave { consent, votes } => {
                put_option(&mut out, consent.as_ref());
                put_seats(&mut out, votes);
            }
        }
        out.freeze()
    }

    /// The highest of all epochs and tokens that it names.
    pub(super) fn highest_epoch(&self) -> u64 {
        let of_id = |id: &Option<ViewId>| id.map_or(0, |id| id.epoch);
        let of_chain = |chain: &[Primary]| {
            chain.iter().map(|primary| primary.id.epoch.max(primary.token)).max().unwrap_or_default()
        };
        match &self.kind {
            Kind::Beat(beat) => beat.state.promised.max(of_id(&beat.state.installed)),
            Kind::Propose { epoch, .. } => *epoch,
            Kind::Promise { epoch, report } => {
                let view = report.view.as_ref().map_or(0, |(id, _)| id.epoch);
                [*epoch, view, of_chain(&report.chain), report.max_token].into_iter().max().unwrap_or_default()
            }
            Kind::Refuse { epoch, promised } => *epoch.max(promised),
            Kind::Install(install) => {
                let sides = install.sides.iter().map(|(id, _)| id.epoch).max().unwrap_or_default();
                [install.epoch, install.token, sides, of_chain(&install.chain)].into_iter().max().unwrap_or_default()
            }
            Kind::Leave { consent, .. } => of_id(consent),
        }
    }

    /// Reads a body. Members get copies of their own: nothing of the buffer is kept. Lengths are checked before anything is
    /// allocated for them.
    pub(super) fn decode(body: &Body) -> Result<Self, Malformed> {
        if body.len() > MAX_BODY {
            return Err(Malformed::TooLong(body.len()));
        }
        let bytes = body.to_bytes();
        let mut rest = Rest::new(bytes.get(HEADER.len()..).ok_or(Malformed::Truncated)?);
        let version = rest.u8()?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let (kind, incarnation) = (rest.u8()?, rest.u64()?);
        let kind = match kind {
            1 => Kind::Beat(rest.beat()?),
            2 => Kind::Propose { epoch: rest.epoch()?, seats: rest.seats()? },
            3 => Kind::Promise { epoch: rest.epoch()?, report: rest.report()? },
            4 => Kind::Refuse { epoch: rest.epoch()?, promised: rest.epoch()? },
            5 => Kind::Install(Arc::new(rest.install()?)),
            6 => Kind::Leave { consent: rest.option()?, votes: rest.seats()? },
            other => return Err(Malformed::Kind(other)),
        };
        if rest.len() == 0 { Ok(Self { incarnation, kind }) } else { Err(Malformed::Trailing(rest.len())) }
    }
}

fn put_id(out: &mut BytesMut, id: &ViewId) {
    out.put_u64(id.epoch);
    out.put_slice(id.coordinator.as_bytes());
    out.put_u64(id.incarnation);
}

fn put_option(out: &mut BytesMut, id: Option<&ViewId>) {
    out.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        put_id(out, id);
    }
}

fn put_millis(out: &mut BytesMut, duration: Duration) {
    out.put_u64(u64::try_from(whole_millis(duration).as_millis()).unwrap_or(u64::MAX));
}

/// Rounded up to what can be written: who waits waits long enough.
pub(super) fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn put_beat(out: &mut BytesMut, beat: &Beat) {
    out.put_u64(beat.to);
    out.put_u64(beat.sent);
    out.put_u64(beat.echo);
    let state = &beat.state;
    out.put_u64(state.promised);
    put_option(out, state.installed.as_ref());
    let flags = [state.holds, state.confirmed, state.lease_token.is_some()];
    out.put_u8(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
    out.put_slice(state.follows.as_bytes());
    out.put_u64(u64::try_from(state.lease.as_millis()).unwrap_or(u64::MAX));
    out.put_u64(state.lease_token.unwrap_or_default());
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
}

fn put_seats(out: &mut BytesMut, seats: &[Seat]) {
    put_count(out, seats.len());
    for seat in seats {
        // At most 127 bytes, as every host.
        let host = seat.member.host();
        out.put_u8(u8::try_from(host.len()).unwrap_or(u8::MAX));
        out.put_slice(host);
        out.put_i32(seat.member.port());
        out.put_slice(seat.member.id().as_bytes());
        out.put_u64(seat.incarnation);
        out.put_u32(seat.weight);
        out.put_u64(seat.since);
        out.put_u8(u8::from(seat.remembers));
    }
}

fn put_chain(out: &mut BytesMut, chain: &[Primary]) {
    out.put_u8(u8::try_from(chain.len()).unwrap_or(u8::MAX));
    for primary in chain {
        put_id(out, &primary.id);
        put_seats(out, &primary.seats);
        out.put_u64(primary.token);
        out.put_u8(u8::from(primary.confirmed));
    }
}

fn put_report(out: &mut BytesMut, report: &Report) {
    put_option(out, report.view.as_ref().map(|(id, _)| id));
    put_seats(out, report.view.as_ref().map_or(&[], |(_, seats)| seats));
    put_chain(out, &report.chain);
    out.put_u8(u8::from(report.remembers));
    out.put_u8(u8::from(report.forgets));
    out.put_u64(report.since);
    put_millis(out, report.up_for);
    put_millis(out, report.waits);
    out.put_u64(report.max_token);
}

fn put_install(out: &mut BytesMut, install: &Install) {
    out.put_u64(install.epoch);
    put_seats(out, &install.seats);
    out.put_u8(u8::from(install.primary));
    out.put_u64(install.token);
    put_millis(out, install.wait);
    put_count(out, install.sides.len());
    for (id, members) in &install.sides {
        put_id(out, id);
        put_count(out, members.len());
        members.iter().for_each(|index| out.put_u16(*index));
    }
    put_chain(out, &install.chain);
    put_seats(out, &install.consents);
}

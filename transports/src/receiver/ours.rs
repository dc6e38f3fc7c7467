//! The conversation with a node of ours, from its hello on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tribes_core::member::REVISION;
use tribes_core::wire::{Control, LinkKind, RefuseReason};
use tribes_core::{AckMode, Member, MemberId, Receipt, ReceiptSink};

use super::census::Standing;
use super::connection::{Connection, End};
use super::line::Line;
use super::outbox::Outbox;
use super::reader::Reader;
use super::room::Room;
use super::session::SessionKey;
use super::sessions::{Claimed, Ownership, Session};
use super::signal::Order;
use super::violation::Violation;

/// Time for a peer to close the connection over which its probe was answered.
const PROBE: Duration = Duration::from_secs(5);
/// Room for messages on a control connection, 1 MiB, apart from that of data: what is urgent never waits for what is not.
const CONTROL_ROOM: usize = 1 << 20;

/// What a hello says.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) revision: u8,
    pub(super) kind: LinkKind,
    pub(super) own: Arc<Member>,
    pub(super) expected: MemberId,
    pub(super) session: u64,
}

/// A connection after its hello was welcome.
#[derive(Debug)]
pub(super) struct OurLink {
    member: Arc<Member>,
    sequence: Sequence,
    /// Frames of the sequence taken so far.
    taken: u64,
    /// Those of them of which the session was not told yet, and how many of these have a result to come.
    untold: u64,
    awaited: usize,
}

/// The sequence of data frames that the connection carries.
#[derive(Debug)]
enum Sequence {
    /// One that can be resumed.
    Owned(Ownership),
    /// One of this connection alone: that of control connections.
    Private(Arc<Session>),
    /// None: probes.
    Nothing,
}

impl Sequence {
    const fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Owned(ownership) => Some(ownership.session()),
            Self::Private(session) => Some(session),
            Self::Nothing => None,
        }
    }
}

impl OurLink {
    /// Answers the hello. An error ends the connection, with the refusal written.
    pub(super) async fn open(reader: &mut Reader<'_>, hello: Hello) -> Result<Self, End> {
        let opened = Self::answer(reader, hello).await;
        if let Err(End::Refused(reason)) = &opened {
            reader.line.outbox.push(&Control::Refused { reason: *reason });
        }
        opened
    }

    async fn answer(reader: &mut Reader<'_>, hello: Hello) -> Result<Self, End> {
        let connection = reader.line.connection;
        let Connection { running, signal, no, .. } = connection;
        let own = running.local().map_or(MemberId::ZERO, |local| local.id());
        if hello.expected != own {
            return Err(End::Refused(RefuseReason::WrongMember { own }));
        }
        if hello.revision == 0 {
            return Err(End::Refused(RefuseReason::Revision));
        }
        if signal.order() == Order::Stop {
            return Err(End::Refused(RefuseReason::Stopping));
        }
        let counters = &running.shared.counters;
        let session = hello.session;
        let welcome = |taken| Control::Welcome { revision: REVISION, capabilities: 0, own, session, taken };
        if hello.kind == LinkKind::Probe {
            counters.probes_total.one();
            reader.line.outbox.push(&welcome(None));
            reader.patience.limit(running.env().now() + PROBE);
            return Ok(Self::new(hello.own, Sequence::Nothing));
        }
        if running.shared.name(*no, signal, &hello.own, true) == Standing::NoRoom {
            return Err(End::Refused(RefuseReason::Busy));
        }
        counters.hellos_total.one();
        tracing::debug!(member = %hello.own, kind = ?hello.kind, session, "a member of ours connected");
        let sequence = if hello.kind == LinkKind::Data {
            let (ownership, known) = claim(&mut reader.line, &hello).await?;
            ownership.session().attach(&reader.line.outbox, |taken| welcome(known.then_some(taken)));
            Sequence::Owned(ownership)
        } else {
            reader.room = Room::new(CONTROL_ROOM, None);
            let session = Arc::new(Session::default());
            session.attach(&reader.line.outbox, |_| welcome(None));
            Sequence::Private(session)
        };
        if hello.kind == LinkKind::Data {
            // After the answer: whoever is told may have much to do. A control connection is no news, for it may be that of a
            // good-bye; nor is a probe: two members that verify each other would never end.
            running.link.heard_of(&hello.own);
        }
        Ok(Self::new(hello.own, sequence))
    }

    fn new(member: Arc<Member>, sequence: Sequence) -> Self {
        let taken = sequence.session().map_or(0, |session| session.taken());
        Self { member, sequence, taken, untold: 0, awaited: 0 }
    }

    pub(super) const fn takes_messages(&self) -> bool {
        !matches!(self.sequence, Sequence::Nothing)
    }

    /// Whether what it carries is urgent: no listener may hold it up.
    pub(super) const fn is_urgent(&self) -> bool {
        matches!(self.sequence, Sequence::Private(_))
    }

    /// The next message of the sequence is taken; [`tell`](Self::tell) must follow before it goes up.
    pub(super) fn take(&mut self, mode: AckMode) -> Receipt {
        let seq = self.taken;
        self.taken += 1;
        self.untold += 1;
        match self.sequence.session() {
            Some(session) if mode == AckMode::Handled => {
                self.awaited += 1;
                Receipt::numbered(Arc::clone(session) as Arc<dyn ReceiptSink>, seq)
            }
            _ => Receipt::none(),
        }
    }

    /// Tells the session, and through it the peer, what was taken.
    pub(super) fn tell(&mut self) {
        if std::mem::take(&mut self.untold) > 0
            && let Some(session) = self.sequence.session()
        {
            session.advance(self.taken, std::mem::take(&mut self.awaited));
        }
    }

    /// Gives the session up; there are no messages on this connection any more.
    pub(super) fn release(&mut self) {
        self.sequence = Sequence::Nothing;
    }

    /// A control frame behind the hello.
    ///
    /// # Errors
    /// If it is one that only the accepting side sends, or a second hello.
    pub(super) fn control(&self, connection: &Connection, outbox: &Outbox, control: Control) -> Result<(), Violation> {
        match control {
            Control::Ping { nonce } => outbox.push(&Control::Pong { nonce }),
            Control::Goodbye { member } if member == self.member.id() => connection.running.link.departed(&self.member),
            // Nobody speaks for another.
            Control::Goodbye { .. } | Control::Pong { .. } | Control::Unknown(_) => {}
            Control::Hello { .. } => return Err(Violation::Unexpected("a second hello")),
            _ => return Err(Violation::Unexpected("a control frame that only the accepting side sends")),
        }
        Ok(())
    }
}

/// The session of a data connection, and whether it was known. Waits until an older connection of the session has ended:
/// only then is what was taken final.
async fn claim(line: &mut Line<'_>, hello: &Hello) -> Result<(Ownership, bool), End> {
    let Connection { running, no, .. } = line.connection;
    let key = SessionKey { member: Arc::clone(&hello.own), session: hello.session };
    let (waiter, granted) = oneshot::channel();
    let owner = match running.shared.sessions.claim(key, *no, waiter, running.env()) {
        Claimed::Granted { ownership, known } => {
            if known {
                running.shared.counters.resumed_total.one();
            }
            return Ok((ownership, known));
        }
        Claimed::Wait { owner } => owner,
    };
    if let Some(older) = running.shared.census().handle(owner) {
        older.give(Order::Superseded);
    }
    let env = running.env();
    let granted = env.until(env.now() + running.shared.config.half_frame, granted);
    match line.until_told(granted).await {
        Ok(Some(Ok(ownership))) => {
            running.shared.counters.resumed_total.one();
            Ok((ownership, true))
        }
        // A still newer connection of the session has come.
        Ok(Some(Err(_))) => Err(End::Told(Order::Superseded)),
        // A layer holds the older one's last message: the peer may try again.
        Ok(None) => Err(End::Refused(RefuseReason::Busy)),
        Err(End::Told(Order::Stop)) => Err(End::Refused(RefuseReason::Stopping)),
        Err(end) => Err(end),
    }
}

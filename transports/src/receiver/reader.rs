//! The receiving direction of one connection: bytes to frames, frames to messages, messages upwards.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tribes_core::wire::{self, Control, FRAME_OVERHEAD, FrameAt, FrameDecoder, Frames, SenderCache};
use tribes_core::{AckMode, ChannelMessage, Inbound, Lease, Receipt, ReceiptSink, Route, Time};

use super::census::Standing;
use super::connection::{Connection, End};
use super::line::Line;
use super::ours::{Hello, OurLink};
use super::patience::Patience;
use super::read_size::{CHUNK, LEAST, ReadSize};
use super::room::{OVERHEAD, Room};
use super::signal::Order;
use super::violation::Violation;

/// Messages that go up together at most.
const BATCH: usize = 64;
/// Bytes after which other connections have a turn.
const TURN_BYTES: usize = 256 << 10;
/// Bodies smaller than half of a read buffer are copied out of it when they are kept: a few bytes must not keep 64 KiB, and
/// a buffer that nobody holds is used again.
const LENT: usize = CHUNK / 2;

/// The receiving direction.
pub(super) struct Reader<'a> {
    pub(super) line: Line<'a>,
    decoder: FrameDecoder,
    senders: SenderCache,
    pub(super) patience: Patience,
    size: ReadSize,
    pub(super) room: Room,
    /// Room taken ahead for the large frame that is being received, and how much.
    held: Option<(Lease, usize)>,
    /// The largest frame of those that came last.
    largest: usize,
    peer: Peer,
    batch: Vec<Inbound>,
    /// Whether a message of the batch is acknowledged on receipt.
    owed: bool,
    /// Bytes read since others had a turn.
    turn: usize,
}

/// Who is at the other end.
enum Peer {
    /// Nothing has come yet.
    Unknown,
    /// It began with a message, as Java does.
    Java,
    /// It began with a hello.
    Ours(OurLink),
}

impl<'a> Reader<'a> {
    pub(super) fn new(line: Line<'a>, opened: Time) -> Self {
        let running = &line.connection.running;
        let config = &running.shared.config;
        Self {
            decoder: FrameDecoder::new(config.limits),
            senders: SenderCache::new(),
            patience: Patience::new(config, opened),
            size: ReadSize::default(),
            room: Room::new(config.per_connection_bytes, Some(Arc::clone(&running.total))),
            held: None,
            largest: 0,
            peer: Peer::Unknown,
            batch: Vec::new(),
            owed: false,
            turn: 0,
            line,
        }
    }

    pub(super) const fn is_ours(&self) -> bool {
        matches!(self.peer, Peer::Ours(_))
    }

    /// Another connection may continue the session.
    pub(super) fn release(&mut self) {
        if let Peer::Ours(link) = &mut self.peer {
            link.release();
        }
    }

    pub(super) async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.frames().await {
                return end;
            }
            self.line.flush().await;
            if let Err(end) = self.read().await {
                return end;
            }
        }
    }

    /// Handles all frames that are there, one after another.
    async fn frames(&mut self) -> Result<(), End> {
        let mut any = false;
        while let Some(mut frames) = self.decoder.split()? {
            if !std::mem::replace(&mut any, true) {
                self.largest = 0;
            }
            let handled = self.handle(&mut frames).await;
            // What is whole before a violation goes up.
            let delivered = self.deliver(true).await;
            handled.and(delivered)?;
            match self.line.connection.signal.order() {
                Order::Run => {}
                order => return Err(End::Told(order)),
            }
        }
        if any {
            self.patience.frame_done(self.line.connection.running.env().now());
        }
        if self.decoder.pending() == 0 && self.size.take_shrunk() {
            // The memory of a busy time is not kept (T46).
            *self.decoder.buffer_mut() = BytesMut::new();
        }
        if self.turn >= TURN_BYTES {
            self.turn = 0;
            self.line.outbox.tell();
            self.line.flush().await;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn handle(&mut self, frames: &mut Frames) -> Result<(), End> {
        while let Some(frame) = frames.next() {
            match frame {
                FrameAt::Data(at) => self.message(frames.bytes(), at).await?,
                FrameAt::Control(at) => {
                    // It has its place among the messages.
                    self.deliver(false).await?;
                    self.control(frames.bytes().get(at).unwrap_or_default()).await?;
                }
                FrameAt::Ack | FrameAt::FailAck => {
                    return Err(Violation::Unexpected("an acknowledgement of nothing").into());
                }
            }
            if self.batch.len() >= BATCH {
                self.deliver(frames.is_done()).await?;
            }
        }
        Ok(())
    }

    /// Hands the messages that have gathered up. `last`: nothing else of this connection is at hand.
    async fn deliver(&mut self, last: bool) -> Result<(), End> {
        if let Peer::Ours(link) = &mut self.peer {
            link.tell();
        }
        // Java leaves as soon as its good-bye is acknowledged: layers and membership see a message of its before its answer
        // leaves. No listener holds that up, for none is called here.
        let java = matches!(self.peer, Peer::Java);
        if last && std::mem::take(&mut self.owed) && !java {
            // Before a listener is called, for that may take its time.
            self.line.outbox.tell();
            self.line.flush().await;
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let running = &self.line.connection.running;
        running.shared.counters.frames_total.add(self.batch.len());
        let refused = self.line.regardless(running.link.receive_batch(&mut self.batch)).await?;
        if refused > 0 {
            // Whoever refused them has answered, too.
            running.shared.counters.refused_by_layers_total.add(refused);
        }
        Ok(())
    }

    /// Waits for more bytes of the stream.
    async fn read(&mut self) -> Result<(), End> {
        let Connection { running, signal, .. } = self.line.connection;
        let (pending, needed) = (self.decoder.pending(), self.decoder.needed());
        self.patience.reading(pending, needed, running.env().now());
        if pending == 0
            && self.largest > CHUNK
            && let Some(count) = self.read_ahead().await?
        {
            return self.has_read(count, pending);
        }
        if let Some(needed) = needed.filter(|needed| *needed > CHUNK && !self.has_room_for(*needed)) {
            // A large frame is not even read before there is room for it.
            self.held = None;
            self.held = Some((self.take_room(needed).await?, needed));
        }
        let most = if pending == 0 && self.largest > CHUNK {
            // Another large one, probably: little of it comes into a buffer that is too small for all of it.
            LEAST
        } else {
            self.size.next(pending, needed, signal.is_identified())
        };
        let buffer = self.decoder.buffer_mut();
        self.size.reserve(buffer, most);
        let (patience, room) = (&self.patience, &self.room);
        let limit = || {
            room.rest();
            patience.deadline(signal.is_identified())
        };
        let count = self.line.read(buffer, most, limit).await?;
        self.room.resume();
        self.size.filled(count, most);
        self.has_read(count, pending)
    }

    /// A large frame is often followed by another of its size. If something is there already it is read into a buffer that
    /// takes all of it: the one of the last frame, if nobody holds that. If not, that memory is given back (T46).
    async fn read_ahead(&mut self) -> Result<Option<usize>, End> {
        let expected = self.largest;
        let identified = self.line.connection.signal.is_identified();
        let room = self.room.try_take(expected.saturating_add(OVERHEAD), identified).filter(|_| identified);
        self.held = room.map(|lease| (lease, expected));
        if self.held.is_some() {
            let buffer = self.decoder.buffer_mut();
            buffer.reserve(expected);
            if let Some(count) = self.line.try_read(buffer, expected).await? {
                return Ok(Some(count));
            }
        }
        self.held = None;
        *self.decoder.buffer_mut() = BytesMut::new();
        Ok(None)
    }

    fn has_room_for(&self, needed: usize) -> bool {
        self.held.as_ref().is_some_and(|(_, held)| *held >= needed)
    }

    /// So many bytes have been read, behind `pending` of a frame.
    fn has_read(&mut self, count: usize, pending: usize) -> Result<(), End> {
        let counters = &self.line.connection.running.shared.counters;
        if count == 0 {
            if pending > 0 {
                counters.closed_in_frame_total.one();
            }
            return Err(End::Eof);
        }
        counters.bytes_total.add(count);
        self.turn += count;
        Ok(())
    }

    /// A data frame: one message.
    async fn message(&mut self, frames: &Bytes, at: Range<usize>) -> Result<(), End> {
        let running = &self.line.connection.running;
        if let Peer::Unknown = self.peer {
            self.peer = Peer::Java;
        }
        if matches!(&self.peer, Peer::Ours(link) if !link.takes_messages()) {
            return Err(Violation::Unexpected("a message on a connection for a probe").into());
        }
        let len = at.len();
        let mut message = wire::decode_message_at(frames, at, &running.shared.config.limits, &mut self.senders)?;
        self.identify(&message)?;
        if message.body.len() < LENT {
            message.body.lend();
        }
        let size = len.saturating_add(FRAME_OVERHEAD);
        self.largest = self.largest.max(size);
        let lease = match self.held.take() {
            // Not that of a much larger one that was expected.
            Some((lease, held)) if size <= held && held <= size.saturating_mul(2) => lease,
            _ => self.take_room(len).await?,
        };
        let mode = message.options.ack_mode();
        self.owed |= mode == AckMode::Received;
        if !self.line.outbox.has_room() {
            self.deliver(false).await?;
            self.line.room_for_answers().await?;
        }
        let (receipt, queued) = match &mut self.peer {
            Peer::Ours(link) => (link.take(mode), link.is_urgent()),
            _ => (self.java_receipt(mode), self.owed),
        };
        let mut msg = Inbound::new(message, receipt, lease, Route::Stream);
        if !self.is_ours() {
            // No hello: also a node of ours that knows only the address of this one.
            msg = msg.as_tribes();
        }
        self.batch.push(if queued { msg } else { msg.inline() });
        Ok(())
    }

    /// Towards Java, `ack` is answered here and `sync` when the receipt is resolved.
    fn java_receipt(&self, mode: AckMode) -> Receipt {
        match mode {
            AckMode::None => Receipt::none(),
            AckMode::Received => {
                self.line.outbox.accept();
                Receipt::none()
            }
            AckMode::Handled => {
                let place = self.line.outbox.reserve();
                Receipt::numbered(Arc::clone(&self.line.outbox) as Arc<dyn ReceiptSink>, place)
            }
        }
    }

    fn identify(&self, message: &ChannelMessage) -> Result<(), End> {
        let Connection { signal, running, no, .. } = self.line.connection;
        if signal.is_identified() {
            return Ok(());
        }
        match running.shared.name(*no, signal, &message.sender, false) {
            Standing::NoRoom => Err(End::NoRoom),
            Standing::Identified | Standing::Stranger => Ok(()),
        }
    }

    /// A control frame, in the place that a hello gives it.
    async fn control(&mut self, contents: &[u8]) -> Result<(), End> {
        let control = Control::decode(contents, &self.line.connection.running.shared.config.limits)?;
        match (&mut self.peer, control) {
            (Peer::Unknown, Control::Hello { revision, kind, own, expected, session, .. }) => {
                let hello = Hello { revision, kind, own: Arc::new(*own), expected, session };
                let link = OurLink::open(self, hello).await?;
                self.peer = Peer::Ours(link);
                Ok(())
            }
            (Peer::Ours(link), control) => {
                // Answers gather only as long as the peer reads them.
                self.line.room_for_answers().await?;
                link.control(self.line.connection, &self.line.outbox, control).map_err(End::from)
            }
            (Peer::Unknown | Peer::Java, _) => {
                Err(Violation::Unexpected("a control frame without a hello before it").into())
            }
        }
    }

    /// Room for a message of `bytes`. As long as there is none the peer is not read from, and its time stands still.
    async fn take_room(&mut self, bytes: usize) -> Result<Lease, End> {
        let identified = self.line.connection.signal.is_identified();
        let cost = bytes.saturating_add(OVERHEAD);
        if let Some(lease) = self.room.try_take(cost, identified) {
            return Ok(lease);
        }
        // Those that have room go first, and give it back. What was taken so far is told before waiting.
        self.deliver(true).await?;
        self.line.outbox.tell();
        self.line.flush().await;
        self.room.rest();
        let env = self.line.connection.running.env();
        let since = env.now();
        let lease = self.line.until_told(self.room.take(cost, identified)).await?;
        self.room.resume();
        self.patience.held_up(env.now() - since);
        Ok(lease)
    }
}

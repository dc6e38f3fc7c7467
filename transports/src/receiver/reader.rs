//! The receiving direction of one connection: bytes to frames, frames to messages, messages upwards.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf};
use tribes_core::wire::{self, Control, Frame, FrameDecoder, SenderCache};
use tribes_core::{AckMode, Body, ChannelMessage, Inbound, Lease, Receipt, ReceiptSink, Route, Time};

use super::census::Standing;
use super::connection::{Connection, End};
use super::ours::{Hello, OurLink};
use super::outbox::Outbox;
use super::patience::Patience;
use super::read_size::{CHUNK, ReadSize};
use super::room::{OVERHEAD, Room};
use super::signal::Order;
use super::violation::Violation;
use crate::stream::ByteStream;

/// Frames after which the reader lets the writer, and other connections, have a turn.
const TURN_FRAMES: usize = 64;
/// Bytes after which it does.
const TURN_BYTES: usize = 256 << 10;
/// Bodies smaller than half of a read buffer are copied out of it when they are kept: a few bytes must not keep 64 KiB, and
/// a buffer that nobody holds is used again.
const LENT: usize = CHUNK / 2;
/// Bytes read and dropped behind the last answer, so that closing does not reset the connection before it has arrived.
const LINGER_BYTES: usize = 256 << 10;

/// The receiving direction.
pub(super) struct Reader<'a> {
    pub(super) connection: &'a Connection,
    pub(super) outbox: Arc<Outbox>,
    stream: ReadHalf<Box<dyn ByteStream>>,
    decoder: FrameDecoder,
    senders: SenderCache,
    pub(super) patience: Patience,
    size: ReadSize,
    pub(super) room: Room,
    /// Room taken ahead for the large frame that is being received.
    held: Option<Lease>,
    peer: Peer,
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
    pub(super) fn new(
        connection: &'a Connection,
        outbox: Arc<Outbox>,
        stream: ReadHalf<Box<dyn ByteStream>>,
        opened: Time,
    ) -> Self {
        let running = &connection.running;
        let config = &running.shared.config;
        Self {
            connection,
            outbox,
            stream,
            decoder: FrameDecoder::new(config.limits),
            senders: SenderCache::new(),
            patience: Patience::new(config, opened),
            size: ReadSize::default(),
            room: Room::new(config.per_connection_bytes, Some(Arc::clone(&running.total))),
            held: None,
            peer: Peer::Unknown,
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
            self.outbox.flush();
            if let Err(end) = self.read().await {
                return end;
            }
        }
    }

    /// Handles all frames that are there, one after another.
    async fn frames(&mut self) -> Result<(), End> {
        let (mut frames, mut bytes, mut any, mut large) = (0, 0, false, false);
        loop {
            let before = self.decoder.pending();
            let Some(frame) = self.decoder.next()? else { break };
            any = true;
            frames += 1;
            bytes += before - self.decoder.pending();
            large |= before - self.decoder.pending() > CHUNK;
            match frame {
                Frame::Data(contents) => self.message(contents).await?,
                Frame::Control(contents) => self.control(&contents).await?,
                Frame::Ack | Frame::FailAck => {
                    return Err(Violation::Unexpected("an acknowledgement of nothing").into());
                }
            }
            match self.connection.signal.order() {
                Order::Run => {}
                order => return Err(End::Told(order)),
            }
            if frames >= TURN_FRAMES || bytes >= TURN_BYTES {
                (frames, bytes) = (0, 0);
                self.outbox.flush();
                tokio::task::yield_now().await;
            }
        }
        if any {
            self.patience.frame_done(self.connection.running.env().now());
        }
        if self.decoder.pending() == 0 && (large || self.size.take_shrunk()) {
            // The memory of a large frame, or of a busy time, is not kept (T46).
            *self.decoder.buffer_mut() = BytesMut::new();
        }
        Ok(())
    }

    /// Waits for more bytes of the stream.
    async fn read(&mut self) -> Result<(), End> {
        let (pending, needed) = (self.decoder.pending(), self.decoder.needed());
        self.patience.reading(pending, needed, self.connection.running.env().now());
        if let Some(needed) = needed.filter(|needed| *needed > CHUNK && self.held.is_none()) {
            // A large frame is not even read before there is room for it.
            self.held = Some(self.take_room(needed).await?);
        }
        let most = self.size.next(pending, needed);
        let count = loop {
            let identified = self.connection.signal.is_identified();
            let deadline = self.patience.deadline(identified);
            let limit = deadline.map_or(Time::NEVER, |(limit, _)| limit);
            let buffer = self.decoder.buffer_mut();
            self.size.reserve(buffer, most);
            let env = self.connection.running.env();
            tokio::select! {
                biased;
                order = self.connection.signal.at_least(Order::Stop) => return Err(End::Told(order)),
                read = env.until(limit, read_some(&mut self.stream, buffer, most)) => match (read, deadline) {
                    (Some(read), _) => break read.map_err(End::Broken)?,
                    (None, Some((_, late))) => return Err(End::Late(late)),
                    (None, None) => {}
                },
                () = self.connection.signal.standing_changed(identified) => {}
            }
        };
        let counters = &self.connection.running.shared.counters;
        if count == 0 {
            if pending > 0 {
                counters.closed_in_frame_total.one();
            }
            return Err(End::Eof);
        }
        counters.bytes_total.add(count);
        self.size.filled(count, most);
        Ok(())
    }

    /// A data frame: one message.
    async fn message(&mut self, contents: Bytes) -> Result<(), End> {
        let running = &self.connection.running;
        if let Peer::Unknown = self.peer {
            self.peer = Peer::Java;
        }
        if matches!(&self.peer, Peer::Ours(link) if !link.takes_messages()) {
            return Err(Violation::Unexpected("a message on a connection for a probe").into());
        }
        let mut message = wire::decode_message(&contents, &running.shared.config.limits, &mut self.senders)?;
        self.identify(&message)?;
        let lease = match self.held.take() {
            Some(lease) => lease,
            None => self.take_room(contents.len()).await?,
        };
        lend_body(&mut message, contents);
        self.connection.until_told(self.outbox.room()).await?;
        running.shared.counters.frames_total.one();
        let mode = message.options.ack_mode();
        let receipt = match &self.peer {
            Peer::Ours(link) => link.take(mode),
            _ => self.java_receipt(mode),
        };
        let mut msg = Inbound::new(message, receipt, lease, Route::Stream);
        if !matches!(&self.peer, Peer::Ours(link) if link.is_urgent()) {
            msg = msg.inline();
        }
        if running.link.receive(msg).await.is_err() {
            // Whoever refused it has answered, too.
            running.shared.counters.refused_by_layers_total.one();
        }
        Ok(())
    }

    /// Towards Java, `ack` is answered here and `sync` when the receipt is resolved.
    fn java_receipt(&self, mode: AckMode) -> Receipt {
        match mode {
            AckMode::None => Receipt::none(),
            AckMode::Received => {
                self.outbox.accept();
                Receipt::none()
            }
            AckMode::Handled => {
                let place = self.outbox.reserve();
                Receipt::numbered(Arc::clone(&self.outbox) as Arc<dyn ReceiptSink>, place)
            }
        }
    }

    fn identify(&self, message: &ChannelMessage) -> Result<(), End> {
        let Connection { signal, running, no, .. } = self.connection;
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
        let control = Control::decode(contents, &self.connection.running.shared.config.limits)?;
        match (&mut self.peer, control) {
            (Peer::Unknown, Control::Hello { revision, kind, own, expected, session, .. }) => {
                let hello = Hello { revision, kind, own: Arc::new(*own), expected, session };
                let link = OurLink::open(self, hello).await?;
                self.peer = Peer::Ours(link);
                Ok(())
            }
            (Peer::Ours(link), control) => {
                // Answers gather only as long as the peer reads them.
                self.connection.until_told(self.outbox.room()).await?;
                link.control(self.connection, &self.outbox, control).map_err(End::from)
            }
            (Peer::Unknown | Peer::Java, _) => {
                Err(Violation::Unexpected("a control frame without a hello before it").into())
            }
        }
    }

    /// Room for a message of `bytes`. As long as there is none the peer is not read from, and its time stands still.
    async fn take_room(&mut self, bytes: usize) -> Result<Lease, End> {
        let identified = self.connection.signal.is_identified();
        let cost = bytes.saturating_add(OVERHEAD);
        if let Some(lease) = self.room.try_take(cost, identified) {
            return Ok(lease);
        }
        // What was taken so far is told before waiting.
        self.outbox.flush();
        let env = self.connection.running.env();
        let since = env.now();
        let lease = self.connection.until_told(self.room.take(cost, identified)).await?;
        self.patience.held_up(env.now() - since);
        Ok(lease)
    }

    /// Reads on for a moment after the last answer was written.
    pub(super) async fn linger(&mut self) {
        let mut dropped = 0;
        let mut buffer = BytesMut::with_capacity(4096);
        while dropped < LINGER_BYTES {
            match self.stream.read_buf(&mut buffer).await {
                Ok(count) if count > 0 => dropped += count,
                _ => return,
            }
            buffer.clear();
        }
    }
}

/// A body that is a small part of its buffer is copied if it is kept.
fn lend_body(message: &mut ChannelMessage, contents: Bytes) {
    if message.body.len() < LENT {
        message.body = Body::lent(std::mem::take(&mut message.body).into_bytes());
    }
    drop(contents);
}

/// Reads once, at most `most` bytes.
async fn read_some(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
    stream.read_buf(&mut buffer.limit(most)).await
}

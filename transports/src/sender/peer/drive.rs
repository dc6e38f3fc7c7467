//! An open connection: writes what is queued in as few system calls as possible, reads the answers, fails what is late.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tribes_core::Time;
use tribes_core::member::Suspicion;
use tribes_core::wire::{Control, Frame, FrameDecoder, RefuseReason};

use super::write::{Wrote, poll_read};
use super::{End, Peer, State};
use crate::sender::core::Resolved;

/// Bytes read at once: answers are small.
const READ_CHUNK: usize = 8 << 10;

/// When a deadline is, and the future that waits for it.
type Timer<'a> = (Time, Pin<Box<dyn Future<Output = ()> + Send + 'a>>);

/// What happened in one round of a connection.
#[derive(Default)]
struct Step {
    wrote: bool,
    failed: Option<io::Error>,
    read: Option<io::Result<usize>>,
    woken: bool,
    due: bool,
}

impl Step {
    const fn is_something(&self) -> bool {
        self.wrote || self.failed.is_some() || self.read.is_some() || self.woken || self.due
    }
}

/// What a round begins with.
struct Round {
    /// When to look at deadlines next.
    due: Option<Time>,
    /// Several callers send: let all of them queue before writing.
    gather: bool,
}

impl Peer {
    /// Writes and reads until the connection ends.
    pub(super) async fn drive(&self, mut decoder: FrameDecoder, opened: Time) -> End {
        let env = self.shared.env();
        let mut resolved: Vec<Resolved> = Vec::new();
        let mut timer: Option<Timer<'_>> = None;
        let mut put_off = false;
        // What came with the answer to the hello.
        if let Err(end) = self.read_frames(&mut decoder, &mut resolved) {
            self.settle(&mut resolved);
            return end;
        }
        loop {
            self.settle(&mut resolved);
            let round = match self.begin_round(opened) {
                Ok(round) => round,
                Err(end) => return end,
            };
            if round.gather {
                tokio::task::yield_now().await;
            }
            match round.due {
                Some(due) if timer.as_ref().is_none_or(|(at, _)| *at != due) => {
                    timer = Some((due, Box::pin(env.sleep_until(due))));
                }
                None => timer = None,
                Some(_) => {}
            }
            let notified = self.wake.notified();
            tokio::pin!(notified);
            let step = poll_fn(|cx| {
                // Before writing: those who woke us may not be the last who have something to send.
                let mut step = Step { woken: notified.as_mut().poll(cx).is_ready(), ..Step::default() };
                // Once: who is woken all the time must write all the same.
                if step.woken && !put_off {
                    return Poll::Ready(step);
                }
                match self.poll_write(cx, env.now()) {
                    Poll::Ready(Wrote::Some) => step.wrote = true,
                    Poll::Ready(Wrote::Failed(error)) => step.failed = Some(error),
                    Poll::Ready(Wrote::Nothing) | Poll::Pending => {}
                }
                let buffer = decoder.buffer_mut();
                if buffer.capacity() - buffer.len() < READ_CHUNK / 2 {
                    buffer.reserve(READ_CHUNK);
                }
                if let Some((_, stream)) = self.stream().as_mut()
                    && let Poll::Ready(read) = poll_read(&mut **stream, cx, buffer)
                {
                    step.read = Some(read);
                }
                step.due = timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
                if step.is_something() { Poll::Ready(step) } else { Poll::Pending }
            })
            .await;
            put_off = step.woken && !put_off;
            if step.due {
                timer = None;
                if self.expire() {
                    return End::Renew;
                }
            }
            if let Some(error) = step.failed {
                return self.lost(&mut resolved, error.to_string());
            }
            match step.read {
                Some(Ok(0)) => return self.lost(&mut resolved, "it closed the connection".to_owned()),
                Some(Ok(_)) => {
                    if let Err(end) = self.read_frames(&mut decoder, &mut resolved) {
                        self.settle(&mut resolved);
                        return end;
                    }
                }
                Some(Err(error)) => return self.lost(&mut resolved, error.to_string()),
                None => {}
            }
        }
    }

    /// Looks at what is to be done; or why the connection ends here.
    fn begin_round(&self, opened: Time) -> Result<Round, End> {
        let now = self.shared.env().now();
        let mut state = self.look();
        let config = &self.shared.config;
        if self.is_closing() {
            return Err(End::Ordered);
        }
        let State { core, writing, last_used } = &mut *state;
        if let Some(error) = writing.take_error() {
            drop(state);
            return Err(self.lost(&mut Vec::new(), error.to_string()));
        }
        let worn = config.keep_alive_count.is_some_and(|count| core.sent_on_connection() > count)
            || config.keep_alive_time.is_some_and(|time| now - opened >= time);
        if worn && core.is_idle() && core.sent_on_connection() > 0 {
            // Nobody writes to what is being closed.
            writing.abandon();
            return Err(End::Renew);
        }
        if core.has_work() {
            *last_used = now;
        }
        Ok(Round { due: core.deadline(), gather: writing.is_crowded() && !core.is_flushed() })
    }

    fn read_frames(&self, decoder: &mut FrameDecoder, resolved: &mut Vec<Resolved>) -> Result<(), End> {
        let now = self.shared.env().now();
        let ours = self.member.id().is_ours();
        loop {
            let frame = decoder.next().map_err(|error| End::Lost(format!("it sent what is no frame: {error}")))?;
            match frame {
                None => return Ok(()),
                Some(Frame::Ack) if !ours => self.state().core.acknowledged(true, now, resolved),
                Some(Frame::FailAck) if !ours => self.state().core.acknowledged(false, now, resolved),
                Some(Frame::Control(contents)) if ours => {
                    match Control::decode(&contents, &self.shared.config.limits) {
                        Ok(Control::Taken { count }) => self.state().core.taken(count, now, resolved),
                        Ok(Control::Handled { seq, result }) => {
                            self.state().core.handled(seq, result, now, resolved);
                        }
                        Ok(Control::Goodbye { .. }) => self.shared.link.departed(&self.member),
                        Ok(Control::Refused { reason: RefuseReason::WrongMember { own } }) => {
                            return Err(End::Replaced(own));
                        }
                        Ok(_) => {}
                        Err(error) => return Err(End::Lost(format!("it sent a damaged control frame: {error}"))),
                    }
                }
                // As Java does: whatever else comes on a sender's connection is skipped.
                Some(_) => {}
            }
        }
    }

    fn lost(&self, resolved: &mut Vec<Resolved>, why: String) -> End {
        self.settle(resolved);
        if self.is_closing() {
            return End::Ordered;
        }
        self.shared.counters.lost();
        self.shared.link.suspect(&self.member, Suspicion::ConnectionClosed);
        End::Lost(why)
    }
}

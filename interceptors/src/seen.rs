//! The messages of one sender that were seen, and what the sender was told of each, so that a message that comes twice is
//! answered as it was the first time.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "dedup")]
use std::time::Duration;

use tribes_core::{AckMode, ChannelMessage, Handled, MessageId, Receipt, Time};

/// So many copies of a message wait for the answer to the first; more are refused at once.
const MAX_COPIES: usize = 16;

/// Names a message within those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The id itself; of an id that has not 16 bytes, as no known sender makes, a hash.
    pub(crate) fn of(id: &MessageId) -> Self {
        let bytes = id.as_bytes();
        Self(bytes.try_into().unwrap_or_else(|_other_size| {
            let half = |salt: u8| {
                let mut hasher = DefaultHasher::new();
                (salt, bytes).hash(&mut hasher);
                hasher.finish()
            };
            (u128::from(half(0)) << 64 | u128::from(half(1))).to_be_bytes()
        }))
    }

    /// That of one of several messages that share an id.
    #[cfg(feature = "order")]
    pub(crate) fn numbered(self, number: i32) -> Self {
        Self((u128::from_be_bytes(self.0) ^ (u128::from(number.cast_unsigned()) << 96)).to_be_bytes())
    }

    /// Half of it, never zero.
    #[cfg(feature = "order")]
    pub(crate) fn short(self) -> u64 {
        let whole = u128::from_be_bytes(self.0);
        let [high, low] = [whole >> 64, whole & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(0));
        (high ^ low).max(1)
    }
}

/// How much of the past is remembered. Whatever exceeds it is forgotten, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Messages.
    pub(crate) entries: usize,
    /// Since when.
    pub(crate) since: Time,
}

#[cfg(feature = "dedup")]
impl Span {
    /// The last `entries` messages, but none older than `age`.
    pub(crate) fn new(entries: usize, age: Duration, now: Time) -> Self {
        Self { entries, since: Time::from_nanos(now.as_nanos().saturating_sub(nanos(age))) }
    }
}

#[cfg(feature = "dedup")]
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One sender's messages that were seen.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    answers: HashMap<Fingerprint, Answer>,
    /// In the order in which they came; times never fall.
    ages: VecDeque<(Time, Fingerprint)>,
}

/// What the sender of a message was told.
#[derive(Debug)]
enum Answer {
    /// It was accepted, or has been acknowledged before it was handled.
    Accepted,
    Other(Box<Other>),
}

#[derive(Debug)]
enum Other {
    /// It is being handled; the copies that came meanwhile are answered with it.
    Open(Vec<Receipt>),
    Given(Handled),
}

impl Answer {
    /// What the sender of a copy is told, unless that has to wait until the first has been handled.
    fn tell(&mut self, copy: Receipt) -> Option<(Receipt, Handled)> {
        let Self::Other(other) = self else { return Some((copy, Handled::Accepted)) };
        match &mut **other {
            Other::Given(handled) => Some((copy, handled.clone())),
            Other::Open(copies) if copies.len() < MAX_COPIES => {
                copies.push(copy);
                None
            }
            Other::Open(_) => Some((copy, Handled::Failed("the message has come too often".to_owned()))),
        }
    }
}

/// What became of a look into the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The message is the first of its kind, and is remembered from now on. If it is not, its receipt has been taken: it is
    /// answered as the first one was, or will be.
    pub(crate) first: bool,
    /// So many messages were forgotten before their time, because there were too many.
    pub(crate) crowded_out: usize,
    /// By how many more (or fewer) messages are remembered now.
    pub(crate) change: isize,
}

impl Seen {
    /// Looks whether `message` was seen. Takes note of it, and of what its sender will be told if that is decided later.
    pub(crate) fn look(
        self: &Arc<Self>,
        key: Fingerprint,
        message: &ChannelMessage,
        receipt: &mut Receipt,
        now: Time,
        span: Span,
    ) -> Look {
        let decided_later = message.options.ack_mode() == AckMode::Handled && receipt.is_awaited();
        let mut forgotten = Vec::new();
        let mut window = self.lock();
        let before = window.ages.len();
        window.forget_older(span.since, &mut forgotten);
        if let Some(answer) = window.answers.get_mut(&key) {
            let told = answer.tell(std::mem::take(receipt));
            let change = signed(window.ages.len()) - signed(before);
            drop(window);
            drop(forgotten);
            if let Some((copy, handled)) = told {
                copy.resolve(handled);
            }
            return Look { first: false, crowded_out: 0, change };
        }
        let mut crowded_out = 0;
        while window.ages.len() >= span.entries.max(1) {
            window.forget_oldest(&mut forgotten);
            crowded_out += 1;
        }
        let answer = if decided_later { Answer::Other(Box::new(Other::Open(Vec::new()))) } else { Answer::Accepted };
        window.answers.insert(key, answer);
        window.ages.push_back((now, key));
        let change = signed(window.ages.len()) - signed(before);
        drop(window);
        // Receipts of copies that nobody will answer any more: dropped, they say so.
        drop(forgotten);
        if decided_later {
            let (seen, original) = (Arc::clone(self), std::mem::take(receipt));
            *receipt = Receipt::new(move |handled| {
                for copy in seen.decided(key, &handled) {
                    copy.resolve(handled.clone());
                }
                original.resolve(handled);
            });
        }
        Look { first: true, crowded_out, change }
    }

    /// Notes what the sender is told; gives the copies that wait for it.
    fn decided(&self, key: Fingerprint, handled: &Handled) -> Vec<Receipt> {
        let mut window = self.lock();
        // It may have been forgotten meanwhile.
        let Some(answer) = window.answers.get_mut(&key) else { return Vec::new() };
        let given = match handled {
            Handled::Accepted => Answer::Accepted,
            other => Answer::Other(Box::new(Other::Given(other.clone()))),
        };
        match std::mem::replace(answer, given) {
            Answer::Other(other) => match *other {
                Other::Open(copies) => copies,
                Other::Given(_) => Vec::new(),
            },
            Answer::Accepted => Vec::new(),
        }
    }

    /// Forgets what is older than `since`.
    #[cfg(feature = "dedup")]
    pub(crate) fn forget_older(&self, since: Time) {
        let mut forgotten = Vec::new();
        let mut window = self.lock();
        window.forget_older(since, &mut forgotten);
        if window.ages.is_empty() {
            *window = Window::default();
        }
        drop(window);
        drop(forgotten);
    }

    /// How many messages are remembered.
    #[cfg(any(test, feature = "dedup"))]
    pub(crate) fn len(&self) -> usize {
        self.lock().ages.len()
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn forget_older(&mut self, since: Time, forgotten: &mut Vec<Answer>) {
        while self.ages.front().is_some_and(|(came, _)| *came < since) {
            self.forget_oldest(forgotten);
        }
    }

    fn forget_oldest(&mut self, forgotten: &mut Vec<Answer>) {
        let answer = self.ages.pop_front().and_then(|(_, key)| self.answers.remove(&key));
        // Only these hold receipts, which are not to be dropped under the lock.
        forgotten.extend(answer.filter(|answer| matches!(answer, Answer::Other(_))));
    }
}

fn signed(len: usize) -> isize {
    isize::try_from(len).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tribes_core::{Body, SendOptions};

    use super::*;
    use crate::testing::member;

    fn message(options: SendOptions) -> ChannelMessage {
        let id = MessageId::from_array([1; 16]);
        ChannelMessage { options, timestamp_ms: 0, id, sender: member(1), body: Body::default() }
    }

    const ALL: Span = Span { entries: 4, since: Time::ZERO };

    /// A receipt, and what it will be answered.
    fn receipt() -> (Receipt, Arc<Mutex<Option<Handled>>>) {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        (Receipt::new(move |handled| *slot.lock().unwrap() = Some(handled)), answer)
    }

    fn key(number: u8) -> Fingerprint {
        Fingerprint::of(&MessageId::from_array([number; 16]))
    }

    #[test]
    fn copies_are_answered_as_the_first() {
        let (seen, message) = (Arc::new(Seen::default()), message(SendOptions::SYNC_ACK));
        let look = |receipt: &mut Receipt| seen.look(key(1), &message, receipt, Time::ZERO, ALL).first;
        let (mut first, told_first) = receipt();
        assert!(look(&mut first));
        let (mut early, told_early) = receipt();
        assert!(!look(&mut early));
        assert!(!early.is_awaited() && told_early.lock().unwrap().is_none());
        let failed = Handled::Failed("no".to_owned());
        first.resolve(failed.clone());
        assert_eq!(*told_first.lock().unwrap(), Some(failed.clone()));
        assert_eq!(*told_early.lock().unwrap(), Some(failed.clone()));
        let (mut late, told_late) = receipt();
        assert!(!look(&mut late));
        assert_eq!(*told_late.lock().unwrap(), Some(failed));
    }

    #[test]
    fn copies_that_wait_are_bounded_and_none_is_forgotten() {
        let (seen, message) = (Arc::new(Seen::default()), message(SendOptions::SYNC_ACK));
        let mut first = receipt().0;
        assert!(seen.look(key(1), &message, &mut first, Time::ZERO, ALL).first);
        let mut told = Vec::new();
        for _ in 0..=MAX_COPIES {
            let (mut copy, answer) = receipt();
            assert!(!seen.look(key(1), &message, &mut copy, Time::ZERO, ALL).first);
            told.push(answer);
        }
        assert!(matches!(*told[MAX_COPIES].lock().unwrap(), Some(Handled::Failed(_))));
        // The first one leaves the window while it is being handled: the copies hear that they are lost.
        for number in 2..=5 {
            assert!(seen.look(key(number), &message, &mut Receipt::none(), Time::ZERO, ALL).first);
        }
        assert!(told.iter().all(|answer| matches!(*answer.lock().unwrap(), Some(Handled::Failed(_)))));
        first.accept();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn without_sync_a_copy_is_accepted() {
        let (seen, message) = (Arc::new(Seen::default()), message(SendOptions::ACK));
        let (mut first, _told) = receipt();
        assert!(seen.look(key(1), &message, &mut first, Time::ZERO, ALL).first);
        let (mut copy, told) = receipt();
        assert!(!seen.look(key(1), &message, &mut copy, Time::ZERO, ALL).first);
        assert_eq!(*told.lock().unwrap(), Some(Handled::Accepted));
    }

    #[test]
    fn ids_of_other_sizes_have_fingerprints_too() {
        let of = |bytes: &'static [u8]| Fingerprint::of(&MessageId::from_bytes(Bytes::from_static(bytes)));
        assert_ne!(of(b""), of(b"a"));
        assert_ne!(of(b"a"), of(b"b"));
        assert_eq!(of(b"a"), of(b"a"));
        assert_eq!(of(&[3; 16]), key(3));
        assert_ne!(key(3).numbered(1), key(3).numbered(2));
        assert_eq!(Fingerprint([0; 16]).short(), 1);
    }
}

//! The duty to answer the sender of a received message.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::Handled;

/// Takes the answers to received messages; implemented by receivers.
pub trait ReceiptSink: Send + Sync + 'static {
    /// What became of the message with this number. Called once for each [`Receipt::numbered`].
    fn handled(&self, number: u64, handled: Handled);
}

/// The duty to answer the sender of a message. Dropped unresolved it answers negatively: the message was lost in a layer.
///
/// A layer that keeps a message for later (a fragment, a gap, a first phase) accepts at once with [`Receipt::park`]; the
/// frame that releases a message carries that message's outcome.
#[derive(Default)]
pub struct Receipt(Option<(Arc<dyn ReceiptSink>, u64)>);

impl Receipt {
    /// A receipt that calls `answer`.
    pub fn new(answer: impl FnOnce(Handled) + Send + 'static) -> Self {
        Self::numbered(Arc::new(Once(Mutex::new(Some(answer)))), 0)
    }

    /// A receipt that reports to `sink` under `number`: no allocation for each message.
    pub fn numbered(sink: Arc<dyn ReceiptSink>, number: u64) -> Self {
        Self(Some((sink, number)))
    }

    /// A receipt for which nobody waits.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether somebody waits for the answer.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// Answers.
    pub fn resolve(mut self, handled: Handled) {
        if let Some((sink, number)) = self.0.take() {
            sink.handled(number, handled);
        }
    }

    /// Answers positively.
    pub fn accept(self) {
        self.resolve(Handled::Accepted);
    }

    /// Answers positively now and leaves a receipt for which nobody waits.
    pub fn park(&mut self) {
        std::mem::take(self).accept();
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some((sink, number)) = self.0.take() {
            sink.handled(number, Handled::Failed("a layer gave the message up".to_owned()));
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("awaited", &self.is_awaited()).finish()
    }
}

/// The sink of a single receipt.
struct Once<F>(Mutex<Option<F>>);

impl<F: FnOnce(Handled) + Send + 'static> ReceiptSink for Once<F> {
    fn handled(&self, _: u64, handled: Handled) {
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answer) = answer {
            answer(handled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Answers(Mutex<Vec<(u64, Handled)>>);

    impl ReceiptSink for Answers {
        fn handled(&self, number: u64, handled: Handled) {
            self.0.lock().unwrap().push((number, handled));
        }
    }

    #[test]
    fn each_is_answered_once() {
        let answers = Arc::new(Answers::default());
        let receipt = |number| Receipt::numbered(Arc::clone(&answers) as Arc<dyn ReceiptSink>, number);
        receipt(1).accept();
        let mut parked = receipt(2);
        parked.park();
        assert!(!parked.is_awaited());
        drop(parked);
        drop(receipt(3));
        let answers = answers.0.lock().unwrap();
        assert_eq!(answers[..2], [(1, Handled::Accepted), (2, Handled::Accepted)]);
        assert!(matches!(answers[2], (3, Handled::Failed(_))));
        assert_eq!(answers.len(), 3);
    }
}

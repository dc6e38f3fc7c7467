//! Several sends at the same time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tribes_core::SendError;

/// A send under way.
pub(crate) type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;

/// Runs all, those in front first; the first error, when all are done. Cancel safe as far as they are.
pub(crate) async fn join_all(mut open: Vec<Sending<'_>>) -> Result<(), SendError> {
    let mut result = Ok(());
    poll_fn(|cx| {
        open.retain_mut(|sending| match sending.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                if result.is_ok() {
                    result = ended;
                }
                false
            }
        });
        if open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    result
}

//! Layers that do nothing, in each form.

use async_trait::async_trait;
use tribes::{ChannelInterceptor, Cx, Interest, IntoLayer, Layer, Next, Outbound, SendError, SyncInterceptor, Verdict};

/// Names for as many layers as a stack needs: each must have its own.
pub(crate) const NAMES: [&str; 10] = ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"];

/// Makes a layer of some form.
pub(crate) type Make = fn(&'static str) -> Layer;

/// Each form, and how it is called.
pub(crate) const FORMS: [(&str, Make); 3] = [("sync", synchronous), ("async", asynchronous), ("skipped", skipped)];

/// A layer whose hook is run inline.
pub(crate) fn synchronous(name: &'static str) -> Layer {
    Sync(name).into_layer()
}

/// A layer whose hook may wait.
pub(crate) fn asynchronous(name: &'static str) -> Layer {
    Async(name).into_layer()
}

/// A layer that has no interest in what is sent.
pub(crate) fn skipped(name: &'static str) -> Layer {
    Skipped(name).into_layer()
}

/// `count` layers, at most ten.
pub(crate) fn stack(count: usize, make: Make) -> impl Iterator<Item = Layer> {
    NAMES.into_iter().take(count).map(make)
}

#[derive(Debug)]
struct Sync(&'static str);

impl SyncInterceptor for Sync {
    fn name(&self) -> &'static str {
        self.0
    }
    fn interest(&self) -> Interest {
        Interest::SEND
    }
    fn send(&self, _: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        Verdict::Pass
    }
}

#[derive(Debug)]
struct Async(&'static str);

#[async_trait]
impl ChannelInterceptor for Async {
    fn name(&self) -> &'static str {
        self.0
    }
    fn interest(&self) -> Interest {
        Interest::SEND
    }
    async fn send(&self, out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        next.send(out).await
    }
}

#[derive(Debug)]
struct Skipped(&'static str);

impl SyncInterceptor for Skipped {
    fn name(&self) -> &'static str {
        self.0
    }
    fn interest(&self) -> Interest {
        Interest::RECEIVE
    }
}

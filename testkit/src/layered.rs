//! Layers in a real channel, ready to be tested.

use std::sync::Arc;

use tribes_core::{Channel, ChannelBuilder, Env, IntoLayer, Layer, ListenerHandle, Member};

use crate::wait::PATIENCE;
use crate::{Recorder, RecordingListener, java_member, member};

/// A started channel with your layers in it, a [`Recorder`] below and a [`RecordingListener`] above.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tribes_core::{Cx, Inbound, IntoLayer, Outbound, SendOptions, SyncInterceptor, Verdict};
///
/// /// Ends every message with an exclamation mark, and takes it off again.
/// #[derive(Debug)]
/// struct Emphasis;
///
/// impl SyncInterceptor for Emphasis {
///     fn name(&self) -> &'static str {
///         "emphasis"
///     }
///     fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
///         out.message.body.push_trailer("!");
///         Verdict::Pass
///     }
///     fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
///         match msg.message.body.split_trailer(1) {
///             Some(_) => Verdict::Pass,
///             None => Verdict::Refuse("no emphasis".into()),
///         }
///     }
/// }
///
/// let stack = tribes_testkit::stack([Emphasis.into_layer()]).await;
/// stack.channel.send(&stack.members[0], "hello", SendOptions::ACK).await?;
/// assert_eq!(stack.below.sent()[0].text(), "hello!");
/// // And from below:
/// stack.below.receive(&stack.members[0], "hi!", SendOptions::ACK).await;
/// assert_eq!(stack.above.texts(), ["hi"]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Layered {
    /// The channel, started.
    pub channel: Channel,
    /// What stands below the layers.
    pub below: Recorder,
    /// Listens for messages and members.
    pub above: RecordingListener,
    /// The other members: first those of our own kind, then the Java ones.
    pub members: Vec<Arc<Member>>,
    _handles: [ListenerHandle; 2],
}

/// How a [`Layered`] is to be.
#[derive(Debug)]
#[must_use = "call `start`"]
pub struct LayeredBuilder {
    builder: ChannelBuilder,
    members: u16,
    java_members: u16,
    expected: Option<usize>,
    below: Recorder,
}

/// The `layers`, the first one nearest to the application, in a started channel whose group has three other members.
/// Panics if the channel does not start. For other wishes see [`Layered::builder`].
pub async fn stack(layers: impl IntoIterator<Item = Layer>) -> Layered {
    layers.into_iter().fold(Layered::builder(), LayeredBuilder::layer).start().await
}

impl Layered {
    /// Without layers, and with three members of our own kind.
    pub fn builder() -> LayeredBuilder {
        LayeredBuilder {
            builder: Channel::builder(),
            members: 3,
            java_members: 0,
            expected: None,
            below: Recorder::new(),
        }
    }
}

impl LayeredBuilder {
    /// Adds a layer below those added before.
    pub fn layer<Form>(mut self, layer: impl IntoLayer<Form>) -> Self {
        self.builder = self.builder.interceptor(layer);
        self
    }

    /// How many members of our own kind the group has; default 3.
    pub const fn members(mut self, count: u16) -> Self {
        self.members = count;
        self
    }

    /// How many Java members the group has; default none.
    pub const fn java_members(mut self, count: u16) -> Self {
        self.java_members = count;
        self
    }

    /// How many members come through the layers; by default all. Set it for a layer that filters members.
    pub const fn expect_members(mut self, count: usize) -> Self {
        self.expected = Some(count);
        self
    }

    /// The surroundings; default the real ones, which follow tokio's paused clock.
    pub fn env(self, env: Env) -> Self {
        self.configure(|builder| builder.env(env))
    }

    /// Anything else about the channel.
    pub fn configure(mut self, configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> Self {
        self.builder = configure(self.builder);
        self
    }

    /// What stands below; prepare it before the start, or keep a clone.
    pub fn below(mut self, below: Recorder) -> Self {
        self.below = below;
        self
    }

    /// Builds and starts the channel and brings the members in. Panics, saying why, if that does not work.
    pub async fn start(self) -> Layered {
        let channel = match self.below.install(self.builder).build() {
            Ok(channel) => channel,
            Err(error) => panic!("{error}"),
        };
        let above = RecordingListener::new();
        let handles = [channel.listen(above.clone()), channel.listen_members(above.clone())];
        if let Err(error) = channel.start().await {
            panic!("the channel does not start: {error:?}");
        }
        let ours = (1..=self.members).map(member);
        let java = (self.members + 1..=self.members + self.java_members).map(java_member);
        let members: Vec<_> = ours.chain(java).collect();
        self.below.add(&members);
        let expected = self.expected.unwrap_or(members.len());
        let there = channel.view_when(|view| view.len() >= expected);
        if tokio::time::timeout(PATIENCE, there).await.is_err() {
            let seen = channel.view().len();
            panic!("only {seen} of {expected} members came through the layers; see `LayeredBuilder::expect_members`");
        }
        Layered { channel, below: self.below, above, members, _handles: handles }
    }
}

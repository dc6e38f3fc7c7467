//! What comes while the channel stops, and what is left of it.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::wire::ExtensionKind;
use tribes_core::{ChannelInterceptor, Handled, Interest, SendOptions, Time, async_trait};
use tribes_testkit::Layered;

use crate::two_phase_commit::TwoPhaseCommit;
use crate::two_phase_commit::frame::Frame;

/// Stands below, and takes a second to stop.
#[derive(Debug)]
struct Lingers;

#[async_trait]
impl ChannelInterceptor for Lingers {
    fn name(&self) -> &'static str {
        "lingers"
    }
    fn interest(&self) -> Interest {
        Interest::empty()
    }
    async fn stop(&self, _: Time) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    let gauges = &stack.channel.stats().layers[0].gauges;
    gauges.iter().find(|gauge| gauge.name == name).unwrap_or_else(|| panic!("no gauge {name}")).value
}

/// Layers stop before the receiver does. What was voted for then would be lost, and its room with it.
#[allow(clippy::disallowed_methods, reason = "a task of the test")]
#[tokio::test(start_paused = true)]
async fn nothing_is_parked_after_the_stop() {
    let stack = Layered::builder().layer(TwoPhaseCommit::default()).layer(Lingers).members(1).java_members(1);
    let stack = stack.start().await;
    let [ours, java] = stack.members.as_slice() else { panic!() };
    let channel = stack.channel.clone();
    let stopping = tokio::spawn(async move { channel.stop().await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut message = stack.below.message(ours, "late", SendOptions::ACK);
    let parties = vec![stack.channel.local().id()];
    let frame = Frame::Prepare { added_ack: false, vote: Duration::from_secs(5), parties };
    message.add_extension(ExtensionKind::TWO_PHASE_COMMIT, frame.encode()).unwrap();
    drop(stack.below.inject(message).await);
    let answer = stack.below.receive(java, "late", SendOptions::SYNC_ACK).await;
    assert!(matches!(answer, Handled::Failed(_)), "{answer:?}");
    let kept = ["parked_messages", "held_bytes"].map(|name| gauge(&stack, name));
    assert_eq!(kept, [0, 0]);
    stopping.await.unwrap();
    let votes: Vec<_> = stack.below.take_sent().into_iter().filter(|sent| sent.to.contains(ours)).collect();
    let no = |mut sent: tribes_testkit::Sent| {
        let entry = sent.message.take_extension(ExtensionKind::TWO_PHASE_COMMIT).unwrap();
        matches!(Frame::decode(&entry), Ok(Frame::Vote { no: Some(_), .. }))
    };
    assert_eq!(votes.into_iter().map(no).collect::<Vec<_>>(), [true], "it votes once, and against");
    stack.channel.start().await.unwrap();
    stack.below.add([ours, java].map(Arc::clone).iter());
    assert_eq!(gauge(&stack, "held_bytes"), 0);
}

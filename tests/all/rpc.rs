//! Questions over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "real tasks")]

use std::sync::Arc;

use crate::common::{PATIENCE, group, within};
use tokio::sync::Notify;
use tribes_core::rpc::{Answer, Payload, Reply, Request, RpcChannel, Wait};
use tribes_core::{BoxError, Channel, Member, MemberId, To};

/// Answers with the question.
fn open(channel: &Channel) -> RpcChannel {
    opened(channel, |request| async { Ok(request.into_payload().into()) })
}

fn opened<R>(channel: &Channel, handler: impl Fn(Request) -> R + Send + Sync + 'static) -> RpcChannel
where
    R: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    RpcChannel::builder("test").handler(handler).timeout(PATIENCE).open(channel).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_each_get_their_own_replies() {
    let channels = group(3).await;
    let rpcs: Vec<_> = channels.iter().map(open).collect();
    let callers = (0..100_u32).map(|caller| {
        let rpc = rpcs[usize::try_from(caller).unwrap() % 3].clone();
        async move {
            for number in 0..10 {
                let question = Payload::from(vec![u8::try_from(caller).unwrap(); 100 + number * 700]);
                let wait = [Wait::First, Wait::Majority, Wait::All][number % 3];
                let replies = rpc.call(To::All, question.clone()).wait(wait).await.unwrap();
                assert!(replies.is_satisfied());
                assert!(replies.replied().all(|(_, reply)| *reply == question));
            }
        }
    });
    let callers: tokio::task::JoinSet<_> = callers.collect();
    within("all callers", callers.join_all()).await;
    // One larger than a frame's buffers.
    let question = Payload::from(vec![7; 5 << 20]);
    let replies = within("a large question", rpcs[0].call(To::All, question.clone()).into_future()).await.unwrap();
    assert!(replies.replied().count() == 2 && replies.replied().all(|(_, reply)| *reply == question));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_dies_ends_its_share_long_before_the_deadline() {
    let mut channels = group(3).await;
    let asked = Arc::new(Notify::new());
    let hangs = {
        let asked = Arc::clone(&asked);
        move |_| {
            asked.notify_one();
            std::future::pending()
        }
    };
    let rpcs = [open(&channels[0]), open(&channels[1]), opened(&channels[2], hangs)];
    let dead = channels[2].local();
    let asking = tokio::spawn(rpcs[0].call(&dead, "x").into_future());
    within("it to be asked", asked.notified()).await;
    // As by a crash.
    drop(channels.pop());
    let replies = within("the end of the call", asking).await.unwrap().unwrap();
    assert!(matches!(replies.of(&dead), Some(Answer::Left(_) | Answer::Unreachable(_))), "{replies:?}");
    let others = rpcs[0].call(To::All, "x").wait(Wait::First);
    assert!(within("the others", others.into_future()).await.unwrap().is_satisfied());
}

/// In Tribes' form, there and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_which_only_the_address_is_known_is_asked() {
    let channels = group(2).await;
    let rpcs: Vec<_> = channels.iter().map(open).collect();
    let by_address = Arc::new(Member::new(MemberId::ZERO, channels[1].local().addr().unwrap()));
    for question in [Payload::from("how many?"), Payload::from(vec![1; 100_000]), Payload::null()] {
        let asking = rpcs[0].call(&by_address, question.clone());
        let replies = within("a reply", asking.into_future()).await.unwrap();
        assert_eq!(replies.of(&by_address), Some(&Answer::Replied(question)));
    }
}

//! Questions to a group over the simulated network.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by a panic")]

mod handlers;
mod members;
mod time;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribes_core::rpc::{Answer, Form, Payload, Replies, Reply, Request, RpcBuilder, RpcChannel, RpcError, Wait};
use tribes_core::{BoxError, Channel, Member, MemberId, SendError, To};
use tribes_testkit::net::Node;
use tribes_testkit::{RecordingListener, World, java_member, simulate};

const SECOND: Duration = Duration::from_secs(1);

struct Site {
    node: Node,
    channel: Channel,
    rpc: RpcChannel,
}

/// What a request's text asks of its handler.
async fn answer(request: Request) -> Result<Reply, BoxError> {
    match request.text() {
        Some("fail") => Err("as the test wishes".into()),
        Some("panic") => panic!("as the test wishes"),
        Some("nothing") => Ok(Reply::none()),
        Some("hang") => std::future::pending().await,
        _ => Ok(request.into_payload().into()),
    }
}

async fn sites(world: &World, count: usize, open: impl Fn(usize, &Channel, RpcBuilder) -> RpcChannel) -> Vec<Site> {
    let mut sites = Vec::new();
    for at in 0..count {
        let node = world.node();
        let channel = node.join(Channel::builder()).build().unwrap();
        let rpc = open(at, &channel, RpcChannel::builder("test"));
        channel.start().await.unwrap();
        sites.push(Site { node, channel, rpc });
    }
    for site in &sites {
        site.channel.view_when(|view| view.len() + 1 == count).await;
    }
    sites
}

/// All of them answer by [`answer`].
async fn group(world: &World, count: usize) -> Vec<Site> {
    sites(world, count, |_, channel, builder| builder.handler(answer).open(channel).unwrap()).await
}

fn counts(replies: &Replies) -> (usize, usize) {
    (replies.len(), replies.replied().count())
}

#[test]
fn everybody_is_asked_and_answers_in_the_form_of_the_question() {
    simulate(1, async |world| {
        let sites = group(&world, 4).await;
        for payload in [
            Payload::from("how many?"),
            Payload::from(vec![0, 1, 255]),
            Payload::byte_message(vec![7; 100_000]),
            Payload::null(),
            Payload::from(""),
        ] {
            let replies = sites[0].rpc.call(To::All, payload.clone()).await.unwrap();
            assert_eq!(counts(&replies), (3, 3));
            assert!(replies.is_satisfied() && replies.replied().all(|(_, reply)| *reply == payload));
        }
        for (wait, least) in [(Wait::First, 1), (Wait::Majority, 2), (Wait::Quorum(3), 3), (Wait::All, 3)] {
            let replies = sites[0].rpc.call(To::All, "x").wait(wait).await.unwrap();
            assert!(replies.is_satisfied() && replies.replied().count() >= least, "{wait:?}");
            assert!(replies.iter().all(|(_, answer)| answer.is_reply() || *answer == Answer::NotAwaited));
        }
        assert_eq!(sites[1].rpc.stats().handled, 9);
        assert_eq!((sites[1].rpc.stats().running, sites[1].rpc.stats().held), (0, 0));
    });
}

#[test]
fn each_member_speaks_for_itself() {
    simulate(2, async |world| {
        let sites = group(&world, 2).await;
        let to = sites[1].channel.local();
        let ask = async |text: &str| sites[0].rpc.call(&to, text).await.unwrap().of(&to).unwrap().clone();
        assert_eq!(ask("fail").await, Answer::Failed("as the test wishes".to_owned()));
        assert_eq!(ask("panic").await, Answer::Failed("panicked: as the test wishes".to_owned()));
        assert_eq!(ask("nothing").await, Answer::NoReply);
        assert_eq!(sites[1].rpc.stats().failed, 2);
        // Another id, and one that only asks.
        let other = RpcChannel::builder("other").open(&sites[0].channel).unwrap();
        let begin = world.env().now();
        assert_eq!(other.call(&to, "x").await.unwrap().of(&to), Some(&Answer::NoHandler));
        assert_eq!(sites[1].channel.stats().endpoints.len(), 1);
        let asks = RpcChannel::builder("other").open(&sites[1].channel).unwrap();
        assert_eq!(other.call(&to, "x").await.unwrap().of(&to), Some(&Answer::NoHandler));
        drop(asks);
        // Nobody listens at that address.
        let nobody = Arc::new(Member::new(to.id(), ([10, 9, 9, 9], 1).into()));
        let replies = sites[0].rpc.call(vec![Arc::clone(&nobody), Arc::clone(&to)], "x").await.unwrap();
        assert!(matches!(replies.of(&nobody), Some(Answer::TimedOut | Answer::Unreachable(_))));
        assert!(replies.of(&to).unwrap().is_reply(), "T51: what failed takes nothing from the others");
        assert!(world.env().now() - begin <= 6 * SECOND);
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Query {
    article: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stock {
    pieces: u32,
}

#[test]
fn questions_and_replies_have_types() {
    simulate(3, async |world| {
        let sites = sites(&world, 3, |at, channel, builder| {
            let pieces = u32::try_from(at).unwrap();
            let handler = move |query: Query, _| async move { Ok(Stock { pieces: pieces * query.article }) };
            builder.typed_handler(handler).open(channel).unwrap()
        })
        .await;
        let replies: Replies<Stock> = sites[0].rpc.ask(To::All, &Query { article: 10 }).await.unwrap();
        let mut pieces: Vec<_> = replies.replied().map(|(_, stock)| stock.pieces).collect();
        pieces.sort_unstable();
        assert_eq!(pieces, [10, 20]);
        // A question of another shape, and a reply of another shape.
        let replies = sites[0].rpc.call(To::All, "no MessagePack").await.unwrap();
        assert!(replies.iter().all(|(_, answer)| matches!(answer, Answer::Failed(text) if text.contains("Query"))));
        let replies: Replies<String> = sites[0].rpc.ask(To::All, &Query { article: 10 }).await.unwrap();
        assert!(replies.iter().all(|(_, answer)| matches!(answer, Answer::Mismatch(_))));
    });
}

/// Members that are not known to be ours are asked in Tribes' form.
#[test]
fn tribes_form_serves_where_ours_is_not_understood() {
    simulate(13, async |world| {
        let sites = group(&world, 2).await;
        let ours = sites[1].channel.local();
        let by_address = Arc::new(Member::new(MemberId::ZERO, ours.addr().unwrap()));
        // Its peers take it for a member of Tribes' own, and it takes them for such.
        let unmarked = world.join(Channel::builder()).id(MemberId::from_bytes([7; 16])).build().unwrap();
        let rpc = RpcChannel::builder("test").handler(answer).open(&unmarked).unwrap();
        let listener = RecordingListener::new();
        unmarked.listen(listener.clone()).forever();
        unmarked.start_and_wait(2, 5 * SECOND).await.unwrap();
        let (other, local) = (RpcChannel::builder("other").open(&unmarked).unwrap(), unmarked.local());
        for (asking, to) in [(&sites[0].rpc, &by_address), (&rpc, &ours), (&sites[0].rpc, &local)] {
            for payload in
                [Payload::from("\u{e4}\0"), Payload::from(vec![1; 3000]), Payload::byte_message("x"), Payload::null()]
            {
                let replies = asking.call(to, payload.clone()).await.unwrap();
                assert_eq!(replies.of(to), Some(&Answer::Replied(payload)));
            }
        }
        // Everybody at once, each in its form.
        assert_eq!(counts(&sites[0].rpc.call(To::All, "x").await.unwrap()), (2, 2));
        // Our words are understood by ours, whichever way they were asked.
        let replies = sites[0].rpc.call(&by_address, "fail").await.unwrap();
        assert_eq!(replies.of(&by_address), Some(&Answer::Failed("as the test wishes".to_owned())));
        let begin = world.env().now();
        for (asking, to, text) in [(&sites[0].rpc, &local, "fail"), (&rpc, &ours, "nothing"), (&other, &ours, "x")] {
            let replies = asking.call(to, text).await.unwrap();
            assert_eq!(replies.of(to), Some(&Answer::NoHandler), "all that Tribes can say");
        }
        assert!(world.env().now() - begin < SECOND);
        assert!(listener.received().is_empty(), "nothing of this reaches listeners");
        let replies = sites[0].rpc.call(java_member(9), "x").within(SECOND / 10).await.unwrap();
        assert!(!replies.is_satisfied());
    });
}

#[test]
fn ids_are_apart_and_closed_with_the_last_handle() {
    simulate(15, async |world| {
        let sites = sites(&world, 2, |_, channel, builder| builder.handler(answer).open(channel).unwrap()).await;
        let channel = &sites[1].channel;
        assert!(matches!(RpcChannel::builder("test").open(channel), Err(RpcError::Taken { .. })));
        assert!(matches!(RpcChannel::builder(vec![0; 256]).open(channel), Err(RpcError::Id { len: 256 })));
        assert!(matches!(RpcChannel::builder("x").concurrency(0).open(channel), Err(RpcError::Zero { .. })));
        let to = channel.local();
        for number in 0..50 {
            let id = format!("channel {number}");
            let handler = move |_| async move { Ok(Reply::from(number.to_string())) };
            let serving = RpcChannel::builder(id.clone()).handler(handler).open(channel).unwrap();
            let asking = RpcChannel::builder(id).open(&sites[0].channel).unwrap();
            let clone = serving.clone();
            drop(serving);
            let reply = asking.call(&to, "x").await.unwrap().into_reply().unwrap();
            assert_eq!((reply.text(), reply.form()), (Some(number.to_string().as_str()), Form::Text));
            drop(clone);
            assert_eq!(asking.call(&to, "x").await.unwrap().of(&to), Some(&Answer::NoHandler));
        }
        // Nobody to ask.
        let alone = world.join(Channel::builder()).build().unwrap();
        let rpc = RpcChannel::builder("test").open(&alone).unwrap();
        assert!(matches!(rpc.call(To::All, "x").await, Err(SendError::NotStarted)));
        let nobody: Vec<Arc<Member>> = Vec::new();
        assert!(sites[0].rpc.call(nobody, "x").await.unwrap().is_empty());
        drop(alone);
        assert!(matches!(rpc.call(To::All, "x").await, Err(SendError::Stopped)));
    });
}

//! Questions to a group over the simulated network.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribes_core::error::FaultKind;
use tribes_core::rpc::{Answer, Form, Payload, Replies, Reply, Request, RpcBuilder, RpcChannel, RpcError, Wait};
use tribes_core::{BoxError, Channel, Departure, Member, MemberId, SendError, SendOptions, To};
use tribes_testkit::net::Node;
use tribes_testkit::{Reaction, RecordingListener, World, java_member, simulate};

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

#[test]
fn a_frozen_member_slows_neither_the_first_reply_nor_a_majority() {
    simulate(4, async |world| {
        let sites = group(&world, 4).await;
        sites[3].node.freeze();
        for (wait, limit) in [(Wait::First, 20), (Wait::Majority, 20), (Wait::Quorum(2), 20), (Wait::All, 1500)] {
            for _ in 0..20 {
                let begin = world.env().now();
                let replies = sites[0].rpc.call(To::All, "x").wait(wait).within(SECOND / 10).await.unwrap();
                let took = world.env().now() - begin;
                assert!(took <= Duration::from_millis(limit), "{wait:?} took {took:?}");
                assert_eq!(replies.is_satisfied(), wait != Wait::All);
            }
        }
        let mut stream = sites[0].rpc.call(To::All, "x").within(SECOND / 10).stream().unwrap();
        let mut answers = Vec::new();
        while let Some((member, answer)) = stream.next().await {
            answers.push((member, answer.is_reply()));
        }
        assert_eq!(answers.iter().map(|(_, replied)| *replied).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(answers[2].0, sites[3].channel.local());
    });
}

/// The same with a member whose queue is full, for which a send waits.
#[test]
fn a_member_without_room_slows_nobody() {
    simulate(5, async |world| {
        let sites = group(&world, 3).await;
        sites[2].node.freeze();
        let to = sites[2].channel.local();
        while sites[0]
            .channel
            .try_send(&to, vec![0; 1 << 20], SendOptions::ACK)
            .map(|sent| sent.on_complete(drop))
            .is_ok()
        {}
        let begin = world.env().now();
        let replies = sites[0].rpc.call(To::All, vec![0; 1 << 20]).wait(Wait::First).await.unwrap();
        assert!(replies.is_satisfied() && world.env().now() - begin <= Duration::from_millis(20));
        let replies = sites[0].rpc.call(To::All, vec![0; 1 << 20]).await.unwrap();
        assert_eq!(replies.of(&to), Some(&Answer::Unreachable(FaultKind::QueueFull)));
        assert_eq!(replies.replied().count(), 1);
    });
}

#[test]
fn who_leaves_or_restarts_ends_its_share_at_once() {
    simulate(6, async |world| {
        let sites = group(&world, 4).await;
        let locals: Vec<_> = sites.iter().map(|site| site.channel.local()).collect();
        let rpc = sites[0].rpc.clone();
        let asking = Arc::new(Mutex::new(None));
        let (answered, env) = (Arc::clone(&asking), world.env());
        world.env().spawn(async move {
            let replies = rpc.call(To::All, "hang").within(60 * SECOND).await.unwrap();
            *answered.lock().unwrap() = Some((env.now(), replies));
        });
        world.sleep(SECOND / 10).await;
        let begin = world.env().now();
        sites[1].channel.stop().await;
        sites[2].node.crash();
        sites[3].node.crash();
        let again = sites[3].node.join(Channel::builder()).build().unwrap();
        again.start().await.unwrap();
        assert!(world.until(10 * SECOND, || asking.lock().unwrap().is_some()).await);
        let (at, replies) = asking.lock().unwrap().take().unwrap();
        assert_eq!(replies.of(&locals[1]), Some(&Answer::Left(Departure::Shutdown)));
        assert_eq!(replies.of(&locals[2]), Some(&Answer::Left(Departure::Expired)));
        assert_eq!(replies.of(&locals[3]), Some(&Answer::Left(Departure::Failed)), "another has its address");
        assert!(at - begin < 5 * SECOND, "not the deadline of a minute");
        // Asked as before, when another process has the address.
        let replies = sites[0].rpc.call(&locals[3], "x").await.unwrap();
        assert!(matches!(replies.of(&locals[3]), Some(Answer::Unreachable(FaultKind::Replaced(_)) | Answer::TimedOut)));
    });
}

#[test]
fn too_many_requests_are_turned_away() {
    simulate(7, async |world| {
        let sites = sites(&world, 2, |_, channel, builder| {
            builder.handler(answer).concurrency(2).queue(3).memory(1000).open(channel).unwrap()
        })
        .await;
        let to = sites[1].channel.local();
        let ended = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..8 {
            let (rpc, to, ended) = (sites[0].rpc.clone(), Arc::clone(&to), Arc::clone(&ended));
            world.env().spawn(async move {
                let replies = rpc.call(&to, "hang").within(SECOND).await.unwrap();
                ended.lock().unwrap().push(replies.of(&to).unwrap().clone());
            });
        }
        world.sleep(SECOND / 2).await;
        assert_eq!(*ended.lock().unwrap(), vec![Answer::Overloaded; 3]);
        let stats = sites[1].rpc.stats();
        assert_eq!((stats.running, stats.waiting, stats.held, stats.overloaded), (2, 3, 20, 3));
        let replies = sites[0].rpc.call(&to, vec![0; 990]).await.unwrap();
        assert_eq!(replies.of(&to), Some(&Answer::Overloaded), "too many bytes");
        world.sleep(SECOND).await;
        assert_eq!(ended.lock().unwrap().iter().filter(|answer| **answer == Answer::TimedOut).count(), 5);
        // Two were cut off at their deadline; the others' had passed when their turn came.
        let stats = sites[1].rpc.stats();
        assert_eq!((stats.running, stats.waiting, stats.held, stats.expired, stats.handled), (0, 0, 0, 5, 0));
        assert!(sites[0].rpc.call(&to, vec![0; 5000]).await.unwrap().is_satisfied(), "a large one is admitted alone");
    });
}

/// Counts how many handlers are under way, by how many were begun and how many dropped.
#[derive(Clone, Default)]
struct Under(Arc<[AtomicUsize; 2]>);

impl Under {
    fn begin(&self) -> impl Drop + use<> {
        struct End(Under);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.0[1].fetch_add(1, Ordering::Relaxed);
            }
        }
        self.0[0].fetch_add(1, Ordering::Relaxed);
        End(self.clone())
    }

    fn begun_and_ended(&self) -> [usize; 2] {
        [0, 1].map(|at| self.0[at].load(Ordering::Relaxed))
    }
}

#[test]
fn a_dropped_call_drops_the_handlers_future() {
    simulate(8, async |world| {
        let under = Under::default();
        let sites = sites(&world, 3, |_, channel, builder| {
            let under = under.clone();
            let handler = move |request: Request| {
                let under = under.clone();
                async move {
                    assert!(request.remaining().unwrap() <= 60 * SECOND);
                    let _end = under.begin();
                    answer(request).await
                }
            };
            builder.handler(handler).concurrency(1).open(channel).unwrap()
        })
        .await;
        let call = || sites[0].rpc.call(To::All, "hang").within(60 * SECOND);
        {
            let (one, two) = (IntoFuture::into_future(call()), IntoFuture::into_future(call()));
            let none = world.env().until(world.env().now() + SECOND / 2, async { tokio::join!(one, two) }).await;
            assert!(none.is_none());
            assert_eq!(under.begun_and_ended(), [2, 0], "the others wait for their turn");
        }
        assert!(world.until(SECOND, || under.begun_and_ended() == [2, 2]).await);
        for site in &sites[1..] {
            let stats = site.rpc.stats();
            assert_eq!((stats.cancelled, stats.running, stats.waiting), (2, 0, 0));
        }
        assert_eq!((sites[0].rpc.stats().calls, sites[0].rpc.stats().abandoned), (2, 2));
        // A stream likewise.
        let mut stream = call().stream().unwrap();
        assert!(world.env().until(world.env().now() + SECOND / 2, stream.next()).await.is_none());
        drop(stream);
        assert!(world.until(SECOND, || under.begun_and_ended() == [4, 4]).await);
    });
}

#[test]
fn a_handler_is_cut_off_at_the_deadline_and_at_its_limit() {
    simulate(9, async |world| {
        let sites =
            sites(&world, 2, |_, channel, builder| builder.handler(answer).limit(SECOND).open(channel).unwrap()).await;
        let to = sites[1].channel.local();
        let replies = sites[0].rpc.call(&to, "hang").within(SECOND / 2).await.unwrap();
        assert_eq!(replies.of(&to), Some(&Answer::TimedOut));
        world.sleep(SECOND / 10).await;
        assert_eq!((sites[1].rpc.stats().running, sites[1].rpc.stats().expired), (0, 1));
        let replies = sites[0].rpc.call(&to, "hang").within(60 * SECOND).await.unwrap();
        assert!(matches!(replies.of(&to), Some(Answer::Failed(text)) if text.contains("limit")));
    });
}

#[test]
fn what_comes_late_is_left_over() {
    simulate(10, async |world| {
        let left = Arc::new(Mutex::new(Vec::new()));
        let sites = sites(&world, 3, |at, channel, builder| {
            let (left, env) = (Arc::clone(&left), world.env());
            let slow = move |request: Request| {
                let env = env.clone();
                async move {
                    env.sleep(SECOND / 10 * u32::try_from(at).unwrap()).await;
                    Ok(request.into_payload().into())
                }
            };
            let hook = move |from: &Arc<Member>, reply: Payload| left.lock().unwrap().push((Arc::clone(from), reply));
            builder.handler(slow).left_over(hook).open(channel).unwrap()
        })
        .await;
        let replies = sites[0].rpc.call(To::All, "first").wait(Wait::First).await.unwrap();
        assert_eq!(replies.of(&sites[2].channel.local()), Some(&Answer::NotAwaited));
        world.sleep(SECOND).await;
        assert_eq!(std::mem::take(&mut *left.lock().unwrap()), [(sites[2].channel.local(), Payload::from("first"))]);
        let replies = sites[0].rpc.call(To::All, "none").wait(Wait::None).await.unwrap();
        assert!(replies.is_satisfied() && replies.iter().all(|(_, answer)| *answer == Answer::NotAwaited));
        world.sleep(SECOND).await;
        assert_eq!(left.lock().unwrap().len(), 2);
        assert_eq!(sites[0].rpc.stats().late, 3);
    });
}

/// A handler that asks the one who asks it, which Tribes' thread model forbids.
#[test]
fn a_handler_may_ask_back() {
    simulate(11, async |world| {
        let channels: Arc<Mutex<Vec<RpcChannel>>> = Arc::default();
        let sites = sites(&world, 2, |at, channel, builder| {
            let channels = Arc::clone(&channels);
            let handler = move |request: Request| {
                let rpc = channels.lock().unwrap()[at].clone();
                async move {
                    let depth: u32 = request.text().unwrap().parse()?;
                    if depth == 0 {
                        return Ok(Reply::from("ground"));
                    }
                    let replies = rpc.call(request.sender(), (depth - 1).to_string()).await?;
                    Ok(replies.into_reply().ok_or("no reply")?.into())
                }
            };
            builder.handler(handler).open(channel).unwrap()
        })
        .await;
        channels.lock().unwrap().extend(sites.iter().map(|site| site.rpc.clone()));
        let replies = sites[0].rpc.call(To::All, "20").await.unwrap();
        assert_eq!(replies.into_reply().unwrap().text(), Some("ground"));
    });
}

#[test]
fn nothing_waits_behind_a_listener() {
    simulate(12, async |world| {
        let sites = group(&world, 2).await;
        for site in &sites {
            let stuck = RecordingListener::new();
            stuck.react(Reaction::Hold);
            site.channel.listen(stuck).forever();
            site.channel.send(To::All, "stuck", SendOptions::ACK).await.unwrap();
        }
        assert!(sites[0].rpc.call(To::All, "x").await.unwrap().is_satisfied());
        // In Java's form, too.
        let by_address = Arc::new(Member::new(MemberId::ZERO, sites[1].channel.local().addr().unwrap()));
        assert!(sites[0].rpc.call(&by_address, "x").await.unwrap().is_satisfied());
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
fn a_channel_that_stops_and_starts_answers_again() {
    simulate(14, async |world| {
        let sites = group(&world, 2).await;
        let old = sites[1].channel.local();
        let (rpc, asked) = (sites[0].rpc.clone(), Arc::clone(&old));
        let asking = Arc::new(Mutex::new(None));
        let answered = Arc::clone(&asking);
        world.env().spawn(async move {
            *answered.lock().unwrap() = rpc.call(&asked, "hang").within(60 * SECOND).await.ok();
        });
        world.sleep(SECOND / 10).await;
        sites[1].channel.stop().await;
        assert!(matches!(sites[1].rpc.call(To::All, "x").await, Err(SendError::Stopped)));
        assert!(matches!(sites[1].rpc.call(To::All, "x").stream(), Err(SendError::Stopped)));
        assert!(world.until(SECOND, || asking.lock().unwrap().is_some()).await);
        let stats = sites[1].rpc.stats();
        assert_eq!((stats.running, stats.waiting, stats.held), (0, 0, 0), "its tasks have ended");
        sites[1].channel.start_and_wait(1, 5 * SECOND).await.unwrap();
        assert!(sites[0].rpc.call(sites[1].channel.local(), "x").await.unwrap().is_satisfied());
        // A caller that stops is answered itself.
        let (rpc, env) = (sites[0].rpc.clone(), world.env());
        let ended = Arc::new(Mutex::new(None));
        let end = Arc::clone(&ended);
        world.env().spawn(async move {
            let replies = rpc.call(To::All, "hang").within(60 * SECOND).await.unwrap();
            *end.lock().unwrap() = Some((env.now(), replies));
        });
        world.sleep(SECOND / 10).await;
        let begin = world.env().now();
        sites[0].channel.stop().await;
        let (at, replies) = ended.lock().unwrap().take().unwrap();
        assert!(at - begin <= 6 * SECOND);
        assert_eq!(replies.of(&sites[1].channel.local()), Some(&Answer::Left(Departure::Stopped)));
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

/// A stream that is polled late has less time, and its handlers, too.
#[test]
fn what_is_left_of_the_time_is_counted_when_a_question_is_sent() {
    simulate(1, async |world| {
        let told = Arc::new(Mutex::new(None));
        let sites = sites(&world, 2, |_, channel, builder| {
            let told = Arc::clone(&told);
            let handler = move |request: Request| {
                *told.lock().unwrap() = request.remaining();
                async { Ok::<_, BoxError>(Reply::none()) }
            };
            builder.handler(handler).open(channel).unwrap()
        })
        .await;
        let mut stream = sites[0].rpc.call(To::All, "x").within(5 * SECOND).stream().unwrap();
        world.sleep(3 * SECOND).await;
        assert!(matches!(stream.next().await, Some((_, Answer::NoReply))));
        let left = told.lock().unwrap().unwrap();
        assert!(left <= 2 * SECOND, "{left:?}");
    });
}

/// Nothing looks at the clock for a stream that nobody polls: what comes after its deadline is too late all the same.
#[test]
fn a_stream_that_nobody_polls_takes_nothing_after_its_deadline() {
    simulate(17, async |world| {
        let sites = sites(&world, 3, |at, channel, builder| {
            let env = world.env();
            let slow = move |request: Request| {
                let env = env.clone();
                async move {
                    env.sleep(SECOND * u32::try_from(at).unwrap()).await;
                    Ok(request.into_payload().into())
                }
            };
            builder.handler(slow).open(channel).unwrap()
        })
        .await;
        // The deadline does not reach a handler that is asked in Tribes' form, so this one replies too late.
        let slow = Arc::new(Member::new(MemberId::ZERO, sites[2].channel.local().addr().unwrap()));
        let to = vec![sites[1].channel.local(), Arc::clone(&slow)];
        let mut stream = sites[0].rpc.call(to, "x").within(SECOND * 3 / 2).stream().unwrap();
        assert!(matches!(stream.next().await, Some((_, Answer::Replied(_)))), "in time");
        world.sleep(5 * SECOND).await;
        assert_eq!(sites[2].rpc.stats().handled, 1, "it did reply");
        assert_eq!(stream.next().await, Some((slow, Answer::TimedOut)));
        assert_eq!((stream.next().await, sites[0].rpc.stats().late), (None, 1));
    });
}

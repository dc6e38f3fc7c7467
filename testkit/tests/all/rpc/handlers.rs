//! Handlers: how many, for how long, and what they may do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tribes_core::rpc::{Answer, Reply, Request, RpcChannel};
use tribes_core::{Member, MemberId, SendOptions, To};
use tribes_testkit::{Reaction, RecordingListener, simulate};

use super::{SECOND, answer, group, sites};

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

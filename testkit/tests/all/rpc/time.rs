//! What comes late, and what time is left.

use std::sync::{Arc, Mutex};

use tribes_core::rpc::{Answer, Payload, Reply, Request, Wait};
use tribes_core::{BoxError, Member, MemberId, To};
use tribes_testkit::simulate;

use super::{SECOND, sites};

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

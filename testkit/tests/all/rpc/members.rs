//! Members that freeze, are full, leave, stop and start again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::error::FaultKind;
use tribes_core::rpc::{Answer, Wait};
use tribes_core::{Channel, Departure, SendError, SendOptions, To};
use tribes_testkit::simulate;

use super::{SECOND, group};

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

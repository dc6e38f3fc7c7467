//! Bounds, stalled members, and room that is given back.

use std::time::Duration;

use super::*;
use crate::member::MemberId;

fn member(port: u16) -> Arc<Member> {
    Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], port).into()))
}

fn budget(total: usize, per_member: usize) -> Budget {
    Budget::new(BudgetConfig::with_total(total).with_per_member(per_member), Env::real())
}

#[tokio::test(start_paused = true)]
async fn a_member_is_bounded_and_the_bound_frees_itself() {
    let budget = budget(100, 40);
    let room = budget.try_admit(&member(1), 30).unwrap();
    assert!(budget.try_admit(&member(1), 11).is_none());
    assert!(budget.try_admit(&member(2), 40).is_some());
    drop(room);
    assert!(budget.try_admit(&member(1), 40).is_some());
    assert_eq!((budget.used(), budget.peak()), (0, 70));
}

#[tokio::test(start_paused = true)]
async fn a_large_message_is_admitted_alone() {
    let budget = budget(100, 40);
    let large = budget.try_admit(&member(1), 1000).unwrap();
    assert!(budget.try_admit(&member(1), 1).is_none());
    // The channel is over its total, yet a member with an empty queue gets through.
    assert!(budget.try_admit(&member(2), 10).is_some());
    drop(large);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn many_members_do_not_add_up_beyond_the_total() {
    let budget = Budget::new(BudgetConfig::with_total(4 << 20), Env::real());
    let held: Vec<_> = (1..=40).filter_map(|port| budget.try_admit(&member(port), 1 << 20)).collect();
    assert_eq!((held.len(), budget.used()), (4, 4 << 20));
    // Each of the others still gets a small one, and just one.
    let reserve: Vec<_> = (5..=40).filter_map(|port| budget.try_admit(&member(port), 1024)).collect();
    assert_eq!(reserve.len(), 36);
    assert!(budget.try_admit(&member(5), 1024).is_none());
    drop((held, reserve));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_waits_once_per_stalled_member() {
    let budget = budget(100, 40);
    let first = budget.try_admit(&member(1), 20).unwrap();
    let second = budget.try_admit(&member(1), 20).unwrap();
    let start = tokio::time::Instant::now();
    assert!(budget.admit(&member(1), 10).await.is_none());
    assert_eq!(start.elapsed().as_millis(), 200);
    assert!(budget.admit(&member(1), 10).await.is_none());
    assert_eq!(start.elapsed().as_millis(), 200);
    drop(first); // Drained to half: it may be waited for again, and there is room.
    assert!(budget.admit(&member(1), 20).await.is_some());
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_large_message_waits_once_too() {
    let budget = budget(1000, 100);
    let held = budget.try_admit(&member(1), 60).unwrap();
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        assert!(budget.admit(&member(1), 60).await.is_none());
    }
    assert_eq!(start.elapsed().as_millis(), 200);
    drop(held);
    assert!(budget.admit(&member(1), 60).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_trickle_counts_as_stalled() {
    let budget = budget(4096, 1024);
    let mut held: std::collections::VecDeque<_> =
        std::iter::repeat_with(|| budget.try_admit(&member(1), 8).unwrap()).take(128).collect();
    let trickle = async {
        for _ in 0..7 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            held.pop_front();
        }
    };
    let start = tokio::time::Instant::now();
    let waiting = async {
        // There is room after 50 ms, yet the queue does not move: it is taken when the wait is over.
        assert!(budget.admit(&member(1), 8).await.is_some());
        assert_eq!(start.elapsed().as_millis(), 200);
        // From now on nobody waits for this member.
        while budget.try_admit(&member(1), 8).map(std::mem::forget).is_some() {}
        assert!(budget.admit(&member(1), 8).await.is_none());
        assert_eq!(start.elapsed().as_millis(), 200);
    };
    tokio::join!(trickle, waiting);
}

#[tokio::test(start_paused = true)]
async fn room_that_is_freed_wakes_the_waiter() {
    let budget = budget(100, 40);
    let held = budget.try_admit(&member(1), 40).unwrap();
    #[allow(clippy::disallowed_methods, reason = "a test's own task")]
    let waiter = tokio::spawn({
        let budget = budget.clone();
        async move { budget.admit(&member(1), 40).await.is_some() }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert!(waiter.await.unwrap());
}

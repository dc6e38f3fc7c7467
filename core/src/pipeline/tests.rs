//! What only the crate can see of the pipeline. Everything else is tested from outside, in `testkit/tests/all/pipeline.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::delivery::Outbound;
use crate::error::BoxError;
use crate::error::SendError;
use crate::transport::{Endpoint, MembershipContext, ProbeResult};
use crate::{BudgetConfig, ChannelMessage, MemberId, Services};

/// Sender, receiver and membership service that do nothing.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl ChannelSender for Nothing {
    async fn start(&self, _: Arc<Member>, _: Link) -> Result<(), BoxError> {
        Ok(())
    }
    async fn stop(&self, _: Time) {}
    async fn send(&self, _: Outbound) -> Result<(), SendError> {
        Ok(())
    }
    async fn probe(&self, _: &Arc<Member>, _: Option<ChannelMessage>, _: Time) -> ProbeResult {
        ProbeResult::Unreachable
    }
}

#[async_trait]
impl ChannelReceiver for Nothing {
    async fn start(&self, _: Link) -> Result<Endpoint, BoxError> {
        Ok(Endpoint::new(Ipv4Addr::LOCALHOST.into(), 1))
    }
    async fn stop(&self, _: Time) {}
}

#[async_trait]
impl MembershipService for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    async fn start(&self, _: Services, _: MembershipContext) -> Result<(), BoxError> {
        Ok(())
    }
    async fn stop(&self, _: Services) {}
}

fn stack() -> Arc<Stack> {
    let env = Env::real();
    let local = Arc::new(Member::new(MemberId::ZERO, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
    let budget = Budget::new(BudgetConfig::default(), env.clone());
    let (events, _) = mpsc::unbounded_channel();
    Stack::new(Vec::new(), Arc::new(Nothing), Arc::new(Nothing), Arc::new(Nothing), env, budget, local, events, true)
}

fn tasks(stack: &Stack) -> usize {
    stack.tasks.lock().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn tasks_that_ended_are_not_kept() {
    let stack = stack();
    for _ in 0..10_000 {
        stack.spawn(std::future::ready(()));
        tokio::task::yield_now().await;
    }
    assert!(tasks(&stack) <= 64, "{} handles are kept", tasks(&stack));
}

#[tokio::test(start_paused = true)]
async fn ending_the_tasks_waits_until_they_are_gone() {
    let stack = stack();
    let held = Arc::new(());
    for _ in 0..100 {
        let held = Arc::clone(&held);
        stack.spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
    }
    stack.end_tasks(Time::NEVER).await;
    assert_eq!((Arc::strong_count(&held), tasks(&stack)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_link_keeps_nothing_alive() {
    let stack = stack();
    let link = stack.link(0);
    assert!(link.local().is_some());
    drop(stack);
    assert!(link.local().is_none());
    assert!(matches!(link.post(&[], "m", SendOptions::ACK).await, Err(SendError::Stopped)));
    assert!(!link.is_connected(&Member::new(MemberId::ZERO, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))));
}

#[test]
fn a_panic_has_a_text_whatever_it_is_made_of() {
    let text = |panic: fn()| catch_now(panic).unwrap_err();
    assert_eq!(text(|| panic!("literal")), "literal");
    assert_eq!(text(|| panic!("{} formatted", 1)), "1 formatted");
    assert_eq!(text(|| std::panic::panic_any(7)), "a panic without text");
}

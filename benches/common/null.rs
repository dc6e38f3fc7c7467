//! A channel whose network is nothing: what is sent is delivered at once, so that only the pipeline is measured.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use tribes::{
    BoxError, ChannelReceiver, ChannelSender, Delivery, Endpoint, Link, Member, MembershipContext, MembershipService,
    Outbound, ProbeResult, SendError, Services, Time,
};

/// Delivers everything at once to nobody.
#[derive(Debug)]
pub(crate) struct NullSender;

#[async_trait]
impl ChannelSender for NullSender {
    async fn start(&self, _: Arc<Member>, _: Link) -> Result<(), BoxError> {
        Ok(())
    }

    async fn stop(&self, _: Time) {}

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        for destination in out.to {
            destination.completion.deliver(Delivery::Sent);
        }
        Ok(())
    }

    async fn probe(&self, _: &Arc<Member>, _: Option<tribes::ChannelMessage>, _: Time) -> ProbeResult {
        ProbeResult::Answered
    }
}

/// Listens nowhere.
#[derive(Debug)]
pub(crate) struct NullReceiver;

#[async_trait]
impl ChannelReceiver for NullReceiver {
    async fn start(&self, _: Link) -> Result<Endpoint, BoxError> {
        Ok(Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1))
    }

    async fn stop(&self, _: Time) {}
}

/// Finds nobody.
#[derive(Debug)]
pub(crate) struct NullMembership;

#[async_trait]
impl MembershipService for NullMembership {
    fn name(&self) -> &'static str {
        "null"
    }

    async fn start(&self, _: Services, _: MembershipContext) -> Result<(), BoxError> {
        Ok(())
    }

    async fn stop(&self, _: Services) {}
}

//! Both membership services pass the suite of the test kit, over real sockets.

#![allow(clippy::panic, reason = "a test fails by a panic")]

use tribes_membership::{McastConfig, McastMembership, StaticConfig, StaticMembership, StaticPeer};
use tribes_testkit::membership_suite;
use tribes_testkit::suite::{IoProfile, Site};
use tribes_transports::{PooledParallelSender, ReceiverConfig, SenderConfig, TcpReceiver};

fn multicast(site: &Site) -> McastMembership {
    McastMembership::new(McastConfig::default().with_port(site.shared_port())).unwrap_or_else(|error| panic!("{error}"))
}

/// Each lists the others.
fn fixed(site: &Site) -> StaticMembership {
    let peers = site.others().into_iter().map(|addr| StaticPeer::new(addr.to_string()));
    let peers: Result<Vec<_>, _> = peers.collect();
    let service = peers.and_then(|peers| StaticMembership::new(StaticConfig::default().with_peers(peers)));
    service.unwrap_or_else(|error| panic!("{error}"))
}

fn sender(_: &Site) -> PooledParallelSender {
    PooledParallelSender::new(SenderConfig::default())
}

fn receiver(site: &Site) -> TcpReceiver {
    let config = ReceiverConfig::default().with_port(site.addr().port()).with_auto_bind(1);
    TcpReceiver::new(config).unwrap_or_else(|error| panic!("{error}"))
}

// Who connects names itself, too, so that one who only listens may be found all the same.
membership_suite!(multicast_sockets, multicast, sender, receiver, IoProfile::sockets().named("multicast").whole());
// Members find each other by an exchange, which takes both halves.
membership_suite!(static_sockets, fixed, sender, receiver, IoProfile::sockets().named("static").whole());

//! The external lease.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::{BoxError, Channel, Env, Time, async_trait};
use tribes_testkit::checkers::OneLeader;
use tribes_testkit::net::Node;
use tribes_testkit::simulate;

use super::scenario::config;
use crate::agreed_views::{AgreedViews, Lease, LeaseGrant, LeaseRequest, Quorum, ViewEvent};

/// A store of one lease, that everybody reaches.
#[derive(Clone)]
struct Store(Arc<Mutex<Held>>, Env);

struct Held {
    holder: Option<u64>,
    until: Time,
    token: u64,
    is_down: bool,
    released: usize,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

const LEASE: Duration = Duration::from_secs(1);

#[async_trait]
impl Lease for Store {
    async fn acquire(&self, request: &LeaseRequest) -> Result<Option<LeaseGrant>, BoxError> {
        self.1.sleep(Duration::from_millis(7)).await;
        let (now, mut held) = (self.1.now(), self.0.lock().unwrap());
        if held.is_down {
            return Err("the store is down".into());
        }
        if held.holder != Some(request.incarnation) {
            if held.holder.is_some() && now < held.until {
                return Ok(None);
            }
            held.holder = Some(request.incarnation);
            held.token += 1;
        }
        held.until = now + LEASE;
        Ok(Some(LeaseGrant::new(LEASE).with_token(held.token)))
    }

    async fn release(&self, request: &LeaseRequest) {
        let mut held = self.0.lock().unwrap();
        held.released += 1;
        if held.holder == Some(request.incarnation) {
            held.holder = None;
        }
    }
}

#[test]
fn the_side_that_holds_the_lease_writes() {
    for seed in 1..=20 {
        simulate(seed, async |world| {
            let held = Held { holder: None, until: Time::ZERO, token: 0, is_down: false, released: 0 };
            let store = Store(Arc::new(Mutex::new(held)), world.env());
            let leaders = Arc::new(Mutex::new(OneLeader::new()));
            let (mut nodes, mut channels, mut layers) = (Vec::new(), Vec::new(), Vec::new());
            for number in 0..4 {
                let node = world.node();
                let views = Arc::new(AgreedViews::new(config(Quorum::None, 0)).with_lease(store.clone()));
                let channel = node.join(Channel::builder()).interceptor(Arc::clone(&views)).build().unwrap();
                let (mut events, seen) = (views.events(), Arc::clone(&leaders));
                channel.start().await.unwrap();
                world.env().spawn(async move {
                    while let Some(event) = events.next().await {
                        match event {
                            ViewEvent::MayWrite { view, token } => {
                                seen.lock().unwrap().began(number, token, view.incarnation);
                            }
                            ViewEvent::MustStop { .. } => seen.lock().unwrap().ended(&number),
                            _ => {}
                        }
                    }
                });
                nodes.push(node);
                channels.push(channel);
                layers.push(views);
            }
            let writing = || layers.iter().map(|views| views.may_write().is_some()).collect::<Vec<_>>();
            let limit = Duration::from_secs(15);
            assert!(world.until(limit, || writing() == [true; 4]).await, "{:?}", writing());
            // The leader's side keeps the lease, if it is only one.
            let sides: [&[&Node]; 2] = [&[&nodes[0]], &[&nodes[1], &nodes[2], &nodes[3]]];
            world.net().partition(&sides);
            assert!(world.until(limit, || writing() == [true, false, false, false]).await, "{:?}", writing());
            world.sleep(5 * LEASE).await;
            assert_eq!(writing(), [true, false, false, false]);
            let token = layers[0].leads().unwrap();
            // It dies, and the others get it.
            nodes[0].crash();
            leaders.lock().unwrap().ended(&0);
            let others = || writing()[1..] == [true; 3];
            assert!(world.until(limit, others).await, "{:?}", writing());
            assert!(layers[1].leads().unwrap() > token);
            // The store cannot be asked: what was granted runs out.
            store.0.lock().unwrap().is_down = true;
            assert!(world.until(2 * LEASE, || writing()[1..] == [false; 3]).await, "{:?}", writing());
            store.0.lock().unwrap().is_down = false;
            assert!(world.until(limit, others).await);
            // Who leads and leaves gives it up.
            channels[1].stop().await;
            let rest = || writing()[2..] == [true; 2];
            assert!(world.until(limit, rest).await, "{:?}", writing());
            leaders.lock().unwrap().clone().finish().unwrap();
        });
    }
}

use std::sync::Arc;
use std::time::Duration;

use tribes_core::settings::Settings as _;
use tribes_core::{Departure, MemberEvent, Time};

use super::core::Core;
use super::{SimpleCoordinator, SimpleCoordinatorConfig};
use crate::testing::{World, member};

use MemberEvent::{Added, Removed};

const SETTLE: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

#[test]
fn the_first_leads_once_all_is_quiet() {
    let mut core = Core::new(SETTLE);
    core.start(member(5), at(0));
    core.event(&Added(member(7)), at(0));
    core.event(&Added(member(3)), at(600));
    assert_eq!(core.deadline(), at(1600));
    core.tick(at(1599));
    assert_eq!(core.leadership().coordinator, None);
    core.tick(at(1600));
    let leadership = core.leadership();
    assert_eq!((leadership.coordinator, leadership.is_local, leadership.term), (Some(member(3)), false, None));
    assert_eq!(leadership.view.to_vec(), [member(3), member(5), member(7)]);
    assert_eq!(core.deadline(), Time::NEVER);
    // Whoever is gone does not lead; the next one is found when all is quiet again.
    core.event(&Removed(member(3), Departure::Failed), at(5000));
    assert_eq!(core.leadership().coordinator, None);
    core.tick(at(6000));
    assert_eq!((core.leadership().coordinator, core.leadership().is_local), (Some(member(5)), true));
    core.stop();
    assert_eq!(core.leadership(), crate::Leadership::default());
}

#[test]
fn what_changes_nothing_is_no_change() {
    let mut core = Core::new(SETTLE);
    core.event(&Added(member(7)), at(0));
    assert_eq!(core.deadline(), Time::NEVER, "not started");
    core.start(member(5), at(0));
    core.tick(at(1000));
    core.event(&Added(member(7)), at(2000));
    core.event(&MemberEvent::Updated(member(7)), at(2000));
    core.event(&Removed(member(8), Departure::Failed), at(2000));
    assert_eq!(core.deadline(), Time::NEVER);
}

#[tokio::test(start_paused = true)]
async fn the_application_is_told() {
    let layer = Arc::new(SimpleCoordinator::new(SimpleCoordinatorConfig::default().with_settle(SETTLE)));
    let mut changes = layer.changes();
    let world = World::start(|builder| builder.interceptor(Arc::clone(&layer))).await;
    let local = world.channel.local();
    assert_eq!(changes.next().await.unwrap().coordinator, Some(Arc::clone(&local)));
    assert!(layer.is_coordinator() && world.gauge("is_coordinator") == 1);
    world.below.raise(Added(member(1)));
    assert_eq!(changes.next().await.unwrap().coordinator, Some(member(1)));
    assert_eq!((layer.coordinator(), layer.view().len(), world.gauge("view_members")), (Some(member(1)), 2, 2));
    world.below.raise(Removed(member(1), Departure::Shutdown));
    assert_eq!(changes.next().await.unwrap().coordinator, None);
    assert_eq!(changes.next().await.unwrap().coordinator, Some(local));
    world.channel.stop().await;
    assert_eq!(changes.next().await.unwrap(), crate::Leadership::default());
    world.channel.start().await.unwrap();
    assert!(changes.next().await.unwrap().is_local);
}

#[test]
fn options_are_checked() {
    let mut config = SimpleCoordinatorConfig::default();
    assert_eq!(config.settle, Duration::from_millis(2500));
    config.set("settle", "1s").unwrap();
    assert_eq!(config, SimpleCoordinatorConfig::default().with_settle(SETTLE));
    for (key, value) in [("settle", "0s"), ("settle", "11m"), ("settle", "soon"), ("frequency", "1s")] {
        assert!(config.set(key, value).is_err(), "{key}={value}");
    }
    assert!(config.with_settle(Duration::ZERO).validate().is_err());
}

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use tribes_core::Channel;
use tribes_testkit::net::SimNet;

use crate::{Conflicts, Durability, MapBuilder, MapError, OpenError, ReplicatedMap};

type Map = ReplicatedMap<String, u32>;

const SECOND: Duration = Duration::from_secs(1);

fn builder(directory: &Path) -> MapBuilder<String, u32> {
    ReplicatedMap::builder("stock/a b").directory(directory).save_every(Duration::ZERO)
}

async fn channel(net: &SimNet) -> Channel {
    let channel = net.join(Channel::builder()).build().unwrap();
    channel.start().await.unwrap();
    channel
}

async fn open(net: &SimNet, directory: &Path) -> Map {
    let map = builder(directory).open(&channel(net).await).unwrap();
    map.ready().await;
    map
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_full_stop() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let net = SimNet::new(1);
    {
        let maps = [open(&net, one.path()).await, open(&net, two.path()).await];
        maps[0].changed(|map| map.stats().peers.len() == 1).await;
        for number in 0..100 {
            maps[0].put_with(&format!("key {number}"), &number, Durability::all(SECOND)).await.unwrap();
        }
        maps[1].remove_with("key 7", Durability::all(SECOND)).await.unwrap();
    }
    let net = SimNet::new(2);
    let again = open(&net, two.path()).await;
    assert_eq!((again.len(), again.get("key 8"), again.get("key 7")), (99, Some(8), None));
    // The removal stays one for whoever comes with what he held.
    let other = open(&net, one.path()).await;
    again.changed(|map| map.stats().peers.len() == 1).await;
    again.put_with("new", &1, Durability::all(SECOND)).await.unwrap();
    assert_eq!((other.len(), other.get("key 7"), other.get("new")), (100, None, Some(1)));
}

/// Copies of the file at any moment are whole: what a kill leaves is no worse.
#[tokio::test]
async fn the_file_is_whole_at_any_moment() {
    let (one, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let map = open(&SimNet::new(1), one.path()).await;
    for round in 0..4u32 {
        for number in 0..20u32 {
            map.put(&format!("key {number}"), &(round * 100 + number)).await.unwrap();
        }
        map.saved().await.unwrap();
        let copy = copies.path().join(round.to_string());
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(one.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        let copied = open(&SimNet::new(u64::from(round) + 2), &copy).await;
        for number in 0..20u32 {
            assert_eq!(copied.get(&format!("key {number}")), Some(round * 100 + number), "copy {round}");
        }
        // Its writes are none of its predecessor's.
        assert_ne!(copied.incarnation(), map.incarnation());
    }
}

/// Acknowledged means saved, if that is wanted.
#[tokio::test]
async fn an_acknowledgement_waits_for_the_disk() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let net = SimNet::new(1);
    let writer = open(&net, one.path()).await;
    let slow = builder(two.path()).save_every(Duration::from_millis(300)).acknowledge_saved(true);
    let saver = slow.open(&channel(&net).await).unwrap();
    saver.ready().await;
    writer.changed(|map| map.stats().peers.len() == 1).await;
    writer.put_with("a", &1, Durability::copies(1, SECOND * 20)).await.unwrap();
    // Taken from under the process, as by a kill.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(two.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    assert_eq!(open(&SimNet::new(3), copy.path()).await.get("a"), Some(1));
}

#[tokio::test]
async fn a_file_is_opened_once_and_as_it_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let net = SimNet::new(1);
    let map = open(&net, directory.path()).await;
    let error = builder(directory.path()).open(&channel(&net).await).unwrap_err();
    assert!(matches!(&error, OpenError::File { path, .. } if path.ends_with("stock%2Fa%20b.redb")), "{error}");
    drop(map);
    let other = builder(directory.path()).conflicts(Conflicts::max()).open(&channel(&net).await).unwrap_err();
    assert!(other.to_string().contains("1 latest"), "{other}");
    std::fs::write(directory.path().join("broken.redb"), "this is no map").unwrap();
    let broken = ReplicatedMap::<String, u32>::builder("broken").directory(directory.path());
    assert!(matches!(broken.open(&channel(&net).await), Err(OpenError::File { .. })));
    open(&net, directory.path()).await;
}

/// What could not be saved is, once that is possible; and what was saved before is still there.
#[tokio::test]
async fn a_disk_may_fail_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("stock%2Fa%20b.broken");
    {
        let map = open(&SimNet::new(1), directory.path()).await;
        map.put("before", &1).await.unwrap();
        map.saved().await.unwrap();
        std::fs::write(&broken, "").unwrap();
        map.put("meanwhile", &2).await.unwrap();
        while map.stats().saves_failed < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::fs::remove_file(&broken).unwrap();
        tokio::time::timeout(SECOND * 20, map.saved()).await.unwrap().unwrap();
    }
    let map = open(&SimNet::new(2), directory.path()).await;
    assert_eq!((map.get("before"), map.get("meanwhile")), (Some(1), Some(2)));
    // Closed, and the disk fails: there is nothing to wait for.
    std::fs::write(&broken, "").unwrap();
    map.put("never", &3).await.unwrap();
    map.close();
    let saved = tokio::time::timeout(SECOND * 20, map.saved()).await.unwrap();
    assert!(matches!(saved, Err(MapError::NotSaved)), "{saved:?}");
}

//! Real sockets and real files.

use tribes_farm::{Activated, Farm, Staged};

use crate::common::{Folders, Group, Roster, bytes, channel, within};

/// A group of members with a farm each, all ready and known to each other.
async fn farms(count: usize) -> (Group, Vec<(Folders, Farm)>) {
    let group = Group::of(count).await;
    let mut farms = Vec::new();
    for at in 0..count {
        let folders = Folders::new();
        let farm = folders.farm(group.channel(at)).start().await.unwrap();
        farms.push((folders, farm));
    }
    for (_, farm) in &farms {
        within("the farm to be ready", farm.ready()).await;
        within("all to see all", farm.changed(|farm| farm.receivers() == count)).await;
    }
    (group, farms)
}

/// Row 21: sizes at which Tomcat announces one chunk too many, and their neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_size_arrive_bit_by_bit() {
    let (_group, farms) = farms(3).await;
    for (number, size) in [0, 1, 10_239, 10_240, 10_241, 20_480, 10 << 20].into_iter().enumerate() {
        let (name, content) = (format!("sizes/{size}.bin"), bytes(size, number as u64));
        let file = farms[0].0.of("source");
        std::fs::write(&file, &content).unwrap();
        let published = farms[0].1.publish_file(&name, &file).await.unwrap();
        let report = within(&name, published.wait(Activated::Everywhere)).await.unwrap();
        assert_eq!(report.nodes.len(), 3);
        for (folders, farm) in &farms {
            assert!(folders.read(&name) == Some(content.clone()), "{name}");
            assert_eq!(farm.status_of(&name).unwrap().size, Some(size as u64));
        }
        let fetched: Vec<_> =
            farms[1..].iter().map(|(_, farm)| farm.stats().artefacts[&name.parse().unwrap()]).collect();
        let (chunks, bytes) = (size.div_ceil(10_240) as u64, size as u64);
        assert!(fetched.iter().all(|stats| (stats.chunks, stats.bytes) == (chunks, bytes)), "{fetched:?}");
    }
    let again = farms[1].1.publish_bytes("sizes/1.bin", farms[0].0.read("sizes/1.bin").unwrap()).await.unwrap();
    assert_eq!(again.version(), farms[0].1.status_of("sizes/1.bin").unwrap().version, "nothing new, no new version");
    within("it to be staged", again.wait(Staged::Everywhere)).await.unwrap();
}

/// Row 23, and a publisher that is gone: what one fetched the next gets from it.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_when_the_publisher_is_gone_gets_it_from_another() {
    let (mut group, farms) = farms(2).await;
    let content = bytes(300_000, 5);
    let published = farms[0].1.publish_bytes("model", content.clone()).await.unwrap();
    within("it to be live", published.wait(Activated::Everywhere)).await.unwrap();
    farms[0].1.close();
    group.channel(0).stop().await;
    let folders = Folders::new();
    let farm = folders.farm(&group.join().await).start().await.unwrap();
    within("the joiner to be ready", farm.ready()).await;
    assert!(folders.read("model") == Some(content));
}

/// A whole group that is stopped has its files again when it is started, and fetches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_stopped_goes_on_where_it_was() {
    let (group, farms) = farms(2).await;
    let published = farms[0].1.publish_bytes("model", "content").await.unwrap();
    within("it to be live", published.wait(Activated::Everywhere)).await.unwrap();
    let gone = farms[1].1.publish_bytes("gone", "x").await.unwrap();
    within("it to be live", gone.wait(Activated::Everywhere)).await.unwrap();
    let mut folders = Vec::new();
    for (at, (folder, farm)) in farms.into_iter().enumerate() {
        farm.close();
        drop(farm);
        group.channel(at).stop().await;
        folders.push(folder);
    }
    drop((published, gone));
    // Somebody was at it meanwhile.
    std::fs::remove_file(folders[0].live("gone")).unwrap();
    let group = Group::of(2).await;
    let mut again = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        again.push(loop {
            // Until the last job of the farm before has ended.
            match folder.farm(group.channel(at)).start().await {
                Ok(farm) => break farm,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        });
    }
    for farm in &again {
        within("the farm to be ready", farm.ready()).await;
        let is_live = |farm: &Farm| farm.status_of("gone").is_some_and(|status| status.live == Some(status.version));
        within("both to be known", farm.changed(|farm| farm.status().len() == 2 && is_live(farm))).await;
    }
    assert_eq!(folders[0].read("gone").as_deref(), Some(&b"x"[..]));
    assert_eq!(folders[1].read("model").as_deref(), Some(&b"content"[..]));
    let fetched =
        again.iter().flat_map(|farm| farm.stats().artefacts.into_values()).map(|stats| stats.bytes).sum::<u64>();
    assert_eq!(fetched, 0);
}

/// The clock stands still as long as there is something to do, so the maps of a channel that is not started do not become ready. The
/// folders are free again, whoever waits is told, and nothing is left that watches.
#[tokio::test(start_paused = true)]
async fn a_farm_ends_before_it_is_ready() {
    let folders = Folders::new();
    for closes in [false, true, false] {
        let channel = channel(&Roster::default());
        let mut tries = 0;
        let farm = loop {
            let builder = folders.farm(&channel).watch(folders.of("in"), tribes_farm::Watch::default());
            match builder.start().await {
                Ok(farm) => break farm,
                Err(error) => assert!(tries < 1000, "{error}"),
            }
            tries += 1;
            tokio::task::yield_now().await;
        };
        assert!(!farm.is_ready());
        if closes {
            let told = tokio::join!(farm.ready(), farm.changed(Farm::is_ready), async { farm.close() });
            assert_eq!(told, (false, false, ()));
            assert!(!farm.ready().await);
        }
    }
}

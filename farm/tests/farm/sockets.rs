//! Real sockets and real files.

use tribes_farm::{Activated, Farm, Staged};

use crate::common::{Folders, Group, bytes, within};

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

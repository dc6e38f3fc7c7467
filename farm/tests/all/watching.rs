//! A folder that is watched, by real files and the real clock.

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_farm::{Farm, Watch};

use crate::common::{Folders, Group, within};

const SETTLE: Duration = Duration::from_millis(200);

fn watch() -> Watch {
    Watch::default().with_settle(SETTLE).with_poll_fallback(Duration::from_millis(300))
}

/// A member that watches, and one that tells what becomes live with it.
async fn pair(group: &Group, one: &Folders, two: &Folders, watch: Watch) -> (Farm, Farm, Arc<Mutex<Vec<Vec<u8>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let receiver = two.farm(group.channel(1)).on_activated(move |artefact| {
        noted.lock().unwrap().push(fs::read(artefact.path()).unwrap());
        std::future::ready(Ok(()))
    });
    let receiver = receiver.start().await.unwrap();
    let publisher = one.farm(group.channel(0)).watch(one.of("in"), watch).start().await.unwrap();
    for farm in [&publisher, &receiver] {
        within("the farm to be ready", farm.ready()).await;
    }
    (publisher, receiver, seen)
}

fn has(farm: &Farm, name: &str, size: Option<u64>) -> bool {
    farm.status_of(name).is_some_and(|status| status.size == size && status.live.is_some() == size.is_some())
}

/// Row 22: of a file that is written slowly, the final content is published, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_still_written_is_not_published() {
    let group = Group::of(2).await;
    let (one, two) = (Folders::new(), Folders::new());
    // Long against any pause of this test that a busy machine makes.
    let settle = Duration::from_secs(1);
    let (_publisher, receiver, seen) = pair(&group, &one, &two, watch().with_settle(settle)).await;
    let mut file = fs::File::create(one.of("in").join("slow.bin")).unwrap();
    let mut written = Vec::new();
    for step in 0..12u8 {
        let part = vec![step; 10_000];
        file.write_all(&part).unwrap();
        file.flush().unwrap();
        written.extend(part);
        // Slower than it is looked at, faster than it settles.
        tokio::time::sleep(settle / 8).await;
    }
    drop(file);
    within("the whole file", receiver.changed(|farm| has(farm, "slow.bin", Some(120_000)))).await;
    assert!(*seen.lock().unwrap() == [written], "the final content, and one activation");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_patterns_changes_and_removals() {
    let group = Group::of(2).await;
    let (one, two) = (Folders::new(), Folders::new());
    fs::create_dir_all(one.of("in/deep/er")).unwrap();
    fs::write(one.of("in/deep/er/a.json"), "there before").unwrap();
    fs::write(one.of("secret"), "outside").unwrap();
    std::os::unix::fs::symlink(one.of("secret"), one.of("in/link.json")).unwrap();
    std::os::unix::fs::symlink(one.of("."), one.of("in/loop")).unwrap();
    fs::write(one.of("in/nul.json"), "a device elsewhere").unwrap();
    let (publisher, receiver, seen) = pair(&group, &one, &two, watch().with_pattern("*.json")).await;
    within("what was there", receiver.changed(|farm| has(farm, "deep/er/a.json", Some(12)))).await;
    fs::write(one.of("in/b.txt"), "another kind").unwrap();
    fs::rename(one.of("in/b.txt"), one.of("in/b.json")).unwrap();
    within("what was renamed", receiver.changed(|farm| has(farm, "b.json", Some(12)))).await;
    fs::write(one.of("in/b.json"), "changed").unwrap();
    within("the change", receiver.changed(|farm| has(farm, "b.json", Some(7)))).await;
    fs::remove_dir_all(one.of("in/deep")).unwrap();
    within("the removal", receiver.changed(|farm| has(farm, "deep/er/a.json", None))).await;
    assert!(!two.live("deep").exists());
    assert_eq!(publisher.status().len(), 2, "no links, no devices, no other kinds: {:#?}", publisher.status());
    assert_eq!(seen.lock().unwrap().len(), 3);
}

/// What is published and unchanged is not published again by a restart, nor what was published before and is outdated.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_publishes_nothing_that_is_known() {
    let mut group = Group::of(2).await;
    let (one, two) = (Folders::new(), Folders::new());
    let (publisher, receiver, _) = pair(&group, &one, &two, watch()).await;
    fs::write(one.of("in/same"), "same").unwrap();
    fs::write(one.of("in/old"), "old").unwrap();
    within("both", receiver.changed(|farm| has(farm, "same", Some(4)) && has(farm, "old", Some(3)))).await;
    let newer = receiver.publish_bytes("old", "newer").await.unwrap();
    within("the later", publisher.changed(|farm| has(farm, "old", Some(5)))).await;
    let version = publisher.status_of("same").unwrap().version;
    publisher.close();
    drop(publisher);
    group.channel(0).stop().await;

    let channel = group.join().await;
    let again = loop {
        // Until the last job of the farm before has ended.
        match one.farm(&channel).watch(one.of("in"), watch()).start().await {
            Ok(farm) => break farm,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    within("it to be ready", again.ready()).await;
    fs::write(one.of("in/marker"), "m").unwrap();
    within("what comes after", receiver.changed(|farm| has(farm, "marker", Some(1)))).await;
    assert_eq!(receiver.status_of("same").unwrap().version, version);
    assert_eq!(receiver.status_of("old").unwrap().version, newer.version());
    assert_eq!(again.stats().artefacts.get(&"same".parse().unwrap()), None, "it was live, and stayed so");
}

/// A drive that is not mounted any more leaves an empty folder: nobody removed what was in it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_in_place_of_the_watched_one_removes_nothing() {
    let group = Group::of(2).await;
    let (one, two) = (Folders::new(), Folders::new());
    let (_publisher, receiver, seen) = pair(&group, &one, &two, watch()).await;
    fs::write(one.of("in").join("stays.json"), "1").unwrap();
    within("the file", receiver.changed(|farm| has(farm, "stays.json", Some(1)))).await;
    fs::rename(one.of("in"), one.of("away")).unwrap();
    fs::create_dir(one.of("in")).unwrap();
    // Nothing is to happen, and nothing tells so: several looks, and the settle time after each.
    tokio::time::sleep(8 * SETTLE).await;
    fs::remove_dir(one.of("in")).unwrap();
    fs::rename(one.of("away"), one.of("in")).unwrap();
    fs::write(one.of("in").join("later.json"), "12").unwrap();
    within("what came later", receiver.changed(|farm| has(farm, "later.json", Some(2)))).await;
    assert!(has(&receiver, "stays.json", Some(1)));
    assert_eq!(
        *seen.lock().unwrap(),
        [b"1".to_vec(), b"12".to_vec()],
        "it was live all the time, and only once activated"
    );
}

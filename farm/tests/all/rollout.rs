//! Going live together, and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tribes_core::BoxError;
use tribes_farm::{Activated, Activation, Farm, NodeState, Stage, Staged, StopReason, Verdict, WaitError};

use crate::common::{Folders, Group, within};

const ROLLING: Activation = Activation::AllStagedThenRolling { max_unavailable: 1 };

/// What the applications of a group do.
#[derive(Default)]
struct Behaviour {
    activating: AtomicUsize,
    most: AtomicUsize,
    ill: AtomicBool,
    rejects: AtomicBool,
}

impl Behaviour {
    async fn activated(&self, is_ill: bool, content: &[u8]) -> Result<(), BoxError> {
        let now = self.activating.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        // Others would be seen at it.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.activating.fetch_sub(1, Ordering::SeqCst);
        let fails = is_ill && self.ill.load(Ordering::SeqCst) && content == b"two";
        if fails { Err("not well".into()) } else { Ok(()) }
    }
}

async fn farms(count: usize, behaviour: &Arc<Behaviour>) -> (Group, Vec<(Folders, Farm)>) {
    let group = Group::of(count).await;
    let mut farms = Vec::new();
    for at in 0..count {
        let folders = Folders::new();
        let (judges, does) = (Arc::clone(behaviour), Arc::clone(behaviour));
        let builder = folders.farm(group.channel(at)).activation(ROLLING);
        let builder = builder.on_staged(move |artefact| {
            let content = std::fs::read(artefact.path()).unwrap();
            let rejects = judges.rejects.load(Ordering::SeqCst) && at == 1 && content == b"two";
            std::future::ready(if rejects { Verdict::Reject("not good".into()) } else { Verdict::Accept })
        });
        let builder = builder.on_activated(move |artefact| {
            let does = Arc::clone(&does);
            async move { does.activated(at == 1, &std::fs::read(artefact.path())?).await }
        });
        farms.push((folders, builder.start().await.unwrap()));
    }
    for (_, farm) in &farms {
        within("the farm to be ready", farm.ready()).await;
        within("all to see all", farm.changed(|farm| farm.receivers() == count)).await;
    }
    (group, farms)
}

fn all_have(farms: &[(Folders, Farm)], content: &[u8]) -> bool {
    farms.iter().all(|(folders, _)| folders.read("rules").as_deref() == Some(content))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_after_another_and_back_if_one_fails() {
    let behaviour = Arc::new(Behaviour::default());
    let (_group, farms) = farms(3, &behaviour).await;
    let one = farms[0].1.publish_bytes("rules", "one").await.unwrap();
    within("all to be staged", one.wait(Staged::Everywhere)).await.unwrap();
    let report = within("all to be active", one.wait(Activated::Everywhere)).await.unwrap();
    assert!(report.nodes.iter().all(|node| node.state == NodeState::At(Stage::Active)), "{report}");
    assert_eq!(behaviour.most.load(Ordering::SeqCst), 1);

    behaviour.ill.store(true, Ordering::SeqCst);
    let two = farms[2].1.publish_bytes("rules", "two").await.unwrap();
    let error = within("it to be stopped", two.wait(Activated::Everywhere)).await.unwrap_err();
    let WaitError::Stopped(report) = error else { panic!("{error}") };
    let why =
        |why: &StopReason| report.nodes.iter().filter(|node| node.state == NodeState::Stopped(why.clone())).count();
    assert_eq!((why(&StopReason::Failed("not well".into())), why(&StopReason::Followed)), (1, 2), "{report}");
    let back = |farm: &Farm| farm.status_of("rules").unwrap().live == Some(one.version());
    for (_, farm) in &farms {
        within("the version before to be live", farm.changed(back)).await;
    }
    assert!(all_have(&farms, b"one"));
    let stats = farms[1].1.stats().artefacts[&"rules".parse().unwrap()];
    assert_eq!((stats.activated, stats.failed, stats.rolled_back), (1, 1, 1));

    behaviour.ill.store(false, Ordering::SeqCst);
    let three = farms[1].1.publish_bytes("rules", "three").await.unwrap();
    within("a later one to be active", three.wait(Activated::Everywhere)).await.unwrap();
    // What failed is not gone back to.
    let back = farms[0].1.rollback("rules").await.unwrap();
    within("the first again", back.wait(Activated::Everywhere)).await.unwrap();
    assert!(all_have(&farms, b"one"));
    let forth = farms[2].1.rollback_to("rules", three.version()).await.unwrap();
    within("the third again", forth.wait(Activated::Everywhere)).await.unwrap();
    assert!(all_have(&farms, b"three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_rejects_is_activated_by_nobody() {
    let behaviour = Arc::new(Behaviour::default());
    let (_group, farms) = farms(3, &behaviour).await;
    let one = farms[0].1.publish_bytes("rules", "one").await.unwrap();
    within("all to be active", one.wait(Activated::Everywhere)).await.unwrap();
    behaviour.rejects.store(true, Ordering::SeqCst);
    let two = farms[0].1.publish_bytes("rules", "two").await.unwrap();
    let error = within("it to be stopped", two.wait(Staged::Everywhere)).await.unwrap_err();
    assert!(error.to_string().contains("not good"), "{error}");
    assert!(all_have(&farms, b"one"));
    assert!(farms.iter().all(|(_, farm)| farm.stats().artefacts[&"rules".parse().unwrap()].activated == 1));
}

/// Both publish at once: the later wins with both, and the other is told.
#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_publishers_wins_everywhere() {
    let behaviour = Arc::new(Behaviour::default());
    let (_group, farms) = farms(2, &behaviour).await;
    let (mine, yours) =
        tokio::join!(farms[0].1.publish_bytes("rules", "mine"), farms[1].1.publish_bytes("rules", "yours"));
    let (mine, yours) = (mine.unwrap(), yours.unwrap());
    let (winner, loser, content) =
        if mine.version() > yours.version() { (mine, yours, "mine") } else { (yours, mine, "yours") };
    within("the later to be active", winner.wait(Activated::Everywhere)).await.unwrap();
    let lost = within("the other to be told", loser.wait(Activated::Everywhere)).await;
    assert_eq!(lost, Err(WaitError::Superseded { by: winner.version() }));
    assert!(all_have(&farms, content.as_bytes()));
}

/// Who comes later and fails does without it alone, and nobody waits for the others to go back.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_somebody_who_came_later_fails() {
    let mut group = Group::of(2).await;
    let mut farms = Vec::new();
    for at in 0..2 {
        let folders = Folders::new();
        let farm = folders.farm(group.channel(at)).activation(Activation::AllStaged).start().await.unwrap();
        farms.push((folders, farm));
    }
    for (_, farm) in &farms {
        within("the farm to be ready", farm.ready()).await;
        within("all to see all", farm.changed(|farm| farm.receivers() == 2)).await;
    }
    let published = farms[0].1.publish_bytes("rules", "one").await.unwrap();
    within("all to be active", published.wait(Activated::Everywhere)).await.unwrap();
    let folders = Folders::new();
    let ill = folders.farm(&group.join().await).activation(Activation::AllStaged);
    let ill = ill.on_activated(|_| std::future::ready(Err("not well".into()))).start().await.unwrap();
    within("the third to be ready", ill.ready()).await;
    let stopped = |farm: &Farm| {
        let nodes = farm.status_of("rules").unwrap().nodes;
        nodes.iter().any(|node| matches!(node.state, NodeState::Stopped(StopReason::Unfit(_))))
    };
    within("it to be known", farms[0].1.changed(stopped)).await;
    let error = within("the wait to end", published.wait(Activated::Everywhere)).await.unwrap_err();
    let WaitError::Stopped(report) = error else { panic!("{error}") };
    let active = report.nodes.iter().filter(|node| node.state == NodeState::At(Stage::Active)).count();
    assert_eq!((report.nodes.len(), active), (3, 2), "{report}");
    assert!(all_have(&farms, b"one") && folders.read("rules").is_none());
}

/// The version before is not to be had when it is gone back to: it is fetched. Or the application fails over it once: it is told again.
#[tokio::test(flavor = "multi_thread")]
async fn going_back_that_fails_is_done_again() {
    for is_gone in [true, false] {
        let group = Group::of(2).await;
        let (well, ill) = (Folders::new(), Folders::new());
        let one = well.farm(group.channel(0)).start().await.unwrap();
        let (objects, calls) = (ill.of("staging/objects"), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&calls);
        let builder = ill.farm(group.channel(1)).on_activated(move |artefact| {
            let ended = if std::fs::read(artefact.path()).unwrap() == b"two" {
                for object in std::fs::read_dir(&objects).unwrap().filter(|_| is_gone) {
                    std::fs::remove_file(object.unwrap().path()).unwrap();
                }
                Err("not well".into())
            } else if counted.fetch_add(1, Ordering::SeqCst) == 1 && !is_gone {
                Err("not yet".into())
            } else {
                Ok(())
            };
            std::future::ready(ended)
        });
        let two = builder.start().await.unwrap();
        for farm in [&one, &two] {
            within("the farm to be ready", farm.ready()).await;
            within("all to see all", farm.changed(|farm| farm.receivers() == 2)).await;
        }
        let first = one.publish_bytes("rules", "one").await.unwrap();
        within("all to be active", first.wait(Activated::Everywhere)).await.unwrap();
        let second = one.publish_bytes("rules", "two").await.unwrap();
        within("it to be stopped", second.wait(Activated::Everywhere)).await.unwrap_err();
        let expected = if is_gone { 2 } else { 3 };
        let back = |farm: &Farm| {
            let live = farm.status_of("rules").unwrap().live;
            calls.load(Ordering::SeqCst) == expected && live == Some(first.version())
        };
        within("the first to be live again", two.changed(back)).await;
        let (ill, well) = (ill.read("rules"), well.read("rules"));
        assert_eq!((ill.as_deref(), well.as_deref()), (Some(&b"one"[..]), Some(&b"two"[..])));
    }
}

//! Above layers that change bytes, which in Tribes spoil all copies but the first (T4).

use std::sync::Arc;

use tribes_core::{IntoLayer as _, SendOptions};
use tribes_testkit::{Layered, Recorder};

use crate::order::Order;
use crate::vectors::{bytes, list, load, text};
use crate::{Fragmentation, FragmentationConfig, Gzip};

#[tokio::test(start_paused = true)]
async fn above_and_below_fragmentation_the_bytes_are_those_of_java() {
    let fragmentation = || Fragmentation::new(FragmentationConfig::default().with_max_size(100)).into_layer();
    let order = || Order::default().into_layer();
    let vectors = load("stacks");
    for (name, layers) in [
        ("order, fragmentation(100)", [order(), fragmentation()]),
        ("fragmentation(100), order", [fragmentation(), order()]),
    ] {
        let vector = list(&vectors["stacks"]).iter().find(|stack| text(&stack["stack_top_to_bottom"]) == name).unwrap();
        let [top, bottom] = layers;
        let stack =
            Layered::builder().layer(top).layer(bottom).configure(|builder| builder.order_check(false)).start().await;
        // To two at once: each gets what Java sends to one.
        let to = [Arc::clone(&stack.members[0]), Arc::clone(&stack.members[1])];
        let body = bytes(&vector["input"]);
        stack.channel.send(&to[..], body.clone(), SendOptions::NONE).await.unwrap();
        for member in &to {
            let sent = stack.below.sent();
            let sent: Vec<_> = sent.iter().filter(|sent| sent.to.contains(member)).collect();
            let expected: Vec<_> = list(&vector["sent"]).iter().map(|sent| bytes(&sent["message"])).collect();
            assert_eq!(sent.iter().map(|sent| sent.message.body.to_bytes()).collect::<Vec<_>>(), expected, "{name}");
            // And back.
            let before = stack.above.count();
            for sent in &sent {
                let mut message = sent.message.clone();
                message.sender = Arc::clone(member);
                drop(stack.below.inject(message).await.handled().await);
            }
            stack.above.wait_received(before + 1).await;
            assert_eq!(stack.above.received()[before].message.bytes(), &body, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_destination_gets_a_body_of_its_own_number() {
    let start = async |below: &Recorder| {
        let layers = Layered::builder().layer(Order::default()).layer(Gzip::default());
        layers
            .layer(Fragmentation::new(FragmentationConfig::default().with_max_size(100)))
            .below(below.clone())
            .start()
            .await
    };
    let wire = Recorder::new();
    let sender = start(&wire).await;
    let [one, two, _] = sender.members.as_slice() else { panic!() };
    // So that their numbers differ.
    sender.channel.send(two, "first", SendOptions::NONE).await.unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let body: Vec<u8> = (0..3000).map(|_| rng.u8(..)).collect();
    sender.channel.send(&[one, two].map(Arc::clone)[..], body.clone(), SendOptions::NONE).await.unwrap();
    let sent = wire.take_sent();
    assert!(sent.len() > 10);
    for member in [one, two] {
        let receiver = start(&Recorder::new()).await;
        for sent in sent.iter().filter(|sent| sent.to.contains(member)) {
            drop(receiver.below.inject(sent.message.clone()).await.handled().await);
        }
        let received = receiver.above.received();
        assert_eq!(received.last().unwrap().message.bytes(), &body, "{member}");
        assert_eq!(received.len(), if member == two { 2 } else { 1 });
    }
}

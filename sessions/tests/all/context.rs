//! Attributes that all nodes of an application share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use tribes_core::Channel;
use tribes_sessions::{ContextError, ReplicatedContext};
use tribes_testkit::simulate;

#[derive(Serialize)]
struct NoJson {
    by: BTreeMap<(u8, u8), u8>,
}

#[test]
fn all_nodes_have_the_same_attributes() {
    simulate(5, async |world| {
        let (a, b) = (world.join(Channel::builder()).build().unwrap(), world.join(Channel::builder()).build().unwrap());
        a.start().await.unwrap();
        let on_a = ReplicatedContext::join(&a, "shop").await.unwrap();
        on_a.set("banner", "closed").await.unwrap();
        b.start_and_wait(1, std::time::Duration::from_secs(5)).await.unwrap();
        let on_b = ReplicatedContext::join(&b, "shop").await.unwrap();
        assert_eq!(on_b.get::<String>("banner").as_deref(), Some("closed"), "what was there before");
        assert!(ReplicatedContext::open(&b, "shop").is_err(), "there is one");

        let changed: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&changed);
        let _handle = on_a.on_change(move |name| told.lock().unwrap().push(name.to_owned()));
        on_b.set("prices", &[1, 2]).await.unwrap();
        // Acknowledged: it is there.
        assert_eq!(on_a.get::<Vec<u8>>("prices"), Some(vec![1, 2]));
        assert_eq!(on_a.get::<String>("prices"), None, "not of this type");
        on_b.remove("banner").await.unwrap();
        assert_eq!(on_a.get::<String>("banner"), None);
        assert_eq!(
            (on_a.names(), changed.lock().unwrap().clone()),
            (vec!["prices".to_owned()], vec!["prices".into(), "banner".into()])
        );
        let no_json = NoJson { by: BTreeMap::from([((1, 2), 3)]) };
        assert!(matches!(on_a.set("x", &no_json).await, Err(ContextError::Json { .. })));
        assert_eq!(on_b.names(), ["prices"]);
        on_b.set("prices", &[3]).await.unwrap();
        on_a.changed(|shared| shared.get("prices") == Some(vec![3])).await;
    });
}

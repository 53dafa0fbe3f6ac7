//! Who may be the controller.

use super::*;
use crate::model::{NodeIntent, Role};

const OFFICE: &str = "/elections/controller";

async fn give(store: &dyn Store, node: &str, roles: &[Role]) {
    let intent = NodeIntent { roles: roles.iter().copied().collect(), ..NodeIntent::default() };
    store.txn(Txn::default().put(&schema::node_intent(node), &intent).unwrap()).await.unwrap();
}

/// Waits until this node holds the office.
async fn held_by(store: &dyn Store, node: &str) {
    let mut watch = store.watch(OFFICE, store.range(OFFICE).await.unwrap().revision).await.unwrap();
    while store.get(OFFICE).await.unwrap().is_none_or(|entry| *entry.value != *node.as_bytes()) {
        timeout_at(Instant::now() + Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn only_a_node_of_the_role_control_leads_and_one_that_loses_it_resigns() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&dir.path().join("store.redb")).unwrap());
    let secrets = Secrets::open(Arc::clone(&store), dir.path()).await.unwrap();
    let (store, pools) = (store.as_ref(), pools());
    give(store, "n1", &[Role::Compute]).await;
    // Its name begins as the other's does.
    give(store, "n11", &[Role::Control]).await;
    let (one, other) = (run(store, &secrets, &pools, "n1", None), run(store, &secrets, &pools, "n11", None));
    let story = async {
        held_by(store, "n11").await;
        let first = store.get(OFFICE).await.unwrap().unwrap();
        // It works undisturbed: nobody else is a candidate.
        let key = environment("production");
        let want = spec(&key, &[("api", service("a", 1, &["default"]))]);
        store.txn(Txn::default().put(&schema::intent(&key), &want).unwrap()).await.unwrap();
        wait_until(store, |state| !state.environments.is_empty()).await;
        assert_eq!(store.get(OFFICE).await.unwrap().unwrap(), first);
        give(store, "n1", &[Role::Control, Role::Compute]).await;
        // Whoever leads is replaced here by whoever campaigns: this store is one node's.
        held_by(store, "n1").await;
        give(store, "n1", &[Role::Compute]).await;
        let mut watch = store.watch(OFFICE, first.revision).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let events = timeout_at(Instant::now() + Duration::from_secs(10), watch.next()).await;
            seen.extend(events.unwrap().unwrap().unwrap().into_iter().map(|event| matches!(event, Event::Put(_))));
        }
        assert_eq!(seen, [true, false], "taken, then given back");
    };
    tokio::select! {
        never = one => match never {},
        never = other => match never {},
        () = story => {}
    }
}

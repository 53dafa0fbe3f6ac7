//! What every store must do. Each implementation runs [`all`] on an empty store of its own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what fails here is what the test is about")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;

use dataplane::store::{
    Compare, Entry, Event, Leadership, LeaseId, Outcome, Revision, Store, StoreError, Txn, WatchStream, Write,
};

pub(crate) async fn all(store: &dyn Store) {
    a_transaction_happens_whole_or_not_at_all(store).await;
    each_compare_decides(store).await;
    no_key_is_written_twice(store).await;
    only_changes_raise_the_revision(store).await;
    ranges_are_ordered_prefixes(store).await;
    a_watch_brings_everything_after_its_revision_once_and_in_order(store).await;
    of_many_writers_with_one_compare_one_wins(store).await;
    keys_die_with_their_lease(store).await;
    a_kept_alive_lease_stays_and_a_forgotten_one_ends(store).await;
    a_campaign_is_won_and_fences(store).await;
}

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.into(), value: value.into(), lease: None }
}

fn put_leased(key: &str, lease: LeaseId) -> Write {
    Write::Put { key: key.into(), value: "leased".into(), lease: Some(lease) }
}

async fn write(store: &dyn Store, then: Vec<Write>) -> Revision {
    match store.txn(Txn { compare: Vec::new(), then }).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict => panic!("a transaction without conditions conflicted"),
    }
}

async fn value(store: &dyn Store, key: &str) -> Option<String> {
    store.get(key).await.unwrap().map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn next(watch: &mut WatchStream) -> Vec<Event> {
    tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("an event").unwrap().unwrap()
}

async fn a_transaction_happens_whole_or_not_at_all(store: &dyn Store) {
    let revision = write(store, vec![put("/t/a", "1"), put("/t/b", "2")]).await;
    let a = store.get("/t/a").await.unwrap().unwrap();
    assert_eq!(a, Entry { key: "/t/a".into(), value: "1".into(), revision, lease: None });
    assert_eq!(store.get("/t/b").await.unwrap().unwrap().revision, revision);

    let txn = Txn {
        compare: vec![Compare::Revision("/t/a".into(), revision), Compare::Absent("/t/b".into())],
        then: vec![put("/t/a", "3"), Write::Delete("/t/b".into())],
    };
    assert_eq!(store.txn(txn).await.unwrap(), Outcome::Conflict);
    assert_eq!(value(store, "/t/a").await.as_deref(), Some("1"));
    assert_eq!(value(store, "/t/b").await.as_deref(), Some("2"));
}

async fn each_compare_decides(store: &dyn Store) {
    let revision = write(store, vec![put("/c/a", "1")]).await;
    let cases = [
        (Compare::Revision("/c/a".into(), revision), true),
        (Compare::Revision("/c/a".into(), revision + 1), false),
        (Compare::Revision("/c/none".into(), revision), false),
        (Compare::Absent("/c/none".into()), true),
        (Compare::Absent("/c/a".into()), false),
        (Compare::Value("/c/a".into(), "1".into()), true),
        (Compare::Value("/c/a".into(), "2".into()), false),
        (Compare::Value("/c/none".into(), "".into()), false),
    ];
    for (compare, holds) in cases {
        let outcome = store.txn(Txn { compare: vec![compare.clone()], then: vec![put("/c/x", "y")] }).await.unwrap();
        assert_eq!(matches!(outcome, Outcome::Committed(_)), holds, "{compare:?}");
    }
}

async fn no_key_is_written_twice(store: &dyn Store) {
    let txn = Txn { compare: Vec::new(), then: vec![put("/w/a", "1"), put("/w/b", "1"), Write::Delete("/w/a".into())] };
    assert!(matches!(store.txn(txn).await, Err(StoreError::WrittenTwice { key }) if key == "/w/a"));
    assert_eq!(value(store, "/w/b").await, None);
}

async fn only_changes_raise_the_revision(store: &dyn Store) {
    let revision = write(store, vec![put("/r/a", "1")]).await;
    assert_eq!(write(store, vec![Write::Delete("/r/none".into())]).await, revision);
    assert_eq!(store.range("/r/").await.unwrap().revision, revision);
    assert_eq!(write(store, vec![Write::Delete("/r/a".into())]).await, revision + 1);
    assert_eq!(value(store, "/r/a").await, None);
}

async fn ranges_are_ordered_prefixes(store: &dyn Store) {
    let revision = write(store, vec![put("/p/b", "2"), put("/p/a", "1"), put("/p", "x"), put("/q/a", "x")]).await;
    let range = store.range("/p/").await.unwrap();
    assert_eq!(range.revision, revision);
    assert_eq!(range.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["/p/a", "/p/b"]);
    assert!(store.range("/none/").await.unwrap().entries.is_empty());
    let keys: BTreeSet<String> = store.range("").await.unwrap().entries.into_iter().map(|e| e.key).collect();
    assert!(keys.contains("/p") && keys.contains("/q/a"));
}

async fn a_watch_brings_everything_after_its_revision_once_and_in_order(store: &dyn Store) {
    let before = write(store, vec![put("/s/a", "0")]).await;
    let first = write(store, vec![put("/s/a", "1"), put("/s/b", "1"), put("/other", "1")]).await;
    let mut watch = store.watch("/s/", before).await.unwrap();
    write(store, vec![put("/other", "2")]).await;
    let second = write(store, vec![Write::Delete("/s/a".into())]).await;

    let events = next(&mut watch).await;
    assert_eq!(events.iter().map(Event::key).collect::<Vec<_>>(), ["/s/a", "/s/b"], "one revision is one item");
    assert!(events.iter().all(|event| event.revision() == first));
    assert_eq!(next(&mut watch).await, [Event::Delete { key: "/s/a".into(), revision: second }]);

    let mut resumed = store.watch("/s/", second).await.unwrap();
    let third = write(store, vec![put("/s/c", "3")]).await;
    for watch in [&mut watch, &mut resumed] {
        let entry = Entry { key: "/s/c".into(), value: "3".into(), revision: third, lease: None };
        assert_eq!(next(watch).await, [Event::Put(entry)]);
    }
}

async fn of_many_writers_with_one_compare_one_wins(store: &dyn Store) {
    for round in 0..20 {
        let key = format!("/m/{round}");
        let tries = (0..8).map(|writer| {
            store.txn(Txn { compare: vec![Compare::Absent(key.clone())], then: vec![put(&key, &writer.to_string())] })
        });
        let outcomes = futures_util::future::join_all(tries).await;
        let won = outcomes.into_iter().filter(|outcome| matches!(outcome, Ok(Outcome::Committed(_)))).count();
        assert_eq!(won, 1);
    }
}

async fn keys_die_with_their_lease(store: &dyn Store) {
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let other = store.grant(Duration::from_secs(60)).await.unwrap();
    assert_ne!(lease, other);
    let put_at =
        write(store, vec![put_leased("/l/a", lease), put_leased("/l/b", lease), put_leased("/l/c", other)]).await;
    assert_eq!(store.get("/l/a").await.unwrap().unwrap().lease, Some(lease));
    // A put without the lease unties the key.
    let untied_at = write(store, vec![put("/l/b", "stays")]).await;
    let mut watch = store.watch("/l/", untied_at.max(put_at)).await.unwrap();

    store.revoke(lease).await.unwrap();
    assert!(matches!(&*next(&mut watch).await, [Event::Delete { key, .. }] if key == "/l/a"));
    assert_eq!(value(store, "/l/a").await, None);
    assert_eq!(value(store, "/l/b").await.as_deref(), Some("stays"));
    assert!(value(store, "/l/c").await.is_some());

    assert!(matches!(store.keep_alive(lease).await, Err(StoreError::LeaseEnded { .. })));
    let late = store.txn(Txn { compare: Vec::new(), then: vec![put_leased("/l/late", lease)] }).await;
    assert!(matches!(late, Err(StoreError::LeaseEnded { lease: ended }) if ended == lease));
    store.revoke(lease).await.unwrap();
}

async fn a_kept_alive_lease_stays_and_a_forgotten_one_ends(store: &dyn Store) {
    let ttl = Duration::from_secs(2);
    let (kept, forgotten) = (store.grant(ttl).await.unwrap(), store.grant(ttl).await.unwrap());
    let revision = write(store, vec![put_leased("/k/kept", kept), put_leased("/k/forgotten", forgotten)]).await;
    let mut watch = store.watch("/k/", revision).await.unwrap();
    let ended = async {
        loop {
            tokio::select! {
                events = next(&mut watch) => break events,
                () = tokio::time::sleep(ttl / 4) => store.keep_alive(kept).await.unwrap(),
            }
        }
    };
    assert!(matches!(&*ended.await, [Event::Delete { key, .. }] if key == "/k/forgotten"));
    assert!(value(store, "/k/kept").await.is_some());
    store.revoke(kept).await.unwrap();
}

async fn a_campaign_is_won_and_fences(store: &dyn Store) {
    let old = store.campaign("test", "one").await.unwrap();
    let txn = |leader: &Leadership| Txn { compare: vec![leader.compare()], then: vec![put("/led", "x")] };
    assert!(matches!(store.txn(txn(&old)).await.unwrap(), Outcome::Committed(_)));
    // Whoever takes the office over does so by writing its key.
    write(store, vec![put(&old.key, "two")]).await;
    assert_eq!(store.txn(txn(&old)).await.unwrap(), Outcome::Conflict);
}

//! One promise, two stores: the embedded one, and a real etcd.

#[path = "stores/conformance.rs"]
mod conformance;
#[path = "stores/faults.rs"]
mod faults;
#[path = "stores/member.rs"]
mod member;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane::store::{Embedded, Etcd, Event, Mirror, Outcome, Store, StoreError, Txn, WatchStream, Write};
use futures_util::StreamExt as _;

/// etcd keeps no lease for less.
const LEASE_MIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_conforms() -> Result<()> {
    let directory = tempfile::tempdir()?;
    conformance::all(&Embedded::open(&directory.path().join("store.redb"))?).await;
    Ok(())
}

#[test]
fn etcd_conforms() -> Result<()> {
    let member = tests::Etcd::alone()?;
    member::with(&member, async |store: Etcd| {
        conformance::all(&store).await;
        Ok(())
    })
}

#[test]
fn the_mirror_of_etcd_conforms() -> Result<()> {
    let member = tests::Etcd::alone()?;
    member::with(&member, async |store: Etcd| {
        conformance::all(&Mirror::open(store, &member.directory().join("mirror.redb")).await?).await;
        Ok(())
    })
}

/// What one node knew is read while etcd is away, by its next daemon too; changes are refused, and what happened meanwhile
/// comes when etcd is back.
#[test]
fn a_mirror_goes_on_without_etcd() -> Result<()> {
    let member = tests::Etcd::alone()?;
    let path = member.directory().join("mirror.redb");
    member::with(&member, async |etcd: Etcd| {
        let mirror = Mirror::open(etcd, &path).await?;
        for number in 0..300 {
            mirror.txn(Txn { compare: Vec::new(), then: vec![put(&format!("/m/{number:03}"), "x")] }).await?;
        }
        let before = mirror.range("/m/").await?;
        ensure!(before.entries.len() == 300, "who wrote reads what it wrote");
        member.kill()?;
        ensure!(mirror.range("/m/").await? == before);
        let refused = mirror.txn(Txn { compare: Vec::new(), then: vec![put("/m/new", "x")] }).await;
        ensure!(matches!(refused, Err(StoreError::Etcd { .. })), "{refused:?}");
        Ok(())
    })?;
    // The member is away still.
    member::alone(&member, async |etcd: Etcd| {
        let mirror = Mirror::open(etcd, &path).await?;
        let known = mirror.range("/m/").await?;
        ensure!(known.entries.len() == 300, "{} of 300 were kept", known.entries.len());
        let mut watch = mirror.watch("/m/", known.revision).await?;
        member.start_again()?;
        let other = member::client().await?;
        write(&other, vec![put("/m/new", "x")]).await?;
        ensure!(keys(&mut watch).await? == ["/m/new"]);
        let own = Txn { compare: Vec::new(), then: vec![Write::Delete("/m/new".into()), put("/m/own", "y")] };
        ensure!(matches!(mirror.txn(own).await?, Outcome::Committed(_)));
        ensure!(mirror.get("/m/new").await?.is_none() && mirror.get("/m/own").await?.is_some());
        Ok(())
    })
}

#[test]
fn a_range_of_many_pages_is_of_one_moment() -> Result<()> {
    let member = tests::Etcd::alone()?;
    member::with(&member, async |store: Etcd| {
        for page in 0..13 {
            let then = (0..100).map(|key| put(&format!("/many/{page:02}{key:02}"), "x")).collect();
            write(&store, then).await?;
        }
        let range = store.range("/many/").await?;
        ensure!(range.entries.len() == 1300 && range.entries.is_sorted_by_key(|entry| entry.key.clone()));
        Ok(())
    })
}

/// A watch that was away for long is told everything at once.
#[test]
fn an_answer_may_be_of_many_megabytes() -> Result<()> {
    let member = tests::Etcd::alone()?;
    member::with(&member, async |store: Etcd| {
        let large = "x".repeat(1 << 20);
        let before = write(&store, vec![put("/large/begun", "x")]).await?;
        for number in 0..8 {
            write(&store, vec![put(&format!("/large/{number}"), &large)]).await?;
        }
        ensure!(store.range("/large/").await?.entries.len() == 9);
        let mut watch = store.watch("/large/", before).await?;
        for number in 0..8 {
            ensure!(keys(&mut watch).await? == [format!("/large/{number}")]);
        }
        Ok(())
    })
}

#[test]
fn a_watch_survives_its_member_and_ends_where_history_does() -> Result<()> {
    let member = tests::Etcd::alone()?;
    let seen = member::with(&member, async |store: Etcd| write(&store, vec![put("/w/a", "1")]).await)?;
    member::with(&member, async |store: Etcd| {
        let mut watch = store.watch("/w/", seen).await?;
        write(&store, vec![put("/w/a", "2")]).await?;
        ensure!(keys(&mut watch).await? == ["/w/a"]);
        member.kill()?;
        member.start_again()?;
        let last = until_written(&store, "/w/b").await?;
        ensure!(keys(&mut watch).await? == ["/w/b"], "the same stream goes on");
        member.compact(last)?;
        let mut late = store.watch("/w/", seen).await?;
        let ended = next(&mut late).await?;
        ensure!(matches!(ended, Err(StoreError::Compacted { after, .. }) if after == seen), "{ended:?}");
        Ok(())
    })
}

#[test]
fn the_next_leader_waits_until_the_last_ones_lease_has_ended() -> Result<()> {
    let member = tests::Etcd::alone()?;
    let first = member::with(&member, async |store: Etcd| Ok(store.campaign("controller", "one").await?))?;
    // Whoever comes back under its own name need not wait for itself.
    let again = member::with(&member, async |store: Etcd| Ok(store.campaign("controller", "one").await?))?;
    ensure!(again.key == first.key && again.revision > first.revision);
    member::with(&member, async |store: Etcd| {
        let begun = tokio::time::Instant::now();
        let second = store.campaign("controller", "two").await?;
        let waited = begun.elapsed();
        ensure!(waited > LEASE_MIN, "{waited:?}: the office was taken from one who may still write");
        let txn = Txn { compare: vec![again.compare()], then: vec![put("/led", "one")] };
        ensure!(store.txn(txn).await? == Outcome::Conflict, "who was replaced cannot write");
        let txn = Txn { compare: vec![second.compare()], then: vec![put("/led", "two")] };
        ensure!(matches!(store.txn(txn).await?, Outcome::Committed(_)));
        Ok(())
    })
}

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.into(), value: value.into(), lease: None }
}

async fn write(store: &dyn Store, then: Vec<Write>) -> Result<u64> {
    match store.txn(Txn { compare: Vec::new(), then }).await? {
        Outcome::Committed(revision) => Ok(revision),
        Outcome::Conflict => anyhow::bail!("a transaction without conditions conflicted"),
    }
}

/// Tries again while the member is away.
async fn until_written(store: &dyn Store, key: &str) -> Result<u64> {
    loop {
        match write(store, vec![put(key, "x")]).await {
            Ok(revision) => return Ok(revision),
            Err(error) => println!("{error:#}"),
        }
    }
}

async fn next(watch: &mut WatchStream) -> Result<Result<Vec<Event>, StoreError>> {
    let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    next.context("an event")?.context("the watch ended")
}

async fn keys(watch: &mut WatchStream) -> Result<Vec<String>> {
    Ok(next(watch).await??.iter().map(|event| event.key().to_owned()).collect())
}

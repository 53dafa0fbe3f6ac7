//! An etcd that loses members, its memory of the past, or its room.

use anyhow::{Context as _, Result, ensure};
use dataplane::store::{Mirror, Store as _, StoreError, Txn, WatchStream, Write};
use serde_json::json;
use tests::Lan;

use super::{member, next, put, until_written, write};

/// Of three members one may be gone, whichever; with two gone nothing can be changed, and all is read as before.
#[test]
fn one_of_three_members_may_die_and_two_take_nothing_but_changes() -> Result<()> {
    let lan = Lan::new()?;
    let members = tests::Etcd::three(&lan)?;
    let urls: Vec<String> = members.iter().map(tests::Etcd::url).collect();
    member::at(lan.machine(), &urls, async |etcd| {
        let mirror = Mirror::open(etcd, &lan.machine().directory().join("mirror.redb")).await?;
        let mut watch = mirror.watch("/m/", mirror.range("").await?.revision).await?;
        // In turn: the one that leads and the one that the watch is on are among them.
        for (number, member) in members.iter().enumerate() {
            member.kill()?;
            let key = format!("/m/{number}");
            until_written(&mirror, &key).await?;
            brings(&mut watch, &key).await?;
            member.start_again()?;
        }

        let known = mirror.range("").await?;
        members[0].kill()?;
        members[1].kill()?;
        let refused = mirror.txn(Txn { compare: Vec::new(), then: vec![put("/m/refused", "x")] }).await;
        ensure!(matches!(refused, Err(StoreError::Etcd { .. })), "{refused:?}");
        ensure!(mirror.range("").await? == known && mirror.get("/m/2").await?.is_some());
        // Two of three are enough.
        members[0].start_again()?;
        until_written(&mirror, "/m/back").await?;
        brings(&mut watch, "/m/back").await
    })
}

/// What happened while a node was cut off is forgotten when it is back: it reads everything again.
#[test]
fn a_mirror_that_missed_what_is_forgotten_reads_everything_again() -> Result<()> {
    let lan = Lan::new()?;
    let (member, away) = (tests::Etcd::on(&lan)?, lan.neighbour()?);
    member::at(&away, &[member.url()], async |etcd| {
        write(&etcd, vec![put("/c/kept", "x"), put("/c/changed", "x"), put("/c/gone", "x")]).await?;
        let mirror = Mirror::open(etcd, &away.directory().join("mirror.redb")).await?;
        let mut watch = mirror.watch("/c/", mirror.range("").await?.revision).await?;
        away.run(&["ip", "link", "set", "uplink0", "down"])?;
        // Nothing is on its way to the mirror: neither from this process, nor by what the kernel still holds of it.
        member.kill()?;
        member.start_again()?;
        let there = member::at(member.machine(), &[member.url()], async |etcd| {
            write(&etcd, vec![put("/c/changed", "y"), Write::Delete("/c/gone".into())]).await?;
            let last = write(&etcd, vec![put("/c/new", "x")]).await?;
            member.compact(last)?;
            Ok(etcd.range("").await?)
        })?;
        ensure!(mirror.get("/c/gone").await?.is_some(), "it cannot know");
        away.run(&["ip", "link", "set", "uplink0", "up"])?;
        let ended = next(&mut watch).await?;
        ensure!(matches!(ended, Err(StoreError::Compacted { .. })), "who watches is told to read again: {ended:?}");
        ensure!(mirror.range("").await? == there);
        let mut watch = mirror.watch("/c/", there.revision).await?;
        until_written(&mirror, "/c/after").await?;
        brings(&mut watch, "/c/after").await
    })
}

/// An etcd that has reached its quota takes no changes, says what is to be done, and takes them again when that is done.
#[test]
fn a_full_etcd_refuses_changes_with_the_remedy_and_is_read_all_the_same() -> Result<()> {
    let member = tests::Etcd::with(&["--quota-backend-bytes", "2000000"])?;
    member::with(&member, async |etcd| {
        let mirror = Mirror::open(etcd, &member.directory().join("mirror.redb")).await?;
        let large = "x".repeat(100_000);
        let mut taken = Vec::new();
        let refused = loop {
            let key = format!("/f/{}", taken.len());
            match write(&mirror, vec![put(&key, &large)]).await {
                Ok(_) => taken.push(key),
                Err(error) => break error,
            }
            ensure!(taken.len() < 100, "a full etcd takes every change");
        };
        let said = refused.to_string();
        let full = refused.downcast_ref::<StoreError>();
        ensure!(matches!(full, Some(StoreError::EtcdFull { .. })) && said.contains("etcdctl alarm disarm"), "{said}");
        ensure!(mirror.range("/f/").await?.entries.len() == taken.len());

        // What it says.
        let deletes = taken.iter().cloned().map(Write::Delete).collect();
        let revision = write(&mirror, deletes).await.context("to remove something is no matter of room")?;
        member.compact(revision)?;
        member.ask("/v3/maintenance/defragment", &json!({}))?;
        member.disarm()?;
        write(&mirror, vec![put("/f/after", &large)]).await.map(drop)
    })
}

/// Waits for an event of this key. Of a change that was refused nobody knows whether it happened, so it may come before.
async fn brings(watch: &mut WatchStream, key: &str) -> Result<()> {
    while !next(watch).await??.iter().any(|event| event.key() == key) {}
    Ok(())
}

use futures_util::StreamExt;

use super::*;
use crate::store::{Compare, conformance};

fn put(key: &str, value: Vec<u8>) -> Txn {
    Txn { compare: Vec::new(), then: vec![Write::Put { key: key.into(), value, lease: None }] }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::all(&Embedded::open(&dir.path().join("store.redb")).unwrap()).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_older_history_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let then = vec![Write::Put { key: "/leased".into(), value: vec![1], lease: Some(lease) }];
    store.txn(Txn { compare: Vec::new(), then }).await.unwrap();
    let Outcome::Committed(revision) = store.txn(put("/a", vec![2])).await.unwrap() else { panic!() };
    drop(store);

    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.range("/").await.unwrap().revision, revision);
    store.keep_alive(lease).await.unwrap();
    assert!(store.grant(Duration::from_secs(1)).await.unwrap() > lease, "lease ids are not handed out again");
    let old = store.watch("/", revision - 1).await.unwrap().next().await;
    assert!(matches!(old, Some(Err(StoreError::Compacted { .. }))));
    let mut new = store.watch("/", revision).await.unwrap();
    store.txn(put("/b", vec![3])).await.unwrap();
    assert_eq!(new.next().await.unwrap().unwrap()[0].key(), "/b");
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name_and_the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let _store = Embedded::open(&path).unwrap();
    let error = Embedded::open(&path).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("store.redb") && error.to_string().contains("--state-dir"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn watches_end_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&dir.path().join("store.redb")).unwrap();
    let mut watch = store.watch("/", 0).await.unwrap();
    drop(store);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    for content in [b"hello, I am no database".to_vec(), vec![0; 65_536], vec![0xff; 4096]] {
        std::fs::write(&path, &content).unwrap();
        let error = Embedded::open(&path).err().unwrap();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("store.redb"));
        assert_eq!(std::fs::read(&path).unwrap(), content, "it is left as it is");
    }
}

#[tokio::test]
async fn damage_anywhere_is_found_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    for i in 0..200_u32 {
        store.txn(put(&format!("/k/{i:04}"), vec![b'v'; 300])).await.unwrap();
    }
    let whole = store.range("").await.unwrap();
    drop(store);
    let sound = std::fs::read(&path).unwrap();
    let mut found = 0;
    for at in (0..sound.len()).step_by(sound.len() / 150) {
        let mut damaged = sound.clone();
        for byte in damaged.iter_mut().skip(at).take(64) {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, &damaged).unwrap();
        match Embedded::open(&path) {
            Ok(store) => drop(store.range("").await),
            Err(StoreError::Corrupt { .. }) => found += 1,
            Err(other) => panic!("at {at}: {other:?}"),
        }
    }
    assert!(found > 0);
    std::fs::write(&path, &sound).unwrap();
    assert_eq!(Embedded::open(&path).unwrap().range("").await.unwrap(), whole);
}

/// In a mount namespace of its own with a tiny file system: the real error, not an imitation.
#[test]
fn a_full_disk_refuses_changes_by_name_and_reading_goes_on() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fill_up(&dir.path().join("store.redb"), &dir.path().join("ballast")));
        drop(runtime);
        nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    })
    .join()
    .unwrap();
}

async fn fill_up(path: &Path, ballast: &Path) {
    let store = Embedded::open(path).unwrap();
    store.txn(put("/first", vec![1])).await.unwrap();
    std::fs::write(ballast, vec![0; 1 << 20]).unwrap();
    let mut last = 0;
    let error = loop {
        match store.txn(put(&format!("/k/{last}"), vec![0; 100_000])).await {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("store.redb"));
    assert!(last > 0);
    for _ in 0..3 {
        assert_eq!(store.get("/first").await.unwrap().unwrap().value, [1]);
        assert!(store.txn(put("/big", vec![0; 2_000_000])).await.is_err());
    }
    drop(store);
    let store = Embedded::open(path).unwrap();
    assert_eq!(store.range("/k/").await.unwrap().entries.len(), last);

    std::fs::remove_file(ballast).unwrap();
    let txn = Txn { compare: vec![Compare::Value("/first".into(), vec![1])], ..put("/after", vec![2]) };
    assert!(matches!(store.txn(txn).await.unwrap(), Outcome::Committed(_)));
}

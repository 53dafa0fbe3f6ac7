use futures_util::StreamExt;

use super::*;
use crate::store::Compare;

fn put(key: &str, value: Vec<u8>) -> Txn {
    Txn { compare: Vec::new(), then: vec![Write::Put { key: key.into(), value: value.into(), lease: None }] }
}

/// What `open` gives as soon as nobody has the store: a copy that is being made holds it until it is done.
async fn when_free<T>(open: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let attempts = async {
        loop {
            match open() {
                Err(StoreError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
                opened => break opened,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), attempts).await.expect("a copy takes no seconds")
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_older_history_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let then = vec![Write::Put { key: "/leased".into(), value: vec![1].into(), lease: Some(lease) }];
    store.txn(Txn { compare: Vec::new(), then }).await.unwrap();
    let Outcome::Committed(revision) = store.txn(put("/a", vec![2])).await.unwrap() else { panic!() };
    drop(store);

    let store = when_free(|| Embedded::open(&path)).await.unwrap();
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

/// Fills a store over several commits, and gives its content.
async fn filled(path: &Path) -> Range {
    let store = Embedded::open(path).unwrap();
    for i in 0..120_u32 {
        store.txn(put(&format!("/k/{i:04}"), vec![b'v'; 300])).await.unwrap();
    }
    let content = store.range("").await.unwrap();
    copied(path, content.revision).await;
    drop(store);
    // Whoever made the copy lets go of the store a moment after it.
    drop(when_free(|| Embedded::read(path)).await.unwrap());
    content
}

/// Waits for the copy of a revision.
async fn copied(path: &Path, revision: Revision) {
    let newest = || copies::newest(path).is_some_and(|copy| copy.revision == revision);
    tokio::time::timeout(Duration::from_secs(20), async {
        while !newest() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("a copy of the last change");
}

/// However the file is damaged, it is whole or refused, with the remedy named, and the copy puts it back.
#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_is_found_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let whole = filled(&path).await;
    let sound = std::fs::read(&path).unwrap();
    let flips = (0..sound.len()).step_by(sound.len() / 150).chain(0..400).map(|at| {
        let mut damaged = sound.clone();
        let length = if at < 400 { 1 } else { 64 };
        damaged.iter_mut().skip(at).take(length).for_each(|byte| *byte ^= 0x5a);
        (format!("{length} octets altered at {at}"), damaged)
    });
    let cuts =
        (0..sound.len()).step_by(sound.len() / 60).map(|end| (format!("cut off at {end}"), sound[..end].to_vec()));
    let mut refused = 0;
    for (what, damaged) in flips.chain(cuts) {
        std::fs::write(&path, &damaged).unwrap();
        match Embedded::read(&path) {
            Ok(found) => assert_eq!(found.range(""), whole.entries, "{what}"),
            Err(error @ StoreError::Corrupt { .. }) => {
                refused += 1;
                assert!(error.to_string().contains("skepd repair"), "{what}: {error}");
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    assert!(refused > 100, "{refused}");
    let copy = copies::newest(&path).unwrap();
    let kept = Embedded::replace(&path, &copy).unwrap().unwrap();
    assert!(kept.exists());
    assert_eq!(Embedded::open(&path).unwrap().range("").await.unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_the_one_of_its_copies_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    drop(Embedded::open(&path).unwrap());
    let empty = std::fs::read(&path).unwrap();
    filled(&path).await;
    for (what, content) in [("older", Some(&empty)), ("empty", Some(&Vec::new())), ("gone", None)] {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = Embedded::open(&path).err().unwrap();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error:?}");
    }
    assert_eq!(Embedded::copies(&path).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_under_a_running_store_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    filled(&path).await;
    let store = Embedded::open(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 65_536], 0).unwrap();
    // What the next commit finds depends on what redb still knows by itself; the one after a restart finds the damage.
    for i in 0..50_u32 {
        store.txn(put(&format!("/after/{i}"), vec![1])).await.unwrap();
    }
    let content = store.range("").await.unwrap();
    assert_eq!(content.entries.len(), 170);
    copied(&path, content.revision).await;
    drop(store);
    match when_free(|| Embedded::read(&path)).await {
        Ok(found) => assert_eq!(found.range(""), content.entries),
        Err(StoreError::Corrupt { .. }) => assert_eq!(copies::newest(&path).unwrap().range(""), content.entries),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_stays_small_however_often_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    let length = || std::fs::metadata(&path).unwrap().len();
    let mut largest = 0;
    for round in 0..20_u32 {
        // Large values, written and removed: what makes a file grow.
        for i in 0..5_u32 {
            store.txn(put(&format!("/large/{i}"), vec![0; 400_000])).await.unwrap();
        }
        for i in 0..100_u32 {
            store.txn(put(&format!("/small/{i}"), round.to_le_bytes().to_vec())).await.unwrap();
        }
        largest = largest.max(length());
        let deletes = (0..5_u32).map(|i| Write::Delete(format!("/large/{i}"))).collect();
        store.txn(Txn { compare: Vec::new(), then: deletes }).await.unwrap();
    }
    let content = store.range("").await.unwrap();
    copied(&path, content.revision).await;
    assert!(largest > length(), "it was compacted: {largest} to {}", length());
    assert!(length() <= 4 << 20, "{}", length());
    drop(store);
    let store = when_free(|| Embedded::open(&path)).await.unwrap();
    assert_eq!(store.range("").await.unwrap(), content);
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
    assert!(error.to_string().contains("store.redb") && error.to_string().contains("MiB"), "{error}");
    assert!(last > 0);
    for _ in 0..3 {
        assert_eq!(*store.get("/first").await.unwrap().unwrap().value, [1]);
        assert!(store.txn(put("/big", vec![0; 2_000_000])).await.is_err());
    }
    drop(store);
    let store = when_free(|| Embedded::open(path)).await.unwrap();
    assert_eq!(store.range("/k/").await.unwrap().entries.len(), last);

    assert!(store.txn(put("/big", vec![0; 2_000_000])).await.is_err());
    std::fs::remove_file(ballast).unwrap();
    let txn = Txn { compare: vec![Compare::Value("/first".into(), vec![1].into())], ..put("/after", vec![2]) };
    assert!(matches!(store.txn(txn).await.unwrap(), Outcome::Committed(_)));
}

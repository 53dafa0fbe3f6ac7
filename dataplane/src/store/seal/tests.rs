//! What is sealed opens with its key, in its place, as a whole; and the key's file is what skepd made or nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use proptest::prelude::*;

use super::*;
use crate::model::secret::example;
use crate::model::{EnvironmentKey, KeptCredentials, ServiceKey};
use crate::store::{Embedded, Txn};

fn place(service: &str) -> Key<Sealed<KeptCredentials>> {
    let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
    schema::secret(&ServiceKey { environment, service: service.into() })
}

fn altered(sealed: &Sealed<KeptCredentials>, at: usize, bit: u8) -> Sealed<KeptCredentials> {
    let mut octets = sealed.0.clone();
    octets[at] ^= 1 << bit;
    Sealed(octets, PhantomData)
}

#[test]
fn a_record_opens_in_its_own_place_with_its_own_key_and_shows_nothing() {
    let (key, other) = (ClusterKey([1; LENGTH]), ClusterKey([2; LENGTH]));
    let record = example("hunter2");
    let sealed = key.seal(&place("postgres"), &record).unwrap();
    assert_eq!(key.unseal(&place("postgres"), &sealed).unwrap(), record);
    assert_ne!(sealed, key.seal(&place("postgres"), &record).unwrap(), "a new nonce each time");

    let elsewhere = key.unseal(&place("mysql"), &sealed).unwrap_err();
    assert!(matches!(elsewhere, SealedError::Forged { .. }), "{elsewhere}");
    let with_other = other.unseal(&place("postgres"), &sealed).unwrap_err();
    assert!(matches!(with_other, SealedError::OtherKey { .. }), "{with_other}");
    let newer = key.unseal(&place("postgres"), &altered(&sealed, 0, 1)).unwrap_err();
    assert!(matches!(newer, SealedError::Format { found: 3, .. }), "{newer}");

    let stored = String::from_utf8(serde_json::to_vec(&sealed).unwrap()).unwrap();
    let shown = format!("{stored} {sealed:?} {key:?} {newer} {elsewhere} {with_other}");
    assert!(!shown.contains("hunter2") && !shown.contains(&STANDARD.encode([1; LENGTH])), "{shown}");
    assert_eq!(serde_json::from_str::<Sealed<KeptCredentials>>(&stored).unwrap(), sealed);
    assert!(serde_json::from_str::<Sealed<KeptCredentials>>("\"no base64!\"").is_err());
}

proptest! {
    #[test]
    fn nothing_altered_or_cut_off_opens(
        key: [u8; LENGTH], password in ".{0,40}", at: prop::sample::Index, bit in 0_u8..8,
    ) {
        let key = ClusterKey(key);
        let record = example(&password);
        let sealed = key.seal(&place("postgres"), &record).unwrap();
        prop_assert_eq!(key.unseal(&place("postgres"), &sealed).unwrap(), record);
        let at = at.index(sealed.0.len());
        prop_assert!(key.unseal(&place("postgres"), &altered(&sealed, at, bit)).is_err());
        let cut = Sealed(sealed.0[..at].to_vec(), PhantomData);
        prop_assert!(key.unseal(&place("postgres"), &cut).is_err());
    }
}

#[test]
fn a_key_is_made_once_and_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ClusterKey::open(dir.path()).unwrap(), None);
    let key = ClusterKey::open_or_make(dir.path()).unwrap();
    assert_eq!(ClusterKey::open_or_make(dir.path()).unwrap(), key);
    assert_eq!(ClusterKey::open(dir.path()).unwrap(), Some(key.clone()));
    let file = fs::metadata(dir.path().join(CLUSTER_KEY_FILE)).unwrap();
    assert_eq!((file.mode() & 0o7777, file.len()), (0o600, 32));
    assert_ne!(ClusterKey::open_or_make(tempfile::tempdir().unwrap().path()).unwrap(), key);
    assert_eq!(ClusterKey::from_exposed(&key.expose()), Some(key));
    assert_eq!(ClusterKey::from_exposed("short"), None);
}

#[test]
fn a_file_that_is_not_as_skepd_makes_it_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CLUSTER_KEY_FILE);
    let refused = |remedy: &str| {
        let opened = ClusterKey::open(dir.path()).unwrap_err();
        let made = ClusterKey::open_or_make(dir.path()).unwrap_err();
        assert_eq!(opened.to_string(), made.to_string());
        assert!(opened.to_string().contains(remedy), "{opened}");
        opened
    };
    ClusterKey::open_or_make(dir.path()).unwrap();
    for mode in [0o644, 0o640, 0o601] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = refused(&format!("chmod 600 {}", path.display()));
        let ClusterKeyError::Private(PrivateFileError::Mode { mode: found, .. }) = error else { panic!("{error}") };
        assert_eq!(found, mode);
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    for length in [0, 31, 33] {
        fs::write(&path, vec![7; length]).unwrap();
        let error = refused("skepd restore");
        assert!(matches!(error, ClusterKeyError::Length { found, .. } if found == length), "{error}");
    }
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(refused("cannot read"), ClusterKeyError::Private(PrivateFileError::File { .. })));
    // Only root can give a file away.
    if nix::unistd::geteuid().is_root() {
        fs::remove_file(&path).unwrap();
        ClusterKey::open_or_make(dir.path()).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let error = refused("chown 0");
        let ClusterKeyError::Private(PrivateFileError::Owner { found, own, .. }) = error else { panic!("{error}") };
        assert_eq!((found, own), (12345, 0));
    }
}

#[tokio::test]
async fn no_key_is_made_beside_secrets_that_another_one_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&dir.path().join("store.redb")).unwrap();
    let key = ClusterKey::of_store(dir.path(), &store).await.unwrap();
    let place = place("postgres");
    let sealed = key.seal(&place, &example("hunter2")).unwrap();
    store.txn(Txn::default().put(&place, &sealed).unwrap()).await.unwrap();
    assert_eq!(ClusterKey::of_store(dir.path(), &store).await.unwrap(), key);

    let path = dir.path().join(CLUSTER_KEY_FILE);
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let gone = ClusterKey::of_store(dir.path(), &store).await.unwrap_err();
    assert!(matches!(gone, ClusterKeyError::Gone { secrets: 1, .. }), "{gone}");
    assert!(!path.exists());

    ClusterKey::open_or_make(dir.path()).unwrap();
    let other = ClusterKey::of_store(dir.path(), &store).await.unwrap_err();
    assert!(matches!(other, ClusterKeyError::Sealed(SealedError::OtherKey { .. })), "{other}");

    durable::put(&path, &kept).unwrap();
    let read = schema::get_json(&store, &place).await.unwrap().unwrap().value;
    assert_eq!(
        ClusterKey::of_store(dir.path(), &store).await.unwrap().unseal(&place, &read).unwrap(),
        example("hunter2")
    );
}

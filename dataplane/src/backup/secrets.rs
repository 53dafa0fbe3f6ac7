//! Secrets in a backup: they are sealed with their cluster's key, which goes along, and come up under the key of the
//! machine that they are restored on. That way its key is never missing beside a store, wherever a restore breaks off.

use std::collections::BTreeMap;
use std::path::Path;

use crate::store::{CLUSTER_KEY_FILE, ClusterKey, ClusterKeyError, SealedError, Snapshot, schema};

/// The JSON of secrets by their keys in the store.
pub(super) type Open = BTreeMap<String, Vec<u8>>;

/// The key of a state directory, if there is one: the one that the secrets of `snapshot` are sealed with.
///
/// # Errors
/// [`ClusterKeyError`] when they are not.
pub(super) fn key_of(snapshot: &Snapshot, state_dir: &Path) -> Result<Option<ClusterKey>, ClusterKeyError> {
    let key = ClusterKey::open(state_dir)?;
    match (&key, snapshot.range(schema::secrets().as_str())) {
        (_, secrets) if secrets.is_empty() => {}
        (Some(key), secrets) => secrets.iter().try_for_each(|secret| key.open_entry(secret).map(drop))?,
        (None, secrets) => {
            return Err(ClusterKeyError::Gone { path: state_dir.join(CLUSTER_KEY_FILE), secrets: secrets.len() });
        }
    }
    Ok(key)
}

/// The secrets of a snapshot whose key this is.
///
/// # Errors
/// [`SealedError`] when it is not.
pub(super) fn open(snapshot: &Snapshot, key: Option<&ClusterKey>) -> Result<Open, SealedError> {
    let secrets = snapshot.range(schema::secrets().as_str()).into_iter();
    let open = secrets.map(|secret| match key {
        Some(key) => Ok((secret.key.clone(), key.open_entry(&secret)?)),
        None => Err(SealedError::OtherKey { key: secret.key }),
    });
    open.collect()
}

/// Puts secrets into a snapshot under the key of a state directory. That is made if there is none, and no other secret
/// is lost by that: the snapshot takes the place of the store beside it.
///
/// # Errors
/// [`ClusterKeyError`].
pub(super) fn seal(snapshot: &mut Snapshot, open: Open, state_dir: &Path) -> Result<(), ClusterKeyError> {
    if open.is_empty() {
        return Ok(());
    }
    let key = match ClusterKey::open_or_make(state_dir) {
        Err(ClusterKeyError::Length { path, .. }) => {
            let kept = path.with_file_name(format!("{CLUSTER_KEY_FILE}.kept"));
            let moved = std::fs::rename(&path, kept);
            moved.map_err(|source| ClusterKeyError::Write { path, source })?;
            ClusterKey::open_or_make(state_dir)?
        }
        other => other?,
    };
    for (name, json) in open {
        if let Some(record) = snapshot.entries.get_mut(&name) {
            record.value = key.seal_entry(&name, &json)?.into();
        }
    }
    Ok(())
}

/// The key as text, in what is itself encrypted with the passphrase.
pub(super) mod carried {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::store::ClusterKey;

    pub(in crate::backup) fn serialize<S: Serializer>(
        key: &Option<ClusterKey>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        key.as_ref().map(ClusterKey::expose).serialize(serializer)
    }

    pub(in crate::backup) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ClusterKey>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let key = ClusterKey::from_exposed(&text);
        key.map(Some).ok_or_else(|| serde::de::Error::custom("no cluster key"))
    }
}

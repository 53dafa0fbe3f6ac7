//! Keys that know the type of their value, and what is done by them.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{Compare, Entry, LeaseId, Revision, Store, StoreError, Txn, Write};

/// A key whose value is a `T`.
pub struct Key<T>(pub(super) String, PhantomData<fn() -> T>);

/// A prefix under which every value is a `T`. Always ends in `/`.
pub struct Prefix<T>(String, PhantomData<fn() -> T>);

impl<T> Key<T> {
    pub(super) fn new(key: String) -> Self {
        Self(key, PhantomData)
    }

    /// As the store knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T> Prefix<T> {
    pub(super) fn new(prefix: String) -> Self {
        Self(prefix, PhantomData)
    }

    /// As the store knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value and the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Revision of its last put.
    pub revision: Revision,
}

/// Decodes a value.
///
/// # Errors
/// [`StoreError::Value`] when it is not a `T`.
pub fn decode<T: DeserializeOwned>(entry: &Entry) -> Result<Versioned<T>, StoreError> {
    serde_json::from_slice(&entry.value)
        .map(|value| Versioned { value, revision: entry.revision })
        .map_err(|source| StoreError::Value { key: entry.key.clone(), source })
}

/// Reads one value.
///
/// # Errors
/// [`StoreError`] when the store cannot be read, or the value is not a `T`.
pub async fn get_json<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key<T>,
) -> Result<Option<Versioned<T>>, StoreError> {
    store.get(&key.0).await?.as_ref().map(decode).transpose()
}

/// Reads every value under a prefix, and the revision of that view.
///
/// # Errors
/// [`StoreError`] when the store cannot be read, or a value is not a `T`.
pub async fn range_json<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: &Prefix<T>,
) -> Result<(Vec<Versioned<T>>, Revision), StoreError> {
    let range = store.range(&prefix.0).await?;
    Ok((range.entries.iter().map(decode).collect::<Result<_, _>>()?, range.revision))
}

impl Txn {
    /// Also: the key must have been last written at `revision`; [`None`]: must not exist.
    #[must_use]
    pub fn when<T>(mut self, key: &Key<T>, revision: Option<Revision>) -> Self {
        self.compare.push(match revision {
            Some(revision) => Compare::Revision(key.0.clone(), revision),
            None => Compare::Absent(key.0.clone()),
        });
        self
    }

    /// Also: set the key.
    ///
    /// # Errors
    /// [`StoreError::Value`] when the value has no JSON form.
    pub fn put<T: Serialize>(mut self, key: &Key<T>, value: &T) -> Result<Self, StoreError> {
        self.then.push(Write::json(key, value, None)?);
        Ok(self)
    }

    /// Also: remove the key.
    #[must_use]
    pub fn delete<T>(mut self, key: &Key<T>) -> Self {
        self.then.push(Write::Delete(key.0.clone()));
        self
    }
}

impl Write {
    /// Sets a key to a value's JSON form.
    ///
    /// # Errors
    /// [`StoreError::Value`] when the value has none.
    pub fn json<T: Serialize>(key: &Key<T>, value: &T, lease: Option<LeaseId>) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(value).map_err(|source| StoreError::Value { key: key.0.clone(), source })?;
        Ok(Self::Put { key: key.0.clone(), value: value.into(), lease })
    }
}

//! What the store holds of secrets, nobody reads who has the store alone: values are sealed with the cluster's key, a
//! file in the state directory, by XChaCha20-Poly1305. The path of the store's key is authenticated with them, so that
//! none passes for another one.
//!
//! A sealed value, as base64 in JSON: one octet of format, 8 that name the cluster's key, 24 of nonce, the value's JSON,
//! encrypted, with its tag of 16.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::schema::{self, Key};
use super::snapshot::checksum;
use super::{Entry, Store, StoreError};
use crate::durable;
use crate::private::{self, PrivateFileError};
use crate::random::{self, RandomError};

/// The name of the key's file in the state directory.
pub const CLUSTER_KEY_FILE: &str = "cluster.key";

const LENGTH: usize = 32;
const FORMAT: u8 = 1;
const ID: usize = 8;
const NONCE: usize = 24;
/// What a key's name is made of beside the key.
const ID_CONTEXT: &[u8] = b"skep: the name of a cluster key";

/// Octets of a digest.
const DIGEST: usize = 16;
/// What a digest is made of beside the key and the octets.
const DIGEST_CONTEXT: &[u8] = b"skep: a digest of what is sealed";

/// What the secrets of a store are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; LENGTH]);

/// A `T` that nobody reads without the cluster's key.
pub struct Sealed<T>(Vec<u8>, PhantomData<fn() -> T>);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum ClusterKeyError {
    /// Its file cannot be made.
    #[error("cannot write the cluster key {}, or put it aside: {source}: run skepd as root, or give another --state-dir", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its file cannot be read, or others may read it.
    #[error("the cluster key: {0}")]
    Private(#[from] PrivateFileError),
    /// It is no key.
    #[error(
        "the cluster key {} has {found} octets, not {LENGTH}: put a copy of it there, or restore a backup with \
        `skepd restore --replace`", path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length (octets).
        found: usize,
    },
    /// The file is gone, its secrets are not.
    #[error(
        "the cluster key {} is gone, and {secrets} secret(s) in the store are sealed with it: put a copy of it there, or \
        restore a backup with `skepd restore --replace`", path.display()
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
        /// How many cannot be read.
        secrets: usize,
    },
    /// No key can be made.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret of the store is not sealed with it.
    #[error(transparent)]
    Sealed(#[from] SealedError),
}

/// Why a value cannot be sealed or read.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// Sealed with another key.
    #[error(
        "the secret {key} was sealed with another cluster key: put the {CLUSTER_KEY_FILE} back that belongs to this \
        store, or restore a backup with `skepd restore --replace`"
    )]
    OtherKey {
        /// The key in the store.
        key: String,
    },
    /// Altered, cut off, or put under this key by somebody.
    #[error("the secret {key} was altered, or is another one's: restore a backup with `skepd restore --replace`")]
    Forged {
        /// The key in the store.
        key: String,
    },
    /// Made by a newer version.
    #[error("the secret {key} has format {found}, this skepd knows {FORMAT}: use a newer one")]
    Format {
        /// The key in the store.
        key: String,
        /// Its format.
        found: u8,
    },
    /// The value is not what the key promises.
    #[error("the secret {key} cannot be read ({source}): was it written by a newer skepd?")]
    Value {
        /// The key in the store.
        key: String,
        /// What the decoder said.
        #[source]
        source: serde_json::Error,
    },
    /// No nonce can be had.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl ClusterKey {
    /// The key of a state directory, if it has one.
    ///
    /// # Errors
    /// [`ClusterKeyError`] when the file is not as skepd makes it.
    pub fn open(state_dir: &Path) -> Result<Option<Self>, ClusterKeyError> {
        let path = state_dir.join(CLUSTER_KEY_FILE);
        let Some(content) = private::read(&path, "change the secrets")? else { return Ok(None) };
        let found = content.len();
        let key = content.as_slice().try_into().map_err(|_| ClusterKeyError::Length { path, found })?;
        Ok(Some(Self(key)))
    }

    /// The key of a state directory, which is made if there is none.
    ///
    /// # Errors
    /// [`ClusterKeyError`].
    pub fn open_or_make(state_dir: &Path) -> Result<Self, ClusterKeyError> {
        if let Some(key) = Self::open(state_dir)? {
            return Ok(key);
        }
        let key = Self(random::octets()?);
        key.keep(state_dir)?;
        Ok(key)
    }

    /// Makes it the key of a state directory.
    ///
    /// # Errors
    /// [`ClusterKeyError::Write`].
    pub(crate) fn keep(&self, state_dir: &Path) -> Result<(), ClusterKeyError> {
        let path = state_dir.join(CLUSTER_KEY_FILE);
        durable::put(&path, &self.0).map_err(|source| ClusterKeyError::Write { path, source })
    }

    /// The key of a state directory and of the store in it: made only if there is nothing yet that another one sealed.
    ///
    /// # Errors
    /// [`ClusterKeyError`].
    pub async fn of_store(state_dir: &Path, store: &dyn Store) -> Result<Self, ClusterKeyError> {
        let secrets = store.range(schema::secrets().as_str()).await?.entries;
        if secrets.is_empty() {
            return Self::open_or_make(state_dir);
        }
        let path = state_dir.join(CLUSTER_KEY_FILE);
        let key = Self::open(state_dir)?.ok_or(ClusterKeyError::Gone { path, secrets: secrets.len() })?;
        for secret in &secrets {
            key.open_entry(secret)?;
        }
        Ok(key)
    }

    /// Seals a value for its place in the store.
    ///
    /// # Errors
    /// [`SealedError::Value`] when it has no JSON form, [`SealedError::Random`].
    pub fn seal<T: Serialize>(&self, key: &Key<Sealed<T>>, value: &T) -> Result<Sealed<T>, SealedError> {
        let json = serde_json::to_vec(value);
        let json = json.map_err(|source| SealedError::Value { key: key.as_str().to_owned(), source })?;
        Ok(Sealed(self.encrypt(key.as_str(), &json)?, PhantomData))
    }

    /// Gives what [`Self::seal`] was given.
    ///
    /// # Errors
    /// [`SealedError`] unless it was sealed with this key, for this place.
    pub fn unseal<T: DeserializeOwned>(&self, key: &Key<Sealed<T>>, sealed: &Sealed<T>) -> Result<T, SealedError> {
        let json = self.decrypt(key.as_str(), &sealed.0)?;
        serde_json::from_slice(&json).map_err(|source| SealedError::Value { key: key.as_str().to_owned(), source })
    }

    /// The JSON in a sealed value of the store, whatever it is of.
    ///
    /// # Errors
    /// As [`Self::unseal`].
    pub(crate) fn open_entry(&self, entry: &Entry) -> Result<Vec<u8>, SealedError> {
        let value = |source| SealedError::Value { key: entry.key.clone(), source };
        let sealed: Sealed<serde::de::IgnoredAny> = serde_json::from_slice(&entry.value).map_err(value)?;
        self.decrypt(&entry.key, &sealed.0)
    }

    /// The sealed value of the store with this JSON in it.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) fn seal_entry(&self, key: &str, json: &[u8]) -> Result<Vec<u8>, SealedError> {
        let sealed: Sealed<serde::de::IgnoredAny> = Sealed(self.encrypt(key, json)?, PhantomData);
        serde_json::to_vec(&sealed).map_err(|source| SealedError::Value { key: key.to_owned(), source })
    }

    fn encrypt(&self, key: &str, json: &[u8]) -> Result<Vec<u8>, SealedError> {
        let nonce: [u8; NONCE] = random::octets()?;
        let payload = Payload { msg: json, aad: key.as_bytes() };
        // It fails for messages of hundreds of gigabytes.
        let encrypted = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let encrypted = encrypted.map_err(|_| SealedError::Forged { key: key.to_owned() })?;
        Ok([&[FORMAT], &self.id()[..], &nonce, &encrypted].concat())
    }

    fn decrypt(&self, key: &str, sealed: &[u8]) -> Result<Vec<u8>, SealedError> {
        let forged = || SealedError::Forged { key: key.to_owned() };
        let (format, rest) = sealed.split_first().ok_or_else(forged)?;
        if *format != FORMAT {
            return Err(SealedError::Format { key: key.to_owned(), found: *format });
        }
        let (id, rest) = rest.split_first_chunk::<ID>().ok_or_else(forged)?;
        if *id != self.id() {
            return Err(SealedError::OtherKey { key: key.to_owned() });
        }
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE>().ok_or_else(forged)?;
        let payload = Payload { msg: encrypted, aad: key.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| forged())
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }

    /// A digest of octets that nobody makes, or compares guesses with, who does not have the key.
    pub(crate) fn digest(&self, octets: &[u8]) -> [u8; DIGEST] {
        let sum = checksum(&[DIGEST_CONTEXT, &self.0, octets].concat());
        let mut digest = [0; DIGEST];
        digest.iter_mut().zip(sum).for_each(|(octet, of_sum)| *octet = of_sum);
        digest
    }

    /// Names the key and tells nothing of it.
    fn id(&self) -> [u8; ID] {
        let sum = checksum(&[ID_CONTEXT, &self.0].concat());
        let mut id = [0; ID];
        id.iter_mut().zip(sum).for_each(|(octet, of_sum)| *octet = of_sum);
        id
    }

    /// As text, for what is itself encrypted.
    pub(crate) fn expose(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// From such text.
    pub(crate) fn from_exposed(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(***)")
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Sealed<T> {}

impl<T> std::fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} octets)", self.0.len())
    }
}

impl<T> Serialize for Sealed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de, T> Deserialize<'de> for Sealed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(|octets| Self(octets, PhantomData)).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;

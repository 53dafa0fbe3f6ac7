//! Files that a service's containers have from the start: Compose's `configs` and `secrets`, and what it takes from beside
//! the compose file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::EnvironmentSpec;

/// Largest content of one file, in octets: a value of etcd holds 1.5 MiB, and it is written there as text, encrypted.
pub const FILE_MAX: usize = 512 << 10;
/// Most octets of all files of an environment together.
pub const FILES_MAX: usize = 4 << 20;
/// Whoever may start the container reads it, and nobody changes it.
pub const MODE: u32 = 0o444;

/// A file in a container. Its content is kept apart, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct File {
    /// Name of its content: a keyed digest; in [`Wanted`], one of [`Wanted::contents`].
    pub content: String,
    /// Permissions, as chmod(2) has them.
    pub mode: u32,
    /// Number of its owner.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
}

impl File {
    /// Root's, for everybody to read.
    pub fn of(content: String) -> Self {
        Self { content, mode: MODE, uid: 0, gid: 0 }
    }
}

/// What a file holds; shown by nothing. Base64 in JSON.
#[derive(Clone, Default, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = String, format = Byte)]
pub struct Content(Vec<u8>);

impl Content {
    /// Of these octets.
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(octets.into())
    }

    /// The octets themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} octets)", self.0.len())
    }
}

impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets = STANDARD.decode(text);
        octets.map(Self).map_err(serde::de::Error::custom)
    }
}

/// An environment as somebody asks for it: with what its files hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Wanted {
    /// What it is to be.
    #[serde(flatten)]
    pub spec: EnvironmentSpec,
    /// Contents by the names that its files give them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contents: BTreeMap<String, Content>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_shown_by_nothing_and_comes_back_from_json() {
        let content = Content::new(b"hunter2\xff".as_slice());
        assert_eq!(format!("{content:?}"), "Content(8 octets)");
        let json = serde_json::to_string(&content).unwrap();
        assert_eq!(json, "\"aHVudGVyMv8=\"");
        assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
        assert!(serde_json::from_str::<Content>("\"a\"").is_err());
    }
}

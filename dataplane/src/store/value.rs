//! What a key holds.

use std::ops::Deref;
use std::sync::Arc;

/// Octets that are written once and then shared: the state in memory, the history, whoever reads all of it and whoever
/// writes it to a file have the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(Arc<[u8]>);

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Value {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets.into())
    }
}

impl From<&[u8]> for Value {
    fn from(octets: &[u8]) -> Self {
        Self(octets.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::KeyError;
use crate::durable;
use crate::private;
use crate::random;

const LENGTH: usize = 32;

/// Who a node is to its peers; as text, base64, as everywhere with WireGuard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; LENGTH]);

/// What a node proves to be it with. Its octets are shown nowhere, and are wiped when it is dropped.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PublicKey {
    /// From its octets.
    pub fn new(octets: [u8; LENGTH]) -> Self {
        Self(octets)
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl PrivateKey {
    /// Another one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let octets = Zeroizing::new(random::octets::<LENGTH>()?);
        Ok(Self::new(&octets))
    }

    /// From its octets, which the caller has to wipe.
    pub(super) fn new(octets: &[u8; LENGTH]) -> Self {
        Self(StaticSecret::from(*octets))
    }

    /// The one of a file; made, for root alone, when there is none.
    ///
    /// # Errors
    /// [`KeyError`] when it is no key, or others may read it: then they may be this node.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        let text = Zeroizing::new(format!("{}\n", *key.text()));
        durable::put(path, text.as_bytes()).map_err(private::failed("write", path))?;
        Ok(key)
    }

    /// The one of a file, if there is one.
    ///
    /// # Errors
    /// As [`Self::load_or_make`].
    pub fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        let Some(content) = private::read(path, "remove it for another one")? else { return Ok(None) };
        let octets = str::from_utf8(&content).ok().and_then(|text| decode(text.trim()));
        let octets = octets.ok_or_else(|| KeyError::Content { path: path.to_owned() })?;
        Ok(Some(Self::new(&octets)))
    }

    /// What peers know it by.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// For the protocol.
    pub(super) fn secret(&self) -> &StaticSecret {
        &self.0
    }

    /// As hexadecimal digits, for the configuration protocol.
    pub(super) fn hex(&self) -> Zeroizing<String> {
        let octets = Zeroizing::new(self.0.to_bytes());
        hex(&octets)
    }

    fn text(&self) -> Zeroizing<String> {
        let octets = Zeroizing::new(self.0.to_bytes());
        Zeroizing::new(STANDARD.encode(*octets))
    }
}

fn decode(text: &str) -> Option<Zeroizing<[u8; LENGTH]>> {
    let octets = Zeroizing::new(STANDARD.decode(text).ok()?);
    Some(Zeroizing::new(octets.as_slice().try_into().ok()?))
}

/// As hexadecimal digits; the text is wiped, for it may be a secret.
pub(super) fn hex(octets: &[u8; LENGTH]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // At once as long as it gets: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * LENGTH));
    for octet in octets {
        for digit in [octet >> 4, octet & 0xf] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

/// What [`hex`] has written.
pub(super) fn unhex(text: &str) -> Option<Zeroizing<[u8; LENGTH]>> {
    let mut octets = Zeroizing::new([0; LENGTH]);
    let digits = text.as_bytes();
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        *octet = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(octets)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {}", self.public())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|octets| Self(*octets)).ok_or_else(|| KeyError::Text { text: text.to_owned() })
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::PRIVATE_KEY_FILE;
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PRIVATE_KEY_FILE);
        let made = PrivateKey::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(PrivateKey::load_or_make(&path).unwrap().public(), made.public());
        let secret = fs::read_to_string(&path).unwrap();
        assert!(!format!("{made:?}").contains(secret.trim()));
        assert!(!format!("{made:?}").contains(made.hex().as_str()));
    }

    #[test]
    fn what_others_may_read_or_is_no_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PRIVATE_KEY_FILE);
        PrivateKey::load_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = PrivateKey::load_or_make(&path).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "AAAA\n").unwrap();
        let error = PrivateKey::load_or_make(&path).unwrap_err();
        assert!(matches!(error, KeyError::Content { .. }), "{error}");
        assert!(!error.to_string().contains("AAAA"), "{error}");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(PrivateKey::load_or_make(&link).is_err());
    }

    #[test]
    fn keys_read_back_as_they_were_written() {
        let key = PrivateKey::generate().unwrap();
        let text = key.public().to_string();
        assert_eq!(text.parse::<PublicKey>().unwrap(), key.public());
        assert_eq!(serde_json::from_str::<PublicKey>(&format!("\"{text}\"")).unwrap(), key.public());
        assert_eq!(PrivateKey::new(&unhex(&key.hex()).unwrap()).public(), key.public());
        for wrong in ["", "AAAA", &text[1..], "0", &"x".repeat(64)] {
            assert!(wrong.parse::<PublicKey>().is_err() && unhex(wrong).is_none(), "{wrong}");
        }
    }
}

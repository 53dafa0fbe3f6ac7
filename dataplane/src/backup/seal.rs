//! A backup's envelope: a key made of the passphrase by Argon2id, ChaCha20-Poly1305 around the content.
//!
//! ```text
//! magic "SKEPBACK" · u32 format · u32 memory (KiB) · u32 passes · u32 lanes · 16 octets salt    the header
//! 16 octets tag over the header        tells a wrong passphrase from a damaged file
//! the content, encrypted, with its tag (the header is authenticated with it)
//! 32 octets BLAKE2b of all before      tells a damaged file from a hostile one
//! ```
//! Numbers are little-endian. The salt, and with it the key, is new for each file, so that fixed nonces are no repetition.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};

use super::Passphrase;
use crate::random::{self, RandomError};
use crate::store::snapshot::checksum;

const MAGIC: &[u8; 8] = b"SKEPBACK";
const FORMAT: u32 = 1;
const HEADER: usize = 40;
const TAG: usize = 16;
const SUM: usize = 32;
/// RFC 9106 section 4, the second recommended choice: 64 MiB, three passes, four lanes.
const COST: Cost = Cost { memory: 64 << 10, passes: 3, lanes: 4 };
/// A file may ask for at most this much.
const COST_MAX: Cost = Cost { memory: 1 << 20, passes: 64, lanes: 64 };
const OF_HEADER: u8 = 0;
const OF_CONTENT: u8 = 1;

/// What making the key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    /// KiB.
    memory: u32,
    passes: u32,
    lanes: u32,
}

/// Why a file does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Something else.
    #[error("it is no backup of skepd")]
    Foreign,
    /// Cut off or altered by accident.
    #[error("it was cut off or altered: its checksum does not fit; use another copy of it")]
    Damaged,
    /// Another passphrase.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// Altered on purpose: the checksum fits, the seal does not.
    #[error("it was altered by somebody without the passphrase; use another copy of it")]
    Forged,
    /// Made by a newer version.
    #[error("it has format {found}, this skepd knows {FORMAT}: use the skepd that wrote it, or a newer one")]
    Format {
        /// Its format.
        found: u32,
    },
    /// No key can be made.
    #[error("no key can be made of the passphrase ({0}): is there memory left?")]
    Key(String),
    /// No salt can be had.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Encrypts `content`.
///
/// # Errors
/// [`SealError::Key`], [`SealError::Random`].
pub(super) fn seal(content: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, SealError> {
    let salt: [u8; 16] = random::octets()?;
    let mut file = Vec::with_capacity(HEADER + 2 * TAG + content.len() + SUM);
    file.extend(MAGIC);
    file.extend([FORMAT, COST.memory, COST.passes, COST.lanes].map(u32::to_le_bytes).concat());
    file.extend(salt);
    let header = file.clone();
    let cipher = cipher(passphrase, COST, &salt)?;
    let encrypt = |of, msg| {
        cipher.encrypt(&nonce(of), Payload { msg, aad: &header }).map_err(|error| SealError::Key(error.to_string()))
    };
    file.extend(encrypt(OF_HEADER, &[])?);
    file.extend(encrypt(OF_CONTENT, content)?);
    let sum = checksum(&file);
    file.extend(sum);
    Ok(file)
}

/// Gives what [`seal`] was given.
///
/// # Errors
/// [`SealError`] unless the file is exactly what it made, with this passphrase.
pub(super) fn open(file: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, SealError> {
    if !file.starts_with(MAGIC) {
        return Err(SealError::Foreign);
    }
    let (sealed, sum) = file.len().checked_sub(SUM).map(|end| file.split_at(end)).ok_or(SealError::Damaged)?;
    if checksum(sealed) != sum {
        return Err(SealError::Damaged);
    }
    let (header, rest) = sealed.split_at_checked(HEADER).ok_or(SealError::Damaged)?;
    let (tag, content) = rest.split_at_checked(TAG).ok_or(SealError::Damaged)?;
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or(SealError::Damaged)
    };
    let format = number(8)?;
    if format != FORMAT {
        return Err(SealError::Format { found: format });
    }
    let cost = Cost { memory: number(12)?, passes: number(16)?, lanes: number(20)? };
    if cost.memory > COST_MAX.memory || cost.passes > COST_MAX.passes || cost.lanes > COST_MAX.lanes {
        return Err(SealError::Forged);
    }
    let cipher = cipher(passphrase, cost, header.get(24..).unwrap_or_default())?;
    let decrypt = |of, msg| cipher.decrypt(&nonce(of), Payload { msg, aad: header });
    decrypt(OF_HEADER, tag).map_err(|_| SealError::Passphrase)?;
    decrypt(OF_CONTENT, content).map_err(|_| SealError::Forged)
}

fn cipher(passphrase: &Passphrase, cost: Cost, salt: &[u8]) -> Result<ChaCha20Poly1305, SealError> {
    let failed = |error: argon2::Error| SealError::Key(error.to_string());
    let params = Params::new(cost.memory, cost.passes, cost.lanes, None).map_err(failed)?;
    let mut key = Key::default();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(passphrase.as_bytes(), salt, &mut key).map_err(failed)?;
    Ok(ChaCha20Poly1305::new(&key))
}

fn nonce(of: u8) -> Nonce {
    let mut nonce = Nonce::default();
    if let Some(last) = nonce.last_mut() {
        *last = of;
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resum(file: &[u8]) -> Vec<u8> {
        let sealed = &file[..file.len() - SUM];
        [sealed, &checksum(sealed)].concat()
    }

    #[test]
    fn only_the_whole_file_and_the_right_passphrase_open() {
        let (right, wrong) = (Passphrase::from("correct horse"), Passphrase::from("battery staple"));
        let file = seal(b"the store", &right).unwrap();
        assert_eq!(open(&file, &right).unwrap(), b"the store");
        assert!(!file.windows(9).any(|window| window == b"the store"));
        assert_ne!(file, seal(b"the store", &right).unwrap(), "a new salt each time");
        assert_eq!(open(&file, &wrong), Err(SealError::Passphrase));
        for end in 0..file.len() {
            assert!(matches!(open(&file[..end], &right), Err(SealError::Damaged | SealError::Foreign)), "{end}");
        }
        for at in 0..file.len() {
            let mut altered = file.clone();
            altered[at] ^= 1;
            assert!(matches!(open(&altered, &right), Err(SealError::Damaged | SealError::Foreign)), "{at}");
        }
    }

    #[test]
    fn a_forger_who_mends_the_checksum_is_found_out() {
        let passphrase = Passphrase::from("correct horse");
        let file = seal(b"the store", &passphrase).unwrap();
        let altered = |at: usize, to: u8| {
            let mut altered = file.clone();
            altered[at] = to;
            open(&resum(&altered), &passphrase).unwrap_err()
        };
        assert_eq!(altered(8, 2), SealError::Format { found: 2 });
        assert_eq!(altered(15, 0x7f), SealError::Forged, "a terabyte of memory");
        assert_eq!(altered(30, file[30] ^ 1), SealError::Passphrase, "another salt is another key");
        assert_eq!(altered(HEADER + TAG + 3, file[HEADER + TAG + 3] ^ 1), SealError::Forged);
    }
}

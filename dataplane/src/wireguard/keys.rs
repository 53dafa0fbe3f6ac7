use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{KeyError, PrivateKey, PublicKey};
use crate::durable;
use crate::private::failed;

/// The name of the present private key's file in the state directory.
pub const PRIVATE_KEY_FILE: &str = "wireguard.key";
/// The name of the next one's, while there is one.
pub const NEXT_KEY_FILE: &str = "wireguard.next.key";

/// This node's private keys, as files: the present one, and the one that is to take its place.
///
/// Nothing about a change of keys is kept in memory alone: whoever starts next goes on from the files.
#[derive(Debug)]
pub(super) struct Keys {
    state_dir: PathBuf,
    present: PrivateKey,
    next: Option<PrivateKey>,
}

/// What others may know of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeys {
    /// Who this node is to its peers.
    pub present: PublicKey,
    /// Who it is going to be.
    pub next: Option<PublicKey>,
}

impl Keys {
    /// Those of a state directory; the present one is made when there is none.
    pub(super) fn load(state_dir: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            present: PrivateKey::load_or_make(&state_dir.join(PRIVATE_KEY_FILE))?,
            next: PrivateKey::load(&state_dir.join(NEXT_KEY_FILE))?,
            state_dir: state_dir.to_owned(),
        })
    }

    pub(super) fn present(&self) -> &PrivateKey {
        &self.present
    }

    pub(super) fn public(&self) -> PublicKeys {
        PublicKeys { present: self.present.public(), next: self.next.as_ref().map(PrivateKey::public) }
    }

    /// Makes the next one, if there is none.
    pub(super) fn make_next(&mut self) -> Result<(), KeyError> {
        self.next = Some(PrivateKey::load_or_make(&self.state_dir.join(NEXT_KEY_FILE))?);
        Ok(())
    }

    /// The next one becomes the present one, durably; the present one is forgotten.
    pub(super) fn switch(&mut self) -> Result<(), KeyError> {
        let (from, to) = (self.state_dir.join(NEXT_KEY_FILE), self.state_dir.join(PRIVATE_KEY_FILE));
        let next = self.next.as_ref().ok_or(io::ErrorKind::NotFound.into()).map_err(failed("find", &from))?.clone();
        fs::rename(&from, &to).map_err(failed("rename", &from))?;
        (self.present, self.next) = (next, None);
        // When that fails and the power goes, both files may be as they were: the record that others have of this node
        // then names the next one, and it is taken at once.
        Ok(durable::sync_directory(&to).map_err(failed("sync the directory of", &to))?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_next_key_is_made_once_and_takes_the_place_of_the_present_one() {
        let directory = tempfile::tempdir().unwrap();
        let again = || Keys::load(directory.path()).unwrap();
        let mut keys = again();
        let first = keys.public();
        assert_eq!(first.next, None);
        assert!(keys.switch().is_err(), "there is none yet");
        keys.make_next().unwrap();
        let mode = fs::metadata(directory.path().join(NEXT_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let made = keys.public();
        assert!(made.present == first.present && made.next.is_some_and(|next| next != first.present));
        keys.make_next().unwrap();
        assert_eq!((keys.public(), again().public()), (made, made), "whoever starts next goes on with it");
        keys.switch().unwrap();
        let switched = PublicKeys { present: made.next.unwrap(), next: None };
        assert_eq!((keys.public(), again().public()), (switched, switched));
        assert!(!directory.path().join(NEXT_KEY_FILE).exists());
    }
}

//! What nobody may read by accident.

use serde::{Deserialize, Serialize};

/// A text that shows in no log and no error: to have it, one says [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad("***")
    }
}

/// What a database was made with, by Skep or by its user. What is missing, it does without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Whom clients log in as.
    pub user: Option<String>,
    /// With what.
    #[serde(default, with = "exposed")]
    pub password: Option<Secret>,
    /// The name of the database.
    pub database: Option<String>,
    /// Of the administrator, where that is somebody else.
    #[serde(default, with = "exposed")]
    pub root_password: Option<Secret>,
}

/// What the store keeps of a service's credentials, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCredentials {
    /// 1, and one more with each change of the password.
    pub version: u32,
    /// When this version was made: seconds since the epoch.
    pub made: u64,
    /// The volume with the data that they open, as the environment names it; [`None`]: the data is in none.
    pub volume: Option<String>,
    /// What the database knows.
    pub credentials: Credentials,
    /// A change is under way: the database knows either the password above or this one.
    #[serde(default, with = "exposed")]
    pub next: Option<Secret>,
}

impl KeptCredentials {
    /// The change to `password` begins. To be stored before the database is told, so that neither is ever unknown.
    #[must_use]
    pub fn changing(self, password: Secret) -> Self {
        Self { next: Some(password), ..self }
    }

    /// The database has not taken the next password, and never will.
    #[must_use]
    pub fn unchanged(self) -> Self {
        Self { next: None, ..self }
    }

    /// The database knows the next password: it is the one.
    #[must_use]
    pub fn changed(self, now: u64) -> Self {
        match self.next {
            Some(password) => Self {
                version: self.version.saturating_add(1),
                made: now,
                credentials: Credentials { password: Some(password), ..self.credentials },
                next: None,
                ..self
            },
            None => self,
        }
    }
}

/// For records that are sealed before anybody sees them.
mod exposed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(Secret))
    }
}

/// The same for one that is always there.
pub(super) mod exposed_one {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    pub(in super::super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        secret.expose().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Ok(Secret(String::deserialize(deserializer)?))
    }
}

/// A record of a test.
#[cfg(test)]
pub(crate) fn example(password: &str) -> KeptCredentials {
    KeptCredentials {
        version: 1,
        made: 17,
        volume: Some("data".into()),
        credentials: Credentials {
            user: Some("app_1".into()),
            password: Some(Secret::new(password)),
            database: Some("app".into()),
            root_password: Some(Secret::new("root-secret")),
        },
        next: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_by_nothing() {
        let kept = example("hunter2").changing(Secret::new("hunter3"));
        let shown = format!("{kept:?} {kept:#?} {} {:>9}", Secret::new("hunter4"), Secret::new("hunter5"));
        assert!(!shown.contains("hunter") && !shown.contains("root-secret"), "{shown}");
        assert!(shown.contains("***"));
    }

    #[test]
    fn a_change_is_one_version_and_survives_being_written_down_halfway() {
        let before = example("old");
        assert_eq!(before.clone().changed(18), before, "nothing was under way");
        let under_way = before.clone().changing(Secret::new("new"));
        assert_eq!(under_way.credentials, before.credentials);
        let read: KeptCredentials = serde_json::from_slice(&serde_json::to_vec(&under_way).unwrap()).unwrap();
        assert_eq!(read, under_way);
        assert_eq!(read.clone().unchanged(), before);
        let after = read.changed(99);
        assert_eq!((after.version, after.made, after.next), (2, 99, None));
        assert_eq!(after.credentials, Credentials { password: Some(Secret::new("new")), ..before.credentials });
    }
}

//! Who is meant: organisation › project › environment › service › replica.

use serde::{Deserialize, Serialize};

/// Longest label of a DNS name (RFC 1035 section 2.3.4), hence of a project, environment or service.
pub const LABEL_MAX: usize = 63;

/// The zone that belongs to Skep alone.
pub const ZONE: &str = "internal";

/// A name that cannot become a DNS label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing left.
    #[error("the name {0:?} has no letter or digit")]
    Empty(String),
    /// Over 63 octets.
    #[error("the name {name:?} is {len} characters long, {LABEL_MAX} is the most a DNS label holds: shorten it")]
    TooLong {
        /// As given.
        name: String,
        /// After normalisation.
        len: usize,
    },
    /// A character that is in no DNS label.
    #[error("the name {name:?} contains {character:?}: use letters, digits, '-', '_' or spaces")]
    Character {
        /// As given.
        name: String,
        /// The first that does not fit.
        character: char,
    },
}

/// Normalises as users expect: lower case, spaces and underscores become hyphens, hyphens at the ends go.
/// (`My API` → `my-api`; `web_1` → `web-1`.)
///
/// # Errors
/// [`NameError`] when no DNS label (RFC 1123 section 2.1) comes out.
pub fn normalise(name: &str) -> Result<String, NameError> {
    let mut out = String::with_capacity(name.len());
    for character in name.trim().chars() {
        match character {
            'a'..='z' | '0'..='9' | '-' => out.push(character),
            'A'..='Z' => out.push(character.to_ascii_lowercase()),
            ' ' | '_' => out.push('-'),
            _ => return Err(NameError::Character { name: name.to_owned(), character }),
        }
    }
    let out = out.trim_matches('-');
    match out.len() {
        0 => Err(NameError::Empty(name.to_owned())),
        len if len > LABEL_MAX => Err(NameError::TooLong { name: name.to_owned(), len }),
        _ => Ok(out.to_owned()),
    }
}

/// A project's environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnvironmentKey {
    /// Normalised.
    pub project: String,
    /// Normalised; `production` by default.
    pub environment: String,
}

impl std::fmt::Display for EnvironmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.project, self.environment)
    }
}

/// A service of an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceKey {
    /// Whose.
    #[serde(flatten)]
    pub environment: EnvironmentKey,
    /// Normalised.
    pub service: String,
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.environment, self.service)
    }
}

/// A version of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentKey {
    /// Whose.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// 1, 2, 3 …
    pub deployment: u32,
}

impl std::fmt::Display for DeploymentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.service, self.deployment)
    }
}

/// A replica of a service: of one deployment for all its life, counted from 1 in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicaKey {
    /// Whose.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// Version of the service.
    pub deployment: u32,
    /// 1, 2, 3 …
    pub replica: u32,
}

impl EnvironmentKey {
    /// One of its services.
    pub fn service(&self, service: &str) -> ServiceKey {
        ServiceKey { environment: self.clone(), service: service.to_owned() }
    }
}

impl ServiceKey {
    /// One of its deployments.
    pub fn deployment(&self, deployment: u32) -> DeploymentKey {
        DeploymentKey { service: self.clone(), deployment }
    }

    /// One of its replicas.
    pub fn replica(&self, deployment: u32, replica: u32) -> ReplicaKey {
        ReplicaKey { service: self.clone(), deployment, replica }
    }
}

impl ReplicaKey {
    /// Its deployment.
    pub fn of(&self) -> DeploymentKey {
        self.service.deployment(self.deployment)
    }
}

impl std::fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_one_off() {
            true => write!(f, "{}.{}", self.service, self.ordinal()),
            false => write!(f, "{}.{}.{}", self.service, self.deployment, self.replica),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_users_expect() {
        assert_eq!(normalise("My API").as_deref(), Ok("my-api"));
        assert_eq!(normalise(" web_1 ").as_deref(), Ok("web-1"));
        assert!(matches!(normalise("a.b"), Err(NameError::Character { character: '.', .. })));
        assert!(matches!(normalise("--"), Err(NameError::Empty(_))));
        assert!(matches!(normalise(&"x".repeat(64)), Err(NameError::TooLong { len: 64, .. })));
    }
}

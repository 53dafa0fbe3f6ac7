//! Where images come from, and who may have them.

use serde::{Deserialize, Serialize};

use super::secret::{Secret, exposed_one};

/// The registry of names that say none.
pub const DOCKER_HUB: &str = "docker.io";

/// Whom a registry knows us as. The store keeps it sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// Whom.
    pub user: String,
    /// A password or a token.
    #[serde(with = "exposed_one")]
    pub password: Secret,
    /// When it was given: seconds since the epoch.
    pub made: u64,
}

/// The registry of an image, `host` or `host:port`, as Docker reads its name: without a dot, a port or `localhost` the
/// first part is a user of Docker Hub's.
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if is_registry(first) => canonical(first),
        _ => DOCKER_HUB,
    }
}

/// Whether a text is a registry, as an image's name begins with one.
pub fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !label.starts_with('-')
    };
    (host == "localhost" || host.contains('.') || port.is_some())
        && host.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Docker Hub has several names.
pub fn canonical(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_what_docker_takes_it_for() {
        for (image, registry) in [
            ("redis", DOCKER_HUB),
            ("redis:7", DOCKER_HUB),
            ("bitnami/redis:7", DOCKER_HUB),
            ("docker.io/library/redis", DOCKER_HUB),
            ("index.docker.io/library/redis", DOCKER_HUB),
            ("ghcr.io/me/web@sha256:00", "ghcr.io"),
            ("localhost/web", "localhost"),
            ("registry:5000/web:1", "registry:5000"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }

    #[test]
    fn what_is_no_registry_is_none() {
        for text in
            ["", "redis", "https://ghcr.io", "ghcr.io/me", "a..b", "-a.b", "a.b:", "a.b:x", "a.b:99999", "a b.c"]
        {
            assert!(!is_registry(text), "{text:?}");
        }
    }
}

//! Where images are pulled from.

use std::{fmt, net::IpAddr, str::FromStr};

use anyhow::{Error, Result, ensure};

/// A registry, and where in it the images are: `HOST[:PORT][/PREFIX]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registry(String);

impl Registry {
    /// Docker Hub's official images.
    pub const DOCKER_HUB: &str = "docker.io/library";

    /// The full name of an image: `postgres:17-alpine` → `docker.io/library/postgres:17-alpine`.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// Whether it is on this computer: then it may speak plain HTTP, as Docker sees it too.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = host(&self.0);
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Registry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (authority, prefix) = text.split_once('/').map_or((text, None), |(it, prefix)| (it, Some(prefix)));
        let (host, port) = authority.split_once(':').map_or((authority, None), |(it, port)| (it, Some(port)));
        let form = "a registry is HOST[:PORT][/PREFIX], such as registry.example:5000/mirror";
        ensure!(
            !host.is_empty() && host.chars().all(|it| it.is_ascii_alphanumeric() || ".-".contains(it)),
            "host {host:?}: {form}"
        );
        // The grammar of image names: without one of these, `mirror/postgres` is Docker Hub's user `mirror`.
        ensure!(
            host == "localhost" || host.contains('.') || port.is_some(),
            "{host:?} would be a name at Docker Hub: give a domain or a port; {form}"
        );
        ensure!(port.is_none_or(|port| port.parse::<u16>().is_ok()), "port {:?}: {form}", port.unwrap_or_default());
        let part = |part: &str| {
            !part.is_empty()
                && part.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || "._-".contains(it))
        };
        ensure!(
            prefix.is_none_or(|prefix| prefix.split('/').all(part)),
            "prefix {:?}: {form}",
            prefix.unwrap_or_default()
        );
        Ok(Self(text.to_owned()))
    }
}

/// The host of a registry or of an image's full name.
fn host(name: &str) -> &str {
    name.split(['/', ':']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::Registry;

    #[test]
    fn registries_are_what_image_names_begin_with() {
        for good in
            [Registry::DOCKER_HUB, "localhost", "localhost:5000", "mirror:5000/a/b", "127.0.0.1:5000", "ghcr.io/x-y"]
        {
            assert_eq!(good.parse::<Registry>().expect(good).image("redis:8"), format!("{good}/redis:8"));
        }
        for bad in
            ["", "mirror", "mirror/a", ":5000", "a.b:", "a.b:99999", "a.b/", "a.b/A", "a.b//c", "https://a.b", "a.b?c"]
        {
            assert!(bad.parse::<Registry>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_this_computer_is_loopback() {
        let is_loopback = |text: &str| text.parse::<Registry>().expect(text).is_loopback();
        assert!(["localhost/a", "127.0.0.1:5000", "127.8.9.1/a"].into_iter().all(is_loopback));
        assert!(
            !["docker.io/library", "128.0.0.1:5000", "127.0.0.1.example", "localhost.example"]
                .into_iter()
                .any(is_loopback)
        );
    }
}

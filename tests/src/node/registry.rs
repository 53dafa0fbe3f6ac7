//! A registry of images on a node, to pull from.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use super::Node;
use crate::{
    images::{Image, Registry},
    wait::wait_for,
};

/// Where it listens: on the node's loopback, which Docker trusts without TLS.
const ADDRESS: &str = "127.0.0.1:5000";

impl Node {
    /// Starts an empty registry; whoever is in the node's network namespace can pull from it.
    ///
    /// # Errors
    /// Its image cannot be made, or it does not answer within half a minute.
    pub fn start_registry(&self) -> Result<Registry> {
        self.registry(&[], "200")
    }

    /// The same, for those alone whom `htpasswd` has, with a bcrypt hash.
    ///
    /// # Errors
    /// As [`Self::start_registry`].
    pub fn start_private_registry(&self, htpasswd: &str) -> Result<Registry> {
        let file = self.machine().directory().join("htpasswd");
        fs::write(&file, htpasswd)?;
        let mount = format!("--volume={}:/htpasswd:ro", file.display());
        let options = [
            &mount,
            "--env=REGISTRY_AUTH=htpasswd",
            "--env=REGISTRY_AUTH_HTPASSWD_REALM=skep",
            "--env=REGISTRY_AUTH_HTPASSWD_PATH=/htpasswd",
        ];
        // It asks who is there.
        self.registry(&options, "401")
    }

    fn registry(&self, options: &[&str], expected: &str) -> Result<Registry> {
        self.load(&[Image::Registry])?;
        let run = ["run", "--detach", "--network=host", "--name=registry"];
        self.docker(&[&run, options, &[Image::Registry.tag()]].concat())?;
        let url = format!("http://{ADDRESS}/v2/");
        let answered = wait_for("an answer of the registry", Duration::from_secs(30), || {
            let curl = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
            Ok((self.output(&curl)?.stdout == expected.as_bytes()).then_some(()))
        });
        answered.or_else(|error| Err(error.context(self.docker(&["logs", "registry"])?)))?;
        ADDRESS.parse()
    }

    /// Pushes an image that the node's Docker knows as `image` to a registry, there called `name`; gives its digest.
    ///
    /// # Errors
    /// What docker says.
    pub fn push(&self, image: &str, registry: &Registry, name: &str) -> Result<String> {
        let name = registry.image(name);
        self.docker(&["tag", image, &name])?;
        let said = self.docker(&["push", &name])?;
        self.docker(&["rmi", &name])?;
        let digest = said.split_once("digest: ").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(digest.with_context(|| format!("no digest in {said:?}"))?.to_owned())
    }
}

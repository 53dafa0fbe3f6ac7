//! Container images without a registry.

use anyhow::Result;

use crate::machine::Machine;

/// An image that tests use, and its tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Image {
    /// `busybox:latest`: the smallest, with a shell.
    Busybox,
    /// `tools:latest`: Debian with Python, curl, dig, ip, ncat, socat, ping, tcpdump, psql, redis-cli.
    Tools,
    /// `postgres:latest`: PostgreSQL with an entrypoint like the official image's.
    Postgres,
    /// `redis:latest`.
    Redis,
    /// `musl:latest`: busybox with musl's `getaddrinfo` as `/bin/resolve`.
    Musl,
    /// `go:latest`: a Go program with Go's own resolver.
    Go,
}

/// Loads images into a machine's Docker.
pub(crate) fn load(_machine: &Machine, _docker: &str, _images: &[Image]) -> Result<()> {
    anyhow::bail!("no images yet")
}

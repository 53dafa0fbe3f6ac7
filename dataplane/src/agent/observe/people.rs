//! What people do with a replica that runs here: listen, run commands in it, copy files, connect to it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures_util::Stream;
use tokio::net::TcpStream;

use super::Observer;
use crate::agent::AgentError;
use crate::docker::{Attached, Command, DockerError, LogLine, LogQuery, Size};
use crate::netlink::Netns;

impl Observer {
    /// What a container says; see [`Docker::logs`](crate::docker::Docker::logs).
    pub fn logs(&self, container: String, query: LogQuery) -> impl Stream<Item = LogLine> + Send + use<> {
        self.docker.logs(container, query)
    }

    /// See [`Docker::attach`](crate::docker::Docker::attach).
    ///
    /// # Errors
    /// Its.
    pub async fn attach(&self, container: &str, command: &Command) -> Result<Attached, DockerError> {
        self.docker.attach(container, command).await
    }

    /// See [`Docker::is_directory`](crate::docker::Docker::is_directory).
    ///
    /// # Errors
    /// Its.
    pub async fn is_directory(&self, container: &str, path: &str) -> Result<Option<bool>, DockerError> {
        self.docker.is_directory(container, path).await
    }

    /// See [`Docker::read_archive`](crate::docker::Docker::read_archive).
    ///
    /// # Errors
    /// Its.
    pub async fn read_archive(
        &self,
        container: &str,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, DockerError>> + Send + use<>, DockerError> {
        self.docker.read_archive(container, path).await
    }

    /// See [`Docker::write_archive`](crate::docker::Docker::write_archive).
    ///
    /// # Errors
    /// Its.
    pub async fn write_archive(
        &self,
        container: &str,
        directory: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), DockerError> {
        self.docker.write_archive(container, directory, archive).await
    }

    /// See [`Docker::entrypoint`](crate::docker::Docker::entrypoint).
    ///
    /// # Errors
    /// Its.
    pub async fn entrypoint(&self, image: &str) -> Result<Vec<String>, DockerError> {
        self.docker.entrypoint(image).await
    }

    /// See [`Docker::resize`](crate::docker::Docker::resize).
    ///
    /// # Errors
    /// Its.
    pub async fn resize(&self, attached: &str, size: Size) -> Result<(), DockerError> {
        self.docker.resize(attached, size).await
    }

    /// See [`Docker::exit_status`](crate::docker::Docker::exit_status).
    ///
    /// # Errors
    /// Its.
    pub async fn exit_status(&self, attached: &str) -> Result<Option<i64>, DockerError> {
        self.docker.exit_status(attached).await
    }

    /// A connection from within a sandbox's network namespace to a port of its own: of its address or, where nobody listens
    /// there, of its loopback. Nothing of it crosses the packet programs. [`None`]: the sandbox does not run.
    ///
    /// # Errors
    /// Docker's, the kernel's, and within: why nobody answers.
    pub async fn connect(
        &self,
        sandbox: &str,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<Option<io::Result<TcpStream>>, AgentError> {
        let Some(pid) = self.docker.inspect(sandbox).await?.and_then(|found| found.pid) else { return Ok(None) };
        let netns = Netns::of_pid(pid)?;
        let mut connected = Err(io::ErrorKind::AddrNotAvailable.into());
        for address in [address, Ipv4Addr::LOCALHOST] {
            let to = SocketAddr::from((address, port));
            connected = netns.tcp_socket(to).await?.connect(to).await;
            if connected.is_ok() {
                break;
            }
        }
        Ok(Some(connected))
    }
}

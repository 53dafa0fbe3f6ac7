//! Takes everything of Skep off this machine. Goes on after an error, and tells all of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::net::UnixStream;

use crate::agent::{AgentError, Ground};
use crate::bpf::{BpfError, Pins, Programs};
use crate::cluster::Files;
use crate::config::{BPFFS_FILE_NAME, Config, SOCKET_NAME};
use crate::daemon::bpffs_mark;
use crate::docker::{Docker, DockerError, Role};
use crate::forwarder;
use crate::install::{self, InstallError};
use crate::membership::INSTANCE_FILE;
use crate::netlink::{Netlink, NetlinkError};
use crate::store::CLUSTER_KEY_FILE;
use crate::supervisor::SupervisorError;
use crate::wireguard::{self, NEXT_KEY_FILE, PRIVATE_KEY_FILE, WireguardError};

/// Something that is left, and why.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The daemon would make everything anew.
    #[error("skepd still serves {}: stop it first (systemctl stop skepd, or kill its process)", path.display())]
    Running {
        /// The socket.
        path: PathBuf,
    },
    /// Containers or images.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// Devices.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Programs and maps.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// Routes, rules, addresses, sysctls.
    #[error(transparent)]
    Ground(#[from] AgentError),
    /// The tunnel.
    #[error(transparent)]
    Wireguard(#[from] WireguardError),
    /// The DNS forwarder.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// Units, and what was installed with them.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A file or directory.
    #[error("cannot remove {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What there is to take away: for the question beforehand.
///
/// # Errors
/// [`UninstallError::Running`] while a daemon runs that is no unit, [`UninstallError::Docker`] when Docker does not
/// answer.
pub async fn containers(config: &Config) -> Result<Vec<String>, UninstallError> {
    if !(config.is_the_machines() && install::is_running()) {
        must_not_run(config).await?;
    }
    let docker = Docker::connect(&config.docker).await?;
    let containers = docker.list(&config.node_name).await?;
    Ok(containers.into_iter().map(|container| container.name).collect())
}

/// Takes it all away. Named volumes stay: they hold people's data.
///
/// # Errors
/// Every [`UninstallError`]; what could be removed is removed.
pub async fn run(config: Config, purge: bool) -> Result<(), Vec<UninstallError>> {
    let config = Arc::new(config);
    if config.is_the_machines() {
        install::stop().map_err(|error| vec![error.into()])?;
    }
    must_not_run(&config).await.map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    errors.extend(remove_containers(&config).await.err().into_iter().flatten());
    errors.extend(forwarder::supervisor(&config).stop().await.err().map(UninstallError::from));
    errors.extend(wireguard::remove(&config).await.err().map(UninstallError::from));
    match Netlink::connect() {
        Ok(netlink) => {
            errors.extend(remove_devices(&netlink, &config).await);
            let ground = Ground::new(Arc::clone(&config), netlink);
            errors.extend(ground.remove().await.err().into_iter().flatten().map(UninstallError::from));
        }
        Err(error) => errors.push(error.into()),
    }
    let unpinned = Programs::remove_all(&Pins::new(&config.bpffs));
    errors.extend(unpinned.err().into_iter().flatten().map(UninstallError::from));
    errors.extend(unmount(&config));
    errors.extend(remove_files(&config, purge));
    if config.is_the_machines() {
        errors.extend(install::remove().err().into_iter().flatten().map(UninstallError::from));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

async fn must_not_run(config: &Config) -> Result<(), UninstallError> {
    let path = config.socket();
    if UnixStream::connect(&path).await.is_ok() { Err(UninstallError::Running { path }) } else { Ok(()) }
}

/// Workloads are stopped before their network goes, all at once; then everything of this node is removed.
async fn remove_containers(config: &Config) -> Result<(), Vec<UninstallError>> {
    let failed = |error: DockerError| vec![error.into()];
    let docker = Docker::connect(&config.docker).await.map_err(failed)?;
    let containers = docker.list(&config.node_name).await.map_err(failed)?;
    let workloads = containers.iter().filter(|container| container.role == Role::Workload);
    let mut errors = errors(join_all(workloads.clone().map(|container| docker.stop(&container.id))).await);
    errors.extend(self::errors(join_all(workloads.map(|container| docker.remove(&container.id))).await));
    let sandboxes = containers.iter().filter(|container| container.role == Role::Sandbox);
    errors.extend(self::errors(join_all(sandboxes.map(|container| docker.remove(&container.id))).await));
    errors.extend(docker.remove_pause().await.err().map(UninstallError::from));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn errors(results: Vec<Result<(), DockerError>>) -> Vec<UninstallError> {
    results.into_iter().filter_map(Result::err).map(UninstallError::from).collect()
}

async fn remove_devices(netlink: &Netlink, config: &Config) -> Vec<UninstallError> {
    let veths = match netlink.veths(config.container_pool4).await {
        Ok(veths) => veths,
        Err(error) => return vec![error.into()],
    };
    let removed = join_all(veths.iter().map(|veth| netlink.delete_link(&veth.name))).await;
    removed.into_iter().filter_map(Result::err).map(UninstallError::from).collect()
}

/// Unmounts bpffs if skepd mounted it and nobody else uses it.
fn unmount(config: &Config) -> Option<UninstallError> {
    let mark = bpffs_mark(config);
    if !mark.exists() {
        return None;
    }
    let place = config.bpffs.parent().unwrap_or(Path::new("/sys/fs/bpf"));
    let others = std::fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some());
    if !others && let Err(errno) = nix::mount::umount(place) {
        return Some(UninstallError::File { path: place.to_owned(), source: errno.into() });
    }
    remove(&mark).err()
}

/// Only files that are Skep's: the directories may have been given by hand, and hold others'.
fn remove_files(config: &Config, purge: bool) -> Vec<UninstallError> {
    let mut errors = Vec::new();
    let in_run_dir = |name: &str| {
        matches!(name, SOCKET_NAME | BPFFS_FILE_NAME) || name.starts_with("dns") || name.starts_with("tunnel")
    };
    errors.extend(remove_named(&config.run_dir, in_run_dir));
    if purge {
        let files = Files::of(&config.state_dir);
        let removed = files.remove();
        errors.extend(removed.err().map(|source| UninstallError::File { path: files.directory().to_owned(), source }));
        let in_state_dir = |name: &str| {
            let ours = ["store.redb", "etcd.redb", CLUSTER_KEY_FILE].iter().any(|start| name.starts_with(start));
            ours || matches!(name, "sysctls.json" | "machine-id" | INSTANCE_FILE | PRIVATE_KEY_FILE | NEXT_KEY_FILE)
        };
        errors.extend(remove_named(&config.state_dir, in_state_dir));
    }
    errors
}

fn remove_named(directory: &Path, ours: impl Fn(&str) -> bool) -> Vec<UninstallError> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let files = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&ours));
    let errors = files.filter_map(|entry| remove(&entry.path()).err()).collect();
    // With others' files in it, it stays.
    let _kept = std::fs::remove_dir(directory);
    errors
}

fn remove(path: &Path) -> Result<(), UninstallError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(UninstallError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

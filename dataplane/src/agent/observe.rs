//! Looks at Docker, the kernel and the pins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::containers::{Containers, PATIENCE};
use super::desired::Desired;
use super::drain::Drains;
use super::error::AgentError;
use super::foreign::{Own, Reports};
use super::health::Probes;
use super::insides::{Insides, Place};
use super::lives::{Incarnation, Lives};
use super::mesh;
use super::observed::{Exit, Observed, Sandbox, SandboxState, Workload, WorkloadState};
use super::paths::{Path, Paths};
use super::plan::is_as_assigned;
use crate::bpf::{Attached, Maps, Programs};
use crate::config::{Config, TunnelKind};
use crate::docker::{ContainerState, Docker, Executed, ObservedContainer, Role, Volume, sandbox_name, workload_name};
use crate::host::{Installed, InstalledError};
use crate::membership::own_address;
use crate::model::{ReplicaAssignment, ReplicaKey, TunnelRecord};
use crate::netlink::{HostSide, Inside, Netlink, Netns};
use crate::wireguard;

mod maps;
mod senses;

pub(super) use senses::netns;

/// MTU of a container's veth while the node has no uplink.
const MTU_DEFAULT: u32 = 1500;

/// Who looks. It remembers which network namespace a process has, since that takes a thread each to find out.
pub struct Observer {
    pub(super) config: Arc<Config>,
    pub(super) docker: Docker,
    pub(super) netlink: Netlink,
    /// The WireGuard device.
    pub tunnel: wireguard::Tunnel,
    pub(super) maps: Arc<Maps>,
    pub(super) programs: Arc<Programs>,
    pub(super) containers: Containers,
    pub(super) insides: Insides,
    pub(super) own: Own,
    reports: Reports,
    pub(super) lives: Lives,
    pub(super) drains: Drains,
    pub(super) probes: Probes,
    pub(super) paths: Paths,
    namespaces: Mutex<BTreeMap<Incarnation, Namespace>>,
    /// There may be a tunnel: a node without others does not look for one again and again.
    had_tunnel: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Namespace {
    inode: u64,
    cookie: u64,
}

impl Observer {
    /// One that looks through these.
    pub fn new(
        config: Arc<Config>,
        docker: Docker,
        netlink: Netlink,
        tunnel: wireguard::Tunnel,
        maps: Arc<Maps>,
        programs: Arc<Programs>,
    ) -> Self {
        Self {
            drains: Drains::new(config.pools()),
            probes: Probes::default(),
            paths: Paths::default(),
            config,
            docker,
            netlink,
            tunnel,
            had_tunnel: AtomicBool::new(true),
            maps,
            programs,
            containers: Containers::default(),
            insides: Insides::default(),
            own: Own::default(),
            reports: Reports::default(),
            lives: Lives::default(),
            namespaces: Mutex::default(),
        }
    }

    /// Foreign entries that were found in the maps.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The agent has done something to these containers, and perhaps in the replica's namespace.
    pub(super) fn look_again(&self, containers: impl Iterator<Item = String>, key: &ReplicaKey) {
        containers.for_each(|id| self.containers.touch(&id));
        self.insides.touch_replica(key);
    }

    /// Everything, as it is now.
    ///
    /// # Errors
    /// [`AgentError`] when Docker or the kernel does not tell; what is only half known is not worth a plan.
    pub async fn observe(&self, desired: &Desired) -> Result<Observed, AgentError> {
        let host = self.host_side().await?;
        let told = self.docker_tells().await?;
        let mut observed = self.kernel_tells(host, desired, told).await?;
        self.images(desired, &mut observed).await?;
        Ok(observed)
    }

    /// The host's side of all pairs, as it is now.
    pub(super) async fn host_side(&self) -> Result<HostSide, AgentError> {
        Ok(self.netlink.host_side(self.config.container_pool4).await?)
    }

    /// What Docker has under this reference, by digest.
    ///
    /// # Errors
    /// [`AgentError`] when it does not tell.
    pub async fn image(&self, image: &str) -> Result<Option<String>, AgentError> {
        Ok(self.docker.image(image).await?)
    }

    /// Takes a name from an image; false when containers use it.
    ///
    /// # Errors
    /// [`AgentError`] when Docker cannot.
    pub async fn remove_image(&self, image: &str) -> Result<bool, AgentError> {
        Ok(self.docker.remove_image(image).await?)
    }

    /// The named volumes of environments.
    ///
    /// # Errors
    /// [`AgentError`] when Docker does not tell.
    pub async fn volumes(&self) -> Result<Vec<Volume>, AgentError> {
        Ok(self.docker.volumes().await?)
    }

    /// Runs a command in a container of this node.
    ///
    /// # Errors
    /// [`AgentError`] when Docker cannot.
    pub async fn exec(
        &self,
        container: &str,
        command: Vec<String>,
        variables: Vec<String>,
        stdin: &[u8],
    ) -> Result<Executed, AgentError> {
        Ok(self.docker.exec(container, command, variables, stdin).await?)
    }

    /// For how long Docker has not answered; `None` when it does. Asks it: one that hangs tells nobody.
    pub async fn docker_silence(&self) -> Option<Duration> {
        // What it says is remembered.
        let _heard = self.docker.ping(PATIENCE).await;
        self.docker.silence()
    }

    /// While Docker does not answer: what it told last, as far as the kernel still bears it out.
    pub(super) async fn docker_told(&self, last: Option<&Observed>) -> Observed {
        let mut observed = Observed::default();
        if let Some(last) = last {
            observed.sandboxes.clone_from(&last.sandboxes);
            observed.workloads.clone_from(&last.workloads);
            observed.images.clone_from(&last.images);
        }
        let namespaces = self.namespaces.lock().await;
        let inodes: BTreeMap<u32, u64> = namespaces.iter().map(|((_, pid, _), known)| (*pid, known.inode)).collect();
        drop(namespaces);
        for sandbox in observed.sandboxes.values_mut() {
            if let SandboxState::Running { pid, .. } = sandbox.state {
                let inode = Netns::of_pid(pid).ok().map(|netns| netns.inode());
                if inode.is_none() || inode.as_ref() != inodes.get(&pid) {
                    sandbox.state = SandboxState::Dead;
                }
            }
        }
        self.mark_ended(&mut observed);
        observed
    }

    /// The kernel knows before Docker does.
    fn mark_ended(&self, observed: &mut Observed) {
        let ended = self.lives.ended();
        for workload in observed.workloads.values_mut().filter(|workload| ended.contains(&workload.id)) {
            workload.state = WorkloadState::Ending;
        }
    }

    /// What Docker tells: sandboxes, workloads, strays.
    ///
    /// # Errors
    /// [`AgentError`] when it does not.
    pub(super) async fn docker_tells(&self) -> Result<Observed, AgentError> {
        let mut observed = Observed::default();
        self.containers(&mut observed).await?;
        self.mark_ended(&mut observed);
        Ok(observed)
    }

    /// The rest, which the kernel tells; of images nothing is known yet.
    ///
    /// # Errors
    /// [`AgentError`] when the kernel does not tell.
    pub(super) async fn kernel_tells(
        &self,
        host: HostSide,
        desired: &Desired,
        mut observed: Observed,
    ) -> Result<Observed, AgentError> {
        let HostSide { veths, uplinks, .. } = host;
        observed.veths = veths.into_iter().map(|veth| (veth.address4, veth)).collect();
        observed.mtu = uplinks.iter().map(|uplink| uplink.mtu).min().unwrap_or(MTU_DEFAULT);
        observed.uplinks = uplinks.iter().map(|uplink| uplink.ifindex).collect();
        observed.insides = self.insides(desired, &observed).await;
        observed.missing_pins = self.programs.missing_pins()?;
        for (ifindex, state) in self.programs.attached()? {
            match state {
                Attached::Current => drop(observed.attached.insert(ifindex)),
                Attached::Partly => {}
                Attached::Gone => drop(observed.gone.insert(ifindex)),
            }
        }
        observed.keys = Some(self.tunnel.keys());
        observed.tunnel = self.tunnel(desired, &observed).await?;
        observed.superseded = self.programs.superseded()?;
        observed.sockets_attached = self.programs.missing_sockets()?.is_empty();
        observed.tables = maps::read(&self.maps)?;
        self.senses(desired, &mut observed);
        Ok(observed)
    }

    /// The tunnel device, and how it differs from what it should be.
    async fn tunnel(&self, desired: &Desired, observed: &Observed) -> Result<Option<mesh::Tunnel>, AgentError> {
        if !mesh::is_wanted(desired) && !self.had_tunnel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let seen = self.tunnel.see().await?;
        self.had_tunnel.store(seen.is_some(), Ordering::Relaxed);
        let Some(seen) = seen else { return Ok(None) };
        let attached = self.programs.tunnels()?.get(&seen.ifindex) == Some(&Attached::Current);
        Ok(Some(mesh::Tunnel::of(&seen, attached, desired, self.tunnel.keys(), observed.mtu)))
    }

    /// How other nodes reach this one.
    pub(super) fn reached_by(&self, desired: &Desired, observed: &Observed) -> Option<TunnelRecord> {
        if self.config.tunnel == TunnelKind::Off {
            return desired.tunnel.clone();
        }
        let (endpoint, mtu) = match &desired.tunnel {
            // A node that knows of none, and has told once, does not ask again.
            Some(told) if desired.peers.is_empty() => (told.endpoint, told.mtu),
            _ => ((own_address(self.config.node_address)?, self.config.tunnel_port).into(), observed.mtu),
        };
        Some(mesh::record(self.tunnel.keys(), endpoint, mtu, desired))
    }

    /// What is known of the path to a node.
    pub fn path(&self, node: &str) -> Option<Path> {
        self.paths.state(node)
    }

    /// What of the node's programs and maps is as it should be.
    ///
    /// # Errors
    /// [`InstalledError`] when the kernel does not tell.
    pub async fn installed(&self) -> Result<Installed, InstalledError> {
        Installed::look(&self.netlink, self.config.container_pool4, &self.programs, &self.maps).await
    }

    async fn containers(&self, observed: &mut Observed) -> Result<(), AgentError> {
        let mut containers = self.containers.look(&self.docker, &self.config.node_name).await?;
        // Names are unique: of two halves of the same kind, one was renamed by hand.
        containers.sort_by_key(|container| container.name != own_name(container));
        let mut living = BTreeSet::new();
        let mut sandbox_inodes = BTreeMap::new();
        for container in containers.iter().filter(|container| container.role == Role::Sandbox) {
            let namespace = self.namespace(container, &mut living).await;
            sandbox_inodes.insert(&container.key, namespace.map(|namespace| namespace.inode));
            let sandbox = Sandbox {
                id: container.id.clone(),
                state: sandbox_state(container, namespace),
                digest: container.config.clone(),
                paused: container.state == ContainerState::Paused,
                renamed: container.name != sandbox_name(&container.node, &container.key),
            };
            if observed.sandboxes.contains_key(&container.key) {
                observed.strays.insert(container.id.clone());
            } else {
                observed.sandboxes.insert(container.key.clone(), sandbox);
            }
        }
        for container in containers.iter().filter(|container| container.role == Role::Workload) {
            let inode = self.namespace(container, &mut living).await.map(|namespace| namespace.inode);
            let is_over = container.pid.is_some() && self.lives.is_over(&incarnation(container));
            let sandbox = sandbox_inodes.get(&container.key).copied().flatten();
            let workload = Workload {
                id: container.id.clone(),
                state: if is_over { WorkloadState::Ending } else { workload_state(container) },
                sandbox: container.sandbox.clone().unwrap_or_default(),
                astray: inode.is_some() && inode != sandbox,
                digest: container.config.clone(),
                renamed: container.name != workload_name(&container.node, &container.key),
                image: container.image.clone(),
                pid: container.pid,
            };
            if observed.workloads.contains_key(&container.key) {
                observed.strays.insert(container.id.clone());
            } else {
                observed.workloads.insert(container.key.clone(), workload);
            }
        }
        self.lives.retain(&living);
        self.namespaces.lock().await.retain(|incarnation, _| living.contains(incarnation));
        Ok(())
    }

    /// The containers' sides, of the replicas that are plumbed.
    async fn insides(&self, desired: &Desired, observed: &Observed) -> BTreeMap<ReplicaKey, Inside> {
        let namespaces = self.namespaces.lock().await;
        let place = |replica: &Arc<ReplicaAssignment>| {
            let veth = observed.veths.get(&replica.address4)?;
            let SandboxState::Running { pid, cookie } = observed.sandboxes.get(&replica.key)?.state else {
                return None;
            };
            let namespace = namespaces.values().find(|namespace| namespace.cookie == cookie)?;
            Some(Place { key: replica.key.clone(), pid, inode: namespace.inode, number: veth.peer_netns })
        };
        let places = desired.replicas.values().filter_map(place).collect();
        drop(namespaces);
        self.insides.look(places).await
    }

    /// The network namespace that a container lives in; `None` when it has no process (any more).
    async fn namespace(&self, container: &ObservedContainer, living: &mut BTreeSet<Incarnation>) -> Option<Namespace> {
        let pid = container.pid?;
        let incarnation = incarnation(container);
        living.insert(incarnation.clone());
        let mut namespaces = self.namespaces.lock().await;
        if let Some(known) = namespaces.get(&incarnation) {
            return Some(*known);
        }
        let netns = Netns::of_pid(pid).ok()?;
        let namespace = Namespace { inode: netns.inode(), cookie: netns.cookie().await.ok()? };
        namespaces.insert(incarnation, namespace);
        Some(namespace)
    }

    /// Only images that something is to be made of are asked for: an idle node asks for none.
    ///
    /// # Errors
    /// [`AgentError`] when Docker does not tell.
    pub async fn images(&self, desired: &Desired, observed: &mut Observed) -> Result<(), AgentError> {
        let needed = desired.replicas.values().filter(|replica| {
            let workload = observed.workloads.get(&replica.key);
            let sandbox = observed.sandboxes.get(&replica.key);
            !replica.ending
                && (workload.is_none_or(|workload| !is_as_assigned(workload, replica))
                    || sandbox.is_none_or(|sandbox| sandbox.cookie().is_none()))
        });
        let images: BTreeSet<&str> = needed.map(|replica| replica.reference()).collect();
        if !images.is_empty() {
            self.docker.ping(PATIENCE).await?;
        }
        for image in images {
            if self.docker.image(image).await?.is_some() {
                observed.images.insert(image.to_owned());
            }
        }
        Ok(())
    }
}

/// The name that the agent gave it.
fn own_name(container: &ObservedContainer) -> String {
    match container.role {
        Role::Sandbox => sandbox_name(&container.node, &container.key),
        Role::Workload => workload_name(&container.node, &container.key),
    }
}

fn incarnation(container: &ObservedContainer) -> Incarnation {
    (container.id.clone(), container.pid.unwrap_or_default(), container.started_at.clone())
}

fn sandbox_state(container: &ObservedContainer, namespace: Option<Namespace>) -> SandboxState {
    match (container.state, container.pid, namespace) {
        (ContainerState::Created, ..) => SandboxState::Created,
        (ContainerState::Running | ContainerState::Paused, Some(pid), Some(Namespace { cookie, .. })) => {
            SandboxState::Running { pid, cookie }
        }
        _ => SandboxState::Dead,
    }
}

fn workload_state(container: &ObservedContainer) -> WorkloadState {
    let exit = || Exit {
        status: container.exit_code.unwrap_or_default(),
        out_of_memory: container.out_of_memory,
        last_words: container.last_words.clone(),
    };
    match container.state {
        ContainerState::Created => WorkloadState::Created,
        ContainerState::Running => WorkloadState::Running(container.health),
        ContainerState::Restarting => WorkloadState::Restarting { exit: exit(), restarts: container.restarts },
        ContainerState::Paused => WorkloadState::Paused,
        ContainerState::Exited => WorkloadState::Exited { exit: exit(), restarts: container.restarts },
        ContainerState::Dead => WorkloadState::Leaving,
    }
}

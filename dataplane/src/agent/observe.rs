//! Looks at Docker, the kernel and the pins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
use super::observed::{Observed, SandboxState};
use super::paths::Paths;
use super::plan::is_as_assigned;
use crate::bpf::{Attached, Maps, Programs};
use crate::config::Config;
use crate::docker::{Docker, Executed, Volume};
use crate::host::{Installed, InstalledError};
use crate::model::{ReplicaAssignment, ReplicaKey};
use crate::netlink::{HostSide, Inside, Netlink};
use crate::wireguard;

mod docker;
mod maps;
mod people;
mod senses;
mod tunnel;

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

    /// What of the node's programs and maps is as it should be.
    ///
    /// # Errors
    /// [`InstalledError`] when the kernel does not tell.
    pub async fn installed(&self) -> Result<Installed, InstalledError> {
        Installed::look(&self.netlink, self.config.container_pool4, &self.programs, &self.maps).await
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

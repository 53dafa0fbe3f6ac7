//! What this node should be, as the controller assigned it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dataplane_ebpf::abi::Addr;
use ipnet::IpNet;

use super::health::Well;
use crate::config::Config;
use crate::model::rollout::Rollout;
use crate::model::settings::Identity;
use crate::model::spec::PullPolicy;
use crate::model::{
    EnvironmentAssignment, EnvironmentKey, EnvironmentSpec, Placement, ReplicaAssignment, ReplicaKey, ReplicaState,
    Reserved, ServiceAssignment, ServiceKey, ServiceSpec, TunnelRecord,
};
use crate::store::Revision;

/// Everything that [`super::plan()`] wants to be true.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// This node.
    pub node: Node,
    /// Environments with their networks.
    pub environments: BTreeMap<EnvironmentKey, EnvironmentAssignment>,
    /// Services with their VIPs.
    pub services: BTreeMap<ServiceKey, Arc<ServiceAssignment>>,
    /// Revision of the last change of one of these.
    pub revision: Revision,
    /// Replicas of this node.
    pub replicas: BTreeMap<ReplicaKey, Arc<ReplicaAssignment>>,
    /// Replicas of other nodes.
    pub elsewhere: BTreeMap<ReplicaKey, Elsewhere>,
    /// The other nodes, by id.
    pub peers: BTreeMap<u32, Peer>,
    /// Revision of the last change of how one of them is reached.
    pub tunnels: Revision,
    /// How they reach this one, as it has told.
    pub tunnel: Option<TunnelRecord>,
    /// Which change of this node's WireGuard key people want.
    pub rotate: u64,
    /// Environments whose volumes and credentials are to go with them.
    pub discards: BTreeSet<EnvironmentKey>,
}

/// A replica of another node: what this one's maps hold of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Elsewhere {
    /// Id of its node.
    pub node: u32,
    /// Environment id.
    pub env: u32,
    /// Service id.
    pub service_id: u32,
    /// IPv4 address.
    pub address4: Ipv4Addr,
    /// IPv6 address.
    pub address6: Ipv6Addr,
    /// Networks, a bit each.
    pub networks: u64,
    /// How it is, if it runs.
    pub well: Option<Well>,
    /// It ended by itself with status 0.
    pub ended: bool,
}

impl Elsewhere {
    /// Its keys in ENDPOINTS.
    pub fn addresses(&self) -> [Addr; 2] {
        [self.address4.into(), self.address6.into()]
    }

    /// How a replica is of which its node told this last; [`None`]: it does not run. Of a node that is away nobody knows:
    /// it is asked when there is nobody else, since its daemon alone may be away.
    pub fn well(told: Option<ReplicaState>, node: &str, present: bool) -> Option<Well> {
        match told? {
            ReplicaState::Running if present => Some(Well::Healthy),
            ReplicaState::Running => Some(Well::Unhealthy { reason: format!("node {node} is away") }),
            ReplicaState::Unhealthy => Some(Well::Unhealthy { reason: format!("node {node} finds it unhealthy") }),
            _ => None,
        }
    }
}

/// Another node.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Name.
    pub name: String,
    /// How it is reached, once it has told.
    pub tunnel: Option<TunnelRecord>,
    /// Where its replicas' addresses come from.
    pub prefixes: BTreeSet<IpNet>,
    /// Its daemon is there.
    pub present: bool,
    /// Its tunnel is what this node's record says, as far as it has told: it knows this node's next key.
    pub knows: bool,
}

/// What holds for the node as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Id.
    pub id: u32,
    /// Pools, DNS address.
    pub config: Arc<Config>,
}

impl Desired {
    /// An environment as it is assigned.
    pub fn spec_of(&self, key: &EnvironmentKey) -> EnvironmentSpec {
        let services = self.services.values().filter(|service| service.key.environment == *key && !service.leaving);
        EnvironmentSpec {
            key: key.clone(),
            services: services.map(|service| (service.key.service.clone(), service.spec.clone())).collect(),
            networks: BTreeMap::new(),
            volumes: BTreeSet::new(),
        }
    }

    /// The replicas of a service on other nodes.
    pub fn elsewhere_of<'a>(
        &'a self,
        service: &'a ServiceKey,
    ) -> impl Iterator<Item = (&'a ReplicaKey, &'a Elsewhere)> {
        self.elsewhere.range(service.replica(0, 0)..).take_while(move |(key, _)| key.service == *service)
    }

    /// The replicas of a service on this node.
    pub fn replicas_of<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a Arc<ReplicaAssignment>> {
        let first = service.replica(0, 0);
        let from = self.replicas.range(first..);
        from.take_while(move |(key, _)| key.service == *service).map(|(_, replica)| replica)
    }
}

/// A digest of what a workload is made of: another one means another container.
pub fn workload_digest(replica: &ReplicaAssignment) -> String {
    digest(&of_container(&replica.spec))
}

/// What is only about the service as a whole (how many, where, after whom, in which networks, when and how it changes,
/// what the node asks it) is left out: it changes no container.
fn of_container(spec: &ServiceSpec) -> ServiceSpec {
    ServiceSpec {
        replicas: 0,
        stopped: None,
        depends_on: BTreeMap::new(),
        networks: BTreeMap::new(),
        probe: None,
        start_timeout: 0,
        update: Rollout::default(),
        rollback: Rollout::back(),
        drain_timeout: 0,
        reserved: Reserved::default(),
        placement: Placement::default(),
        pull: PullPolicy::default(),
        release: None,
        schedule: None,
        ..spec.clone()
    }
}

/// A digest of what a sandbox is made of.
pub fn sandbox_digest(replica: &ReplicaAssignment, node: &Node) -> String {
    let addresses = (replica.address4, replica.address6, replica.vip4, replica.vip6);
    let sysctls: Vec<_> = replica.spec.sysctls(true).collect();
    let said = (&replica.spec.settings.identity, sysctls);
    // Where nothing is said, as before anything could be.
    let said = (said != (&Identity::default(), Vec::new())).then_some(said);
    match said {
        None => digest(&(&replica.key, addresses, node.config.dns())),
        Some(said) => digest(&(&replica.key, addresses, node.config.dns(), said)),
    }
}

/// FNV-1a over the JSON, in hexadecimal: the values are the operator's own, an accidental change is what must show.
fn digest(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    let hash = json
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rollout::{HealthCheck, Order, Probe};

    #[test]
    fn only_what_a_container_is_made_of_makes_another_one() {
        let made = |change: fn(&mut ServiceSpec)| {
            let mut spec = ServiceSpec::of_image("web:1");
            change(&mut spec);
            digest(&of_container(&spec))
        };
        let as_it_was = made(|_| ());
        let of_the_service: [fn(&mut ServiceSpec); 12] = [
            |s| s.pull = PullPolicy::Always,
            |s| s.replicas = 3,
            |s| s.stopped = Some(3),
            |s| s.probe = Some(Probe::default()),
            |s| s.start_timeout = 1,
            |s| s.update.order = Order::StopFirst,
            |s| s.rollback.delay = 1,
            |s| s.drain_timeout = 1,
            |s| s.release = Some(vec!["migrate".to_owned()]),
            |s| s.schedule = Some("@daily".to_owned()),
            |s| s.reserved.memory = 1,
            |s| s.placement.max_per_node = Some(1),
        ];
        assert!(of_the_service.into_iter().all(|change| made(change) == as_it_was));
        let of_the_container: [fn(&mut ServiceSpec); 6] = [
            |s| s.image = "web:2".to_owned(),
            |s| s.healthcheck = Some(HealthCheck::default()),
            |s| s.stop_signal = Some("SIGQUIT".to_owned()),
            |s| s.stop_grace_period = 1,
            |s| s.port = Some(80),
            |s| s.attempt = 1,
        ];
        assert!(of_the_container.into_iter().all(|change| made(change) != as_it_was));
    }

    #[test]
    fn a_container_of_an_earlier_version_is_not_made_anew() {
        // What this one knew before there was any placement.
        assert_eq!(digest(&of_container(&ServiceSpec::of_image("web:1"))), "59de0621d4caee17");
    }
}

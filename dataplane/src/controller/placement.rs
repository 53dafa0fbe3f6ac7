//! Which node a replica goes to, and what stands against each of the others.
//!
//! What runs stays where it is, whatever becomes of labels and roles: this is asked of what is placed. A replica that
//! has volumes goes to where they are, cordoned or not; all else must hold there, too.

use std::collections::BTreeMap;

use super::state::State;
use crate::model::spec::VolumeMount;
use crate::model::{Condition, ReplicaAssignment, ReplicaKey, Reserved, Role, ServiceKey, ServiceSpec, VolumeKey};

mod against;

use against::Against;

/// What is on the nodes while a transaction is being made.
pub(super) struct Placement<'a> {
    state: &'a State,
    /// Of every node; counted when it is wanted.
    loads: Option<BTreeMap<&'a str, Load>>,
    /// How many replicas of each deployment every node has, of the services that were asked for.
    services: BTreeMap<ServiceKey, Spread>,
    /// Where volumes are put that were nowhere before.
    volumes: BTreeMap<VolumeKey, String>,
}

/// Of one service: node → deployment → replicas.
type Spread = BTreeMap<String, BTreeMap<u32, usize>>;

/// What is on a node.
#[derive(Default)]
struct Load {
    replicas: usize,
    reserved: Reserved,
}

/// Counts a replica that comes, or one that does not after all.
#[derive(Clone, Copy)]
enum Change {
    Comes,
    Goes,
}

impl<'a> Placement<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, loads: None, services: BTreeMap::new(), volumes: BTreeMap::new() }
    }

    /// The node for a replica of this: where its volumes are, else the one with the fewest replicas of its deployment,
    /// then of its service, then with the least reserved, then with the fewest of all, then the first by name.
    pub(super) fn choose(&mut self, key: &ReplicaKey, spec: &ServiceSpec) -> Result<String, Condition> {
        self.count(&key.service);
        if let Some((volume, node)) = self.home(key, spec)? {
            return match self.against_home(&node, key, spec) {
                None => Ok(node),
                Some(against) => Err(against::at_home(key, &volume, &node, &against)),
            };
        }
        let nodes = || self.state.nodes.keys().map(String::as_str);
        let free = nodes().filter(|node| self.against(node, key, spec).is_none());
        if let Some(node) = free.min_by_key(|node| self.rank(node, key)) {
            return Ok(node.to_owned());
        }
        let all: Vec<(&str, Against<'_>)> =
            nodes().filter_map(|node| Some((node, self.against(node, key, spec)?))).collect();
        Err(against::everywhere(key, spec, &all, self.has_another_version(key)))
    }

    /// Says why a node does not take what must be there, cordoned or not.
    pub(super) fn must_take(&mut self, node: &str, key: &ReplicaKey, spec: &ServiceSpec) -> Result<(), Condition> {
        self.count(&key.service);
        match self.home(key, spec)? {
            Some((volume, home)) if home != node => return Err(against::elsewhere(key, &volume, &home, node)),
            _ => {}
        }
        match self.against_home(node, key, spec) {
            Some(against) => Err(against::everywhere(key, spec, &[(node, against)], false)),
            None => Ok(()),
        }
    }

    /// Whether a replica may go on on a node that has not let go of it yet: cordoned or not, it is nothing new there.
    pub(super) fn goes_on(&mut self, node: &str, key: &ReplicaKey, spec: &ServiceSpec) -> bool {
        self.count(&key.service);
        self.against_home(node, key, spec).is_none()
    }

    /// Takes note of where a replica is put.
    pub(super) fn put(&mut self, node: &str, key: &ReplicaKey, spec: &ServiceSpec) {
        for volume in spec.volumes.iter().map(|mount| volume_of(key, mount)) {
            self.volumes.entry(volume).or_insert_with(|| node.to_owned());
        }
        self.change(node, key, spec.reserved, Change::Comes);
    }

    /// Undoes [`Self::put`], but for volumes: they are nowhere, or stay there.
    pub(super) fn take_back(&mut self, replica: &ReplicaAssignment) {
        self.change(&replica.node, &replica.key, replica.spec.reserved, Change::Goes);
    }

    /// Where volumes are put that were nowhere before.
    pub(super) fn into_volumes(self) -> BTreeMap<VolumeKey, String> {
        self.volumes
    }

    fn change(&mut self, node: &str, key: &ReplicaKey, reserved: Reserved, change: Change) {
        let count = |count: &mut usize| match change {
            Change::Comes => *count += 1,
            Change::Goes => *count = count.saturating_sub(1),
        };
        if let Some(load) = self.loads.as_mut().and_then(|loads| loads.get_mut(node)) {
            count(&mut load.replicas);
            load.reserved = match change {
                Change::Comes => load.reserved.with(reserved),
                Change::Goes => load.reserved.without(reserved),
            };
        }
        if let Some(spread) = self.services.get_mut(&key.service) {
            count(spread.entry(node.to_owned()).or_default().entry(key.deployment).or_default());
        }
    }

    /// Counts what is assigned, once.
    fn count(&mut self, service: &ServiceKey) {
        let state = self.state;
        self.loads.get_or_insert_with(|| {
            let mut loads: BTreeMap<&str, Load> =
                state.nodes.keys().map(|node| (node.as_str(), Load::default())).collect();
            for replica in state.replicas.values().map(|replica| &replica.value) {
                if let Some(load) = loads.get_mut(replica.node.as_str()) {
                    load.replicas += 1;
                    load.reserved = load.reserved.with(replica.spec.reserved);
                }
            }
            loads
        });
        if !self.services.contains_key(service) {
            let mut spread = Spread::new();
            for replica in state.replicas_of_service(service).map(|replica| &replica.value) {
                let deployments = spread.entry(replica.node.clone()).or_default();
                *deployments.entry(replica.key.deployment).or_default() += 1;
            }
            self.services.insert(service.clone(), spread);
        }
    }

    /// The less, the better.
    fn rank(&self, node: &str, key: &ReplicaKey) -> impl Ord + use<> {
        let load = self.loads.as_ref().and_then(|loads| loads.get(node));
        let (replicas, reserved) = load.map_or_else(Default::default, |load| (load.replicas, load.reserved));
        let of_service = self.on(node, &key.service).map(|on| on.values().sum::<usize>());
        (self.siblings(node, key), of_service.unwrap_or(0), self.share(node, reserved), replicas)
    }

    /// Millionths that are reserved of what the node has, of the scarcer of the two.
    fn share(&self, node: &str, reserved: Reserved) -> u128 {
        let Some(capacity) = self.state.present.get(node).and_then(|presence| presence.capacity) else { return 0 };
        let part = |of: u64, whole: u64| u128::from(of) * 1_000_000 / u128::from(whole.max(1));
        part(reserved.memory, capacity.memory).max(part(reserved.nano_cpus, capacity.nano_cpus))
    }

    fn on(&self, node: &str, service: &ServiceKey) -> Option<&BTreeMap<u32, usize>> {
        self.services.get(service)?.get(node)
    }

    /// Replicas of the same deployment.
    fn siblings(&self, node: &str, key: &ReplicaKey) -> usize {
        self.on(node, &key.service).and_then(|on| on.get(&key.deployment)).copied().unwrap_or(0)
    }

    fn has_another_version(&self, key: &ReplicaKey) -> bool {
        let mut deployments = self.services.get(&key.service).into_iter().flatten().flat_map(|(_, on)| on);
        deployments.any(|(deployment, replicas)| *deployment != key.deployment && *replicas > 0)
    }

    /// What stands against a replica on a node, if anything does.
    fn against<'s>(&self, node: &str, key: &ReplicaKey, spec: &'s ServiceSpec) -> Option<Against<'s>> {
        let is_cordoned = self.state.present.contains_key(node) && self.state.node_intent(node).cordoned;
        if is_cordoned { Some(Against::Cordoned) } else { self.against_home(node, key, spec) }
    }

    /// The same, cordoned or not.
    fn against_home<'s>(&self, node: &str, key: &ReplicaKey, spec: &'s ServiceSpec) -> Option<Against<'s>> {
        let Some(presence) = self.state.present.get(node) else { return Some(Against::Away) };
        let intent = self.state.node_intent(node);
        if !intent.roles.contains(&Role::Compute) {
            return Some(Against::Role);
        }
        if let Some(constraint) = spec.placement.constraints.iter().find(|it| !it.holds(node, &intent)) {
            return Some(Against::Constraint(constraint));
        }
        let siblings = self.siblings(node, key);
        if spec.placement.max_per_node.is_some_and(|max| siblings >= max as usize) {
            return Some(Against::Crowded(siblings));
        }
        let load = self.loads.as_ref().and_then(|loads| loads.get(node));
        let reserved = load.map(|load| load.reserved).unwrap_or_default();
        let (wanted, capacity) = (reserved.with(spec.reserved), presence.capacity?);
        // Who reserves nothing takes nothing away from others.
        if spec.reserved.memory > 0 && wanted.memory > capacity.memory {
            return Some(Against::Memory { reserved: reserved.memory, of: capacity.memory });
        }
        if spec.reserved.nano_cpus > 0 && wanted.nano_cpus > capacity.nano_cpus {
            return Some(Against::Processors { reserved: reserved.nano_cpus, of: capacity.nano_cpus });
        }
        None
    }

    /// A volume of the replica and the node that has all of them, if they are somewhere already.
    fn home(&self, key: &ReplicaKey, spec: &ServiceSpec) -> Result<Option<(String, String)>, Condition> {
        let known = spec.volumes.iter().filter_map(|mount| {
            let volume = volume_of(key, mount);
            let assigned = self.state.volumes.get(&volume).map(|volume| &volume.value.node);
            let mounted = || {
                let mut replicas = self.state.replicas_of(&volume.environment).map(|replica| &replica.value);
                let mounts = |spec: &ServiceSpec| spec.volumes.iter().any(|mount| mount.volume == volume.volume);
                replicas.find(|replica| mounts(&replica.spec)).map(|replica| &replica.node)
            };
            let node = assigned.or_else(|| self.volumes.get(&volume)).or_else(mounted)?.clone();
            Some((volume.volume, node))
        });
        let known: Vec<(String, String)> = known.collect();
        let Some((volume, node)) = known.first() else { return Ok(None) };
        if let Some((other, elsewhere)) = known.iter().find(|(_, other)| other != node) {
            return Err(Condition {
                message: format!(
                    "{key} mounts {volume}, which is on node {node}, and {other}, which is on {elsewhere}"
                ),
                remedy: "a replica runs where its volumes are: have each service mount volumes of one node".into(),
            });
        }
        Ok(known.into_iter().next())
    }
}

fn volume_of(key: &ReplicaKey, mount: &VolumeMount) -> VolumeKey {
    VolumeKey { environment: key.service.environment.clone(), volume: mount.volume.clone() }
}

//! What the agent does, as data. [`std::fmt::Display`] is the line in the log and in a dry run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use dataplane_ebpf::abi::{
    self, Addr, BackendKey, EgressKey, EgressRule, Endpoint, GrantKey, Identity, ListKey, Listed, Name, NameKey, Node,
    NodeConfig, Ptr, PtrKey, action,
};

use super::names::text_name;
use super::tables::BackendSet;
use crate::docker::Role;
use crate::model::{EnvironmentKey, ReplicaAssignment, ReplicaKey};
use crate::netlink::veth_name;
use crate::wireguard::Change;

/// One step. Each is idempotent; the order in which [`super::plan()`] gives them is the order that is safe.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// NODE.
    ConfigureNode(Box<NodeConfig>),
    /// EGRESS, as a whole.
    SetEgress(BTreeMap<EgressKey, EgressRule>),
    /// EGRESS_LISTS, as a whole.
    SetLists(BTreeMap<ListKey, EgressRule>),
    /// DEVICES, NETNS, ENDPOINTS of a replica that is plumbed already.
    Register(Arc<ReplicaAssignment>),
    /// The WireGuard device.
    MakeTunnel(String),
    /// `from_wireguard`, on the device.
    AttachTunnel(u32),
    /// Of the device.
    ChangeTunnel(Change),
    /// The WireGuard device: no other node is left.
    RemoveTunnel,
    /// The private key that is to take the present one's place.
    MakeNextKey,
    /// The next private key becomes the present one.
    SwitchKey,
    /// NODES; with the node's name.
    PutNode(String, u32, Node),
    /// NODES.
    DropNode(u32),
    /// ENDPOINTS of a replica of another node.
    PutEndpoint(Addr, Endpoint),
    /// The socket programs, at the cgroup.
    AttachSockets,
    /// A pin that somebody removed, of what is held open.
    RestorePin(PathBuf),
    /// Link pins of a device that is gone.
    Unpin(u32),
    /// The pins of another version of the ABI.
    Retire(u32),
    /// NAMES.
    PutName(Place, Box<NameKey>, Name),
    /// NAMES.
    DropName(Place, Box<NameKey>),
    /// PTRS.
    PutPtr(Place, PtrKey, Box<Ptr>),
    /// PTRS.
    DropPtr(Place, PtrKey),
    /// SERVICES and BACKENDS: one write makes the set current.
    SwitchBackends {
        /// Its VIPs: the same set for each.
        keys: Vec<abi::ServiceKey>,
        /// The new set.
        set: BackendSet,
        /// The service's name.
        name: String,
    },
    /// SERVICES and BACKENDS.
    DropService(Place, abi::ServiceKey),
    /// An entry that belongs to nobody.
    DropDevice(u32),
    /// An entry that belongs to nobody.
    DropNetns(u64),
    /// An entry that belongs to nobody.
    DropEndpoint(Addr),
    /// An entry of GRANTS: nobody gives any.
    DropGrant(GrantKey),
    /// An entry of BACKENDS that is in no set.
    DropBackend(BackendKey),
    /// COUNTERS and DROPS of a service that is gone.
    DropCounters(Identity),
    /// A container with our labels that belongs to no replica.
    RemoveStray(String),
    /// A veth pair that belongs to no replica.
    RemoveStrayVeth(String),
    /// The volumes and credentials of an environment that is gone.
    Discard(EnvironmentKey),
    /// A step of one replica.
    Replica(ReplicaKey, Step),
}

/// An environment as people know it: its name, or its id once it is gone.
pub type Place = Arc<str>;

/// A step of one replica. The steps of one replica are done in order; after a failure the rest is left for later.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Has the image there.
    Pull(Arc<ReplicaAssignment>),
    /// Makes the container that owns the network namespace.
    CreateSandbox(Arc<ReplicaAssignment>),
    /// Starts it.
    StartSandbox,
    /// Makes the veth pair with one end in the sandbox; the host's end stays down if it is new.
    Plumb(Arc<ReplicaAssignment>),
    /// DEVICES, NETNS, ENDPOINTS.
    Register(Arc<ReplicaAssignment>),
    /// The programs, on the host's end.
    Attach(Arc<ReplicaAssignment>),
    /// Host's end up, with its routes and neighbours.
    Open(Arc<ReplicaAssignment>),
    /// Makes the container that people asked for, and its volumes.
    CreateWorkload(Arc<ReplicaAssignment>),
    /// Starts it.
    StartWorkload,
    /// Thaws what a person paused.
    Resume(Role),
    /// Gives back the name that a person changed.
    Rename(Role),
    /// Stop signal; SIGKILL after the grace period.
    StopWorkload,
    /// Removes the container.
    RemoveWorkload,
    /// Removes the veth pair.
    Unplumb(String),
    /// Removes the container that owned the network namespace.
    RemoveSandbox,
    /// DEVICES, NETNS, ENDPOINTS: the entries that were the replica's.
    Forget {
        /// Keys in DEVICES.
        devices: Vec<u32>,
        /// Keys in NETNS.
        netns: Vec<u64>,
        /// Keys in ENDPOINTS.
        endpoints: Vec<Addr>,
    },
}

/// Whose turn it is: ops of one subject are done in order, replicas beside each other, the node's first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The maps of the node.
    Node,
    /// One replica.
    Replica(ReplicaKey),
}

impl Op {
    /// Whose turn it is.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Replica(key, _) => Subject::Replica(key.clone()),
            _ => Subject::Node,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigureNode(config) => {
                let uplinks: Vec<_> = config.uplinks.iter().filter(|u| **u != 0).map(ToString::to_string).collect();
                write!(f, "configure node {}: uplinks [{}], epoch {}", config.node, uplinks.join(", "), config.epoch)
            }
            Self::SetEgress(rules) => {
                let all = |action| {
                    rules.iter().filter(move |(_, rule)| rule.action == action).map(|(key, _)| key.to_string())
                };
                let (allowed, listed): (Vec<_>, Vec<_>) = (all(action::ALLOW).collect(), all(action::LISTED).collect());
                let denied = all(action::DENY).count();
                write!(f, "set egress: {} allowed, {denied} prefixes in them denied", allowed.join(" and "))?;
                if listed.is_empty() { Ok(()) } else { write!(f, ", {} for who lists it", listed.join(" and ")) }
            }
            Self::SetLists(lists) => {
                let all: Vec<_> = lists.keys().map(listed).collect();
                write!(f, "set where services say that they may go: [{}]", all.join(", "))
            }
            Self::Register(replica) => Step::Register(Arc::clone(replica)).describe(&replica.key, f),
            Self::MakeTunnel(device) => write!(f, "make the tunnel {device}"),
            Self::AttachTunnel(ifindex) => write!(f, "attach the program to the tunnel, device {ifindex}"),
            Self::ChangeTunnel(change) => write!(f, "tunnel: {change}"),
            Self::MakeNextKey => write!(f, "make the next private key"),
            Self::SwitchKey => write!(f, "take the next private key for the present one"),
            Self::RemoveTunnel => write!(f, "remove the tunnel: there is no other node"),
            Self::PutNode(name, id, node) => {
                write!(f, "node {id} ({name}) is behind device {}, MTU {}", node.ifindex, node.mtu)
            }
            Self::DropNode(id) => write!(f, "forget node {id}: no tunnel leads there"),
            Self::PutEndpoint(address, endpoint) => write!(f, "endpoint {address} is on node {}", endpoint.node),
            Self::AttachSockets => write!(f, "attach the socket programs"),
            Self::RestorePin(pin) => write!(f, "pin {} again", pin.display()),
            Self::Unpin(ifindex) => write!(f, "unpin the programs of device {ifindex}: it is gone"),
            Self::Retire(version) => write!(f, "remove the pins of ABI version {version}: none of its programs runs"),
            Self::PutName(place, key, name) => {
                let vip4 = Addr::from_v4_word(name.vip4);
                write!(f, "name {} in {place} is {vip4} and {}", text_name(&key.name), name.vip6)
            }
            Self::DropName(place, key) => write!(f, "remove name {} from {place}", text_name(&key.name)),
            Self::PutPtr(place, key, ptr) => {
                write!(f, "address {} in {place} is {}", key.addr, text_name(&ptr.name))
            }
            Self::DropPtr(place, key) => write!(f, "remove the name of {} from {place}", key.addr),
            Self::SwitchBackends { keys, set, name } => {
                let vips: Vec<_> = keys.iter().map(|key| key.vip.to_string()).collect();
                write!(f, "switch {name} ({}) to ", vips.join(", "))?;
                if set.backends.is_empty() {
                    return write!(f, "no backend");
                }
                let backends: Vec<_> = set.backends.iter().map(|b| b.address4.to_string()).collect();
                write!(f, "{}", backends.join(", "))
            }
            Self::DropService(place, key) => write!(f, "remove VIP {} from {place}", key.vip),
            Self::DropDevice(ifindex) => write!(f, "forget device {ifindex}: no replica's"),
            Self::DropNetns(cookie) => write!(f, "forget network namespace {cookie}: no replica's"),
            Self::DropEndpoint(addr) => write!(f, "forget endpoint {addr}: no replica's"),
            Self::DropGrant(key) => write!(f, "remove {}", grant(key)),
            Self::DropBackend(BackendKey { service, generation, slot }) => {
                write!(f, "forget backend {slot} of set {generation} of service {service}: in no set")
            }
            Self::DropCounters(Identity { env, service }) => {
                write!(f, "forget the counters of service {service} in environment {env}: it is gone")
            }
            Self::RemoveStray(id) => write!(f, "remove container {id}: no replica's"),
            Self::RemoveStrayVeth(name) => write!(f, "remove device {name}: no replica's"),
            Self::Discard(key) => write!(f, "remove the volumes and credentials of {key}"),
            Self::Replica(key, step) => step.describe(key, f),
        }
    }
}

impl Step {
    fn describe(&self, key: &ReplicaKey, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pull(replica) => write!(f, "pull {} for {key}", replica.reference()),
            Self::CreateSandbox(replica) => {
                write!(f, "create sandbox of {key} for {} and {}", replica.address4, replica.address6)
            }
            Self::StartSandbox => write!(f, "start sandbox of {key}"),
            Self::Plumb(replica) => write!(f, "plumb {key}: {}", veth_name(replica.address4)),
            Self::Register(replica) => write!(
                f,
                "register {key}: {} and {}, {}",
                replica.address4,
                replica.address6,
                if replica.egress { "with egress" } else { "without egress" }
            ),
            Self::Attach(replica) => write!(f, "attach the programs to {} of {key}", veth_name(replica.address4)),
            Self::Open(replica) => write!(f, "set {} of {key} up", veth_name(replica.address4)),
            Self::CreateWorkload(replica) => {
                write!(f, "create {key} from {}", replica.reference())
            }
            Self::StartWorkload => write!(f, "start {key}"),
            Self::Resume(Role::Sandbox) => write!(f, "resume sandbox of {key}"),
            Self::Resume(Role::Workload) => write!(f, "resume {key}"),
            Self::Rename(Role::Sandbox) => write!(f, "name sandbox of {key} as it was"),
            Self::Rename(Role::Workload) => write!(f, "name {key} as it was"),
            Self::StopWorkload => write!(f, "stop {key}"),
            Self::RemoveWorkload => write!(f, "remove {key}"),
            Self::Unplumb(name) => write!(f, "unplumb {key}: {name}"),
            Self::RemoveSandbox => write!(f, "remove sandbox of {key}"),
            Self::Forget { endpoints, .. } => {
                let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
                write!(f, "forget {key}: {}", endpoints.join(", "))
            }
        }
    }
}

/// A GRANTS key.
pub(super) fn grant(key: &GrantKey) -> String {
    let identity = |Identity { env, service }: Identity| format!("service {service} of environment {env}");
    let (source, destination) = (identity(key.source), identity(key.destination));
    format!("the grant from {source} to {destination}, protocol {}, port {}", key.protocol, u16::from_be(key.port))
}

/// An EGRESS_LISTS key.
pub(super) fn listed(key: &ListKey) -> String {
    let Listed { service, list, .. } = key.listed;
    format!("{} in list {list} of service {service}", key.prefix())
}

use dataplane::agent::names::text_name;
use dataplane::bpf::Maps;
use dataplane_ebpf::abi::{
    Addr, Backend, BackendKey, Backends, Budget, Counter, Device, EgressKey, EgressRule, Endpoint, Flow, FlowKey,
    Grant, GrantKey, Identity, ListKey, Listed, Name, NameKey, Netns, Node, NodeConfig, Pod, Pool, Ptr, PtrKey, Sealed,
    Service, ServiceKey, action, flags, map,
};
use serde_json::Value;

use super::record::Record;
use super::{bits, mac};
use crate::directory::Directory;
use crate::drops::{self, DropRow};
use crate::error::CtlError;

/// Turns entries into words.
pub(super) struct Decoder {
    directory: Directory,
}

impl Decoder {
    pub(super) fn new(directory: Directory) -> Self {
        Self { directory }
    }

    /// Every entry of a map, in the order of its keys.
    pub(super) fn records(&self, maps: &Maps, name: &'static str) -> Result<Vec<Record>, CtlError> {
        macro_rules! records {
            ($entries:expr, $decode:expr) => {{
                let mut entries = $entries;
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                entries.iter().map(|(key, value)| $decode(key, value)).collect()
            }};
        }
        Ok(match name {
            map::DEVICES => records!(maps.devices.entries()?, |k, v| self.device(k, v)),
            map::NETNS => records!(maps.netns.entries()?, |k, v| self.netns(k, v)),
            map::ENDPOINTS => records!(maps.endpoints.entries()?, |k, v| self.endpoint(k, v)),
            map::NODES => records!(maps.nodes.entries()?, way),
            map::SERVICES => records!(maps.services.entries()?, |k, v| self.service(k, v)),
            map::BACKENDS => records!(maps.backends.entries()?, |k, v| self.backend(k, v)),
            map::NAMES => records!(maps.names.entries()?, |k, v| self.name(k, v)),
            map::PTRS => records!(maps.ptrs.entries()?, |k, v| self.ptr(k, v)),
            map::GRANTS => records!(maps.grants.entries()?, |k, v| self.grant(k, v)),
            map::EGRESS => records!(maps.egress_rules()?, egress),
            map::EGRESS_LISTS => records!(maps.egress_lists()?, |k, v| self.listed(k, v)),
            map::FLOWS => records!(maps.flows.entries()?, |k, v| self.flow(k, v)),
            map::BUDGETS => records!(maps.budgets.entries()?, |k, v| self.budget(k, v)),
            map::COUNTERS => records!(dataplane::bpf::counters(maps)?, |k, v| self.counter(k, v)),
            map::DROPS => drops::lines(maps, &self.directory)?.iter().map(DropRow::record).collect(),
            map::NODE => vec![node(&maps.node()?)],
            map::SOCKETS => {
                let reason = "it lives in the sockets themselves; `skepctl why` shows what a socket is told";
                return Err(CtlError::NotListed { name: map::SOCKETS, reason });
            }
            _ => {
                let reason = "it is a stream with one reader, skepd; see `skepctl monitor`";
                return Err(CtlError::NotListed { name: map::EVENTS, reason });
            }
        })
    }

    fn device(&self, ifindex: &u32, value: &Device) -> Record {
        self.identity(Record::new(ifindex.to_string()), value.identity)
            .with("interface", self.directory.veth(*ifindex).map(|veth| veth.name.clone()))
            .with("networks", bits(value.networks))
            .with("address", Addr::from_v4_word(value.address4).to_string())
            .with("address6", address(&value.address6))
            .with("mac", mac(value.mac))
            .with("host_mac", mac(value.host_mac))
            .with("egress", value.flags & flags::EGRESS != 0)
            .with("list", list(value.flags))
            .with("sealed", sealed(ifindex, value))
    }

    fn netns(&self, cookie: &u64, value: &Netns) -> Record {
        self.identity(Record::new(cookie.to_string()), value.identity)
            .with("networks", bits(value.networks))
            .with("address", Addr::from_v4_word(value.address4).to_string())
            .with("address6", address(&value.address6))
            .with("egress", value.flags & flags::EGRESS != 0)
            .with("list", list(value.flags))
            .with("sealed", sealed(cookie, value))
    }

    fn endpoint(&self, key: &Addr, value: &Endpoint) -> Record {
        self.identity(Record::new(key.to_string()), value.identity)
            .with("replica", self.directory.replica(value.ifindex))
            .with("networks", bits(value.networks))
            .with("node", value.node)
            .with("ifindex", value.ifindex)
            .with("mac", mac(value.mac))
            .with("sealed", sealed(key, value))
    }

    fn service(&self, key: &ServiceKey, value: &Service) -> Record {
        let set = Backends::from_word(value.backends);
        self.in_environment(key.env, key.vip)
            .with("service", self.directory.service(value.service).map(|entry| entry.service.clone()))
            .with("service_id", value.service)
            .with("networks", bits(value.networks))
            .with("generation", set.generation)
            .with("backends", set.count)
            .with("local", set.local)
            .with("affinity", value.flags & flags::AFFINITY != 0)
            .with("sealed", sealed(key, value))
    }

    fn backend(&self, key: &BackendKey, value: &Backend) -> Record {
        let BackendKey { service, generation, slot } = key;
        Record::new(format!("{service}/{generation}/{slot}"))
            .with("service", self.directory.service(*service).map(ToString::to_string))
            .with("address", Addr::from_v4_word(value.address4).to_string())
            .with("address6", address(&value.address6))
            .with("node", value.node)
            .with("sealed", sealed(key, value))
    }

    fn name(&self, key: &NameKey, value: &Name) -> Record {
        let vip = (value.vip4 != 0).then(|| Addr::from_v4_word(value.vip4).to_string());
        self.in_environment(key.env, text_name(&key.name))
            .with("vip", vip)
            .with("vip6", address(&value.vip6))
            .with("port", (value.port != 0).then_some(value.port))
            .with("networks", bits(value.networks))
            .with("sealed", sealed(key, value))
    }

    fn ptr(&self, key: &PtrKey, value: &Ptr) -> Record {
        self.in_environment(key.env, key.addr)
            .with("name", text_name(&value.name))
            .with("networks", bits(value.networks))
            .with("sealed", sealed(key, value))
    }

    fn grant(&self, key: &GrantKey, value: &Grant) -> Record {
        let who = |identity: Identity| match identity {
            Identity::WORLD => "any".to_owned(),
            identity => self.directory.identity(identity),
        };
        let port = match u16::from_be(key.port) {
            0 => "any".to_owned(),
            port => port.to_string(),
        };
        let protocol = if key.protocol == 0 { "any".to_owned() } else { drops::protocol(key.protocol) };
        Record::new(format!("{} > {} {protocol}/{port}", who(key.source), who(key.destination)))
            .with("action", verb(value.action))
            .with("rule", value.rule)
            .with("sealed", sealed(key, value))
    }

    fn listed(&self, key: &ListKey, value: &EgressRule) -> Record {
        let (Listed { service, list, .. }, prefix) = (key.listed, key.prefix());
        let name = self.directory.service(service).map_or_else(|| service.to_string(), ToString::to_string);
        Record::new(format!("{name}/{list}/{prefix}"))
            .raw_key(format!("{service}/{list}/{prefix}"))
            .with("action", verb(value.action))
            .with("rule", value.rule)
    }

    fn flow(&self, key: &FlowKey, value: &Flow) -> Record {
        Record::new(drops::tuple(key))
            .with("source", self.directory.identity(value.source))
            .with("destination", self.directory.identity(value.destination))
            .with("rule", value.rule)
            .with("epoch", value.epoch)
            .with("idle_s", drops::seconds_since(value.last_seen))
            .with("sealed", sealed(key, value))
    }

    fn budget(&self, ifindex: &u32, value: &Budget) -> Record {
        Record::new(ifindex.to_string())
            .with("interface", self.directory.veth(*ifindex).map(|veth| veth.name.clone()))
            .with("tokens", value.tokens)
            .with("refilled_s", drops::seconds_since(value.refilled))
    }

    fn counter(&self, key: &Identity, value: &Counter) -> Record {
        Record::new(self.directory.identity(*key))
            .raw_key(format!("{}/{}", key.env, key.service))
            .with("sent_packets", value.sent_packets)
            .with("sent_bytes", value.sent_bytes)
            .with("received_packets", value.received_packets)
            .with("received_bytes", value.received_bytes)
            .with("connects", value.connects)
            .with("dns_answers", value.dns_answers)
    }

    /// A key of an environment's id and something, with the environment's name where it is known.
    fn in_environment(&self, env: u32, rest: impl std::fmt::Display) -> Record {
        Record::new(format!("{}/{rest}", self.directory.environment(env))).raw_key(format!("{env}/{rest}"))
    }

    fn identity(&self, record: Record, identity: Identity) -> Record {
        record
            .with("service", self.directory.service(identity.service).map(ToString::to_string))
            .with("environment_id", identity.env)
            .with("service_id", identity.service)
    }
}

fn egress(key: &EgressKey, value: &EgressRule) -> Record {
    Record::new(key.to_string()).with("action", verb(value.action)).with("rule", value.rule)
}

/// The number of the list of where it may go, if it has one.
fn list(flags: u32) -> Option<u32> {
    Some(flags::list(flags)).filter(|list| *list != 0)
}

fn way(node: &u32, value: &Node) -> Record {
    Record::new(node.to_string())
        .with("interface", dataplane::bpf::device_name(value.ifindex))
        .with("ifindex", value.ifindex)
        .with("mtu", value.mtu)
        .with("sealed", sealed(node, value))
}

fn node(value: &NodeConfig) -> Record {
    let uplinks: Vec<u32> = value.uplinks.iter().copied().filter(|ifindex| *ifindex != 0).collect();
    Record::new("0")
        .with("node", value.node)
        .with("dns", value.dns.to_string())
        .with("container_pools", value.container_pools.iter().filter_map(pool).collect::<Vec<_>>())
        .with("vip_pools", value.vip_pools.iter().filter_map(pool).collect::<Vec<_>>())
        .with("uplinks", uplinks)
        .with("host_mark", format!("{:#010x}", value.host_mark))
        .with("pass_mark", format!("{:#010x}", value.pass_mark))
        .with("mark_mask", format!("{:#010x}", value.mark_mask))
        .with("epoch", value.epoch)
}

/// `None` for one that is absent.
fn pool(pool: &Pool) -> Option<String> {
    let ones = u128::from_be_bytes(pool.mask.octets()).leading_ones();
    let length = if pool.network.is_v4() { ones.saturating_sub(96) } else { ones };
    (!pool.mask.is_none()).then(|| format!("{}/{length}", pool.network))
}

fn address(address: &Addr) -> Option<String> {
    (!address.is_none()).then(|| address.to_string())
}

fn verb(number: u32) -> Value {
    match number {
        action::ALLOW => "allow".into(),
        action::DENY => "deny".into(),
        action::LISTED => "listed".into(),
        other => other.into(),
    }
}

/// Whether the value was written, whole, for this key.
fn sealed<K: Pod, V: Sealed>(key: &K, value: &V) -> bool {
    value.is_sealed_for(key)
}

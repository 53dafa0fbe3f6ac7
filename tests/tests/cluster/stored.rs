//! What etcd says the maps of a node should hold, beside what `bpftool` finds in them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use dataplane::model::{NodeRecord, ReplicaAssignment, ReplicaState, ReplicaStatus, ServiceAssignment};
use dataplane::store::schema::{self, Prefix};
use dataplane::store::{Etcd, Range, Store as _};
use serde::de::DeserializeOwned;
use tests::faults::Picture;
use tests::{Cluster, Node};

/// What is in etcd, read without any daemon.
pub(crate) struct Stored {
    nodes: BTreeMap<String, u32>,
    services: Vec<ServiceAssignment>,
    replicas: Vec<ReplicaAssignment>,
    running: BTreeSet<String>,
}

impl Stored {
    pub(crate) fn read(cluster: &Cluster) -> Result<Self> {
        let url = cluster.etcd().url();
        cluster.etcd().machine().netns()?.enter(|| {
            // On this thread alone: what it opens is of that namespace.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let etcd = Etcd::connect(&[url], "/skep", Default::default()).await?;
                let range = etcd.range("").await?;
                let running = all(&range, &schema::statuses())?.into_iter();
                let running = running.filter(|status: &ReplicaStatus| status.state == ReplicaState::Running);
                let nodes = all(&range, &schema::nodes())?.into_iter();
                Ok(Self {
                    nodes: nodes.map(|node: NodeRecord| (node.name, node.id)).collect(),
                    services: all(&range, &schema::services())?,
                    replicas: all(&range, &schema::replicas())?,
                    running: running.map(|status| status.key.to_string()).collect(),
                })
            })
        })
    }

    /// Refuses what is still on its way: a replica that ends or does not run, a version beside another.
    pub(crate) fn must_be_settled(&self) -> Result<()> {
        for replica in &self.replicas {
            ensure!(!replica.ending && self.running.contains(&replica.key.to_string()), "{} is moving", replica.key);
        }
        for service in &self.services {
            let of = self.replicas.iter().filter(|replica| replica.key.service == service.key);
            let wanted = usize::try_from(service.spec.replicas)?;
            ensure!(!service.leaving && service.next.is_none(), "{} is moving", service.key);
            ensure!(of.count() == wanted, "{} has not its {wanted} replicas", service.key);
        }
        Ok(())
    }

    /// Where replicas are.
    pub(crate) fn replicas_on(&self, node: &str) -> usize {
        self.replicas.iter().filter(|replica| replica.node == node).count()
    }

    /// Whether ENDPOINTS, SERVICES, BACKENDS and NODES of a node are what the store says, no more and no less.
    pub(crate) fn must_be_in(&self, node: &Node) -> Result<()> {
        let (wanted, found) = (self.wanted(node)?, found(&Picture::take(node)?));
        let missing: Vec<_> = wanted.difference(&found).collect();
        let foreign: Vec<_> = found.difference(&wanted).collect();
        let name = node.machine().name();
        ensure!(missing.is_empty() && foreign.is_empty(), "{name} lacks {missing:?} and should not have {foreign:?}");
        Ok(())
    }

    fn wanted(&self, node: &Node) -> Result<BTreeSet<String>> {
        let mut lines = BTreeSet::new();
        let id = |name: &str| self.nodes.get(name).copied().with_context(|| format!("no node {name}"));
        let own = id(node.machine().name())?;
        for other in self.nodes.values().filter(|id| **id != own) {
            lines.insert(format!("NODES node {other}"));
        }
        for replica in &self.replicas {
            let ReplicaAssignment { env, service_id, networks, address4, address6, .. } = replica;
            let on = id(&replica.node)?;
            for address in [address4.to_string(), address6.to_string()] {
                let identity = format!("networks {networks} env {env} service {service_id} node {on}");
                lines.insert(format!("ENDPOINTS {address}: {identity}"));
            }
        }
        for service in &self.services {
            let ServiceAssignment { env, id: service_id, networks, vip4, vip6, .. } = service;
            for vip in [vip4.to_string(), vip6.to_string()] {
                lines.insert(format!("SERVICES env {env} {vip}: networks {networks} service {service_id}"));
            }
            let of = self.replicas.iter().filter(|replica| replica.key.service == service.key);
            let backends = of.map(|it| Ok(format!("{} {} on {}", it.address6, it.address4, id(&it.node)?)));
            let mut backends: Vec<String> = backends.collect::<Result<_>>()?;
            backends.sort();
            lines.insert(format!("BACKENDS of service {service_id}: {}", backends.join(", ")));
        }
        Ok(lines)
    }
}

fn all<T: DeserializeOwned>(range: &Range, prefix: &Prefix<T>) -> Result<Vec<T>> {
    let entries = range.entries.iter().filter(|entry| entry.key.starts_with(prefix.as_str()));
    entries.map(|entry| Ok(schema::decode::<T>(entry)?.value)).collect()
}

/// The same of a picture, without what is a node's own affair: devices, flags, MTU.
fn found(picture: &Picture) -> BTreeSet<String> {
    let until = |line: &str, word: &str, more: usize| {
        let words: Vec<&str> = line.split(' ').collect();
        let end = words.iter().rposition(|it| *it == word).map_or(words.len(), |at| at + more);
        words.get(..end).unwrap_or(&words).join(" ")
    };
    let lines = picture.lines().iter().filter_map(|line| match line.split(' ').next()? {
        "ENDPOINTS" => Some(until(line, "node", 2)),
        "SERVICES" => Some(until(line, "service", 2)),
        "NODES" => Some(line.split(':').next()?.to_owned()),
        "BACKENDS" => Some(line.clone()),
        _ => None,
    });
    lines.collect()
}

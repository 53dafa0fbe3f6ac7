//! What stands against a replica on a node, for people.

use std::fmt;

use crate::model::placement::{Attribute, cpus, octets};
use crate::model::{Condition, Constraint, ReplicaKey, ServiceSpec};

/// So many nodes are named.
const NODES_MAX: usize = 5;
/// So many ways out are.
const WAYS_MAX: usize = 3;

/// The first thing that stands against a replica on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Against<'s> {
    /// Nothing is heard of the node.
    Away,
    Cordoned,
    /// It is not one of those that get replicas.
    Role,
    /// It does not hold.
    Constraint(&'s Constraint),
    /// So many of the deployment are there already.
    Crowded(usize),
    /// So many octets of so many are reserved.
    Memory {
        reserved: u64,
        of: u64,
    },
    /// So many billionths of processors of so many are.
    Processors {
        reserved: u64,
        of: u64,
    },
}

impl fmt::Display for Against<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away => f.write_str("away"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Role => f.write_str("not of the role compute"),
            Self::Constraint(Constraint { attribute, equal, value }) => match (attribute, equal) {
                (Attribute::Hostname, true) => write!(f, "is not {value}"),
                (Attribute::Hostname, false) => write!(f, "is {value}"),
                (Attribute::Role, true) => write!(f, "not of the role {value}"),
                (Attribute::Role, false) => write!(f, "of the role {value}"),
                (Attribute::Label(name), true) => write!(f, "no label {name}={value}"),
                (Attribute::Label(name), false) => write!(f, "label {name}={value}"),
            },
            Self::Crowded(1) => f.write_str("one replica of it"),
            Self::Crowded(replicas) => write!(f, "{replicas} replicas of it"),
            Self::Memory { reserved, of } => write!(f, "{} memory of {} reserved", octets(*reserved), octets(*of)),
            Self::Processors { reserved, of } => {
                write!(f, "{} processors of {} reserved", cpus(*reserved), cpus(*of))
            }
        }
    }
}

impl Against<'_> {
    /// What somebody can do about it on this node.
    fn way_out(&self, node: &str) -> String {
        match self {
            Self::Away => format!("bring {node} back"),
            Self::Cordoned => format!("`skepctl nodes uncordon {node}`"),
            Self::Role => format!("give {node} the role compute with `skepctl nodes roles`"),
            Self::Constraint(constraint) => match (&constraint.attribute, constraint.equal) {
                (Attribute::Label(name), true) => format!("`skepctl nodes label {node} {name}={}`", constraint.value),
                _ => format!("change the constraint {constraint}"),
            },
            Self::Crowded(_) => "raise max_replicas_per_node, or add a node".into(),
            Self::Memory { .. } | Self::Processors { .. } => "reserve less, or add a node".into(),
        }
    }
}

/// Its volume is on a node where it may not be.
pub(super) fn at_home(key: &ReplicaKey, volume: &str, node: &str, against: &Against<'_>) -> Condition {
    Condition {
        message: format!("{key} mounts {volume}, which is on node {node}, and that does not take it ({against})"),
        remedy: against.way_out(node),
    }
}

/// Its volume is on another node than the one that it was asked for on.
pub(super) fn elsewhere(key: &ReplicaKey, volume: &str, home: &str, node: &str) -> Condition {
    Condition {
        message: format!("{key} mounts {volume}, which is on node {home}, and this is {node}"),
        remedy: format!("ask on {home}"),
    }
}

/// No node takes it. `is_update`: replicas of another version are there beside it.
pub(super) fn everywhere(
    key: &ReplicaKey,
    spec: &ServiceSpec,
    all: &[(&str, Against<'_>)],
    is_update: bool,
) -> Condition {
    if all.is_empty() {
        return Condition { message: "no node is there".into(), remedy: "start skepd on one".into() };
    }
    let mut nodes: Vec<String> =
        all.iter().take(NODES_MAX).map(|(node, against)| format!("{node}: {against}")).collect();
    if all.len() > NODES_MAX {
        nodes.push(format!("{} more", all.len() - NODES_MAX));
    }
    let mut ways: Vec<String> = Vec::new();
    let mut kinds = Vec::new();
    for (node, against) in all {
        let (kind, way) = (std::mem::discriminant(against), against.way_out(node));
        // One of each kind is enough.
        if !kinds.contains(&kind) && !ways.contains(&way) {
            ways.push(way);
        }
        kinds.push(kind);
    }
    let is_short =
        |(_, against): &(&str, Against<'_>)| matches!(against, Against::Memory { .. } | Against::Processors { .. });
    ways.truncate(WAYS_MAX);
    if is_update && all.iter().any(is_short) {
        ways.push("have the version before stop first (deploy.update_config.order: stop-first)".into());
    }
    let wants = wants(spec).map(|wants| format!(", which reserves {wants}")).unwrap_or_default();
    Condition { message: format!("no node takes {key}{wants} ({})", nodes.join("; ")), remedy: ways.join(", or ") }
}

/// What it reserves.
fn wants(spec: &ServiceSpec) -> Option<String> {
    let memory = (spec.reserved.memory > 0).then(|| format!("{} memory", octets(spec.reserved.memory)));
    let processors = (spec.reserved.nano_cpus > 0).then(|| format!("{} processors", cpus(spec.reserved.nano_cpus)));
    let all: Vec<String> = [memory, processors].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

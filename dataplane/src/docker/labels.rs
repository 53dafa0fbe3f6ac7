//! Labels make a container self-describing: skepd adopts its own by them after a restart, log
//! shippers enrich from them.

use std::collections::HashMap;

use crate::model::{EnvironmentKey, ReplicaKey, ServiceKey};

pub(super) const PROJECT: &str = "skep.project";
pub(super) const ENVIRONMENT: &str = "skep.environment";
pub(super) const SERVICE: &str = "skep.service";
pub(super) const REPLICA: &str = "skep.replica";
pub(super) const DEPLOYMENT: &str = "skep.deployment";
pub(super) const ROLE: &str = "skep.role";
pub(super) const NODE: &str = "skep.node";
pub(super) const CONFIG: &str = "skep.config";
pub(super) const IMAGE: &str = "skep.image";
pub(super) const RECORD: &str = "skep.record";
pub(super) const VOLUME: &str = "skep.volume";

/// Which half of a replica a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Owns the network namespace.
    Sandbox,
    /// Runs the user's image.
    Workload,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Sandbox => "sandbox",
            Self::Workload => "workload",
        })
    }
}

/// What a container's labels say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) key: ReplicaKey,
    pub(super) role: Role,
    pub(super) node: String,
    pub(super) config: String,
}

impl Labels {
    /// `None` when one is missing or makes no sense: such a container is not skepd's work.
    pub(super) fn parse(labels: &HashMap<String, String>) -> Option<Self> {
        let text = |label: &str| labels.get(label).cloned();
        let number = |label: &str| labels.get(label)?.parse().ok();
        let environment = EnvironmentKey { project: text(PROJECT)?, environment: text(ENVIRONMENT)? };
        let service = ServiceKey { environment, service: text(SERVICE)? };
        let role = match labels.get(ROLE)?.as_str() {
            "sandbox" => Role::Sandbox,
            "workload" => Role::Workload,
            _ => return None,
        };
        Some(Self {
            key: service.replica(number(DEPLOYMENT)?, number(REPLICA)?),
            role,
            node: text(NODE)?,
            config: text(CONFIG)?,
        })
    }

    pub(super) fn into_map(self) -> HashMap<String, String> {
        let ServiceKey { environment, service } = self.key.service;
        HashMap::from([
            (PROJECT.to_owned(), environment.project),
            (ENVIRONMENT.to_owned(), environment.environment),
            (SERVICE.to_owned(), service),
            (REPLICA.to_owned(), self.key.replica.to_string()),
            (DEPLOYMENT.to_owned(), self.key.deployment.to_string()),
            (ROLE.to_owned(), self.role.to_string()),
            (NODE.to_owned(), self.node),
            (CONFIG.to_owned(), self.config),
        ])
    }
}

/// Filter of list and events: this node's containers.
pub(super) fn of_node(node: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{NODE}={node}")])])
}

#[cfg(test)]
pub(super) fn example(role: Role) -> Labels {
    let environment = EnvironmentKey { project: "shop".to_owned(), environment: "production".to_owned() };
    let key = ServiceKey { environment, service: "api".to_owned() }.replica(7, 2);
    Labels { key, role, node: "n1".to_owned(), config: "abc".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_the_same_after_a_round_trip() {
        for role in [Role::Sandbox, Role::Workload] {
            assert_eq!(Labels::parse(&example(role).into_map()), Some(example(role)));
        }
    }

    #[test]
    fn a_container_that_lacks_a_label_is_not_ours() {
        for label in [PROJECT, ENVIRONMENT, SERVICE, REPLICA, DEPLOYMENT, ROLE, NODE, CONFIG] {
            let mut labels = example(Role::Workload).into_map();
            labels.remove(label);
            assert_eq!(Labels::parse(&labels), None, "without {label}");
        }
    }
}

//! Whether what is assigned fits into the kernel's maps, asked before anything is written or started: a map that
//! turns out to be full in the middle leaves a change half done.

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::names;
use crate::bpf::MapSizes;
use crate::controller::State;
use crate::model::{Condition, ReplicaKey};

/// Refuses a state that does not fit.
///
/// # Errors
/// A [`Condition`] that names the first map that would be full, and the option that makes it larger.
pub fn check(state: &State, sizes: &MapSizes) -> Result<(), Condition> {
    let MapSizes { local, endpoints, services, rules, .. } = *sizes;
    let replicas = replicas(state);
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in &replicas {
        *per_node.entry(node).or_default() += 1;
    }
    if let Some((node, count)) = per_node.into_iter().find(|(_, count)| *count > local as usize) {
        return Err(full(&format!("{count} replicas on node {node}"), local, "replicas", "--max-replicas"));
    }
    if replicas.len() > endpoints as usize {
        let what = format!("{} replicas", replicas.len());
        return Err(full(&what, endpoints, "replicas", "--max-endpoints"));
    }
    let count = state.services.len();
    if count > services as usize {
        return Err(full(&format!("{count} services"), services, "services", "--max-services"));
    }
    let all = state.services.values().filter(|service| !service.value.leaving);
    let names: usize = all.map(|service| names::names(&service.value).len()).sum::<usize>() + replicas.len();
    let room = sizes.names();
    if names > room as usize {
        return Err(full(&format!("{names} names"), room, "names", "--max-services"));
    }
    if let Some((node, count)) = listed(state).into_iter().find(|(_, count)| *count > rules as usize) {
        return Err(Condition {
            message: format!(
                "the services on node {node} would list {count} places outside, and the kernel's map has room for {rules}"
            ),
            remedy: "name fewer prefixes in x-skep.egress, or wider ones".into(),
        });
    }
    Ok(())
}

/// How many places outside are listed on each node: once for all replicas of a version.
fn listed(state: &State) -> BTreeMap<&str, usize> {
    let lists = state.replicas.values().filter_map(|replica| {
        let replica = &replica.value;
        let version = (&replica.key.service, replica.key.deployment, replica.key.is_one_off().then_some(&replica.key));
        Some(((replica.node.as_str(), version), replica.spec.egress.as_ref()?.len()))
    });
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    for ((node, _), count) in lists.collect::<BTreeMap<_, _>>() {
        *per_node.entry(node).or_default() += count;
    }
    per_node
}

/// Replicas by node: those that are assigned, and those that a node has not let go of yet, whose entries are there.
fn replicas(state: &State) -> BTreeSet<(&ReplicaKey, &str)> {
    let assigned = state.replicas.iter().map(|(key, replica)| (key, replica.value.node.as_str()));
    assigned.chain(state.statuses.keys().map(|(key, node)| (key, node.as_str()))).collect()
}

fn full(count: &str, room: u32, what: &str, option: &str) -> Condition {
    Condition {
        message: format!("there would be {count}, and the kernel's maps have room for {room}"),
        remedy: format!("remove {what}, or start skepd with a larger {option}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EnvironmentKey, ReplicaStatus, ServiceKey};

    const SIZES: MapSizes = MapSizes { local: 2, endpoints: 3, services: 1, rules: 1, flows: 1 };

    fn state(nodes: &[&str]) -> State {
        let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
        let service = ServiceKey { environment, service: "web".into() };
        let key = |replica| service.replica(1, replica);
        let status = |(replica, node): (u32, &&str)| {
            ((key(replica), (*node).to_owned()), ReplicaStatus::new(key(replica), node))
        };
        State { statuses: (1..).zip(nodes).map(status).collect(), ..State::default() }
    }

    #[test]
    fn what_a_node_has_not_let_go_of_still_counts() {
        assert_eq!(check(&state(&["n1", "n1", "n2"]), &SIZES), Ok(()));
        let refused = check(&state(&["n1", "n1", "n1"]), &SIZES).unwrap_err();
        assert!(refused.message.contains("3 replicas on node n1") && refused.remedy.contains("--max-replicas"));
        let refused = check(&state(&["n1", "n1", "n2", "n2"]), &SIZES).unwrap_err();
        assert!(refused.message.contains("4 replicas") && refused.remedy.contains("--max-endpoints"), "{refused}");
    }
}

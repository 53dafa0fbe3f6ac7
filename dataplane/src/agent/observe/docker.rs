//! Sandboxes and workloads, as Docker tells of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Namespace, Observer};
use crate::agent::error::AgentError;
use crate::agent::lives::Incarnation;
use crate::agent::observed::{Exit, Observed, Sandbox, SandboxState, Workload, WorkloadState};
use crate::docker::{ContainerState, ObservedContainer, Role, sandbox_name, workload_name};
use crate::netlink::Netns;

impl Observer {
    /// While Docker does not answer: what it told last, as far as the kernel still bears it out.
    pub(in super::super) async fn docker_told(&self, last: Option<&Observed>) -> Observed {
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
    pub(in super::super) async fn docker_tells(&self) -> Result<Observed, AgentError> {
        let mut observed = Observed::default();
        self.containers(&mut observed).await?;
        self.mark_ended(&mut observed);
        Ok(observed)
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

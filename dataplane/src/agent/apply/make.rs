//! What containers are made of, and a workload's making.

use super::{Chain, Hands};
use crate::agent::desired::{Node, sandbox_digest, workload_digest};
use crate::agent::error::AgentError;
use crate::docker::{Placed, SandboxSpec, WorkloadSpec, pause_program};
use crate::model::file::File;
use crate::model::one_off::HOLDER;
use crate::model::record::ReplicaRecord;
use crate::model::{ReplicaAssignment, ServiceSpec};

impl Hands {
    /// Makes a workload's container, with the variables that its user did not write; its id.
    ///
    /// # Errors
    /// [`AgentError`]; nothing is left of it then.
    pub(super) async fn create_workload(
        &self,
        replica: &ReplicaAssignment,
        chain: &Chain,
    ) -> Result<String, AgentError> {
        let docker = &self.eyes.docker;
        let key = &chain.key.service;
        for mount in &replica.spec.volumes {
            docker.ensure_volume(&key.environment, &mount.volume).await?;
        }
        let (name, reference) = (replica.spec.image.as_str(), replica.reference());
        let pinned = docker.image(reference).await?;
        // As good as the digest while it leads to the same bits, and people know it.
        let is_named = pinned.is_some() && (name == reference || docker.image(name).await? == pinned);
        let image = if is_named { name } else { reference };
        let mut environment = chain.desired.spec_of(&key.environment);
        environment.services.insert(key.service.clone(), replica.spec.clone());
        let service = self.secrets.complete_service(&environment, &key.service, replica.spec.clone()).await?;
        let service = ServiceSpec { image: image.to_owned(), ..service };
        let spec = workload_spec(replica, pinned, service, chain)?;
        let workload = docker.create_workload(&spec).await?;
        if is_named && docker.image(image).await? != spec.pinned {
            docker.remove(&workload).await?;
            return Err(AgentError::Moved { image: image.to_owned() });
        }
        Ok(workload)
    }

    /// Gives a container that does not run its files. Each time: whoever died between its making and its start may not
    /// have come to it.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(super) async fn put_files(&self, workload: &str, chain: &Chain) -> Result<(), AgentError> {
        let Some(replica) = chain.desired.replicas.get(&chain.key) else { return Ok(()) };
        let mut contents = Vec::new();
        for file in replica.spec.files.values() {
            contents.push(self.secrets.content(&chain.key.service.environment, &file.content).await?);
        }
        let files = replica.spec.files.iter().zip(&contents).map(|((path, file), content)| {
            let File { mode, uid, gid, .. } = *file;
            Placed { path, mode, uid, gid, content: content.expose() }
        });
        let holder = chain.key.is_one_off().then(|| pause_program(HOLDER));
        let files: Vec<Placed<'_>> = files.chain(holder).collect();
        if files.is_empty() {
            return Ok(());
        }
        Ok(self.eyes.docker.put_files(workload, &files).await?)
    }
}

/// What a sandbox is made of.
pub(super) fn sandbox_spec(replica: &ReplicaAssignment, node: &Node) -> SandboxSpec {
    SandboxSpec {
        key: replica.key.clone(),
        node: node.name.clone(),
        config: sandbox_digest(replica, node),
        address4: replica.address4,
        address6: replica.address6,
        vip4: replica.vip4,
        vip6: replica.vip6,
        dns: node.config.dns(),
        identity: replica.spec.settings.identity.clone(),
        sysctls: replica.spec.sysctls(true).map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

fn workload_spec(
    replica: &ReplicaAssignment,
    pinned: Option<String>,
    service: ServiceSpec,
    chain: &Chain,
) -> Result<WorkloadSpec, AgentError> {
    let assignment = ReplicaAssignment { image: pinned.clone(), ..replica.clone() };
    let record = ReplicaRecord { assignment, networks: chain.networks.clone() };
    Ok(WorkloadSpec {
        key: replica.key.clone(),
        node: chain.node.name.clone(),
        config: workload_digest(replica),
        record: record.to_label(),
        sandbox: chain.sandbox_id()?.to_owned(),
        pinned,
        service,
    })
}

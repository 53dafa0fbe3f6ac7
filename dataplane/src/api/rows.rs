//! The store's content as people look at it.

use super::error::Refusal;
use super::types::{DeploymentRow, EndpointRow, NameRow, ReplicaRow, ServiceRow};
use crate::agent::names;
use crate::controller::State;
use crate::host::Installed;
use crate::model::{Deployment, EnvironmentKey, ReplicaKey, ReplicaState, ReplicaStatus, ServiceKey};
use crate::netlink::{container_mac, veth_name};
use crate::store::schema::Versioned;
use crate::store::{Store, StoreError};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is assigned, and what nodes tell about it.
pub(super) struct View {
    pub(super) state: State,
}

/// Which environments to show.
#[derive(Debug, Clone, Default, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only of this project.
    project: Option<String>,
    /// Only of this environment.
    environment: Option<String>,
}

impl Filter {
    /// Only that one.
    pub(super) fn of(key: &EnvironmentKey) -> Self {
        Self { project: Some(key.project.clone()), environment: Some(key.environment.clone()) }
    }

    pub(super) fn shows(&self, key: &EnvironmentKey) -> bool {
        self.project.as_ref().is_none_or(|project| *project == key.project)
            && self.environment.as_ref().is_none_or(|environment| *environment == key.environment)
    }

    /// Refuses a service of one environment that is not among all.
    pub(super) fn knows<'a>(
        &self,
        service: Option<&str>,
        mut all: impl Iterator<Item = &'a ServiceKey> + Clone,
    ) -> Result<(), Refusal> {
        let (Some(service), Some(project), Some(environment)) = (service, &self.project, &self.environment) else {
            return Ok(());
        };
        let environment = EnvironmentKey { project: project.clone(), environment: environment.clone() };
        let key = ServiceKey { environment, service: service.to_owned() };
        let known = all.clone();
        if all.any(|other| *other == key) { Ok(()) } else { Err(Refusal::no_service(&key, known)) }
    }

    /// The same for what may be nobody's, which only who asks for everything is shown.
    pub(super) fn shows_any(&self, key: Option<&EnvironmentKey>) -> bool {
        key.map_or(self.project.is_none() && self.environment.is_none(), |key| self.shows(key))
    }
}

impl View {
    pub(super) async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Self { state: State::load(store).await? })
    }

    /// Replicas that should be, and those that are still leaving.
    pub(super) fn replicas(&self, filter: &Filter) -> Vec<ReplicaRow> {
        let mut rows: BTreeMap<&ReplicaKey, ReplicaRow> = BTreeMap::new();
        for ((key, _), status) in &self.state.statuses {
            rows.insert(key, told(key, status));
        }
        for (key, Versioned { value: replica, .. }) in &self.state.replicas {
            let row = rows.entry(key).or_insert_with(|| empty(key));
            row.node.clone_from(&replica.node);
            row.address = replica.address4.to_string();
            row.address6 = replica.address6.to_string();
            row.vip = replica.vip4.to_string();
            row.vip6 = replica.vip6.to_string();
            row.image = replica.spec.image.clone();
        }
        let shown = rows.into_iter().filter(|(key, _)| filter.shows(&key.service.environment));
        let mut rows: Vec<ReplicaRow> = shown.map(|(_, row)| row).collect();
        rows.extend(self.waiting(filter));
        rows.extend(self.unplaced(filter));
        rows
    }

    /// Says of replicas on nodes that are away how old the news are. `own` node tells this itself, so it is there.
    pub(super) fn doubt_absent(&self, rows: &mut [ReplicaRow], own: &str) {
        let is_away = |node: &str| node != own && !node.is_empty() && !self.state.present.contains_key(node);
        for row in rows.iter_mut().filter(|row| is_away(&row.node)) {
            row.message = Some(format!("node {} is away: this is what it told last", row.node));
        }
    }

    /// Replicas of what serves that should be, and are nowhere because something stands in the way.
    fn unplaced(&self, filter: &Filter) -> impl Iterator<Item = ReplicaRow> {
        let shown = self.state.conditions.iter().filter(|(key, _)| filter.shows(key));
        shown.flat_map(|(key, condition)| {
            let services = self.state.services_of(key).map(|service| &service.value);
            let begun = services.filter(|service| {
                let serving = self.state.deployments.get(&service.key.deployment(service.deployment));
                serving.is_some_and(|serving| serving.value.released) && service.next.is_none() && !service.leaving
            });
            begun.flat_map(|service| {
                let wanted =
                    (1..=service.spec.permanent()).map(|number| service.key.replica(service.deployment, number));
                let missing = wanted.filter(|key| !self.state.replicas.contains_key(key));
                missing.map(|key| ReplicaRow {
                    message: Some(condition.value.to_string()),
                    vip: service.vip4.to_string(),
                    vip6: service.vip6.to_string(),
                    image: service.spec.image.clone(),
                    ..empty(&key)
                })
            })
        })
    }

    /// Services with a schedule of which nothing runs now.
    fn waiting(&self, filter: &Filter) -> impl Iterator<Item = ReplicaRow> {
        let shown = self.state.runs.values().filter(|runs| filter.shows(&runs.value.key.environment));
        shown.filter_map(|runs| {
            let service = self.state.services.get(&runs.value.key)?;
            super::runs::waiting(&service.value, &runs.value)
        })
    }

    pub(super) fn services(&self, filter: &Filter) -> Vec<ServiceRow> {
        let services = self.state.services.iter().map(|(key, service)| (key, &service.value));
        let shown = services.filter(|(key, service)| filter.shows(&key.environment) && !service.leaving);
        shown
            .map(|(key, service)| ServiceRow {
                project: key.environment.project.clone(),
                environment: key.environment.environment.clone(),
                service: key.service.clone(),
                deployment: service.deployment,
                vip: service.vip4.to_string(),
                vip6: service.vip6.to_string(),
                image: service.spec.image.clone(),
                replicas: service.spec.permanent(),
                running: self.running(key),
                networks: self.networks(&key.environment, service.networks),
                env_id: service.env,
                service_id: service.id,
            })
            .collect()
    }

    pub(super) fn deployments(&self, filter: &Filter) -> Vec<DeploymentRow> {
        let all = self.state.deployments.values().map(|deployment| &deployment.value);
        all.filter(|deployment| filter.shows(&deployment.key.service.environment)).map(|d| self.deployment(d)).collect()
    }

    pub(super) fn deployment(&self, deployment: &Deployment) -> DeploymentRow {
        let ServiceKey { environment, service } = &deployment.key.service;
        let number = deployment.key.deployment;
        let assigned = self.state.services.get(&deployment.key.service).map(|service| &service.value);
        DeploymentRow {
            project: environment.project.clone(),
            environment: environment.environment.clone(),
            service: service.clone(),
            deployment: number,
            state: deployment.state,
            phase: deployment.phase,
            serves: assigned.is_some_and(|service| {
                number == service.deployment || service.next.is_some_and(|next| next.deployment == number)
            }),
            image: deployment.spec.image.clone(),
            digest: deployment.image.clone(),
            order: deployment.spec.order(),
            reason: deployment.reason.clone(),
            created: deployment.created,
            ended: deployment.ended,
            cut: deployment.cut,
        }
    }

    fn running(&self, service: &ServiceKey) -> u32 {
        let replicas = self.state.replicas.keys().filter(|key| key.service == *service);
        replicas.map(|key| u32::from(self.serves(key))).sum()
    }

    pub(super) fn endpoints(&self, filter: &Filter) -> Vec<EndpointRow> {
        let replicas = self.state.replicas.iter().map(|(key, replica)| (key, &replica.value));
        let shown = replicas.filter(|(key, _)| filter.shows(&key.service.environment));
        shown
            .map(|(key, replica)| EndpointRow {
                project: key.service.environment.project.clone(),
                environment: key.service.environment.environment.clone(),
                service: key.service.service.clone(),
                replica: key.replica,
                node: replica.node.clone(),
                address: replica.address4.to_string(),
                address6: replica.address6.to_string(),
                interface: veth_name(replica.address4),
                mac: mac(container_mac(replica.address4)),
                networks: self.networks(&key.service.environment, replica.networks),
                egress: replica.egress,
                backend: self.serves(key),
            })
            .collect()
    }

    pub(super) fn names(&self, filter: &Filter) -> Vec<NameRow> {
        let services = self.state.services.iter().map(|(key, service)| (key, &service.value));
        let shown = services.filter(|(key, service)| filter.shows(&key.environment) && !service.leaving);
        let rows = shown.flat_map(|(key, service)| {
            let replicas = self.state.replicas_of_service(key).map(|of| (&of.value.key, &of.value));
            let named = names::named(service, replicas);
            let replicas = named.into_iter().map(|(number, replica)| {
                let to = (replica.address4, replica.address6);
                (names::replica_name(key, number), service.networks, to)
            });
            let own = names::names(service).into_iter();
            let own = own.map(|(name, networks)| (name, networks, (service.vip4, service.vip6)));
            own.chain(replicas).map(|(name, networks, (to4, to6))| NameRow {
                project: key.environment.project.clone(),
                environment: key.environment.environment.clone(),
                name,
                service: key.service.clone(),
                vip: to4.to_string(),
                vip6: to6.to_string(),
                networks: self.networks(&key.environment, networks),
            })
        });
        rows.collect()
    }

    fn serves(&self, key: &ReplicaKey) -> bool {
        let served_by = self.state.services.get(&key.service).is_some_and(|service| service.value.is_served_by(key));
        served_by && self.state.status_of(key).is_some_and(|status| status.state == ReplicaState::Running)
    }

    fn networks(&self, environment: &EnvironmentKey, bits: u64) -> Vec<String> {
        let Some(environment) = self.state.environments.get(environment) else { return Vec::new() };
        let named = environment.value.networks.iter().filter(|(_, bit)| bits & (1 << **bit) != 0);
        named.map(|(name, _)| name.clone()).collect()
    }
}

/// Says of replicas on this node that nobody knows how they are.
pub(super) fn doubt(rows: &mut [ReplicaRow], node: &str, silent: Duration) {
    let seconds = silent.as_secs();
    for row in rows.iter_mut().filter(|row| row.node == node) {
        row.message = Some(format!(
            "Docker has not answered for {seconds} s (systemctl status docker): this is what it told last; traffic goes on"
        ));
    }
}

/// Says of replicas on this node what the kernel lacks for them.
pub(super) fn complain(rows: &mut [ReplicaRow], node: &str, installed: &Installed) {
    let running = |row: &&mut ReplicaRow| row.node == node && row.state == ReplicaState::Running;
    for row in rows.iter_mut().filter(running) {
        let complaint = row.address.parse().ok().and_then(|address| installed.complaint(&veth_name(address)));
        row.message = complaint.or(row.message.take());
    }
}

/// Of what nothing is known.
pub(super) fn empty(key: &ReplicaKey) -> ReplicaRow {
    ReplicaRow {
        project: key.service.environment.project.clone(),
        environment: key.service.environment.environment.clone(),
        service: key.service.service.clone(),
        replica: key.replica,
        deployment: key.deployment,
        state: ReplicaState::Pending,
        message: None,
        node: String::new(),
        address: String::new(),
        address6: String::new(),
        vip: String::new(),
        vip6: String::new(),
        image: String::new(),
        container: None,
        sandbox: None,
    }
}

fn told(key: &ReplicaKey, status: &ReplicaStatus) -> ReplicaRow {
    ReplicaRow {
        state: status.state,
        message: status.message.clone(),
        node: status.node.clone(),
        container: status.container.clone(),
        sandbox: status.sandbox.clone(),
        ..empty(key)
    }
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

//! Nodes that are not there, as the store knows them: what the real controller gives them, and what their agents would tell.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use clap::Parser as _;
use dataplane::config::{Args, Config};
use dataplane::controller::{self, State};
use dataplane::model::spec::{NetworkAttachment, NetworkSpec};
use dataplane::model::{Ack, EnvironmentKey, EnvironmentSpec, Presence, ReplicaStatus, ServiceSpec, TunnelRecord};
use dataplane::store::{Embedded, Etcd, Outcome, Revision, Store as _, Txn, Write, schema};

/// Nodes that share environments: the controller is shown no more at once, which makes the filling quick. What it gives to
/// several groups is what it would give to all of them.
const GROUP: usize = 10;
/// Environments of a group, services of an environment, replicas of a service.
const TEN: u32 = 10;
/// Writes of one transaction; etcd takes 128.
const WRITES: usize = 100;

/// What people want.
pub(super) fn environment(number: usize) -> EnvironmentSpec {
    let key = EnvironmentKey { project: format!("p{number:04}"), environment: "production".into() };
    let variables = ["DATABASE_URL", "CACHE_URL", "LOG_LEVEL", "SECRET_KEY_BASE"];
    let service = ServiceSpec {
        environment: variables.map(|name| (name.to_owned(), format!("value-of-{name}-in-{}", key.project))).into(),
        networks: BTreeMap::from([("default".to_owned(), NetworkAttachment::default())]),
        replicas: TEN,
        ..ServiceSpec::of_image("registry.example/shop/service:1.4")
    };
    let services = (0..TEN).map(|number| (format!("s{number}"), service.clone())).collect();
    let networks = BTreeMap::from([("default".to_owned(), NetworkSpec::default())]);
    EnvironmentSpec { key, services, networks, volumes: Default::default() }
}

/// A replica's status, as an agent tells it of containers.
pub(super) fn told(status: &ReplicaStatus) -> ReplicaStatus {
    let id = |of: char| Some(of.to_string().repeat(64));
    ReplicaStatus { container: id('c'), sandbox: id('5'), ..status.clone() }
}

/// Writes so many nodes and all that is on them, a hundred replicas each; gives the revision after that.
pub(super) async fn settle(etcd: &Etcd, nodes: usize) -> Result<Revision> {
    let registered = registered(nodes).await?;
    let names: Vec<String> = registered.nodes.keys().cloned().collect();
    let mut kept = State { nodes: BTreeMap::new(), ..registered.clone() };
    for (group, names) in names.chunks(GROUP).enumerate() {
        let mut state = State { ids: kept.ids.clone(), vips: kept.vips.clone(), ..State::default() };
        for name in names {
            state.nodes.insert(name.clone(), registered.nodes[name].clone());
            state.present.insert(name.clone(), presence(name));
        }
        let first = group * TEN as usize;
        for number in first..first + TEN as usize {
            state = assigned(state, number)?;
        }
        keep(&mut kept, state);
    }
    let mut revision = 0;
    for writes in writes(&kept)?.chunks(WRITES) {
        let Outcome::Committed(at) = etcd.txn(Txn { compare: Vec::new(), then: writes.to_vec() }).await? else {
            anyhow::bail!("a transaction without conditions conflicted");
        };
        revision = at;
    }
    Ok(revision)
}

fn presence(name: &str) -> Presence {
    Presence { instance: name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), capacity: None, daemon: None }
}

fn config() -> Result<Config> {
    Ok(Args::try_parse_from(["skepd", "--node-name", "none"])?.options.resolve()?)
}

/// Nodes with their ids and prefixes.
async fn registered(nodes: usize) -> Result<State> {
    let directory = tempfile::tempdir()?;
    let store = Embedded::open(&directory.path().join("store.redb"))?;
    for number in 0..nodes {
        controller::register(&store, &config()?.pools(), &format!("n{number:04}")).await?;
    }
    Ok(State::load(&store).await?)
}

/// The state once an environment more is there and well.
fn assigned(state: State, number: usize) -> Result<State> {
    let spec = environment(number);
    let mut last = None;
    controller::preview(state, &config()?.pools(), &spec.key.clone(), Some(spec), |stage| {
        last = Some(stage.clone());
        Ok(())
    })?;
    last.context("nothing was assigned")
}

fn keep(kept: &mut State, group: State) {
    kept.intents.extend(group.intents);
    kept.nodes.extend(group.nodes);
    kept.present.extend(group.present);
    kept.environments.extend(group.environments);
    kept.services.extend(group.services);
    kept.replicas.extend(group.replicas);
    kept.deployments.extend(group.deployments);
    kept.statuses.extend(group.statuses);
    kept.addresses.extend(group.addresses);
    (kept.ids, kept.vips) = (group.ids, group.vips);
}

/// Everything of a state.
fn writes(state: &State) -> Result<Vec<Write>> {
    let mut all = Vec::new();
    macro_rules! put {
        ($key:expr, $value:expr) => {
            all.push(Write::json(&$key, $value, None)?)
        };
    }
    for (name, node) in &state.nodes {
        put!(schema::node(name), &node.value);
        put!(schema::presence(name), &state.present[name]);
        put!(schema::tunnel(name), &tunnel(node.value.id));
        // Whatever is switched, they have carried it out.
        put!(schema::ack(name), &Ack { services: u64::MAX, tunnels: u64::MAX });
    }
    for (name, pool) in &state.addresses {
        put!(schema::addresses(name), &pool.value);
    }
    put!(schema::ids(), &state.ids.as_ref().context("no ids")?.value);
    put!(schema::vips(), &state.vips.as_ref().context("no VIPs")?.value);
    put!(schema::prefixes(), &state.prefixes.as_ref().context("no prefixes")?.value);
    for (key, intent) in &state.intents {
        put!(schema::intent(key), &intent.value);
    }
    for (key, environment) in &state.environments {
        put!(schema::environment(key), &environment.value);
    }
    for (key, service) in &state.services {
        put!(schema::service(key), &service.value);
    }
    for (key, deployment) in &state.deployments {
        put!(schema::deployment(key), &deployment.value);
    }
    for (key, replica) in &state.replicas {
        put!(schema::replica(&replica.value.node, key), &replica.value);
    }
    for ((key, node), status) in &state.statuses {
        put!(schema::status(node, key), &told(status));
    }
    Ok(all)
}

/// Behind the router, where nobody is: on the LAN each would be looked for by multicast, which etcd's machine would count.
fn tunnel(id: u32) -> TunnelRecord {
    let mut key = [0x5e; 32];
    key[..4].copy_from_slice(&id.to_be_bytes());
    let [high, low] = (id as u16).to_be_bytes().map(u16::from);
    let address = Ipv6Addr::new(0x2a00, 0x5ce9, 2, 0, 0, 0, high, low);
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    TunnelRecord { key, endpoint: SocketAddr::from((address, 51_820)), mtu: 1_500, next: None, rotation: 0 }
}

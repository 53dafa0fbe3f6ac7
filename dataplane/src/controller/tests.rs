//! A world of one store and its nodes, driven by arbitrary steps; and the loop on a real store.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::model::allocation::{REST_SECONDS, example_pools as pools};
use crate::model::spec::{NetworkAttachment, NetworkSpec};
use crate::model::{
    Ack, Phase, Presence, ReplicaAssignment, ReplicaKey, ReplicaState, ReplicaStatus, ServiceAssignment, ServiceKey,
    ServiceSpec,
};
use crate::store::{Compare, Embedded, Revision};

mod deployments;
mod lost;
mod office;
mod one_offs;
mod placement;
mod property;

/// Few enough addresses that they run out.
fn tight_pools() -> Pools {
    Pools { container4: "10.208.0.0/23".parse().unwrap(), vip4: "10.224.0.0/29".parse().unwrap(), ..pools() }
}

fn environment(name: &str) -> EnvironmentKey {
    EnvironmentKey { project: "shop".into(), environment: name.into() }
}

fn service(image: &str, replicas: u32, networks: &[&str]) -> ServiceSpec {
    ServiceSpec {
        networks: networks.iter().map(|name| (name.to_string(), NetworkAttachment::default())).collect(),
        replicas,
        ..ServiceSpec::of_image(image)
    }
}

fn spec(key: &EnvironmentKey, services: &[(&str, ServiceSpec)]) -> EnvironmentSpec {
    let services: BTreeMap<String, ServiceSpec> = services.iter().map(|(n, s)| (n.to_string(), s.clone())).collect();
    let networks = services.values().flat_map(|s| s.networks.keys().cloned());
    let networks = networks.map(|name| (name, NetworkSpec::default())).collect();
    EnvironmentSpec { key: key.clone(), services, networks, volumes: BTreeSet::new() }
}

/// The store and the nodes' agents, without time passing by itself.
struct World {
    state: State,
    pools: Pools,
    now: u64,
    /// Since when there is a controller.
    watching: u64,
    /// What each agent has on its machine.
    machines: BTreeMap<(ReplicaKey, String), Ipv4Addr>,
    /// The last put of each key.
    revisions: BTreeMap<String, Revision>,
}

impl World {
    fn new(pools: Pools) -> Self {
        let (state, machines, revisions) = Default::default();
        let mut world = Self { state, pools, now: 1_000_000, watching: 0, machines, revisions };
        world.register("n1");
        world
    }

    /// A node joins.
    fn register(&mut self, name: &str) {
        let mut allocator = allocate::Allocator::new(&self.state, &self.pools, self.clock());
        let mut txn = Txn::default();
        set(&mut txn, &schema::node(name), None, Some(&allocator.node(name).unwrap())).unwrap();
        allocator.finish(&mut txn).unwrap();
        self.commit(txn);
        self.arrive(name);
    }

    /// Its daemon is there.
    fn arrive(&mut self, name: &str) {
        let presence = Presence { instance: name.into(), version: String::new(), capacity: None, daemon: None };
        self.commit(Txn::default().put(&schema::presence(name), &presence).unwrap());
        self.state.note_absences(self.now * 1000);
    }

    /// Nothing is heard of it any more.
    fn vanish(&mut self, name: &str) {
        self.commit(Txn::default().delete(&schema::presence(name)));
        self.state.note_absences(self.now * 1000);
    }

    fn commit(&mut self, txn: Txn) {
        let revision: Revision = self.state.revision + 1;
        let keys: BTreeSet<&str> = txn.then.iter().map(Write::key).collect();
        assert_eq!(keys.len(), txn.then.len(), "no key twice");
        assert!(txn.then.len() <= 120, "etcd takes 128");
        for compare in txn.compare {
            match compare {
                Compare::Revision(key, revision) => assert_eq!(self.revisions.get(&key), Some(&revision), "{key}"),
                Compare::Absent(key) => assert_eq!(self.revisions.get(&key), None, "{key}"),
                Compare::Value(key, _) => panic!("no step compares the value of {key}"),
            }
        }
        for write in txn.then {
            match &write {
                Write::Put { key, .. } => drop(self.revisions.insert(key.clone(), revision)),
                Write::Delete(key) => drop(self.revisions.remove(key)),
            }
            self.state.apply(&imagined(write, revision)).unwrap();
        }
        self.state.revision = revision;
    }

    fn want(&mut self, key: &EnvironmentKey, spec: Option<EnvironmentSpec>) {
        let txn = Txn::default();
        self.commit(match spec {
            Some(spec) => txn.put(&schema::intent(key), &spec).unwrap(),
            None => txn.delete(&schema::intent(key)),
        });
    }

    /// Takes every step for every environment, or only the first `left`: a crash.
    fn settle(&mut self, mut left: usize) {
        // One environment's release may be another's chance, so round until nothing moves.
        loop {
            let before = self.state.revision;
            for key in self.state.keys() {
                while let Some(txn) = self.step(&key) {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    self.commit(txn);
                }
            }
            if self.state.revision == before {
                return;
            }
        }
    }

    fn clock(&self) -> Clock {
        Clock { watching: self.watching * 1000, ..Clock::at(self.now * 1000) }
    }

    fn step(&self, key: &EnvironmentKey) -> Option<Txn> {
        let txn = reconcile(&self.state, &self.pools, key, self.clock()).unwrap().txn;
        (!txn.then.is_empty()).then_some(txn)
    }

    /// The agents take away what ends or is no longer assigned, and start what is; all is well but what is `ill`. On
    /// nodes of which nothing is heard all stays as it is.
    fn agents_but(&mut self, ill: impl Fn(&ReplicaKey) -> Option<ReplicaState>) {
        let there = &self.state.present;
        let replicas = self.state.replicas.values().map(|r| &r.value).filter(|r| there.contains_key(&r.node));
        let stay = replicas.clone().filter(|r| !r.ending);
        self.machines.retain(|(_, node), _| !there.contains_key(node));
        self.machines.extend(stay.map(|r| ((r.key.clone(), r.node.clone()), r.address4)));
        let status = |r: &ReplicaAssignment| {
            let state = if r.ending { ReplicaState::Stopped } else { ReplicaState::Running };
            let state = ill(&r.key).filter(|_| !r.ending).unwrap_or(state);
            ((r.key.clone(), r.node.clone()), ReplicaStatus { state, ..ReplicaStatus::new(r.key.clone(), &r.node) })
        };
        let told: Vec<_> = replicas.map(status).collect();
        self.state.statuses.retain(|(_, node), _| !there.contains_key(node));
        self.state.statuses.extend(told);
        let ack = Ack { services: self.state.revision, tunnels: 0 };
        self.state.acks.extend(there.keys().map(|node| (node.clone(), ack)));
        self.state.revision += 1;
    }

    fn agents(&mut self) {
        self.agents_but(|_| None);
    }

    /// Agents and controller go on until there is nothing left to be done.
    fn come_to_rest(&mut self) {
        for _ in 0..200 {
            let before = self.state.clone();
            self.settle(usize::MAX);
            self.agents();
            self.now += 30;
            self.settle(usize::MAX);
            if before.replicas == self.state.replicas && before.deployments == self.state.deployments {
                return;
            }
        }
        panic!("it never ends: {:#?}", self.state.deployments);
    }

    fn replica(&self, key: &EnvironmentKey, service: &str, replica: u32) -> &ReplicaAssignment {
        let deployment = self.service(key, service).unwrap().deployment;
        let service = ServiceKey { environment: key.clone(), service: service.into() };
        &self.state.replicas[&service.replica(deployment, replica)].value
    }

    fn service(&self, key: &EnvironmentKey, service: &str) -> Option<&ServiceAssignment> {
        let key = ServiceKey { environment: key.clone(), service: service.into() };
        self.state.services.get(&key).map(|service| &service.value)
    }
}

#[test]
fn a_new_environment_gets_ids_bits_vips_and_addresses() {
    let (mut world, key) = (World::new(pools()), environment("production"));
    world.want(
        &key,
        Some(spec(&key, &[("api", service("a", 2, &["back", "front"])), ("db", service("d", 1, &["back"]))])),
    );
    world.settle(usize::MAX);
    let assigned = &world.state.environments[&key].value;
    assert_eq!((assigned.id, assigned.networks["back"], assigned.networks["front"]), (1, 0, 1));
    let api = world.service(&key, "api").unwrap();
    assert_eq!((api.id, api.env, api.networks, api.deployment, api.leaving), (1, 1, 0b11, 1, false));
    assert_eq!((api.vip4.to_string(), api.vip6.to_string()), ("10.224.0.1".into(), "fd53:6b65:7001::1".into()));
    let replica = world.replica(&key, "db", 1);
    assert_eq!((replica.env, replica.service_id, replica.networks, replica.egress), (1, 2, 0b01, true));
    assert_eq!((replica.vip4, replica.node.as_str()), (world.service(&key, "db").unwrap().vip4, "n1"));
    let addresses: BTreeSet<String> = world.state.replicas.values().map(|r| r.value.address4.to_string()).collect();
    assert_eq!(addresses, ["10.208.0.1", "10.208.0.2", "10.208.0.3"].map(String::from).into());
    assert_eq!(world.replica(&key, "api", 1).address6.to_string(), "fd53:6b65:7000::1");
}

#[test]
fn a_removed_service_keeps_ids_and_vip_until_no_node_has_a_replica() {
    let (mut world, key) = (World::new(pools()), environment("production"));
    world
        .want(&key, Some(spec(&key, &[("api", service("a", 1, &["default"])), ("db", service("d", 1, &["default"]))])));
    world.settle(usize::MAX);
    world.agents();
    let gone = world.service(&key, "db").unwrap().clone();
    world.want(&key, Some(spec(&key, &[("api", service("a", 1, &["default"])), ("x", service("x", 1, &["default"]))])));
    world.settle(usize::MAX);
    assert!(world.service(&key, "db").unwrap().leaving);
    assert_ne!(world.service(&key, "x").unwrap().vip4, gone.vip4);
    world.agents();
    world.settle(usize::MAX);
    assert_eq!(world.service(&key, "db"), None);
    world.want(&key, None);
    world.settle(usize::MAX);
    assert!(world.state.environments.contains_key(&key));
    world.agents();
    world.settle(usize::MAX);
    assert!(
        world.state.environments.is_empty() && world.state.services.is_empty() && world.state.conditions.is_empty()
    );
    world.want(&key, Some(spec(&key, &[("db", service("d", 1, &["default"]))])));
    world.settle(usize::MAX);
    let back = world.service(&key, "db").unwrap();
    assert!(back.id > gone.id && back.env > gone.env && back.vip4 != gone.vip4);
}

#[test]
fn a_service_that_comes_back_before_it_is_gone_goes_on() {
    let (mut world, key) = (World::new(pools()), environment("production"));
    let up = spec(&key, &[("db", service("d", 1, &["default"]))]);
    world.want(&key, Some(up.clone()));
    world.settle(usize::MAX);
    world.agents();
    let (before, replica) = (world.service(&key, "db").unwrap().clone(), world.replica(&key, "db", 1).clone());
    world.want(&key, None);
    world.settle(usize::MAX);
    world.want(&key, Some(up));
    world.settle(usize::MAX);
    assert_eq!(world.service(&key, "db"), Some(&before));
    assert_eq!(world.replica(&key, "db", 1), &replica);
}

#[test]
fn a_node_takes_another_prefix_when_its_own_is_full_and_says_so_when_there_is_none() {
    let (mut world, key) = (World::new(tight_pools()), environment("production"));
    world.want(&key, Some(spec(&key, &[("api", service("a", 300, &["default"]))])));
    world.settle(usize::MAX);
    assert_eq!(world.state.nodes["n1"].value.prefixes4.len(), 2);
    assert_eq!(world.state.replicas.len(), 300);
    assert_eq!(world.replica(&key, "api", 255).address4.to_string(), "10.208.1.1");
    assert_eq!(world.replica(&key, "api", 255).address6.to_string(), "fd53:6b65:7000::101");
    world.want(&key, Some(spec(&key, &[("api", service("a", 600, &["default"]))])));
    world.settle(usize::MAX);
    assert_eq!(world.state.replicas.len(), 508);
    let condition = &world.state.conditions[&key].value;
    assert!(condition.message.contains("10.208.0.0/23"), "{condition}");
    world.want(&key, Some(spec(&key, &[("api", service("a", 508, &["default"]))])));
    world.settle(usize::MAX);
    assert!(world.state.conditions.is_empty());
}

#[test]
fn an_exhausted_vip_pool_is_a_condition_that_heals() {
    let (mut world, key) = (World::new(tight_pools()), environment("production"));
    let many: Vec<String> = (0..7).map(|i| format!("s{i}")).collect();
    let services: Vec<_> = many.iter().map(|name| (name.as_str(), service("a", 1, &["default"]))).collect();
    world.want(&key, Some(spec(&key, &services)));
    world.settle(usize::MAX);
    assert_eq!(world.state.services.len(), 6);
    assert!(world.state.conditions[&key].value.message.contains("no VIP is free in 10.224.0.0/29: 6 are in use"));
    world.want(&key, Some(spec(&key, &services[1..])));
    world.settle(usize::MAX);
    assert!(world.state.conditions.contains_key(&key), "the released one rests");
    world.now += REST_SECONDS;
    world.settle(usize::MAX);
    assert!(world.state.conditions.is_empty());
}

#[test]
fn an_address_that_a_node_still_has_goes_to_nobody_however_long_it_takes() {
    let mut world = World::new(tight_pools());
    let (old, new) = (environment("production"), environment("staging"));
    world.want(&old, Some(spec(&old, &[("api", service("a", 200, &["default"]))])));
    world.settle(usize::MAX);
    world.agents();
    world.want(&old, None);
    world.want(&new, Some(spec(&new, &[("api", service("a", 508, &["default"]))])));
    world.now += 10 * REST_SECONDS;
    world.settle(usize::MAX);
    assert_eq!(world.state.replicas.len(), 308);
    let kept: BTreeSet<Ipv4Addr> = world.machines.values().copied().collect();
    assert!(world.state.replicas.values().all(|replica| !kept.contains(&replica.value.address4)));
    world.agents();
    world.settle(usize::MAX);
    assert_eq!(world.state.replicas.len(), 308, "they rest");
    world.now += REST_SECONDS;
    world.settle(usize::MAX);
    assert_eq!(world.state.replicas.len(), 508);
}

/// An agent that does nothing but report.
async fn report(store: &dyn Store, state: &State) {
    for replica in state.replicas.values().map(|replica| &replica.value) {
        let status = ReplicaStatus::new(replica.key.clone(), &replica.node);
        let status = ReplicaStatus { state: ReplicaState::Running, ..status };
        store.txn(Txn::default().put(&schema::status("n1", &replica.key), &status).unwrap()).await.unwrap();
    }
}

async fn wait_until(store: &dyn Store, mut done: impl FnMut(&State) -> bool) -> State {
    let mut state = State::load(store).await.unwrap();
    let mut watch = store.watch("/", state.revision).await.unwrap();
    while !done(&state) {
        let events =
            timeout_at(Instant::now() + Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap();
        events.iter().for_each(|event| state.apply(event).unwrap());
    }
    state
}

#[tokio::test]
async fn the_loop_assigns_previews_and_lets_go_on_a_real_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    let (pools, key) = (pools(), environment("production"));
    let record = register(&store, &pools, "n1").await.unwrap();
    assert_eq!(register(&store, &pools, "n1").await.unwrap(), record);
    let other = register(&store, &pools, "n2").await.unwrap();
    assert!(other.id != record.id && other.prefixes4 != record.prefixes4 && other.prefix6 != record.prefix6);
    for name in ["n1", "n2"] {
        let presence = Presence { instance: name.into(), version: String::new(), capacity: None, daemon: None };
        store.txn(Txn::default().put(&schema::presence(name), &presence).unwrap()).await.unwrap();
    }

    let want = spec(&key, &[("api", service("a", 200, &["default"]))]);
    let mut previewed = Vec::new();
    let stage = |stage: &State| {
        previewed.push(stage.clone());
        Ok(())
    };
    preview(State::load(&store).await.unwrap(), &pools, &key, Some(want.clone()), stage).unwrap();
    assert!(State::load(&store).await.unwrap().replicas.is_empty(), "nothing is written");
    let store = Arc::new(store);
    let secrets = Secrets::open(Arc::clone(&store) as Arc<dyn Store>, dir.path()).await.unwrap();
    let store = store.as_ref();
    let controller = run(store, &secrets, &pools, "n1", None);
    let story = async {
        store.txn(Txn::default().put(&schema::intent(&key), &want).unwrap()).await.unwrap();
        let up = wait_until(store, |state| state.replicas.len() == 200).await;
        let plain = |s: &State| s.replicas.values().map(|r| r.value.clone()).collect::<Vec<_>>();
        assert_eq!(plain(&up), plain(previewed.last().unwrap()), "what was previewed");
        assert_eq!(up.replicas.values().filter(|r| r.value.node == "n1").count(), 100, "they spread");
        report(store, &up).await;
        store.txn(Txn::default().delete(&schema::intent(&key))).await.unwrap();
        let leaving = wait_until(store, |state| state.replicas.is_empty()).await;
        assert!(leaving.services.values().all(|s| s.value.leaving) && leaving.services.len() == 1);
        for (replica, _) in leaving.statuses.keys() {
            store.txn(Txn::default().delete(&schema::status("n1", replica))).await.unwrap();
        }
        wait_until(store, |state| state.environments.is_empty()).await;
    };
    tokio::select! {
        never = controller => match never {},
        () = story => {}
    }
}

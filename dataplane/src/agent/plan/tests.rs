use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Parser;
use dataplane_ebpf::abi::{BackendKey, Device, GrantKey, Identity};
use proptest::prelude::*;

use super::super::desired::Node;
use super::super::drain::Drain;
use super::super::foreign::{Own, find};
use super::super::health::Well;
use super::super::observed::{Exit, SandboxState, WorkloadState};
use super::super::op::Step;
use super::super::predict::{predict, simulate};
use super::super::status;
use super::*;

mod egress;
mod ends;
mod engine;
use crate::config::Args;
use crate::docker::Health;
use crate::model::spec::DependsOn;
use crate::model::{EnvironmentAssignment, EnvironmentKey, Next, ReplicaAssignment, ServiceAssignment, ServiceKey};
use crate::model::{ReplicaState, ServiceSpec, spec::RestartPolicy};
use crate::netlink::Inside;

fn exit(status: i64) -> Exit {
    Exit { status, ..Exit::default() }
}

fn spec(depends_on: &[(&str, DependsOn)]) -> ServiceSpec {
    ServiceSpec {
        depends_on: depends_on.iter().map(|(name, condition)| ((*name).into(), *condition)).collect(),
        networks: BTreeMap::from([("default".into(), Default::default())]),
        ..ServiceSpec::of_image("busybox")
    }
}

fn nothing() -> Desired {
    let args = Args::try_parse_from(["skepd", "--node-name", "n"]).unwrap();
    let config = Arc::new(args.options.resolve().unwrap());
    let node = Node { name: "n".into(), id: 1, config };
    let (environments, services, replicas, discards) = Default::default();
    let (elsewhere, peers, tunnels, tunnel, rotate) = Default::default();
    let revision = 0;
    Desired { node, environments, services, revision, replicas, elsewhere, peers, tunnels, tunnel, rotate, discards }
}

/// Name, replicas, dependencies.
type Sketch<'a> = (&'a str, u32, &'a [(&'a str, DependsOn)]);

/// An environment `shop/production` of these services, each with so many replicas.
fn shop(services: &[Sketch<'_>]) -> Desired {
    let mut desired = nothing();
    let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
    let networks = BTreeMap::from([("default".into(), 0)]);
    let assignment = EnvironmentAssignment { key: environment.clone(), id: 7, networks, resting: BTreeMap::new() };
    desired.environments.insert(environment.clone(), assignment);
    for (id, (service, replicas, depends_on)) in (1..).zip(services) {
        let key = ServiceKey { environment: environment.clone(), service: (*service).into() };
        let (vip4, vip6) = ([10, 224, 0, id].into(), [0xfd53, 0x6b65, 0x7001, 0, 0, 0, 0, u16::from(id)].into());
        let spec = spec(depends_on);
        for replica in 1..=*replicas {
            let key = key.replica(1, replica);
            let last = id * 16 + u8::try_from(replica).unwrap();
            let assignment = ReplicaAssignment {
                key: key.clone(),
                node: "n".into(),
                env: 7,
                service_id: id.into(),
                address4: [10, 208, 0, last].into(),
                address6: [0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, u16::from(last)].into(),
                vip4,
                vip6,
                networks: 1,
                egress: true,
                spec: spec.clone(),
                image: None,
                ending: false,
            };
            desired.replicas.insert(key, Arc::new(assignment));
        }
        let aliases = BTreeMap::from([(format!("{service}-alias"), 1)]);
        let assignment = ServiceAssignment {
            key: key.clone(),
            env: 7,
            id: id.into(),
            vip4,
            vip6,
            networks: 1,
            aliases,
            deployment: 1,
            next: None,
            spec,
            leaving: false,
        };
        desired.services.insert(key, Arc::new(assignment));
    }
    desired
}

/// What is there after everything was done.
fn settled(desired: &Desired) -> Observed {
    let mut observed = Observed { mtu: 1500, uplinks: [2].into(), ..Observed::default() };
    simulate(desired, &mut observed);
    observed
}

fn lines(ops: &[Op]) -> Vec<String> {
    ops.iter().map(ToString::to_string).collect()
}

fn position(lines: &[String], start: &str) -> usize {
    lines.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start:?} in {lines:#?}"))
}

#[test]
fn nothing_is_done_when_all_is_as_it_should_be() {
    let desired = shop(&[("api", 2, &[]), ("postgres", 1, &[])]);
    assert_eq!(lines(&plan(&desired, &settled(&desired))), Vec::<String>::new());
}

#[test]
fn what_a_container_lacks_inside_is_plumbed_and_nothing_else_done() {
    let desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    observed.insides.extend(desired.replicas.keys().map(|key| (key.clone(), Inside::default())));
    assert_eq!(lines(&plan(&desired, &observed)), ["plumb shop/production/api.1.1: skep0ad00011"]);
}

#[test]
fn what_others_removed_comes_back_and_what_they_added_goes() {
    let desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    observed.missing_pins.insert("/pins/ENDPOINTS".into());
    observed.tables.grants.insert(GrantKey::default());
    observed.tables.budgets.insert(99);
    observed.tables.loose.insert(BackendKey { service: 5, generation: 6, slot: 7 });
    let expected = [
        "pin /pins/ENDPOINTS again",
        "remove the grant from service 0 of environment 0 to service 0 of environment 0, protocol 0, port 0",
        "forget device 99: no replica's",
        "forget backend 7 of set 6 of service 5: in no set",
    ];
    assert_eq!(lines(&plan(&desired, &observed)), expected);
}

#[test]
fn foreign_is_what_was_neither_seen_nor_wanted_before() {
    let desired = shop(&[("api", 1, &[])]);
    let before = settled(&desired);
    let mut now = before.clone();
    now.tables.devices.insert(99, Device::default());
    now.tables.grants.insert(GrantKey::default());
    let found = |ops: &[Op], now: &Observed, past: &Observed| -> Vec<&'static str> {
        find(ops, now, (&desired, past), &Own::default()).into_iter().map(|foreign| foreign.map).collect()
    };
    let ops = plan(&desired, &now);
    assert_eq!(found(&ops, &now, &before), ["GRANTS", "DEVICES"]);
    assert_eq!(found(&ops, &now, &now), Vec::<&str>::new(), "told once");
    // A service that goes as soon as it was published, before anybody looked again.
    let unpublished = Observed { tables: TableSet::default(), ..before.clone() };
    let leaving = plan(&nothing(), &before);
    assert!(leaving.iter().any(|op| matches!(op, Op::DropName(..))));
    let foreign = found(&leaving, &before, &unpublished);
    assert!(!foreign.iter().any(|map| ["NAMES", "PTRS", "SERVICES", "ENDPOINTS"].contains(map)), "{foreign:?}");
}

#[test]
fn a_replica_is_closed_before_it_is_open_and_serves_only_when_it_runs() {
    let desired = shop(&[("api", 1, &[])]);
    let lines = lines(&simulate(&desired, &mut Observed { mtu: 1500, ..Observed::default() }));
    let order = [
        "switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to no backend",
        "pull busybox",
        "create sandbox of shop/production/api.1.1",
        "start sandbox of shop/production/api.1.1",
        "plumb shop/production/api.1.1: skep0ad00011",
        "register shop/production/api.1.1",
        "attach the programs to skep0ad00011",
        "set skep0ad00011 of shop/production/api.1.1 up",
        "create shop/production/api.1.1 from busybox",
        "start shop/production/api.1.1",
        "switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to 10.208.0.17",
    ];
    let positions: Vec<_> = order.iter().map(|start| position(&lines, start)).collect();
    assert!(positions.is_sorted(), "{lines:#?}");
}

#[test]
fn the_maps_are_filled_before_programs_read_them() {
    let desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    observed.tables = Default::default();
    observed.sockets_attached = false;
    observed.attached.clear();
    let lines = lines(&plan(&desired, &observed));
    let order = [
        "configure node",
        "set egress: ::/0 and 0.0.0.0/0 allowed",
        "register shop/production/api.1.1",
        "switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to 10.208.0.17",
        "name api",
        "attach the socket programs",
        "attach the programs to skep0ad00011",
    ];
    let positions: Vec<_> = order.iter().map(|start| position(&lines, start)).collect();
    assert!(positions.is_sorted(), "{lines:#?}");
}

#[test]
fn a_dependency_comes_first_and_a_running_replica_outlives_it() {
    let desired = shop(&[("api", 1, &[("db", DependsOn::ServiceHealthy)]), ("db", 1, &[])]);
    let lines = lines(&simulate(&desired, &mut Observed { mtu: 1500, ..Observed::default() }));
    assert!(position(&lines, "start shop/production/db.1.1") < position(&lines, "start shop/production/api.1.1"));

    let mut observed = settled(&desired);
    let db = observed.workloads.iter_mut().find(|(key, _)| key.service.service == "db").unwrap().1;
    db.state = WorkloadState::Running(Health::Unhealthy);
    assert_eq!(plan(&desired, &observed), []);
}

#[test]
fn an_exited_workload_leaves_the_backends_and_is_left_to_docker() {
    let desired = shop(&[("api", 2, &[])]);
    let mut observed = settled(&desired);
    observed.workloads.values_mut().next().unwrap().state = WorkloadState::Restarting { exit: exit(1), restarts: 1 };
    assert_eq!(
        lines(&plan(&desired, &observed)),
        ["switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to 10.208.0.18"]
    );
}

#[test]
fn who_is_not_well_leaves_the_backends_unless_nobody_is() {
    let desired = shop(&[("api", 2, &[])]);
    let mut observed = settled(&desired);
    let keys: Vec<_> = desired.replicas.keys().cloned().collect();
    let switch = |to| vec![format!("switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to {to}")];
    observed.health.insert(keys[0].clone(), Well::Unhealthy { reason: "no answer".into() });
    assert_eq!(lines(&plan(&desired, &observed)), switch("10.208.0.18"));
    observed.health.insert(keys[1].clone(), Well::Unhealthy { reason: "no answer".into() });
    assert_eq!(plan(&desired, &observed), [], "a check alone takes nobody's last replica away");
    observed.health.insert(keys[1].clone(), Well::Starting { reason: None });
    assert_eq!(lines(&plan(&desired, &observed)), switch("10.208.0.17"));
}

#[test]
fn a_dead_sandbox_means_that_the_pair_is_made_anew() {
    let desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    observed.sandboxes.values_mut().next().unwrap().state = SandboxState::Dead;
    let lines = lines(&plan(&desired, &observed));
    assert_eq!(lines[0], "switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to no backend");
    let order =
        ["stop shop", "remove shop", "unplumb shop", "remove sandbox", "create sandbox", "start sandbox", "plumb"];
    let positions: Vec<_> = order.iter().map(|start| position(&lines, start)).collect();
    assert!(positions.is_sorted(), "{lines:#?}");
}

#[test]
fn a_workload_in_another_namespace_than_its_sandbox_is_made_anew_alone() {
    let desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    observed.workloads.values_mut().next().unwrap().astray = true;
    let ops = plan(&desired, &observed);
    assert!(!ops.iter().any(|op| matches!(op, Op::Replica(_, Step::CreateSandbox(_)))));
    assert!(ops.iter().any(|op| matches!(op, Op::Replica(_, Step::CreateWorkload(_)))));
}

#[test]
fn what_ends_leaves_backends_and_names_before_it_is_stopped_and_its_entries_last() {
    let mut observed = settled(&shop(&[("api", 1, &[])]));
    let ops = simulate(&nothing(), &mut observed);
    let lines = lines(&ops);
    let order = [
        "remove VIP 10.224.0.1",
        "remove name api",
        "stop shop/production/api.1.1",
        "remove shop/production/api.1.1",
        "unplumb shop/production/api.1.1",
        "remove sandbox of shop/production/api.1.1",
        "forget shop/production/api.1.1: 10.208.0.17, fd53:6b65:7000::11",
    ];
    let positions: Vec<_> = order.iter().map(|start| position(&lines, start)).collect();
    assert!(positions.is_sorted(), "{lines:#?}");
}

#[test]
fn who_ends_serves_its_connections_first_and_says_when_nothing_of_it_is_left() {
    let mut desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    let key = desired.replicas.keys().next().unwrap().clone();
    let mut next = desired.replicas[&key].as_ref().clone();
    (next.key, next.address4, next.address6) =
        (key.service.replica(2, 1), [10, 208, 0, 99].into(), "fd53::99".parse().unwrap());
    desired.replicas.insert(next.key.clone(), Arc::new(next));
    simulate(&desired, &mut observed);
    let switch = |to| format!("switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to {to}");
    // Both run; which one serves is the assignment's to say, by one write.
    Arc::make_mut(desired.services.values_mut().next().unwrap()).next = Some(Next { deployment: 2, replicas: 1 });
    let ops = plan(&desired, &observed);
    let name = "name 1.api.internal in shop/production is 10.208.0.99 and fd53::99".to_owned();
    assert_eq!(lines(&ops), [switch("10.208.0.99"), name]);
    ops.iter().for_each(|op| predict(&desired, &mut observed, op));

    Arc::make_mut(desired.replicas.get_mut(&key).unwrap()).ending = true;
    let tell = |observed: &Observed| {
        let told = status::of(&desired.replicas[&key], &desired, observed, &status::Work::default());
        (told.state, told.message)
    };
    observed.drains.insert(key.clone(), Drain { connections: 2, over: false });
    assert_eq!(plan(&desired, &observed), []);
    assert_eq!(tell(&observed), (ReplicaState::Stopping, Some("2 connections have yet to end".into())));
    observed.drains.insert(key.clone(), Drain { connections: 2, over: true });
    let lines = lines(&simulate(&desired, &mut observed));
    assert_eq!(lines[0], "stop shop/production/api.1.1");
    assert!(lines.last().unwrap().starts_with("forget shop/production/api.1.1: "), "{lines:#?}");
    assert_eq!(tell(&observed), (ReplicaState::Stopped, None));
    let tried = status::Work { failure: Some("the image cannot be had"), attempts: 3, ..status::Work::default() };
    let told = status::of(&desired.replicas[&key], &desired, &observed, &tried);
    assert_eq!(told.state, ReplicaState::Stopped, "what was tried in vain before is over");
}

#[test]
fn entries_of_nobody_are_removed_and_others_are_left_alone() {
    let desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    observed.tables.devices.insert(99, Default::default());
    observed.tables.netns.insert(98, Default::default());
    observed.tables.counted = [(0, 0), (7, 1), (7, 9)].map(|(env, service)| Identity { env, service }).into();
    let stray = *observed.tables.services.keys().next().unwrap();
    observed.tables.endpoints.insert(stray.vip, Default::default());
    let expected = [
        "forget the counters of service 9 in environment 7: it is gone".to_owned(),
        "forget device 99: no replica's".to_owned(),
        "forget network namespace 98: no replica's".to_owned(),
        format!("forget endpoint {}: no replica's", stray.vip),
    ];
    assert_eq!(lines(&plan(&desired, &observed)), expected);
}

#[test]
fn daemons_that_do_one_op_each_come_to_an_end() {
    for (from, to) in [(nothing(), shop(&[("api", 1, &[])])), (shop(&[("api", 1, &[])]), nothing())] {
        let mut observed = settled(&from);
        let mut done = Vec::new();
        while let Some(op) = plan(&to, &observed).into_iter().next() {
            predict(&to, &mut observed, &op);
            done.push(op.to_string());
            assert!(done.len() < 50, "{done:#?}");
        }
        assert!(done.len() > 10, "{done:#?}");
    }
}

proptest! {
    /// Whatever was done before a crash: the plan comes to an end, and then all is as it should be.
    #[test]
    fn every_interruption_is_finished(
        before in prop::collection::vec(0_u32..3, 3),
        after in prop::collection::vec(0_u32..3, 3),
        first in 0_usize..80,
        second in 0_usize..80,
    ) {
        let before = shop(&[("api", before[0], &[("db", DependsOn::ServiceStarted)]), ("db", before[1], &[]), ("web", before[2], &[])]);
        let after = shop(&[("api", after[0], &[("db", DependsOn::ServiceStarted)]), ("db", after[1], &[]), ("web", after[2], &[])]);
        let mut observed = Observed { mtu: 1500, uplinks: [2].into(), ..Observed::default() };
        for (desired, count) in [(&before, first), (&after, second)] {
            for op in simulate(desired, &mut observed.clone()).iter().take(count) {
                predict(desired, &mut observed, op);
            }
        }
        for op in simulate(&after, &mut observed.clone()) {
            predict(&after, &mut observed, &op);
        }
        prop_assert_eq!(plan(&after, &observed), vec![]);
        prop_assert_eq!(observed.workloads.len(), after.replicas.len());
        prop_assert_eq!(observed.tables.endpoints.len(), 2 * after.replicas.len());
        prop_assert_eq!(observed.tables.devices.len(), after.replicas.len());
    }
}

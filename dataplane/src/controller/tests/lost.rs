//! Nodes of which nothing is heard any more.

use super::*;
use crate::model::spec::VolumeMount;
use crate::model::{NodeIntent, RunState};

/// Until a node that is away is lost, in seconds.
const LOST: u64 = 20;

/// Two nodes.
fn world() -> World {
    let mut world = World::new(pools());
    world.register("n2");
    world
}

/// Node and whether it is to end, of each replica of `service`.
fn nodes(world: &World, service: &str) -> Vec<(String, bool)> {
    let replicas = world.state.replicas.values().map(|r| &r.value).filter(|r| r.key.service.service == service);
    replicas.map(|r| (r.node.clone(), r.ending)).collect()
}

fn pass(world: &mut World, seconds: u64) {
    world.now += seconds;
    world.settle(usize::MAX);
}

fn cordon(world: &mut World, node: &str, cordoned: bool) {
    let intent = NodeIntent { cordoned, ..NodeIntent::default() };
    world.commit(Txn::default().put(&schema::node_intent(node), &intent).unwrap());
}

#[test]
fn replicas_of_a_lost_node_run_elsewhere_and_volumes_wait_for_it() {
    let (mut world, key) = (world(), environment("production"));
    let mount = VolumeMount { volume: "data".into(), target: "/data".into(), read_only: false };
    let db = ServiceSpec { volumes: vec![mount], ..service("d", 1, &["default"]) };
    world.want(&key, Some(spec(&key, &[("api", service("a", 4, &["default"])), ("db", db)])));
    world.come_to_rest();
    let home = world.replica(&key, "db", 1).node.clone();
    let (stays, lost) = if home == "n1" { ("n2", "n1") } else { ("n1", "n2") };
    assert_eq!(nodes(&world, "api").iter().filter(|(node, _)| node == lost).count(), 2);
    let before: Vec<_> = world.state.replicas.values().filter(|r| r.value.node == lost).cloned().collect();

    world.vanish(lost);
    pass(&mut world, LOST - 1);
    assert_eq!(nodes(&world, "api").iter().filter(|(node, _)| node == lost).count(), 2, "it may be back in a moment");
    pass(&mut world, 1);
    assert_eq!(nodes(&world, "api"), vec![(stays.to_owned(), false); 4]);
    assert_eq!(nodes(&world, "db"), [(lost.to_owned(), false)]);
    world.come_to_rest();

    // When it is back, it takes away what is elsewhere now, and only then are the addresses anybody's.
    let resting = |world: &World| {
        let pool = &world.state.addresses[lost].value;
        (pool.leaving.len(), pool.resting.len())
    };
    assert_eq!(resting(&world), (2, 0), "it still has them");
    world.arrive(lost);
    world.come_to_rest();
    assert_eq!(resting(&world), (0, 2));
    assert_eq!(nodes(&world, "api"), vec![(stays.to_owned(), false); 4], "what is well is not moved back");
    assert_eq!(
        world.replica(&key, "db", 1).address4,
        before.iter().find(|r| r.value.key.service.service == "db").unwrap().value.address4
    );
}

#[test]
fn what_has_nowhere_to_go_waits_and_goes_when_it_can() {
    let (mut world, key) = (world(), environment("production"));
    world.want(&key, Some(spec(&key, &[("api", service("a", 2, &["default"]))])));
    world.come_to_rest();
    cordon(&mut world, "n1", true);
    world.vanish("n2");
    pass(&mut world, LOST);
    assert_eq!(nodes(&world, "api"), [("n1".into(), false), ("n2".into(), false)]);
    assert_eq!(
        world.state.conditions[&key].value.to_string(),
        "shop/production/api.1.2 was on node n2, which is lost, and no node takes shop/production/api.1.2 (n1: cordoned; \
         n2: away): `skepctl nodes uncordon n1`, or bring n2 back"
    );
    cordon(&mut world, "n1", false);
    world.settle(usize::MAX);
    assert!(world.state.conditions.is_empty());
    assert_eq!(nodes(&world, "api"), [("n1".into(), false), ("n1".into(), false)]);
}

/// A service with a run on n2.
fn scheduled() -> (World, EnvironmentKey) {
    let (mut world, key) = (world(), environment("production"));
    cordon(&mut world, "n1", true);
    let nightly = ServiceSpec { schedule: Some("@hourly".into()), ..service("backup", 1, &["default"]) };
    world.want(&key, Some(spec(&key, &[("nightly", nightly)])));
    world.come_to_rest();
    pass(&mut world, 3_600);
    world.agents();
    cordon(&mut world, "n1", false);
    (world, key)
}

/// State of each run.
fn runs(world: &World) -> Vec<RunState> {
    world.state.runs.values().flat_map(|runs| &runs.value.runs).map(|run| run.state).collect()
}

#[test]
fn a_run_never_moves_and_no_other_begins_while_it_may_go_on() {
    let (mut world, _) = scheduled();
    assert_eq!((nodes(&world, "nightly"), runs(&world)), (vec![("n2".into(), false)], vec![RunState::Running]));

    world.vanish("n2");
    pass(&mut world, LOST);
    assert_eq!((nodes(&world, "nightly"), runs(&world)), (vec![("n2".into(), true)], vec![RunState::Failed]));
    pass(&mut world, 3_600);
    world.agents();
    pass(&mut world, 3_600);
    let story = [RunState::Failed, RunState::Skipped];
    assert_eq!((nodes(&world, "nightly"), runs(&world)), (vec![("n2".into(), true)], story.to_vec()));

    // It is back, and has not stopped it yet.
    world.arrive("n2");
    pass(&mut world, 3_600);
    assert_eq!((nodes(&world, "nightly"), runs(&world)), (vec![("n2".into(), true)], story.to_vec()));
    world.agents();
    world.settle(usize::MAX);
    assert_eq!(nodes(&world, "nightly"), []);
    pass(&mut world, 3_600);
    assert_eq!(runs(&world), [story.as_slice(), &[RunState::Running]].concat());
}

#[test]
fn a_node_that_is_forgotten_takes_its_run_with_it() {
    let (mut world, _) = scheduled();
    world.vanish("n2");
    pass(&mut world, LOST);
    world.commit(Txn::default().delete(&schema::node("n2")).delete(&schema::addresses("n2")));
    world.state.statuses.retain(|(_, node), _| node != "n2");
    pass(&mut world, 3_600);
    assert_eq!((nodes(&world, "nightly"), runs(&world)), (vec![], vec![RunState::Failed, RunState::Skipped]));
    pass(&mut world, 3_600);
    assert_eq!(nodes(&world, "nightly"), [("n1".into(), false)]);
}

#[test]
fn a_held_run_keeps_no_new_version_waiting() {
    let (mut world, key) = scheduled();
    world.vanish("n2");
    pass(&mut world, LOST);
    for image in ["backup:2", "backup:3"] {
        let nightly = ServiceSpec { schedule: Some("@hourly".into()), ..service(image, 1, &["default"]) };
        world.want(&key, Some(spec(&key, &[("nightly", nightly)])));
        world.come_to_rest();
    }
    assert_eq!(world.service(&key, "nightly").unwrap().spec.image, "backup:3");
}

#[test]
fn a_release_task_never_moves_and_its_version_fails() {
    let (mut world, key) = (world(), environment("production"));
    cordon(&mut world, "n1", true);
    let release = ServiceSpec { release: Some(vec!["migrate".into()]), ..service("a", 1, &["default"]) };
    world.want(&key, Some(spec(&key, &[("api", release)])));
    world.settle(usize::MAX);
    world.agents();
    cordon(&mut world, "n1", false);
    world.vanish("n2");
    pass(&mut world, LOST);
    let deployment = &world.state.deployments.values().next().unwrap().value;
    assert_eq!(deployment.state, DeploymentState::Failed);
    assert_eq!(
        deployment.reason.as_deref(),
        Some("its release task failed: node n2 was lost, and how it ended is not known")
    );
    assert!(nodes(&world, "api").iter().all(|(node, _)| node != "n1"));
}

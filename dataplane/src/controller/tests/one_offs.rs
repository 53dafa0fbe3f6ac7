//! Containers for commands.

use super::*;
use crate::agent::names::named;
use crate::model::OneOff;
use crate::model::one_off::HOLDER;
use crate::model::spec::VolumeMount;

impl World {
    /// Somebody asks for a container for a command, unless there is no such service, or there is one already.
    pub(super) fn ask(&mut self, service: &ServiceKey, number: u32, node: &str) {
        let key = service.one_off(number);
        let known = self.state.services.get(service).filter(|service| !service.value.leaving);
        if let Some(of) =
            known.map(|service| service.value.deployment).filter(|_| !self.state.one_offs.contains_key(&key))
        {
            let asked = OneOff { key, of, node: node.into(), refused: None };
            self.commit(Txn::default().put(&schema::one_off(&asked.key), &asked).unwrap());
        }
    }

    /// Its command has ended.
    pub(super) fn answered(&mut self, key: &ReplicaKey) {
        self.commit(Txn::default().delete(&schema::one_off(key)));
    }
}

/// Two nodes with a service that has two replicas and another with a volume, at rest.
fn world() -> (World, EnvironmentKey) {
    let (mut world, key) = (World::new(pools()), environment("production"));
    world.register("n2");
    let mount = VolumeMount { volume: "data".into(), target: "/data".into(), read_only: false };
    let db = ServiceSpec { volumes: vec![mount], ..service("d", 1, &["back"]) };
    world.want(&key, Some(spec(&key, &[("web", service("w", 2, &["back"])), ("db", db)])));
    world.come_to_rest();
    (world, key)
}

fn refusal(world: &World, key: &ReplicaKey) -> Option<String> {
    world.state.one_offs[key].value.refused.as_ref().map(ToString::to_string)
}

#[test]
fn a_command_gets_a_container_where_it_is_asked_for_and_only_for_as_long() {
    let (mut world, key) = world();
    let (web, before) = (key.service("web"), world.state.clone());
    for (number, node) in [(1, "n2"), (2, "n2"), (3, "n1")] {
        world.ask(&web, number, node);
    }
    world.come_to_rest();
    let at = |world: &World, number| world.state.replicas.get(&web.one_off(number)).map(|r| r.value.node.clone());
    let nodes: Vec<_> = (1..=3).filter_map(|number| at(&world, number)).collect();
    assert_eq!(nodes, ["n2", "n2", "n1"]);
    let replica = &world.state.replicas[&web.one_off(1)].value;
    assert_eq!((replica.spec.entrypoint.as_deref(), replica.networks), (Some(&[HOLDER.to_owned()][..]), 1));
    assert!(replica.is_passing() && !replica.is_run());
    // It serves nobody, has no name, and its service is as it was.
    let service = &world.state.services[&web];
    assert!(!service.value.is_served_by(&web.one_off(1)));
    let replicas = world.state.replicas_of_service(&web).map(|r| (&r.value.key, ()));
    assert_eq!(named(&service.value, replicas).into_keys().collect::<Vec<_>>(), [1, 2]);
    assert_eq!((&world.state.services, &world.state.deployments), (&before.services, &before.deployments));
    // Another version of the service is nothing to it.
    world.want(&key, Some(spec(&key, &[("web", service_of("w2"))])));
    world.come_to_rest();
    assert_eq!(world.state.replicas[&web.one_off(1)].value.spec.image, "w");
    assert_eq!(world.state.services[&web].value.deployment, 2);
    (1..=3).for_each(|number| world.answered(&web.one_off(number)));
    world.come_to_rest();
    assert!(world.state.replicas.keys().all(|replica| !replica.is_one_off()));
}

fn service_of(image: &str) -> ServiceSpec {
    service(image, 2, &["back"])
}

#[test]
fn a_command_that_cannot_be_there_is_refused() {
    let (mut world, key) = world();
    let home = world.replica(&key, "db", 1).node.clone();
    let elsewhere = if home == "n1" { "n2" } else { "n1" };
    let db = key.service("db");
    world.ask(&db, 1, elsewhere);
    world.ask(&db, 2, &home);
    world.come_to_rest();
    let said = format!(
        "shop/production/db.run-1 mounts data, which is on node {home}, and this is {elsewhere}: ask on {home}"
    );
    assert_eq!(refusal(&world, &db.one_off(1)), Some(said));
    assert_eq!(refusal(&world, &db.one_off(2)), None);
    assert_eq!(world.state.replicas[&db.one_off(2)].value.node, home);
    // Once it has been refused it is not begun, whatever changes.
    world.want(&key, Some(spec(&key, &[("db", service_of("d"))])));
    world.come_to_rest();
    assert!(!world.state.replicas.contains_key(&db.one_off(1)));
}

#[test]
fn a_command_goes_with_its_service_and_with_its_node() {
    let (mut world, key) = world();
    let web = key.service("web");
    world.ask(&web, 1, "n1");
    world.ask(&web, 2, "n2");
    world.come_to_rest();
    // Nothing is heard of the node: nobody begins the command a second time.
    world.vanish("n2");
    world.now += 60;
    world.come_to_rest();
    assert_eq!(world.state.replicas[&web.one_off(2)].value.node, "n2");
    world.commit(Txn::default().delete(&schema::node("n2")));
    world.settle(usize::MAX);
    assert!(!world.state.one_offs.contains_key(&web.one_off(2)) && !world.state.replicas.contains_key(&web.one_off(2)));
    world.want(&key, None);
    world.come_to_rest();
    assert!(world.state.one_offs.is_empty() && world.state.replicas.is_empty() && world.state.services.is_empty());
}

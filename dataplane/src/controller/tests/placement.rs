//! Which node a replica goes to, and why none takes it.

use proptest::prelude::*;

use super::*;
use crate::model::spec::VolumeMount;
use crate::model::{Capacity, NodeIntent, Placement, Reserved, Role};

const GIB: u64 = 1 << 30;
const CPU: u64 = 1_000_000_000;

/// What a node is like.
#[derive(Debug, Clone)]
struct Machine {
    present: bool,
    intent: NodeIntent,
    capacity: Option<Capacity>,
}

fn machine() -> Machine {
    Machine { present: true, intent: NodeIntent::default(), capacity: None }
}

fn labelled(label: &str) -> Machine {
    let (name, value) = label.split_once('=').unwrap();
    let labels = [(name.to_owned(), value.to_owned())].into();
    Machine { intent: NodeIntent { labels, ..NodeIntent::default() }, ..machine() }
}

fn sized(memory: u64, cpus: u64) -> Machine {
    Machine { capacity: Some(Capacity { memory, nano_cpus: cpus * CPU }), ..machine() }
}

/// `n1`, `n2` … are like this.
fn world(machines: &[Machine]) -> World {
    let mut world = World::new(pools());
    for (number, machine) in (1..).zip(machines) {
        let name = format!("n{number}");
        if number > 1 {
            world.register(&name);
        }
        change(&mut world, &name, machine);
    }
    world
}

fn change(world: &mut World, name: &str, machine: &Machine) {
    world.commit(Txn::default().put(&schema::node_intent(name), &machine.intent).unwrap());
    if !machine.present {
        return world.vanish(name);
    }
    let presence = Presence { instance: name.into(), version: String::new(), capacity: machine.capacity, daemon: None };
    world.commit(Txn::default().put(&schema::presence(name), &presence).unwrap());
}

/// Replicas that may be where these constraints hold.
fn constrained(replicas: u32, constraints: &[&str]) -> ServiceSpec {
    let constraints = constraints.iter().map(|text| text.parse().unwrap()).collect();
    ServiceSpec { placement: Placement { constraints, max_per_node: None }, ..service("a", replicas, &["default"]) }
}

fn reserving(replicas: u32, memory: u64, nano_cpus: u64) -> ServiceSpec {
    ServiceSpec { reserved: Reserved { memory, nano_cpus }, ..service("a", replicas, &["default"]) }
}

fn up(world: &mut World, services: &[(&str, ServiceSpec)]) {
    let key = environment("production");
    world.want(&key, Some(spec(&key, services)));
    world.settle(usize::MAX);
}

/// The nodes of a service's replicas.
fn nodes(world: &World, service: &str) -> Vec<String> {
    let replicas = world.state.replicas.values().map(|r| &r.value).filter(|r| r.key.service.service == service);
    let mut nodes: Vec<String> = replicas.map(|r| r.node.clone()).collect();
    nodes.sort();
    nodes
}

fn condition(world: &World) -> String {
    world.state.conditions.values().map(|condition| condition.value.to_string()).collect()
}

#[test]
fn replicas_go_where_all_constraints_hold() {
    let machines = [labelled("disk=ssd"), labelled("disk=hdd"), labelled("disk=SSD")];
    let cases: [(&[&str], &[&str]); 5] = [
        (&["node.labels.disk==ssd"], &["n1", "n1", "n3", "n3"]),
        (&["node.labels.disk==ssd", "node.hostname!=n1"], &["n3", "n3", "n3", "n3"]),
        (&["node.labels.disk!=ssd"], &["n2", "n2", "n2", "n2"]),
        (&["node.hostname==n2"], &["n2", "n2", "n2", "n2"]),
        (&["node.role==compute", "node.labels.zone!=a"], &["n1", "n1", "n2", "n3"]),
    ];
    for (constraints, expected) in cases {
        let mut world = world(&machines);
        up(&mut world, &[("a", constrained(4, constraints))]);
        assert_eq!(nodes(&world, "a"), expected, "{constraints:?}");
        assert_eq!(condition(&world), "");
    }
}

#[test]
fn a_changed_label_moves_nothing_and_a_changed_constraint_is_another_version() {
    let mut world = world(&[labelled("disk=ssd"), machine()]);
    up(&mut world, &[("a", constrained(1, &["node.labels.disk==ssd"]))]);
    world.come_to_rest();
    change(&mut world, "n1", &machine());
    change(&mut world, "n2", &labelled("disk=ssd"));
    world.come_to_rest();
    assert_eq!(nodes(&world, "a"), ["n1"]);
    up(&mut world, &[("a", constrained(2, &["node.labels.disk==ssd"]))]);
    assert_eq!(nodes(&world, "a"), ["n1", "n2"], "what is placed anew");
    world.come_to_rest();
    up(&mut world, &[("a", constrained(2, &["node.hostname==n2"]))]);
    world.come_to_rest();
    assert_eq!(nodes(&world, "a"), ["n2", "n2"]);
    assert_eq!(world.service(&environment("production"), "a").unwrap().deployment, 2);
}

#[test]
fn what_nobody_takes_says_why_of_each_node() {
    let cordoned = Machine { intent: NodeIntent { cordoned: true, ..NodeIntent::default() }, ..labelled("disk=ssd") };
    let away = Machine { present: false, ..labelled("disk=ssd") };
    let control = NodeIntent { roles: [Role::Control].into(), ..NodeIntent::default() };
    let mut full = labelled("disk=ssd");
    full.capacity = Some(Capacity { memory: 2 * GIB, nano_cpus: 4 * CPU });
    let mut world = world(&[cordoned, machine(), full, away, Machine { intent: control, ..machine() }, machine()]);
    let constraint = |spec: ServiceSpec| ServiceSpec {
        placement: Placement { constraints: vec!["node.labels.disk==ssd".parse().unwrap()], max_per_node: None },
        ..spec
    };
    up(&mut world, &[("a", constraint(reserving(2, 3 * GIB / 2, 0)))]);
    assert_eq!(nodes(&world, "a"), ["n3"]);
    assert_eq!(
        condition(&world),
        "no node takes shop/production/a.1.2, which reserves 1.5 GiB memory (n1: cordoned; n2: no label disk=ssd; \
         n3: 1.5 GiB memory of 2 GiB reserved; n4: away; n5: not of the role compute; 1 more): \
         `skepctl nodes uncordon n1`, or `skepctl nodes label n2 disk=ssd`, or reserve less, or add a node"
    );
    change(&mut world, "n6", &labelled("disk=ssd"));
    world.settle(usize::MAX);
    assert_eq!((nodes(&world, "a"), condition(&world)), (vec!["n3".into(), "n6".into()], String::new()));
}

#[test]
fn no_more_is_reserved_than_there_is() {
    let mut world = world(&[sized(4 * GIB, 2), sized(2 * GIB, 4)]);
    up(&mut world, &[("a", reserving(10, GIB, 0))]);
    assert_eq!(nodes(&world, "a").iter().filter(|node| *node == "n1").count(), 4);
    assert_eq!(nodes(&world, "a").len(), 6);
    let told = condition(&world);
    assert!(told.contains("n1: 4 GiB memory of 4 GiB reserved; n2: 2 GiB memory of 2 GiB reserved"), "{told}");
    // Who reserves nothing needs nothing.
    up(&mut world, &[("a", reserving(6, GIB, 0)), ("b", service("b", 2, &["default"]))]);
    assert_eq!((nodes(&world, "b").len(), condition(&world)), (2, String::new()));
    up(&mut world, &[("b", reserving(1, 0, 5 * CPU / 2))]);
    world.come_to_rest();
    up(&mut world, &[("b", reserving(1, 0, 5 * CPU / 2)), ("c", reserving(2, 0, 3 * CPU / 2))]);
    assert_eq!((nodes(&world, "b"), nodes(&world, "c")), (vec!["n2".into()], vec!["n1".into(), "n2".into()]));
}

#[test]
fn a_version_for_which_there_is_no_room_beside_the_one_before_may_come_after_it() {
    let version = |image: &str| ServiceSpec { image: image.into(), ..reserving(1, 3 * GIB / 2, 0) };
    let mut world = world(&[sized(2 * GIB, 2)]);
    up(&mut world, &[("a", version("v1"))]);
    world.come_to_rest();
    up(&mut world, &[("a", version("v2"))]);
    let failed = world.state.deployments.values().find_map(|deployment| deployment.value.reason.clone()).unwrap();
    assert!(
        failed.contains("n1: 1.5 GiB memory of 2 GiB reserved") && failed.contains("order: stop-first"),
        "{failed}"
    );
    let mut after = version("v3");
    after.update.order = crate::model::rollout::Order::StopFirst;
    up(&mut world, &[("a", after)]);
    world.come_to_rest();
    assert_eq!(world.service(&environment("production"), "a").unwrap().spec.image, "v3");
}

#[test]
fn what_a_version_that_failed_would_have_reserved_is_free_at_once() {
    let mut world = world(&[sized(4 * GIB, 2)]);
    up(&mut world, &[("a", reserving(2, GIB, 0))]);
    world.come_to_rest();
    // One of the new two fits, and goes with the other.
    let key = environment("production");
    world.want(&key, Some(spec(&key, &[("a", reserving(2, 3 * GIB / 2, 0)), ("b", reserving(1, 2 * GIB, 0))])));
    world.settle(1);
    assert_eq!((nodes(&world, "a").len(), nodes(&world, "b").len(), condition(&world)), (2, 1, String::new()));
}

#[test]
fn so_many_of_a_deployment_are_on_a_node_and_the_next_version_finds_room() {
    let at_most = |image: &str, replicas| ServiceSpec {
        image: image.into(),
        placement: Placement { constraints: Vec::new(), max_per_node: Some(1) },
        ..service("a", replicas, &["default"])
    };
    let mut world = world(&[machine(), machine()]);
    up(&mut world, &[("a", at_most("v1", 3))]);
    assert_eq!(nodes(&world, "a"), ["n1", "n2"]);
    assert!(condition(&world).contains("(n1: one replica of it; n2: one replica of it): raise max_replicas_per_node"));
    up(&mut world, &[("a", at_most("v1", 2))]);
    world.come_to_rest();
    up(&mut world, &[("a", at_most("v2", 2))]);
    world.come_to_rest();
    assert_eq!(world.service(&environment("production"), "a").unwrap().deployment, 2);
    assert_eq!(nodes(&world, "a"), ["n1", "n2"]);
}

#[test]
fn what_has_volumes_stays_with_them_and_says_what_stands_against_it() {
    let mount = VolumeMount { volume: "data".into(), target: "/data".into(), read_only: false };
    let db = |image: &str, constraints: &[&str]| ServiceSpec {
        image: image.into(),
        volumes: vec![mount.clone()],
        ..constrained(1, constraints)
    };
    let mut world = world(&[machine(), labelled("disk=ssd")]);
    up(&mut world, &[("db", db("v1", &["node.labels.disk==ssd"]))]);
    world.come_to_rest();
    let cordoned = NodeIntent { cordoned: true, ..labelled("disk=ssd").intent };
    change(&mut world, "n2", &Machine { intent: cordoned, ..machine() });
    up(&mut world, &[("db", db("v2", &["node.labels.disk==ssd"]))]);
    world.come_to_rest();
    assert_eq!((nodes(&world, "db"), condition(&world)), (vec!["n2".into()], String::new()), "cordoned or not");
    up(&mut world, &[("db", db("v3", &["node.hostname==n1"]))]);
    world.come_to_rest();
    let deployment = world.state.deployments.values().last().unwrap();
    assert_eq!(
        deployment.value.reason.as_deref(),
        Some(
            "shop/production/db.3.1 mounts data, which is on node n2, and that does not take it (is not n1): \
             change the constraint node.hostname==n1"
        )
    );
    assert_eq!(nodes(&world, "db"), ["n2"]);
}

#[test]
fn the_least_of_the_service_is_reserved_first_and_the_name_decides_at_last() {
    let mut world = world(&[sized(8 * GIB, 8), sized(8 * GIB, 8), sized(4 * GIB, 8)]);
    up(&mut world, &[("a", reserving(1, GIB, 0))]);
    assert_eq!(nodes(&world, "a"), ["n1"]);
    up(&mut world, &[("a", reserving(1, GIB, 0)), ("b", reserving(1, GIB, 0)), ("c", reserving(1, GIB, 0))]);
    assert_eq!((nodes(&world, "b"), nodes(&world, "c")), (vec!["n2".into()], vec!["n3".into()]));
    // An eighth is less than a quarter, however many replicas there are.
    up(
        &mut world,
        &[
            ("a", reserving(1, GIB, 0)),
            ("b", reserving(1, GIB, 0)),
            ("c", reserving(1, GIB, 0)),
            ("d", service("d", 1, &["default"])),
            ("e", service("e", 1, &["default"])),
        ],
    );
    assert_eq!((nodes(&world, "d"), nodes(&world, "e")), (vec!["n1".into()], vec!["n2".into()]));
}

fn any_machine() -> impl Strategy<Value = Machine> {
    let roles =
        prop::collection::btree_set(prop::sample::select(vec![Role::Control, Role::Build, Role::Compute]), 1..4);
    let labels = prop::collection::btree_map(
        prop::sample::select(vec!["disk".to_owned(), "zone".to_owned()]),
        prop::sample::select(vec!["a".to_owned(), "b".to_owned()]),
        0..3,
    );
    let capacity = prop::option::of(
        (1..5_u64, 1..5_u64).prop_map(|(memory, cpus)| Capacity { memory: memory * GIB, nano_cpus: cpus * CPU }),
    );
    let rarely = || prop::bool::weighted(0.15);
    (rarely(), rarely(), roles, labels, capacity).prop_map(|(away, cordoned, roles, labels, capacity)| Machine {
        present: !away,
        intent: NodeIntent { cordoned, labels, roles, rotate: 0 },
        capacity,
    })
}

fn any_service() -> impl Strategy<Value = ServiceSpec> {
    let texts = [
        "node.labels.disk==a",
        "node.labels.disk!=a",
        "node.labels.zone==b",
        "node.labels.zone!=b",
        "node.role==build",
        "node.role!=control",
        "node.hostname==n1",
        "node.hostname!=n2",
    ];
    let constraints = prop::collection::vec(prop::sample::select(texts.to_vec()), 0..3);
    (0..5_u32, constraints, prop::option::of(1..3_u32), 0..4_u64, 0..4_u64).prop_map(
        |(replicas, constraints, max, memory, cpus)| {
            let mut spec = reserving(replicas, memory * GIB / 2, cpus * CPU / 2);
            spec.placement = constrained(0, &constraints).placement;
            spec.placement.max_per_node = max;
            spec
        },
    )
}

/// Whether a node would take one more of a service, told without the code that places.
fn takes(world: &World, machine: &Machine, node: &str, name: &str, spec: &ServiceSpec) -> bool {
    let there: Vec<_> = world.state.replicas.values().map(|r| &r.value).filter(|r| r.node == node).collect();
    let of_it = there.iter().filter(|r| r.key.service.service == name).count();
    let memory: u64 = there.iter().map(|r| r.spec.reserved.memory).sum();
    let cpus: u64 = there.iter().map(|r| r.spec.reserved.nano_cpus).sum();
    let fits = |all: u64, one: u64, whole: fn(Capacity) -> u64| {
        one == 0 || machine.capacity.is_none_or(|capacity| all + one <= whole(capacity))
    };
    machine.present
        && !machine.intent.cordoned
        && allowed(machine, node, spec)
        && spec.placement.max_per_node.is_none_or(|max| of_it < max as usize)
        && fits(memory, spec.reserved.memory, |capacity| capacity.memory)
        && fits(cpus, spec.reserved.nano_cpus, |capacity| capacity.nano_cpus)
}

/// Whether role and constraints let a service be on a node.
fn allowed(machine: &Machine, node: &str, spec: &ServiceSpec) -> bool {
    let label = |name: &str| machine.intent.labels.get(name).map_or("", String::as_str);
    machine.intent.roles.contains(&Role::Compute)
        && spec.placement.constraints.iter().all(|constraint| match constraint.to_string().as_str() {
            "node.labels.disk==a" => label("disk") == "a",
            "node.labels.disk!=a" => label("disk") != "a",
            "node.labels.zone==b" => label("zone") == "b",
            "node.labels.zone!=b" => label("zone") != "b",
            "node.role==build" => machine.intent.roles.contains(&Role::Build),
            "node.role!=control" => !machine.intent.roles.contains(&Role::Control),
            "node.hostname==n1" => node == "n1",
            "node.hostname!=n2" => node != "n2",
            other => panic!("{other}"),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_placed_is_where_it_may_be_and_what_is_not_nobody_would_take(
        machines in prop::collection::vec(any_machine(), 1..6),
        services in prop::collection::vec(any_service(), 1..5),
    ) {
        let mut world = world(&machines);
        let names: Vec<String> = (0..services.len()).map(|number| format!("s{number}")).collect();
        let wanted: Vec<(&str, ServiceSpec)> = names.iter().map(String::as_str).zip(services.clone()).collect();
        up(&mut world, &wanted);
        let by_name = |node: &str| &machines[node[1..].parse::<usize>().unwrap() - 1];
        for replica in world.state.replicas.values().map(|replica| &replica.value) {
            let machine = by_name(&replica.node);
            prop_assert!(machine.present && !machine.intent.cordoned);
            prop_assert!(allowed(machine, &replica.node, &replica.spec), "{:#?}", replica);
        }
        for (node, machine) in (1..).map(|number| format!("n{number}")).zip(&machines) {
            let there = || world.state.replicas.values().map(|r| &r.value).filter(|r| r.node == node);
            if let Some(capacity) = machine.capacity {
                prop_assert!(there().map(|r| r.spec.reserved.memory).sum::<u64>() <= capacity.memory);
                prop_assert!(there().map(|r| r.spec.reserved.nano_cpus).sum::<u64>() <= capacity.nano_cpus);
            }
            for (name, spec) in &wanted {
                let of_it = there().filter(|r| r.key.service.service == *name).count();
                prop_assert!(spec.placement.max_per_node.is_none_or(|max| of_it <= max as usize));
            }
        }
        let missing: Vec<_> = wanted.iter().filter(|(name, spec)| nodes(&world, name).len() < spec.replicas as usize).collect();
        prop_assert_eq!(missing.is_empty(), world.state.conditions.is_empty());
        for (name, spec) in missing {
            for (node, machine) in (1..).map(|number| format!("n{number}")).zip(&machines) {
                prop_assert!(!takes(&world, machine, &node, name, spec), "{} would take {}", node, name);
            }
        }
        // The same again is the same.
        let mut again = self::world(&machines);
        up(&mut again, &wanted);
        prop_assert_eq!(&world.state.replicas, &again.state.replicas);
    }
}

//! Where replicas may be and what is kept free for them, as files say it.

use super::rollout::{file, service};
use super::*;
use crate::model::{Placement, Reserved};

#[test]
fn constraints_and_reservations_are_read() {
    let a = service(
        "    deploy:\n      placement:\n        constraints: [node.labels.disk==ssd, 'node.role != build']\n        \
         max_replicas_per_node: 2\n      resources: { reservations: { cpus: '0.25', memory: 64M } }",
    );
    let constraints: Vec<String> = a.placement.constraints.iter().map(ToString::to_string).collect();
    assert_eq!(constraints, ["node.labels.disk==ssd", "node.role!=build"]);
    assert_eq!(a.placement.max_per_node, Some(2));
    assert_eq!(a.reserved, Reserved { memory: 64 << 20, nano_cpus: 250_000_000 });
    assert_eq!(service("    mem_reservation: 64m").reserved, Reserved { memory: 64 << 20, nano_cpus: 0 });
    // What says nothing asks for nothing.
    let empty = "    mem_reservation: 0\n    deploy: { placement: { constraints: , max_replicas_per_node: }, \
                 resources: { reservations: { cpus: 0, memory: } } }";
    let a = service(empty);
    assert_eq!((a.placement, a.reserved), (Placement::default(), Reserved::default()));
    assert_eq!(service("    deploy: { placement: { max_replicas_per_node: 0 } }").placement, Placement::default());
}

#[test]
fn preferences_have_no_effect_and_say_so() {
    let dir = directory(&[(
        "compose.yaml",
        &file("    deploy: { placement: { preferences: [ { spread: node.labels.zone } ] } }"),
    )]);
    let Manifest { notes, .. } = load_in(&dir, &[]).unwrap_or_else(|error| panic!("{error}"));
    let expected = "4:28: services.a.deploy.placement.preferences: has no effect: replicas are spread over all nodes that take them";
    assert_eq!(lines(&dir, &notes), [expected]);
}

#[test]
fn what_cannot_be_is_refused_by_line_with_the_way_out() {
    let constrained = |text: &str| format!("    deploy:\n      placement:\n        constraints:\n          - {text}");
    let cases = [
        (
            constrained("node.role==manager"),
            "7:13: services.a.deploy.placement.constraints: \"manager\" is no role of a node; Swarm's managers",
        ),
        (
            constrained("node.role==worker"),
            "7:13: services.a.deploy.placement.constraints: \"worker\" is no role of a node; Swarm's workers",
        ),
        (
            constrained("node.id==x"),
            "7:13: services.a.deploy.placement.constraints: nodes have no \"node.id\" to be placed by; use node.hostname",
        ),
        (
            constrained("disk=ssd"),
            "7:13: services.a.deploy.placement.constraints: \"disk=ssd\" is no constraint; write one as",
        ),
        ("    deploy: { placement: { max_replicas_per_node: -1 } }".to_owned(), "\"-1\" is no number from 0"),
        ("    deploy: { placement: { constraint: [a] } }".to_owned(), "did you mean constraints?"),
        ("    mem_reservation: much".to_owned(), "\"much\" is no size"),
        ("    deploy: { resources: { reservations: { cpus: -1 } } }".to_owned(), "\"-1\" is no number of processors"),
        (
            "    mem_reservation: 8m\n    deploy: { resources: { reservations: { memory: 9m } } }".to_owned(),
            "it differs from what mem_reservation says; keep one of them",
        ),
        (
            "    deploy: { resources: { limits: { memory: 8m }, reservations: { memory: 9m } } }".to_owned(),
            "services.a.deploy.resources.reservations.memory: more is reserved than it may take",
        ),
    ];
    for (body, told) in cases {
        let dir = directory(&[("compose.yaml", &file(&body))]);
        let said = load_in(&dir, &[]).unwrap_err().to_string();
        assert!(said.contains(told), "{body}: {said}");
    }
}

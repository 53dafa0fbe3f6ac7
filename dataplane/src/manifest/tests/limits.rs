//! What replicas may take, as files say it.

use super::rollout::{file, service};
use super::*;
use crate::model::Limits;

fn errors(body: &str) -> String {
    let dir = directory(&[("compose.yaml", &file(body))]);
    load_in(&dir, &[]).unwrap_err().to_string()
}

#[test]
fn limits_are_read_from_both_places() {
    let expected = Limits { memory: Some(64 << 20), nano_cpus: Some(500_000_000), pids: Some(100) };
    for body in [
        "    mem_limit: 64m\n    cpus: 0.5\n    pids_limit: 100",
        "    deploy: { resources: { limits: { memory: 64M, cpus: '0.50', pids: 100 } } }",
        // What says the same twice is no contradiction.
        "    mem_limit: 65536k\n    pids_limit: 100\n    deploy: { resources: { limits: { memory: 64M, cpus: .5 } } }",
    ] {
        assert_eq!(service(body).limits, expected, "{body}");
    }
    for body in ["    restart: always", "    mem_limit: 0\n    cpus: 0\n    pids_limit: -1"] {
        assert_eq!(service(body).limits, Limits::default(), "{body}");
    }
}

#[test]
fn limits_that_cannot_be_are_refused_with_the_way_out() {
    let cases = [
        ("    mem_limit: much", "\"much\" is no size; write a number with a unit"),
        ("    mem_limit: 1m", "1 MiB are too little memory for a container; give it 6M or more"),
        ("    cpus: -1", "\"-1\" is no number of processors"),
        ("    cpus: nan", "\"nan\" is no number of processors"),
        ("    pids_limit: -2", "\"-2\" is no number of processes"),
        (
            "    mem_limit: 8m\n    deploy: { resources: { limits: { memory: 9m } } }",
            "it differs from what mem_limit says; keep one of them",
        ),
    ];
    for (body, told) in cases {
        let said = errors(body);
        assert!(said.contains(told), "{body}: {said}");
    }
}

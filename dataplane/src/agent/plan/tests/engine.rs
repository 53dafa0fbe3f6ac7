//! What people and Docker do to containers.

use super::*;
use crate::docker::Role;

/// `shop/production/api` with two replicas, the first of whose workloads is changed.
fn with_first(policy: RestartPolicy, change: impl FnOnce(&mut super::super::super::observed::Workload)) -> Vec<String> {
    let mut desired = shop(&[("api", 2, &[])]);
    for replica in desired.replicas.values_mut() {
        Arc::make_mut(replica).spec.restart = policy;
    }
    let mut observed = settled(&desired);
    change(observed.workloads.values_mut().next().unwrap());
    lines(&plan(&desired, &observed))
}

const TO_THE_OTHER: &str = "switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to 10.208.0.18";
const START: &str = "start shop/production/api.1.1";

#[test]
fn what_a_person_stopped_is_started_where_docker_would_have() {
    use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
    for (policy, status, restarts, again) in [
        (Always, 0, 0, true),
        (UnlessStopped, 137, 0, true),
        (OnFailure(0), 143, 9, true),
        (OnFailure(3), 143, 2, true),
        (OnFailure(3), 1, 3, false),
        (OnFailure(3), 0, 0, false),
        (No, 137, 0, false),
    ] {
        let lines =
            with_first(policy, |workload| workload.state = WorkloadState::Exited { exit: exit(status), restarts });
        let expected: &[&str] = if again { &[TO_THE_OTHER, START] } else { &[TO_THE_OTHER] };
        assert_eq!(lines, expected, "{policy:?}, status {status} after {restarts} restarts");
    }
}

#[test]
fn what_a_person_paused_is_resumed() {
    let lines = with_first(RestartPolicy::No, |workload| workload.state = WorkloadState::Paused);
    assert_eq!(lines, [TO_THE_OTHER, "resume shop/production/api.1.1"]);
}

#[test]
fn what_somebody_removes_is_made_anew() {
    let lines = with_first(RestartPolicy::No, |workload| workload.state = WorkloadState::Leaving);
    assert_eq!(lines[0], TO_THE_OTHER);
    let order = ["remove shop/production/api.1.1", "create shop/production/api.1.1", START];
    let positions: Vec<_> = order.iter().map(|start| position(&lines, start)).collect();
    assert!(positions.is_sorted(), "{lines:#?}");
}

#[test]
fn another_name_or_a_frozen_sandbox_takes_nobody_out_of_service() {
    let lines = with_first(RestartPolicy::No, |workload| workload.renamed = true);
    assert_eq!(lines, ["name shop/production/api.1.1 as it was"]);
    let desired = shop(&[("api", 1, &[])]);
    let mut observed = settled(&desired);
    let sandbox = observed.sandboxes.values_mut().next().unwrap();
    (sandbox.paused, sandbox.renamed) = (true, true);
    let ops = plan(&desired, &observed);
    let steps: Vec<_> =
        ops.iter().filter_map(|op| if let Op::Replica(_, step) = op { Some(step) } else { None }).collect();
    assert_eq!(steps, [&Step::Resume(Role::Sandbox), &Step::Rename(Role::Sandbox)]);
    assert_eq!(ops.len(), 2);
}

#[test]
fn a_job_that_ended_is_not_done_again_when_docker_comes_back_without_its_sandbox() {
    let mut desired = shop(&[("migrate", 1, &[])]);
    for replica in desired.replicas.values_mut() {
        Arc::make_mut(replica).spec.restart = RestartPolicy::No;
    }
    let mut observed = settled(&desired);
    observed.sandboxes.values_mut().next().unwrap().state = SandboxState::Dead;
    observed.workloads.values_mut().next().unwrap().state = WorkloadState::Exited { exit: exit(0), restarts: 0 };
    let ops = plan(&desired, &observed);
    assert!(!ops.iter().any(|op| matches!(op, Op::Replica(..))), "{:#?}", lines(&ops));
}

#[test]
fn who_ended_is_withdrawn_before_anything_else_is_looked_at() {
    let desired = shop(&[("api", 2, &[]), ("db", 1, &[])]);
    let observed = settled(&desired);
    let workload = observed.workloads.values().next().unwrap().id.clone();
    assert_eq!(lines(&withdraw(&desired, &observed, &[workload].into())), [TO_THE_OTHER]);
    assert_eq!(withdraw(&desired, &observed, &["another".to_owned()].into()), []);
}

#[test]
fn without_docker_the_kernel_is_still_looked_after() {
    let desired = shop(&[("api", 2, &[])]);
    let mut observed = settled(&desired);
    observed.sockets_attached = false;
    observed.strays.insert("stray".into());
    let mut veths = observed.veths.values_mut();
    let (first, second) = (veths.next().unwrap(), veths.next().unwrap());
    observed.attached.remove(&first.ifindex);
    second.up = false;
    // The second needs Docker as well: its steps build on each other.
    observed.workloads.values_mut().last().unwrap().state = WorkloadState::Exited { exit: exit(1), restarts: 0 };
    let ops = without_docker(plan(&desired, &observed), true);
    let expected = [
        "switch shop/production/api (10.224.0.1, fd53:6b65:7001::1) to 10.208.0.17",
        "attach the socket programs",
        "attach the programs to skep0ad00011 of shop/production/api.1.1",
    ];
    assert_eq!(lines(&ops), expected);
}

#[test]
fn a_start_without_docker_takes_nothing_from_those_who_run() {
    let desired = shop(&[("api", 2, &[])]);
    let before = settled(&desired);
    let mut observed =
        Observed { tables: before.tables.clone(), mtu: 1500, uplinks: [2].into(), ..Observed::default() };
    (observed.veths, observed.attached) = (before.veths, before.attached);
    let ops = without_docker(plan(&desired, &observed), false);
    assert_eq!(lines(&ops), ["attach the socket programs"]);
}

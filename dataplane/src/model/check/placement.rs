//! What a service says of the nodes that it may be on.

use super::Check;
use crate::model::spec::ServiceSpec;

impl Check<'_> {
    pub(super) fn placement(&mut self, path: &str, service: &ServiceSpec) {
        if service.placement.max_per_node == Some(0) {
            let what = "with 0 on each node there would be none";
            self.problem(
                format!("{path}.deploy.placement.max_replicas_per_node"),
                what,
                "write 1 or more, or remove it",
            );
        }
        let pairs = [
            ("memory", service.reserved.memory, service.limits.memory),
            ("cpus", service.reserved.nano_cpus, service.limits.nano_cpus),
        ];
        for (key, reserved, limit) in pairs {
            if limit.is_some_and(|limit| reserved > limit) {
                let what = "more is reserved than it may take";
                let remedy = format!("lower it, or raise deploy.resources.limits.{key}");
                self.problem(format!("{path}.deploy.resources.reservations.{key}"), what, remedy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rollout::tests::problems;

    #[test]
    fn what_no_node_could_ever_take_is_refused() {
        assert_eq!(problems(|s| (s.reserved.memory, s.limits.memory) = (2, Some(2))), [""; 0]);
        assert_eq!(problems(|s| (s.reserved.nano_cpus, s.placement.max_per_node) = (2, Some(1))), [""; 0]);
        let cases = [
            ("deploy.placement.max_replicas_per_node: with 0", problems(|s| s.placement.max_per_node = Some(0))),
            (
                "deploy.resources.reservations.memory: more is reserved",
                problems(|s| (s.reserved.memory, s.limits.memory) = (3, Some(2))),
            ),
            (
                "deploy.resources.reservations.cpus: more is reserved",
                problems(|s| (s.reserved.nano_cpus, s.limits.nano_cpus) = (3, Some(2))),
            ),
        ];
        for (expected, problems) in cases {
            assert!(
                matches!(problems.as_slice(), [one] if one.starts_with(&format!("services.a.{expected}"))),
                "{problems:?}"
            );
        }
    }
}

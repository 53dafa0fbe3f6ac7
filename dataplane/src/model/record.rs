//! What a workload carries with it, so that its replica can be taken back into a store that lost it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ReplicaAssignment;

/// A replica with all that its environment must be for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// The replica.
    pub assignment: ReplicaAssignment,
    /// Bit number of each network of its environment.
    pub networks: BTreeMap<String, u8>,
}

impl ReplicaRecord {
    /// As the text of a label. Values of variables are left out: labels get into logs, and the container has the
    /// variables themselves.
    pub fn to_label(&self) -> String {
        let mut record = self.clone();
        record.assignment.spec.environment.values_mut().for_each(String::clear);
        serde_json::to_string(&record).unwrap_or_default()
    }

    /// From the label and the container's variables (`NAME=value`); [`None`] when it makes no sense.
    pub fn from_label(label: &str, variables: &[String]) -> Option<Self> {
        let mut record: Self = serde_json::from_str(label).ok()?;
        for (name, value) in &mut record.assignment.spec.environment {
            let found = variables.iter().find_map(|line| line.strip_prefix(name.as_str())?.strip_prefix('='));
            found?.clone_into(value);
        }
        Some(record)
    }
}

#[cfg(test)]
pub(crate) fn example(service: &str, replica: u32, egress: bool, networks: &[(&str, u8)]) -> ReplicaRecord {
    use super::{EnvironmentKey, ServiceKey, ServiceSpec};

    let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
    let number = u8::try_from(service.len() * 16).unwrap() + u8::try_from(replica).unwrap();
    let spec = ServiceSpec {
        environment: [("A", "1"), ("AB", "se=cret")].map(|(k, v)| (k.into(), v.into())).into(),
        networks: networks.iter().map(|(name, _)| ((*name).into(), Default::default())).collect(),
        replicas: 2,
        ..ServiceSpec::of_image("busybox:latest")
    };
    let assignment = ReplicaAssignment {
        key: ServiceKey { environment, service: service.into() }.replica(3, replica),
        node: "n1".into(),
        env: 4,
        service_id: u32::try_from(service.len()).unwrap(),
        address4: [10, 208, 0, number].into(),
        address6: std::net::Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, number.into()),
        vip4: [10, 224, 1, u8::try_from(service.len()).unwrap()].into(),
        vip6: std::net::Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 1, 9),
        networks: networks.iter().map(|(_, bit)| 1 << bit).sum(),
        egress,
        spec,
        image: None,
        ending: false,
    };
    let networks = [("front", 0), ("back", 1)].map(|(name, bit)| (name.to_owned(), bit)).into();
    ReplicaRecord { assignment, networks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_holds_no_value_of_a_variable_and_the_container_brings_them_back() {
        let record = example("web", 1, true, &[("front", 0)]);
        let label = record.to_label();
        assert!(!label.contains("se=cret"));
        let variables = ["PATH=/bin", "AB=se=cret", "A=1"].map(str::to_owned);
        assert_eq!(ReplicaRecord::from_label(&label, &variables), Some(record));
        assert_eq!(ReplicaRecord::from_label(&label, &variables[..1]), None, "a variable is missing");
        assert_eq!(ReplicaRecord::from_label("{}", &variables), None);
    }
}

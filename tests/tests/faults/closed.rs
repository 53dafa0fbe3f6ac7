//! A program is off, and a change that does not fit.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::faults::{Cost, Fault, Scene};

use crate::drift::on_host;

/// Until what is off is on again.
const REPAIR: Duration = Duration::from_secs(5);

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        // What stays inside an environment does not come by there.
        name: "program: to_container detached from every veth",
        inject: |scene| detach(scene, "to_container-*"),
        within: REPAIR,
        cost: Cost::Nothing,
        visitor: None,
    },
    Fault {
        name: "program: from_container detached from every veth",
        inject: |scene| detach(scene, "from_container-*"),
        within: REPAIR,
        cost: Cost::Interruption,
        visitor: None,
    },
    Fault {
        name: "program: every socket program detached",
        inject: |scene| detach(scene, "[cgrs]*[46]"),
        within: REPAIR,
        cost: Cost::Interruption,
        visitor: None,
    },
    Fault {
        name: "resources: a change that is larger than the maps",
        inject: too_large,
        within: REPAIR,
        cost: Cost::Nothing,
        visitor: None,
    },
];

fn detach(scene: &Scene, pins: &str) -> Result<()> {
    on_host(scene, &format!("detach PINS/links/{pins}"))
}

fn too_large(scene: &Scene) -> Result<()> {
    let services = ["a", "b", "c"].map(|name| format!("{name}: {{image: 'musl:latest', deploy: {{replicas: 900}}}}"));
    let file = scene.node.compose_file("big", "production", &format!("services: {{{}}}", services.join(", ")))?;
    let output = scene.node.skepctl_output(&["-p", "big", "up", "-f", &file])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("--max-replicas"), "{}: {said}", output.status);
    Ok(())
}

//! A change that does not fit.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::faults::{Cost, Fault, Scene};

/// Nothing has to be mended.
const REPAIR: Duration = Duration::from_secs(5);

pub(crate) const FAULTS: &[Fault] = &[Fault {
    name: "resources: a change that is larger than the maps",
    inject: too_large,
    within: REPAIR,
    cost: Cost::Nothing,
}];

fn too_large(scene: &Scene) -> Result<()> {
    let services = ["a", "b", "c"].map(|name| format!("{name}: {{image: 'musl:latest', deploy: {{replicas: 900}}}}"));
    let file = scene.node.compose_file("big", "production", &format!("services: {{{}}}", services.join(", ")))?;
    let output = scene.node.skepctl_output(&["-p", "big", "up", "-f", &file])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("--max-replicas"), "{}: {said}", output.status);
    Ok(())
}

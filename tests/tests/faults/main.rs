//! It stays up: whatever happens to a node under load, nothing crosses a boundary, what may go on goes on, and soon all
//! is as it was. One list of every fault and what it cost.

mod closed;
mod daemon;
mod disk;
mod docker;
mod drift;
mod firewalls;

use anyhow::Result;
use tests::Node;
use tests::faults::{Fault, Scene, Soak, all, soak};

#[test]
fn every_fault_is_mended_in_time_and_leaves_nothing() -> Result<()> {
    let mut scene = Scene::start(Node::builder().small_state())?;
    all(&mut scene, &faults())?;
    scene.end()
}

#[test]
fn random_faults_leave_nothing_behind() -> Result<()> {
    let mut scene = Scene::start(Node::builder().small_state())?;
    soak(&mut scene, &faults(), Soak::from_environment()?)?;
    scene.end()
}

/// All of them, or some by parts of their names: `SKEP_FAULTS=firewall,veth`.
fn faults() -> Vec<Fault> {
    let mut faults =
        [daemon::FAULTS, closed::FAULTS, disk::FAULTS, firewalls::FAULTS, &docker::faults(), &drift::faults()].concat();
    if let Ok(wanted) = std::env::var("SKEP_FAULTS") {
        faults.retain(|fault| wanted.split(',').any(|part| fault.name.contains(part)));
    }
    faults
}

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

/// What tells faults of programs and devices.
const WITHOUT_TCX: [&str; 3] = ["program:", "veth:", "pin"];

#[test]
fn every_fault_is_mended_in_time_and_leaves_nothing() -> Result<()> {
    let mut scene = Scene::start(Node::builder().small_state())?;
    all(&mut scene, &faults())?;
    scene.end()
}

/// In the long form all of them; otherwise those that it makes a difference for.
#[test]
fn without_tcx_every_fault_is_mended_as_well() -> Result<()> {
    let mut scene = Scene::start(Node::builder().small_state().skepd_arguments(&["--without-tcx"]))?;
    let mut faults = faults();
    if std::env::var_os("SKEP_LONG").is_none() {
        faults.retain(|fault| WITHOUT_TCX.iter().any(|part| fault.name.contains(part)));
    }
    for fault in &mut faults {
        fault.name = Box::leak(format!("without tcx: {}", fault.name).into_boxed_str());
    }
    all(&mut scene, &faults)?;
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

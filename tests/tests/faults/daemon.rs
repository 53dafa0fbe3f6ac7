//! skepd ends.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::faults::{Cost, Fault, Scene};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "skepd: SIGKILL, then a start",
        inject: kill,
        within: Duration::from_secs(5),
        cost: Cost::Nothing,
        visitor: None,
    },
    Fault {
        name: "skepd: SIGTERM, then a start",
        inject: stop,
        within: Duration::from_secs(5),
        cost: Cost::Nothing,
        visitor: None,
    },
];

fn kill(scene: &Scene) -> Result<()> {
    scene.node.kill_skepd()?;
    scene.node.start_skepd()
}

fn stop(scene: &Scene) -> Result<()> {
    ensure!(scene.node.stop_skepd()?.success(), "skepd's exit status after SIGTERM");
    scene.node.start_skepd()
}

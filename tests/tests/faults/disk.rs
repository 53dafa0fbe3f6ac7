//! The disk under the store: full, without an inode, read-only after an error. Changes are refused by name, everything
//! else goes on, and skepd needs no restart once it is mended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::faults::{Cost, Fault, Scene};
use tests::{Node, wait_for};

pub(crate) const FAULTS: &[Fault] = &[
    Fault { name: "disk: full", inject: full, within: Duration::from_secs(10), cost: Cost::Nothing, visitor: None },
    Fault {
        name: "disk: no inode left",
        inject: no_inode,
        within: Duration::from_secs(10),
        cost: Cost::Nothing,
        visitor: None,
    },
    Fault {
        name: "disk: read-only after an error",
        inject: read_only,
        within: Duration::from_secs(10),
        cost: Cost::Nothing,
        visitor: None,
    },
];

/// Environments of this project hold a large text and no replica.
const PROJECT: &str = "filler";
/// How long skepd may take to notice that the disk is mended.
const PATIENCE: Duration = Duration::from_secs(20);

fn full(scene: &Scene) -> Result<()> {
    let node = &scene.node;
    let before = node.replicas()?.len();
    let ballast = node.state_directory().join("ballast").display().to_string();
    node.machine().shell(&format!("dd if=/dev/zero of={ballast} bs=64k 2>/dev/null || true"))?;
    // What the file has room for is still taken.
    let mut accepted = Vec::new();
    let refused = loop {
        let environment = format!("e{}", accepted.len());
        match change(node, &environment)? {
            Ok(()) => accepted.push(environment),
            Err(error) => break error,
        }
        ensure!(accepted.len() < 100, "a full disk takes every change");
    };
    named(node, &refused, "MiB")?;
    ensure!(node.replicas()?.len() == before, "`ps` while the disk is full");
    node.run(&["rm", &ballast])?;
    recovered(node, &mut accepted)?;
    ensure!(node.replicas()?.len() == before, "`ps` afterwards");
    clean(node, &accepted)
}

fn no_inode(scene: &Scene) -> Result<()> {
    let node = &scene.node;
    let state = node.state_directory().display().to_string();
    node.machine()
        .shell(&format!("mkdir {state}/files; i=0; while touch {state}/files/$i 2>/dev/null; do i=$((i+1)); done"))?;
    // What it said of an earlier time does not count.
    let before = node.skepd_log()?.len();
    let says = |all: &[&str]| -> Result<Option<()>> {
        let log = node.skepd_log()?.split_off(before);
        Ok(log.lines().any(|line| all.iter().all(|part| line.contains(part))).then_some(()))
    };
    // The store's own file is there already: changes are taken, and only the copy is missed.
    change(node, "e0")?.map_err(anyhow::Error::msg)?;
    wait_for("the lack of inodes named", PATIENCE, || says(&["Cannot keep a copy", "0 of 64 inodes"]))?;
    node.run(&["rm", "-r", &format!("{state}/files")])?;
    wait_for("a copy of the store", PATIENCE, || says(&["has a copy of its latest change again"]))?;
    clean(node, &["e0".to_owned()])
}

fn read_only(scene: &Scene) -> Result<()> {
    let node = &scene.node;
    let before = node.replicas()?.len();
    let state = node.state_directory().display().to_string();
    let device = node.run(&["findmnt", "-no", "SOURCE", &state])?;
    let device = device.trim().rsplit('/').next().context("a device")?.to_owned();
    // What an error of the disk leads to, with errors=remount-ro.
    node.machine().shell(&format!("echo test >/sys/fs/ext4/{device}/trigger_fs_error"))?;
    let refused = wait_for("a refusal", PATIENCE, || Ok(change(node, "e0")?.err()))?;
    named(node, &refused, "Read-only file system")?;
    ensure!(node.replicas()?.len() == before, "`ps` while the disk is read-only");
    node.run(&["umount", &state]).context("skepd keeps nothing open there")?;
    let unmounted = change(node, "e0")?;
    ensure!(unmounted.is_err(), "a change was taken without a state directory");
    ensure!(node.replicas()?.len() == before, "`ps` without a state directory");
    node.mount_state_again()?;
    let mut accepted = Vec::new();
    recovered(node, &mut accepted)?;
    clean(node, &accepted)
}

/// A change of the store of about 100 KB; what skepctl says when it is refused.
fn change(node: &Node, environment: &str) -> Result<Result<(), String>> {
    let text = "x".repeat(100_000);
    let service = format!("{{image: 'musl:latest', deploy: {{replicas: 0}}, labels: {{text: {text}}}}}");
    let file = node.compose_file(PROJECT, environment, &format!("services: {{idle: {service}}}"))?;
    let output = node.skepctl_output(&["-p", PROJECT, "-e", environment, "up", "--no-wait", "-f", &file])?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(error) })
}

/// One line says which file, and what is the matter with it.
fn named(node: &Node, error: &str, what: &str) -> Result<()> {
    let store = node.state_directory().join("store.redb").display().to_string();
    let told = error.lines().any(|line| line.contains(&store) && line.contains(what));
    ensure!(told, "no line names {store} and {what}: {error}");
    Ok(())
}

/// Changes are taken again, by the same skepd.
fn recovered(node: &Node, accepted: &mut Vec<String>) -> Result<()> {
    let environment = format!("e{}", accepted.len());
    wait_for("a change taken again", PATIENCE, || Ok(change(node, &environment)?.ok()))?;
    accepted.push(environment);
    Ok(())
}

fn clean(node: &Node, environments: &[String]) -> Result<()> {
    environments.iter().try_for_each(|environment| node.down(PROJECT, environment).map(drop))
}

//! An environment at rest drops nothing that anybody is told of: a kernel's own reports of its multicast groups.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::images::Image;
use tests::{Container, Node, wait_for};

const COMPOSE: &str = "services: {web: {image: 'busybox:latest', command: [sleep, inf], deploy: {replicas: 2}}}";
/// Kernels send reports at random within some seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Joins a group of each family and leaves it: each is two reports at least.
const JOIN: &str = "
import socket, struct
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
four.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('239.1.2.3') + bytes(4))
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, 'ff05::1234') + bytes(4))
";

fn rows(node: &Node, arguments: &[&str]) -> Result<Vec<Value>> {
    Ok(node.skepctl_json(&[&["drops"], arguments].concat())?.as_array().cloned().unwrap_or_default())
}

/// Reports counted, of the replicas and of the host's ends.
fn reports(node: &Node) -> Result<(u64, u64)> {
    let all = rows(node, &["--all"])?;
    let of = |nobodys: bool| {
        let same = |row: &&Value| row["reason"] == "multicast-report" && row["who"].is_null() == nobodys;
        all.iter().filter(same).filter_map(|row| row["count"].as_u64()).sum()
    };
    Ok((of(false), of(true)))
}

#[test]
fn reports_of_multicast_groups_are_counted_and_told_to_who_asks() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    let follower = node.machine().spawn("monitor", &node.skepctl_line(&["monitor"])?)?;
    node.up("shop", "production", COMPOSE)?;
    let web = node.replica("shop", "production", "web", 1)?;
    // The kernel's own, of the addresses, within a second or two of the device.
    wait_for("reports of replicas and of the host", PATIENCE, || {
        let (replicas, host) = reports(&node)?;
        Ok((replicas >= 2 && host >= 1).then_some(()))
    })?;
    let before = reports(&node)?;
    web.net(&["python3", "-c", JOIN])?;
    wait_for("reports of what a process joined", PATIENCE, || Ok((reports(&node)?.0 >= before.0 + 2).then_some(())))?;
    let told = rows(&node, &[])?;
    ensure!(told.is_empty(), "told of an environment at rest: {told:#?}");
    ensure!(node.skepctl_output(&["drops"])?.stderr.starts_with(b"Nothing was dropped."), "no word");
    // What is wrong is told as ever, also what looks alike.
    ask_for_neighbour(&web)?;
    let told = rows(&node, &[])?;
    ensure!(told.len() == 1 && told[0]["reason"] == "neighbor-discovery", "{told:#?}");
    wait_for("the drop in the monitor", PATIENCE, || Ok(follower.log()?.contains("neighbor-discovery").then_some(())))?;
    ensure!(!follower.log()?.contains("multicast-report"), "{}", follower.log()?);
    Ok(())
}

/// Has the kernel look for a neighbour that is not there.
fn ask_for_neighbour(web: &Container<'_>) -> Result<()> {
    web.net(&["ip", "-6", "route", "add", "fd99::/64", "dev", "eth0"])?;
    let answer = web.netns()?.run("busybox ping -6 -c 1 -W 1 fd99::7");
    ensure!(answer.is_err(), "an answer of nobody");
    Ok(())
}

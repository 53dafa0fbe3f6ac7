//! Many TCP segments of one connection are one packet for the userspace device, wherever the way allows it.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use dataplane::wireguard::Kind;
use tests::load;

use super::stage::{Node, Underlay, connect, mesh};

const OCTETS: usize = 8 << 20;

/// Packets that the device has sent and received, as its kernel counts them.
fn packets(node: &Node) -> Result<[u64; 2]> {
    let told = node.netns.run(&format!("ip -s -j link show dev {}", node.tunnel.device))?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let count = |way: &str| told[0]["stats64"][way]["packets"].as_u64().with_context(|| told.to_string());
    Ok([count("tx")?, count("rx")?])
}

/// What a connection there and back, of either family, costs the sender's device.
fn cost(from: &Node, to: &Node) -> Result<[u64; 2]> {
    let before = packets(from)?;
    let there: [IpAddr; 2] = [[10, to.number, 0, 1].into(), format!("fd00:{}::1", to.number).parse()?];
    for address in there {
        load::there_and_back(&from.netns, &to.netns, address, OCTETS)?;
    }
    let after = packets(from)?;
    Ok([after[0] - before[0], after[1] - before[1]])
}

/// As many packets as it would be, were each segment one.
const ONE_BY_ONE: u64 = 2 * OCTETS as u64 / 1420;

#[test]
fn segments_of_one_connection_go_together() -> Result<()> {
    let (_underlay, nodes) = mesh(2, Kind::Userspace)?;
    let [sent, received] = cost(&nodes[0], &nodes[1])?;
    println!("{sent} packets sent, {received} received, {ONE_BY_ONE} one by one");
    ensure!(sent < ONE_BY_ONE / 2 && received < ONE_BY_ONE / 2, "{sent} and {received} of {ONE_BY_ONE}");
    Ok(())
}

/// No message fits into a packet of this underlay: none of them may go with others, and each in two pieces.
#[test]
fn what_does_not_fit_together_goes_one_by_one() -> Result<()> {
    let underlay = Underlay::new(1300)?;
    let nodes = [Node::new(&underlay, 1, Kind::Userspace)?, Node::new(&underlay, 2, Kind::Userspace)?];
    connect(&nodes)?;
    cost(&nodes[0], &nodes[1])?;
    Ok(())
}

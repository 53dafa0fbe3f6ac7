//! Between two nodes, beside a bare tunnel of the same kind: two namespaces, and nothing of Skep but the device.

use anyhow::{Context as _, Result};
use dataplane::wireguard::Kind;
use tests::Cluster;
use tests::images::Image;
use tests::netns::Namespace;

use crate::report::Sample;
use crate::subject::{Subject, between, place};
use crate::tunnel::{Node, kinds, mesh};
use crate::{CASES, Effort, path};

const GROUP: &str = "two-nodes";
/// As the bare tunnel is called.
pub(crate) const BASELINE: &str = "bare-tunnel";
const SUBJECTS: [&str; 3] = [BASELINE, "tunnel-address", "tunnel-vip"];

/// Takes turns between the bare tunnel, the address of a replica on another node, and its service's VIP.
pub(crate) fn measure(effort: &Effort, samples: &mut Vec<Sample>) -> Result<()> {
    if !effort.wants_any(&SUBJECTS) {
        return Ok(());
    }
    let kind = *kinds()?.last().context("there is no tunnel")?;
    eprintln!("setting up two nodes, and a bare tunnel ({kind:?}) …");
    let (_underlay, ends) = mesh(2, kind)?;
    let [left, right] = &ends[..] else { unreachable!("two ends") };
    let end = |end: &Node| Ok::<_, anyhow::Error>(place(Namespace::open(&end.netns.path())?));
    let bare =
        Subject { name: BASELINE, client: end(left)?, server: end(right)?, target: [10, right.number, 0, 1].into() };
    let cluster = Cluster::with(2, &["--tunnel", if kind == Kind::Kernel { "kernel" } else { "userspace" }])?;
    let [address, vip] = across(&cluster)?;
    let subjects = [bare, address, vip];
    for round in 1..=effort.rounds {
        eprintln!("two nodes, round {round} of {}", effort.rounds);
        for case in CASES {
            for subject in &subjects {
                samples.extend(path(case, subject, GROUP, subject.name, effort)?);
            }
        }
    }
    Ok(())
}

/// A client on the one node and a server on the other.
fn across(cluster: &Cluster) -> Result<[Subject; 2]> {
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    let service = |node: &tests::Node| {
        let name = node.machine().name();
        format!(
            "{{image: 'busybox:latest', command: [sleep, inf], \
             deploy: {{placement: {{constraints: ['node.hostname == {name}']}}}}}}"
        )
    };
    for node in cluster.nodes() {
        node.load(&[Image::Busybox])?;
    }
    first.up(
        "bench",
        "production",
        &format!("services:\n  client: {}\n  server: {}\n", service(first), service(second)),
    )?;
    let client = first.replica("bench", "production", "client", 1)?;
    let server = second.replica("bench", "production", "server", 1)?;
    between(&client, &server, [SUBJECTS[1], SUBJECTS[2]])
}

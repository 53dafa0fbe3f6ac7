//! Between two nodes, beside a bare tunnel of the same kind between the same two: from host to host, and nothing of Skep but
//! the device.

use anyhow::{Context as _, Result};
use dataplane::wireguard::Kind;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tests::Cluster;
use tests::images::Image;
use tests::netns::Namespace;

use crate::report::Sample;
use crate::subject::{Subject, between, place};
use crate::tunnel::{Node, Way, connect, kinds};
use crate::{CASES, Effort, path};

const GROUP: &str = "two-nodes";
/// As the bare tunnel is called.
pub(crate) const BASELINE: &str = "bare-tunnel";
const SUBJECTS: [&str; 3] = [BASELINE, "tunnel-address", "tunnel-vip"];
/// Where the processes of userspace tunnels work, clients and servers sharing the other core: so that, here as well, no
/// scheduler's choice is measured.
const CORE: usize = 0;

/// Takes turns between the bare tunnel, the address of a replica on another node, and its service's VIP.
pub(crate) fn measure(effort: &Effort, samples: &mut Vec<Sample>) -> Result<()> {
    if !effort.wants_any(&SUBJECTS) {
        return Ok(());
    }
    let kind = *kinds()?.last().context("there is no tunnel")?;
    eprintln!("setting up two nodes, and a bare tunnel ({kind:?}) …");
    let cluster = Cluster::with(2, &["--tunnel", if kind == Kind::Kernel { "kernel" } else { "userspace" }])?;
    let ends: Vec<Node> =
        (1..).zip(cluster.nodes()).map(|(number, node)| bare(node, number, kind)).collect::<Result<_>>()?;
    connect(&ends)?;
    let [left, right] = &ends[..] else { unreachable!("two ends") };
    let end = |end: &Node| Ok::<_, anyhow::Error>(place(Namespace::open(&end.netns.path())?));
    let target = [right.tunnel.inside, right.number, 0, 1].into();
    let bare = Subject { name: BASELINE, client: end(left)?, server: end(right)?, target };
    let [address, vip] = across(&cluster)?;
    if kind == Kind::Userspace {
        pin("skepd tunnel")?;
    }
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

/// An end of the bare tunnel, on this node's host.
fn bare(node: &tests::Node, number: u8, kind: Kind) -> Result<Node> {
    let tunnel = Way { device: "bare0", port: 51821, underlay: node.address4().parse()?, inside: 12 };
    let netns = node.machine().netns()?;
    Ok(Node { number, netns, directory: tempfile::tempdir()?, kind, tunnel })
}

/// Has all threads of the processes whose command line begins so work on [`CORE`].
fn pin(command: &str) -> Result<()> {
    let mut core = CpuSet::new();
    core.set(CORE)?;
    for process in std::fs::read_dir("/proc")? {
        let process = process?.path();
        // One that is no process, or none any more, has no such line.
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with(command) {
            for thread in std::fs::read_dir(process.join("task"))? {
                let id = thread?.file_name().to_string_lossy().parse()?;
                sched_setaffinity(Pid::from_raw(id), &core)?;
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

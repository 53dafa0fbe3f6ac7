//! How the node finds out whether a replica is well: it asks out of the replica's own namespace, because a replica could
//! not answer an address of the node, whoever asked.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dataplane::agent::health::{Probed, Probes, Target};
use dataplane::bpf::counters;
use dataplane::config::marks;
use dataplane::model::rollout::Probe;
use dataplane::model::{EnvironmentKey, ReplicaKey, ServiceKey};
use dataplane_ebpf::abi::Reason;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getpeername, setsockopt, socket, sockopt,
};
use tests::probe::PORT;

use crate::bed::{Bed, Replica};
use crate::model;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_node_asks_from_within_and_nothing_of_it_is_recorded() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let _responders = bed.respond()?;
    let api = bed.named("shop/production/api")?;
    let (before, unanswered) = (counters(&bed.maps)?, blocked(&bed, api)?);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for ipv6 in [false, true] {
        let address = SocketAddr::new(api.address(ipv6), PORT);
        runtime.block_on(answers(address, api))?;
    }
    ensure!(counters(&bed.maps)? == before, "counted: {:?} instead of {before:?}", counters(&bed.maps)?);
    ensure!(blocked(&bed, api)? == unanswered, "dropped: {}", bed.drops_line());

    // What skepd sends itself does reach the replica, but not the answer skepd.
    let address = SocketAddr::new(api.address(false), PORT);
    let asked = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&asked, sockopt::Mark, &marks::HOST)?;
    let begun = connect(asked.as_raw_fd(), &SockaddrStorage::from(address));
    ensure!(begun == Err(Errno::EINPROGRESS), "{begun:?}");
    tests::wait_for("a drop of the answer", PATIENCE, || Ok((blocked(&bed, api)? > unanswered).then_some(())))?;
    ensure!(getpeername::<SockaddrStorage>(asked.as_raw_fd()) == Err(Errno::ENOTCONN));
    Ok(())
}

/// The replica's answers to an address that it may not reach.
fn blocked(bed: &Bed, replica: &Replica) -> anyhow::Result<u64> {
    let reasons = [Reason::NoRoute, Reason::NotUplink, Reason::EgressDenied, Reason::EgressOff];
    reasons.into_iter().map(|reason| bed.dropped(replica, reason)).sum()
}

async fn answers(address: SocketAddr, replica: &Replica) -> anyhow::Result<()> {
    let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
    let key = ReplicaKey { service: ServiceKey { environment, service: "api".into() }, deployment: 1, replica: 1 };
    let probes = Probes::default();
    let (incarnation, netns) = ("c1".to_owned(), replica.namespace.path());
    let target = Target { key: key.clone(), incarnation, netns, address, probe: Probe::default() };
    probes.follow([target], |_| false);
    let well = async {
        while probes.state(&key) != Some(Probed::Well) {
            probes.changed().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, well).await;
    waited.with_context(|| format!("{address}: {:?}", probes.state(&key)))
}

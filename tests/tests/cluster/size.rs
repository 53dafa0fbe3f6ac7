//! What a large cluster costs a node that joins it: time, memory, and what etcd has to tell it of each change.
//!
//! The other nodes are in the store alone, as the real controller and their agents would have them; that nothing of it is
//! made up shows when the controller of the real node finds nothing to change.

mod fleet;
mod maps;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{Maps, Pins};
use dataplane::controller::State;
use dataplane::model::{Ack, ReplicaAssignment, ReplicaState, ReplicaStatus, ServiceKey};
use dataplane::store::schema::{self, Versioned, decode};
use dataplane::store::{Etcd, Event, Outcome, Revision, Store as _, Txn};
use dataplane_ebpf::abi::Addr;
use futures_util::StreamExt as _;
use tests::{Lan, Node, wait_for};

use maps::Content;

/// Nodes with a hundred endpoints each.
const LONG: usize = 500;
const SHORT: usize = 50;
/// Changes that are measured.
const STATUSES: usize = 20;
const SCALED: usize = 5;
/// Octets that one change may take on etcd's wire, signs of life meanwhile included. Reading everything again would take
/// hundreds for each endpoint.
const PER_CHANGE: u64 = 64 * 1024;
/// For what takes seconds on a computer with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn a_node_joins_a_large_cluster_and_follows_it_change_by_change() -> Result<()> {
    let nodes = if std::env::var_os("SKEP_LONG").is_some() { LONG } else { SHORT };
    let lan = Arc::new(Lan::new()?);
    let etcd = tests::Etcd::on(&lan)?;
    let room = ["--max-endpoints", "65536", "--max-services", "8192"];
    let url = etcd.url();
    let node = Node::builder().lan(&lan).log("info").skepd_arguments(&["--etcd", &url]).skepd_arguments(&room);
    let node = node.docker_only()?;

    let begun = Instant::now();
    let (filled, state) = on(&etcd, async |store| {
        let filled = fleet::settle(&store, nodes).await?;
        Ok((filled, State::load(&store).await?))
    })?;
    let wanted = Content::wanted(&state, node.machine().name());
    let [endpoints, services, _] = wanted.sizes().map(|count| count / 2);
    println!("{nodes} nodes, {services} services, {endpoints} endpoints: written in {:?}", begun.elapsed());
    ensure!(endpoints == nodes * 100, "{endpoints} endpoints");

    let (before, begun) = (octets(&etcd)?, Instant::now());
    node.spawn_skepd(&[])?;
    on(&etcd, async |store| acknowledged(&store, node.machine().name(), filled).await)?;
    let told = begun.elapsed();
    let pins = Pins::new(&node.bpffs());
    let maps = Maps::open_read_only(&pins)?;
    // The tunnels may come after that: without them nothing is sent, and nothing is lost.
    wait_for("every node in NODES", PATIENCE, || Ok((maps.nodes.usage()? == nodes).then_some(())))?;
    let synced = begun.elapsed();
    Content::found(&maps)?.must_be(&wanted)?;
    println!("fresh node: ENDPOINTS, SERVICES and NAMES after {told:?}, NODES after {synced:?}");
    println!("etcd told it {} kB; {}", (octets(&etcd)? - before) / 1_024, memory(&node)?);

    // Nothing comes to the real node: it is no part of what is measured.
    node.skepctl(&["nodes", "cordon", node.machine().name()])?;
    statuses(&etcd, &maps, &state)?;
    scaled(&etcd, &maps, &state, filled)?;
    let wanted = on(&etcd, async |store| Ok(Content::wanted(&State::load(&store).await?, node.machine().name())))?;
    Content::found(&maps)?.must_be(&wanted)?;
    let switched = node.skepd_log()?.matches("\"switch ").count();
    let asked = services + STATUSES + 2 * SCALED;
    ensure!(switched <= asked, "{switched} sets of backends were written, {asked} have changed");
    println!("at the end: {}", memory(&node)?);
    Ok(())
}

/// One replica each is not well any more, and is again.
fn statuses(etcd: &tests::Etcd, maps: &Maps, state: &State) -> Result<()> {
    let (mut sum, mut took) = (0, Vec::new());
    for number in 0..STATUSES / 2 {
        let key = service(number);
        let (service, replica) = (&state.services[&key].value, &state.replicas[&key.replica(1, 1)].value);
        for state in [ReplicaState::Unhealthy, ReplicaState::Running] {
            let (before, begun) = (octets(etcd)?, Instant::now());
            on(etcd, async |store| tell(&store, replica, state).await)?;
            let well = state == ReplicaState::Running;
            wait_for("the replica's state in BACKENDS", PATIENCE, || {
                Ok((maps::leads_to(maps, service, replica.address6.into())? == well).then_some(()))
            })?;
            took.push(begun.elapsed());
            sum += octets(etcd)? - before;
        }
    }
    report("a replica's status", sum, &mut took)
}

/// One service each gets a replica more, which some other node runs.
fn scaled(etcd: &tests::Etcd, maps: &Maps, state: &State, filled: Revision) -> Result<()> {
    let (mut sum, mut took, mut keys) = (0, Vec::new(), BTreeSet::new());
    for number in 0..SCALED {
        let mut spec = fleet::environment(number);
        let key = service(number);
        spec.services.get_mut(&key.service).context("no service")?.replicas += 1;
        let (before, begun) = (octets(etcd)?, Instant::now());
        let replica = on(etcd, async |store| {
            let intent = Txn::default().put(&schema::intent(&spec.key), &spec)?;
            let Outcome::Committed(seen) = store.txn(intent).await? else {
                anyhow::bail!("a conflict without a condition")
            };
            next_replica(&store, seen).await
        })?;
        ensure!(replica.key.service == key && replica.key.replica == 11, "{:?}", replica.key);
        let address = Addr::from(replica.address4);
        wait_for("the new replica in ENDPOINTS", PATIENCE, || Ok(maps.endpoints.get(&address)?.map(drop)))?;
        took.push(begun.elapsed());
        on(etcd, async |store| tell(&store, &replica, ReplicaState::Running).await)?;
        wait_for("the new replica in BACKENDS", PATIENCE, || {
            Ok((maps::backends(maps, &state.services[&key].value)? == [Some(11), Some(11)]).then_some(()))
        })?;
        sum += octets(etcd)? - before;
        keys.extend([
            schema::service(&key).as_str().to_owned(),
            schema::replica(&replica.node, &replica.key).as_str().to_owned(),
        ]);
    }
    // By now the controller has looked at everything: what it changed is what was asked for.
    let assigned = on(etcd, async |store| Ok(store.range(schema::ASSIGNMENTS).await?))?;
    let changed = assigned.entries.into_iter().filter(|entry| entry.revision > filled).map(|entry| entry.key);
    let other: Vec<String> = changed.filter(|key| !keys.contains(key)).collect();
    ensure!(other.is_empty(), "the controller changed what was as it should be: {other:?}");
    report("a scaled service", sum, &mut took)
}

fn report(what: &str, octets: u64, took: &mut [Duration]) -> Result<()> {
    took.sort_unstable();
    let each = octets / took.len() as u64;
    println!(
        "{what}: {each} octets of etcd each, in the maps after {:?} (median of {})",
        took[took.len() / 2],
        took.len()
    );
    ensure!(each < PER_CHANGE, "{each} octets for {what}");
    Ok(())
}

/// The first service of an environment.
fn service(environment: usize) -> ServiceKey {
    ServiceKey { environment: fleet::environment(environment).key, service: "s0".into() }
}

/// Works with a client on etcd's own machine, whose traffic is not on the LAN.
fn on<T: Send>(etcd: &tests::Etcd, work: impl AsyncFnOnce(Etcd) -> Result<T> + Send) -> Result<T> {
    let url = etcd.url();
    etcd.machine().netns()?.enter(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { work(Etcd::connect(&[url], "/skep", Default::default()).await?).await })
    })
}

/// Waits until a node has said that its maps are as the services' assignments say.
async fn acknowledged(store: &Etcd, node: &str, filled: Revision) -> Result<()> {
    let services = store.range(schema::services().as_str()).await?;
    let newest = services.entries.iter().map(|entry| entry.revision).max().context("no service")?;
    let mut watch = store.watch(schema::ack(node).as_str(), filled).await?;
    let wait = async {
        loop {
            for event in watch.next().await.context("the watch ended")?? {
                let Event::Put(entry) = event else { continue };
                let ack: Versioned<Ack> = decode(&entry)?;
                if ack.value.services >= newest {
                    return Ok(());
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.context("the node has not carried out what was assigned")?
}

async fn next_replica(store: &Etcd, seen: Revision) -> Result<ReplicaAssignment> {
    let mut watch = store.watch(schema::replicas().as_str(), seen).await?;
    let events = tokio::time::timeout(PATIENCE, watch.next()).await.context("no replica more")?;
    match events.context("the watch ended")??.first() {
        Some(Event::Put(entry)) => Ok(decode(entry)?.value),
        other => anyhow::bail!("{other:?}"),
    }
}

/// As the replica's agent would.
async fn tell(store: &Etcd, replica: &ReplicaAssignment, state: ReplicaState) -> Result<()> {
    let status = ReplicaStatus::new(replica.key.clone(), &replica.node);
    let status = fleet::told(&ReplicaStatus { state, ..status });
    store.txn(Txn::default().put(&schema::status(&replica.node, &replica.key), &status)?).await?;
    Ok(())
}

/// What has gone through the interface of etcd's machine, both ways.
fn octets(etcd: &tests::Etcd) -> Result<u64> {
    let counters = "cat /sys/class/net/uplink0/statistics/rx_bytes /sys/class/net/uplink0/statistics/tx_bytes";
    etcd.machine().shell(counters)?.lines().map(|line| Ok(line.trim().parse::<u64>()?)).sum()
}

/// What skepd holds now, and what it has held at most.
fn memory(node: &Node) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", node.skepd_pid()?))?;
    let line = |name: &str| -> Result<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.trim().to_owned())
    };
    Ok(format!("skepd holds {}, at most {}", line("VmRSS:")?, line("VmHWM:")?))
}

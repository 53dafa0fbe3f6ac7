//! A thousand replicas on one node, as far as that goes without a thousand containers: the real store, controller and
//! plan, the real maps with programs on real veths.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use dataplane::agent::tables::Registration;
use dataplane::agent::{Desired, Observed, desired, plan, predict};
use dataplane::bpf::{MapSizes, Maps, Pins, Programs, find_cgroup2_root};
use dataplane::config::{Args, Config};
use dataplane::controller::{self, State};
use dataplane::model::spec::{NetworkAttachment, NetworkSpec};
use dataplane::model::{EnvironmentKey, EnvironmentSpec, Presence, ReplicaAssignment, ServiceSpec};
use dataplane::netlink::{Netlink, Netns, VethSpec};
use dataplane::secrets::Secrets;
use dataplane::store::{Embedded, Store, Txn, schema};
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;
use tests::netns::Namespace;

const NODE: &str = "n1";
/// Ten of each make a thousand.
const TEN: u32 = 10;
/// Veths, each with a namespace, that are made when it is to be quick.
const SHORT: usize = 50;

fn environment(number: u32) -> EnvironmentSpec {
    let key = EnvironmentKey { project: format!("p{number}"), environment: "production".into() };
    let service = ServiceSpec {
        networks: BTreeMap::from([("default".to_owned(), NetworkAttachment::default())]),
        replicas: TEN,
        ..ServiceSpec::of_image("busybox:latest")
    };
    let services = (0..TEN).map(|number| (format!("s{number}"), service.clone())).collect();
    let networks = BTreeMap::from([("default".to_owned(), NetworkSpec::default())]);
    EnvironmentSpec { key, services, networks, volumes: Default::default() }
}

fn config() -> Result<Config> {
    Ok(Args::try_parse_from(["skepd", "--node-name", NODE])?.options.resolve()?)
}

/// The store with everything assigned by the real controller.
async fn assigned(store: &Arc<dyn Store>, state_dir: &Path, config: &Config) -> Result<State> {
    let secrets = Secrets::open(Arc::clone(store), state_dir).await?;
    let store = store.as_ref();
    let (pools, total) = (config.pools(), (TEN * TEN * TEN) as usize);
    controller::register(store, &pools, NODE).await?;
    let presence = Presence { instance: NODE.into(), version: String::new(), capacity: None, daemon: None };
    store.txn(Txn::default().put(&schema::presence(NODE), &presence)?).await?;
    for number in 0..TEN {
        let spec = environment(number);
        store.txn(Txn::default().put(&schema::intent(&spec.key), &spec)?).await?;
    }
    let done = async {
        loop {
            let state = State::load(store).await?;
            if state.replicas.len() == total {
                return anyhow::Ok(state);
            }
            let mut changes = store.watch("/assignments/", state.revision).await?;
            futures_util::StreamExt::next(&mut changes).await;
        }
    };
    tokio::select! {
        state = done => state,
        never = controller::run(store, &secrets, &pools, NODE, None) => match never {},
        () = tokio::time::sleep(Duration::from_secs(120)) => anyhow::bail!("not assigned within two minutes"),
    }
}

#[test]
fn a_thousand_replicas_are_assigned_and_planned_in_seconds() -> Result<()> {
    let (directory, config) = (tempfile::tempdir()?, config()?);
    let path = directory.path().join("store.redb");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The store expires leases on the runtime.
    let _inside = runtime.enter();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&path)?);
    let begun = Instant::now();
    let state = runtime.block_on(assigned(&store, directory.path(), &config))?;
    let assigning = begun.elapsed();

    let node = desired::Node { name: NODE.into(), id: 1, config: Arc::new(config) };
    let wanted = Desired::of(&state, &node);
    let mut observed = Observed { mtu: 1500, ..Observed::default() };
    let begun = Instant::now();
    let first = plan(&wanted, &observed);
    let planning = begun.elapsed();
    let mut ops = first.clone();
    let mut steps = 0;
    while !ops.is_empty() {
        steps += ops.len();
        for op in &ops {
            predict::predict(&wanted, &mut observed, op);
        }
        ops = plan(&wanted, &observed);
    }
    let begun = Instant::now();
    ensure!(plan(&wanted, &observed).is_empty(), "a plan that was carried out leaves nothing to do");
    let idle = begun.elapsed();
    println!(
        "{} replicas: assigned in {} ms, planned in {} ms ({} steps until all is so), a look with nothing to do plans {} ms; \
         store {} kB",
        wanted.replicas.len(),
        assigning.as_millis(),
        planning.as_millis(),
        steps,
        idle.as_millis(),
        fs::metadata(&path)?.len() / 1024,
    );
    ensure!(idle < Duration::from_secs(5), "an idle look plans {idle:?}");
    Ok(())
}

/// A node in namespaces of its own.
struct Ground {
    host: Namespace,
    cgroup: Cgroup,
    bpffs: Bpffs,
}

fn replica(number: u32) -> ReplicaAssignment {
    let key = environment(0).key;
    let service = dataplane::model::ServiceKey { environment: key, service: "s0".into() };
    let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
    ReplicaAssignment {
        key: service.replica(1, number),
        node: NODE.into(),
        env: 1,
        service_id: 1,
        address4: [10, 208, high, low].into(),
        address6: [0xfd53, 0x6b65, 0x7000, 0, 0, 0, 1, number as u16].into(),
        vip4: [10, 224, 0, 1].into(),
        vip6: [0xfd53, 0x6b65, 0x7001, 0, 0, 0, 0, 1].into(),
        networks: 1,
        egress: true,
        spec: environment(0).services["s0"].clone(),
        image: None,
        ending: false,
    }
}

/// Octets that the kernel holds for a map, as it says itself in proc(5).
fn held(map: impl std::os::fd::AsFd) -> Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("no memlock in fdinfo")?;
    Ok(line.trim().parse()?)
}

/// Octets of all maps that are pinned.
fn held_by_all(pins: &Pins) -> Result<u64> {
    let files = fs::read_dir(pins.base())?.collect::<std::io::Result<Vec<_>>>()?;
    let maps = files.iter().filter(|file| file.path().is_file());
    maps.map(|file| held(aya::maps::MapData::from_pin(file.path())?.fd())).sum()
}

#[test]
fn programs_and_maps_of_many_replicas_are_looked_at_in_milliseconds() -> Result<()> {
    let long = std::env::var_os("SKEP_LONG").is_some();
    let count = if long { 1_000 } else { SHORT };
    let ground = Ground { host: Namespace::new()?, cgroup: Cgroup::new(&find_cgroup2_root()?)?, bpffs: Bpffs::new()? };
    ground.host.enter(|| {
        let pins = Pins::new(&ground.bpffs.path().join("skep"));
        let (programs, maps) = Programs::load_or_adopt(&pins, &MapSizes::default(), ground.cgroup.path())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(many(count, &pins, &programs, &maps))
    })
}

async fn many(count: usize, pins: &Pins, programs: &Programs, maps: &Maps) -> Result<()> {
    let netlink = Netlink::connect()?;
    let mut namespaces = Vec::new();
    let begun = Instant::now();
    for number in 1..=u32::try_from(count)? {
        let replica = replica(number);
        let namespace = Namespace::new()?;
        let netns = Netns::open(&namespace.path())?;
        let veth = VethSpec::new(replica.address4, replica.address6, replica.key.to_string(), 1500);
        let ifindex = netlink.create_veth(&veth, &netns).await?;
        let entries = Registration::new(&replica, 1, ifindex, netns.cookie().await?);
        maps.devices.put(&entries.device.0, entries.device.1)?;
        maps.netns.put(&entries.netns.0, entries.netns.1)?;
        for (address, endpoint) in entries.endpoints {
            maps.endpoints.put(&address, endpoint)?;
        }
        programs.attach(ifindex, &veth.name)?;
        netlink.ensure_host_side(&veth).await?;
        Netlink::plumb_container(&netns, &veth).await?;
        namespaces.push(namespace);
    }
    let making = begun.elapsed();
    let pool = config()?.container_pool4;
    let begun = Instant::now();
    let installed = dataplane::host::Installed::look(&netlink, pool, programs, maps).await?;
    let looking = begun.elapsed();
    ensure!(installed.veths.len() == count, "{} veths", installed.veths.len());
    ensure!(installed.veths.iter().all(|veth| veth.missing.is_empty()), "{installed:?}");
    println!(
        "{count} veths with programs: {:.1} ms each to make, {} ms to look at; all maps hold {} kB, whatever is in them",
        making.as_secs_f64() * 1_000. / count as f64,
        looking.as_millis(),
        held_by_all(pins)? / 1024,
    );
    ensure!(looking < Duration::from_millis(2 * count as u64 + 500), "looking takes {looking:?}");
    Ok(())
}

//! From a configuration to a running daemon, in the order that fails closed.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::agent::{Agent, AgentError, Ground, Observer, in_one_line};
use crate::api::{self, Api, ApiError};
use crate::bpf::{BpfError, Events, Pins, Programs, find_cgroup2_root};
use crate::capacity;
use crate::cluster::{ClusterError, Door};
use crate::config::Config;
use crate::controller::{self, ControllerError};
use crate::descriptors::{self, TooFew};
use crate::docker::{Docker, DockerError};
use crate::forwarder;
use crate::host::{self, Finding, HostFacts, Installed, Level};
use crate::membership::{Member, MembershipError};
use crate::model::DaemonRecord;
use crate::monitor::Monitor;
use crate::netlink::{Netlink, NetlinkError};
use crate::secrets::Secrets;
use crate::service_manager;
use crate::store::seal::ClusterKeyError;
use crate::store::{Store, StoreError, schema};
use crate::transport::Transport;
use crate::wireguard::{Tunnel, WireguardError};

mod directories;
mod ownership;
mod state;
mod unknown;

pub use directories::bpffs_mark;
pub(crate) use directories::make as make_directories;
use directories::prepare_bpffs;

/// Why the daemon does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The machine lacks something.
    #[error("this machine is not ready: {}", lines(.0))]
    Host(Vec<Finding>),
    /// Too few files may be open.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// A directory or file of its own.
    #[error("cannot {operation} {}: {source}: run skepd as root, or give another directory", path.display())]
    File {
        /// What failed.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state directory is another node's.
    #[error(
        "the state in {} is of node {found}, this is {name}: start with --node-name {found}, \
        or give this one its own --state-dir", state_dir.display()
    )]
    OtherNode {
        /// Where.
        state_dir: PathBuf,
        /// Whose state it is.
        found: String,
        /// This node's name.
        name: String,
    },
    /// The state directory was copied from another machine, or the disk was moved.
    #[error(
        "the state in {} was written on another machine: if this one is to go on as that node, and that one no longer \
        runs, remove {}; otherwise give this one its own --state-dir", state_dir.display(), file.display()
    )]
    OtherMachine {
        /// Where.
        state_dir: PathBuf,
        /// The file that says so.
        file: PathBuf,
    },
    /// Another daemon uses the same pins, with a state of its own.
    #[error(
        "the pins in {} are in use by another skepd: stop that one, or give this one its own --bpffs (and pools)",
        bpffs.display()
    )]
    PinsInUse {
        /// Where.
        bpffs: PathBuf,
    },
    /// The store is older than what runs.
    #[error(
        "the store in {} knows nothing of what runs here ({}); nothing was touched: `skepd repair` with the same \
        options takes it back, `skepd repair --forget` has it removed", state_dir.display(), replicas.join(", ")
    )]
    Unknown {
        /// Where.
        state_dir: PathBuf,
        /// What runs.
        replicas: Vec<String>,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster's key.
    #[error(transparent)]
    Key(#[from] ClusterKeyError),
    /// The cluster's etcd, or who may join.
    #[error(transparent)]
    Cluster(#[from] Box<ClusterError>),
    /// This node's place among the nodes.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The tunnels to other nodes.
    #[error(transparent)]
    Wireguard(#[from] WireguardError),
    /// What is assigned does not fit this node's maps.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// Maps and programs.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// Docker.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// Links, addresses, routes.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The node's routes, rules and addresses, or what the agent needs to begin.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The API's socket.
    #[error(transparent)]
    Api(#[from] ApiError),
}

fn lines(findings: &[Finding]) -> String {
    let line = |finding: &Finding| match &finding.remedy {
        Some(remedy) => format!("{}: {remedy}", finding.what),
        None => finding.what.clone(),
    };
    findings.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Runs until SIGTERM or SIGINT, and leaves everything running then.
///
/// # Errors
/// [`DaemonError`] when it cannot start, or a part of it ends by itself.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    // Asked for first, so that a signal during the start is not lost.
    let stop = stop_signal()?;
    tokio::select! {
        result = run_until_failure(Arc::new(config)) => result,
        name = stop => {
            info!(signal = name, "Stopping; containers, names and isolation go on without the daemon.");
            Ok(())
        }
    }
}

async fn run_until_failure(config: Arc<Config>) -> Result<(), DaemonError> {
    descriptors::raise()?;
    check(&config).await?;
    directories::make(&config)?;
    // First: a second daemon must not take the first one's socket and only then find out that it is one.
    let store = state::open(&config).await?;
    ownership::check_machine(&config)?;
    let _pins_lock = ownership::lock_pins(&config)?;
    let listener = api::listen(&config.socket()).await?;
    let transport = transport(&config).await;
    let daemon = transport.as_ref().map(|transport| transport.record());
    let member = register(store.as_ref(), &config, daemon).await?;
    let node = member.record.clone();

    // All of it, decoded, is much: nobody keeps it.
    capacity::check(&controller::State::load(store.as_ref()).await?, &config.map_sizes)
        .map_err(ControllerError::Condition)?;

    let netlink = Netlink::connect()?;
    // It may come later: what runs is looked after meanwhile.
    let docker = Docker::at(&config.docker)?;
    unknown::refuse(store.as_ref(), &docker, &config).await?;
    let pins = Pins::new(&config.bpffs);
    let load = if config.without_tcx { Programs::load_or_adopt_without_tcx } else { Programs::load_or_adopt };
    let (programs, maps) = load(&pins, &config.map_sizes, &find_cgroup2_root()?)?;
    directories::write(&config.bpffs_file(), config.bpffs.as_os_str().as_encoded_bytes())?;

    let ground = Ground::new(Arc::clone(&config), netlink.clone());
    if let Err(mut errors) = ground.prepare().await {
        return Err(errors.swap_remove(0).into());
    }
    let forwarder = forwarder::supervisor(&config);

    let tunnel = Tunnel::new(&config)?;
    let (maps, programs) = (Arc::new(maps), Arc::new(programs));
    let observer = Arc::new(Observer::new(Arc::clone(&config), docker, netlink, tunnel, maps, programs));
    let secrets = Arc::new(Secrets::open(Arc::clone(&store), &config.state_dir).await?);
    let mut agent = Agent::new(Arc::clone(&store), Arc::clone(&observer), ground, &node, Arc::clone(&secrets))?;
    let first_look = agent.first_look().map(drop).shared();
    let pools = config.pools();
    let abort_at = config.abort_at_txn;
    let looked = first_look.clone();
    let controlling = async {
        // What ended while nobody was there must not be taken for what goes on.
        looked.await;
        controller::run(store.as_ref(), &secrets, &pools, &node.name, abort_at).await
    };
    let keeping = forwarder.keep();
    let door = Door::of(&config, Arc::clone(&store)).map_err(Box::new)?.map(Arc::new);
    let letting_in = {
        let door = door.clone();
        async move {
            match door {
                Some(door) => door.keep().await,
                None => std::future::pending().await,
            }
        }
    };
    let staying = member.stay(store.as_ref());
    // A task of its own: it should not have the others wait when much happens.
    let monitor = Arc::new(Monitor::default());
    let consuming = tokio::spawn({
        let (monitor, events, store) = (Arc::clone(&monitor), Events::open(&pins)?, Arc::clone(&store));
        async move { monitor.run(events, store).await }
    });
    let (node, secrets) = (node.clone(), Arc::clone(&secrets));
    let api = Api { store: Arc::clone(&store), secrets, observer, monitor, door, transport, node, config };
    let relayed = api::relayed(api.clone());
    tokio::select! {
        never = relayed => match never {},
        never = controlling => match never {},
        never = keeping => match never {},
        never = staying => match never {},
        never = letting_in => match never {},
        ended = consuming => match ended {
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(never)) => match never {},
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        },
        result = agent.run() => match result {
            Err(error) => Err(error.into()),
            Ok(never) => match never {},
        },
        // Who is told of replicas is told of what is now, not of what the last daemon saw; until then, requests queue.
        result = async {
            first_look.await;
            if let Err(error) = service_manager::ready() {
                tracing::warn!(%error, "Cannot tell the service manager that the daemon is ready.");
            }
            api::serve(listener, api).await
        } => Ok(result?),
    }
}

/// Every finding of the machine.
async fn findings(config: &Config) -> Vec<Finding> {
    let wanted = host::Wanted::from(config);
    let facts = HostFacts::gather(&wanted).await;
    host::check(&facts, &wanted)
}

/// Every finding of the machine, and of what skepd has put into its kernel.
pub async fn all_findings(config: &Config) -> Vec<Finding> {
    let installed = Installed::look_at_pins(&host::Wanted::from(config)).await;
    let installed = installed.map_or_else(|error| vec![host::unreadable(&error)], |installed| installed.check());
    findings(config).await.into_iter().chain(installed).collect()
}

/// Refuses a machine that lacks something.
async fn check(config: &Config) -> Result<(), DaemonError> {
    prepare_bpffs(config)?;
    let wanted = host::Wanted::from(config);
    let facts = HostFacts::gather(&wanted).await;
    let mut findings = host::check(&facts, &wanted);
    // What runs needs no Docker, and skepd can wait for it: after a reboot either may be the first.
    if let Some(silent) = host::silent_docker(&facts, &wanted) {
        findings.retain(|finding| *finding != silent);
        tracing::warn!(
            remedy = silent.remedy.as_deref().unwrap_or_default(),
            "{}; waiting for it, and looking after what runs meanwhile.",
            silent.what
        );
    }
    let (grave, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.level == Level::Error);
    for finding in others.iter().filter(|finding| finding.level == Level::Warn) {
        tracing::warn!(remedy = finding.remedy.as_deref().unwrap_or_default(), "{}", finding.what);
    }
    if grave.is_empty() { Ok(()) } else { Err(DaemonError::Host(grave)) }
}

/// This node's place; refuses a store that is another node's.
async fn register(store: &dyn Store, config: &Config, daemon: Option<DaemonRecord>) -> Result<Member, DaemonError> {
    let (nodes, _) = schema::range_json(store, &schema::nodes()).await?;
    if config.etcd.is_none()
        && let Some(other) = nodes.first()
        && !nodes.iter().any(|node| node.value.name == config.node_name)
    {
        return Err(DaemonError::OtherNode {
            state_dir: config.state_dir.clone(),
            found: other.value.name.clone(),
            name: config.node_name.clone(),
        });
    }
    Ok(Member::register(store, config, daemon).await?)
}

/// Where the other nodes' daemons ask this one. What runs here does not need it.
async fn transport(config: &Config) -> Option<Arc<Transport>> {
    config.etcd.as_ref()?;
    let listening = Transport::listen(config.daemon_port).await;
    listening
        .inspect_err(|error| tracing::warn!(%error, "The other nodes cannot ask this one what its replicas say."))
        .ok()
        .map(Arc::new)
}

fn stop_signal() -> Result<impl Future<Output = &'static str>, DaemonError> {
    let listen = |kind| {
        signal(kind).map_err(|source| DaemonError::File {
            operation: "listen for signals with",
            path: PathBuf::from("signalfd"),
            source,
        })
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// An error of the daemon in one line.
pub fn explain(error: &DaemonError) -> String {
    in_one_line(error)
}

//! What the daemon is told: [`Args`] as typed, [`Config`] with nothing left to interpret.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

mod abort;
mod command;
mod error;
mod etcd;
mod tunnel;

pub use abort::AbortAt;
pub use command::{ClusterCommand, Command, Secret};
pub use error::ConfigError;
pub use etcd::{EtcdConfig, EtcdOptions};
pub use tunnel::TunnelKind;

use crate::bpf::MapSizes;
use crate::host;
use crate::model::{Pools, name};

/// The node daemon of Skep: private networks for the containers of this machine.
///
/// It makes this node what the store says: sandboxes and workloads in Docker, a veth pair and the
/// kernel programs for each replica, names, VIPs and the way out. Nothing of it is on the packet path:
/// it may be killed or restarted at any time, and the containers go on.
#[derive(Debug, Parser)]
#[command(name = "skepd", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Args {
    /// What to do; the daemon runs when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How.
    #[command(flatten)]
    pub options: Options,
}

const AFTER_HELP: &str = "\
A first environment (as root):
  skepd check                            what this machine lacks, each with its remedy
  skepd install                          as a service of this machine, now and after every boot
  skepctl up -f compose.yaml -p shop     services in a private network of their own
  skepctl ps                             what runs where

Several daemons run side by side on one kernel when node name, state, run and bpffs directories and
the four pools differ.
Exit status: 0 done, 1 refused or failed (the reason and the way out are on standard error), 2 usage.";

/// What a map may hold: under a thousand saves nothing, over a million is more memory than anybody means.
const MAP_ENTRIES: std::ops::RangeInclusive<i64> = 1_024..=1_048_576;

/// How `skepd` does it; every option is also an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// Where the store is kept.
    #[arg(long, global = true, env = "SKEP_STATE_DIR", value_name = "DIR", default_value = "/var/lib/skep")]
    pub state_dir: PathBuf,
    /// Where the API's socket (skepd.sock), the forwarder's log and the like are.
    #[arg(long, global = true, env = "SKEP_RUN_DIR", value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// Where maps and programs are pinned; in the bpffs that PID 1 sees.
    #[arg(long, global = true, env = "SKEP_BPFFS", value_name = "DIR", default_value = "/sys/fs/bpf/skep")]
    pub bpffs: PathBuf,
    /// Docker's API.
    #[arg(long, global = true, env = "SKEP_DOCKER", value_name = "URL", default_value = "unix:///var/run/docker.sock")]
    pub docker: String,
    /// Name of this node in the store [default: the host name].
    #[arg(long, global = true, env = "SKEP_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address by which other nodes reach this one [default: the one that it has towards the internet].
    #[arg(long, global = true, env = "SKEP_NODE_ADDRESS", value_name = "ADDRESS")]
    pub node_address: Option<IpAddr>,
    /// What several nodes share.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// IPv4 addresses of replicas; each node takes a /24 at a time.
    #[arg(long, global = true, env = "SKEP_CONTAINER_POOL4", value_name = "PREFIX", default_value = "10.208.0.0/12")]
    pub container_pool4: Ipv4Net,
    /// IPv4 addresses of services; its 53rd address answers DNS.
    #[arg(long, global = true, env = "SKEP_VIP_POOL4", value_name = "PREFIX", default_value = "10.224.0.0/16")]
    pub vip_pool4: Ipv4Net,
    /// IPv6 addresses of replicas; each node takes a /64.
    #[arg(
        long,
        global = true,
        env = "SKEP_CONTAINER_POOL6",
        value_name = "PREFIX",
        default_value = "fd53:6b65:7000::/48"
    )]
    pub container_pool6: Ipv6Net,
    /// IPv6 addresses of services.
    #[arg(long, global = true, env = "SKEP_VIP_POOL6", value_name = "PREFIX", default_value = "fd53:6b65:7001::/64")]
    pub vip_pool6: Ipv6Net,
    /// Replicas that the cluster can have; the kernel's maps are made for as many.
    #[arg(long, global = true, env = "SKEP_MAX_ENDPOINTS", value_name = "N", default_value_t = MapSizes::default().endpoints,
        value_parser = clap::value_parser!(u32).range(MAP_ENTRIES))]
    pub max_endpoints: u32,
    /// Services that the cluster can have; the kernel's maps are made for as many.
    #[arg(long, global = true, env = "SKEP_MAX_SERVICES", value_name = "N", default_value_t = MapSizes::default().services,
        value_parser = clap::value_parser!(u32).range(MAP_ENTRIES))]
    pub max_services: u32,
    /// Replicas that this node can have; the kernel's maps are made for as many.
    #[arg(long, global = true, env = "SKEP_MAX_REPLICAS", value_name = "N", default_value_t = MapSizes::default().local,
        value_parser = clap::value_parser!(u32).range(MAP_ENTRIES))]
    pub max_replicas: u32,
    /// Who starts the DNS forwarder.
    #[arg(long, global = true, env = "SKEP_FORWARDER", value_name = "WHO", default_value = "daemon")]
    pub forwarder: Starter,
    /// Which WireGuard device leads to the other nodes; `auto` is the kernel's where it has one.
    #[arg(long, global = true, env = "SKEP_TUNNEL", value_name = "KIND", default_value = "auto")]
    pub tunnel: TunnelKind,
    /// Name of the WireGuard device.
    #[arg(long, global = true, env = "SKEP_TUNNEL_DEVICE", value_name = "NAME", default_value = "skep0",
        value_parser = tunnel::device_name)]
    pub tunnel_device: String,
    /// UDP port on which the other nodes reach this one.
    #[arg(long, global = true, env = "SKEP_TUNNEL_PORT", value_name = "PORT", default_value_t = 51820,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub tunnel_port: u16,
    /// TCP port on which a node that lets others in is asked, while it has invited somebody.
    #[arg(long, global = true, env = "SKEP_JOIN_PORT", value_name = "PORT", default_value_t = 51820,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub join_port: u16,
    /// TCP port on which the other nodes' daemons ask this one: for `skepctl logs`, `exec`, `cp` and `forward` there.
    #[arg(long, global = true, env = "SKEP_DAEMON_PORT", value_name = "PORT", default_value_t = 51821,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub daemon_port: u16,
    /// What of the outside only services reach that list it in x-skep.egress: private networks, which nobody reaches
    /// otherwise; or public ones, 0.0.0.0/0 and ::/0 for all.
    #[arg(long, global = true, env = "SKEP_LISTED_EGRESS", value_name = "PREFIX,…", value_delimiter = ',')]
    pub listed_egress: Vec<IpNet>,
    /// What to log: a level, or directives such as `info,dataplane::agent=debug`.
    #[arg(long, global = true, env = "SKEP_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How to log; `auto` is text on a terminal and JSON elsewhere.
    #[arg(long, global = true, env = "SKEP_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
    /// For tests: ends the daemon at its n-th step since its start, `before:N` or `after:N`.
    #[arg(long, global = true, hide = true, value_name = "WHEN")]
    pub abort_at: Option<AbortAt>,
    /// For tests: the same at a transaction of the controller.
    #[arg(long, global = true, hide = true, value_name = "WHEN")]
    pub abort_at_txn: Option<AbortAt>,
    /// For tests: attaches packet programs as kernels before 6.6 have it, by clsact filters.
    #[arg(long, global = true, hide = true)]
    pub without_tcx: bool,
}

/// Who starts the DNS forwarder, `skepd dns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Starter {
    /// The daemon, as a process that outlives it.
    Daemon,
    /// The service manager, as a unit of its own (`skepd-dns.service`).
    Unit,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Marks on packets and sockets; only the bits of [`marks::MASK`] are Skep's.
pub mod marks {
    /// The bits that are Skep's.
    pub const MASK: u32 = 0x0f00_0000;
    /// What `from_container` gives to a packet that the host's stack may forward.
    pub const PASS: u32 = 0x0500_0000;
    /// What skepd's own sockets carry, so that a container can tell them from any other process of the host.
    pub const HOST: u32 = 0x0600_0000;
}

/// Everything the daemon needs to know about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the store is kept; absolute.
    pub state_dir: PathBuf,
    /// Where socket, pid files and logs are; absolute.
    pub run_dir: PathBuf,
    /// Where maps and programs are pinned; absolute.
    pub bpffs: PathBuf,
    /// Docker's API.
    pub docker: String,
    /// Normalised.
    pub node_name: String,
    /// Address by which other nodes reach this one, if it was told.
    pub node_address: Option<IpAddr>,
    /// The etcd that holds the state; none: a file of this node does.
    pub etcd: Option<EtcdConfig>,
    /// IPv4 addresses of replicas.
    pub container_pool4: Ipv4Net,
    /// IPv6 addresses of replicas.
    pub container_pool6: Ipv6Net,
    /// IPv4 addresses of services.
    pub vip_pool4: Ipv4Net,
    /// IPv6 addresses of services.
    pub vip_pool6: Ipv6Net,
    /// Capacities of the kernel's maps.
    pub map_sizes: MapSizes,
    /// Who starts the DNS forwarder.
    pub forwarder: Starter,
    /// Which WireGuard device leads to the other nodes.
    pub tunnel: TunnelKind,
    /// Name of the WireGuard device.
    pub tunnel_device: String,
    /// UDP port on which the other nodes reach this one.
    pub tunnel_port: u16,
    /// TCP port on which nodes that join ask.
    pub join_port: u16,
    /// TCP port on which the other nodes' daemons ask this one.
    pub daemon_port: u16,
    /// What of the outside only services reach that list it.
    pub listed_egress: BTreeSet<IpNet>,
    /// Directives of the log filter.
    pub log: String,
    /// Whether to log JSON.
    pub log_json: bool,
    /// Where the daemon ends by itself; never but in tests.
    pub abort_at: Option<AbortAt>,
    /// At which transaction of the controller; never but in tests.
    pub abort_at_txn: Option<AbortAt>,
    /// Packet programs are attached by clsact filters, whichever the kernel.
    pub without_tcx: bool,
}

impl Options {
    /// Resolves everything that is left open.
    ///
    /// # Errors
    /// [`ConfigError`] names the option and the way out.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let node_name = match self.node_name {
            Some(name) => name,
            None => host_name()?,
        };
        let node_name = name::normalise(&node_name).map_err(|source| ConfigError::NodeName { source })?;
        let state_dir = absolute("--state-dir", self.state_dir)?;
        let etcd = self.etcd.resolve(&state_dir)?;
        let config = Config {
            state_dir,
            run_dir: absolute("--run-dir", self.run_dir)?,
            bpffs: absolute("--bpffs", self.bpffs)?,
            docker: self.docker,
            node_name,
            node_address: self.node_address,
            etcd,
            container_pool4: self.container_pool4.trunc(),
            container_pool6: self.container_pool6.trunc(),
            vip_pool4: self.vip_pool4.trunc(),
            vip_pool6: self.vip_pool6.trunc(),
            map_sizes: MapSizes {
                local: self.max_replicas,
                endpoints: self.max_endpoints,
                services: self.max_services,
                ..MapSizes::default()
            },
            forwarder: self.forwarder,
            tunnel: self.tunnel,
            tunnel_device: self.tunnel_device,
            tunnel_port: self.tunnel_port,
            join_port: self.join_port,
            daemon_port: self.daemon_port,
            listed_egress: self.listed_egress.iter().map(IpNet::trunc).collect(),
            log: self.log,
            log_json: match self.log_format {
                LogFormat::Auto => !std::io::IsTerminal::is_terminal(&std::io::stderr()),
                LogFormat::Text => false,
                LogFormat::Json => true,
            },
            abort_at: self.abort_at,
            abort_at_txn: self.abort_at_txn,
            without_tcx: self.without_tcx,
        };
        config.check_pools()?;
        Ok(config)
    }
}

impl Config {
    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET_NAME)
    }

    /// The file that tells `skepctl` where the pins are.
    pub fn bpffs_file(&self) -> PathBuf {
        self.run_dir.join(BPFFS_FILE_NAME)
    }

    /// The store's file.
    pub fn store_file(&self) -> PathBuf {
        self.state_dir.join("store.redb")
    }

    /// The file of this node's copy of what is in etcd.
    pub fn mirror_file(&self) -> PathBuf {
        self.state_dir.join("etcd.redb")
    }

    /// Whether it is of the daemon that the units run; others, with directories of their own, share nothing with it.
    pub fn is_the_machines(&self) -> bool {
        self.run_dir == Path::new(RUN_DIR)
    }

    /// The cluster's address pools.
    pub fn pools(&self) -> Pools {
        Pools {
            container4: self.container_pool4,
            container6: self.container_pool6,
            vip4: self.vip_pool4,
            vip6: self.vip_pool6,
        }
    }

    /// The address that answers DNS: the 53rd of the VIP pool.
    pub fn dns(&self) -> Ipv4Addr {
        self.pools().dns()
    }

    fn check_pools(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("--container-pool4", self.container_pool4.to_string(), self.container_pool4.prefix_len(), 24),
            ("--vip-pool4", self.vip_pool4.to_string(), self.vip_pool4.prefix_len(), 24),
            ("--container-pool6", self.container_pool6.to_string(), self.container_pool6.prefix_len(), 64),
            ("--vip-pool6", self.vip_pool6.to_string(), self.vip_pool6.prefix_len(), 112),
        ];
        for (flag, pool, length, longest) in sizes {
            if length > longest {
                return Err(ConfigError::PoolSize { flag, pool, longest });
            }
        }
        let (c4, v4) = (self.container_pool4, self.vip_pool4);
        if c4.contains(&v4) || v4.contains(&c4) {
            return Err(overlap("4", &c4.to_string(), &v4.to_string()));
        }
        let (c6, v6) = (self.container_pool6, self.vip_pool6);
        if c6.contains(&v6) || v6.contains(&c6) {
            return Err(overlap("6", &c6.to_string(), &v6.to_string()));
        }
        Ok(())
    }

    /// Whether `address` lies in one of the pools.
    pub fn in_pools(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.container_pool4.contains(&a) || self.vip_pool4.contains(&a),
            IpAddr::V6(a) => self.container_pool6.contains(&a) || self.vip_pool6.contains(&a),
        }
    }
}

impl From<&Config> for host::Wanted {
    fn from(config: &Config) -> Self {
        Self {
            state_dir: config.state_dir.clone(),
            run_dir: config.run_dir.clone(),
            bpffs: config.bpffs.clone(),
            docker: config.docker.clone(),
            container_pool4: config.container_pool4,
            container_pool6: config.container_pool6,
            vip_pool4: config.vip_pool4,
            vip_pool6: config.vip_pool6,
            dns: config.dns(),
        }
    }
}

/// The run directory of the machine's own daemon.
pub const RUN_DIR: &str = "/run/skep";
/// Name of the API's socket in the run directory.
pub const SOCKET_NAME: &str = "skepd.sock";
/// Name of the file in the run directory that names the pin directory.
pub const BPFFS_FILE_NAME: &str = "bpffs";

fn overlap(family: &str, containers: &str, vips: &str) -> ConfigError {
    let (first, second) =
        if family == "4" { ("--container-pool4", "--vip-pool4") } else { ("--container-pool6", "--vip-pool6") };
    ConfigError::PoolOverlap { first, first_pool: containers.to_owned(), second, second_pool: vips.to_owned() }
}

fn host_name() -> Result<String, ConfigError> {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(|source| ConfigError::HostName { source })?;
    // The first label: a fully qualified host name holds dots, which no node name may.
    Ok(name.split('.').next().unwrap_or_default().trim().to_owned())
}

fn absolute(flag: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(Path::new(&path)).map_err(|source| ConfigError::Path { flag, path, source })
}

#[cfg(test)]
mod tests;

//! Fixtures of the integration tests, shared with the demo and the benchmark.
//!
//! They drive the *built* programs (`skepd`, `skepctl`) and system tools from outside, and know
//! nothing of the crates under test: what a test sees is what a user would see.
//!
//! | fixture | is |
//! |---|---|
//! | [`Machine`] | a throw-away computer: its own network, mount, PID, IPC and host-name namespaces |
//! | [`Lan`] | the network outside: a router, an "internet" with servers and a DNS resolver |
//! | [`Node`] | a machine on a LAN with a private `dockerd` and a private `skepd` |
//! | [`Cluster`], [`Etcd`] | several nodes that share an etcd; a real etcd |
//! | [`Container`] | one replica: its addresses, its netns, commands inside it |
//! | [`netns`] | a bare network namespace, or a machine's or container's by the same handle |
//! | [`bpffs`], [`cgroup`] | a BPF file system and a cgroup of a test's own, for programs without a daemon |
//! | [`apt`] | packages of Debian's other releases |
//! | [`engine`], [`firewalls`] | another Docker Engine than the installed one; ufw and firewalld |
//! | [`load`], [`probe`], [`raw`] | traffic: what goes on while something is killed; who answers; forged frames |
//! | [`faults`] | a node under load that something happens to, and what it was before and is after |
//! | [`tun`] | a tunnel whose other end is the test |
//! | [`images`] | container images made on this machine: busybox, tools, PostgreSQL, Redis, musl, Go; or pulled |
//! | [`Valve`] | a connection that falls silent; `Node::start_registry` is something to connect to |
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use tests::{Node, images::Image};
//!
//! let node = Node::start()?;                        // dockerd and skepd are ready
//! node.load(&[Image::Tools, Image::Postgres])?;         // once per node; the archives are cached
//! node.up("shop", "production", "services: {web: {image: 'tools:latest', command: [sleep, inf]}}")?;
//! let web = node.replica("shop", "production", "web", 1)?;
//! web.exec(&["getent", "hosts", "web"])?;               // inside the container
//! web.net(&["ip", "-j", "addr"])?;                      // the host's tools in the container's netns
//! node.kill_skepd()?;                                   // SIGKILL
//! node.start_skepd()?;
//! node.down("shop", "production")?;
//! # Ok(()) }                                            // everything is gone when `node` is dropped
//! ```
//!
//! Everything a fixture makes has a name of its own and lives in namespaces of its own: any number
//! of them may run side by side. Nothing outlives them, neither after a panic nor after a SIGKILL of
//! the test: see [`Machine`]. Root is needed.

pub mod apt;
pub mod bpffs;
pub mod cgroup;
mod cluster;
pub mod command;
mod container;
pub mod dice;
pub mod engine;
mod etcd;
pub mod faults;
pub mod firewalls;
pub mod images;
mod lan;
mod leftovers;
pub mod load;
mod machine;
pub mod netns;
mod node;
pub mod paths;
pub mod probe;
mod process;
pub mod raw;
pub mod tun;
mod valve;
mod wait;

pub use cluster::Cluster;
pub use container::{Container, Replica};
pub use etcd::Etcd;
pub use lan::Lan;
pub use leftovers::left_by;
pub use machine::Machine;
pub use node::{Node, NodeBuilder};
pub use process::Process;
pub use valve::Valve;
pub use wait::wait_for;

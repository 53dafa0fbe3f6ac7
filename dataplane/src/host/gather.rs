//! Looks at the machine and changes nothing.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};
use tokio::process::Command;

use super::mounts::{self, Mount};
use super::{Bpffs, HostFacts, Space, Wanted};
use crate::bpf::find_cgroup2_root;
use crate::docker::{Docker, DockerError, EngineInfo};
use crate::netlink::{Netlink, Uplink};

/// Capabilities that skepd uses, by their numbers in capability(7): links, routes and programs;
/// BPF, mounts and namespaces; the namespace of a process that belongs to another user.
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (19, "CAP_SYS_PTRACE")];

impl HostFacts {
    /// Looks; fails never: what cannot be read is a fact too.
    pub async fn gather(wanted: &Wanted) -> Self {
        let own = mounts::parse(&read("/proc/self/mountinfo"));
        let (uplinks, routes) = routing().await;
        Self {
            uid: geteuid().as_raw(),
            missing_capabilities: missing_capabilities(&read("/proc/self/status")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            ipv6: Path::new("/proc/sys/net/ipv6/conf/all/forwarding").exists(),
            bpffs: bpffs(&own, &mounts::parse(&read("/proc/1/mountinfo")), &wanted.bpffs),
            cgroup2: find_cgroup2_root().ok(),
            docker: docker(&wanted.docker).await,
            uplinks,
            forwarding: ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
                .map(|key| read(&format!("/proc/sys/net/{key}")).trim() == "1"),
            routes,
            nft: version("nft").await,
            iptables: version("iptables").await,
            forward_drops: forward_drops().await,
            state_space: wanted.state_dir.ancestors().find_map(|path| Space::of(path).ok()),
            unwritable: [&wanted.state_dir, &wanted.run_dir].into_iter().filter_map(|dir| unwritable(dir)).collect(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Those that the mask in `/proc/<pid>/status` lacks.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    CAPABILITIES.iter().filter(|(bit, _)| mask & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

/// Compares file systems, not mounts: the same one may be mounted in many namespaces.
fn bpffs(own: &[Mount], init: &[Mount], path: &Path) -> Bpffs {
    match mounts::of(own, path).filter(|mount| mount.kind == "bpf") {
        None => Bpffs::Absent,
        Some(mount) if init.iter().any(|other| other.kind == "bpf" && other.device == mount.device) => Bpffs::Shared,
        Some(_) => Bpffs::Private,
    }
}

async fn docker(address: &str) -> Result<EngineInfo, String> {
    let ask = async { Docker::connect(address).await?.info().await };
    // The finding has a remedy of its own: the cause alone is wanted here.
    let cause = |error: DockerError| error.source().map_or_else(|| error.to_string(), ToString::to_string);
    ask.await.map_err(cause)
}

async fn routing() -> (Result<Vec<Uplink>, String>, Vec<ipnet::IpNet>) {
    let netlink = match Netlink::connect() {
        Ok(netlink) => netlink,
        Err(error) => return (Err(error.to_string()), Vec::new()),
    };
    let uplinks = netlink.uplinks().await.map_err(|error| error.to_string());
    (uplinks, netlink.foreign_prefixes().await.unwrap_or_default())
}

async fn version(program: &str) -> Option<String> {
    output(program, &["--version"]).await.map(|text| text.trim().to_owned())
}

async fn forward_drops() -> bool {
    output("iptables", &["-S", "FORWARD"]).await.is_some_and(|rules| rules.contains("-P FORWARD DROP"))
}

async fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks about the nearest directory above that is there.
fn unwritable(directory: &Path) -> Option<(PathBuf, String)> {
    let existing = directory.ancestors().find(|path| path.exists())?;
    let refused = access(existing, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    Some((directory.to_owned(), refused.desc().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_mask() {
        assert!(missing_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(missing_capabilities("CapEff:\t0000000000201000\n"), ["CAP_SYS_PTRACE"]);
        assert_eq!(missing_capabilities("").len(), CAPABILITIES.len());
    }

    #[test]
    fn a_bpffs_that_pid_1_does_not_see_is_private() {
        let mount = |device: &str, point: &str, kind: &str| Mount {
            device: device.to_owned(),
            point: point.into(),
            kind: kind.to_owned(),
        };
        let path = Path::new("/sys/fs/bpf/skep");
        let own = [mount("0:22", "/sys", "sysfs"), mount("0:37", "/sys/fs/bpf", "bpf")];
        assert_eq!(bpffs(&own[..1], &own, path), Bpffs::Absent);
        assert_eq!(bpffs(&own, &own, path), Bpffs::Shared);
        assert_eq!(bpffs(&own, &[mount("0:37", "/elsewhere", "bpf")], path), Bpffs::Shared);
        assert_eq!(bpffs(&own, &[mount("0:99", "/sys/fs/bpf", "bpf")], path), Bpffs::Private);
        assert_eq!(bpffs(&own, &own[..1], path), Bpffs::Private);
    }
}

//! One function for each line of `skepd check`.

use ipnet::IpNet;

use super::{Bpffs, Finding, HostFacts, Level, Space, Wanted};
use crate::docker::EngineInfo;

/// `sun_path` of unix(7), without the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// Smallest MTU that IPv6 allows (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1280;

/// Has every hook and helper that the programs use.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Has tcx links, which are replaced atomically and go with their device.
const KERNEL_TCX: (u32, u32) = (6, 6);

/// Octets and files below which the state directory counts as nearly full.
const SPACE_MIN: u64 = 8 << 20;
const INODES_MIN: u64 = 16;

fn ok(what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.into(), remedy: None }
}

fn warn(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { level: Level::Warn, what: what.into(), remedy: Some(remedy.into()) }
}

fn error(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { level: Level::Error, what: what.into(), remedy: Some(remedy.into()) }
}

pub(super) fn privileges(facts: &HostFacts) -> Finding {
    let missing = facts.missing_capabilities.join(", ");
    match (facts.uid, missing.is_empty()) {
        (0, true) => ok("runs as root"),
        (0, false) => {
            error(format!("root, but without {missing}"), "run skepd outside a container, as a system service")
        }
        (uid, _) => error(format!("runs as user {uid}, not as root"), "sudo skepd"),
    }
}

pub(super) fn kernel(facts: &HostFacts) -> Finding {
    let release = &facts.kernel;
    match version(release) {
        None => warn(format!("Linux {release:?}: its version is not readable"), "install Linux 6.1 or newer"),
        Some(version) if version < KERNEL_MIN => {
            error(format!("Linux {release} is too old"), "install Linux 6.1 or newer, and reboot")
        }
        Some(version) if version < KERNEL_TCX => ok(format!("Linux {release}, programs attached as clsact filters")),
        Some(_) => ok(format!("Linux {release}, programs attached as tcx links")),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn ipv6(facts: &HostFacts) -> Finding {
    if facts.ipv6 {
        return ok("the kernel has IPv6");
    }
    error("the kernel has no IPv6", "remove ipv6.disable=1 from the kernel's command line, and reboot")
}

pub(super) fn bpffs(facts: &HostFacts, wanted: &Wanted) -> Finding {
    let path = wanted.bpffs.display();
    match facts.bpffs {
        Bpffs::Shared => ok(format!("bpffs at {path}")),
        Bpffs::Absent if wanted.bpffs.starts_with("/sys/fs/bpf") => {
            warn(format!("no bpffs at {path}; skepd mounts it when it starts"), "mount -t bpf bpf /sys/fs/bpf")
        }
        Bpffs::Absent => {
            error(format!("no bpffs at {path}"), format!("mount -t bpf bpf {path}, or --bpffs /sys/fs/bpf/skep"))
        }
        Bpffs::Private => error(
            format!("the bpffs at {path} is seen from this mount namespace alone, and would take all programs with it"),
            "mount it for the whole machine before skepd starts: mount -t bpf bpf /sys/fs/bpf (in a unit of your own: Requires=skepd-bpffs.service)",
        ),
    }
}

pub(super) fn cgroup2(facts: &HostFacts) -> Finding {
    match &facts.cgroup2 {
        Some(point) => ok(format!("cgroup v2 at {}", point.display())),
        None => error(
            "cgroup v2 is not mounted, and sockets are seen through it",
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
        ),
    }
}

pub(super) fn docker(facts: &HostFacts, wanted: &Wanted) -> Vec<Finding> {
    match &facts.docker {
        Ok(engine) => [Some(engine_version(engine)), Some(live_restore(engine)), engine_user(engine)]
            .into_iter()
            .flatten()
            .collect(),
        Err(reason) => {
            let remedy = "systemctl start docker (apt-get install docker.io), or --docker unix://PATH";
            vec![error(format!("no Docker at {}: {reason}", wanted.docker), remedy)]
        }
    }
}

fn engine_version(engine: &EngineInfo) -> Finding {
    if engine.is_new_enough() {
        return ok(format!("Docker {}", engine.version));
    }
    error(format!("Docker {} is too old", engine.version), "install Docker Engine 20.10 or newer")
}

fn live_restore(engine: &EngineInfo) -> Finding {
    if engine.live_restore {
        return ok("containers outlive a restart of Docker (live-restore)");
    }
    warn(
        "a restart of Docker ends every container: live-restore is off",
        r#"put "live-restore": true into /etc/docker/daemon.json, then systemctl reload docker"#,
    )
}

fn engine_user(engine: &EngineInfo) -> Option<Finding> {
    if engine.rootless {
        return Some(error("Docker runs without root, in a network of its own", "use the machine's own Docker"));
    }
    engine.userns_remap.then(|| {
        warn(
            "Docker maps users (userns-remap), which Skep has not been tried with",
            "remove userns-remap from /etc/docker/daemon.json",
        )
    })
}

pub(super) fn uplinks(facts: &HostFacts) -> Finding {
    let uplinks = match &facts.uplinks {
        Ok(uplinks) => uplinks,
        Err(reason) => return error(format!("the routes are not readable: {reason}"), "sudo skepd check"),
    };
    if uplinks.is_empty() {
        return warn(
            "no default route: containers reach each other, and nothing outside",
            "ip route add default via GATEWAY",
        );
    }
    if let Some(narrow) = uplinks.iter().find(|uplink| uplink.mtu < IPV6_MTU_MIN) {
        return warn(
            format!("the MTU of {} is {}, less than IPv6 needs", narrow.name, narrow.mtu),
            format!("ip link set {} mtu {IPV6_MTU_MIN}", narrow.name),
        );
    }
    let families = |uplink: &crate::netlink::Uplink| match (uplink.ipv4, uplink.ipv6) {
        (true, true) => "IPv4 and IPv6",
        (true, false) => "IPv4",
        _ => "IPv6",
    };
    let list = uplinks.iter().map(|uplink| format!("{} ({}, MTU {})", uplink.name, families(uplink), uplink.mtu));
    ok(format!("way out: {}", list.collect::<Vec<_>>().join(", ")))
}

/// Never an error: skepd turns it on, and off again at uninstall.
pub(super) fn forwarding(facts: &HostFacts) -> Finding {
    let state = |on| if on { "on" } else { "off; skepd turns it on when it starts" };
    let [v4, v6] = facts.forwarding;
    if v4 == v6 {
        return ok(format!("forwarding is {}", state(v4)));
    }
    ok(format!("forwarding of IPv4 is {}, of IPv6 is {}", state(v4), state(v6)))
}

pub(super) fn pools(facts: &HostFacts, wanted: &Wanted) -> Finding {
    let pools: [(&str, IpNet); 4] = [
        ("--container-pool4", wanted.container_pool4.into()),
        ("--vip-pool4", wanted.vip_pool4.into()),
        ("--container-pool6", wanted.container_pool6.into()),
        ("--vip-pool6", wanted.vip_pool6.into()),
    ];
    for (option, pool) in pools {
        if let Some(route) = facts.routes.iter().find(|route| route.contains(&pool) || pool.contains(*route)) {
            return error(
                format!("the pool {pool} overlaps this machine's route to {route}"),
                format!("{option} with a prefix that nothing here uses (ip route show {route})"),
            );
        }
    }
    let list = pools.map(|(_, pool)| pool.to_string()).join(", ");
    ok(format!("no route of this machine overlaps {list}"))
}

pub(super) fn firewall(facts: &HostFacts) -> Finding {
    let Some(nft) = &facts.nft else {
        return error("nft is not installed, which masquerades what leaves", "apt-get install nftables");
    };
    let Some(iptables) = &facts.iptables else {
        return warn(
            "iptables is not installed; should Docker's rules drop, ours cannot answer",
            "apt-get install iptables",
        );
    };
    let policy = if facts.forward_drops { "; FORWARD drops, so two rules go to DOCKER-USER" } else { "" };
    ok(format!("{nft}, {iptables}{policy}"))
}

pub(super) fn directories(facts: &HostFacts, wanted: &Wanted) -> Finding {
    match facts.unwritable.first() {
        Some((path, reason)) => error(
            format!("{} cannot be written: {reason}", path.display()),
            "sudo skepd, or --state-dir and --run-dir with directories that root may write",
        ),
        None if facts.state_space.is_some_and(|space| is_nearly_full(&space)) => {
            let space = facts.state_space.map(|space| space.to_string()).unwrap_or_default();
            warn(
                format!("{} is nearly full ({space}); changes will be refused", wanted.state_dir.display()),
                "make room on that file system, or --state-dir on another",
            )
        }
        None => ok(format!("{} and {} can be written", wanted.state_dir.display(), wanted.run_dir.display())),
    }
}

/// The store is written anew from time to time, beside the old file and two copies.
fn is_nearly_full(space: &Space) -> bool {
    space.free < SPACE_MIN || (space.inodes > 0 && space.inodes_free < INODES_MIN)
}

pub(super) fn socket_path(wanted: &Wanted) -> Finding {
    let socket = wanted.run_dir.join("skepd.sock");
    let len = socket.as_os_str().len();
    if len > SOCKET_PATH_MAX {
        return error(
            format!("{} is {len} bytes long, a socket's path at most {SOCKET_PATH_MAX}", socket.display()),
            "--run-dir with a shorter path",
        );
    }
    ok(format!("API at {}", socket.display()))
}

#[cfg(test)]
mod tests;

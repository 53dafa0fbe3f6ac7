use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use dataplane_ebpf::abi::Addr;

/// Fewest digits of a container id that mean one.
const ID_MIN: usize = 6;

/// The IPv6 address of a container, from what the kernel tells about its processes: it takes neither Docker nor skepd.
pub(super) fn address(id: &str) -> Option<Addr> {
    if id.len() < ID_MIN || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let id = id.to_ascii_lowercase();
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    processes.filter(|process| is_in(process, &id)).find_map(|process| global_address(&process))
}

/// Whether the process is in a cgroup of that container: Docker names them by the id, cgroupfs as it is, systemd as
/// `docker-<id>.scope`.
fn is_in(process: &Path, id: &str) -> bool {
    let cgroups = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    cgroups.lines().any(|line| {
        let last = line.rsplit('/').next().unwrap_or_default();
        last.trim_start_matches("docker-").starts_with(id)
    })
}

/// The first address of global scope in the process' network namespace (proc(5), `if_inet6`: address, ifindex, prefix
/// length, scope, flags, device).
fn global_address(process: &Path) -> Option<Addr> {
    let text = std::fs::read_to_string(process.join("net/if_inet6")).ok()?;
    text.lines().find_map(global)
}

fn global(line: &str) -> Option<Addr> {
    let mut fields = line.split_whitespace();
    let (address, scope) = (fields.next()?, fields.nth(2)?);
    let address = u128::from_str_radix(address, 16).ok()?;
    (scope == "00").then(|| Addr::from(IpAddr::V6(Ipv6Addr::from_bits(address))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_global_address_is_taken() {
        let line = "fd536b65700000000000000000000005 02 80 00 82     eth0";
        assert_eq!(global(line), Some("fd53:6b65:7000::5".parse::<Ipv6Addr>().unwrap().into()));
        assert_eq!(global("00000000000000000000000000000001 01 80 10 80       lo"), None);
    }

    #[test]
    fn what_is_no_id_is_not_looked_for() {
        assert_eq!(address("api"), None);
        assert_eq!(address("abc12"), None);
    }
}

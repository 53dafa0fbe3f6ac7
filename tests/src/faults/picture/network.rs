//! `ip`, on the host and in each container that owns a network namespace: links, addresses, routes, rules, neighbours.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Names, Picture, array, documents, only, without};
use crate::netns::Namespace;
use crate::node::Node;

/// Each prints one JSON array.
const SCRIPT: &str = "
ip -d -j addr
ip -j -4 route show table all
ip -j -6 route show table all
ip -j -4 rule
ip -j -6 rule
ip -j neigh show nud permanent
";

/// Sysctls that matter, one a line; devices that are not there have none.
const SYSCTLS: &str = "
cd /proc/sys/net
grep -s . ipv4/ip_forward ipv6/conf/all/forwarding \\
    ipv6/conf/eth0/accept_ra ipv6/conf/eth0/accept_dad ipv6/conf/eth0/addr_gen_mode ipv6/conf/eth0/disable_ipv6 \\
    ipv4/conf/skep*/forwarding ipv4/conf/skep*/rp_filter ipv4/conf/skep*/accept_redirects \\
    ipv4/conf/skep*/send_redirects ipv4/conf/skep*/proxy_arp ipv4/conf/skep*/route_localnet \\
    ipv6/conf/skep*/forwarding ipv6/conf/skep*/accept_ra ipv6/conf/skep*/accept_redirects ipv6/conf/skep*/disable_ipv6 \\
    || true
";

pub(super) fn read(node: &Node, picture: &mut Picture, names: &mut Names) -> Result<()> {
    let host = documents(&node.machine().shell(SCRIPT)?)?;
    let links = host.first().context("no links")?;
    let device = |link: &Value| Some((link["ifindex"].as_u64()?, link["ifname"].as_str()?.to_owned()));
    names.devices = array(links).filter_map(device).collect();
    describe("host", &host, picture);
    sysctls("host", &node.machine().shell(SYSCTLS)?, picture);
    for (name, pid) in &names.namespaces {
        let path = format!("/proc/{pid}/ns/net");
        let shown = node.run(&["nsenter", &format!("--net={path}"), "sh", "-ec", SCRIPT])?;
        describe(name, &documents(&shown)?, picture);
        let shown = node.run(&["nsenter", &format!("--net={path}"), "sh", "-ec", SYSCTLS])?;
        sysctls(name, &shown, picture);
        let cookie = Namespace::open(&node.machine().outside(path))?.cookie()?;
        names.cookies.insert(cookie, name.clone());
    }
    Ok(())
}

fn sysctls(place: &str, lines: &str, picture: &mut Picture) {
    for line in lines.lines() {
        picture.add(format!("{place} sysctl {line}"));
    }
}

fn describe(place: &str, documents: &[Value], picture: &mut Picture) {
    let [links, others @ ..] = documents else { return };
    // Docker's bridge is Docker's business: each start of it leaves another MAC and other routes.
    for link in array(links).filter(|link| link["ifname"] != "docker0") {
        let shown = only(
            link,
            &[
                "ifname",
                "ifalias",
                "flags",
                "mtu",
                "operstate",
                "address",
                "master",
                "inet6_addr_gen_mode",
                "gso_max_size",
                "gro_max_size",
                "gso_ipv4_max_size",
                "gro_ipv4_max_size",
            ],
        );
        picture.add(format!("{place} link: {shown}"));
        for address in array(&link["addr_info"]) {
            let shown = only(address, &["local", "prefixlen", "scope", "label"]);
            picture.add(format!("{place} address of {}: {shown}", link["ifname"]));
        }
    }
    for entry in others.iter().flat_map(array).filter(|entry| entry["dev"] != "docker0") {
        let kept = without(entry, &["cache", "expires", "age", "used", "flags"]);
        picture.add(format!("{place}: {kept}"));
    }
}

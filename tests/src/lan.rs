//! The network outside: what a node's uplink is plugged into.

use std::{
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use anyhow::Result;

use crate::{command, machine::Machine, process::Process, wait::wait_for};

/// A LAN with a router behind which the "internet" is, all on one machine.
///
/// Public-looking ranges are used, since documentation ranges are denied as egress; no packet leaves
/// the machine. The router answers on every address below; start servers with [`Machine::spawn`].
///
/// | address | is |
/// |---|---|
/// | 11.0.0.0/24, 2a00:5ce9::/64 | the LAN; `.1` and `::1` the router and DNS resolver, nodes from `.10` |
/// | 11.1.0.1, 2a00:5ce9:1::1 | a public server, `outside.example` in DNS |
/// | 192.168.77.1, 100.64.77.1, fd00:5ce9::1 | private and shared addresses that the router would reach |
/// | 169.254.169.254 | the metadata service of a cloud |
///
/// DNS: `outside.example` (A, AAAA, PTR), `alias.outside.example` (CNAME), `big.outside.example` (a TXT
/// record of 2,000 bytes, too long for UDP); every other name is NXDOMAIN.
#[derive(Debug)]
pub struct Lan {
    machine: Machine,
    resolver: Process,
    next: AtomicU8,
}

impl Lan {
    /// The router's address on the LAN, and the DNS resolver.
    pub const ROUTER4: &str = "11.0.0.1";
    /// The router's IPv6 address on the LAN, and the DNS resolver.
    pub const ROUTER6: &str = "2a00:5ce9::1";
    /// A public server.
    pub const OUTSIDE4: &str = "11.1.0.1";
    /// A public server's IPv6 address.
    pub const OUTSIDE6: &str = "2a00:5ce9:1::1";
    /// The public server's name.
    pub const OUTSIDE: &str = "outside.example";
    /// Addresses behind the router that no container may reach by default.
    pub const DENIED: [&str; 4] = ["192.168.77.1", "100.64.77.1", "169.254.169.254", "fd00:5ce9::1"];

    /// Makes the LAN, its router and its resolver.
    ///
    /// # Errors
    /// No root, no dnsmasq.
    pub fn new() -> Result<Self> {
        let machine = Machine::new("lan")?;
        machine.shell(&format!(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip link add lan0 type bridge
             ip addr add {router4}/24 dev lan0
             ip addr add {router6}/64 dev lan0 nodad
             ip link set lan0 up
             for address in {outside4} {outside6} {denied}; do ip addr add $address dev lo; done",
            router4 = Self::ROUTER4,
            router6 = Self::ROUTER6,
            outside4 = Self::OUTSIDE4,
            outside6 = Self::OUTSIDE6,
            denied = Self::DENIED.join(" "),
        ))?;
        let resolver = start_resolver(&machine)?;
        Ok(Self { machine, resolver, next: AtomicU8::new(10) })
    }

    /// The router, where servers of the "internet" run as well.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The names the resolver was asked for, oldest first: what left a node.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn dns_queries(&self) -> Result<Vec<String>> {
        let log = self.resolver.log()?;
        let names = log.lines().filter(|line| line.contains(" query["));
        Ok(names
            .filter_map(|line| line.split_whitespace().skip_while(|word| !word.starts_with("query[")).nth(1))
            .map(str::to_owned)
            .collect())
    }

    /// Another machine on the LAN, with no Docker and no Skep: a neighbour.
    ///
    /// # Errors
    /// No root.
    pub fn neighbour(&self) -> Result<Machine> {
        let machine = Machine::new("neighbour")?;
        self.plug(&machine)?;
        Ok(machine)
    }

    /// Plugs a machine in by an interface `uplink0` with default routes and DNS; gives its addresses.
    pub(crate) fn plug(&self, machine: &Machine) -> Result<(String, String)> {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        let (address4, address6) = (format!("11.0.0.{host}"), format!("2a00:5ce9::{host:x}"));
        // Both ends are made where they belong: the real computer's netns never sees them.
        command::run(
            Command::new("ip")
                .args(["link", "add", &format!("port{host}")])
                .args(["netns", &self.machine.pid().to_string()])
                .args(["type", "veth", "peer", "name", "uplink0", "netns", &machine.pid().to_string()]),
        )?;
        self.machine.shell(&format!("ip link set port{host} master lan0 up"))?;
        machine.shell(&format!(
            "ip addr add {address4}/24 dev uplink0
             ip addr add {address6}/64 dev uplink0 nodad
             ip link set uplink0 up
             ip route add default via {router4}
             ip -6 route add default via {router6}
             echo nameserver {router4} >/etc/resolv.conf",
            router4 = Self::ROUTER4,
            router6 = Self::ROUTER6,
        ))?;
        Ok((address4, address6))
    }
}

/// Starts dnsmasq and waits until it answers.
fn start_resolver(machine: &Machine) -> Result<Process> {
    let big: Vec<String> = (0..10).map(|_| "0123456789".repeat(20)).collect();
    let (listen4, listen6) =
        (format!("--listen-address={}", Lan::ROUTER4), format!("--listen-address={}", Lan::ROUTER6));
    let host = format!("--host-record={},{},{}", Lan::OUTSIDE, Lan::OUTSIDE4, Lan::OUTSIDE6);
    let (alias, big) = (
        format!("--cname=alias.{0},{0}", Lan::OUTSIDE),
        format!("--txt-record=big.{},{}", Lan::OUTSIDE, big.join(",")),
    );
    let mut resolver = machine.spawn(
        "dnsmasq",
        &[
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            "--address=/#/",
            "--log-queries",
            "--log-facility=-",
            &listen4,
            &listen6,
            &host,
            &alias,
            &big,
        ],
    )?;
    let at = format!("@{}", Lan::ROUTER4);
    wait_for("an answer of dnsmasq", Duration::from_secs(10), || {
        resolver.must_be_running()?;
        Ok(machine.output(&["dig", "+time=1", "+tries=1", &at, Lan::OUTSIDE])?.status.success().then_some(()))
    })?;
    Ok(resolver)
}

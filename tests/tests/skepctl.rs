//! What skepctl says with no skepd anywhere: maps, drops and decisions straight from the pins.

use std::net::IpAddr;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use dataplane::bpf::{self, MapSizes, Maps, Pins, Programs};
use dataplane::config::marks;
use dataplane_ebpf::abi::{
    Addr, Backend, BackendKey, Backends, Device, EgressKey, EgressRule, Endpoint, Identity, ListKey, Listed, NAME_MAX,
    Name, NameKey, Netns, Node, NodeConfig, Pool, Ptr, PtrKey, Service, ServiceKey, action, flags,
};
use serde_json::Value;
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;
use tests::netns::Namespace;

const UPLINK: &str = "uplink0";

/// A service with one replica, for the maps.
struct Entry {
    env: u32,
    service: u32,
    /// `api.production.shop.internal`.
    name: &'static str,
    networks: u64,
    /// Last octet of its VIPs and of its replica's addresses.
    octet: u8,
    egress: bool,
    serves: bool,
}

const API: Entry = Entry {
    env: 1,
    service: 10,
    name: "api.production.shop.internal",
    networks: 0b01,
    octet: 10,
    egress: true,
    serves: true,
};
const POSTGRES: Entry =
    Entry { service: 11, name: "postgres.production.shop.internal", octet: 11, egress: false, ..API };
const WORKER: Entry =
    Entry { service: 12, name: "worker.production.shop.internal", octet: 12, networks: 0b10, serves: false, ..API };
const STAGING: Entry = Entry { env: 2, service: 20, name: "api.staging.shop.internal", octet: 20, ..API };
/// STAGING lists where it may go.
const LIST: u16 = 2;
const ALL: [&Entry; 4] = [&API, &POSTGRES, &WORKER, &STAGING];

impl Entry {
    fn identity(&self) -> Identity {
        Identity { env: self.env, service: self.service }
    }

    fn vips(&self) -> Result<[Addr; 2]> {
        Ok([address(&format!("10.224.0.{}", self.octet))?, address(&format!("fd53:6b65:7001::{:x}", self.octet))?])
    }

    fn addresses(&self) -> Result<[Addr; 2]> {
        Ok([address(&format!("10.208.0.{}", self.octet))?, address(&format!("fd53:6b65:7000::{:x}", self.octet))?])
    }

    /// As `skepd` names it.
    fn device(&self) -> String {
        format!("skep0ad000{:02x}", self.octet)
    }

    /// `shop/production/api.1`.
    fn alias(&self) -> String {
        let labels: Vec<&str> = self.name.split('.').collect();
        format!("{}/{}/{}.1", labels[2], labels[1], labels[0])
    }
}

/// Pins without a daemon, and the devices that they speak of.
struct Stage {
    host: Namespace,
    bpffs: Bpffs,
    _cgroup: Cgroup,
}

impl Stage {
    fn new() -> Result<Self> {
        let bpffs = Bpffs::new()?;
        let cgroup = Cgroup::new(&bpf::find_cgroup2_root()?)?;
        let (_, maps) = Programs::load_or_adopt(&Pins::new(&bpffs.path()), &MapSizes::default(), cgroup.path())?;
        let host = Namespace::new()?;
        host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")?;
        host.run(&format!("ip link add {UPLINK} type veth peer name far"))?;
        host.run(&format!("ip link set {UPLINK} up"))?;
        host.run("ip link set far up")?;
        host.run(&format!("ip addr add 11.0.0.10/24 dev {UPLINK}"))?;
        host.run("ip route add default via 11.0.0.1")?;
        configure(&maps, &host)?;
        ALL.into_iter().try_for_each(|entry| fill(&maps, &host, entry))?;
        Ok(Self { host, bpffs, _cgroup: cgroup })
    }

    fn command(&self, words: &str) -> Result<Command> {
        let program = tests::paths::program("skepctl")?;
        let mut command = self.host.command(program.to_str().context("a path that is no text")?);
        command
            .arg("--bpffs")
            .arg(self.bpffs.path())
            .args(["--run-dir", "/nonexistent"])
            .args(words.split_whitespace());
        Ok(command)
    }

    fn output(&self, words: &str) -> Result<Output> {
        Ok(self.command(words)?.output()?)
    }

    /// What it prints as JSON, whatever its exit status.
    fn json(&self, words: &str) -> Result<Value> {
        let output = self.output(&format!("-o json {words}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).with_context(|| format!("{words}: {complaint}"))
    }

    /// `why`: exit status, and the reason of the socket call or else of the packet.
    fn why(&self, words: &str) -> Result<(i32, Option<String>)> {
        let output = self.output(&format!("-o json why {words}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{words}: {complaint}"))?;
        let reason = [&report["socket"]["reason"], &report["packet"]["reason"]].into_iter().find_map(Value::as_str);
        Ok((output.status.code().context("a signal")?, reason.map(str::to_owned)))
    }
}

fn configure(maps: &Maps, host: &Namespace) -> Result<()> {
    let pool = |text: &str, length| -> Result<Pool> { Ok(Pool::new(text.parse()?, length)) };
    let mut uplinks = [0; 8];
    uplinks[0] = ifindex(host, UPLINK)?;
    maps.set_node(&NodeConfig {
        container_pools: [pool("10.208.0.0", 12)?, pool("fd53:6b65:7000::", 48)?],
        vip_pools: [pool("10.224.0.0", 16)?, pool("fd53:6b65:7001::", 64)?],
        dns: address("10.224.0.53")?,
        uplinks,
        node: 1,
        host_mark: marks::HOST,
        pass_mark: marks::PASS,
        mark_mask: marks::MASK,
        ..NodeConfig::default()
    })?;
    let rule = |text: &str, prefix_len, action| -> Result<_> {
        Ok((EgressKey { prefix_len, addr: address(text)? }, EgressRule { action, rule: 1 }))
    };
    let rules = [rule("::", 0, action::ALLOW)?, rule("192.168.0.0", 96 + 16, action::DENY)?];
    maps.set_egress(&rules)?;
    let listed = Listed { service: STAGING.service, list: LIST.into(), addr: address("1.1.1.0")? };
    let key = ListKey { prefix_len: ListKey::HEAD + 96 + 24, listed };
    Ok(maps.set_egress_lists(&[(key, EgressRule { action: action::ALLOW, rule: 1 })].into())?)
}

fn fill(maps: &Maps, host: &Namespace, entry: &Entry) -> Result<()> {
    let name = entry.device();
    host.run(&format!("ip link add {name} type veth peer name p{name}"))?;
    host.run(&format!("ip link set {name} alias {}", entry.alias()))?;
    host.run(&format!("ip link set {name} up"))?;
    let [address4, address6] = entry.addresses()?;
    host.run(&format!("ip route add {address4}/32 dev {name}"))?;
    let ifindex = ifindex(host, &name)?;
    let list = if entry.service == STAGING.service { flags::of_list(LIST) } else { 0 };
    let flags = if entry.egress { flags::EGRESS | list } else { 0 };
    let (identity, networks) = (entry.identity(), entry.networks);
    let device = Device { networks, identity, address4: address4.v4_word(), address6, flags, ..Device::default() };
    maps.devices.put(&ifindex, device)?;
    let netns = Netns { networks, identity, address4: address4.v4_word(), address6, flags, seal: 0 };
    maps.netns.put(&(1_000 + u64::from(entry.octet)), netns)?;
    for address in [address4, address6] {
        maps.endpoints.put(&address, Endpoint { networks, identity, node: 1, ifindex, ..Endpoint::default() })?;
    }
    serve(maps, entry)
}

/// VIPs, backends and names.
fn serve(maps: &Maps, entry: &Entry) -> Result<()> {
    let [address4, address6] = entry.addresses()?;
    let count = u16::from(entry.serves);
    let set = Backends { generation: 3, count, local: count };
    let backend = Backend { address6, address4: address4.v4_word(), node: 1, seal: 0 };
    maps.backends.put(&BackendKey { service: entry.service, generation: 3, slot: 0 }, backend)?;
    let (wire, len) = wire(entry.name);
    for vip in entry.vips()? {
        let service =
            Service { backends: set.word(), networks: entry.networks, service: entry.service, ..Service::default() };
        maps.services.put(&ServiceKey { env: entry.env, vip }, service)?;
        let ptr = Ptr { networks: entry.networks, name: wire, len, pad: 0, seal: 0 };
        maps.ptrs.put(&PtrKey { env: entry.env, addr: vip }, ptr)?;
    }
    let [vip4, vip6] = entry.vips()?;
    let name = Name { networks: entry.networks, vip4: vip4.v4_word(), vip6, ..Name::default() };
    let short = entry.name.split('.').next().context("no label")?;
    for text in [short, entry.name] {
        maps.names.put(&NameKey { env: entry.env, name: self::wire(text).0 }, name)?;
    }
    Ok(())
}

fn ifindex(host: &Namespace, name: &str) -> Result<u32> {
    let link = host.run(&format!("ip -o link show {name}"))?;
    Ok(link.split(':').next().context("no ifindex")?.trim().parse()?)
}

fn address(text: &str) -> Result<Addr> {
    Ok(text.parse::<IpAddr>()?.into())
}

/// A name in wire format, and its length.
fn wire(text: &str) -> ([u8; NAME_MAX], u32) {
    let mut octets: Vec<u8> =
        text.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    octets.push(0);
    let len = octets.len() as u32;
    octets.resize(NAME_MAX, 0);
    (octets.try_into().unwrap_or([0; NAME_MAX]), len)
}

#[test]
fn maps_are_decoded_with_names_for_ids() -> Result<()> {
    let stage = Stage::new()?;
    let list = stage.json("map list")?;
    ensure!(list.as_array().context("an array")?.len() == 18, "{list}");
    let endpoints = stage.json("map dump endpoints")?;
    let endpoint = endpoints.as_array().context("an array")?.iter().find(|row| row["key"] == "10.208.0.11");
    let endpoint = endpoint.context("no such endpoint")?;
    ensure!(endpoint["service"] == "shop/production/postgres" && endpoint["replica"] == 1, "{endpoint}");
    ensure!(endpoint["sealed"] == true && endpoint["networks"] == serde_json::json!([0]), "{endpoint}");
    let service = stage.json("map get SERVICES shop/staging/10.224.0.20")?;
    ensure!(service["service"] == "api" && service["backends"] == 1 && service["generation"] == 3, "{service}");
    ensure!(service == stage.json("map get SERVICES 2/10.224.0.20")?, "ids will do as well");
    for map in ["DEVICES", "NETNS", "BACKENDS", "NAMES", "PTRS", "EGRESS", "EGRESS_LISTS", "NODE"] {
        let dump = stage.json(&format!("map dump {map}"))?;
        ensure!(!dump.as_array().context("an array")?.is_empty(), "{map}: {dump}");
    }
    for map in ["GRANTS", "FLOWS", "BUDGETS", "COUNTERS", "DROPS"] {
        ensure!(stage.json(&format!("map dump {map}"))? == serde_json::json!([]), "{map}");
    }
    Ok(())
}

#[test]
fn names_and_endpoints_come_from_the_maps_when_skepd_is_dead() -> Result<()> {
    let stage = Stage::new()?;
    let names = stage.json("names -p shop -e production")?;
    ensure!(names.as_array().context("an array")?.len() == 6, "{names}");
    let endpoints = stage.json("endpoints -e staging")?;
    ensure!(endpoints[0]["service"] == "api" && endpoints[0]["replica"] == 1, "{endpoints}");
    ensure!(endpoints[0]["backend"] == true && endpoints[0]["interface"] == STAGING.device(), "{endpoints}");
    let output = stage.output("ps")?;
    ensure!(output.status.code() == Some(3), "skepd cannot be reached: {output:?}");
    let complaint = String::from_utf8(output.stderr)?;
    ensure!(complaint.lines().count() == 1 && complaint.contains("/nonexistent/skepd.sock"), "{complaint}");
    Ok(())
}

#[test]
fn why_agrees_with_the_isolation_that_is_promised() -> Result<()> {
    let stage = Stage::new()?;
    let is = |words: &str, code, reason: Option<&str>| -> Result<()> {
        let found = stage.why(words)?;
        ensure!(found == (code, reason.map(str::to_owned)), "why {words}: {found:?}");
        Ok(())
    };
    // Several are called api: the production one is meant, in its only project.
    is("api postgres:5432 -p shop", 0, None)?;
    is("api postgres:5432 -p shop -6", 0, None)?;
    is("shop/production/api 10.208.0.11:5432", 0, None)?;
    is("shop/production/api postgres", 0, None)?;
    is("postgres.1 10.208.0.10:80/udp", 0, None)?;
    is("postgres 10.208.0.20:80", 4, Some("other-environment"))?;
    is("postgres [fd53:6b65:7000::14]:80", 4, Some("other-environment"))?;
    is("postgres shop/staging/api:80", 4, Some("unknown-vip"))?;
    is("postgres shop/staging/api.1:80", 4, Some("other-environment"))?;
    is("postgres worker.1:80", 4, Some("no-shared-network"))?;
    is("worker.1 10.208.0.99:80", 4, Some("unknown-address"))?;
    is("worker worker:80", 4, Some("no-backend"))?;
    is("postgres 1.1.1.1:443", 4, Some("egress-off"))?;
    is("10.208.0.12 192.168.1.1:443", 4, Some("egress-denied"))?;
    is("10.208.0.12 11.0.0.10:22", 4, Some("no-route"))?;
    is("10.208.0.12 1.1.1.1:443", 0, None)?;
    is("10.208.0.20 1.1.1.1:443", 0, None)?;
    is("10.208.0.20 1.1.2.1:443", 4, Some("not-listed"))?;
    is("10.208.0.12 10.224.0.53:53/udp", 0, None)
}

#[test]
fn why_shows_the_way_to_another_node() -> Result<()> {
    let stage = Stage::new()?;
    let maps = Maps::open(&Pins::new(&stage.bpffs.path()))?;
    let (identity, networks) = (POSTGRES.identity(), POSTGRES.networks);
    let remote = Endpoint { networks, identity, node: 2, ..Endpoint::default() };
    maps.endpoints.put(&address("10.208.1.11")?, remote)?;
    let question = "why shop/production/api 10.208.1.11:5432";
    let down = stage.json(question)?;
    ensure!(down["packet"]["reason"] == "no-tunnel" && down["reaches"] == false, "{down}");
    ensure!(down["packet"]["tunnel"] == serde_json::json!({"node": 2, "interface": null, "mtu": null}), "{down}");

    // Any device will do: it is named, not used.
    maps.nodes.put(&2, Node { ifindex: ifindex(&stage.host, UPLINK)?, mtu: 1_420, seal: 0 })?;
    let up = stage.json(question)?;
    ensure!(up["packet"]["verdict"] == "tunnel" && up["reaches"] == true, "{up}");
    ensure!(up["packet"]["tunnel"] == serde_json::json!({"node": 2, "interface": UPLINK, "mtu": 1_420}), "{up}");
    let words = String::from_utf8(stage.output(question)?.stdout)?;
    ensure!(words.contains(&format!("{UPLINK} to node 2, packets of up to 1420 octets")), "{words}");
    let node = stage.json("map get NODES 2")?;
    ensure!(node["interface"] == UPLINK && node["mtu"] == 1_420 && node["sealed"] == true, "{node}");
    let local = stage.json("why shop/production/api postgres:5432")?;
    ensure!(local["packet"]["tunnel"].is_null(), "{local}");
    Ok(())
}

#[test]
fn mistakes_are_named_in_one_line() -> Result<()> {
    let stage = Stage::new()?;
    for (words, code, part) in [
        ("map dump NOTHING", 1, "skepctl map list"),
        ("map dump SOCKETS", 1, "cannot be listed"),
        ("map get NAMES shop/production/nobody", 1, "map dump NAMES"),
        ("why nobody api:80", 1, "\"nobody\""),
        ("why postgres api:0", 1, "port"),
        ("why postgres nowhere:80", 1, "\"nowhere\""),
        ("why postgres psotgres:80", 1, "did you mean postgres?"),
        ("why api Postgress.internal:80 -p shop", 1, "did you mean postgres?"),
        ("why posgres api:80", 1, "did you mean postgres?"),
        ("drops -p a.b", 1, "a.b"),
        ("up -f /nonexistent/compose.yaml", 1, "/nonexistent/compose.yaml"),
        ("down", 1, "-p"),
    ] {
        let output = stage.output(words)?;
        let complaint = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(code), "{words}: {:?} {complaint}", output.status);
        ensure!(complaint.lines().count() == 1 && complaint.contains(part), "{words}: {complaint}");
    }
    let nothing =
        Command::new(tests::paths::program("skepctl")?).args(["--bpffs", "/nonexistent", "drops"]).output()?;
    ensure!(String::from_utf8(nothing.stderr)?.contains("/nonexistent"), "the pin is named");
    Ok(())
}

#[test]
fn a_reader_that_has_enough_is_no_failure() -> Result<()> {
    let stage = Stage::new()?;
    let mut child = stage.command("drops --all")?.stdout(std::process::Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    ensure!(child.wait()?.success(), "a closed pipe is no failure");
    Ok(())
}

//! What skepd makes of links, addresses and routes, read back with iproute2.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane::netlink::{Change, Netlink, Netns, ObservedVeth, VethSpec};
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use tests::netns::Namespace;

const POOL: &str = "10.208.0.0/12";

/// A host and a container's namespace as Docker leaves it: no network, IPv6 off.
struct Pair {
    host: Namespace,
    container: Namespace,
    spec: VethSpec,
}

impl Pair {
    fn new() -> Result<Self> {
        let pair = Self { host: Namespace::new()?, container: Namespace::new()?, spec: spec(5) };
        pair.host.run("ip link set lo up")?;
        pair.host.run("ip addr add 192.0.2.1/32 dev lo")?;
        pair.host.run("ip addr add 2001:db8::1/128 dev lo nodad")?;
        pair.container.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")?;
        Ok(pair)
    }

    /// Runs what skepd does, in skepd's namespace.
    fn skepd<T: Send>(&self, work: impl AsyncFnOnce(Netlink, Netns) -> Result<T> + Send) -> Result<T> {
        self.host.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { work(Netlink::connect()?, Netns::open(&self.container.path())?).await })
        })
    }

    fn make(&self) -> Result<u32> {
        self.skepd(async |netlink, netns| make(&netlink, &netns, &self.spec).await)
    }

    fn observe(&self) -> Result<Vec<ObservedVeth>> {
        self.skepd(async |netlink, _| Ok(netlink.veths(POOL.parse()?).await?))
    }
}

fn spec(host: u8) -> VethSpec {
    let address6 = Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, host.into());
    VethSpec::new(Ipv4Addr::new(10, 208, 0, host), address6, "shop/production/postgres.1", 1400)
}

async fn make(netlink: &Netlink, netns: &Netns, spec: &VethSpec) -> Result<u32> {
    let ifindex = netlink.create_veth(spec, netns).await?;
    netlink.ensure_host_side(spec).await?;
    Netlink::plumb_container(netns, spec).await?;
    netlink.until_ready(netns, spec).await?;
    Ok(ifindex)
}

fn json(namespace: &Namespace, line: &str) -> Result<Value> {
    Ok(serde_json::from_str(&namespace.run(line)?)?)
}

#[test]
fn a_container_needs_neither_arp_nor_duplicate_detection() -> Result<()> {
    let pair = Pair::new()?;
    pair.make()?;

    let eth0 = &json(&pair.container, "ip -j addr show dev eth0")?[0];
    assert_eq!(eth0["address"], "02:53:0a:d0:00:05");
    assert_eq!(eth0["mtu"], 1400);
    let addresses = eth0["addr_info"].as_array().context("addr_info")?;
    assert_eq!(addresses.len(), 2, "no link-local address: {addresses:?}");
    assert_eq!((&addresses[0]["local"], &addresses[0]["prefixlen"]), (&"10.208.0.5".into(), &32.into()));
    assert_eq!(addresses[0]["broadcast"], Value::Null);
    assert_eq!((&addresses[1]["local"], &addresses[1]["prefixlen"]), (&"fd53:6b65:7000::5".into(), &128.into()));
    assert_eq!(addresses[1]["nodad"], true);
    assert_eq!(addresses[1]["tentative"], Value::Null);

    let neighbours = pair.container.run("ip neigh show nud permanent dev eth0")?;
    assert!(neighbours.contains("169.254.1.1 lladdr 06:53:0a:d0:00:05"), "{neighbours}");
    assert!(neighbours.contains("fe80::1 lladdr 06:53:0a:d0:00:05"), "{neighbours}");
    let way4 = pair.container.run("ip route get 8.8.8.8")?;
    assert!(way4.starts_with("8.8.8.8 via 169.254.1.1 dev eth0 src 10.208.0.5"), "{way4}");
    let way6 = pair.container.run("ip route get 2a00::1")?;
    assert!(way6.contains("via fe80::1 dev eth0") && way6.contains("src fd53:6b65:7000::5"), "{way6}");
    assert!(pair.container.run("ip -br addr show dev lo")?.contains("::1/128"));

    for (key, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("addr_gen_mode", "1")] {
        assert_eq!(pair.container.run(&format!("sysctl -n net.ipv6.conf.eth0.{key}"))?.trim(), value, "{key}");
    }
    Ok(())
}

#[test]
fn the_host_end_has_its_routes_and_carries_both_families() -> Result<()> {
    let pair = Pair::new()?;
    let ifindex = pair.make()?;

    let link = &json(&pair.host, "ip -j link show dev skep0ad00005")?[0];
    assert_eq!(link["ifindex"], ifindex);
    assert_eq!(link["address"], "06:53:0a:d0:00:05");
    assert_eq!(link["ifalias"], "shop/production/postgres.1");
    assert_eq!(link["operstate"], "UP");
    assert!(pair.host.run("ip route show proto 83")?.contains("10.208.0.5 dev skep0ad00005 scope link"));
    assert!(pair.host.run("ip -6 route show proto 83")?.contains("fd53:6b65:7000::5 dev skep0ad00005"));
    assert!(!pair.host.run("ip addr show dev skep0ad00005")?.contains("inet"), "the host end has no address");
    for (key, value) in [
        ("ipv4.conf.skep0ad00005.rp_filter", "1"),
        ("ipv4.conf.skep0ad00005.forwarding", "1"),
        ("ipv6.conf.skep0ad00005.forwarding", "1"),
    ] {
        assert_eq!(pair.host.run(&format!("sysctl -n net.{key}"))?.trim(), value, "{key}");
    }

    pair.host.run("busybox ping -c 1 -W 2 10.208.0.5")?;
    pair.host.run("busybox ping -c 1 -W 2 fd53:6b65:7000::5")?;

    let observed = pair.observe()?;
    assert_eq!(observed.len(), 1);
    assert!(observed[0].is_as(&pair.spec), "{observed:?}");
    assert!(observed[0].carrier);
    Ok(())
}

#[test]
fn what_is_there_as_wanted_is_left_alone() -> Result<()> {
    let pair = Pair::new()?;
    let first = pair.make()?;
    let seen = pair.skepd(async |netlink, netns| {
        let changes = Netlink::changes()?;
        let again = make(&netlink, &netns, &pair.spec).await?;
        ensure!(again == first, "the pair was made again");
        // A change that does happen ends the list of those that should not have.
        pair.host.run("ip addr add 192.0.2.7/32 dev lo")?;
        let quiet = changes.take_while(|change| std::future::ready(*change != Change::Address));
        Ok(quiet.collect::<Vec<_>>().await)
    })?;
    assert!(seen.is_empty(), "{seen:?}");
    Ok(())
}

#[test]
fn what_others_broke_is_seen_and_mended() -> Result<()> {
    let pair = Pair::new()?;
    pair.make()?;
    for damage in [
        "ip route del 10.208.0.5",
        "ip -6 route del fd53:6b65:7000::5",
        "ip neigh del 10.208.0.5 dev skep0ad00005",
        "ip neigh replace fd53:6b65:7000::5 lladdr 02:00:00:00:00:01 nud permanent dev skep0ad00005",
        "ip link set skep0ad00005 mtu 1300",
        "ip link set skep0ad00005 alias other",
        "ip link set skep0ad00005 address 02:00:00:00:00:02",
        "ip link set skep0ad00005 down",
    ] {
        pair.host.run(damage)?;
        assert!(!pair.observe()?[0].is_as(&pair.spec), "not seen: {damage}");
        pair.make()?;
        assert!(pair.observe()?[0].is_as(&pair.spec), "not mended: {damage}");
    }
    for damage in
        ["ip addr flush dev eth0", "ip route flush proto 83", "ip neigh flush nud permanent", "ip link set eth0 down"]
    {
        pair.container.run(damage)?;
        pair.make()?;
        pair.host.run("busybox ping -c 1 -W 2 10.208.0.5").context(damage)?;
        pair.host.run("busybox ping -c 1 -W 2 fd53:6b65:7000::5").context(damage)?;
    }
    Ok(())
}

#[test]
fn a_pair_into_another_namespace_is_replaced() -> Result<()> {
    let mut pair = Pair::new()?;
    let first = pair.make()?;
    pair.container = Namespace::new()?;
    let second = pair.make()?;
    assert_ne!(first, second);
    pair.host.run("busybox ping -c 1 -W 2 10.208.0.5")?;
    Ok(())
}

#[test]
fn a_pair_is_ready_when_both_ends_send_whichever_was_first() -> Result<()> {
    for host_first in [true, false] {
        let pair = Pair::new()?;
        pair.skepd(async |netlink, netns| {
            netlink.create_veth(&pair.spec, &netns).await?;
            if host_first {
                netlink.ensure_host_side(&pair.spec).await?;
                Netlink::plumb_container(&netns, &pair.spec).await?;
            } else {
                Netlink::plumb_container(&netns, &pair.spec).await?;
                netlink.ensure_host_side(&pair.spec).await?;
            }
            Ok(netlink.until_ready(&netns, &pair.spec).await?)
        })?;
        for (namespace, name) in [(&pair.host, "skep0ad00005"), (&pair.container, "eth0")] {
            let link = &json(namespace, &format!("ip -j link show dev {name}"))?[0];
            assert_eq!((&link["operstate"], &link["qdisc"]), (&"UP".into(), &"noqueue".into()), "{name}");
        }
    }
    Ok(())
}

#[test]
fn only_the_pools_own_veths_are_observed_and_removed() -> Result<()> {
    let pair = Pair::new()?;
    pair.make()?;
    pair.host.run("ip link add skep0b000001 type veth peer name other")?;
    pair.host.run("ip link add skepnothex type veth peer name other2")?;
    assert_eq!(pair.observe()?.len(), 1);
    pair.skepd(async |netlink, _| {
        netlink.delete_link("skep0ad00005").await?;
        Ok(netlink.delete_link("skep0ad00005").await?)
    })?;
    assert!(pair.observe()?.is_empty());
    Ok(())
}

#[test]
fn nothing_for_a_pool_leaves_by_the_default_route() -> Result<()> {
    let pair = Pair::new()?;
    pair.host.run("ip link add up0 type veth peer name far")?;
    pair.host.run("ip link set up0 up")?;
    pair.host.run("ip addr add 11.0.0.2/24 dev up0")?;
    pair.host.run("ip route add default via 11.0.0.1")?;
    let pools = || -> Result<Vec<ipnet::IpNet>> { Ok(vec![POOL.parse()?, "fd53:6b65:7000::/48".parse()?]) };
    pair.skepd(async |netlink, _| {
        netlink.ensure_unreachable(&pools()?).await?;
        Ok(netlink.ensure_unreachable(&pools()?).await?)
    })?;
    pair.make()?;
    assert!(pair.host.run("ip route get 10.208.0.5")?.contains("dev skep0ad00005"));
    let refused = pair.host.run("ip route get 10.208.0.6").err().context("10.208.0.6 has a route")?;
    assert!(refused.to_string().contains("No route to host"), "{refused}");
    assert!(pair.host.run("ip -6 route get fd53:6b65:7000::6").is_err());

    pair.skepd(async |netlink, _| {
        netlink.remove_unreachable(&pools()?).await?;
        Ok(netlink.remove_unreachable(&pools()?).await?)
    })?;
    assert!(pair.host.run("ip route get 10.208.0.6")?.contains("via 11.0.0.1"));
    Ok(())
}

#[test]
fn the_dns_address_is_local_and_never_a_source() -> Result<()> {
    let pair = Pair::new()?;
    let dns = Ipv4Addr::new(10, 224, 0, 53);
    pair.skepd(async |netlink, _| {
        netlink.ensure_loopback_address(dns).await?;
        Ok(netlink.ensure_loopback_address(dns).await?)
    })?;
    let shown = pair.host.run("ip -4 addr show dev lo")?;
    assert!(shown.contains("inet 10.224.0.53/32 scope host lo"), "{shown}");
    pair.skepd(async |netlink, _| {
        netlink.remove_loopback_address(dns).await?;
        Ok(netlink.remove_loopback_address(dns).await?)
    })?;
    assert!(!pair.host.run("ip -4 addr show dev lo")?.contains("10.224.0.53"));
    Ok(())
}

#[test]
fn uplinks_are_the_devices_of_default_routes_and_keep_their_advertisements() -> Result<()> {
    let pair = Pair::new()?;
    for name in ["up0", "up1"] {
        pair.host.run(&format!("ip link add {name} mtu 1420 type veth peer name far-{name}"))?;
        pair.host.run(&format!("ip link set far-{name} up"))?;
        pair.host.run(&format!("ip link set {name} up"))?;
    }
    pair.host.run("ip addr add 11.0.0.2/24 dev up0")?;
    pair.host.run("ip route add default via 11.0.0.1 dev up0")?;
    pair.host.run("ip route add default via 11.0.0.9 dev up0 table 100")?;
    pair.host.run("ip -6 route add default via fe80::9 dev up1 proto ra")?;
    let (uplinks, changed) = pair.skepd(async |netlink, _| {
        let uplinks = netlink.uplinks().await?;
        let changed = netlink.ensure_forwarding(&uplinks)?;
        ensure!(netlink.ensure_forwarding(&uplinks)?.is_empty(), "the second time changes nothing");
        Ok((uplinks, changed))
    })?;
    let seen: Vec<_> =
        uplinks.iter().map(|u| (u.name.as_str(), u.mtu, u.ipv4, u.ipv6, u.router_advertisement)).collect();
    assert_eq!(seen, [("up0", 1420, true, false, false), ("up1", 1420, false, true, true)]);
    assert_eq!(pair.host.run("sysctl -n net.ipv6.conf.up1.accept_ra")?.trim(), "2");
    assert_eq!(pair.host.run("sysctl -n net.ipv6.conf.up0.accept_ra")?.trim(), "1");
    assert_eq!(pair.host.run("sysctl -n net.ipv4.ip_forward")?.trim(), "1");
    assert_eq!(pair.host.run("sysctl -n net.ipv6.conf.all.forwarding")?.trim(), "1");

    pair.skepd(async |netlink, _| Ok(netlink.restore_forwarding(&changed)?))?;
    assert_eq!(pair.host.run("sysctl -n net.ipv6.conf.up1.accept_ra")?.trim(), "1");
    assert_eq!(pair.host.run("sysctl -n net.ipv6.conf.all.forwarding")?.trim(), "0");
    Ok(())
}

#[test]
fn foreign_prefixes_are_those_of_others() -> Result<()> {
    let pair = Pair::new()?;
    pair.make()?;
    pair.host.run("ip link add up0 type veth peer name far")?;
    pair.host.run("ip link set up0 up")?;
    pair.host.run("ip addr add 10.209.1.2/24 dev up0")?;
    let prefixes = pair.skepd(async |netlink, _| Ok(netlink.foreign_prefixes().await?))?;
    let shown: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"10.209.1.0/24".to_owned()), "{shown:?}");
    assert!(!shown.contains(&"10.208.0.5/32".to_owned()), "{shown:?}");
    Ok(())
}

#[test]
fn a_cookie_is_the_one_that_sockets_inside_have() -> Result<()> {
    let pair = Pair::new()?;
    let cookie = pair.skepd(async |_, netns| Ok(netns.cookie().await?))?;
    let script = "import socket,sys;print(int.from_bytes(socket.socket().getsockopt(1,71,8),sys.byteorder))";
    let output = pair.container.command("python3").args(["-c", script]).output()?;
    assert_eq!(String::from_utf8(output.stdout)?.trim(), cookie.to_string());
    Ok(())
}

#[test]
fn changes_of_links_and_default_routes_are_told() -> Result<()> {
    let pair = Pair::new()?;
    pair.make()?;
    pair.skepd(async |netlink, _| {
        let mut changes = Netlink::changes()?;
        pair.container.run("ip link set eth0 down")?;
        expect(&mut changes, |c| matches!(c, Change::Link { name, carrier: false, .. } if name == "skep0ad00005"))
            .await?;
        pair.host.run("ip route del 10.208.0.5")?;
        expect(&mut changes, |c| *c == Change::RouteGone).await?;
        pair.host.run("ip route add default dev skep0ad00005")?;
        expect(&mut changes, |c| *c == Change::DefaultRoute).await?;
        pair.host.run("ip addr add 192.0.2.7/32 dev lo")?;
        expect(&mut changes, |c| *c == Change::Address).await?;
        netlink.delete_link("skep0ad00005").await?;
        expect(&mut changes, |c| matches!(c, Change::LinkGone { name, .. } if name == "skep0ad00005")).await
    })
}

async fn expect(changes: &mut (impl Stream<Item = Change> + Unpin), wanted: impl Fn(&Change) -> bool) -> Result<()> {
    let found = async {
        while let Some(change) = changes.next().await {
            if wanted(&change) {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended")
    };
    tokio::time::timeout(Duration::from_secs(5), found).await.context("the change was not told")?
}

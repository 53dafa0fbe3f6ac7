//! The firewall around the programs, by packets and by what `nft` and `iptables-save` say. No program
//! is attached here: a rule in a table of the test's own marks what a program would let through.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane::egress::{self, EgressRules};
use dataplane::netlink::{Netlink, Netns, VethSpec};
use nix::sys::socket::{setsockopt, sockopt};
use tests::netns::Namespace;

const DNS: Ipv4Addr = Ipv4Addr::new(10, 224, 0, 53);
const HOST_MARK: u32 = 0x0600_0000;
const NEIGHBOUR: &str = "11.0.0.1";
const NEIGHBOUR6: &str = "2a00:5ce9::1";

/// A container, its host, and a neighbour of the host that knows no way to the container's pool.
struct World {
    host: Namespace,
    container: Namespace,
    neighbour: Namespace,
}

impl World {
    fn new() -> Result<Self> {
        let world = Self { host: Namespace::new()?, container: Namespace::new()?, neighbour: Namespace::new()? };
        let World { host, neighbour, .. } = &world;
        host.run("ip link set lo up")?;
        host.run(&format!("ip link add up0 type veth peer name eth0 netns {}", neighbour.path().display()))?;
        for (namespace, name, host, other) in [(host, "up0", 2, 1), (neighbour, "eth0", 1, 2)] {
            namespace.run(&format!("ip link set {name} address 02:00:00:00:00:0{host}"))?;
            namespace.run(&format!("ip addr add 11.0.0.{host}/24 dev {name}"))?;
            namespace.run(&format!("ip addr add 2a00:5ce9::{host}/64 dev {name} nodad"))?;
            namespace.run(&format!("ip link set {name} up"))?;
            // What is asked for in the first second, a neighbour's address, may be asked for again only after it.
            for address in [format!("11.0.0.{other}"), format!("2a00:5ce9::{other}")] {
                namespace.run(&format!("ip neigh add {address} lladdr 02:00:00:00:00:0{other} dev {name}"))?;
            }
        }
        // The first end of a pair to be set up discards packets until a kernel worker has run; asking for the link waits for it.
        host.run("ip link show up0")?;
        host.run("ip route add default via 11.0.0.1")?;
        host.run("ip -6 route add default via 2a00:5ce9::1")?;
        world.skepd(async || {
            let netlink = Netlink::connect()?;
            let netns = Netns::open(&world.container.path())?;
            let address6 = Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, 5);
            let spec = VethSpec::new(Ipv4Addr::new(10, 208, 0, 5), address6, "test", 1500);
            netlink.create_veth(&spec, &netns).await?;
            netlink.ensure_host_side(&spec).await?;
            Netlink::plumb_container(&netns, &spec).await?;
            netlink.until_ready(&netns, &spec).await?;
            netlink.ensure_loopback_address(DNS).await?;
            netlink.ensure_forwarding(&netlink.uplinks().await?)?;
            Ok(())
        })?;
        world.let_through()?;
        Ok(world)
    }

    /// Does what `from_container` does to a packet that may use the stack.
    fn let_through(&self) -> Result<()> {
        self.host.run("nft add table inet program")?;
        self.host.run("nft add chain inet program in { type filter hook prerouting priority raw ; }")?;
        self.host.run("nft add rule inet program in iifname skep* meta mark set 0x05000000")?;
        Ok(())
    }

    fn way_back(&self) -> Result<()> {
        self.neighbour.run("ip route add 10.208.0.0/12 via 11.0.0.2")?;
        self.neighbour.run("ip -6 route add fd53:6b65:7000::/48 via 2a00:5ce9::2")?;
        Ok(())
    }

    fn skepd<T: Send>(&self, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
        self.host.enter(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work()))
    }

    fn ensure(&self, rules: &EgressRules) -> Result<bool> {
        self.skepd(async || Ok(egress::ensure(rules).await?))
    }

    fn remove(&self, node: &str) -> Result<()> {
        self.skepd(async || Ok(egress::remove(node).await?))
    }

    fn container_reaches(&self, address: &str) -> bool {
        self.container.run(&format!("busybox ping -c 1 -W 1 {address}")).is_ok()
    }

    fn saved(&self) -> Result<String> {
        let programs = ["nft list ruleset", "iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save"];
        programs.iter().map(|program| self.host.run(program)).collect()
    }
}

fn rules(node: &str) -> Result<EgressRules> {
    Ok(EgressRules {
        node: node.to_owned(),
        container_pool4: "10.208.0.0/12".parse()?,
        container_pool6: "fd53:6b65:7000::/48".parse()?,
        dns: DNS,
        uplinks: vec!["up0".to_owned()],
        pass_mark: 0x0500_0000,
        host_mark: HOST_MARK,
        mark_mask: 0x0f00_0000,
    })
}

#[test]
fn what_the_program_let_through_leaves_masqueraded() -> Result<()> {
    let world = World::new()?;
    for address in [NEIGHBOUR, NEIGHBOUR6] {
        assert!(!world.container_reaches(address), "{address} knows a way back without masquerading");
    }
    world.ensure(&rules("n1")?)?;
    for address in [NEIGHBOUR, NEIGHBOUR6] {
        assert!(world.container_reaches(address), "{address}");
    }
    Ok(())
}

#[test]
fn what_no_program_let_through_is_not_forwarded() -> Result<()> {
    let world = World::new()?;
    world.way_back()?;
    world.host.run("nft delete table inet program")?;
    assert!(world.container_reaches(NEIGHBOUR) && world.container_reaches(NEIGHBOUR6), "the control");
    assert!(world.container_reaches("11.0.0.2"), "the control: the host itself");
    world.ensure(&rules("n1")?)?;
    for address in [NEIGHBOUR, NEIGHBOUR6, "11.0.0.2", "2a00:5ce9::2"] {
        assert!(!world.container_reaches(address), "{address}");
    }
    let counted = world.host.run("nft list chain inet skep_n1 forward")?;
    let line = counted.lines().find(|line| line.contains("not let through")).context("no such rule")?;
    assert!(!line.contains("packets 0 "), "the drop is not counted: {line}");
    Ok(())
}

#[test]
fn nothing_leaves_but_by_an_uplink() -> Result<()> {
    let world = World::new()?;
    world.way_back()?;
    world.ensure(&rules("n1")?)?;
    assert!(world.container_reaches(NEIGHBOUR), "the control");
    for uplinks in [vec![], vec!["up7".to_owned()]] {
        world.ensure(&EgressRules { uplinks, ..rules("n1")? })?;
        assert!(!world.container_reaches(NEIGHBOUR));
        assert!(!world.container_reaches(NEIGHBOUR6));
    }
    Ok(())
}

#[test]
fn only_replies_come_back() -> Result<()> {
    let world = World::new()?;
    world.way_back()?;
    for address in ["10.208.0.5", "fd53:6b65:7000::5"] {
        let ping = format!("busybox ping -c 1 -W 1 {address}");
        world.neighbour.run(&ping).context("the control")?;
        world.ensure(&rules("n1")?)?;
        assert!(world.neighbour.run(&ping).is_err(), "{address} is reached from outside");
        assert!(world.host.run(&ping).is_err(), "{address} is reached by a process of the host");
        world.host.run(&format!("ping -m {HOST_MARK} -c 1 -W 1 {address}")).context("skepd itself")?;
        world.remove("n1")?;
    }
    Ok(())
}

#[test]
fn dockers_drop_policy_is_answered_where_docker_asks_for_it() -> Result<()> {
    for (v4, v6) in [("iptables-nft", "ip6tables-nft"), ("iptables-legacy", "ip6tables-legacy")] {
        let world = World::new()?;
        for program in [v4, v6] {
            for line in ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP"] {
                world.host.run(&format!("{program} {line}"))?;
            }
        }
        assert!(world.ensure(&rules("n1")?)?);
        assert!(world.container_reaches(NEIGHBOUR), "{v4}");
        assert!(world.container_reaches(NEIGHBOUR6), "{v6}");
        assert!(!world.ensure(&rules("n1")?)?, "{v4}: the second time changes something");
        let saved = world.host.run(&format!("{v4}-save"))?;
        assert_eq!(saved.matches("-A DOCKER-USER").count(), 3, "{saved}");
        assert_eq!(saved.matches("-A FORWARD").count(), 1, "{saved}");

        let other = EgressRules { container_pool4: "10.96.0.0/12".parse()?, ..rules("n1")? };
        assert!(world.ensure(&other)?);
        let saved = world.host.run(&format!("{v4}-save"))?;
        assert!(saved.contains("10.96.0.0/12") && !saved.contains("10.208.0.0/12"), "{saved}");

        world.remove("n1")?;
        let saved = world.saved()?;
        assert!(!saved.contains("skep_") && !saved.contains("skep:"), "{saved}");
        assert!(world.host.run(&format!("{v4} -S DOCKER-USER"))?.contains("-j RETURN"), "another's rule went too");
    }
    Ok(())
}

#[test]
fn a_drop_policy_without_docker_is_answered_too() -> Result<()> {
    let world = World::new()?;
    world.ensure(&rules("n1")?)?;
    let saved = world.host.run("iptables-nft-save")?;
    assert!(!saved.contains("skep"), "nothing was in the way: {saved}");
    world.host.run("iptables-nft -P FORWARD DROP")?;
    assert!(!world.container_reaches(NEIGHBOUR), "the control");
    assert!(world.ensure(&rules("n1")?)?);
    assert!(world.container_reaches(NEIGHBOUR));
    // Docker comes later: its chain is served, and the other rules do no harm and go at the end.
    world.host.run("iptables-nft -N DOCKER-USER")?;
    assert!(world.ensure(&rules("n1")?)?);
    world.remove("n1")?;
    assert!(!world.saved()?.contains("skep:"));
    Ok(())
}

#[test]
fn questions_get_through_a_chain_of_somebody_elses_and_no_rule_stays_when_it_goes() -> Result<()> {
    for program in ["iptables-nft", "iptables-legacy"] {
        let world = World::new()?;
        let server = world.host.enter(|| Ok(UdpSocket::bind((DNS, 53))?))?;
        server.set_read_timeout(Some(Duration::from_millis(300)))?;
        let asked = || -> Result<bool> {
            world.container.enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(b"?", (DNS, 53))?))?;
            Ok(server.recv_from(&mut [0; 8]).is_ok())
        };
        ensure!(asked()?, "the control");
        world.host.run(&format!("{program} -P INPUT DROP"))?;
        ensure!(!asked()?, "{program}: the control");
        ensure!(world.ensure(&rules("n1")?)? && asked()?, "{program}: refused");
        ensure!(!world.ensure(&rules("n1")?)?, "{program}: the second time changes something");
        world.host.run(&format!("{program} -P INPUT ACCEPT"))?;
        ensure!(world.ensure(&rules("n1")?)? && asked()?, "{program}: refused");
        ensure!(!world.saved()?.contains("skep:"), "{program}: a rule stays");
        world.host.run(&format!("{program} -A INPUT -j REJECT"))?;
        ensure!(world.ensure(&rules("n1")?)? && asked()?, "{program}: refused by a rule");
        world.remove("n1")?;
        ensure!(!world.saved()?.contains("skep:"), "{program}: a rule stays at the end");
    }
    Ok(())
}

#[test]
fn rules_as_wanted_are_left_alone_and_others_mended() -> Result<()> {
    let world = World::new()?;
    assert!(world.ensure(&rules("n1")?)?);
    world.container_reaches(NEIGHBOUR);
    assert!(!world.ensure(&rules("n1")?)?, "the second time changes something");
    for damage in ["nft flush chain inet skep_n1 forward", "nft delete table inet skep_n1", "nft flush ruleset"] {
        world.host.run(damage)?;
        assert!(world.ensure(&rules("n1")?)?, "not seen: {damage}");
        assert!(!world.ensure(&rules("n1")?)?, "not mended: {damage}");
    }
    world.remove("n1")?;
    world.remove("n1").context("a second removal")?;
    assert!(!world.saved()?.contains("skep_"));
    Ok(())
}

#[test]
fn daemons_side_by_side_keep_their_own_rules() -> Result<()> {
    let world = World::new()?;
    world.host.run("iptables-nft -N DOCKER-USER")?;
    let other = EgressRules { container_pool4: "10.96.0.0/12".parse()?, ..rules("n10")? };
    world.ensure(&rules("n1")?)?;
    world.ensure(&other)?;
    assert!(!world.ensure(&rules("n1")?)?, "one undid the other");
    assert!(world.container_reaches(NEIGHBOUR), "one is in the other's way");
    world.remove("n1")?;
    let saved = world.saved()?;
    assert!(saved.contains("skep_n10") && saved.contains("skep:n10"), "{saved}");
    assert!(!saved.contains("skep:n1\"") && !saved.contains("table inet skep_n1 "), "{saved}");
    Ok(())
}

/// Whether a datagram from `namespace`, its socket marked so, is answered by the DNS address.
fn answered(namespace: &Namespace, mark: u32) -> Result<bool> {
    namespace.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        setsockopt(&socket, sockopt::Mark, &mark)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        match socket.send_to(b"?", (DNS, 53)).and_then(|_| socket.recv(&mut [0; 8])) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
}

#[test]
fn the_dns_address_is_for_replicas_alone() -> Result<()> {
    let world = World::new()?;
    world.neighbour.run("ip route add 10.224.0.53 via 11.0.0.2")?;
    let server = world.host.enter(|| {
        let server = UdpSocket::bind((DNS, 53))?;
        // Its answer to a local process goes to the DNS address itself, which is what asked.
        setsockopt(&server, sockopt::Mark, &HOST_MARK)?;
        Ok(server)
    })?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut datagram = [0; 8];
            while let Ok((_, peer)) = server.recv_from(&mut datagram) {
                if datagram[0] == b'.' {
                    return;
                }
                drop(server.send_to(b"!", peer));
            }
        });
        let asked = ask_from_everywhere(&world);
        // Ends the server, whatever came out.
        server.send_to(b".", (DNS, 53))?;
        asked
    })
}

fn ask_from_everywhere(world: &World) -> Result<()> {
    ensure!(answered(&world.neighbour, 0)?, "the control: a neighbour");
    ensure!(answered(&world.host, 0)?, "the control: a local process");
    world.ensure(&rules("n1")?)?;
    ensure!(answered(&world.container, 0)?, "a container");
    ensure!(answered(&world.host, HOST_MARK)?, "skepd itself");
    ensure!(!answered(&world.neighbour, 0)?, "a neighbour");
    ensure!(!answered(&world.neighbour, HOST_MARK)?, "a neighbour's mark stays with it");
    ensure!(!answered(&world.host, 0)?, "a local process");
    Ok(())
}

//! Somebody changes by hand what skepd made: devices, addresses, routes, pins, programs, rules, containers.
//!
//! Each is put right within five seconds, and costs nothing where the deed itself does not cut the way.

mod maps;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane::netlink::veth_name;
use tests::Container;
use tests::faults::{Cost, Fault, Scene};

use Cost::{Interruption, Nothing};

/// From the deed to the last trace of it.
const WITHIN: Duration = Duration::from_secs(5);

/// Writes down what others have in the firewall.
pub(crate) const KEEP_OTHERS: &str = "
chains() { nft list chains | awk '/^table/ { t = $2 \" \" $3 } $1 == \"chain\" { print t, $2 }' | sort; }
chains > DIRECTORY/chains
for ip in ip ip6; do ${ip}tables-save | grep -v skep: > DIRECTORY/$ip.rules; done";
/// Takes everything out of the firewall, and puts what was written down back.
pub(crate) const PUT_OTHERS_BACK: &str = "
chains() { nft list chains | awk '/^table/ { t = $2 \" \" $3 } $1 == \"chain\" { print t, $2 }' | sort; }
nft flush ruleset
for ip in ip ip6; do ${ip}tables-restore < DIRECTORY/$ip.rules; rm DIRECTORY/$ip.rules; done
# It makes all chains of a table, with and without rules.
chains | comm -13 DIRECTORY/chains - | while read -r chain; do nft delete chain $chain; done
rm DIRECTORY/chains";

/// Takes programs off whatever they are attached to: a link, or, where there are none to devices, a device's filter.
const DETACH: &str = "
detach() {
    for pin; do
        if bpftool link show pinned $pin >/dev/null 2>&1; then
            bpftool link detach pinned $pin
            continue
        fi
        case $pin in */from_container-*) way=ingress ;; *) way=egress ;; esac
        tc filter del dev $(ip -o link | sed -n \"s/^${pin##*-}: \\([^@:]*\\).*/\\1/p\") $way pref 1
    done
}
";

const fn fault(name: &'static str, cost: Cost, inject: fn(&Scene) -> Result<()>) -> Fault {
    Fault { name, inject, within: WITHIN, cost, visitor: None }
}

/// The faults of this part: many deeds at once, or, with `SKEP_LONG`, each by itself.
pub(crate) fn faults() -> Vec<Fault> {
    match std::env::var_os("SKEP_LONG") {
        None => [FAULTS, maps::FAULTS].concat(),
        Some(_) => [FAULTS, EACH, maps::FAULTS, maps::EACH].concat(),
    }
}

const FAULTS: &[Fault] = &[
    fault("veth: host end deleted", Interruption, |scene| on_host(scene, "ip link del VETH")),
    fault("veth: container's end renamed", Interruption, |scene| {
        // One process for both: skepd would set it up again in between, and then some kernels keep the name.
        inside(scene, "printf 'link set eth0 down\\nlink set eth0 name lan7\\n' | ip -batch -")
    }),
    fault("container: addresses, routes and MACs removed", Interruption, |scene| {
        inside(scene, "ip neigh flush dev eth0 nud permanent; ip route flush proto 83; ip addr flush dev eth0")
    }),
    // Of neither the kernel tells anybody.
    fault("container: segment size and sysctls altered", Nothing, |scene| {
        inside(scene, "ip link set eth0 gso_max_size 20000; sysctl -qw net.ipv6.conf.eth0.accept_ra=1")
    }),
    fault("host: all that leads to a container altered", Nothing, |scene| {
        on_host(
            scene,
            "ip -4 route del ADDRESS4; ip -6 route del ADDRESS6; ip neigh flush dev VETH nud permanent
             ip link set VETH mtu 1400 alias other gso_max_size 20000
             sysctl -qw net.ipv4.conf.VETH.rp_filter=0 net.ipv4.conf.VETH.forwarding=0",
        )
    }),
    fault("every pin removed, and the directories", Nothing, |scene| on_host(scene, "rm -r PINS")),
    fault("a packet and a socket program detached", Interruption, |scene| {
        on_host(scene, "detach PINS/links/from_container-INDEX PINS/links/connect4")
    }),
    fault("firewall: table deleted, DOCKER-USER emptied", Nothing, |scene| {
        on_host(
            scene,
            "nft delete table inet TABLE
             iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN
             ip6tables -S FORWARD | grep skep: | sed s/^-A/-D/ | while read -r rule; do eval ip6tables $rule; done",
        )
    }),
    fault("firewall: nft flush ruleset, and others' restored", Nothing, |scene| {
        on_host(scene, KEEP_OTHERS)?;
        on_host(scene, PUT_OTHERS_BACK)
    }),
    fault("host: unreachable routes, DNS address", Nothing, |scene| {
        on_host(
            scene,
            "for ip in -4 -6; do
                 ip $ip route show proto 83 type unreachable | while read -r kind pool rest; do
                     ip $ip route del \"$kind\" \"$pool\" proto 83
                 done
             done
             ip addr del 10.224.0.53/32 dev lo",
        )
    }),
    fault("host: forwarding turned off", Nothing, |scene| {
        // What it was is kept for `uninstall`: a file more.
        on_host(
            scene,
            "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
             timeout 5 sh -c 'until grep -q 1 /proc/sys/net/ipv4/ip_forward && test -s DIRECTORY/skep-state/sysctls.json
             do sleep 0.1; done'
             rm DIRECTORY/skep-state/sysctls.json",
        )
    }),
    fault("docker rm -f of a workload", Interruption, |scene| {
        let web = web(scene)?;
        let container = web.replica().container.as_deref().context("its container")?;
        scene.node.docker(&["rm", "-f", container]).map(drop)
    }),
    fault("docker rm -f of a sandbox", Interruption, |scene| {
        let web = web(scene)?;
        let sandbox = web.replica().sandbox.as_deref().context("its sandbox")?;
        scene.node.docker(&["rm", "-f", sandbox]).map(drop)
    }),
];

/// What [`FAULTS`] does at once.
const EACH: &[Fault] = &[
    fault("veth: container's end down", Interruption, |scene| inside(scene, "ip link set eth0 down")),
    fault("container: addresses removed", Interruption, |scene| inside(scene, "ip addr flush dev eth0")),
    fault("container: default routes removed", Interruption, |scene| {
        inside(scene, "ip -4 route del default; ip -6 route del default")
    }),
    fault("container: gateways' MACs forgotten", Interruption, |scene| {
        inside(scene, "ip neigh flush dev eth0 nud permanent")
    }),
    fault("host: routes to a container removed", Nothing, |scene| {
        on_host(scene, "ip -4 route del ADDRESS4; ip -6 route del ADDRESS6")
    }),
    fault("host: neighbours removed", Nothing, |scene| on_host(scene, "ip neigh flush dev VETH nud permanent")),
    fault("host end: alias and MTU altered", Nothing, |scene| on_host(scene, "ip link set VETH mtu 1400 alias other")),
    fault("host end: segment size cut", Nothing, |scene| on_host(scene, "ip link set VETH gso_max_size 20000")),
    fault("host end: sysctls altered", Nothing, |scene| {
        on_host(scene, "sysctl -qw net.ipv4.conf.VETH.rp_filter=0 net.ipv4.conf.VETH.forwarding=0")
    }),
    fault("pins of all maps removed", Nothing, |scene| on_host(scene, "rm PINS/[A-Z]*")),
    fault("pins of all programs removed", Nothing, |scene| on_host(scene, "rm PINS/programs/*/*")),
    fault("pins of all links removed", Nothing, |scene| on_host(scene, "rm PINS/links/*")),
    fault("a packet program detached", Interruption, |scene| on_host(scene, "detach PINS/links/from_container-INDEX")),
    fault("a packet program of the way back detached", Nothing, |scene| {
        on_host(scene, "detach PINS/links/to_container-INDEX")
    }),
    fault("a socket program detached", Interruption, |scene| on_host(scene, "detach PINS/links/connect4")),
    fault("firewall: table deleted", Nothing, |scene| on_host(scene, "nft delete table inet TABLE")),
    fault("firewall: a rule added in front", Nothing, |scene| {
        on_host(scene, "nft insert rule inet TABLE forward accept")
    }),
    fault("firewall: a chain emptied", Nothing, |scene| on_host(scene, "nft flush chain inet TABLE postrouting")),
    fault("firewall: DOCKER-USER emptied", Nothing, |scene| {
        on_host(scene, "iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN")
    }),
    fault("host: DNS address removed from lo", Nothing, |scene| on_host(scene, "ip addr del 10.224.0.53/32 dev lo")),
];

/// The replica that things are done to: one of two that serve.
pub(crate) fn web(scene: &Scene) -> Result<Container<'_>> {
    scene.replica("shop", "production", "web", 1)
}

/// Runs a script in the network namespace of [`web`].
fn inside(scene: &Scene, script: &str) -> Result<()> {
    let output = web(scene)?.netns()?.command("sh").args(["-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Runs a script on the node. `VETH`, `INDEX`, `ADDRESS4` and `ADDRESS6` are those of [`web`], `PINS` the directory of
/// the pins, `TABLE` the daemon's own, `DIRECTORY` a place for files; [`DETACH`] is there.
pub(crate) fn on_host(scene: &Scene, script: &str) -> Result<()> {
    let web = web(scene)?;
    let veth = veth_name(web.address()?.parse()?);
    let machine = scene.node.machine();
    let index = machine.run(&["cat", &format!("/sys/class/net/{veth}/ifindex")])?;
    let pins = machine.shell("ls -d /sys/fs/bpf/skep/v*")?;
    let script = script
        .replace("VETH", &veth)
        .replace("INDEX", index.trim())
        .replace("ADDRESS4", web.address()?)
        .replace("ADDRESS6", web.address6()?)
        .replace("PINS", pins.trim())
        .replace("TABLE", &format!("skep_{}", machine.name().replace('-', "_")))
        .replace("DIRECTORY", &machine.directory().display().to_string());
    machine.shell(&format!("{DETACH}{script}")).map(drop)
}

//! Where a service says that it may go (`x-skep.egress`), it goes, and nowhere else: whatever it tries, whichever version of
//! it runs, with skepd and without.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{Maps, Pins, drops};
use serde_json::json;
use tests::images::Image;
use tests::load::Place;
use tests::netns::Namespace;
use tests::probe::{Outcome, Responder, by_all};
use tests::{Lan, Node, wait_for};

/// For what takes seconds; an upper bound for a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);
const PROJECT: [&str; 4] = ["-p", "shop", "-e", "production"];
/// A private network behind the router, which the node opens to those who list it.
const PRIVATE: &str = "192.168.77.0/24";
/// An address in it.
const INSIDE: &str = "192.168.77.1";
/// A private address that the node opens to nobody.
const CLOSED: &str = "100.64.77.1";

/// Services that list nothing, nowhere, and `list`.
fn compose(list: &[&str]) -> String {
    let service = |image: Image, further| {
        json!({ "image": image.tag(), "command": ["sleep", "inf"],
        "stop_grace_period": "0s", "x-skep": further })
    };
    let services = json!({
        "open": service(Image::Busybox, json!({})),
        "shut": service(Image::Busybox, json!({ "egress": [] })),
        "choosy": service(Image::Tools, json!({ "egress": list })),
    });
    json!({ "services": services }).to_string()
}

fn inside(node: &Node, service: &str) -> Result<Namespace> {
    node.replica("shop", "production", service, 1)?.netns()
}

/// Who reaches what: by TCP, UDP and ICMP.
fn reach(node: &Node, netns: &Namespace, reached: &[&str], not: &[&str]) -> Result<()> {
    let dropped = || -> Result<u64> {
        let maps = Maps::open_read_only(&Pins::new(&node.bpffs()))?;
        Ok(drops(&maps)?.iter().map(|line| line.packets).sum())
    };
    for (to, wanted) in reached.iter().map(|to| (to, true)).chain(not.iter().map(|to| (to, false))) {
        let to: IpAddr = to.parse()?;
        for (protocol, outcome) in by_all(netns, to, dropped)? {
            let answered = matches!(outcome, Outcome::Answered(_));
            ensure!(answered == wanted, "→ {to}, {protocol:?}: {outcome}");
        }
    }
    Ok(())
}

fn start() -> Result<(Node, Responder)> {
    let node = Node::builder().skepd_arguments(&["--listed-egress", PRIVATE]).start()?;
    node.load(&[Image::Busybox, Image::Tools])?;
    node.machine().shell("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")?;
    let router = Namespace::open(&node.lan().machine().netns()?.path())?;
    let responder = Responder::start(Place::inside(router), "outside".to_owned())?;
    Ok((node, responder))
}

#[test]
fn a_service_goes_where_it_lists_and_nowhere_else() -> Result<()> {
    let (node, _responder) = start()?;
    node.up("shop", "production", &compose(&[Lan::OUTSIDE4, PRIVATE, CLOSED]))?;
    let all = [Lan::OUTSIDE4, Lan::OUTSIDE6, Lan::ROUTER4, Lan::ROUTER6];
    let (open, shut, choosy) = (inside(&node, "open")?, inside(&node, "shut")?, inside(&node, "choosy")?);
    let check = || -> Result<()> {
        reach(&node, &open, &all, &[INSIDE, CLOSED]).context("open")?;
        reach(&node, &shut, &[], &[&all[..], &[INSIDE, CLOSED]].concat()).context("shut")?;
        let others = [Lan::OUTSIDE6, Lan::ROUTER4, Lan::ROUTER6, CLOSED];
        reach(&node, &choosy, &[Lan::OUTSIDE4, INSIDE], &others).context("choosy")
    };
    check()?;
    let why = |to: &str| -> Result<String> {
        let output = node.skepctl_output(&[&PROJECT[..], &["why", "choosy", to]].concat())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let said = why("11.0.0.1:443")?;
    ensure!(said.contains("not-listed") && said.contains("add the address to x-skep.egress"), "{said}");
    let said = why(&format!("{INSIDE}:443"))?;
    ensure!(said.contains("and x-skep.egress, line") && said.contains("It gets there."), "{said}");
    ensure!(why(&format!("{CLOSED}:443"))?.contains("--listed-egress"), "what the node does not open");
    let drops = node.skepctl(&["drops"])?;
    ensure!(drops.contains("not-listed"), "{drops}");
    // A command in a container of its own is the service's as well.
    let run = |to: &str| -> Result<String> {
        let connect = format!("import socket; socket.create_connection(('{to}', 9), 5)");
        let output = node.skepctl_output(&[&PROJECT[..], &["run", "choosy", "python3", "-c", &connect]].concat())?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (refused, denied) = (run(Lan::OUTSIDE4)?, run(Lan::ROUTER4)?);
    ensure!(refused.contains("ConnectionRefusedError") && denied.contains("PermissionError"), "{refused}\n{denied}");
    node.kill_skepd()?;
    check().context("without skepd")
}

#[test]
fn each_version_goes_by_its_own_list() -> Result<()> {
    let (node, _responder) = start()?;
    node.up("shop", "production", &compose(&[Lan::OUTSIDE4]))?;
    reach(&node, &inside(&node, "choosy")?, &[Lan::OUTSIDE4], &[Lan::OUTSIDE6, Lan::ROUTER4])?;
    node.up("shop", "production", &compose(&[Lan::OUTSIDE6, "11.0.0.0/24"]))?;
    reach(&node, &inside(&node, "choosy")?, &[Lan::OUTSIDE6, Lan::ROUTER4], &[Lan::OUTSIDE4])?;
    node.skepctl(&[&PROJECT[..], &["rollback", "choosy"]].concat())?;
    reach(&node, &inside(&node, "choosy")?, &[Lan::OUTSIDE4], &[Lan::OUTSIDE6, Lan::ROUTER4])?;
    // Of the versions before nothing is left.
    wait_for("the old lists to go", PATIENCE, || {
        let lists = node.skepctl_json(&["map", "dump", "EGRESS_LISTS", "-o", "json"])?;
        let keys: Vec<_> = lists.as_array().into_iter().flatten().map(|row| row["key"].to_string()).collect();
        let whole = keys.len() == 1 && keys[0].contains(Lan::OUTSIDE4) && keys[0].contains("shop/production/choosy");
        if whole { Ok(Some(())) } else { Err(anyhow::anyhow!("{keys:?}")) }
    })?;
    node.restart_skepd()?;
    reach(&node, &inside(&node, "choosy")?, &[Lan::OUTSIDE4], &[Lan::OUTSIDE6, Lan::ROUTER4])
}

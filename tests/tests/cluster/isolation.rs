//! Who reaches whom, on one node and across nodes: the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::load::Place;
use tests::netns::Namespace;
use tests::probe::{Outcome, Protocol, Responder, probe};

use super::scene;

/// `a` and `b` share no network, `c` is in both of theirs.
const COMPOSE: &str = "
services:
  a: {image: 'busybox:latest', command: [sleep, inf], networks: [front], deploy: {replicas: 2}}
  b: {image: 'busybox:latest', command: [sleep, inf], networks: [back], deploy: {replicas: 2}}
  c: {image: 'busybox:latest', command: [sleep, inf], networks: [front, back], deploy: {replicas: 2}}
networks: {front: , back: }
";

const ENVIRONMENTS: [(&str, &str); 4] =
    [("shop", "production"), ("shop", "staging"), ("blog", "production"), ("blog", "staging")];

/// A replica with what the test asks it and of it.
struct One {
    environment: (String, String),
    service: String,
    node: String,
    name: String,
    addresses: [IpAddr; 2],
    vips: [IpAddr; 2],
    netns: Namespace,
    place: Place,
}

#[test]
fn who_may_reach_whom_does_not_depend_on_the_node() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let first = &cluster.nodes()[0];
    for (project, environment) in ENVIRONMENTS {
        first.up(project, environment, COMPOSE)?;
    }
    let mut all = Vec::new();
    for replica in first.replicas()? {
        let node = scene::node_of(&cluster, &replica.node)?;
        let container = node.replica(&replica.project, &replica.environment, &replica.service, replica.replica)?;
        all.push(One {
            environment: (replica.project.clone(), replica.environment.clone()),
            service: replica.service.clone(),
            node: replica.node.clone(),
            name: format!("{}/{}/{}.{}", replica.project, replica.environment, replica.service, replica.replica),
            addresses: [container.address()?.parse()?, container.address6()?.parse()?],
            vips: [container.vip()?.parse()?, container.vip6()?.parse()?],
            netns: container.netns()?,
            place: Place::inside(container.netns()?),
        });
    }
    ensure!(all.len() == 24, "{} replicas", all.len());
    let _responders: Vec<Responder> =
        all.iter().map(|one| Ok(Responder::start(one.place.clone(), one.name.clone())?)).collect::<Result<_>>()?;

    let asked: Vec<Vec<Outcome>> = thread::scope(|scope| {
        let asking: Vec<_> = all.iter().map(|from| scope.spawn(|| ask(from, &all))).collect();
        asking.into_iter().map(|asking| asking.join().expect("no panic")).collect::<Result<_>>()
    })?;
    let (mut wrong, mut counted) = (Vec::new(), BTreeMap::new());
    for (from, outcomes) in all.iter().zip(asked) {
        for ((to, protocol, address), outcome) in questions(&all).into_iter().zip(outcomes) {
            let near = if from.node == to.node { "one node" } else { "two nodes" };
            let allowed = may(from, to);
            *counted.entry((near, allowed)).or_insert(0) += 1;
            let by_vip = to.vips.contains(&address);
            let as_it_should_be = match (&outcome, allowed) {
                // An echo request to a VIP is answered by the VIP, not by a replica.
                (Outcome::Answered(None), true) => protocol == Protocol::Icmp,
                // A VIP leads to any replica of the service.
                (Outcome::Answered(Some(by)), true) if by_vip => {
                    by.rsplit_once('.').map(|(service, _)| service)
                        == to.name.rsplit_once('.').map(|(service, _)| service)
                }
                (Outcome::Answered(Some(by)), true) => *by == to.name,
                (Outcome::Answered(_), false) => false,
                (_, allowed) => !allowed,
            };
            if !as_it_should_be {
                wrong.push(format!("{} → {} ({address}, {protocol:?}, {near}): {outcome}", from.name, to.name));
            }
        }
    }
    println!("{counted:?}");
    ensure!(counted.len() == 4, "each kind of pair: {counted:?}");
    ensure!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn ask(from: &One, all: &[One]) -> Result<Vec<Outcome>> {
    let asked: Vec<(Protocol, IpAddr)> = questions(all).into_iter().map(|(_, protocol, to)| (protocol, to)).collect();
    let outcomes = from.netns.enter(|| Ok(probe(&asked, |_| false)?));
    outcomes.with_context(|| format!("asking from {}", from.name))
}

/// Everybody, by every protocol, address and VIP.
fn questions(all: &[One]) -> Vec<(&One, Protocol, IpAddr)> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
    let to = |one| One::all_addresses(one).into_iter().map(move |address| (one, address));
    let each = all.iter().flat_map(to);
    each.flat_map(|(one, address)| protocols.map(|protocol| (one, protocol, address))).collect()
}

fn may(from: &One, to: &One) -> bool {
    let shares = from.service == to.service || [&from.service, &to.service].into_iter().any(|service| service == "c");
    from.environment == to.environment && shares
}

impl One {
    fn all_addresses(&self) -> [IpAddr; 4] {
        let [address4, address6] = self.addresses;
        let [vip4, vip6] = self.vips;
        [address4, address6, vip4, vip6]
    }
}

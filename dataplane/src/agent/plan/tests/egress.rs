//! The way out: who has one, and where to.

use std::collections::BTreeSet;
use std::sync::Arc;

use dataplane_ebpf::abi::{ListKey, Listed, flags};

use super::*;
use crate::model::spec::Affinity;

#[test]
fn flows_of_the_old_policy_end_when_the_way_out_is_taken() {
    let mut desired = shop(&[("api", 1, &[])]);
    let observed = settled(&desired);
    let replica = desired.replicas.values_mut().next().unwrap();
    Arc::make_mut(replica).egress = false;
    let lines = lines(&plan(&desired, &observed));
    assert_eq!(lines[0], format!("configure node 1: uplinks [2], epoch {}", observed.tables.node.epoch + 1));
    assert!(lines[1].starts_with("register shop/production/api.1.1") && lines[1].ends_with("without egress"));
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

fn lists(desired: &mut Desired, prefixes: &[&str]) {
    let list: BTreeSet<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    for replica in desired.replicas.values_mut() {
        Arc::make_mut(replica).spec.egress = Some(list.clone());
    }
}

#[test]
fn what_a_service_lists_is_there_before_its_replicas_and_goes_with_them() {
    let mut desired = shop(&[("api", 2, &[])]);
    lists(&mut desired, &["11.2.0.0/16", "2a00::1/128"]);
    let mut observed = Observed { mtu: 1500, uplinks: [2].into(), ..Observed::default() };
    let done = lines(&simulate(&desired, &mut observed));
    let set = "set where services say that they may go: [11.2.0.0/16 in list 2 of service 1, 2a00::1/128 in list 2 of service 1]";
    assert!(position(&done, set) < position(&done, "register shop/production/api.1.1"), "{done:#?}");
    let listed = |addr: std::net::IpAddr| Listed { service: 1, list: 2, addr: addr.into() };
    let keys: Vec<_> = observed.tables.lists.keys().copied().collect();
    assert_eq!(
        keys,
        [
            ListKey { prefix_len: 64 + 96 + 16, listed: listed([11, 2, 0, 0].into()) },
            ListKey { prefix_len: 64 + 128, listed: listed("2a00::1".parse().unwrap()) },
        ]
    );
    assert!(observed.tables.devices.values().all(|device| flags::list(device.flags) == 2));
    assert_eq!(plan(&desired, &observed), []);

    desired.replicas.clear();
    let ended = lines(&simulate(&desired, &mut observed));
    assert!(ended.contains(&"set where services say that they may go: []".to_owned()), "{ended:#?}");
    assert!(observed.tables.lists.is_empty());
}

#[test]
fn each_version_goes_where_it_says_itself() {
    let mut desired = shop(&[("api", 1, &[])]);
    lists(&mut desired, &["11.2.0.0/16"]);
    let old = desired.replicas.values().next().unwrap();
    let mut new = ReplicaAssignment::clone(old);
    new.key.deployment = 2;
    new.address4 = [10, 208, 0, 99].into();
    new.spec.egress = Some(["11.3.0.0/16".parse().unwrap()].into());
    desired.replicas.insert(new.key.clone(), Arc::new(new));
    let mut one_off = ReplicaAssignment::clone(desired.replicas.values().next().unwrap());
    one_off.key = one_off.key.service.one_off(7);
    one_off.address4 = [10, 208, 0, 98].into();
    desired.replicas.insert(one_off.key.clone(), Arc::new(one_off));
    let observed = settled(&desired);
    let lists: Vec<_> =
        observed.tables.lists.keys().map(|key| (key.listed.list, key.listed.addr.to_string())).collect();
    assert_eq!(
        lists,
        [(2, "11.2.0.0"), (3, "11.3.0.0"), (0x8007, "11.2.0.0")].map(|(list, addr)| (list, addr.to_owned()))
    );
}

#[test]
fn affinity_is_switched_with_the_backends() {
    let mut desired = shop(&[("api", 2, &[])]);
    let observed = settled(&desired);
    let service = desired.services.values_mut().next().unwrap();
    Arc::make_mut(service).spec.affinity = Affinity::Client;
    let [Op::SwitchBackends { set, .. }] = &plan(&desired, &observed)[..] else { panic!("one switch") };
    assert!(set.affinity);
}

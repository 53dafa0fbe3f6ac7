//! Any order of wishes, agents, waiting and crashes, judged from the outside.

use proptest::prelude::*;

use super::*;
use crate::model::rollout::{FailureAction, Order};

#[derive(Debug, Clone)]
enum Act {
    Want(u8, Vec<(u8, u8, u32, u8)>),
    Drop(u8),
    Agents,
    /// Agents that find the replicas of such deployments ill.
    Ill(u32, u8),
    /// Somebody asks for a container for a command, or needs it no more.
    Command(u8, u8, u32, bool),
    Wait(u64),
    Settle,
    Crash(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..2_u8, prop::collection::vec((0..5_u8, 0..2_u8, 0..4_u32, 1..8_u8), 0..5)).prop_map(|(e, s)| Act::Want(e, s)),
        1 => (0..2_u8).prop_map(Act::Drop),
        3 => Just(Act::Agents),
        2 => (1..400_u64).prop_map(Act::Wait),
        1 => (0..4_u32, 0..3_u8).prop_map(|(deployment, how)| Act::Ill(deployment, how)),
        2 => (0..2_u8, 0..5_u8, 1..4_u32, any::<bool>()).prop_map(|(e, s, n, wanted)| Act::Command(e, s, n, wanted)),
        4 => Just(Act::Settle),
        2 => (0..3_usize).prop_map(Act::Crash),
    ]
}

/// What must never happen, judged from the outside after each act.
#[derive(Default)]
struct Witness {
    ids: BTreeMap<u32, ServiceKey>,
    current_ids: BTreeMap<ServiceKey, u32>,
    /// Address → its last holder, and when it last had it.
    held: BTreeMap<Ipv4Addr, (String, u64)>,
    bits: BTreeMap<(u32, u8), (String, u64)>,
    deployments: BTreeMap<u32, u32>,
}

impl Witness {
    fn check(&mut self, world: &World) {
        let services: Vec<_> = world.state.services.values().map(|s| &s.value).collect();
        for service in &services {
            let known = self.ids.entry(service.id).or_insert_with(|| service.key.clone());
            assert_eq!(*known, service.key, "an id has one owner for ever");
            if !self.current_ids.contains_key(&service.key) {
                assert!(!self.current_ids.values().any(|id| *id == service.id));
            }
            let last = self.deployments.insert(service.id, service.deployment).unwrap_or(0);
            assert!(service.deployment >= last, "deployments only rise");
            assert!(![0, 7].contains(&service.vip4.octets()[3]), "{}", service.vip4);
            self.hold(service.vip4, format!("{}#{}", service.key, service.id), world.now);
        }
        for (key, id) in &self.current_ids {
            if !services.iter().any(|s| s.key == *key && s.id == *id) {
                assert!(!services.iter().any(|s| s.id == *id), "a released id is never handed out again");
            }
        }
        self.current_ids = services.iter().map(|s| (s.key.clone(), s.id)).collect();
        let vips: BTreeSet<Ipv4Addr> = services.iter().map(|s| s.vip4).collect();
        assert_eq!(vips.len(), services.len(), "no VIP twice");
        self.addresses(world);
        self.networks(world);
        services.iter().for_each(|service| Self::versions(service, world));
    }

    /// Never three versions of a service, and nobody who serves is told to end.
    fn versions(service: &ServiceAssignment, world: &World) {
        let replicas: Vec<_> = world.state.replicas_of_service(&service.key).map(|r| &r.value).collect();
        let of_versions = replicas.iter().filter(|r| !r.key.is_one_off());
        let stay: BTreeSet<u32> = of_versions.filter(|r| !r.ending).map(|r| r.key.deployment).collect();
        assert!(stay.len() <= 2, "{stay:?}");
        let stop_first = replicas.iter().any(|r| r.spec.order() == Order::StopFirst);
        for replica in replicas.iter().filter(|r| r.ending && !stop_first) {
            let spec = &service.spec;
            let surplus = replica.key.deployment == service.deployment && replica.key.replica > spec.replicas;
            assert!(surplus || !service.is_served_by(&replica.key), "{} serves and ends: {service:#?}", replica.key);
        }
    }

    fn addresses(&mut self, world: &World) {
        let replicas: Vec<_> = world.state.replicas.values().map(|r| &r.value).collect();
        let addresses: BTreeSet<Ipv4Addr> = replicas.iter().map(|r| r.address4).collect();
        assert_eq!(addresses.len(), replicas.len(), "no address twice");
        let assigned = replicas.iter().map(|r| (r.address4, &r.key));
        let on_machines = world.machines.iter().map(|((key, _), address)| (*address, key));
        for (address, key) in assigned.chain(on_machines) {
            assert!(![0, 255].contains(&address.octets()[3]));
            self.hold(address, key.to_string(), world.now);
        }
    }

    fn hold(&mut self, address: Ipv4Addr, holder: String, now: u64) {
        let (last, until) = self.held.entry(address).or_insert_with(|| (holder.clone(), now));
        assert!(
            *last == holder || now - *until >= REST_SECONDS,
            "{address} went from {last} to {holder} at {now}, {until}"
        );
        (*last, *until) = (holder, now);
    }

    fn networks(&mut self, world: &World) {
        for environment in world.state.environments.values().map(|e| &e.value) {
            for (name, bit) in &environment.networks {
                let entry = self.bits.entry((environment.id, *bit));
                let (last, until) = entry.or_insert_with(|| (name.clone(), world.now));
                assert!(last == name || world.now - *until >= REST_SECONDS, "bit {bit} went from {last} to {name}");
                (*last, *until) = (name.clone(), world.now);
            }
            let bits: BTreeSet<u8> = environment.networks.values().copied().collect();
            assert_eq!(bits.len(), environment.networks.len(), "no bit twice");
        }
    }
}

fn spec_of(key: &EnvironmentKey, services: &[(u8, u8, u32, u8)]) -> EnvironmentSpec {
    let names = ["n0", "n1", "n2"];
    let networks = |mask: u8| (0..3).filter(|bit| mask & (1 << bit) != 0).map(|bit| names[bit]).collect::<Vec<_>>();
    let services: Vec<(String, ServiceSpec)> = services
        .iter()
        .map(|(name, image, replicas, mask)| {
            let mut spec = service(&format!("i{image}"), *replicas, &networks(*mask));
            // Each name has a way of its own.
            spec.update.parallelism = u32::from(*name) % 3;
            spec.rollback.parallelism = u32::from(*name) % 2;
            spec.update.order = if name % 2 == 1 { Order::StopFirst } else { Order::StartFirst };
            spec.update.failure_action =
                [FailureAction::Rollback, FailureAction::Pause, FailureAction::Continue][usize::from(*name) % 3];
            (format!("s{name}"), spec)
        })
        .collect();
    spec(key, &services.iter().map(|(name, spec)| (name.as_str(), spec.clone())).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_given_twice_or_too_early(acts in prop::collection::vec(act(), 1..60)) {
        let mut world = World::new(tight_pools());
        let mut witness = Witness::default();
        let name = |e: u8| environment(if e == 0 { "production" } else { "staging" });
        for act in acts {
            match act {
                Act::Want(e, services) => world.want(&name(e), Some(spec_of(&name(e), &services))),
                Act::Drop(e) => world.want(&name(e), None),
                Act::Agents => world.agents(),
                Act::Ill(deployment, how) => {
                    let state = [ReplicaState::Failed, ReplicaState::Unhealthy, ReplicaState::Starting][usize::from(how)];
                    world.agents_but(|key| (key.deployment % 4 == deployment).then_some(state));
                }
                Act::Command(e, service, number, wanted) => {
                    let service = name(e).service(&format!("s{service}"));
                    if wanted { world.ask(&service, number, "n1") } else { world.answered(&service.one_off(number)) }
                }
                Act::Wait(seconds) => world.now += seconds,
                Act::Settle => {
                    world.settle(usize::MAX);
                    for key in world.state.keys() {
                        prop_assert_eq!(world.step(&key), None, "the second run changes nothing");
                    }
                }
                Act::Crash(steps) => world.settle(steps),
            }
            witness.check(&world);
        }
        for key in world.state.one_offs.keys().cloned().collect::<Vec<_>>() {
            world.answered(&key);
        }
        // It ends where it would have without crashes: as wanted, or with the reason.
        world.now += REST_SECONDS;
        world.come_to_rest();
        for (key, intent) in &world.state.intents {
            let replicas: u32 = intent.value.services.values().map(|s| s.replicas).sum();
            let all = world.state.replicas_of(key).count() == replicas as usize;
            let deployments = || world.state.deployments.values().map(|d| &d.value);
            let mut here = deployments().filter(|d| d.key.service.environment == *key);
            let failed = here.clone().any(|d| d.state == DeploymentState::Failed);
            prop_assert!(all || failed || world.state.conditions.contains_key(key));
            prop_assert!(here.all(|d| !d.is_open()) || world.state.conditions.contains_key(key));
        }
    }
}

//! The same decision twice: by the programs over the maps, by the pure functions over plain collections that say the
//! same. Every packet that goes through here has to come out alike.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use dataplane::bpf::{self, Pins, TestRun};
use dataplane_ebpf::abi::{Budget, DropKey, Flow, FlowKey, Grant, GrantKey, Identity, Reason, map};
use dataplane_ebpf::decide::{self, Decision, Frame, Verdict, Workspace};
use dataplane_ebpf::dns::{self, Outcome, Scratch};
use dataplane_ebpf::packet::Packet;
use dataplane_ebpf::tables::{Host, Route, fake::Fake};
use tests::bpffs::Bpffs;

use crate::world::{ASIDE, REPLICAS, TUNNEL_MTU, UPLINK, World, entries, node};

/// `TC_ACT_OK`, `TC_ACT_SHOT`, `TC_ACT_REDIRECT`.
const OK: u32 = 0;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;

/// Octets of the Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// Which program sees a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    From,
    To,
    /// Through the tunnel: behind an Ethernet header, which the program has to put there by itself.
    Through,
}

/// What became of a packet, in words that a test can compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Drop(Reason),
    Deliver(u32),
    Tunnel,
    TooBig,
    Stack,
    Pass,
    Answer(u32),
    Echo,
}

/// Both sides.
pub(crate) struct Mirror {
    pub(crate) world: World,
    pins: Pins,
    _bpffs: Bpffs,
    pub(crate) pure: Fake,
    /// What the programs have to have counted.
    dropped: BTreeMap<DropKey, u64>,
    scratch: Box<Scratch>,
}

/// [`Fake`], with the routes of the [`World`].
struct Routed<'a>(&'a Fake);

impl Host for Routed<'_> {
    fn now(&self) -> u64 {
        self.0.now()
    }

    /// Two prefixes of each family. In each, one address is the host's own, the last one of IPv4 everybody's, the first
    /// one of IPv6 any router's.
    fn route(&self, packet: &Packet) -> Route {
        let octets = packet.destination.octets();
        let host = u128::from_be_bytes(octets) as u64;
        let device = match octets {
            _ if packet.destination.is_v4() => match (&octets[12..15], octets[15]) {
                ([11, 0, 0], 0 | 2..=254) => Some(UPLINK),
                ([12, 0, 0], 0 | 2..=254) => Some(ASIDE),
                _ => None,
            },
            _ if host < 2 => None,
            _ => match octets[..8] {
                [0x2a, 0, 0x5c, 0xe9, 0, 0, 0, 0] => Some(UPLINK),
                [0x2a, 0, 0x5c, 0xea, 0, 0, 0, 0] => Some(ASIDE),
                _ => None,
            },
        };
        device.map_or(Route::No, |ifindex| Route::Forward { ifindex })
    }

    fn admit(&self, ifindex: u32) -> bool {
        self.0.admit(ifindex)
    }

    fn remember(&self, key: &FlowKey, flow: &Flow) {
        self.0.remember(key, flow);
    }

    fn touch(&self, key: &FlowKey, now: u64) {
        self.0.touch(key, now);
    }
}

impl Mirror {
    /// A world and its image, with budgets that no test uses up.
    pub(crate) fn new() -> Result<Self> {
        let bpffs = Bpffs::new()?;
        let pins = Pins::new(&bpffs.path());
        let world = World::new(&pins)?;
        let entries = entries();
        let pure = Fake {
            node: Some(node()),
            devices: entries.devices.into_iter().collect(),
            endpoints: entries.endpoints.into_iter().collect(),
            nodes: entries.nodes.into_iter().collect(),
            services: entries.services.into_iter().collect(),
            names: entries.names.into_iter().collect(),
            ptrs: entries.ptrs.into_iter().collect(),
            egress: entries.egress,
            lists: entries.lists.into_iter().collect(),
            ..Fake::default()
        };
        let mut mirror = Self { world, pins, _bpffs: bpffs, pure, dropped: BTreeMap::new(), scratch: Box::default() };
        for replica in REPLICAS {
            mirror.budget(replica.ifindex(), Budget { tokens: 1 << 40, refilled: 0 })?;
        }
        Ok(mirror)
    }

    /// A map by its pin, with values as they are, unsealed.
    pub(crate) fn raw<K: aya::Pod, const N: usize>(&self, name: &str) -> Result<HashMap<MapData, K, [u8; N]>> {
        Ok(HashMap::try_from(Map::HashMap(MapData::from_pin(self.pins.map(name))?))?)
    }

    /// Sets a budget on both sides.
    pub(crate) fn budget(&mut self, ifindex: u32, budget: Budget) -> Result<()> {
        self.pure.budgets.borrow_mut().insert(ifindex, budget);
        let mut value = [0; 16];
        value[..8].copy_from_slice(&budget.tokens.to_ne_bytes());
        value[8..].copy_from_slice(&budget.refilled.to_ne_bytes());
        Ok(self.raw::<u32, 16>(map::BUDGETS)?.insert(ifindex, value, 0)?)
    }

    /// Adds a grant on both sides.
    pub(crate) fn grant(&mut self, source: Identity, destination: Identity, action: u32, rule: u32) -> Result<()> {
        let key = GrantKey { source, destination, ..GrantKey::default() };
        let grant = Grant { action, rule, seal: 0 };
        self.pure.grants.insert(key, grant);
        Ok(self.world.maps.grants.put(&key, grant)?)
    }

    /// Forgets all flows, on both sides, after a look at whether they are the same.
    pub(crate) fn compare_and_forget_flows(&mut self) -> Result<()> {
        let mut pure = std::mem::take(&mut *self.pure.flows.borrow_mut());
        for (key, flow) in self.world.maps.flows.entries()? {
            let twin = pure.remove(&key).with_context(|| format!("the program alone remembers {key:?}"))?;
            let same = Flow { last_seen: flow.last_seen, ..twin } == flow;
            ensure!(same, "{key:?}: the program remembers {flow:?}, the pure function {twin:?}");
            self.world.maps.flows.delete(&key)?;
        }
        ensure!(pure.is_empty(), "the pure function alone remembers {:?}", pure.first_key_value());
        Ok(())
    }

    /// What the pure function does with a packet.
    fn decide(&self, way: Way, about: &Frame, packet: &[u8]) -> Result<Decision> {
        self.pure.now.set(dataplane::clock::monotonic());
        let (host, mut work) = (Routed(&self.pure), Workspace::default());
        Ok(match way {
            Way::From => decide::from_container(&self.pure, &host, about, &packet, &mut work),
            Way::To => decide::to_container(&self.pure, &host, about, &packet, &mut work),
            Way::Through => decide::from_wireguard(&self.pure, &host, about, &packet, &mut work),
        })
    }

    /// Runs a program over a packet.
    pub(crate) fn run(&self, way: Way, about: &Frame, packet: &[u8]) -> Result<TestRun> {
        let (program, packet) = match way {
            Way::From => ("from_container", packet),
            Way::To => ("to_container", packet),
            Way::Through => ("from_wireguard", &packet[ETHERNET..]),
        };
        // The program looks the device up in its own network namespace.
        let program = self.world.programs.fd(program)?;
        bpf::test_run(program, packet, &context(about), 1).with_context(|| format!("test run of {packet:02x?}"))
    }

    /// Has both sides decide about a packet, to be called in the host's network namespace. An error says where they differ.
    pub(crate) fn agree(&mut self, way: Way, about: &Frame, packet: &[u8]) -> Result<Fate> {
        let Decision { who, verdict } = self.decide(way, about, packet)?;
        let run = self.run(way, about, packet)?;
        let fate = self.compare(way, packet, (who, verdict), &run).with_context(|| {
            format!("{way:?} {about:?}: the pure function says {verdict:?}, the program {run:02x?} of {packet:02x?}")
        })?;
        Ok(fate)
    }

    fn compare(&mut self, way: Way, packet: &[u8], (who, verdict): (Identity, Verdict), run: &TestRun) -> Result<Fate> {
        match verdict {
            Verdict::Drop(reason) => self.dropped(who, reason, run),
            Verdict::Deliver { ifindex } if way == Way::Through => {
                let receiver = REPLICAS.iter().find(|replica| replica.ifindex() == ifindex).context("nobody")?;
                let expected = [&receiver.mac(), &receiver.host_mac(), &packet[ETHERNET - 2..]].concat();
                ensure!(run.verdict == REDIRECT && run.packet == expected);
                Ok(Fate::Deliver(ifindex))
            }
            Verdict::Deliver { ifindex } => {
                ensure!(run.verdict == REDIRECT && run.packet == packet);
                Ok(Fate::Deliver(ifindex))
            }
            Verdict::Tunnel { .. } => {
                ensure!(run.verdict == REDIRECT && run.packet == packet);
                Ok(Fate::Tunnel)
            }
            Verdict::TooBig(_) => {
                self.counted(who, Reason::TooBig)?;
                ensure!(run.verdict == REDIRECT);
                crate::too_big::check_too_big(packet, &run.packet, TUNNEL_MTU).map(|()| Fate::TooBig)
            }
            Verdict::Stack => passed(packet, run, node().pass_mark).map(|()| Fate::Stack),
            Verdict::Pass => {
                ensure!(run.verdict == OK && run.packet == packet);
                Ok(Fate::Pass)
            }
            Verdict::Echo(_) => {
                ensure!(run.verdict == REDIRECT && run.packet.len() == packet.len());
                crate::reader::check_echo(packet, &run.packet).map(|()| Fate::Echo)
            }
            Verdict::Dns(question) => {
                let (at, len) = (question.at, question.len);
                match dns::answer(&self.pure, &question.asker, &packet, at, len, &mut self.scratch) {
                    Outcome::Answer(len) => {
                        let message = &self.scratch.message[..len as usize];
                        ensure!(run.verdict == REDIRECT);
                        ensure!(run.packet[at as usize..] == *message, "another answer: {message:02x?}");
                        crate::reader::check_answer(packet, &run.packet).map(|()| Fate::Answer(len))
                    }
                    Outcome::Forward => passed(packet, run, node().pass_mark).map(|()| Fate::Stack),
                    Outcome::Drop(reason) => self.dropped(who, reason, run),
                }
            }
        }
    }

    fn dropped(&mut self, identity: Identity, reason: Reason, run: &TestRun) -> Result<Fate> {
        ensure!(run.verdict == SHOT, "not dropped for {reason}");
        self.counted(identity, reason).map(|()| Fate::Drop(reason))
    }

    /// Expects one more drop to be counted.
    fn counted(&mut self, identity: Identity, reason: Reason) -> Result<()> {
        let key = DropKey { identity, reason: reason as u32 };
        let expected = self.dropped.entry(key).or_default();
        *expected += 1;
        let counted: u64 = self.world.maps.drops.get(&key)?.iter().map(|record| record.packets).sum();
        if counted != *expected {
            bail!("{reason} is counted {counted} times instead of {expected}: {:?}", bpf::drops(&self.world.maps)?);
        }
        Ok(())
    }
}

fn passed(packet: &[u8], run: &TestRun, mark: u32) -> Result<()> {
    ensure!(run.verdict == OK && run.packet == packet);
    let found = u32::from_ne_bytes(run.context[8..12].try_into()?);
    ensure!(found & node().mark_mask == mark, "marked {found:#x}");
    Ok(())
}

/// The part of `struct __sk_buff` that may be given.
fn context(about: &Frame) -> [u8; 192] {
    let mut context = [0; 192];
    for (at, value) in [(8, about.mark), (36, about.ingress_ifindex), (40, about.ifindex), (176, about.gso.into())] {
        context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

//! Root in a container, with the wire in its hands: whatever it writes, nothing of it arrives, and each frame is counted
//! for its reason. The oracle is a packet socket in the victim's namespace, which sees every frame before any protocol.

mod foreign;
mod tricks;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dataplane::netlink::CONTAINER_IFNAME;
use dataplane_ebpf::abi::Reason;
use tests::netns::Namespace;
use tests::probe::{Outcome, Protocol, probe};
use tests::raw::Wire;

use crate::bed::{Bed, Replica, ip};
use crate::model;

const PATIENCE: Duration = Duration::from_secs(5);

/// What must become of a frame.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It is the control: the very same without the trick.
    Arrives,
    /// It is counted for this reason and gone.
    Dropped(Reason),
}

/// A frame that somebody sends.
struct Trick {
    what: String,
    frame: Vec<u8>,
    fate: Fate,
}

impl Trick {
    fn dropped(what: impl Into<String>, frame: Vec<u8>, reason: Reason) -> Self {
        Self { what: what.into(), frame, fate: Fate::Dropped(reason) }
    }

    fn arrives(what: impl Into<String>, frame: Vec<u8>) -> Self {
        Self { what: what.into(), frame, fate: Fate::Arrives }
    }
}

fn wire(replica: &Replica) -> anyhow::Result<Wire> {
    replica.namespace.enter(|| Wire::open(CONTAINER_IFNAME).context("a packet socket"))
}

/// The victim with an ally: another replica that may talk to it, and whose frame ends each trial.
struct Stage<'a> {
    bed: &'a Bed,
    victim: &'a Replica,
    victim_wire: Wire,
    ally: &'a Replica,
    ally_wire: Wire,
    trials: u16,
}

impl<'a> Stage<'a> {
    fn new(bed: &'a Bed, ally: &'a Replica, victim: &'a Replica) -> anyhow::Result<Self> {
        Ok(Self { bed, victim, victim_wire: wire(victim)?, ally, ally_wire: wire(ally)?, trials: 0 })
    }

    /// `sender` sends the trick, then the ally a frame that does arrive: what has not arrived by then never will, since
    /// both go through the same queue of the same core.
    fn trial(&mut self, sender: &Replica, sender_wire: &Wire, trick: &Trick) -> anyhow::Result<()> {
        self.trials += 1;
        let last = tricks::datagram(self.ally, self.victim, self.trials);
        self.victim_wire.drain()?;
        let before = match trick.fate {
            Fate::Dropped(reason) => self.bed.dropped(sender, reason)?,
            Fate::Arrives => 0,
        };
        sender_wire.send(&trick.frame).context("sending")?;
        self.ally_wire.send(&last)?;
        // The MACs change on the way, the packet does not.
        let arrivals = self.victim_wire.arrivals(PATIENCE, |frame| frame[14..] == last[14..])?;
        let others = &arrivals[..arrivals.len() - 1];
        match trick.fate {
            Fate::Arrives => ensure!(others.len() == 1 && others[0][14..] == trick.frame[14..], "it did not arrive"),
            Fate::Dropped(reason) => {
                ensure!(others.is_empty(), "it arrived: {:02x?}", others[0]);
                let counted = self.await_drop(sender, reason, before)?;
                ensure!(counted, "it was not counted as {reason}; counted so far: {}", self.bed.drops_line());
            }
        }
        Ok(())
    }

    /// A counter has no event to wait for; it is there within the softirq that drops.
    fn await_drop(&self, sender: &Replica, reason: Reason, before: u64) -> anyhow::Result<bool> {
        let end = Instant::now() + Duration::from_millis(200);
        while self.bed.dropped(sender, reason)? == before {
            if Instant::now() > end {
                return Ok(false);
            }
            std::thread::yield_now();
        }
        Ok(true)
    }

    /// All trials of one sender; prints a line for each and reports every failure.
    fn trials(&mut self, title: &str, sender: &Replica, tricks: &[Trick]) -> anyhow::Result<()> {
        println!("\n{title}");
        let sender_wire = wire(sender)?;
        let mut wrong = Vec::new();
        for trick in tricks {
            let fate = match trick.fate {
                Fate::Arrives => "arrives".to_owned(),
                Fate::Dropped(reason) => reason.to_string(),
            };
            println!("  {:60} {fate}", trick.what);
            if let Err(error) = self.trial(sender, &sender_wire, trick) {
                wrong.push(format!("{} (expected: {fate}): {error:#}", trick.what));
            }
        }
        ensure!(wrong.is_empty(), "{title}: {} of {} are wrong:\n{}", wrong.len(), tricks.len(), wrong.join("\n"));
        Ok(())
    }
}

/// The attacker may talk to the victim: each frame is stopped for its own trick and nothing else, the control beside
/// it shows that.
#[test]
fn a_forged_or_odd_frame_never_arrives() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let (attacker, victim) = (bed.named("shop/production/web")?, bed.named("shop/production/api")?);
    let other = bed.named("shop/staging/web")?;
    let mut stage = Stage::new(&bed, attacker, victim)?;
    let scene = tricks::Scene { attacker, victim, other };
    stage.trials("Ethernet", attacker, &scene.ethernet())?;
    stage.trials("forged senders", attacker, &scene.senders())?;
    stage.trials("IPv4", attacker, &scene.ipv4())?;
    stage.trials("IPv6", attacker, &scene.ipv6())
}

/// The attacker may not talk to the victim: no shape of a packet gets it through.
#[test]
fn no_shape_of_packet_crosses_between_environments() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let (ally, victim) = (bed.named("shop/production/web")?, bed.named("shop/production/api")?);
    let mut stage = Stage::new(&bed, ally, victim)?;
    for (name, reason) in
        [("shop/staging/web", Reason::OtherEnvironment), ("blog/production/api", Reason::OtherEnvironment)]
    {
        stage.trials(name, bed.named(name)?, &foreign::shapes(bed.named(name)?, victim, reason))?;
    }
    // In the same environment, but with no network in common.
    let (ally, victim) = (bed.named("shop/production/api")?, bed.named("shop/production/db")?);
    let mut stage = Stage::new(&bed, ally, victim)?;
    let attacker = bed.named("shop/production/web")?;
    stage.trials("shop/production/web", attacker, &foreign::shapes(attacker, victim, Reason::NoSharedNetwork))
}

/// What the socket programs would have translated or refused must not pass when somebody goes around them.
#[test]
fn a_raw_packet_to_a_virtual_address_goes_nowhere() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let (attacker, victim) = (bed.named("shop/production/web")?, bed.named("shop/production/api")?);
    let mut stage = Stage::new(&bed, attacker, victim)?;
    stage.trials("virtual addresses", attacker, &foreign::virtual_addresses(&bed, attacker, victim)?)
}

/// Root moves `eth0` into a namespace of its own making, which no socket program knows.
#[test]
fn a_namespace_inside_a_container_gains_nothing() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let _responders = bed.respond()?;
    let attacker = bed.named("shop/production/web")?;
    let nested = Namespace::new()?;
    attacker.namespace.enter(|| ip(&format!("link set {CONTAINER_IFNAME} netns {}", nested.path().display())))?;
    bed.plumb(&nested, &attacker.veth)?;

    let reachable = bed.named("shop/production/api")?;
    let blocked = [bed.named("shop/production/db")?, bed.named("shop/staging/web")?, bed.named("blog/production/api")?];
    for ipv6 in [false, true] {
        let mut targets = vec![(reachable.address(ipv6), true), (bed.vip(reachable.service, ipv6), false)];
        targets.extend(blocked.map(|replica| (replica.address(ipv6), false)));
        targets.extend(blocked.map(|replica| (bed.vip(replica.service, ipv6), false)));
        for (to, answers) in targets {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::ConnectedUdp] {
                let before = bed.blocked(attacker)?;
                let enough = |probes| bed.blocked(attacker).is_ok_and(|now| now >= before + probes as u64);
                let outcome = nested.enter(|| Ok(probe(&[(protocol, to)], enough)?.remove(0)))?;
                let as_wanted = match outcome {
                    Outcome::Answered(_) => answers,
                    Outcome::Silent => !answers && bed.blocked(attacker)? > before,
                    _ => false,
                };
                ensure!(as_wanted, "{protocol:?} to {to}: {outcome}; counted: {}", bed.drops_line());
            }
        }
    }
    Ok(())
}

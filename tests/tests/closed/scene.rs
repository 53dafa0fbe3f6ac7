//! Who may not talk to whom, and who hears it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::load::Place;
use tests::netns::Namespace;
use tests::probe::{Outcome, PORT, Protocol, Responder, probe};
use tests::raw::{IPV4, IPV6, Wire, protocol};
use tests::{Lan, Machine, Node};

/// Two networks, one of them without a way out; nothing in it listens by itself.
const COMPOSE: &str = "
services:
  web: {image: 'busybox:latest', command: [sleep, inf], networks: [front]}
  api: {image: 'busybox:latest', command: [sleep, inf], networks: [front]}
  db: {image: 'busybox:latest', command: [sleep, inf], networks: [back]}
networks:
  front:
  back: {internal: true}
";
/// A question that has not arrived by then is heard as a late one. All of it happens in one kernel, mostly before the
/// sender's call returns.
const SETTLED: Duration = Duration::from_millis(300);

/// Somebody who asks, and whom nobody may hear.
struct Asker {
    name: &'static str,
    netns: Namespace,
    forbidden: Vec<IpAddr>,
}

impl Asker {
    fn asks(&self, patience: Duration) -> Result<Vec<(IpAddr, Protocol, Outcome)>> {
        let pairs = self.forbidden.iter().flat_map(|to| Protocol::ALL.map(|protocol| (protocol, *to)));
        let probes: Vec<_> = pairs.collect();
        let begun = Instant::now();
        let outcomes = self.netns.enter(|| Ok(probe(&probes, |_| begun.elapsed() >= patience)?))?;
        Ok(probes.into_iter().zip(outcomes).map(|((protocol, to), outcome)| (to, protocol, outcome)).collect())
    }
}

/// The node with everything around it.
pub(crate) struct Scene {
    askers: Vec<Asker>,
    /// Who may ask whom.
    allowed: Asker,
    /// Wires on which no question may come.
    wires: Vec<(&'static str, Wire)>,
    /// Sockets of the host, which do not answer.
    host: (UdpSocket, TcpListener),
    _responders: Vec<Responder>,
    _neighbour: Machine,
}

impl Scene {
    pub(crate) fn new(node: &Node) -> Result<Self> {
        node.load(&[Image::Busybox])?;
        for environment in ["production", "staging"] {
            node.up("shop", environment, COMPOSE)?;
        }
        let replica = |environment, service| node.replica("shop", environment, service, 1);
        let (web, api, db) =
            (replica("production", "web")?, replica("production", "api")?, replica("production", "db")?);
        let staging = replica("staging", "api")?;
        let addresses = |texts: &[&str]| -> Result<Vec<IpAddr>> {
            texts.iter().map(|text| text.parse().with_context(|| format!("the address {text}"))).collect()
        };
        let of_api = addresses(&[api.address()?, api.address6()?, api.vip()?, api.vip6()?])?;
        let of_db = addresses(&[db.address()?, db.address6()?])?;
        let of_staging = addresses(&[staging.address()?, staging.address6()?])?;
        let of_host = addresses(&[node.address4(), node.address6()])?;
        let outside = addresses(&[Lan::OUTSIDE4, Lan::OUTSIDE6])?;
        let denied = addresses(&Lan::DENIED)?;

        let neighbour = node.neighbour()?;
        let all = |lists: &[&[IpAddr]]| lists.concat();
        let asker = |name, netns, forbidden| Asker { name, netns, forbidden };
        let host = node.machine().netns()?;
        let askers = vec![
            asker("staging's api", staging.netns()?, all(&[&of_api, &of_db, &of_host])),
            asker("api", api.netns()?, all(&[&of_staging, &of_db, &of_host, &denied])),
            asker("db", db.netns()?, all(&[&of_api, &of_host, &outside])),
            asker("a process of the host", node.machine().netns()?, all(&[&of_api, &of_db, &of_staging])),
            asker("a neighbour on the LAN", neighbour.netns()?, all(&[&of_api, &of_db, &of_staging])),
        ];
        let containers = [("api", api.netns()?), ("db", db.netns()?), ("staging's api", staging.netns()?)];
        let mut wires = Vec::new();
        let mut responders = Vec::new();
        for (name, netns) in containers {
            wires.push((name, netns.enter(|| Ok(Wire::open("eth0")?))?));
            responders.push(Responder::start(Place::inside(netns), name.to_owned())?);
        }
        wires.push(("the LAN", node.lan().machine().netns()?.enter(|| Ok(Wire::open("lan0")?))?));
        let ears = host.enter(|| {
            let (udp, tcp) =
                (UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?, TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?);
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok((udp, tcp))
        })?;
        let allowed = asker("web", web.netns()?, of_api);
        Ok(Self { askers, allowed, wires, host: ears, _responders: responders, _neighbour: neighbour })
    }

    /// What the oracle hears when there is something to hear.
    pub(crate) fn what_may_pass_passes(&self) -> Result<()> {
        for (to, protocol, outcome) in self.allowed.asks(Duration::from_secs(5))? {
            let right = matches!(outcome, Outcome::Answered(_));
            ensure!(right, "control: {} → {to}, {protocol:?}: {outcome}", self.allowed.name);
        }
        let heard = self.heard()?;
        ensure!(heard.iter().any(|line| line.starts_with("api ")), "control: api's wire heard nothing: {heard:?}");
        Ok(())
    }

    /// Everybody asks whom they may not; who is answered, and who hears it.
    pub(crate) fn leaks(&self) -> Result<Vec<String>> {
        let mut leaks = self.late()?;
        std::thread::scope(|scope| {
            let asking = self.askers.iter().map(|asker| (asker.name, scope.spawn(|| asker.asks(SETTLED))));
            for (name, asking) in asking.collect::<Vec<_>>() {
                for (to, protocol, outcome) in asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))? {
                    if matches!(outcome, Outcome::Answered(_)) {
                        leaks.push(format!("{name} → {to}, {protocol:?}: {outcome}"));
                    }
                }
            }
            anyhow::Ok(())
        })?;
        leaks.extend(self.heard()?);
        Ok(leaks)
    }

    /// What was heard since the last time although nobody asks any more.
    pub(crate) fn late(&self) -> Result<Vec<String>> {
        Ok(self.heard()?.into_iter().map(|line| format!("late: {line}")).collect())
    }

    fn heard(&self) -> Result<Vec<String>> {
        let mut heard = Vec::new();
        for (name, wire) in &self.wires {
            let questions = wire.drain()?.into_iter().filter_map(|frame| question(&frame));
            heard.extend(questions.map(|question| format!("{name} heard {question}")));
        }
        let (udp, tcp) = &self.host;
        let mut buffer = [0; 64];
        loop {
            match udp.recv_from(&mut buffer) {
                Ok((_, from)) => heard.push(format!("the host heard a datagram of {from}")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What was queued about a packet sent is no packet heard.
                Err(_) => {}
            }
        }
        while let Ok((_, from)) = tcp.accept() {
            heard.push(format!("the host heard a connection of {from}"));
        }
        heard.dedup();
        Ok(heard)
    }
}

/// Who asks whom, if the frame is a question: to the responders' port, or for an echo.
fn question(frame: &[u8]) -> Option<String> {
    let ether_type = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let packet = frame.get(14..)?;
    let (kind, transport, from, to): (u8, &[u8], IpAddr, IpAddr) = match ether_type {
        IPV4 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            let header = usize::from(packet.first()? & 0xf) * 4;
            (*packet.get(9)?, packet.get(header..)?, address(12)?, address(16)?)
        }
        IPV6 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (*packet.get(6)?, packet.get(40..)?, address(8)?, address(24)?)
        }
        _ => return None,
    };
    let to_port = |port: &[u8]| port == PORT.to_be_bytes();
    let what = match kind {
        protocol::TCP if to_port(transport.get(2..4)?) => "TCP",
        protocol::UDP if to_port(transport.get(2..4)?) => "UDP",
        protocol::ICMP if *transport.first()? == 8 => "an echo request",
        protocol::ICMPV6 if *transport.first()? == 128 => "an echo request",
        _ => return None,
    };
    Some(format!("{what} from {from} to {to}"))
}

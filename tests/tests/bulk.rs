//! Large transfers: within the node, TCP over IPv4 hands over packets far longer than an IP header can say ("BIG TCP");
//! where they leave it, the stack cuts them up. Every octet arrives, and none waits for a retransmission.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{Maps, Pins, counters};
use dataplane_ebpf::abi::Counter;
use tests::images::Image;
use tests::netns::Namespace;
use tests::{Container, Lan, Node};

const COMPOSE: &str = "
services:
  web: {image: 'busybox:latest', command: [sleep, inf]}
  api: {image: 'busybox:latest', command: [sleep, inf]}
";
/// How often the pattern is sent.
const TIMES: usize = 100;

/// Octets of the longest frame whose IP header says how long it is.
const LEGACY: u64 = 14 + 65_535;

/// What is sent over and over. Its length divides no power of two, so that a page that is lost, doubled or moved shows.
fn pattern() -> Vec<u8> {
    (0..130_003_u64).flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect()
}

/// Sends from one namespace to an address that ends in another; an error says where it came out wrong.
fn transfer(from: &Namespace, to: &Namespace, address: IpAddr, pattern: &[u8]) -> Result<()> {
    let listener = to.enter(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?))?;
    let target = SocketAddr::new(address, listener.local_addr()?.port());
    let mut sender = from.enter(|| TcpStream::connect(target).with_context(|| format!("connecting to {target}")))?;
    let (mut receiver, _) = listener.accept()?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || (0..TIMES).try_for_each(|_| sender.write_all(pattern)));
        let mut got = vec![0; pattern.len()];
        for time in 0..TIMES {
            receiver.read_exact(&mut got).with_context(|| format!("time {time} from {target}"))?;
            let wrong = got.iter().zip(pattern).position(|(got, sent)| got != sent);
            ensure!(wrong.is_none(), "octet {wrong:?} of time {time} from {target} is wrong");
        }
        ensure!(receiver.read(&mut got)? == 0, "more came from {target} than was sent");
        sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    })
}

/// What `web` has sent so far.
fn sent(bpffs: &Path, env: u32, service: u32) -> Result<Counter> {
    let all = counters(&Maps::open(&Pins::new(bpffs))?)?;
    let own = all.iter().find(|(identity, _)| (identity.env, identity.service) == (env, service));
    Ok(own.map_or_else(Counter::default, |(_, counter)| *counter))
}

/// How often a retransmission timer of the container's ran out.
fn timeouts(container: &Container<'_>) -> Result<u64> {
    let lines = container.net(&["nstat", "-asz", "TcpExtTCPTimeouts"])?;
    let figure = lines.lines().find_map(|line| line.strip_prefix("TcpExtTCPTimeouts")?.split_whitespace().next());
    Ok(figure.with_context(|| format!("no figure in {lines}"))?.parse()?)
}

#[test]
fn every_octet_of_a_large_transfer_arrives_inside_and_outside() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", COMPOSE)?;
    let web = node.replica("shop", "production", "web", 1)?;
    let api = node.replica("shop", "production", "api", 1)?;
    let (web_netns, api_netns) = (web.netns()?, api.netns()?);
    let maps = Maps::open(&Pins::new(&node.bpffs()))?;
    let address: IpAddr = web.address()?.parse()?;
    let devices = maps.devices.entries()?;
    let (_, device) = devices.iter().find(|(_, d)| IpAddr::from(d.address4.to_ne_bytes()) == address).context("web")?;
    let (env, service) = (device.identity.env, device.identity.service);

    let pattern = pattern();
    for target in [api.address()?, api.vip()?, api.address6()?, api.vip6()?] {
        let target: IpAddr = target.parse()?;
        let before = sent(&node.bpffs(), env, service)?;
        transfer(&web_netns, &api_netns, target, &pattern)?;
        let after = sent(&node.bpffs(), env, service)?;
        let packets = after.sent_packets - before.sent_packets;
        let mean = (after.sent_bytes - before.sent_bytes) / packets;
        ensure!(target.is_ipv6() || mean > LEGACY, "{packets} packets of {mean} octets to {target}: none was longer");
    }

    let outside = node.lan().machine().netns()?;
    for target in [Lan::OUTSIDE4, Lan::OUTSIDE6] {
        let before = timeouts(&web)?;
        transfer(&web_netns, &outside, target.parse()?, &pattern)?;
        // A packet that the host cannot forward as it is comes again, in smaller ones, when a timer runs out.
        let more = timeouts(&web)? - before;
        ensure!(more < 10, "{more} retransmission timeouts to {target}");
    }
    Ok(())
}

//! A node that does not know what has changed.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{self, Maps, Pins};
use dataplane_ebpf::abi::{Addr, Reason};
use tests::images::Image;
use tests::netns::Namespace;
use tests::wait_for;

use super::scene;

const BLOG: &str = "
services:
  owner: {image: 'busybox:latest', command: [sleep, inf]}
  neighbour: {image: 'busybox:latest', command: [sleep, inf]}
";
const PORT: u16 = 7004;
const SENT: u64 = 5;

/// An address that was `server`'s, as far as the first node knows, is another project's by now. In earnest it would have
/// rested for ten minutes, and the first node been away all the time.
#[test]
fn the_new_owner_of_an_address_gets_nothing_from_a_node_that_takes_it_for_the_old_one() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    first.up("blog", "production", BLOG)?;
    let [owner, neighbour] = ["owner", "neighbour"].map(|name| second.replica("blog", "production", name, 1));
    let (owner, neighbour) = (owner?, neighbour?);
    let [maps, others] = [first, second].map(|node| Maps::open(&Pins::new(&node.bpffs())));
    let (maps, others) = (maps?, others?);
    let old: Addr = server.address()?.parse::<IpAddr>()?.into();
    let wait = |what: &str, address: Addr| {
        wait_for(what, Duration::from_secs(20), || maps.endpoints.get(&address).map_err(Into::into))
    };
    let stale = wait("the server in the first node's map", old)?;
    let addresses = [owner.address()?, owner.address6()?].map(|address| address.parse::<IpAddr>());
    let socket = owner.netns()?.enter(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let dropped = || {
        let lines = bpf::drops(&others)?;
        let line = lines
            .iter()
            .find(|line| line.identity.env == stale.identity.env && line.reason() == Some(Reason::OtherEnvironment));
        Ok::<_, anyhow::Error>(line.map_or(0, |line| line.packets))
    };

    first.kill_skepd()?;
    for address in addresses {
        let address = address?;
        wait("the new owner in the first node's map", address.into())?;
        maps.endpoints.put(&address.into(), stale)?;
        let before = dropped()?;
        send(&client.netns()?, address)?;
        wait_for("the second node to drop what comes", Duration::from_secs(10), || {
            Ok((dropped()? == before + SENT).then_some(()))
        })?;
        // What of the client's had come would be first.
        send(&neighbour.netns()?, address)?;
        let (_, from) = socket.recv_from(&mut [0; 16]).context("the neighbour's datagram")?;
        let from = from.ip().to_canonical();
        ensure!([neighbour.address()?, neighbour.address6()?].contains(&from.to_string().as_str()), "{from} got there");
        drain(&socket)?;
    }
    // The control: where the first node is right, it gets through; and it is put right as soon as somebody can.
    client.net(&["ping", "-c1", "-W2", server.address()?])?;
    first.start_skepd()?;
    let address = owner.address()?.parse::<IpAddr>()?.into();
    wait_for("the next daemon to put the map right", Duration::from_secs(20), || {
        Ok(maps.endpoints.get(&address)?.filter(|endpoint| endpoint.identity != stale.identity).map(drop))
    })
}

fn send(from: &Namespace, to: IpAddr) -> Result<()> {
    from.enter(|| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        (0..SENT).try_for_each(|_| socket.send_to(b"for the old one", (to, PORT)).map(drop))?;
        Ok(())
    })
}

fn drain(socket: &UdpSocket) -> Result<()> {
    socket.set_nonblocking(true)?;
    let end = loop {
        match socket.recv(&mut [0; 16]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    ensure!(end.kind() == ErrorKind::WouldBlock, "{end}");
    Ok(socket.set_nonblocking(false)?)
}

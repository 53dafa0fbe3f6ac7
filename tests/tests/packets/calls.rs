//! Calls between two network namespaces; each says whether it came through.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tests::netns::Namespace;

pub(crate) const PORT: u16 = 7000;
/// Long enough for a packet on this machine, short enough to wait for one that never comes.
pub(crate) const PATIENCE: Duration = Duration::from_millis(400);
/// More than fits in a packet, so that segmentation offload has something to do.
const BULK: usize = 256 * 1024;

/// The unspecified address of the same family.
pub(crate) fn any(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Connects, sends a good deal, and gets it back.
pub(crate) fn tcp(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<bool> {
    let listener = to.enter(|| Ok(TcpListener::bind((any(address), PORT))?))?;
    let connected = from.enter(|| Ok(TcpStream::connect_timeout(&SocketAddr::from((address, PORT)), PATIENCE)))?;
    let Ok(mut client) = connected else { return Ok(false) };
    let (mut server, peer) = listener.accept()?;
    ensure!(peer.ip() == client.local_addr()?.ip(), "the server sees another client: {peer}");
    let sent: Vec<u8> = (0..BULK).map(|i| (i * 31) as u8).collect();
    let mut received = vec![0; BULK];
    std::thread::scope(|scope| -> Result<()> {
        let echo = scope.spawn(move || -> std::io::Result<()> {
            let mut buffer = vec![0; BULK];
            server.read_exact(&mut buffer)?;
            server.write_all(&buffer)
        });
        client.write_all(&sent)?;
        client.read_exact(&mut received)?;
        echo.join().map_err(|_| anyhow!("the echo server panicked"))??;
        Ok(())
    })?;
    ensure!(sent == received, "TCP to {address} changes what it carries");
    Ok(true)
}

/// Sends a datagram and gets it back.
pub(crate) fn udp(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<bool> {
    let server = to.enter(|| Ok(UdpSocket::bind((any(address), PORT))?))?;
    let client = from.enter(|| Ok(UdpSocket::bind((any(address), 0))?))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut buffer = [0; 64];
    client.send_to(b"there", (address, PORT))?;
    let Some((length, peer)) = receive(&server, &mut buffer)? else { return Ok(false) };
    ensure!(&buffer[..length] == b"there", "UDP to {address} changes what it carries");
    server.send_to(b"back", peer)?;
    let (length, peer) = receive(&client, &mut buffer)?.context("no answer came back")?;
    ensure!(&buffer[..length] == b"back" && peer == SocketAddr::from((address, PORT)), "an odd answer of {peer}");
    Ok(true)
}

/// Sends an echo request.
pub(crate) fn pings(from: &Namespace, address: IpAddr) -> Result<bool> {
    Ok(from.command("busybox").args(["ping", "-c1", "-W1", &address.to_string()]).output()?.status.success())
}

/// The next datagram, unless none comes.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddr)>> {
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Ok(Some(received)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            // A debugger, or the kernel's freezer.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

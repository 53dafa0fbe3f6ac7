use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::PORT;
use crate::load::Place;

/// A client that connects and asks nothing is let go after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server that says who it is, over TCP and UDP, on every address of its namespace, until it is dropped.
pub struct Responder {
    /// Closing it ends the thread.
    life_line: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Listens at `place`; ready when this returns.
    ///
    /// # Errors
    /// What binding said.
    pub fn start(place: Place, name: String) -> io::Result<Self> {
        let (life_line, end) = UnixStream::pair()?;
        let (ready, bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let sockets = place.enter().and_then(|()| {
                let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                Ok((listener, socket))
            });
            let (report, sockets) = match sockets {
                Ok(sockets) => (Ok(()), Some(sockets)),
                Err(error) => (Err(error), None),
            };
            if let (Ok(()), Some((listener, socket))) = (ready.send(report), sockets) {
                answer(&listener, &socket, &end.into(), name.as_bytes());
            }
        });
        bound.recv().map_err(io::Error::other)??;
        Ok(Self { life_line: Some(life_line), thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.life_line.take());
        if let Some(thread) = self.thread.take() {
            // A responder that panicked has nothing left to clean up.
            thread.join().ok();
        }
    }
}

fn answer(listener: &TcpListener, socket: &UdpSocket, end: &OwnedFd, name: &[u8]) {
    loop {
        let mut polled = [listener.as_fd(), socket.as_fd(), end.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        if poll(&mut polled, PollTimeout::NONE).is_err() {
            return;
        }
        let [connection, datagram, ended] = polled.map(|polled| polled.any().unwrap_or(true));
        if ended {
            return;
        }
        // A client that is gone is no reason to stop.
        if connection && let Ok((stream, _)) = listener.accept() {
            converse(stream, name).ok();
        }
        if datagram {
            give_back(socket, name).ok();
        }
    }
}

fn converse(mut stream: TcpStream, name: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    if stream.read(&mut [0; 64])? > 0 {
        stream.write_all(name)?;
    }
    Ok(())
}

/// Answers a datagram from the address that it was sent to: the namespace may have many.
fn give_back(socket: &UdpSocket, name: &[u8]) -> io::Result<()> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut question = [0; 2048];
    let mut parts = [IoSliceMut::new(&mut question)];
    let received = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let mut to = None;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
            to = Some(libc::in6_pktinfo { ipi6_ifindex: 0, ..info });
        }
    }
    let control: Vec<_> = to.iter().map(ControlMessage::Ipv6PacketInfo).collect();
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(name)], &control, MsgFlags::empty(), received.address.as_ref())?;
    Ok(())
}
